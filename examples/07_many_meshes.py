"""Fits many spheres at once, each to the silhouettes of its own target mesh, in one compiled step.

    python examples/07_many_meshes.py

The targets have different numbers of vertices and faces. `jnr.stack` pads them to one batch, which is rendered under
`vmap`. The step is written for one mesh and `vmap` turns it into the step of the batch. The same function also runs in
a loop over the meshes to compare run times.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jnr

SPHERE = jnr.shapes.icosphere(3)
START = SPHERE.vertices * 0.5
EDGES, PAIRS = jnr.unique_edges(SPHERE.faces)
OPTIMIZER = optax.adam(optax.exponential_decay(0.02, 100, 0.5))
KINDS = (
    jnr.shapes.teapot(3),
    jnr.shapes.torus(),
    jnr.shapes.cube(),
    jnr.shapes.torus_knot(columns=96),
    jnr.shapes.uv_sphere(2, 3),
    jnr.shapes.teapot(5),
    jnr.shapes.icosphere(0),
    jnr.shapes.torus(0.5, 0.4),
)


def targets(count, seed=0):
    """Returns a batch of shapes from `KINDS` in turn, each randomly stretched and rotated."""
    random = np.random.default_rng(seed)
    meshes = []
    for i in range(count):
        mesh = KINDS[i % len(KINDS)]
        turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
        turn *= np.linalg.det(turn)
        stretched = mesh.vertices * jnp.asarray(random.uniform(0.6, 1.2, 3), jnp.float32)
        mesh = jnr.normalize(mesh._replace(vertices=stretched @ jnp.asarray(turn, jnp.float32)))
        meshes.append(mesh._replace(vertices=0.75 * mesh.vertices))
    return jnr.stack(meshes)


def eyes(count, shift=0.0):
    """Returns points spread over a sphere without its poles."""
    turn = (np.arange(count) + shift) * 360 * 0.618034
    height = np.rad2deg(np.arcsin(np.linspace(-0.85, 0.85, count)))
    return jnr.points_from_angles(2.732, height, turn)


@partial(jax.jit, static_argnames="size")
def silhouettes(mesh, eyes, size):
    """Renders silhouettes of one mesh from several camera positions."""

    def one(eye):
        return jnr.render_silhouette(mesh.vertices, mesh.faces, camera=jnr.Camera(jnr.LookAt(eye)), image_size=size)

    return jax.vmap(one)(eyes)


def step(vertices, state, eyes, target_alpha):
    """Returns vertices and optimiser state of one mesh after one step."""

    def loss(vertices):
        alpha = silhouettes(SPHERE._replace(vertices=vertices), eyes, target_alpha.shape[-1])
        smooth = jnr.losses.laplacian(vertices, EDGES)
        flat = jnr.losses.normal_consistency(vertices, SPHERE.faces, PAIRS)
        return jnr.losses.silhouette_iou(alpha, target_alpha) + 200 * smooth + 0.3 * flat

    updates, state = OPTIMIZER.update(jax.grad(loss)(vertices), state)
    return optax.apply_updates(vertices, updates), state


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meshes", type=int, default=64)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--size", type=int, default=64, help="height and width of the silhouettes in pixels")
    parser.add_argument("--views", type=int, default=16, help="views per target")
    parser.add_argument("--batch", type=int, default=4, help="views per step")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    start = time.perf_counter()

    target = targets(options.meshes)
    positions = eyes(options.views)
    target_alpha = jax.vmap(silhouettes, in_axes=(0, None, None))(target, positions, options.size)
    views = [
        jax.random.choice(key, options.views, (options.batch,), replace=False)
        for key in jax.random.split(jax.random.key(0), options.steps)
    ]
    one = jax.jit(step)
    together = jax.jit(jax.vmap(step, in_axes=(0, 0, None, 0)), donate_argnums=(0, 1))

    vertices = jnp.tile(START, (options.meshes, 1, 1))
    state = jax.vmap(OPTIMIZER.init)(vertices)
    each = [(START, OPTIMIZER.init(START))] * options.meshes
    batched, looped = [], []
    for i, chosen in enumerate(views):
        begin = time.perf_counter()
        vertices, state = jax.block_until_ready(together(vertices, state, positions[chosen], target_alpha[:, chosen]))
        batched.append(time.perf_counter() - begin)
        if i % 10 < 2 and i < 100:  # the loop only runs for timing
            parts = [(positions[chosen], target_alpha[k, chosen]) for k in range(options.meshes)]
            begin = time.perf_counter()
            each = jax.block_until_ready([one(*own, *part) for own, part in zip(each, parts, strict=True)])
            looped.append(time.perf_counter() - begin)
    # The first call compiles. The minimum is least affected by other work on the machine.
    batched, looped = min(batched[1:]), min(looped[1:])

    fitted = jnr.Mesh(vertices, jnp.tile(SPHERE.faces, (options.meshes, 1, 1)))
    positions = eyes(12, 0.5)
    pairs = [jax.vmap(silhouettes, in_axes=(0, None, None))(mesh, positions, options.size) for mesh in (fitted, target)]
    iou = 1 - jax.vmap(jnr.losses.silhouette_iou)(*pairs)
    images = options.meshes * options.batch
    print(f"{options.meshes} meshes, {options.batch} views of {options.size} x {options.size} per mesh and step")
    print(f"batch: {batched * 1e3:.0f} ms per step, {images / batched:.0f} images/s, ", end="")
    print(f"{options.meshes / batched / options.steps:.1f} meshes/s at {options.steps} steps per mesh")
    print(f"loop over the meshes: {looped * 1e3:.0f} ms per step, {looped / batched:.2f} times as long as the batch")
    print(f"IoU on 12 held-out views: mean {jnp.mean(iou):.3f}, minimum {jnp.min(iou):.3f}")

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "07_many_meshes.png"
    save_image(path, target, fitted)
    print(f"{time.perf_counter() - start:.0f} s in total; before, target and after in {path}")


def save_image(path, target, fitted, columns=8):
    """Saves an image of the first meshes in three rows: before, target and after."""
    hues = 0.55 + 0.4 * jnp.cos(2 * jnp.pi * (jnp.arange(columns)[:, None] / columns + jnp.array([0, 0.33, 0.67])))

    @jax.jit
    @jax.vmap
    def shaded(mesh, color):
        camera = jnr.Camera(jnr.LookAt(jnr.points_from_angles(2.0, 30.0, 30.0)), jnr.Perspective(54.0))
        colors = jnp.broadcast_to(color, mesh.vertices.shape)
        rendering = jnr.render(
            mesh.vertices, mesh.faces, colors, camera=camera, image_size=128, antialias=2, background=1.0
        )
        return jnp.uint8(jnp.clip(rendering.rgb, 0, 1) * 255)

    target, fitted = (jax.tree.map(lambda x: x[:columns], mesh) for mesh in (target, fitted))
    before = fitted._replace(vertices=jnp.broadcast_to(START, fitted.vertices.shape))
    rows = [
        np.concatenate(list(np.asarray(shaded(mesh, hues[: len(mesh.vertices)]))), axis=1)
        for mesh in (before, target, fitted)
    ]
    iio.imwrite(path, np.concatenate(rows))


if __name__ == "__main__":
    main()
