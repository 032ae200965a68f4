"""Fits the vertices of a sphere to silhouettes of a mesh.

    python examples/02_fit_silhouettes.py [mesh.obj]

Without a file, the teapot is saved to one and loaded back. The result is evaluated on views that were not used for the
fit.
"""

import argparse
import time
from pathlib import Path

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import jnr


def within_unit_sphere(mesh):
    """Returns the mesh moved and scaled into the unit sphere, which every camera below sees completely."""
    mesh = jnr.normalize(mesh)
    return mesh._replace(vertices=mesh.vertices / jnp.linalg.norm(mesh.vertices, axis=1).max())


def camera(azimuth, elevation, fov=60.0):
    return jnr.Camera(jnr.LookAt(jnr.points_from_angles(2.732, elevation, azimuth)), jnr.Perspective(fov=fov))


def views(count, shift):
    """Returns azimuths and elevations in degrees, spread over the sphere without its poles."""
    # Steps of the golden ratio: no azimuth repeats, whatever the count.
    azimuths = 360 * 0.618034 * (jnp.arange(count) + shift)
    return azimuths, jnp.rad2deg(jnp.arcsin(jnp.linspace(-0.85, 0.85, count)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", nargs="?", type=Path, help="OBJ, PLY, STL, OFF or glTF file (default: the teapot)")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--size", type=int, default=64, help="height and width of the silhouettes in pixels")
    parser.add_argument("--views", type=int, default=24)
    parser.add_argument("--batch", type=int, default=12, help="views per step")
    parser.add_argument("--frames", type=int, default=36, help="frames of the turntable")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    start = time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.mesh
    if path is None:
        path = options.out / "teapot.obj"
        jnr.save(path, jnr.shapes.teapot())
    target = within_unit_sphere(jnr.load(path, textures=False))

    sphere = jnr.shapes.icosphere(4)
    base = sphere.vertices * 0.7
    edges, pairs = jnr.unique_edges(sphere.faces)

    def silhouette(mesh, azimuth, elevation):
        return jnr.render_silhouette(
            mesh.vertices, mesh.faces, camera=camera(azimuth, elevation), image_size=options.size
        )

    silhouettes = jax.jit(jax.vmap(silhouette, in_axes=(None, 0, 0)))
    azimuths, elevations = views(options.views, 0.0)
    targets = silhouettes(target, azimuths, elevations)

    def loss(offset, azimuth, elevation, target_alpha):
        mesh = sphere._replace(vertices=base + offset)
        alpha = jax.vmap(silhouette, in_axes=(None, 0, 0))(mesh, azimuth, elevation)
        smooth = jnr.losses.laplacian(mesh.vertices, edges)
        flat = jnr.losses.normal_consistency(mesh.vertices, mesh.faces, pairs)
        return jnr.losses.silhouette_iou(alpha, target_alpha) + 300 * smooth + flat

    optimizer = optax.adam(optax.cosine_decay_schedule(0.01, options.steps, alpha=0.1))

    @jax.jit
    def step(offset, state, key):
        chosen = jax.random.choice(key, options.views, (options.batch,), replace=False)
        value, grad = jax.value_and_grad(loss)(offset, azimuths[chosen], elevations[chosen], targets[chosen])
        updates, state = optimizer.update(grad, state)
        return optax.apply_updates(offset, updates), state, value

    offset = jnp.zeros_like(base)
    state = optimizer.init(offset)
    keys = jax.random.split(jax.random.key(0), options.steps)
    progress = tqdm(range(options.steps), desc="fitting", mininterval=0.5)
    for i in progress:
        offset, state, value = step(offset, state, keys[i])
        if i % 20 == 0:
            progress.set_postfix(loss=f"{value:.3f}")
    fitted = sphere._replace(vertices=base + offset)

    azimuths, elevations = views(16, 0.5)
    target_alpha, fitted_alpha = (silhouettes(mesh, azimuths, elevations) for mesh in (target, fitted))
    iou = 1 - jnr.losses.silhouette_iou(fitted_alpha, target_alpha)

    jnr.save(options.out / "fitted.obj", fitted)
    save_images(options.out / "02_fit_silhouettes", options.frames, sphere._replace(vertices=base), target, fitted)
    print(f"mean IoU on 16 held-out views: {iou:.4f}")
    print(f"{time.perf_counter() - start:.0f} s in total; images and fitted.obj in {options.out}/")


def save_images(path, frames, before, target, after):
    """Saves an image of initial mesh, target and result, and a turntable of target and result."""

    @jax.jit
    def shaded(mesh, azimuth):
        lights = (
            jnr.AmbientLight(0.35),
            jnr.DirectionalLight(0.65, 1.0, jnr.points_from_angles(1.0, 40.0, azimuth + 45)),
        )
        rendering = jnr.render(*mesh, camera=camera(azimuth, 25.0, 44.0), lights=lights, antialias=2, background=1.0)
        return jnp.uint8(jnp.clip(rendering.rgb, 0, 1) * 255)

    row = [shaded(mesh, jnp.float32(30)) for mesh in (before, target, after)]
    iio.imwrite(path.with_suffix(".png"), np.concatenate(row, axis=1))
    turn = 30 + 360 * np.arange(frames, dtype=np.float32) / frames
    images = [np.concatenate([shaded(mesh, azimuth) for mesh in (target, after)], axis=1) for azimuth in turn]
    iio.imwrite(path.with_suffix(".gif"), np.stack(images), duration=80, loop=0)


if __name__ == "__main__":
    main()
