"""Gathering rows of a table, whose gradient adds them up again: how values of a mesh come to pixels and back.

All are primitives for the CPU's sake. XLA's own code is slow there: it adds up rows one by one, and writes every
gathered row to memory before it is weighted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
from jax.interpreters import ad

from jnr import _cpu
from jnr._backend import Backend
from jnr._ops._primitive import batch_size, batched_primitive, vary_alike
from jnr._program import program
from jnr._xla import rows as xla

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, Shaped

take_rows_p = batched_primitive(
    "jnr_take_rows",
    xla.take_rows,
    lambda table, index, **_: ((index.shape[1], table.shape[2]), table.dtype),
    cpu=_cpu.take_rows,
    split=False,
)
add_rows_p = batched_primitive(
    "jnr_add_rows",
    xla.add_rows,
    lambda values, index, *, rows, **_: ((rows, values.shape[2]), values.dtype),
    cpu=_cpu.add_rows,
    kernels=("rows", "add_rows"),
    split=False,
)
blend_rows_p = batched_primitive(
    "jnr_blend_rows",
    xla.blend_rows,
    lambda table, weights, index, **_: ((index.shape[1], table.shape[2]), table.dtype),
    cpu=_cpu.blend_rows,
    split=False,
)
spread_rows_p = batched_primitive(
    "jnr_spread_rows",
    xla.spread_rows,
    lambda values, weights, index, *, rows, **_: ((rows, values.shape[2]), values.dtype),
    cpu=_cpu.spread_rows,
    kernels=("rows", "spread_rows"),
    split=False,
)
match_rows_p = batched_primitive(
    "jnr_match_rows",
    xla.match_rows,
    lambda values, table, index, *, weights, **_: ((index.shape[1], weights), values.dtype),
    cpu=_cpu.match_rows,
    split=False,
)


@program("backend")
def take_rows(
    table: Shaped[Array, "rows channels"], index: Int[Array, " *shape"], *, backend: Backend | None = None
) -> Shaped[Array, "*shape channels"]:
    """Rows of a table, differentiable by it; zeros where the index is none of its rows, -1 in a table of indices."""
    if _is_narrow(table):
        # Wide while the gradient is added up: dozens of pixels may share a row.
        return take_rows(table.astype(jnp.float32), index, backend=backend).astype(table.dtype)
    table, index = vary_alike(table, index)
    rows = take_rows_p.bind(table[None], index.reshape(1, -1), backend=backend)
    return rows.reshape(*index.shape, table.shape[1])


@program("backend")
def blend_rows(
    table: Float[Array, "rows channels"],
    weights: Float[Array, "*shape terms*each"],
    index: Int[Array, "*shape terms"],
    *,
    backend: Backend | None = None,
) -> Float[Array, "*shape channels"]:
    """Sums of weighted rows of a table, differentiable by it and by the weights.

    An index names as many rows that follow each other as there are weights for it, in units of that many: of faces'
    corners one index names three. What is none of the table's adds nothing.
    """
    if _is_narrow(table):
        return blend_rows(table.astype(jnp.float32), weights, index, backend=backend).astype(table.dtype)
    table, weights, index = vary_alike(table, weights.astype(table.dtype), index)
    operands = [x.reshape(1, -1, x.shape[-1]) for x in (weights, index)]
    rows = blend_rows_p.bind(table[None], *operands, backend=backend)
    return rows.reshape(*index.shape[:-1], table.shape[1])


def _is_narrow(table):
    return jnp.issubdtype(table.dtype, jnp.floating) and table.dtype.itemsize < 4


def _take_transpose(cotangent, table, index, *, backend):
    sums, rows, _ = table.aval.shape
    return add_rows_p.bind(cotangent, index, rows=rows, sums=sums, backend=backend), None


def _add_transpose(cotangent, values, index, *, rows, sums, backend):
    del rows
    table = _of_each_item(cotangent, sums, values.aval, index)
    return _fitted(take_rows_p.bind(table, index, backend=backend), values.aval), None


def _by_table(values, weights, index, table, backend):
    sums, rows, _ = table.aval.shape
    return spread_rows_p.bind(values, weights, index, rows=rows, sums=sums, backend=backend)


def _by_weights(values, table, index, weights, backend):
    matches = match_rows_p.bind(values, table, index, weights=weights.aval.shape[2], backend=backend)
    return _fitted(matches, weights.aval)


def _by_values(table, weights, index, values, backend):
    return _fitted(blend_rows_p.bind(table, weights, index, backend=backend), values.aval)


def _blend_transpose(cotangent, table, weights, index, *, backend):
    if ad.is_undefined_primal(table):
        return _by_table(cotangent, weights, index, table, backend), None, None
    return None, _by_weights(cotangent, table, index, weights, backend), None


def _match_transpose(cotangent, values, table, index, *, weights, backend):
    del weights
    if ad.is_undefined_primal(values):
        return _by_values(table, cotangent, index, values, backend), None, None
    return None, _by_table(values, cotangent, index, table, backend), None


def _spread_transpose(cotangent, values, weights, index, *, rows, sums, backend):
    del rows
    operands = (x.aval if ad.is_undefined_primal(x) else x for x in (values, weights, index))
    table = _of_each_item(cotangent, sums, *operands)
    if ad.is_undefined_primal(values):
        return _by_values(table, weights, index, values, backend), None, None
    return None, _by_weights(values, table, index, weights, backend), None


def _unless_zero(transpose):
    def rule(cotangent, *operands, **params):
        if isinstance(cotangent, ad.Zero):
            return tuple(ad.Zero(x.aval) if ad.is_undefined_primal(x) else None for x in operands)
        return transpose(cotangent, *operands, **params)

    return rule


def _of_each_item(cotangent, sums, *operands):
    """Cotangent of the sum that each item of the batch is part of."""
    batch = batch_size(operands)
    return jnp.repeat(cotangent, batch // sums, axis=0) if 1 < sums < batch else cotangent


def _fitted(cotangent, aval):
    """The cotangent of an operand that the items of a batch share, or of one whose items' sum was the only one."""
    if aval.shape[0] == 1:
        return cotangent.sum(axis=0, keepdims=True)
    return jnp.broadcast_to(cotangent, aval.shape)


for primitive, transpose in ((take_rows_p, _take_transpose), (add_rows_p, _add_transpose)):
    # Linear in the table and in the values.
    ad.defjvp(primitive, lambda tangent, _, index, bind=primitive.bind, **params: bind(tangent, index, **params), None)
    ad.primitive_transposes[primitive] = _unless_zero(transpose)

for primitive, transpose in (
    (blend_rows_p, _blend_transpose),
    (match_rows_p, _match_transpose),
    (spread_rows_p, _spread_transpose),
):
    # Linear in each of the first two.
    ad.defjvp(
        primitive,
        lambda tangent, _, b, index, bind=primitive.bind, **params: bind(tangent, b, index, **params),
        lambda tangent, a, _, index, bind=primitive.bind, **params: bind(a, tangent, index, **params),
        None,
    )
    ad.primitive_transposes[primitive] = _unless_zero(transpose)
