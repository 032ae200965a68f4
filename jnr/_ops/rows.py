"""Gathering rows of a table, whose gradient adds them up again: how values of a mesh come to pixels and back.

Both are primitives for the CPU's sake. XLA's own code for it is slow there: it adds up rows one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
from jax.interpreters import ad

from jnr import _cpu
from jnr._backend import Backend
from jnr._ops._primitive import batch_size, batched_primitive, vary_alike
from jnr._xla.rows import add_rows as add_rows_xla, take_rows as take_rows_xla

if TYPE_CHECKING:
    from jaxtyping import Array, Int, Shaped

take_rows_p = batched_primitive(
    "jnr_take_rows",
    take_rows_xla,
    lambda table, index, **_: ((index.shape[1], table.shape[2]), table.dtype),
    cpu=_cpu.take_rows,
    split=False,
)
add_rows_p = batched_primitive(
    "jnr_add_rows",
    add_rows_xla,
    lambda values, index, *, rows, **_: ((rows, values.shape[2]), values.dtype),
    cpu=_cpu.add_rows,
    split=False,
)


def take_rows(
    table: Shaped[Array, "rows channels"], index: Int[Array, " *shape"], *, backend: Backend | None = None
) -> Shaped[Array, "*shape channels"]:
    """Rows of a table, differentiable by it; zeros where the index is none of its rows, -1 in a table of indices."""
    if jnp.issubdtype(table.dtype, jnp.floating) and table.dtype.itemsize < 4:
        # Wide while the gradient is added up: dozens of pixels may share a row.
        return take_rows(table.astype(jnp.float32), index, backend=backend).astype(table.dtype)
    table, index = vary_alike(table, index)
    rows = take_rows_p.bind(table[None], index.reshape(1, -1), backend=backend)
    return rows.reshape(*index.shape, table.shape[1])


def _take_transpose(cotangent, table, index, *, backend):
    if isinstance(cotangent, ad.Zero):
        return ad.Zero(table.aval), None
    sums, rows, _ = table.aval.shape
    return add_rows_p.bind(cotangent, index, rows=rows, sums=sums, backend=backend), None


def _add_transpose(cotangent, values, index, *, rows, sums, backend):
    del rows
    if isinstance(cotangent, ad.Zero):
        return ad.Zero(values.aval), None
    batch = batch_size((values.aval, index))
    if 1 < sums < batch:
        cotangent = jnp.repeat(cotangent, batch // sums, axis=0)
    result = take_rows_p.bind(cotangent, index, backend=backend)
    if values.aval.shape[0] == 1:
        return result.sum(axis=0, keepdims=True), None
    return jnp.broadcast_to(result, values.aval.shape), None


for primitive, transpose in ((take_rows_p, _take_transpose), (add_rows_p, _add_transpose)):
    # Linear in the table and in the values.
    ad.defjvp(primitive, lambda tangent, _, index, bind=primitive.bind, **params: bind(tangent, index, **params), None)
    ad.primitive_transposes[primitive] = transpose
