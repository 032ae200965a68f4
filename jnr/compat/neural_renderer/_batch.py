"""Batching: Neural Renderer's arrays have a leading batch axis, over which jnr's functions are mapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jnr import _checks


def over_batch(function: Callable, *arrays: Any, **settings: tuple[Any, int]) -> Any:
    """Maps `function(*arrays, **settings)` over the batch.

    Args:
        function: Called with one batch item of every argument.
        arrays: Arrays with a leading batch axis. If it has length 1, they are shared by the items of the settings.
        settings: Pairs of a value and its number of axes for one item. A value with this number of axes, or with one
            more of length 1, is shared by all items. A value with one more axis is split over the batch.

    Returns:
        The results of all items, stacked.

    Raises:
        ValueError: If a setting has neither number of axes, or another batch size, or is not finite.
    """
    batch, shared, per_item = arrays[0].shape[0], {}, {}
    for name, (value, ndim) in settings.items():
        array = None if value is None else _as_setting(value, name)
        if array is None or array.ndim == ndim:
            # The argument itself, so that jnr's checks see concrete values.
            shared[name] = value
        elif array.ndim == ndim + 1 and array.shape[0] == 1:
            shared[name] = array[0]
        elif array.ndim == ndim + 1 and batch in (1, array.shape[0]):
            batch, per_item[name] = array.shape[0], array
        else:
            raise ValueError(
                f"{name} must have {ndim} axes, or {ndim + 1} axes of which the first is the batch of length {batch} "
                f"or 1, got shape {array.shape}."
            )
    if arrays[0].shape[0] == batch:
        return jax.vmap(lambda arrays, per_item: function(*arrays, **shared, **per_item))(arrays, per_item)
    mesh = jax.tree.map(lambda array: array[0], arrays)
    return jax.vmap(lambda per_item: function(*mesh, **shared, **per_item))(per_item)


def _as_setting(value, name):
    array = _checks.as_compute(value, name)
    _checks.check_finite(value, name)
    return array


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
    textures = _checks.as_color(value, "textures")
    _checks.check_shape(textures, "textures", *faces.shape[:2], "t", "t", "t", "channels")
    return textures


def corners(faces: Float[Array, "faces 3 3"]) -> Int[Array, "faces 3"]:
    """Returns the vertex indices of faces that share no vertices: 0, 1, 2; 3, 4, 5; and so on."""
    return jnp.asarray(np.arange(3 * faces.shape[0], dtype=np.int32).reshape(-1, 3))
