"""Figures of gradients: descent directions of vertices, and the vertex motion that single pixels cause.

Needs Matplotlib (`pip install "jnr[examples]"`), which is imported when a figure is made. Pixel coordinates are (x, y),
x to the right and y down, with integers at pixel centres and (0, 0) at the top left pixel.
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
from jnr._camera import Camera, check_camera
from jnr._geometry import check_vertices
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
    vertices: Float[ArrayLike, "vertices 3"],
    faces: Int[ArrayLike, "faces 3"],
    *,
    camera: Camera | None = None,
    image: Float[ArrayLike, "height width channels"] | None = None,
    image_size: int | tuple[int, int] = 256,
    longest: float = 0.15,
    ax: Axes | None = None,
) -> Figure:
    """Draws the descent direction of each vertex, projected to the image, as arrows over an image.

    Args:
        loss: Function of the vertices; reverse mode is used.
        vertices: Positions in world space.
        faces: Vertex indices of each face.
        camera: The view; None is the default of `render`.
        image: Background of the figure, values in [0, 1]; None renders the mesh.
        image_size: Height and width of that rendering, or one int for both; ignored if `image` is given.
        longest: Length of the longest arrow, as a fraction of the image height.
        ax: Axes to draw on; None makes a new figure.

    Returns:
        The figure of the axes.

    Raises:
        ImportError: If Matplotlib is missing.
        TypeError: If an argument is not an array of the right kind of numbers.
        ValueError: If a shape is wrong or an index out of range.
    """
    if not callable(loss):
        raise TypeError(f"loss must be a function of the vertices, got {type(loss).__name__}.")
    axes, camera = _axes(ax), check_camera(camera)
    vertices = check_vertices(vertices)
    faces = _checks.as_faces(faces, vertices.shape[0])
    longest, image_size = _checks.as_number(longest, "longest", least=0), _checks.as_image_size(image_size)
    image = render(vertices, faces, camera=camera, image_size=image_size).rgb if image is None else _as_image(image)
    height, width = image.shape[:2]
    descent = -jax.grad(loss)(vertices)

    def pixels(vertices):
        clip = camera.clip_positions(vertices, width / height)
        return _to_pixels(clip, height, width)

    start, arrow = jax.jvp(pixels, (vertices,), (descent,))
    show_image(axes, image)
    draw_arrows(axes, start, arrow, longest=longest * height)
    return cast("Figure", axes.figure)


def pixel_descents(
    vertices: Float[ArrayLike, "vertices 3"],
    faces: Int[ArrayLike, "faces 3"],
    *,
    brighter: bool = True,
    camera: Camera | None = None,
    image_size: int | tuple[int, int] = 32,
    gradient: GradientName | Gradient = "edge_sweep",
) -> Float[Array, "height width vertices 2"]:
    """Returns the descent directions of all vertices for a silhouette loss at one pixel, for every pixel.

    The loss of a pixel is minus its coverage if `brighter`, else its coverage. There is one backward pass per pixel.

    Args:
        vertices: Positions in world space.
        faces: Vertex indices of each face.
        brighter: Whether the loss rewards coverage (True) or background (False).
        camera: The view; None is the default of `render`.
        image_size: Height and width, or one int for both.
        gradient: Name or function of the visibility gradient, as for `render`.

    Returns:
        Minus the gradient of the pixel's loss by the image position of each vertex, in 1 / pixel; the last axis is
        (right, down).

    Raises:
        TypeError: If an argument is not an array of the right kind of numbers.
        ValueError: If a shape is wrong, an index out of range, or `gradient` None or unknown.
    """
    height, width = _checks.as_image_size(image_size)
    _checks.check_flag(brighter, "brighter")
    clip = check_camera(camera).clip_positions(check_vertices(vertices), width / height)
    faces = _checks.as_faces(faces, clip.shape[0])
    visibility_gradient = as_gradient(gradient, None, None)
    if visibility_gradient is None:
        raise ValueError("gradient must be a name or a function, got None.")
    fragments = rasterize(clip, faces, (height, width))
    alpha = (fragments.face_index >= 0).astype(clip.dtype)[..., None]

    def descent(pixel):
        cotangent = jnp.zeros(height * width, clip.dtype).at[pixel].set(-1.0 if brighter else 1.0)
        grad = visibility_gradient(alpha, cotangent.reshape(height, width, 1), clip, faces, fragments)
        # Chain rule from clip space to NDC (factor w), then to pixels, where y points down.
        return -grad[:, :2] * clip[:, 3:] * jnp.array([[2 / width, -2 / height]], clip.dtype)

    descents = jax.jit(lambda pixels: jax.lax.map(descent, pixels, batch_size=64))(jnp.arange(height * width))
    return descents.reshape(height, width, -1, 2)


def reach_map(
    vertices: Float[ArrayLike, "vertices 3"],
    faces: Int[ArrayLike, "faces 3"],
    *,
    ax: Axes | None = None,
    brightest: float | None = None,
    every: int = 2,
    **options: Any,
) -> Figure:
    """Draws, for every pixel, the magnitude and mean direction of its `pixel_descents`.

    The colour shows the Euclidean norm over all vertices, on a logarithmic scale of three decades; grey means zero. The
    arrows show the direction of the mean over vertices.

    Args:
        vertices: Positions in world space.
        faces: Vertex indices of each face.
        ax: Axes to draw on; None makes a new figure.
        brightest: Norm that is mapped to the brightest colour; None is the largest norm.
        every: Distance between arrows, in pixels.
        options: Further arguments of `pixel_descents`.

    Returns:
        The figure of the axes.

    Raises:
        ImportError: If Matplotlib is missing.
        TypeError: As for `pixel_descents`.
        ValueError: As for `pixel_descents`.
    """
    matplotlib = _matplotlib("matplotlib")
    axes, every = _axes(ax), _checks.as_count(every, "every")
    brightest = None if brightest is None else _checks.as_number(brightest, "brightest", least=0)
    descents = np.asarray(pixel_descents(vertices, faces, **options))
    length = np.linalg.norm(descents, axis=(2, 3))
    brightest = brightest or float(length.max()) or 1.0
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


def show_image(ax: Axes, image: Float[ArrayLike, "height width channels"]) -> None:
    """Draws an image on axes, row 0 at the top and integer coordinates at pixel centres.

    Args:
        ax: Axes to draw on.
        image: Values in [0, 1], clipped; one or three channels.
    """
    _require_axes(ax)
    pixels = np.clip(np.asarray(_as_image(image)), 0, 1)
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
    """Draws arrows in pixel coordinates, scaled to a common maximum length; points that do not move become circles.

    Args:
        ax: Axes to draw on.
        start: Tail of each arrow (right, down), in pixels.
        arrow: Direction of each arrow (right, down). Zero and non-finite ones are drawn as circles.
        longest: Length of the longest arrow, in pixels.
        color: Matplotlib colour.
    """
    tail, direction = _checks.as_float(start, "start"), _checks.as_float(arrow, "arrow")
    _checks.check_shape(direction, "arrow", "points", 2)
    _checks.check_shape(tail, "start", direction.shape[0], 2)
    tail, direction = np.asarray(tail), np.asarray(direction)
    _require_axes(ax)
    longest = _checks.as_number(longest, "longest", least=0)
    if not _matplotlib("matplotlib.colors").is_color_like(color):
        raise ValueError(f"color must be a colour of Matplotlib, got {color!r}.")
    length = np.linalg.norm(direction, axis=1)
    moves = np.isfinite(length) & (length > 0)
    ax.scatter(*tail[~moves].T, s=14, facecolors="none", edgecolors=color, linewidths=1.2, zorder=3)
    if moves.any():
        scaled = direction[moves] * (longest / length[moves].max())
        ax.quiver(
            *tail[moves].T, *scaled.T, angles="xy", scale_units="xy", scale=1, color=color, width=0.018, headwidth=3.6,
            headlength=4, headaxislength=3.6, minlength=0.5, zorder=3,
        )  # fmt: skip


def _to_pixels(clip, height, width):
    x, y, w = pixel_space(clip, height, width)
    return jnp.stack([x / w, y / w], axis=-1)


def _as_image(image) -> jax.Array:
    image = _checks.as_color(image, "image")
    if image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise ValueError(f"image must have shape (height, width, 1) or (height, width, 3), got {image.shape}.")
    return image


def _require_axes(ax):
    if not hasattr(ax, "imshow"):
        raise TypeError(f"ax must be axes of Matplotlib, got {type(ax).__name__}.")


def _axes(ax) -> Axes:
    if ax is not None:
        _require_axes(ax)
        return ax
    figure = _matplotlib("matplotlib.figure").Figure(figsize=(5, 5), layout="constrained")
    return figure.add_subplot()


def _matplotlib(module):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError('jnr.viz needs Matplotlib; pip install "jnr[examples]" installs it.') from error
