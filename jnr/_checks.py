"""Validation of public arguments. Every message names the argument, the rule and the value received."""

import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

# Rows and columns are float32 numbers in places; beyond this they have gaps.
MAX_PIXELS_PER_SIDE = 2**24


def is_concrete(value: Any) -> bool:
    """Whether the values are known now: False if any leaf is traced."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))


def as_float(value: Any, name: str) -> jax.Array:
    """Returns a floating point array; integers are converted to the default float dtype."""
    return _as_real(as_array(value, name), name)


def _as_real(array, name):
    if jnp.issubdtype(array.dtype, jnp.integer):
        # A Python number stays weakly typed: its dtype yields to that of arrays.
        array = array + 0.0 if array.weak_type else array.astype(jnp.result_type(float))
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}.")
    return array


def as_compute(value: Any, name: str, *, like: Any = None) -> jax.Array:
    """Returns a float32 or float64 array, the dtypes jnr computes in; narrower floats are widened to float32.

    With `like` it has the `compute_dtype` of both values.
    """
    array = widened(as_float(value, name))
    return array if like is None else array.astype(compute_dtype(value, like))


def as_finite(value: Any, name: str, shape: tuple[int | str, ...] | None = None, *, like: Any = None) -> jax.Array:
    """`as_compute` of numbers that are finite where they are known, of a shape if one is given."""
    array = as_compute(value, name, like=like)
    if shape is not None:
        check_shape(array, name, *shape)
    check_finite(value, name)
    return array


def widened(array: jax.Array) -> jax.Array:
    """Returns floats narrower than float32 as float32."""
    return array if array.dtype in (jnp.float32, jnp.float64) else array.astype(jnp.float32)


def compute_dtype(*values: Any) -> Any:
    """The dtype to compute in: float64 if an array among the values has it, float32 otherwise.

    Python numbers, which JAX calls weakly typed, count only if there is nothing else.
    """
    leaves = [leaf for leaf in jax.tree.leaves(values) if hasattr(leaf, "dtype")]
    dtypes = {np.dtype(leaf.dtype) for leaf in leaves if not getattr(leaf, "weak_type", False)}
    if not any(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes):
        return jnp.result_type(float)
    return jax.dtypes.canonicalize_dtype(np.float64 if np.dtype(np.float64) in dtypes else np.float32)


def as_color(value: Any, name: str) -> jax.Array:
    """Returns colours as floats, of which 1 is the full colour: uint8 and uint16 are divided by their largest value.

    Other integer dtypes are refused, and so are Python integers other than 0 and 1.
    """
    array = as_array(value, name)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        return _as_real(array, name)
    if array.dtype in (jnp.uint8, jnp.uint16):
        return _as_real(array, name) / int(jnp.iinfo(array.dtype).max)
    of_python = not any(hasattr(leaf, "dtype") for leaf in jax.tree.leaves(value))
    if of_python and np.all(np.isin(np.asarray(value), (0, 1))):
        return _as_real(array, name)
    got = "integers" if of_python else f"dtype {array.dtype}"
    raise TypeError(
        f"{name} must be colours: floats with 1 as the full colour, uint8 with 255 or uint16 with 65535; got {got}."
    )


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
    array = as_array(value, name)
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


def as_numbers(value: Any, name: str, length: int, size: int, what: str, *, lowest: int = 0) -> jax.Array:
    """Returns an int32 array of `length` indices. Concrete values are checked to lie in [lowest, size)."""
    array = as_array(value, name)
    check_shape(array, name, length)
    column = np.asarray(value)[:, None] if is_concrete(value) else array[:, None]
    return as_indices(column, name, 1, size, what, lowest=lowest)[:, 0]


def as_count(value: Any, name: str, *, least: int = 1, most: int = 2**31 - 1) -> int:
    """Returns an int that is at least `least` and at most `most`."""
    try:
        count = _as_int(value)
    except TypeError as error:
        raise TypeError(f"{name} must be an int, got {value!r}.") from error
    if count < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}.")
    if count > most:
        raise ValueError(f"{name} must be at most {most}, got {value!r}.")
    return count


def as_number(value: Any, name: str, *, least: float = -math.inf) -> float:
    """Returns a float, not traced, from a finite real number that is at least `least`."""
    is_number = isinstance(value, (int, float, np.number, np.ndarray, jax.Array)) and not isinstance(value, bool)
    if not is_number or np.ndim(value) or not is_concrete(value) or np.asarray(value).dtype.kind in "bc":
        raise TypeError(f"{name} must be a real number, got {value!r}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and number >= least):
        bound = "" if least == -math.inf else f" and at least {least:g}"
        raise ValueError(f"{name} must be finite{bound}, got {value!r}.")
    return number


def check_flag(value: Any, name: str) -> None:
    """Raises TypeError unless `value` is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}.")


def _as_int(value):
    """Converts any integer type to int; raises TypeError for bool and everything else."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError("bool is not accepted as an int")
    return operator.index(value)


def as_image_size(image_size: Any, name: str = "image_size") -> tuple[int, int]:
    """Returns (height, width) from an int or a pair of ints."""
    is_pair = isinstance(image_size, (tuple, list)) or (isinstance(image_size, np.ndarray) and image_size.ndim > 0)
    sizes = tuple(image_size) if is_pair else (image_size, image_size)
    rule = f"{name} must be an int or a (height, width) pair of ints, got {image_size!r}."
    if len(sizes) != 2:
        raise ValueError(rule)
    try:
        height, width = (_as_int(size) for size in sizes)
    except TypeError as error:
        raise TypeError(rule) from error
    if height < 1 or width < 1:
        raise ValueError(f"{name} must be at least 1 per axis, got {image_size!r}.")
    if max(height, width) > MAX_PIXELS_PER_SIDE:
        raise ValueError(f"{name} must be at most 2**24 pixels per axis, got {height} x {width}.")
    if height * width > 2**30:
        raise ValueError(f"{name} must be at most 2**30 pixels in total, got {height} x {width}.")
    return height, width


def as_background(value: Any, channels: int, dtype: Any, *, image_size: tuple[int, int] | None = None) -> jax.Array:
    """Returns a background: a scalar, one value per channel or, if `image_size` is given, an image of that size."""
    background = (as_float if image_size is None else as_color)(value, "background").astype(dtype)
    if image_size is not None and background.ndim == 3:
        check_shape(background, "background", *image_size, channels)
    elif background.ndim > 1 or background.size not in (1, channels):
        image = "" if image_size is None else ", or be an image"
        raise ValueError(
            f"background must be a number or have one value for each of the {channels} channels{image}, "
            f"got shape {background.shape}."
        )
    elif image_size is not None:
        check_finite(value, "background")
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
    if not is_concrete(value):
        return
    # Leaf by leaf: NumPy makes no array of a sequence of bfloat16 scalars.
    if not all(np.all(np.isfinite(np.asarray(leaf))) for leaf in jax.tree.leaves(value)):
        numbers = jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), value)
        raise ValueError(f"{name} must be finite, got {numbers}.")


def as_array(value: Any, name: str) -> jax.Array:
    """Returns an array."""
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of numbers, got {type(value).__name__}.") from error
    except OverflowError as error:
        raise ValueError(f"{name} must hold numbers of at most 32 bits (64 with jax_enable_x64): {error}.") from error
