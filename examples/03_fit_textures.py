"""Recovers the texture of a mesh from renderings of it, either as one image or as one texture cube per face.

    python examples/03_fit_textures.py [mesh.obj] [--image image.png] [--texture cubes]

The renderings show the mesh with an image wrapped around it once. Without an image file, a procedural pattern is used.
The result is evaluated on views that were not used for the fit.
"""

import argparse
import dataclasses
import time
from pathlib import Path

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import jnr


def pattern(size=256):
    """Returns an image of dots, waves and chequers in blue and ochre on white."""
    y, x = np.mgrid[0:size, 0:size] / size
    white, blue, ochre = np.array([[0.95, 0.94, 0.88], [0.10, 0.22, 0.55], [0.85, 0.52, 0.14]])
    dots = np.hypot((12 * x) % 1 - 0.5, (12 * y) % 1 - 0.5) < 0.3
    chequers = (np.floor(20 * x) + np.floor(20 * y)) % 2 == 0
    waves = np.abs(y - 0.5 - 0.06 * np.sin(2 * np.pi * 8 * x)) < 0.03
    middle_band = (y > 0.37) & (y < 0.63)
    lines = (np.abs(y - 0.35) < 0.012) | (np.abs(y - 0.65) < 0.012)
    image = np.where((middle_band & waves)[..., None], ochre, white)
    image = np.where(((y > 0.67) & dots | (y < 0.33) & chequers | lines)[..., None], blue, image)
    return np.float32(image)


def wrapped_around(mesh, image):
    """Returns the image as a texture that is wrapped around the mesh once, from its lowest to its highest point."""
    corners = np.asarray(mesh.vertices)[np.asarray(mesh.faces)]
    x, y, z = np.moveaxis(corners, -1, 0)
    middle = np.arctan2(x.mean(axis=1), z.mean(axis=1))[:, None]
    # Faces across the seam continue beyond the image's edge. Corners on the axis have no azimuth and get the face's.
    turn = (np.arctan2(x, z) - middle + np.pi) % (2 * np.pi) - np.pi
    u = (middle + np.where(np.hypot(x, z) > 1e-6, turn, 0)) / (2 * np.pi) + 0.5
    v = (y - y.min()) / (y.max() - y.min())
    uv = np.stack([u, v], axis=-1).reshape(-1, 2)
    return jnr.UVTexture(jnp.asarray(image), jnp.asarray(uv), jnp.arange(len(uv)).reshape(-1, 3))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", nargs="?", type=Path, help="OBJ, PLY, STL, OFF or glTF file (default: the teapot)")
    parser.add_argument("--image", type=Path, help="image that is wrapped around the mesh")
    parser.add_argument(
        "--texture", choices=("image", "cubes"), default="image", help="kind of texture that is optimised"
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--size", type=int, default=192, help="image height and width in pixels")
    parser.add_argument("--views", type=int, default=48)
    parser.add_argument("--batch", type=int, default=4, help="views per step")
    parser.add_argument("--frames", type=int, default=36, help="frames of the turntable")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    start = time.perf_counter()
    mesh = jnr.normalize(jnr.shapes.teapot() if options.mesh is None else jnr.load(options.mesh, textures=False))
    mesh = mesh._replace(vertices=mesh.vertices / jnp.linalg.norm(mesh.vertices, axis=1).max())
    image = pattern() if options.image is None else np.float32(iio.imread(options.image, mode="RGB")) / 255
    reference = wrapped_around(mesh, image)

    def render(textures, azimuth, elevation, size=options.size, antialias=1):
        camera = jnr.Camera(jnr.LookAt(jnr.points_from_angles(2.732, elevation, azimuth)), jnr.Perspective(fov=44))
        return jnr.render(
            mesh.vertices, mesh.faces, textures, camera=camera, lights=(), image_size=size, background=1.0,
            antialias=antialias,
        )  # fmt: skip

    def textures(values):
        """Maps unbounded parameters to textures with colours between 0 and 1."""
        colors = jax.nn.sigmoid(values)
        return colors if options.texture == "cubes" else dataclasses.replace(reference, images=colors)

    render_all = jax.jit(jax.vmap(render, in_axes=(None, 0, 0)))
    azimuths = 360 * jnp.arange(options.views) / options.views
    elevations = jnp.resize(jnp.array([30.0, -20.0, 60.0]), (options.views,))
    targets = render_all(reference, azimuths, elevations).rgb

    optimizer = jnr.optim.zero_skipping_adam(0.1, b1=0.5)

    def loss(values, chosen):
        images = render_all(textures(values), azimuths[chosen], elevations[chosen]).rgb
        return jnp.mean(jnp.sum((images - targets[chosen]) ** 2, axis=(1, 2, 3)))

    @jax.jit
    def step(values, state, key):
        chosen = jax.random.choice(key, options.views, (options.batch,), replace=False)
        value, grad = jax.value_and_grad(loss)(values, chosen)
        updates, state = optimizer.update(grad, state)
        return optax.apply_updates(values, updates), state, value

    values = jnp.zeros(image.shape if options.texture == "image" else (len(mesh.faces), 4, 4, 4, 3))
    state = optimizer.init(values)
    progress = tqdm(jax.random.split(jax.random.key(0), options.steps), desc="fitting", mininterval=0.5)
    for i, key in enumerate(progress):
        values, state, value = step(values, state, key)
        if i % 20 == 0:
            progress.set_postfix(loss=f"{value:.0f}")

    azimuths, elevations = 360 * (jnp.arange(12) + 0.5) / 12, jnp.resize(jnp.array([15.0, 40.0]), (12,))
    expected, fitted = (render_all(t, azimuths, elevations) for t in (reference, textures(values)))
    error = jnp.sum((expected.rgb - fitted.rgb) ** 2) / (3 * jnp.sum(expected.alpha))
    print(f"PSNR on the mesh in 12 held-out views: {-10 * jnp.log10(error):.1f} dB")

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "03_fit_textures"
    show = jax.jit(lambda t, azimuth: jnp.uint8(255 * render(t, azimuth, 25.0, 256, 2).rgb.clip(0, 1)))
    grey = textures(jnp.zeros_like(values))
    row = [show(t, jnp.float32(30)) for t in (grey, reference, textures(values))]
    iio.imwrite(path.with_suffix(".png"), np.concatenate(row, axis=1))
    turn = 30 + 360 * np.arange(options.frames, dtype=np.float32) / options.frames
    frames = [np.concatenate([show(t, a) for t in (reference, textures(values))], axis=1) for a in turn]
    iio.imwrite(path.with_suffix(".gif"), np.stack(frames), duration=80, loop=0)
    print(
        f"{time.perf_counter() - start:.0f} s in total; before, target and after in {path}.png, turntable in {path}.gif"
    )


if __name__ == "__main__":
    main()
