"""Renders a turntable of a mesh: the turn as a GIF and its first frame as a PNG.

python examples/01_turntable.py [mesh.obj]
"""

import argparse
import time
from pathlib import Path

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import jnr


def within_unit_sphere(mesh):
    """Returns the mesh moved and scaled into the unit sphere, which every camera below sees completely."""
    mesh = jnr.normalize(mesh)
    return mesh._replace(vertices=mesh.vertices / jnp.linalg.norm(mesh.vertices, axis=1).max())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", nargs="?", type=Path, help="OBJ, PLY, STL, OFF or glTF file (default: the teapot)")
    parser.add_argument("--steps", type=int, default=90, help="frames per turn")
    parser.add_argument("--size", type=int, default=256, help="image height and width in pixels")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    start = time.perf_counter()
    mesh = within_unit_sphere(jnr.shapes.teapot() if options.mesh is None else jnr.load(options.mesh))

    @jax.jit
    def render_frame(azimuth):
        camera = jnr.Camera(jnr.LookAt(jnr.points_from_angles(2.732, 30.0, azimuth)), jnr.Perspective(fov=44))
        # The light follows the camera and stays to its right, so the mesh appears to turn.
        sun = jnr.DirectionalLight(0.65, direction=jnr.points_from_angles(1.0, 40.0, azimuth + 45))
        rendering = jnr.render(
            *mesh, camera=camera, lights=[jnr.AmbientLight(0.35), sun], normals="smooth", image_size=options.size,
            antialias=2, background=1.0,
        )  # fmt: skip
        return jnp.uint8(jnp.clip(rendering.rgb, 0, 1) * 255)

    azimuths = 30 + 360 * np.arange(options.steps, dtype=np.float32) / options.steps
    render_frame(azimuths[0])  # compiles
    compiled = time.perf_counter()
    frames = [np.asarray(render_frame(azimuth)) for azimuth in tqdm(azimuths, desc="rendering", mininterval=0.5)]
    frame_seconds = (time.perf_counter() - compiled) / options.steps

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "01_turntable"
    iio.imwrite(path.with_suffix(".png"), frames[0])
    iio.imwrite(path.with_suffix(".gif"), np.stack(frames), duration=80, loop=0)
    print(f"{options.steps} frames of {len(mesh.faces)} faces, {1000 * frame_seconds:.1f} ms per frame")
    print(f"{time.perf_counter() - start:.0f} s in total; first frame and turntable in {path}.png and .gif")


if __name__ == "__main__":
    main()
