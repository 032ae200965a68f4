"""Transfers the style of an image to a mesh: optimises its textures, and slightly its vertices, from all sides.

    python examples/09_style_transfer.py [mesh.obj] [--style painting.jpg] [--weights vgg16.npz]

Without a file of weights (see jnr.applications.features.load_vgg), image and renderings are compared by randomly
initialized filters. These represent colours, edges and their arrangement, but no brush strokes or objects. Without an
image, a procedural one is used.
"""

import argparse
import time
from pathlib import Path

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np

import jnr
from jnr.applications import StyleTransferConfig, features, style_transfer


def procedural_style(size=128):
    """Returns an image of swirling bands of colour with dark lines between them."""
    y, x = np.mgrid[0:size, 0:size] / size * 2 - 1
    wave = 6.0 * x + 1.8 * np.sin(3.5 * y + 1.5 * x) + 1.2 * np.cos(6.0 * y - 3.0 * x)
    band = np.mod(wave, 1.0)
    colors = np.array([[0.93, 0.78, 0.28], [0.85, 0.36, 0.18], [0.14, 0.33, 0.60], [0.92, 0.90, 0.82]])
    image = colors[np.floor(wave).astype(int) % len(colors)]
    line = np.clip(np.minimum(band, 1 - band) * 8, 0, 1)[..., None]
    return np.float32(0.08 + (image - 0.08) * line)


@jax.jit
def render_view(mesh, azimuth):
    camera = jnr.Camera(jnr.LookAt(jnr.points_from_angles(2.15, 30.0, azimuth)))
    return jnr.render(*mesh, camera=camera, image_size=256, antialias=2, background=1.0).rgb


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", nargs="?", type=Path, help="OBJ, PLY, STL, OFF or glTF file (default: the teapot)")
    parser.add_argument("--style", type=Path, help="style image")
    parser.add_argument(
        "--weights", type=Path, help="VGG-16 or VGG-19 weights as .npz or .safetensors, with torchvision's names"
    )
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--size", type=int, default=96, help="height and width of the compared renderings in pixels")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    start = time.perf_counter()

    mesh = jnr.shapes.teapot(6) if options.mesh is None else jnr.load(options.mesh, textures=False)
    mesh = jnr.normalize(mesh)
    style = jnp.asarray(procedural_style() if options.style is None else iio.imread(options.style, mode="RGB") / 255)
    if options.weights is None:
        print("no --weights given: randomly initialized filters replace the trained network")
        network = features.random_vgg(jax.random.key(0), ((24, 24), (32, 32), (48, 48)))
    else:
        network = features.load_vgg(options.weights)
    # Features of both networks are of order 1. The original's loss weights assume much larger features.
    config = StyleTransferConfig(
        steps=options.steps,
        image_size=options.size,
        batch=2,
        antialias=1,
        distance=2.0,
        style_weight=100.0,
        content_weight=3000.0,
        variation_weight=0.05,
    )
    fit = style_transfer(mesh, style, network, config, key=jax.random.key(1), progress=True)

    before, after = (float(np.mean(part)) for part in (fit.history["style"][:10], fit.history["style"][-10:]))
    moved = float(jnp.max(jnp.linalg.norm(fit.mesh.vertices - mesh.vertices, axis=-1)))
    print(f"style term {before:.3g} at the start, {after:.3g} at the end ({after / before:.0%}); ", end="")
    print(f"vertices moved by up to {moved:.3f} (object size 2)")

    options.out.mkdir(parents=True, exist_ok=True)
    shown = jax.image.resize(style, (256, 256, 3), "linear")
    grey = mesh._replace(textures=jnp.full((len(mesh.faces), *[config.texture_size] * 3, 3), 0.5))
    row = [shown, render_view(grey, -35.0), render_view(fit.mesh, -35.0), render_view(fit.mesh, 35.0)]
    path = options.out / "09_style_transfer.png"
    iio.imwrite(path, np.uint8(np.clip(np.concatenate(row, axis=1), 0, 1) * 255))
    print(f"{time.perf_counter() - start:.0f} s in total; style, before and after in {path}")


if __name__ == "__main__":
    main()
