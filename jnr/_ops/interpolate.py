"""Attributes carried from vertices or corners to pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from jnr import _checks
from jnr._backend import Backend, check_backend
from jnr._ops.rasterize import Fragments
from jnr._ops.resolve import face_corners
from jnr._ops.rows import blend_rows, take_rows
from jnr._program import program

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Float, Int


def interpolate(
    attributes: Float[Array, "vertices channels"] | Float[Array, "faces 3 channels"],
    faces: Int[Array, "faces 3"],
    fragments: Fragments,
    *,
    background: ArrayLike = 0,
    backend: Backend | None = None,
) -> Float[Array, "height width channels"]:
    """Interpolates attributes at every pixel, perspective-correct.

    Gradients: reach `attributes`, `background` and, through `fragments.barycentric`, the positions; in forward
    and reverse mode. `fragments.face_index` is a constant, so moving a silhouette changes nothing here.

    Args:
        attributes: One row a vertex, or one a face and corner where faces do not share them.
        faces: Vertex indices of each face.
        fragments: From `rasterize`.
        background: Value of pixels that see no face.
        backend: `"xla"`, `"cpu"`, `"triton"`, `"interpret"`, or None to choose by platform.

    Returns:
        The interpolated values.

    Raises:
        ValueError: If the attributes' shape fits neither the vertices nor the faces.
        TypeError: If an argument is not an array of the right kind of numbers.
    """
    attributes = _checks.as_float(attributes, "attributes")
    if attributes.ndim not in (2, 3):
        raise ValueError(
            f"attributes must have shape (vertices, channels) or (faces, 3, channels), got {attributes.shape}."
        )
    num_vertices = attributes.shape[0] if attributes.ndim == 2 else 2**31 - 1
    faces = _checks.as_faces(faces, num_vertices)
    if attributes.ndim == 3:
        _checks.check_shape(attributes, "attributes", faces.shape[0], 3, "channels")
    check_backend(backend)
    plain = _checks.is_zero(background)
    background = _checks.as_background(background, attributes.shape[-1], attributes.dtype)
    return _interpolate(attributes, faces, fragments, background, plain=plain, backend=backend)


@program("plain", "backend")
def _interpolate(attributes, faces, fragments, background, *, plain, backend):
    channels = attributes.shape[-1]
    covered = fragments.face_index >= 0
    if 0 in attributes.shape or faces.shape[0] == 0:
        return jnp.broadcast_to(background, (*covered.shape, channels))
    # Values of faces that nobody sees may be anything, NaN included. 16-bit ones are rounded once, at the end.
    attributes = _checks.as_compute(attributes, "attributes")
    if attributes.ndim == 2 and faces.size <= covered.size:
        # Fewer corners than pixels: brought together once, so that a pixel reads its face's index alone.
        attributes = take_rows(attributes, faces, backend=backend)
    if attributes.ndim == 2:
        index = face_corners(faces, fragments.face_index, backend=backend)
    else:
        index = fragments.face_index[..., None]
    total = blend_rows(attributes.reshape(-1, channels), fragments.barycentric, index, backend=backend)
    total = total.astype(background.dtype)
    return total if plain else jnp.where(covered[..., None], total, background)
