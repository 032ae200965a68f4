"""Optimises the same tasks with each gradient and prints how well they end.

    python benchmarks/tasks.py [--only cube] [--gradients edge_sweep opendr] [--quick] [--json tasks.json]

Each cell of the table is the median and the worst of the runs, and the number of runs that succeed. The tasks:

- "cube": nvdiffrast's cube sample, see examples/11_cube_resolution.py. Mean distance of the vertices from their true
  positions, in sides of the cube; success: below 0.05.
- "pose": nvdiffrast's pose sample: a cube with six colours, a random pose and a random start. 500 steps of random
  search around the best pose so far, then 500 steps of Adam on the quaternion. The loss is tanh(5 d), d the largest
  squared difference of the channels. Here 64 x 64 pixels of 2 x 2 samples instead of 256 x 256 pixels. "60 degrees
  away" starts at that distance and leaves out the search. Degrees; success: below 5.
- "teapot": a displaced small teapot, see examples/compare_gradients.py. Pixels; success: below 1.
- "sphere to teapot": the same example's second task. IoU in views that were not used; success: at least 0.9.
- "crossing triangles": DRTK's example, an eighth as large: two triangles that pass through each other, all coordinates
  displaced with a deviation of 20 pixels of 512, found again by 2000 steps of Adam on the squared difference, from an
  image of 64 x 64 pixels. Wrong pixels in per cent of those that were wrong at the start; success: below 10.
- "behind": a ball whose target touches a larger one. It starts behind that one, out of sight or with a quarter of its
  width in sight. 16 directions, 300 steps of Adam on the squared difference of colours. Pixels; success: below 1.

If `pip install ".[benchmarks]"` has installed DEODR, it has a column of its own. It renders its own images, with its
own antialiasing. A cell is saved to the JSON file as soon as it is done, and cells in that file are not run again.
"""

import argparse
import importlib
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from tqdm import tqdm

import jnr

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
cube: Any = importlib.import_module("11_cube_resolution")
alignment: Any = importlib.import_module("compare_gradients")


class Renderer(NamedTuple):
    """How the tasks render with one gradient.

    `rgb(vertices, faces, colors, *, camera, image_size, antialias=1)` returns an image, given colours of the faces'
    corners, (faces, 3, channels). `silhouette(vertices, faces, *, camera, image_size)` returns the coverage.
    """

    rgb: Callable
    silhouette: Callable


def jnr_renderer(gradient):
    def rgb(vertices, faces, colors, **options):
        options |= {"gradient": gradient, "interior": True}
        return jnr.render(vertices, faces, attributes=colors, shader=lambda surface: surface.attributes, **options).rgb

    return Renderer(rgb, partial(jnr.render_silhouette, gradient=gradient))


def deodr_renderer():
    from cpu_peers import deodr_image

    def rgb(vertices, faces, colors, *, camera, image_size, antialias=1) -> jax.Array:
        del antialias
        return deodr_image(camera.clip_positions(vertices), colors, faces=faces, size=image_size)

    def silhouette(vertices, faces, **options):
        return rgb(vertices, faces, jnp.ones((*faces.shape, 1)), **options)[..., 0]

    return Renderer(rgb, silhouette)


RENDERERS: dict[str, Callable[[], Renderer]] = {
    "edge_sweep": partial(jnr_renderer, "edge_sweep"),
    # With the options that end sweeps at nearer faces and leave out edges inside a surface.
    "occluded_sweep": partial(jnr_renderer, jnr.gradients.EdgeSweep(occlusion=True, silhouettes_only=True)),
    "opendr": partial(jnr_renderer, "opendr"),
    "boundary": partial(jnr_renderer, "boundary"),
    "none": partial(jnr_renderer, None),
    "deodr": deodr_renderer,
}


def fit_cube(renderer, quick, size):
    """Returns the mean distances of the vertices, (kinds of colours, runs)."""
    render = partial(rgb_of_cube, renderer, image_size=size, antialias=3)
    run = partial(cube.fit, steps=20 if quick else 5000, render=render)
    keys = jax.random.split(jax.random.key(0), 2 if quick else 10)
    colors, corners = (jnp.stack(list(kinds.values())) for kinds in (cube.COLORS, cube.COLOR_OF_CORNER))
    _, (vertices, _) = jax.vmap(jax.vmap(run, in_axes=(0, None, None)), in_axes=(None, 0, 0))(keys, colors, corners)
    return jnp.linalg.norm(vertices - cube.CUBE.vertices, axis=-1).mean(-1)


def rgb_of_cube(renderer, vertices, colors, **options):
    return renderer.rgb(vertices, cube.CUBE.faces, colors, camera=cube.CAMERA, **options)


def find_pose(renderer, quick):
    """Returns the angle in degrees to the true pose, (with search or from 60 degrees away, runs)."""
    steps, runs = (10, 2) if quick else (500, 10)
    colors = cube.COLORS["discontinuous"][cube.COLOR_OF_CORNER["discontinuous"]]

    def render(pose):
        return rgb_of_cube(renderer, rotate(pose, cube.CUBE.vertices), colors, image_size=64, antialias=2)

    def loss(pose, target):
        return jnp.mean(jnp.tanh(5 * jnp.max((render(pose) - target) ** 2, axis=-1)))

    def search(start, target, key):
        def step(best, step_and_key):
            i, key = step_and_key
            noise, symmetry = jax.random.split(key)
            # The noise falls from a random rotation to a hundredth of one.
            trial = product(best[1], scaled(random_quaternion(noise), 0.01 ** (i / steps)))
            trial = product(trial, SYMMETRIES[jax.random.randint(symmetry, (), 0, len(SYMMETRIES))])
            value = loss(trial, target)
            better = (value < best[0]) & (value > 0)
            return jax.tree.map(partial(jnp.where, better), (value, trial), best), None

        best, _ = lax.scan(step, (jnp.inf, start), (jnp.arange(steps), jax.random.split(key, steps)))
        return best[1]

    optimizer = optax.adam(0.01)

    def descend(pose, target):
        def step(carry, _):
            pose, state = carry
            updates, state = optimizer.update(jax.grad(loss)(pose, target), state)
            return (unit(optax.apply_updates(pose, updates)), state), None

        (pose, _), _ = lax.scan(step, (pose, optimizer.init(pose)), length=steps)
        return pose

    @jax.jit
    def run(key):
        keys = jax.random.split(key, 4)
        true, start, axis = (random_quaternion(key) for key in keys[:3])
        target = render(true)
        sixty = jnp.append(np.cos(np.pi / 6), np.sin(np.pi / 6) * unit(axis[1:]))
        ends = jax.vmap(descend, in_axes=(0, None))(
            jnp.stack([search(start, target, keys[3]), product(true, sixty)]), target
        )
        return 2 * jnp.degrees(jnp.arccos(jnp.minimum(jnp.abs(ends @ true), 1.0)))

    return jax.vmap(run, out_axes=1)(jax.random.split(jax.random.key(0), runs))


def unit(vector):
    return vector / jnp.linalg.norm(vector)


def random_quaternion(key):
    return unit(jax.random.normal(key, (4,)))


def product(a, b):
    """Returns the quaternion of rotating by b, then by a."""
    scalar = a[0] * b[0] - a[1:] @ b[1:]
    return jnp.append(scalar, a[0] * b[1:] + b[0] * a[1:] + jnp.cross(a[1:], b[1:]))


def scaled(quaternion, share):
    """Returns the rotation by a share of the quaternion's angle, the short way."""
    quaternion = jnp.where(quaternion[0] < 0, -1, 1) * quaternion
    half = jnp.arccos(jnp.minimum(quaternion[0], 1.0)) * share
    return jnp.append(jnp.cos(half), jnp.sin(half) * unit(quaternion[1:]))


def rotate(quaternion, points):
    w, v = quaternion[0], quaternion[1:]
    cross = partial(jnp.cross, v)
    return points + 2 * cross(w * points + cross(points))


def _symmetries():
    """Returns the quaternions of the 24 rotations of a cube, (24, 4)."""
    units = np.eye(4)
    halves = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 4), axis=-1).reshape(-1, 4)
    pairs = [a + sign * b for i, a in enumerate(units) for b in units[i + 1 :] for sign in (1, -1)]
    both_signs = np.concatenate([units, halves[halves[:, 0] > 0], np.array(pairs) * 0.5**0.5])
    return jnp.asarray(both_signs, jnp.float32)


SYMMETRIES = _symmetries()
OFFSETS = (4, 8, 16, 32)


def align_teapot(renderer, quick):
    """Returns the distances from the target in pixels, (offsets, directions)."""
    return alignment.align(renderer.silhouette, OFFSETS, *((2, 2) if quick else (8, 200)), 64)[1]


def fit_sphere(renderer, quick):
    """Returns the IoU in views that were not used, (1, runs)."""
    runs, steps, views = (2, 2, 2) if quick else (10, 200, 8)
    return alignment.fit_sphere(renderer.silhouette, np.arange(runs) / runs, steps, 64, views)[None]


# In pixels of an image of 512 x 512: right, down, away. DRTK's.
TRIANGLES = np.array(
    [(10, 200, 100), (300, 50, 100), (400, 500, 100), (50, 400, 200), (400, 50, 50), (300, 500, 200)], np.float32
)


def move_triangles(renderer, quick):
    """Returns the wrong pixels in per cent of those that were wrong at the start, (1, runs)."""
    size, steps, runs = (16, 10, 2) if quick else (64, 2000, 10)
    faces = jnp.array([(0, 2, 1), (3, 5, 4)])
    colors = jnp.broadcast_to(jnp.array([1.0, 0.5])[:, None, None], (2, 3, 3))
    camera = jnr.Camera(jnr.LookAlong((0.0, 0.0, 0.0)), jnr.Perspective(fov=90, near=1.0, far=1000.0))

    def picture(render, points):
        ndc = ((2 * points[:, :2] + 1) / 512 - 1) * jnp.array([1, -1])
        vertices = points[:, 2:] * jnp.concatenate([ndc, -jnp.ones_like(points[:, 2:])], axis=-1)
        return render(vertices, faces, colors, camera=camera, image_size=size)

    @jax.jit
    def run(key):
        start = TRIANGLES + 20 * jax.random.normal(key, TRIANGLES.shape)
        target = picture(renderer.rgb, TRIANGLES)

        def loss(points):
            return jnp.mean((picture(renderer.rgb, points) - target) ** 2)

        end = alignment.descend(loss, start, optax.adam(0.1), steps)
        hard = jnr_renderer(None).rgb
        wrong = [jnp.sum(jnp.any(picture(hard, p) != picture(hard, TRIANGLES), axis=-1)) for p in (end, start)]
        return 100 * wrong[0] / wrong[1]

    return jax.vmap(run)(jax.random.split(jax.random.key(0), runs))[None]


def come_out(renderer, quick):
    """Returns the distances from the target in pixels, (hidden or nearly, directions)."""
    size, steps, directions = (16, 10, 2) if quick else (64, 300, 16)
    pixel = 2 / size  # in world units
    mesh = jnr.shapes.icosphere(2)
    count = len(mesh.vertices)
    faces = jnp.concatenate([mesh.faces, mesh.faces + count])
    colors = jnp.repeat(jnp.array([(0.9, 0.6, 0.2), (0.2, 0.4, 0.9)]), len(mesh.faces), axis=0)[:, None]
    colors = jnp.broadcast_to(colors, (len(faces), 3, 3))
    camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 3.0)), jnr.Orthographic(1.0))
    # Radii of the hidden ball and of the one in front.
    small, large = 0.15, 0.35

    def picture(shift):
        behind = small * mesh.vertices + jnp.append(shift, -0.6)
        return renderer.rgb(
            jnp.concatenate([behind, large * mesh.vertices]), faces, colors, camera=camera, image_size=size
        )

    optimizer = optax.adam(optax.cosine_decay_schedule(0.02, steps))

    @jax.jit
    def run(angle, distance):
        way = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        goal = (large + small) * way
        target = picture(goal)

        def loss(shift):
            return jnp.mean((picture(shift) - target) ** 2)

        end = alignment.descend(loss, distance * way, optimizer, steps)
        return jnp.linalg.norm(end - goal) / pixel

    angles = 2 * jnp.pi * (jnp.arange(directions) + 0.5) / directions
    # Wholly hidden, and with a quarter of its width in sight.
    distances = jnp.array([0.1, large - small / 2])
    return jax.vmap(lambda distance: jax.vmap(lambda angle: run(angle, distance))(angles))(distances)


class Task(NamedTuple):
    """`run(renderer, quick)` returns one row of runs per title."""

    titles: tuple[str, ...]
    run: Callable
    digits: int
    succeeds: Callable
    largest_is_worst: bool = True


TASKS = {
    **{
        f"cube {size}": Task(
            tuple(f"cube, {size} x {size}, {kind}" for kind in cube.COLORS),
            partial(fit_cube, size=size),
            4,
            lambda error: error < 0.05,
        )
        for size in (4, 8, 16)
    },
    "pose": Task(
        ("pose, search first, degrees", "pose, 60 degrees away, degrees"), find_pose, 2, lambda degrees: degrees < 5
    ),
    "teapot": Task(
        tuple(f"teapot, {offset} px away, px" for offset in OFFSETS), align_teapot, 2, lambda pixels: pixels < 1
    ),
    "sphere": Task(("sphere to teapot, IoU",), fit_sphere, 3, lambda iou: iou >= 0.9, largest_is_worst=False),
    "triangles": Task(("crossing triangles, % of wrong pixels left",), move_triangles, 1, lambda wrong: wrong < 10),
    "behind": Task(("behind, hidden, px", "behind, a quarter seen, px"), come_out, 2, lambda pixels: pixels < 1),
}


def cell(task, values):
    """Returns the text of one cell of the table."""
    values = np.asarray(values)
    worst = values.max() if task.largest_is_worst else values.min()
    return (
        f"{np.median(values):.{task.digits}f} / {worst:.{task.digits}f}, {task.succeeds(values).sum()} of {values.size}"
    )


def table(results, names):
    """Returns the Markdown table of the results that are there."""
    lines = ["| task | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 1)]
    for key, task in TASKS.items():
        done = [results.get(f"{key}, {name}") for name in names]
        if any(done):
            for i, title in enumerate(task.titles):
                cells = (cell(task, result["values"][i]) if result else "" for result in done)
                lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    installed = [name for name in RENDERERS if name != "deodr" or importlib.util.find_spec("deodr")]
    parser.add_argument("--only", default="", help=f"run only tasks whose names contain this text: {', '.join(TASKS)}")
    parser.add_argument("--gradients", nargs="+", default=installed, choices=RENDERERS, metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="few steps and runs, to see that every task runs")
    parser.add_argument("--json", type=Path, help="file to read results from and to write them to")
    options = parser.parse_args()
    results = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    print(f"jax {jax.__version__}, {platform.processor() or platform.machine()}, {os.cpu_count()} processors")
    cells = [(key, name) for key in TASKS if options.only in key for name in options.gradients]
    with tqdm(cells) as progress:
        for key, name in progress:
            progress.set_description(f"{key}, {name}")
            if f"{key}, {name}" in results:
                continue
            start = time.perf_counter()
            values = np.asarray(TASKS[key].run(RENDERERS[name](), options.quick))
            seconds = time.perf_counter() - start
            results[f"{key}, {name}"] = {"values": values.tolist(), "seconds": round(seconds, 1)}
            if options.json:
                options.json.write_text(json.dumps(results, indent=1))
    print(table(results, options.gradients))
    print(f"{sum(results[f'{key}, {name}']['seconds'] for key, name in cells):.0f} s in total")


if __name__ == "__main__":
    main()
