"""Optimises a mesh's vertices and colours to amplify a network's features in renderings from all sides.

    python examples/10_deep_dream.py [mesh.obj] [--weights googlenet.npz]

Without a file of weights (see jnr.applications.features.load_googlenet), the network's filters are randomly
initialized. The mesh then shows the patterns to which they respond most, and no objects.
"""

import argparse
import time
from pathlib import Path

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np

import jnr
from jnr.applications import DeepDreamConfig, deep_dream, features


@jax.jit
def render_view(mesh, azimuth):
    camera = jnr.Camera(jnr.LookAt(jnr.points_from_angles(2.15, 20.0, azimuth)))
    return jnr.render(*mesh, camera=camera, image_size=256, antialias=2, background=1.0).rgb


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", nargs="?", type=Path, help="OBJ, PLY, STL, OFF or glTF file (default: a sphere)")
    parser.add_argument(
        "--weights", type=Path, help="GoogLeNet weights as .npz or .safetensors, with torchvision's names"
    )
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--size", type=int, default=96, help="height and width of the network's input in pixels")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    start = time.perf_counter()

    mesh = jnr.shapes.icosphere(4) if options.mesh is None else jnr.normalize(jnr.load(options.mesh, textures=False))
    if options.weights is None:
        print("no --weights given: randomly initialized filters replace the trained network")
        widths = ((16, 16), (24, 24), (32, 32))
        network = features.random_vgg(jax.random.key(3), widths, ["relu3_2"])
    else:
        network = features.load_googlenet(options.weights)
    config = DeepDreamConfig(
        steps=options.steps, image_size=options.size, batch=2, antialias=1, learning_rate=0.02, length_weight=1e-2
    )
    fit = deep_dream(mesh, network, config, key=jax.random.key(1), progress=True)

    before, after = (-float(np.mean(part)) for part in (fit.history["features"][:10], fit.history["features"][-10:]))
    moved = float(jnp.max(jnp.linalg.norm(fit.mesh.vertices - mesh.vertices, axis=-1)))
    print(
        f"mean squared feature {before:.3g} at the start, {after:.3g} at the end ({after / before:.1f} times); ", end=""
    )
    print(f"vertices moved by up to {moved:.3f} (object size 2)")

    options.out.mkdir(parents=True, exist_ok=True)
    grey = mesh._replace(textures=jnp.full((len(mesh.faces), *[config.texture_size] * 3, 3), 0.5))
    path = options.out / "10_deep_dream.png"
    row = [render_view(grey, -35.0), render_view(fit.mesh, -35.0), render_view(fit.mesh, 35.0)]
    iio.imwrite(path, np.uint8(np.clip(np.concatenate(row, axis=1), 0, 1) * 255))
    print(f"{time.perf_counter() - start:.0f} s in total; before and after in {path}")


if __name__ == "__main__":
    main()
