"""Recovers the vertices and colours of a cube from images of as few as 4 x 4 pixels.

    python examples/11_cube_resolution.py

The experiment is nvdiffrast's (Laine et al., Modular primitives for high-performance differentiable rendering, 2020).
The eight vertices of a cube start displaced by up to 0.5 along each axis, and its colours start at random. Each step
renders both cubes in one new random pose and takes an Adam step on the mean squared difference; the learning rate falls
from 0.01 to 0.0001 in the first four fifths of the steps. Colours belong to vertices ("continuous", 8 of them) or to
corners of the cube's sides ("discontinuous", 24). nvdiffrast smooths its images by analytic antialiasing, from which
its gradient follows. Here a pixel is the mean of 3 x 3 samples and the gradient is one of jnr's, plus that of the
colours inside faces. The error is the mean distance of the vertices from their true positions, over all runs.
nvdiffrast takes 5000 steps; the default here is 2000, so that the example runs in two minutes. `benchmarks/tasks.py`
takes as many steps as nvdiffrast, and more runs.
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
# Index of each face corner's colour among 24, (faces, 3): one per vertex, or one per corner of a side.
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
GRADIENTS = {"edge_sweep": "edge_sweep", "opendr": "opendr", "boundary": "boundary", "none": None}


def render(vertices, colors, **options):
    """Returns an image of the cube with `colors` of its faces' corners, (faces, 3, 3)."""
    rendering = jnr.render(
        vertices,
        CUBE.faces,
        camera=CAMERA,
        shader=lambda surface: surface.attributes,
        attributes=colors,
        interior=True,
        **options,
    )
    return rendering.rgb


def random_pose(key):
    """Returns a transform: a uniformly distributed rotation and a shift of up to 0.25 along each axis."""
    turn, shift = jax.random.split(key)
    shift = jax.random.uniform(shift, (3,), minval=-0.25, maxval=0.25)
    pose = jnr.pose_matrices(shift, jax.random.normal(turn, (4,)))
    return lambda vertices: vertices @ pose[:3, :3].T + pose[:3, 3]


@partial(jax.jit, static_argnames=("steps", "render"))
def fit(key, colors, corners, steps, render):
    """Returns vertices and colours of one run before and after `steps` steps; `render(vertices, colors)` renders."""
    optimizer = optax.adam(lambda i: 1e-2 * jnp.maximum(0.01, 10 ** (-2.5 * i / steps)))
    keys = jax.random.split(key, 3)
    start = (
        CUBE.vertices + jax.random.uniform(keys[0], CUBE.vertices.shape, minval=-0.5, maxval=0.5),
        jax.random.uniform(keys[1], colors.shape),
    )

    def loss(params, pose):
        vertices, learned = params
        target = render(pose(CUBE.vertices), colors[corners])
        return jnp.mean((render(pose(vertices), learned[corners]) - target) ** 2)

    def step(carry, key):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, random_pose(key)), state)
        return (optax.apply_updates(params, updates), state), None

    (end, _), _ = lax.scan(step, (start, optimizer.init(start)), jax.random.split(keys[2], steps))
    return start, end


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--size", type=int, nargs="+", default=[4, 8, 16], help="image heights and widths in pixels")
    parser.add_argument("--seeds", type=int, default=2, help="runs per kind of colours")
    parser.add_argument("--antialias", type=int, default=3, help="supersampling factor per axis")
    parser.add_argument("--gradients", nargs="+", default=list(GRADIENTS), choices=GRADIENTS, metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    begin = time.perf_counter()

    keys = jax.random.split(jax.random.key(0), options.seeds)
    colors, corners = (jnp.stack(list(kinds.values())) for kinds in (COLORS, COLOR_OF_CORNER))
    sizes = dict.fromkeys(options.size)
    print(f"mean vertex error after {options.steps} steps, {options.seeds} runs per kind of colours")
    print("| gradient | colours | " + " | ".join(f"{size} x {size}" for size in sizes) + " |")
    print("|" + "---|" * (len(sizes) + 2))
    for name in options.gradients:
        rows = {kind: [] for kind in COLORS}
        for size in sizes:
            picture = partial(render, image_size=size, antialias=options.antialias, gradient=GRADIENTS[name])
            runs = partial(fit, steps=options.steps, render=picture)
            # All runs of one gradient and size are one batch: (kinds of colours, seeds).
            start, end = jax.vmap(jax.vmap(runs, in_axes=(0, None, None)), in_axes=(None, 0, 0))(keys, colors, corners)
            if name == options.gradients[0]:
                sizes[size] = start, end
            for kind, distance in zip(COLORS, distances(end), strict=True):
                rows[kind].append(f"{distance:.4f}")
        for kind, row in rows.items():
            print(f"| {name} | {kind} | " + " | ".join(row) + " |", flush=True)
    print(f"at the start: {np.mean(distances(start)):.4f}")

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "11_cube_resolution.png"
    iio.imwrite(path, grid(sizes, corners, options.antialias))
    print(f"{time.perf_counter() - begin:.0f} s in total; {path} shows, per kind of colours, the true cube, the start,")
    print(f"and per image size a rendering of the true cube at that size and the result of {options.gradients[0]}")


def distances(params):
    """Returns the mean distance of the vertices from their true positions, per kind of colours."""
    return np.mean(jnp.linalg.norm(params[0] - CUBE.vertices, axis=-1), axis=(1, 2))


def grid(fits, corners, antialias):
    """Returns one image with one row per kind of colours."""

    def tile(vertices, colors, corners, size=128, antialias=3):
        turn = jnr.LookAt((1.0, 1.0, 2.0)).camera_from_world()[:3, :3]
        image = render(vertices @ turn.T, colors[corners], image_size=size, antialias=antialias, background=1.0)
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
