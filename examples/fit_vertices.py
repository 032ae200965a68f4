"""Moves the vertices of a sphere until its silhouettes are those of a mesh file.

    python examples/fit_vertices.py [mesh.obj]

Without a file, the teapot is written to one and loaded back. Views that the optimiser never saw judge the result.
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


def camera(azimuth, elevation, distance=2.732):
    """Looks at the origin; angles in radians, azimuth 0 on the +z axis."""
    level = distance * jnp.cos(elevation)
    return jnr.Camera(
        jnr.LookAt(jnp.stack([level * jnp.sin(azimuth), distance * jnp.sin(elevation), level * jnp.cos(azimuth)]))
    )


def views(count, shift):
    """Azimuths and elevations spread over the sphere, the poles left out."""
    turn = jnp.arange(count) + shift
    return 2 * jnp.pi * turn * 0.618034, jnp.arcsin(jnp.linspace(-0.85, 0.85, count))


def unit_size(mesh):
    """The mesh moved and scaled into the cube from -0.9 to 0.9."""
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    return mesh._replace(vertices=(mesh.vertices - (low + high) / 2) * 1.8 / jnp.max(high - low))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", nargs="?", type=Path, help="OBJ, PLY, STL, OFF or glTF file (default: the teapot)")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--size", type=int, default=96, help="pixels each way of the silhouettes")
    parser.add_argument("--views", type=int, default=24)
    parser.add_argument("--batch", type=int, default=6, help="views a step")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    start = time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.mesh
    if path is None:
        path = options.out / "teapot.obj"
        jnr.save(path, jnr.shapes.teapot())
    target = unit_size(jnr.load(path))

    sphere = jnr.shapes.icosphere(4)
    base = sphere.vertices * 0.7
    edges, pairs = jnr.losses.unique_edges(sphere.faces)

    def silhouette(mesh, azimuth, elevation):
        return jnr.render_silhouette(
            mesh.vertices, mesh.faces, camera=camera(azimuth, elevation), image_size=options.size
        )

    silhouettes = jax.jit(jax.vmap(silhouette, in_axes=(None, 0, 0)))
    azimuths, elevations = views(options.views, 0.0)
    targets = silhouettes(target, azimuths, elevations)

    def loss(offset, azimuth, elevation, wanted):
        mesh = sphere._replace(vertices=base + offset)
        alpha = jax.vmap(silhouette, in_axes=(None, 0, 0))(mesh, azimuth, elevation)
        smooth = jnr.losses.laplacian(mesh.vertices, edges)
        flat = jnr.losses.normal_consistency(mesh.vertices, mesh.faces, pairs)
        return jnr.losses.silhouette_iou(alpha, wanted) + 300 * smooth + 0.3 * flat

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
    wanted, got = silhouettes(target, azimuths, elevations), silhouettes(fitted, azimuths, elevations)
    iou = 1 - jnr.losses.silhouette_iou(got, wanted)

    jnr.save(options.out / "fitted.obj", fitted)
    draw(options.out, sphere._replace(vertices=base), target, fitted)
    print(f"mean IoU on 16 views that were not used: {iou:.4f}")
    print(f"{time.perf_counter() - start:.0f} s in all; pictures in {options.out}/")


def draw(out, before, target, after):
    """Before, target and after as one picture, and a turntable of target and result."""

    @jax.jit
    def shaded(mesh, azimuth):
        picture = jnr.render(
            mesh.vertices, mesh.faces, camera=camera(azimuth, jnp.float32(0.5)), image_size=256, antialias=2,
            background=1.0,
        )  # fmt: skip
        return jnp.uint8(jnp.clip(picture.rgb, 0, 1) * 255)

    row = [np.asarray(shaded(mesh, jnp.float32(0.6))) for mesh in (before, target, after)]
    iio.imwrite(out / "before_target_after.png", np.concatenate(row, axis=1))
    frames = [
        np.concatenate([np.asarray(shaded(mesh, jnp.float32(angle))) for mesh in (target, after)], axis=1)
        for angle in np.linspace(0, 2 * np.pi, 36, endpoint=False)
    ]
    iio.imwrite(out / "turntable.gif", np.stack(frames), duration=80, loop=0)


if __name__ == "__main__":
    main()
