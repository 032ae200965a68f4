"""Homogeneous pixel-space geometry shared by the plain-JAX ops.

A vertex is `(x, y, w)` in *pixel space*: `x / w` is a column and `y / w` a row, with integers at pixel
centres and rows growing downwards. Nothing is divided by `w`, so vertices behind the camera are ordinary
values (Olano and Greer 1997).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jnr._program import program


def take(array: jax.Array, index: jax.Array | tuple[jax.Array, ...]) -> jax.Array:
    """Gathers rows whose indices are known to be in range."""
    return array.at[index].get(mode="promise_in_bounds")


def take_known(table: jax.Array, index: jax.Array) -> jax.Array:
    """Gathers rows of `(rows, channels)`; where the index is none of them, zeros, or -1 in a table of integers.

    Not any row in place of the zeros: in the backward pass XLA adds up rows one by one, and thousands of zeros for the
    same row wait for each other.
    """
    fill = -1 if jnp.issubdtype(table.dtype, jnp.integer) else 0
    if table.shape[0] == 0:
        return jnp.full((*index.shape, table.shape[1]), fill, table.dtype)
    return table.at[from_start(index, table.shape[0])].get(mode="fill", fill_value=fill)


def from_start(index: jax.Array, rows: int) -> jax.Array:
    """An index that is out of range where it was negative; in JAX that would count from the end."""
    return jnp.where(index < 0, rows, index)


def mapped(function: Callable[..., Any], *operands: jax.Array) -> Any:
    """A function of single items over the leading axes of operands, which are 1 where an operand is shared."""
    axes = [None if operand.shape[0] == 1 else 0 for operand in operands]
    operands = tuple(o[0] if axis is None else o for o, axis in zip(operands, axes, strict=True))
    if all(axis is None for axis in axes):
        return jax.tree.map(lambda result: result[None], function(*operands))
    return jax.vmap(function, axes)(*operands)


def batch_offset(values: jax.Array) -> jax.Array:
    """Row of each batch item's first vertex in `values` `(batch, vertices, ...)` flattened to rows."""
    return jnp.arange(values.shape[0], dtype=jnp.int32) * values.shape[1]


def pixel_space(clip_positions: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Clip `(..., 4)` to pixel-space x, y and w, each `(...)`."""
    x, y, w = clip_positions[..., 0], clip_positions[..., 1], clip_positions[..., 3]
    return ((x + w) * width - w) * 0.5, ((w - y) * height - w) * 0.5, w


def is_placed(clip_positions: jax.Array) -> jax.Array:
    """Whether a vertex has a place in the image: finite and in front of the camera, `(...)` from `(..., 4)`."""
    return jnp.all(jnp.isfinite(clip_positions), axis=-1) & (clip_positions[..., 3] > 0)


def clip_cotangent(grad_x: jax.Array, grad_y: jax.Array, clip_positions: jax.Array) -> jax.Array:
    """Cotangent of clip positions `(..., 4)` from that of clip x and y; w has a part since NDC x is x / w, z none."""
    placed = is_placed(clip_positions)
    toward = grad_x * clip_positions[..., 0] + grad_y * clip_positions[..., 1]
    grad_w = jnp.where(placed, -toward / jnp.where(placed, clip_positions[..., 3], 1), 0)
    return jnp.stack([grad_x, grad_y, jnp.zeros_like(grad_x), grad_w], axis=-1)


def edge_function(p: tuple, q: tuple, swap: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Coefficients `(a, b, c)` of `a x + b y + c`, positive on the inner side of edge p -> q of a front face.

    `swap` is true where q comes before p in a fixed order of the vertices. The products are formed in that
    order and the sign is put on after, so that both faces of a shared edge get the same numbers with opposite
    signs, also where the compiler contracts a product and a sum. No pixel on the edge is missed by both.
    """
    (px, py, pw), (qx, qy, qw) = (
        [jnp.where(swap, b, a) for a, b in zip(p, q, strict=True)],
        [jnp.where(swap, a, b) for a, b in zip(p, q, strict=True)],
    )
    # Rows grow downwards, so a counter-clockwise face is clockwise here: hence -1 for p -> q.
    sign = jnp.where(swap, 1.0, -1.0).astype(px.dtype)
    return sign * (py * qw - pw * qy), sign * (pw * qx - px * qw), sign * (px * qy - py * qx)


@program()
def power_of_two_scale(*values: jax.Array) -> jax.Array:
    """A power of two that brings the largest of the absolute values near 1: an exact rescaling."""
    largest = jnp.abs(values[0])
    for value in values[1:]:
        largest = jnp.maximum(largest, jnp.abs(value))
    # By the bits, since frexp is slow: the exponent's field alone is the power of two below a float32.
    largest = jnp.clip(largest.astype(jnp.float32), 2.0**-126, 2.0**126)
    exponent = lax.bitcast_convert_type(largest, jnp.int32) & 0x7F800000
    scale = lax.bitcast_convert_type(np.int32(254 << 23) - exponent, jnp.float32)
    return scale.astype(values[0].dtype)
