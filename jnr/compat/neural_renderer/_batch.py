"""Batching: Neural Renderer's arrays have a leading batch axis, over which jnr's functions are mapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jnr import _checks


def over_batch(function: Callable, *arrays: Any, **settings: tuple[Any, int]) -> Any:
    """Maps `function(*arrays, **settings)` over the batch.

    Args:
        function: Called with one batch item of every argument.
        arrays: Arrays with a leading batch axis.
        settings: Pairs of a value and its number of axes for one item. A value with this number of axes, or with one
            more of length 1, is shared by all items. A value with one more axis is split over the batch.

    Returns:
        The results of all items, stacked.

    Raises:
        ValueError: If a setting has neither number of axes, or another batch size.
    """
    batch = arrays[0].shape[0]
    shared, per_item = {}, {}
    for name, (value, ndim) in settings.items():
        array = None if value is None else _checks.as_compute(value, name)
        if array is None or array.ndim == ndim:
            # The argument itself, so that jnr's checks see concrete values.
            shared[name] = value
        elif array.ndim != ndim + 1 or array.shape[0] not in (1, batch):
            raise ValueError(
                f"{name} must have {ndim} axes, or {ndim + 1} axes of which the first is the batch of length {batch} "
                f"or 1, got shape {array.shape}."
            )
        elif array.shape[0] == 1:
            shared[name] = array[0]
        else:
            per_item[name] = array
    return jax.vmap(lambda arrays, per_item: function(*arrays, **shared, **per_item))(arrays, per_item)


def as_vertices(value: Any) -> jax.Array:
    """Returns the vertices of a batch, (batch, vertices, 3)."""
    vertices = _checks.as_compute(value, "vertices")
    _checks.check_shape(vertices, "vertices", "batch", "vertices", 3)
    return vertices


def as_faces(value: Any, vertices: jax.Array) -> jax.Array:
    """Returns the vertex indices of a batch, int32 (batch, faces, 3)."""
    batch, num_vertices, _ = vertices.shape
    shape = getattr(value, "shape", ())
    if len(shape) != 3 or shape[0] != batch or shape[2] != 3:
        raise ValueError(f"faces must be an array of shape ({batch}, faces, 3), got {shape or type(value).__name__}.")
    return _checks.as_faces(value.reshape(-1, 3), num_vertices).reshape(shape)


def as_soup(value: Any) -> jax.Array:
    """Returns the face corners of a batch, (batch, faces, 3, 3): faces without shared vertices."""
    faces = _checks.as_compute(value, "faces")
    _checks.check_shape(faces, "faces", "batch", "faces", 3, 3)
    return faces


def as_textures(value: Any, faces: jax.Array) -> jax.Array | None:
    """Returns the texture cubes of a batch, (batch, faces, t, t, t, channels), or None."""
    if value is None:
        return None
    textures = _checks.as_float(value, "textures")
    _checks.check_shape(textures, "textures", *faces.shape[:2], "t", "t", "t", "channels")
    return textures
