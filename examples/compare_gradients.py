"""Compares the gradients of Neural Renderer and OpenDR and the derivative of the picture.

    python examples/compare_gradients.py [--out out]

Plots how each gradient moves a triangle's vertices for a loss on a single pixel, and which pixels have a gradient at
all. Then optimises the same displaced meshes with each gradient and prints the results. More tasks are in
`benchmarks/tasks.py`.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from tqdm import tqdm

import jnr
from jnr import viz

GRADIENTS: dict[viz.GradientName, str] = {
    "edge_sweep": "Neural Renderer",
    "opendr": "OpenDR",
    "boundary": "boundary",
}
SIZE = 16
# Corners in pixels, right and down.
TRIANGLE = np.array([[3.3, 4.0], [12.4, 7.5], [4.6, 14.0]])
# Row and column of the target pixels.
TARGETS = {"outside": (5, 13), "at the edge": (5, 5), "more than 2 px inside": (8, 6)}


def flat_scene():
    """Returns the triangle and an orthographic camera that sees the square from -1 to 1."""
    ndc = (2 * TRIANGLE + 1) / SIZE - 1
    vertices = jnp.asarray(np.stack([ndc[:, 0], -ndc[:, 1], 0 * ndc[:, 0]], axis=-1), jnp.float32)
    camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 2.0)), jnr.Orthographic())
    return vertices, jnp.array([[0, 2, 1]]), camera


def plot_comparison():
    """Returns the figure."""
    vertices, faces, camera = flat_scene()
    options = {"camera": camera, "image_size": SIZE}
    alpha = jnr.render_silhouette(vertices, faces, **options)[..., None]
    image = 0.15 + 0.6 * jnp.repeat(alpha, 3, axis=-1)
    figure = Figure(figsize=(13, 9.8), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(3, 1.2))
    top, bottom = halves
    top.suptitle("Descent of the vertices when one pixel (square) should be darker or brighter", fontsize=13)
    axes = top.subplots(len(GRADIENTS), 6)
    bottom.suptitle("How strongly (colour, log) and which way (arrows) each pixel alone moves the mesh", fontsize=13)
    maps = bottom.subplots(1, 2 * len(GRADIENTS))
    for row, (gradient, title) in enumerate(GRADIENTS.items()):
        for turn, change in enumerate(("darker", "brighter")):
            descents = viz.pixel_descents(vertices, faces, gradient=gradient, brighter=change == "brighter", **options)
            for k, (place, pixel) in enumerate(TARGETS.items()):
                ax = axes[row, 2 * k + turn]
                viz.show_image(ax, image)
                viz.draw_arrows(ax, TRIANGLE, descents[pixel], longest=4.4)
                ax.add_patch(_square(pixel, "white" if change == "brighter" else "black"))
                # Outline of the exact triangle.
                ax.plot(*TRIANGLE[[0, 1, 2, 0]].T, color="0.9", linewidth=0.8, linestyle=":")
                if row == 0:
                    ax.set_title(f"{place}\n{change}", fontsize=10)
                if k == 0 and turn == 0:
                    ax.set_ylabel(title, fontsize=12)
            ax = maps[2 * row + turn]
            viz.reach_map(vertices, faces, gradient=gradient, brighter=change == "brighter", ax=ax, **options)
            ax.plot(*TRIANGLE[[0, 1, 2, 0]].T, color="tab:red", linewidth=1.5)
            ax.set_title(f"{title}, {change}", fontsize=10)
    return figure


def _square(pixel, color):
    row, column = pixel
    return Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=color, edgecolor="tab:orange", linewidth=1.8, zorder=2)


def align(silhouette, offsets, seeds, steps, size):
    """Returns IoU and error in pixels, each (offsets, seeds), after aligning a displaced small teapot.

    `silhouette(vertices, faces, camera=..., image_size=...)` renders. The directions of displacement are `seeds` many.
    """
    mesh = jnr.shapes.teapot(3)
    # Orthographic, so that the silhouette's size carries no information about its position.
    camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 3.0)), jnr.Orthographic(1.6))
    pixel = 3.2 / size  # in world units

    def seen(shift):
        vertices = 0.4 * mesh.vertices + jnp.append(shift, 0.0)
        return silhouette(vertices, mesh.faces, camera=camera, image_size=size)

    angle = 2 * np.pi * np.arange(seeds) / seeds
    way = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    start = jnp.asarray(np.array(offsets)[:, None, None] * pixel * way, jnp.float32)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.02, steps))

    @jax.jit
    def run(start):
        target = seen(jnp.zeros(2))
        shift = descend(lambda shift: jnr.losses.silhouette_iou(seen(shift), target), start, optimizer, steps)
        return 1 - jnr.losses.silhouette_iou(seen(shift), target), jnp.linalg.norm(shift) / pixel

    return tuple(np.asarray(result) for result in jax.vmap(jax.vmap(run))(start))


def fit_sphere(silhouette, phases, steps, size, views):
    """Returns the IoU in views halfway between those used after fitting a sphere to the teapot, one per phase.

    `silhouette(vertices, faces, camera=..., image_size=...)` renders. A phase is the first view's azimuth as a share of
    the angle between two views. The IoU is that of hard silhouettes.
    """
    sphere, mesh = jnr.shapes.icosphere(3), jnr.shapes.teapot(4)
    edges, _ = jnr.unique_edges(sphere.faces)

    def seen(render, vertices, faces, phase):
        angles = 2 * jnp.pi * (jnp.arange(views) + phase) / views

        def view(angle):
            eye = 2.732 * jnp.stack([jnp.sin(angle), 0.4 * jnp.sin(3 * angle), jnp.cos(angle)])
            return render(vertices, faces, camera=jnr.Camera(jnr.LookAt(eye)), image_size=size)

        return jax.vmap(view)(angles)

    @jax.jit
    def run(phase):
        targets = seen(silhouette, mesh.vertices, mesh.faces, phase)

        def loss(vertices):
            alpha = seen(silhouette, vertices, sphere.faces, phase)
            return jnr.losses.silhouette_iou(alpha, targets) + 100 * jnr.losses.laplacian(vertices, edges)

        optimizer = optax.adam(optax.cosine_decay_schedule(0.01, steps))
        vertices = descend(loss, sphere.vertices * 0.5, optimizer, steps)
        held_out = [
            seen(jnr.render_silhouette, *shape, phase + 0.5)
            for shape in ((vertices, sphere.faces), (mesh.vertices, mesh.faces))
        ]
        return 1 - jnr.losses.silhouette_iou(*held_out)

    return np.asarray(jax.vmap(run)(jnp.asarray(phases)))


def descend(loss, start, optimizer, steps):
    """Returns the parameters after `steps` steps."""

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    (end, _), _ = lax.scan(step, (start, optimizer.init(start)), length=steps)
    return end


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--size", type=int, default=64, help="height and width of the silhouettes in pixels")
    parser.add_argument("--seeds", type=int, default=8, help="directions of displacement")
    parser.add_argument("--views", type=int, default=8, help="number of silhouettes for fitting the sphere")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    figure = plot_comparison()
    for ending in ("png", "svg"):
        figure.savefig(options.out / f"compare_gradients.{ending}", dpi=150)

    offsets = [2**k for k in range(7) if 2**k <= options.size // 2]
    columns = {}
    for gradient, title in tqdm(GRADIENTS.items()):
        silhouette = partial(jnr.render_silhouette, gradient=gradient)
        iou, error = align(silhouette, offsets, options.seeds, options.steps, options.size)
        cells = [
            f"{i.mean():.2f}, {e.mean():.1f} px, {(e < 1).sum()} of {len(e)}" for i, e in zip(iou, error, strict=True)
        ]
        (fitted,) = fit_sphere(silhouette, [0.0], options.steps, options.size, options.views)
        columns[title] = [*cells, f"{fitted:.2f}"]
    print(f"{options.size} x {options.size} pixels, {options.steps} Adam steps; IoU, mean error, runs within a pixel")
    print(f"| task | {' | '.join(columns)} |")
    print("|" + "---|" * (len(columns) + 1))
    tasks = [*(f"small teapot, {offset} px away" for offset in offsets), "sphere to teapot, views not used"]
    for task, *cells in zip(tasks, *columns.values(), strict=True):
        print(f"| {task} | {' | '.join(cells)} |")
    print(f"figure in {options.out}/")


if __name__ == "__main__":
    main()
