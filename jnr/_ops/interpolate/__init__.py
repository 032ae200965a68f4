"""Interpolate: attributes of vertices or corners at each pixel."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Real

from jnr import _checks
from jnr._backend import Backend, check_backend
from jnr._inline_jit import inline_jit
from jnr._ops.barycentrics import visible_corners
from jnr._ops.gather import gather, weighted_gather
from jnr._ops.rasterize import Fragments, check_fragments


def interpolate(
    attributes: Real[ArrayLike, "vertices channels"] | Real[ArrayLike, "faces 3 channels"],
    faces: Int[ArrayLike, "faces 3"],
    fragments: Fragments,
    *,
    background: ArrayLike | Sequence[float] = 0,
    backend: Backend | None = None,
) -> Float[Array, "height width channels"]:
    """Interpolates attributes at every pixel, perspective-correct.

    Gradients: reach `attributes`, `background` and, through `fragments.barycentric`, the positions; in forward and
    reverse mode. `fragments.face_index` is a constant, so a moving silhouette has no gradient here.

    Args:
        attributes: One row per vertex, or one per face and corner where faces do not share them.
        faces: Vertex indices of each face.
        fragments: From `rasterize`.
        background: Value of pixels that see no face: a number, or one value per channel.
        backend: `"xla"`, `"cpu"`, `"triton"`, or None to choose by platform.

    Returns:
        The interpolated values.

    Raises:
        ValueError: If the attributes' shape fits neither the vertices nor the faces.
        TypeError: If an argument is not an array of the right kind of numbers.
    """
    attributes = as_attributes(attributes)
    faces = _checks.as_faces(faces, attributes.shape[0] if attributes.ndim == 2 else 2**31 - 1)
    check_attributes(attributes, attributes.shape[0], faces.shape[0])
    fragments = check_fragments(fragments)
    check_backend(backend)
    if not _checks.is_zero(background):
        background = _checks.as_background(background, attributes.shape[-1], attributes.dtype)
        covered = (fragments.face_index >= 0)[..., None]
        values = interpolate_unchecked(attributes, faces, fragments, backend=backend)
        return jnp.where(covered, values, background)
    return interpolate_unchecked(attributes, faces, fragments, backend=backend)


def as_attributes(attributes: ArrayLike) -> jax.Array:
    """An array of floats per vertex or per face and corner."""
    attributes = _checks.as_float(attributes, "attributes")
    if attributes.ndim not in (2, 3):
        raise ValueError(
            f"attributes must have shape (vertices, channels) or (faces, 3, channels), got {attributes.shape}."
        )
    return attributes


def check_attributes(attributes: jax.Array, num_vertices: int, num_faces: int) -> None:
    """Raises unless the attributes match the mesh."""
    rows = (num_vertices,) if attributes.ndim == 2 else (num_faces, 3)
    _checks.check_shape(attributes, "attributes", *rows, "channels")


@inline_jit("backend")
def interpolate_unchecked(
    attributes: jax.Array, faces: jax.Array, fragments: Fragments, *, backend: Backend | None
) -> jax.Array:
    """`interpolate` for arguments that have been checked, zero on background."""
    channels, dtype = attributes.shape[-1], attributes.dtype
    covered = fragments.face_index >= 0
    if 0 in attributes.shape or faces.shape[0] == 0:
        return jnp.zeros((*covered.shape, channels), dtype)
    # Values of faces that no pixel sees may be NaN. 16-bit values are rounded once, at the end.
    attributes = _checks.widened(attributes)
    if attributes.ndim == 2 and faces.size <= covered.size:
        # Fewer corners than pixels: gathered once, so that a pixel reads its face's index alone.
        attributes = gather(attributes, faces, backend=backend)
    if attributes.ndim == 2:
        index = visible_corners(faces, fragments.face_index, backend=backend)
    else:
        index = fragments.face_index[..., None]
    total = weighted_gather(attributes.reshape(-1, channels), fragments.barycentric, index, backend=backend)
    return total.astype(dtype)
