"""Gather, scatter-add and their weighted forms in plain JAX. README.md beside this file derives them.

An index is out of range, and its term zero, where it is negative or not below the number of rows (of groups of rows,
for the weighted forms).
"""

import jax
import jax.numpy as jnp

from jnr._ops.indexing import drop_negative, gather_or_fill, map_batch


def gather(table: jax.Array, index: jax.Array) -> jax.Array:
    """Rows of a table; zeros, or -1 in a table of integers, where the index is out of range.

    Args:
        table: `(1 or batch, rows, channels)`.
        index: `(1 or batch, count)`, int32.

    Returns:
        `(batch, count, channels)`.
    """
    return map_batch(gather_or_fill, table, index)


def scatter_add(values: jax.Array, index: jax.Array, *, rows: int, sums: int) -> jax.Array:
    """A table whose rows are the sums of the values with their index.

    Args:
        values: `(1 or batch, count, channels)`.
        index: `(1 or batch, count)`, int32.
        rows: Number of rows of the table.
        sums: Number of tables, each of as many consecutive items of the batch.

    Returns:
        `(sums, rows, channels)`.
    """
    return map_batch(lambda v, i: _scatter_add(v, i, rows), *_items_per_sum(sums, values, index))


def weighted_gather(table: jax.Array, weights: jax.Array, index: jax.Array) -> jax.Array:
    """Weighted sums of rows of a table.

    Args:
        table: `(1 or batch, groups * group, channels)`.
        weights: `(1 or batch, count, terms * group)`.
        index: Groups of rows, `(1 or batch, count, terms)`, int32.

    Returns:
        `(batch, count, channels)`.
    """

    def single(table, weights, index):
        rows = gather_or_fill(table, _row_of_weight(index, weights.shape[1], table.shape[0]))
        # Not the sum of a product: XLA for the CPU (jax 0.10) computes it wrongly where a mask and a batch meet.
        zero = jnp.zeros((index.shape[0], table.shape[1]), table.dtype)
        return sum((weights[:, k, None] * rows[:, k] for k in range(weights.shape[1])), start=zero)

    return map_batch(single, table, weights, index)


def weighted_scatter_add(values: jax.Array, weights: jax.Array, index: jax.Array, *, rows: int, sums: int) -> jax.Array:
    """A table whose rows are the weighted sums of the values that refer to them. A value of zero contributes zero.

    Args:
        values: `(1 or batch, count, channels)`.
        weights: `(1 or batch, count, terms * group)`.
        index: Groups of rows, `(1 or batch, count, terms)`, int32.
        rows: Number of rows of the table.
        sums: Number of tables, each of as many consecutive items of the batch.

    Returns:
        `(sums, rows, channels)`.
    """

    def single(values, weights, index):
        weighted = jnp.where(values[:, None] == 0, 0, weights[..., None] * values[:, None])
        index = _row_of_weight(index, weights.shape[1], rows)
        return _scatter_add(weighted.reshape(index.size, values.shape[1]), index.reshape(-1), rows)

    return map_batch(single, *_items_per_sum(sums, values, weights, index))


def row_dot(values: jax.Array, table: jax.Array, index: jax.Array, *, weights: int) -> jax.Array:
    """Scalar products of values with rows of a table. A value of zero contributes zero.

    Args:
        values: `(1 or batch, count, channels)`.
        table: `(1 or batch, groups * group, channels)`.
        index: Groups of rows, `(1 or batch, count, terms)`, int32.
        weights: `terms * group`.

    Returns:
        `(batch, count, terms * group)`.
    """

    def single(values, table, index):
        rows = gather_or_fill(table, _row_of_weight(index, weights, table.shape[0]))
        zero = jnp.zeros((index.shape[0], weights), table.dtype)
        products = (values[:, c, None] * rows[..., c] for c in range(table.shape[1]))
        return sum((jnp.where(values[:, c, None] == 0, 0, p) for c, p in enumerate(products)), start=zero)

    return map_batch(single, values, table, index)


def _row_of_weight(index, weights, rows):
    """The row of each weight, negative where it is out of range."""
    count, terms = index.shape
    group = weights // max(terms, 1)
    index = jnp.where(index < rows // max(group, 1), jnp.maximum(index, -1), -1)
    return (index[..., None] * group + jnp.arange(group, dtype=index.dtype)).reshape(count, weights)


def _items_per_sum(sums, *operands):
    """Operands with one batch item per sum, which holds the values of that sum's items one after the other."""
    batch = max(operand.shape[0] for operand in operands)
    if sums == batch:
        return operands
    count = batch // sums * operands[0].shape[1]
    return tuple(jnp.broadcast_to(x, (batch, *x.shape[1:])).reshape(sums, count, *x.shape[2:]) for x in operands)


def _scatter_add(values, index, rows):
    table = jnp.zeros((rows, values.shape[-1]), values.dtype)
    if rows == 0:
        return table
    return table.at[drop_negative(index, rows)].add(values, mode="drop")
