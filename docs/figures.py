"""Draws the documentation's figures.

    python docs/figures.py

The images of getting-started.md come from running the code of that page; the others are drawn here.
"""

import contextlib
import re
import shutil
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

import jnr
from jnr import viz

DOCS = Path(__file__).parent
IMAGES = DOCS / "images"


def run_page(page):
    """Runs a page's Python blocks in order and copies the images that the page shows."""
    text = (DOCS / f"{page}.md").read_text()
    shown = re.findall(rf"\(images/{page}/([\w-]+\.png)\)", text)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        names = {"__name__": "__main__"}
        for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            exec(block, names)
        (IMAGES / page).mkdir(parents=True, exist_ok=True)
        for name in shown:
            shutil.copy(name, IMAGES / page / name)


# Counter-clockwise seen from FRONT, in the plane z = 0.
TRIANGLE = jnp.array([[-0.78, -0.62, 0.0], [0.8, -0.2, 0.0], [-0.1, 0.7, 0.0]])
FRONT = jnr.Camera(jnr.LookAt((0.0, 0.0, 2.0)), jnr.Orthographic())
AXES = {"x": "tab:red", "y": "tab:green", "z": "tab:blue"}


def to_pixels(camera, vertices, height, width):
    """Returns the columns and rows of world positions in an image."""
    x, y, _, w = camera.clip_positions(vertices, width / height).T
    return np.stack([(x / w + 1) * width / 2 - 0.5, (1 - y / w) * height / 2 - 0.5], axis=-1)


def draw_world(ax):
    """Draws three bars along the world's axes, rendered by jnr."""
    camera = jnr.Camera(jnr.LookAt((1.5, 1.0, 2.5), at=(0.3, 0.35, 0.3)), jnr.Perspective(fov=44))
    cube = jnr.shapes.cube()
    bars = []
    for axis, color in enumerate([(0.84, 0.15, 0.16), (0.17, 0.63, 0.17), (0.12, 0.47, 0.71)]):
        size = jnp.full(3, 0.05).at[axis].set(1.0)
        vertices = cube.vertices * size + jnp.zeros(3).at[axis].set(0.5)
        bars.append(jnr.Mesh(vertices, cube.faces, jnp.tile(jnp.array(color), (8, 1))))
    viz.show_image(ax, jnr.render(*jnr.concatenate(bars), camera=camera, antialias=3, background=1.0).rgb)
    for name, place in zip(AXES, to_pixels(camera, 1.14 * jnp.eye(3), 256, 256), strict=True):
        ax.text(*place, name, color=AXES[name], ha="center", va="center", fontsize=15)
    ax.set_title("world: right-handed")


def draw_ndc(ax, vertices, aspect):
    x, y, _, w = FRONT.clip_positions(vertices, aspect).T
    ax.add_patch(Rectangle((-1, -1), 2, 2, fill=False, edgecolor="0.6"))
    ax.add_patch(Polygon(np.stack([x / w, y / w], axis=-1), facecolor="0.8", edgecolor="tab:orange", linewidth=2))
    for name, end in (("x", (1.25, 0)), ("y", (0, 1.25))):
        ax.annotate("", end, (0, 0), arrowprops={"arrowstyle": "->", "color": AXES[name], "linewidth": 1.5})
        ax.text(*(1.09 * np.array(end)), name, color=AXES[name], ha="center", va="center", fontsize=15)
    for corner in (-1, 1):
        ax.text(1.05 * corner, -1.17, f"({corner}, -1)", ha="center", color="0.4")
        ax.text(1.05 * corner, 1.08, f"({corner}, 1)", ha="center", color="0.4")
    ax.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal", title="NDC: x right, y up")
    ax.set_axis_off()


def draw_image(ax, vertices, height, width):
    alpha = jnr.render_silhouette(vertices, jnp.array([[0, 1, 2]]), camera=FRONT, image_size=(height, width))
    viz.show_image(ax, 0.97 - 0.22 * alpha[..., None])
    row, column = np.indices((height, width))
    ax.scatter(column, row, s=7, color="0.35", zorder=3)
    ax.add_patch(Polygon(to_pixels(FRONT, vertices, height, width), fill=False, edgecolor="tab:orange", linewidth=2))
    ax.set(xticks=range(width), yticks=range(height), xlabel="column", ylabel="row", title=f"image: {height} x {width}")
    ax.xaxis.set(ticks_position="top", label_position="top")
    ax.set_xticks(np.arange(width + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(height + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="0.8", linewidth=0.8)
    ax.tick_params(which="both", length=0)


def draw_spaces():
    """Draws the world's axes, and one triangle in NDC and in an image."""
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    world, ndc, image = figure.subplots(1, 3)
    draw_world(world)
    draw_ndc(ndc, TRIANGLE, 8 / 6)
    draw_image(image, TRIANGLE, 6, 8)
    return figure


def draw_side(ax, camera, title):
    """Draws a face with its corners numbered and arrows in their order."""
    size = 128
    colors = {"camera": camera, "image_size": size, "background": 1.0, "antialias": 2, "lights": ()}
    face = jnp.array([[0, 1, 2]])
    grey = jnp.full((3, 3), 0.8)
    viz.show_image(ax, jnr.render(TRIANGLE, face, grey, **colors).rgb)
    corners = to_pixels(camera, TRIANGLE, size, size)
    middle = corners.mean(axis=0)
    for k in range(3):
        tail, head = (middle + 0.62 * (corners[j % 3] - middle) for j in (k, k + 1))
        way = {"arrowstyle": "->", "color": "tab:orange", "linewidth": 2, "connectionstyle": "arc3,rad=0.0"}
        ax.annotate("", head, tail, arrowprops=way)
        ax.text(*(middle + 1.1 * (corners[k] - middle)), str(k), ha="center", va="center", fontsize=13)
    ax.set(title=title)


def draw_faces():
    """Draws both sides of a face, barycentric weights as colours, and the face index of each pixel."""
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    front, back, weights, index = figure.subplots(1, 4)
    draw_side(front, FRONT, "front: counter-clockwise")
    draw_side(back, jnr.Camera(jnr.LookAt((0.0, 0.0, -2.0)), jnr.Orthographic()), "back: clockwise")

    face = jnp.array([[0, 1, 2]])
    fragments = jnr.rasterize(FRONT.clip_positions(TRIANGLE), face, (128, 128))
    viz.show_image(weights, jnp.where(fragments.face_index[..., None] >= 0, fragments.barycentric, 1.0))
    corners = to_pixels(FRONT, TRIANGLE, 128, 128)
    for k, corner in enumerate(corners):
        place = corners.mean(axis=0) + 1.1 * (corner - corners.mean(axis=0))
        weights.text(*place, str(k), ha="center", va="center", fontsize=13)
    weights.set(title="barycentric")

    vertices = jnp.array([[-0.9, -0.8, 0.0], [0.8, -0.6, 0.0], [-0.5, 0.8, 0.0], [0.9, 0.75, 0.0]])
    faces = jnp.array([[0, 1, 2], [1, 3, 2]])
    size = 10
    seen = np.asarray(jnr.rasterize(FRONT.clip_positions(vertices), faces, (size, size)).face_index)
    viz.show_image(index, jnp.array([[0.65, 0.8, 0.95], [0.98, 0.8, 0.6], [1.0, 1.0, 1.0]])[seen])
    for row, column in np.ndindex(size, size):
        color = "0.7" if seen[row, column] < 0 else "0.1"
        index.text(column, row, str(seen[row, column]), ha="center", va="center", color=color, fontsize=9)
    for corners in to_pixels(FRONT, vertices, size, size)[np.asarray(faces)]:
        index.add_patch(Polygon(corners, fill=False, edgecolor="tab:orange", linewidth=1.5))
    index.set(title="face_index")
    return figure


def draw_sweep():
    """Draws the crossing of an edge with a row of an image, and a vertex's gradient step for each pixel of the row."""
    height, width, row = 10, 20, 5
    pixels = np.array([[9.3, 1.0], [13.2, 8.6], [2.2, 6.0]])  # columns and rows of a, b and c
    ndc = np.stack([(2 * pixels[:, 0] + 1) / width - 1, 1 - (2 * pixels[:, 1] + 1) / height], axis=-1)
    vertices = jnp.asarray(np.append(ndc * [width / height, 1], np.zeros((3, 1)), axis=1), jnp.float32)
    faces = jnp.array([[0, 2, 1]])
    options = {"camera": FRONT, "image_size": (height, width)}

    figure = Figure(figsize=(9, 7), layout="constrained")
    image, pull = figure.subplots(2, 1, sharex=True, height_ratios=(2.1, 1))
    alpha = jnr.render_silhouette(vertices, faces, **options)
    shade = 0.97 - 0.22 * alpha[..., None]
    viz.show_image(image, shade)
    image.set_xticks(np.arange(width + 1) - 0.5, minor=True)
    image.set_yticks(np.arange(height + 1) - 0.5, minor=True)
    image.grid(which="minor", color="0.85", linewidth=0.6)
    image.tick_params(which="both", length=0, labelbottom=False)
    image.add_patch(Polygon(pixels, fill=False, edgecolor="0.4", linewidth=1.2))
    for name, corner, shift in zip("abc", pixels, [(0, -0.6), (0.6, 0), (-0.6, 0)], strict=True):
        image.text(*(corner + shift), name, ha="center", va="center", fontsize=14)
    image.add_patch(Rectangle((-0.5, row - 0.5), width, 1, fill=False, edgecolor="tab:blue", linewidth=2))
    share = (row - pixels[0, 1]) / (pixels[1, 1] - pixels[0, 1])  # movement of the crossing per movement of b
    crossing = pixels[0, 0] + share * (pixels[1, 0] - pixels[0, 0])
    image.plot(crossing, row, "o", color="tab:red", zorder=4)
    for text, column, place in (("in-pixel", 11, 8.2), ("crossing", crossing, 11.6), ("out-pixel", 12, 14.8)):
        arrow = {"arrowstyle": "-", "color": "0.3"}
        image.annotate(
            text, (column, row), (place, 2.6), ha="center", va="center", arrowprops=arrow, zorder=5,
            bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none"},
        )  # fmt: skip
        image.plot(column, row, ".", color="0.3", zorder=3)

    inside, outside = (viz.pixel_descents(vertices, faces, brighter=b, **options) for b in (False, True))
    on_face = np.asarray(alpha[row]) > 0
    measured = np.where(on_face, inside[row, :, 1, 0], outside[row, :, 1, 0])
    pull.bar(np.arange(width)[on_face], measured[on_face], color="0.45", label="on the face: should be darker")
    pull.bar(np.arange(width)[~on_face], measured[~on_face], color="tab:orange", label="outside: should be brighter")
    j = np.arange(width) - crossing
    formula = np.sign(j) * share / (np.abs(j) + 1e-3 * width / 2 * share)
    shown = (measured != 0) | (j > 0)
    pull.plot(np.arange(width)[shown], formula[shown], "_", color="tab:red", markersize=14, label="formula")
    pull.axhline(0, color="0.7", linewidth=0.8)
    pull.set(ylabel="step of b to the right", xlabel="column of the single pixel that should change")
    pull.set_xticks(range(width))
    pull.tick_params(which="minor", length=0)
    pull.legend(frameon=False, loc="upper left")
    return figure


def save(figure, name):
    path = IMAGES / name
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def main():
    save(draw_spaces(), "conventions/spaces.png")
    save(draw_faces(), "conventions/faces.png")
    save(draw_sweep(), "gradients/sweep.png")
    run_page("getting-started")


if __name__ == "__main__":
    main()
