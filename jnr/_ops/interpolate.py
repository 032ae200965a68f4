"""Attributes carried from vertices or corners to pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from jnr import _checks
from jnr._ops.rasterize import Fragments
from jnr._xla.geometry import take_where
from jnr._xla.resolve import face_corners

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Float, Int


def interpolate(
    attributes: Float[Array, "vertices channels"] | Float[Array, "faces 3 channels"],
    faces: Int[Array, "faces 3"],
    fragments: Fragments,
    *,
    background: ArrayLike = 0,
) -> Float[Array, "height width channels"]:
    """Interpolates attributes at every pixel, perspective-correct.

    Gradients: reach `attributes`, `background` and, through `fragments.barycentric`, the positions; in forward
    and reverse mode. `fragments.face_index` is a constant, so moving a silhouette changes nothing here.

    Args:
        attributes: One row a vertex, or one a face and corner where faces do not share them.
        faces: Vertex indices of each face.
        fragments: From `rasterize`.
        background: Value of pixels that see no face.

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
    channels = attributes.shape[-1]
    background = _checks.as_background(background, channels, attributes.dtype)
    covered = fragments.face_index >= 0
    if 0 in attributes.shape or faces.shape[0] == 0:
        return jnp.broadcast_to(background, (*covered.shape, channels))
    if attributes.ndim == 2:
        index = face_corners(faces, fragments.face_index, attributes.shape[0])
        table = attributes
    else:
        first = fragments.face_index * 3
        index = [first + k for k in range(3)]
        table = attributes.reshape(-1, channels)
    weights = fragments.barycentric.astype(attributes.dtype)
    # Values of faces that nobody sees may be anything, NaN included.
    values = [take_where(covered, table, i) for i in index]
    total = sum(weights[..., k, None] * values[k] for k in range(3))
    return jnp.where(covered[..., None], total, background)
