"""Gather, scatter-add and their weighted forms: how values of a mesh reach the pixels, and their cotangents the mesh.

They are primitives for the sake of the CPU, where XLA's code is slow: it adds rows one by one, and writes every
gathered row to memory before it is weighted. On NVIDIA GPUs the sums have Triton kernels.
"""

from functools import partial

from jax import numpy as jnp
from jax.interpreters import ad
from jaxtyping import Array, Float, Int, Shaped

from jnr._backend import Backend
from jnr._inline_jit import inline_jit
from jnr._ops.batching import batch_size
from jnr._ops.devices import vary_alike
from jnr._ops.gather import definition
from jnr._ops.op import FLOATS, Cpp, Triton, declare

gather_p = declare(
    definition.gather,
    lambda table, index, **_: ((index.shape[1], table.shape[2]), table.dtype),
    cpp=Cpp(dtypes=(*FLOATS, "int32")),
    triton=Triton("gather", default=False),
)
scatter_add_p = declare(
    definition.scatter_add,
    lambda values, index, *, rows, **_: ((rows, values.shape[2]), values.dtype),
    cpp=Cpp(),
    triton=Triton("gather"),
)
weighted_gather_p = declare(
    definition.weighted_gather,
    lambda table, weights, index, **_: ((index.shape[1], table.shape[2]), table.dtype),
    cpp=Cpp(),
    triton=Triton("gather", default=False),
)
weighted_scatter_add_p = declare(
    definition.weighted_scatter_add,
    lambda values, weights, index, *, rows, **_: ((rows, values.shape[2]), values.dtype),
    cpp=Cpp(),
    triton=Triton("gather"),
)
row_dot_p = declare(
    definition.row_dot,
    lambda values, table, index, *, weights, **_: ((index.shape[1], weights), values.dtype),
    cpp=Cpp(),
    triton=Triton("gather", default=False),
)


@inline_jit("backend")
def gather(
    table: Shaped[Array, "rows channels"], index: Int[Array, "*shape"], *, backend: Backend | None = None
) -> Shaped[Array, "*shape channels"]:
    """Rows of a table; zeros, or -1 in a table of integers, where the index is out of range.

    Gradients: reach `table`, in any mode and order.
    """
    if _is_narrow(table):
        # Sums of cotangents are formed in float32: dozens of pixels may share a row.
        return gather(table.astype(jnp.float32), index, backend=backend).astype(table.dtype)
    table, index = vary_alike(table, index)
    rows = gather_p.bind(table[None], index.reshape(1, -1), backend=backend)
    return rows.reshape(*index.shape, table.shape[1])


@inline_jit("backend")
def weighted_gather(
    table: Float[Array, "rows channels"],
    weights: Float[Array, "*shape weights"],
    index: Int[Array, "*shape terms"],
    *,
    backend: Backend | None = None,
) -> Float[Array, "*shape channels"]:
    """Weighted sums of rows of a table. Out-of-range indices contribute zero.

    An index names a group of consecutive rows, as many as there are weights per index: of a table of the faces' corners
    an index with three weights names a face.

    Gradients: reach `table` and `weights`, in any mode and order.
    """
    if _is_narrow(table):
        return weighted_gather(table.astype(jnp.float32), weights, index, backend=backend).astype(table.dtype)
    table, weights, index = vary_alike(table, weights.astype(table.dtype), index)
    operands = [x.reshape(1, -1, x.shape[-1]) for x in (weights, index)]
    rows = weighted_gather_p.bind(table[None], *operands, backend=backend)
    return rows.reshape(*index.shape[:-1], table.shape[1])


def _is_narrow(table):
    return jnp.issubdtype(table.dtype, jnp.floating) and table.dtype.itemsize < 4


# The factors of the trilinear form that each op multiplies, and the one that it is the derivative with respect to.
FORMS = {
    weighted_gather_p: ("table", "weights", "values"),
    weighted_scatter_add_p: ("values", "weights", "table"),
    row_dot_p: ("values", "table", "weights"),
}


def _derivative(wrt, factors, index, aval, backend):
    """The form's derivative with respect to a factor of type `aval`, from the two other factors by name."""
    if wrt == "table":
        sums, rows, _ = aval.shape
        operands = factors["values"], factors["weights"], index
        return weighted_scatter_add_p.bind(*operands, rows=rows, sums=sums, backend=backend)
    if wrt == "weights":
        operands = factors["values"], factors["table"], index
        return _fitted(row_dot_p.bind(*operands, weights=aval.shape[2], backend=backend), aval)
    operands = factors["table"], factors["weights"], index
    return _fitted(weighted_gather_p.bind(*operands, backend=backend), aval)


def _transpose_form(names, cotangent, *operands, backend, sums=None, **_):
    """Transpose of an op of the form with respect to its first or second operand."""
    *factors, index = operands
    wrt = 0 if ad.is_undefined_primal(factors[0]) else 1
    aval = factors[wrt].aval
    if sums is not None:
        cotangent = _per_item(cotangent, sums, aval, factors[1 - wrt], index)
    known = {names[2]: cotangent, names[1 - wrt]: factors[1 - wrt]}
    result = _derivative(names[wrt], known, index, aval, backend)
    return (result, None, None) if wrt == 0 else (None, result, None)


def _transpose_gather(cotangent, table, index, *, backend):
    sums, rows, _ = table.aval.shape
    return scatter_add_p.bind(cotangent, index, rows=rows, sums=sums, backend=backend), None


def _transpose_scatter_add(cotangent, values, index, *, rows, sums, backend):
    del rows
    table = _per_item(cotangent, sums, values.aval, index)
    return _fitted(gather_p.bind(table, index, backend=backend), values.aval), None


def _unless_zero(transpose):
    def rule(cotangent, *operands, **params):
        if isinstance(cotangent, ad.Zero):
            return tuple(ad.Zero(x.aval) if ad.is_undefined_primal(x) else None for x in operands)
        return transpose(cotangent, *operands, **params)

    return rule


def _per_item(cotangent, sums, *operands):
    """Cotangent of the sum that each item of the batch is part of."""
    batch = batch_size(operands)
    return cotangent if sums in (1, batch) else jnp.repeat(cotangent, batch // sums, axis=0)


def _fitted(cotangent, aval):
    """The cotangent of an operand that the items of a batch share, or of one whose items have one sum in common."""
    if aval.shape[0] == 1:
        return cotangent.sum(axis=0, keepdims=True)
    return jnp.broadcast_to(cotangent, aval.shape)


for primitive, transpose in ((gather_p, _transpose_gather), (scatter_add_p, _transpose_scatter_add)):
    # Linear in the table and in the values.
    ad.defjvp(primitive, lambda tangent, _, index, bind=primitive.bind, **params: bind(tangent, index, **params), None)
    ad.primitive_transposes[primitive] = _unless_zero(transpose)

for primitive, names in FORMS.items():
    # Linear in each of the first two operands.
    ad.defjvp(
        primitive,
        lambda tangent, _, b, index, bind=primitive.bind, **params: bind(tangent, b, index, **params),
        lambda tangent, a, _, index, bind=primitive.bind, **params: bind(a, tangent, index, **params),
        None,
    )
    ad.primitive_transposes[primitive] = _unless_zero(partial(_transpose_form, names))
