"""Neural Renderer's arrays have a leading batch axis; jnr's functions see one item and are mapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jnr import _checks


def over_batch(function: Callable, *arrays: Any, **numbers: tuple[Any, int]) -> Any:
    """`function(*arrays, **numbers)` of each batch item.

    A number comes with how many axes it has for one item. With as many it is shared by the batch, as it is with one
    more of length 1; with one more it has a row for each item.
    """
    batch = arrays[0].shape[0]
    shared, own = {}, {}
    for name, (value, ndim) in numbers.items():
        array = None if value is None else _checks.as_compute(value, name)
        if array is None or array.ndim == ndim:
            # The value as it was given, whose numbers jnr's checks can look at.
            shared[name] = value
        elif array.ndim != ndim + 1 or array.shape[0] not in (1, batch):
            raise ValueError(
                f"{name} must have {ndim} dimensions, or {ndim + 1} with the batch of {batch} first, got shape "
                f"{array.shape}."
            )
        elif array.shape[0] == 1:
            shared[name] = array[0]
        else:
            own[name] = array
    return jax.vmap(lambda arrays, own: function(*arrays, **shared, **own))(arrays, own)


def as_vertices(value: Any) -> jax.Array:
    """Vertices of a batch, (batch, vertices, 3)."""
    vertices = _checks.as_compute(value, "vertices")
    _checks.check_shape(vertices, "vertices", "batch", "vertices", 3)
    return vertices


def as_faces(value: Any, vertices: jax.Array) -> jax.Array:
    """Vertex indices of a batch, (batch, faces, 3)."""
    batch, num_vertices, _ = vertices.shape
    shape = getattr(value, "shape", ())
    if len(shape) != 3 or shape[0] != batch or shape[2] != 3:
        raise ValueError(f"faces must be an array of shape ({batch}, faces, 3), got {shape or type(value).__name__}.")
    return _checks.as_faces(value.reshape(-1, 3), num_vertices).reshape(shape)


def as_soup(value: Any) -> jax.Array:
    """Corners of the faces of a batch, (batch, faces, 3, 3)."""
    faces = _checks.as_compute(value, "faces")
    _checks.check_shape(faces, "faces", "batch", "faces", 3, 3)
    return faces


def as_textures(value: Any, faces: jax.Array) -> jax.Array | None:
    """Texture cubes of a batch, (batch, faces, t, t, t, channels), or None."""
    if value is None:
        return None
    textures = _checks.as_float(value, "textures")
    _checks.check_shape(textures, "textures", *faces.shape[:2], "t", "t", "t", "channels")
    return textures
