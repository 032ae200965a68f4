"""Checks of what users pass in. Every message names the argument, the rule and what was got."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def is_concrete(value: Any) -> bool:
    """Whether the numbers can be looked at, which a traced array's cannot."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))


def as_float(value: Any, name: str) -> jax.Array:
    """An array of floating point numbers; integers become the default float."""
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
    """Raises unless `array` has the shape, in which a string stands for any size."""
    fits = array.ndim == len(shape) and all(
        isinstance(want, str) or want == size for want, size in zip(shape, array.shape, strict=False)
    )
    if not fits:
        wanted = ", ".join(str(s) for s in shape) + ("," if len(shape) == 1 else "")
        raise ValueError(f"{name} must have shape ({wanted}), got {array.shape}.")


def as_faces(faces: Any, num_vertices: int) -> jax.Array:
    """An int32 array `(faces, 3)` whose indices, where they can be looked at, are in range."""
    return as_indices(faces, "faces", 3, num_vertices, "vertex indices", lowest=-1)


def as_indices(value: Any, name: str, columns: int, size: int, what: str, *, lowest: int = 0) -> jax.Array:
    """An int32 array of so many columns whose numbers, where they can be looked at, index `size` things."""
    array = _as_array(value, name)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}.")
    check_shape(array, name, name, columns)
    # The value as it was given: under jit even a constant's array is traced.
    if is_concrete(value) and array.size:
        numbers = np.asarray(value)
        low, high = int(numbers.min()), int(numbers.max())
        if low < lowest or high >= size:
            padding = " (or -1 for padding)" if lowest < 0 else ""
            raise ValueError(f"{name} must hold {what} from 0 to {size - 1}{padding}, got {low} to {high}.")
    return array.astype(jnp.int32)


def as_numbers(value: Any, name: str, length: int, size: int, what: str) -> jax.Array:
    """An int32 array of `length` numbers that, where they can be looked at, index `size` things."""
    array = _as_array(value, name)
    check_shape(array, name, length)
    given = np.asarray(value)[:, None] if is_concrete(value) else array[:, None]
    return as_indices(given, name, 1, size, what)[:, 0]


def as_count(value: Any, name: str) -> int:
    """An int of at least 1."""
    try:
        count = _as_int(value)
    except TypeError as error:
        raise TypeError(f"{name} must be an int, got {value!r}.") from error
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {value!r}.")
    return count


def _as_int(value):
    """An int from anything that is one; True is not."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError("a truth value is not a number")
    return operator.index(value)


def as_image_size(image_size: Any) -> tuple[int, int]:
    """Height and width from an int or a pair of them."""
    sizes = image_size if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    try:
        height, width = (_as_int(size) for size in sizes)
    except (TypeError, ValueError) as error:
        raise TypeError(f"image_size must be an int or a (height, width) pair of them, got {image_size!r}.") from error
    if height < 1 or width < 1:
        raise ValueError(f"image_size must be at least 1 each way, got {image_size!r}.")
    if height * width > 2**30:
        raise ValueError(f"image_size must be at most 2**30 pixels in all, got {height} x {width}.")
    return height, width


def as_background(value: Any, channels: int, dtype: Any, *, image_size: tuple[int, int] | None = None) -> jax.Array:
    """A number, one value a channel or, where an image size is given, an image of it."""
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
    """Whether a background is known to be the zero that an image has there by itself."""
    return isinstance(background, (int, float)) and background == 0


def check_choice(value: Any, name: str, choices: tuple, *, others: str = "") -> None:
    """Raises unless `value` is one of the choices; `others` names what else the caller takes."""
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        others = f" or {others}" if others else ""
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}{others}, got {value!r}.")


def check_finite(value: Any, name: str) -> None:
    """Raises if the numbers can be looked at and one of them is infinite or NaN."""
    if is_concrete(value) and not np.all(np.isfinite(np.asarray(value))):
        raise ValueError(f"{name} must be finite, got {np.asarray(value).tolist()}.")


def _as_array(value, name):
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of numbers, got {type(value).__name__}.") from error
