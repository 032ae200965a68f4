"""Indexing that the plain-JAX definitions share."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def gather_in_bounds(array: jax.Array, index: jax.Array | tuple[jax.Array, ...]) -> jax.Array:
    """Entries of an array whose indices are known to be in range."""
    return array.at[index].get(mode="promise_in_bounds")


def gather_or_fill(table: jax.Array, index: jax.Array) -> jax.Array:
    """Rows of a table `(rows, channels)`; zeros, or -1 in a table of integers, where the index is out of range.

    Zeros rather than any row: in the backward pass XLA adds rows one by one, and thousands of zeros for one row would
    wait for each other.
    """
    fill = -1 if jnp.issubdtype(table.dtype, jnp.integer) else 0
    if table.shape[0] == 0:
        return jnp.full((*index.shape, table.shape[1]), fill, table.dtype)
    return table.at[drop_negative(index, table.shape[0])].get(mode="fill", fill_value=fill)


def drop_negative(index: jax.Array, rows: int) -> jax.Array:
    """An index that is out of range where it was negative; JAX would count a negative one from the end."""
    return jnp.where(index < 0, rows, index)


def map_batch(function: Callable[..., Any], *operands: jax.Array) -> Any:
    """A function of single items over the operands' leading axes, which are 1 where all items share an operand."""
    axes = [None if operand.shape[0] == 1 else 0 for operand in operands]
    operands = tuple(o[0] if axis is None else o for o, axis in zip(operands, axes, strict=True))
    if all(axis is None for axis in axes):
        return jax.tree.map(lambda result: result[None], function(*operands))
    return jax.vmap(function, axes)(*operands)


def batch_offset(values: jax.Array) -> jax.Array:
    """Row of each batch item's first vertex in `values` `(batch, vertices, ...)` flattened to rows."""
    return jnp.arange(values.shape[0], dtype=jnp.int32) * values.shape[1]
