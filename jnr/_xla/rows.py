"""Gathering rows of a table and adding rows up, in plain JAX."""

import jax
import jax.numpy as jnp

from jnr._xla.geometry import mapped


def take_rows(table: jax.Array, index: jax.Array) -> jax.Array:
    """Rows of a table; where the index is none of its rows, zeros, or -1 in a table of integers.

    Not any row in place of the zeros: in the backward pass XLA adds up rows one by one, and thousands of zeros for the
    same row wait for each other.

    Args:
        table: `(1 or batch, rows, channels)`.
        index: `(1 or batch, count)`, int32.

    Returns:
        `(batch, count, channels)`.
    """
    return mapped(_take, table, index)


def add_rows(values: jax.Array, index: jax.Array, *, rows: int, sums: int) -> jax.Array:
    """A table whose rows are the sums of the values that have their index.

    Args:
        values: `(1 or batch, count, channels)`.
        index: `(1 or batch, count)`, int32; values with an index that is none of the rows are left out.
        rows: Of the table.
        sums: How many tables there are, each of as many items of the batch that follow each other.

    Returns:
        `(sums, rows, channels)`.
    """
    batch = max(values.shape[0], index.shape[0])
    if sums != batch:
        values, index = (
            jnp.broadcast_to(x, (batch, *x.shape[1:])).reshape(sums, -1, *x.shape[2:]) for x in (values, index)
        )
    return mapped(lambda v, i: _add(v, i, rows), values, index)


def _take(table, index):
    fill = -1 if jnp.issubdtype(table.dtype, jnp.integer) else 0
    return table.at[_in_range(index, table.shape[0])].get(mode="fill", fill_value=fill)


def _add(values, index, rows):
    table = jnp.zeros((rows, values.shape[-1]), values.dtype)
    return table.at[_in_range(index, rows)].add(values, mode="drop")


def _in_range(index, rows):
    """A negative index counts from the end in JAX, one beyond the end does not."""
    return jnp.where(index < 0, rows, index)
