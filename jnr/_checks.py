"""Validation of public arguments. Every message names the argument, the rule and the value received."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def is_concrete(value: Any) -> bool:
    """Whether the values are known now: False if any leaf is traced."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))


def as_float(value: Any, name: str) -> jax.Array:
    """Returns a floating point array; integers are converted to the default float dtype."""
    array = _as_array(value, name)
    if jnp.issubdtype(array.dtype, jnp.integer):
        array = array.astype(jnp.result_type(float))
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}.")
    return array


def as_compute(value: Any, name: str) -> jax.Array:
    """Returns a float32 or float64 array, the dtypes jnr computes in; narrower floats are widened to float32."""
    return widened(as_float(value, name))


def widened(array: jax.Array) -> jax.Array:
    """Returns floats narrower than float32 as float32."""
    return array if array.dtype in (jnp.float32, jnp.float64) else array.astype(jnp.float32)


def check_shape(array: jax.Array, name: str, *shape: int | str) -> None:
    """Raises ValueError unless `array` has this shape; a string stands for an axis of any size."""
    fits = array.ndim == len(shape) and all(
        isinstance(expected, str) or expected == size for expected, size in zip(shape, array.shape, strict=False)
    )
    if not fits:
        expected_shape = ", ".join(str(s) for s in shape) + ("," if len(shape) == 1 else "")
        raise ValueError(f"{name} must have shape ({expected_shape}), got {array.shape}.")


def as_faces(faces: Any, num_vertices: int) -> jax.Array:
    """Returns an int32 array `(faces, 3)`. Concrete indices are checked to be in range; -1 is padding."""
    return as_indices(faces, "faces", 3, num_vertices, "vertex indices", lowest=-1)


def as_indices(value: Any, name: str, columns: int, size: int, what: str, *, lowest: int = 0) -> jax.Array:
    """Returns an int32 array with `columns` columns. Concrete values are checked to lie in [lowest, size)."""
    array = _as_array(value, name)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}.")
    check_shape(array, name, name, columns)
    # Checks `value`, not `array`: under jit, jnp.asarray of a constant is traced.
    if is_concrete(value) and array.size:
        indices = np.asarray(value)
        low, high = int(indices.min()), int(indices.max())
        if low < lowest or high >= size:
            padding = " (or -1 for padding)" if lowest < 0 else ""
            raise ValueError(f"{name} must hold {what} from 0 to {size - 1}{padding}, got {low} to {high}.")
    return array.astype(jnp.int32)


def as_numbers(value: Any, name: str, length: int, size: int, what: str) -> jax.Array:
    """Returns an int32 array of `length` indices. Concrete values are checked to lie in [0, size)."""
    array = _as_array(value, name)
    check_shape(array, name, length)
    column = np.asarray(value)[:, None] if is_concrete(value) else array[:, None]
    return as_indices(column, name, 1, size, what)[:, 0]


def as_count(value: Any, name: str) -> int:
    """Returns an int that is at least 1."""
    try:
        count = _as_int(value)
    except TypeError as error:
        raise TypeError(f"{name} must be an int, got {value!r}.") from error
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {value!r}.")
    return count


def _as_int(value):
    """Converts any integer type to int; raises TypeError for bool and everything else."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError("bool is not accepted as an int")
    return operator.index(value)


def as_image_size(image_size: Any) -> tuple[int, int]:
    """Returns (height, width) from an int or a pair of ints."""
    is_pair = isinstance(image_size, (tuple, list, np.ndarray)) and np.ndim(image_size) > 0
    sizes = tuple(image_size) if is_pair else (image_size, image_size)
    rule = f"image_size must be an int or a (height, width) pair of ints, got {image_size!r}."
    if len(sizes) != 2:
        raise ValueError(rule)
    try:
        height, width = (_as_int(size) for size in sizes)
    except TypeError as error:
        raise TypeError(rule) from error
    if height < 1 or width < 1:
        raise ValueError(f"image_size must be at least 1 per axis, got {image_size!r}.")
    if height * width > 2**30:
        raise ValueError(f"image_size must be at most 2**30 pixels in total, got {height} x {width}.")
    return height, width


def as_background(value: Any, channels: int, dtype: Any, *, image_size: tuple[int, int] | None = None) -> jax.Array:
    """Returns a background: a scalar, one value per channel or, if `image_size` is given, an image of that size."""
    background = as_float(value, "background").astype(dtype)
    if image_size is not None and background.ndim == 3:
        check_shape(background, "background", *image_size, channels)
    elif background.ndim > 1 or background.size not in (1, channels):
        image = "" if image_size is None else ", or be an image"
        raise ValueError(
            f"background must be a number or have one value for each of the {channels} channels{image}, "
            f"got shape {background.shape}."
        )
    return background


def is_zero(background: Any) -> bool:
    """Whether `background` is the Python number 0, so that no background has to be added to an image."""
    return isinstance(background, (int, float)) and background == 0


def check_choice(value: Any, name: str, choices: tuple, *, others: str = "") -> None:
    """Raises ValueError unless `value` is one of `choices`; `others` names further accepted values in the message."""
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        others = f" or {others}" if others else ""
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}{others}, got {value!r}.")


def check_finite(value: Any, name: str) -> None:
    """Raises ValueError if a concrete value holds infinity or NaN; traced values pass."""
    if is_concrete(value) and not np.all(np.isfinite(np.asarray(value))):
        raise ValueError(f"{name} must be finite, got {np.asarray(value).tolist()}.")


def _as_array(value, name):
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of numbers, got {type(value).__name__}.") from error
