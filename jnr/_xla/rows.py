"""Gathering rows of a table, weighting them and adding them up, in plain JAX.

Three functions are the derivatives of one sum, that of `values[n, c] * weights[n, k] * table[row(n, k), c]` over all n,
k and c, by each of its factors: `blend_rows` by the values, `spread_rows` by the table, `match_rows` by the weights. An
index names as many rows that follow each other as there are weights for it:
`row(n, k) = index[n, k // each] * each + k % each`. Values of zero add nothing, whatever they are multiplied with: what
nobody sees may be anything, NaN included.
"""

import jax
import jax.numpy as jnp

from jnr._xla.geometry import from_start, mapped, take_known


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
    return mapped(take_known, table, index)


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
    return mapped(lambda v, i: _add(v, i, rows), *_parts_of_batch(sums, values, index))


def blend_rows(table: jax.Array, weights: jax.Array, index: jax.Array) -> jax.Array:
    """Sums of weighted rows of a table; an index that is none of its groups of rows adds nothing.

    Args:
        table: `(1 or batch, groups * each, channels)`.
        weights: `(1 or batch, count, terms * each)`.
        index: `(1 or batch, count, terms)`, int32.

    Returns:
        `(batch, count, channels)`.
    """

    def single(table, weights, index):
        taken = take_known(table, _rows_of(index, weights.shape[1], table.shape[0]))
        # Not the sum of a product: XLA for the CPU (jax 0.10) gets it wrong where a mask and a batch meet.
        zero = jnp.zeros((index.shape[0], table.shape[1]), table.dtype)
        return sum((weights[:, k, None] * taken[:, k] for k in range(weights.shape[1])), start=zero)

    return mapped(single, table, weights, index)


def spread_rows(values: jax.Array, weights: jax.Array, index: jax.Array, *, rows: int, sums: int) -> jax.Array:
    """A table whose rows are the sums of the values whose index names them, each by its weight.

    Args:
        values: `(1 or batch, count, channels)`.
        weights: `(1 or batch, count, terms * each)`.
        index: `(1 or batch, count, terms)`, int32; an index that is none of the groups of rows is left out.
        rows: Of the table.
        sums: How many tables there are, each of as many items of the batch that follow each other.

    Returns:
        `(sums, rows, channels)`.
    """

    def single(values, weights, index):
        weighted = jnp.where(values[:, None] == 0, 0, weights[..., None] * values[:, None])
        index = _rows_of(index, weights.shape[1], rows)
        return _add(weighted.reshape(-1, values.shape[1]), index.reshape(-1), rows)

    return mapped(single, *_parts_of_batch(sums, values, weights, index))


def match_rows(values: jax.Array, table: jax.Array, index: jax.Array, *, weights: int) -> jax.Array:
    """Scalar products of values with the rows of a table; zero where an index is none of its groups of rows.

    Args:
        values: `(1 or batch, count, channels)`.
        table: `(1 or batch, groups * each, channels)`.
        index: `(1 or batch, count, terms)`, int32.
        weights: `terms * each`.

    Returns:
        `(batch, count, terms * each)`.
    """

    def single(values, table, index):
        taken = take_known(table, _rows_of(index, weights, table.shape[0]))
        zero = jnp.zeros((index.shape[0], weights), table.dtype)
        products = (values[:, c, None] * taken[..., c] for c in range(table.shape[1]))
        return sum((jnp.where(values[:, c, None] == 0, 0, p) for c, p in enumerate(products)), start=zero)

    return mapped(single, values, table, index)


def _rows_of(index, weights, rows):
    """The row of each weight, -1 or less where there is none."""
    count, terms = index.shape
    each = weights // max(terms, 1)
    index = jnp.where(index < rows // max(each, 1), jnp.maximum(index, -1), -1)
    return (index[..., None] * each + jnp.arange(each, dtype=index.dtype)).reshape(count, weights)


def _parts_of_batch(sums, *operands):
    """Operands whose batch is so many parts, the items of each one after the other."""
    batch = max(operand.shape[0] for operand in operands)
    if sums == batch:
        return operands
    return tuple(jnp.broadcast_to(x, (batch, *x.shape[1:])).reshape(sums, -1, *x.shape[2:]) for x in operands)


def _add(values, index, rows):
    table = jnp.zeros((rows, values.shape[-1]), values.dtype)
    if rows == 0:
        return table
    return table.at[from_start(index, rows)].add(values, mode="drop")
