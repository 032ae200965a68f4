"""Figures that show what a gradient does: arrows on vertices, and how far single pixels reach.

Needs Matplotlib, which `pip install "jnr[examples]"` brings; it is imported when a figure is made.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from jnr import _checks
from jnr._camera import Camera
from jnr._ops.pixel_space import pixel_space
from jnr._ops.rasterize import rasterize
from jnr._ops.visibility import Gradient
from jnr._render import GradientName, as_gradient, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    # Matplotlib is optional; without it the annotations still resolve.
    Axes = Figure = Any


def descent_arrows(
    loss: Callable[[Float[Array, "vertices 3"]], Float[Array, ""]],
    vertices: Float[Array, "vertices 3"],
    faces: Int[Array, "faces 3"],
    *,
    camera: Camera | None = None,
    image: Float[Array, "height width channels"] | None = None,
    image_size: int | tuple[int, int] = 256,
    longest: float = 0.15,
    ax: Axes | None = None,
) -> Figure:
    """Draws the way each vertex would move down the gradient of a loss, over an image.

    Args:
        loss: Of the vertices alone.
        vertices: Positions in the world.
        faces: Vertex indices of each face.
        camera: The view; None is `render`'s.
        image: What to draw the arrows on, values from 0 to 1; None renders the mesh.
        image_size: Of that rendering; ignored with `image`.
        longest: Length of the longest arrow, in heights of the image.
        ax: Where to draw; None makes a figure.

    Returns:
        The figure.

    Raises:
        ImportError: If Matplotlib is missing.
    """
    camera = Camera() if camera is None else camera
    if image is None:
        image = render(vertices, faces, camera=camera, image_size=image_size).rgb
    height, width = image.shape[:2]
    vertices = _checks.as_compute(vertices, "vertices")
    descent = -jax.grad(loss)(vertices)

    def pixels(vertices):
        clip = camera.clip_positions(vertices, width / height)
        return _to_pixels(clip, height, width)

    start, arrow = jax.jvp(pixels, (vertices,), (descent,))
    axes = _axes(ax)
    show_image(axes, image)
    draw_arrows(axes, start, arrow, longest=longest * height)
    return cast("Figure", axes.figure)


def pixel_descents(
    vertices: Float[Array, "vertices 3"],
    faces: Int[Array, "faces 3"],
    *,
    brighter: bool = True,
    camera: Camera | None = None,
    image_size: int | tuple[int, int] = 32,
    gradient: GradientName | Gradient = "edge_sweep",
) -> Float[Array, "height width vertices 2"]:
    """For each pixel, how the vertices would move if the silhouette should change at this pixel alone.

    Args:
        vertices: Positions in the world.
        faces: Vertex indices of each face.
        brighter: Whether the pixel should be brighter (covered) or darker.
        camera: The view; None is `render`'s.
        image_size: Height and width, or one int for both; the work grows with its square.
        gradient: A gradient's name or function, as for `render`.

    Returns:
        Minus the gradient of the pixel's loss, which falls by 1 as its coverage rises (or falls) by 1, per pixel that
        a vertex moves to the right and down.
    """
    height, width = _checks.as_image_size(image_size)
    camera = Camera() if camera is None else camera
    clip = camera.clip_positions(_checks.as_compute(vertices, "vertices"), width / height)
    faces = _checks.as_faces(faces, clip.shape[0])
    pull = as_gradient(gradient, None, None)
    if pull is None:
        raise ValueError("gradient must be a name or a function, got None.")
    fragments = rasterize(clip, faces, (height, width))
    alpha = (fragments.face_index >= 0).astype(clip.dtype)[..., None]

    def descent(pixel):
        cotangent = jnp.zeros(height * width, clip.dtype).at[pixel].set(-1.0 if brighter else 1.0)
        grad = pull(alpha, cotangent.reshape(height, width, 1), clip, faces, fragments)
        # From clip space to NDC, then to pixels, y down.
        return -grad[:, :2] * clip[:, 3:] * jnp.array([2 / width, -2 / height], clip.dtype)

    descents = jax.jit(lambda pixels: jax.lax.map(descent, pixels, batch_size=64))(jnp.arange(height * width))
    return descents.reshape(height, width, -1, 2)


def reach_map(
    vertices: Float[Array, "vertices 3"],
    faces: Int[Array, "faces 3"],
    *,
    ax: Axes | None = None,
    brightest: float | None = None,
    every: int = 2,
    **options: Any,
) -> Figure:
    """Draws how strongly, and which way on the whole, each pixel alone would move the vertices.

    Colour is the length of the descent of all vertices together, on a logarithmic scale over three decades and grey
    where it is zero; arrows are the direction of its mean.

    Args:
        vertices: Positions in the world.
        faces: Vertex indices of each face.
        ax: Where to draw; None makes a figure.
        brightest: Length that gets the brightest colour; None is the longest.
        every: Pixels from arrow to arrow.
        options: As for `pixel_descents`.

    Returns:
        The figure.

    Raises:
        ImportError: If Matplotlib is missing.
    """
    matplotlib = _matplotlib("matplotlib")
    descents = np.asarray(pixel_descents(vertices, faces, **options))
    length = np.linalg.norm(descents, axis=(2, 3))
    brightest = brightest or float(length.max()) or 1.0
    axes = _axes(ax)
    decades = np.log10(np.maximum(length / brightest, 1e-3)) / 3 + 1
    axes.imshow(np.where(length[..., None] > 0, matplotlib.colormaps["viridis"](decades), (0.85, 0.85, 0.85, 1.0)))
    mean = descents.mean(axis=2)[every // 2 :: every, every // 2 :: every]
    norm = np.linalg.norm(mean, axis=-1, keepdims=True)
    unit = np.divide(mean, norm, out=np.zeros_like(mean), where=norm > 0)
    row, column = (index * every + every // 2 for index in np.indices(mean.shape[:2]))
    keep = norm[..., 0] > 0
    axes.quiver(
        column[keep], row[keep], unit[keep][:, 0], unit[keep][:, 1], angles="xy", scale_units="xy", scale=0.65,
        pivot="mid", color="white", edgecolor="black", linewidth=0.4, width=0.011, headwidth=4, headlength=4,
        headaxislength=3.5,
    )  # fmt: skip
    axes.set(xticks=[], yticks=[])
    return cast("Figure", axes.figure)


def show_image(ax: Axes, image: Float[Array, "height width channels"]) -> None:
    """Draws an image with values from 0 to 1, row 0 at the top and integers at pixel centres."""
    pixels = np.clip(np.asarray(image), 0, 1)
    ax.imshow(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), interpolation="nearest")
    ax.set(xticks=[], yticks=[])


def draw_arrows(
    ax: Axes,
    start: Float[ArrayLike, "points 2"],
    arrow: Float[ArrayLike, "points 2"],
    *,
    longest: float,
    color: str = "tab:red",
) -> None:
    """Draws arrows given in pixels, right and down, the longest of a given length; points that stay are dots."""
    tail, way = np.asarray(start), np.asarray(arrow)
    length = np.linalg.norm(way, axis=1)
    moves = np.isfinite(length) & (length > 0)
    ax.scatter(*tail[~moves].T, s=14, facecolors="none", edgecolors=color, linewidths=1.2, zorder=3)
    if moves.any():
        scaled = way[moves] * (longest / length[moves].max())
        ax.quiver(
            *tail[moves].T, *scaled.T, angles="xy", scale_units="xy", scale=1, color=color, width=0.018, headwidth=3.6,
            headlength=4, headaxislength=3.6, minlength=0.5, zorder=3,
        )  # fmt: skip


def _to_pixels(clip, height, width):
    x, y, w = pixel_space(clip, height, width)
    return jnp.stack([x / w, y / w], axis=-1)


def _axes(ax) -> Axes:
    if ax is not None:
        return ax
    figure = _matplotlib("matplotlib.figure").Figure(figsize=(5, 5), layout="constrained")
    return figure.add_subplot()


def _matplotlib(module):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError('jnr.viz needs Matplotlib; pip install "jnr[examples]" brings it.') from error
