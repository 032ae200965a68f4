"""Finds the corners and colours of a cube from pictures of 4 x 4 pixels: how much of a gradient is in so few?

    python examples/11_cube_resolution.py

The experiment is nvdiffrast's (Laine et al., Modular primitives for high-performance differentiable rendering, 2020).
The eight vertices of a cube start up to 0.5 away along each axis, its colours at random. Each step draws both cubes in
one new random pose and takes a step of Adam on the mean squared difference; its rate falls from 0.01 to 0.0001. Colours
belong to vertices ("continuous", 8 of them) or to corners of the cube's sides ("discontinuous", 24). Their pictures are
smoothed by an analytic antialiasing, which is also what gives their gradient; here a pixel is the mean of 3 x 3 samples
and the gradient is one of jnr's, with that of the colours inside of faces. The error is the mean distance from the
vertices to the corners where they belong, over all runs. Theirs take 5000 steps; the fewer here keep it to two minutes.
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
from jax import lax

import jnr

CUBE = jnr.shapes.cube()
SIDES = jnp.arange(12) // 2  # of the cube's faces
# Which of 24 colours each corner of each face has, (faces, 3): that of the vertex, or one that the side has to itself.
COLOR_OF_CORNER = {
    "continuous": CUBE.faces,
    "discontinuous": 4 * SIDES[:, None] + jnp.array([[0, 1, 2], [0, 2, 3]] * 6),
}
HUES = jnp.array([(0.9, 0.2, 0.2), (0.2, 0.8, 0.3), (0.2, 0.3, 0.9), (0.9, 0.8, 0.2), (0.2, 0.8, 0.9), (0.8, 0.3, 0.8)])
COLORS = {
    "continuous": jnp.pad(CUBE.vertices + 0.5, ((0, 16), (0, 0))),
    "discontinuous": jnp.repeat(HUES, 4, axis=0),
}
CAMERA = jnr.Camera(jnr.LookAt((0, 0, 3.5)), jnr.Perspective(fov=43.6))
GRADIENTS = {"edge_sweep": "edge_sweep", "opendr": "opendr", "none": None}


def draw(vertices, colors, corners, **options):
    picture = jnr.render(
        vertices,
        CUBE.faces,
        camera=CAMERA,
        shader=lambda surface: surface.attributes,
        attributes=colors[corners],
        interior=True,
        **options,
    )
    return picture.rgb


def random_pose(key):
    """A rotation, all equally likely, and a shift of up to 0.25 along each axis."""
    turn, shift = jax.random.split(key)
    w, x, y, z = unit = jax.random.normal(turn, (4,))
    rotation = jnp.array(
        [
            [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z],
        ]
    )
    shift = jax.random.uniform(shift, (3,), minval=-0.25, maxval=0.25)
    return lambda vertices: vertices @ rotation.T / jnp.sum(unit * unit) + shift


@partial(jax.jit, static_argnames=("steps", "size", "antialias", "gradient"))
def fit(key, colors, corners, steps, size, antialias, gradient):
    """Vertices and colours before and after `steps`, for one run."""
    optimizer = optax.adam(lambda i: 1e-2 * jnp.maximum(0.01, 10 ** (-2.0 * i / steps)))
    keys = jax.random.split(key, 3)
    start = (
        CUBE.vertices + jax.random.uniform(keys[0], CUBE.vertices.shape, minval=-0.5, maxval=0.5),
        jax.random.uniform(keys[1], colors.shape),
    )

    def loss(params, pose):
        vertices, learned = params
        options = {"image_size": size, "antialias": antialias, "gradient": gradient}
        wanted = draw(pose(CUBE.vertices), colors, corners, **options)
        return jnp.mean((draw(pose(vertices), learned, corners, **options) - wanted) ** 2)

    def step(carry, key):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, random_pose(key)), state)
        return (optax.apply_updates(params, updates), state), None

    (end, _), _ = lax.scan(step, (start, optimizer.init(start)), jax.random.split(keys[2], steps))
    return start, end


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--size", type=int, nargs="+", default=[4, 8, 16], help="pixels each way")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each kind")
    parser.add_argument("--antialias", type=int, default=3, help="samples a pixel each way")
    parser.add_argument("--gradients", nargs="+", default=list(GRADIENTS), choices=GRADIENTS, metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    begin = time.perf_counter()

    keys = jax.random.split(jax.random.key(0), options.seeds)
    colors, corners = (jnp.stack(list(kinds.values())) for kinds in (COLORS, COLOR_OF_CORNER))
    sizes = dict.fromkeys(options.size)
    print(f"mean distance of vertices after {options.steps} steps, {options.seeds} runs of each kind")
    print("| gradient | colours | " + " | ".join(f"{size} x {size}" for size in sizes) + " |")
    print("|" + "---|" * (len(sizes) + 2))
    for name in options.gradients:
        rows = {kind: [] for kind in COLORS}
        for size in sizes:
            runs = partial(fit, steps=options.steps, size=size, antialias=options.antialias, gradient=GRADIENTS[name])
            # Every run of one gradient and size is one item of a batch: kinds of colours, then seeds.
            start, end = jax.vmap(jax.vmap(runs, in_axes=(0, None, None)), in_axes=(None, 0, 0))(keys, colors, corners)
            if name == options.gradients[0]:
                sizes[size] = start, end
            for kind, distance in zip(COLORS, distances(end), strict=True):
                rows[kind].append(f"{distance:.4f}")
        for kind, row in rows.items():
            print(f"| {name} | {kind} | " + " | ".join(row) + " |", flush=True)
    print(f"at the start {np.mean(distances(start)):.4f}")

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "11_cube_resolution.png"
    iio.imwrite(path, grid(sizes, corners, options.antialias))
    print(f"{time.perf_counter() - begin:.0f} s in all; for both kinds the cube, the start, and for each size")
    print(f"a picture of that size and the result of {options.gradients[0]} in {path}")


def distances(params):
    """Mean distance of the vertices from where they belong, for each kind of colours."""
    return np.mean(jnp.linalg.norm(params[0] - CUBE.vertices, axis=-1), axis=(1, 2))


def grid(fits, corners, antialias):
    """A row a kind of colours."""

    def tile(vertices, colors, corners, size=128, antialias=3):
        turn = jnr.LookAt((1.0, 1.0, 2.0)).camera_from_world()[:3, :3]
        image = draw(vertices @ turn.T, colors, corners, image_size=size, antialias=antialias, background=1.0)
        return np.repeat(np.repeat(np.asarray(image), 128 // size, axis=0), 128 // size, axis=1)

    rows = []
    for k, colors in enumerate(COLORS.values()):
        (vertices, random), _ = next(iter(fits.values()))
        row = [tile(CUBE.vertices, colors, corners[k]), tile(vertices[k, 0], random[k, 0], corners[k])]
        for size, (_, (vertices, learned)) in fits.items():
            row.append(tile(CUBE.vertices, colors, corners[k], size, antialias))
            row.append(tile(vertices[k, 0], learned[k, 0], corners[k]))
        rows.append(np.concatenate(row, axis=1))
    return np.uint8(np.clip(np.concatenate(rows), 0, 1) * 255)


if __name__ == "__main__":
    main()
