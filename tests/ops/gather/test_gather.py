"""Gather, scatter-add and their weighted forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnr._backend import has_cpu_kernels
from jnr._ops.gather import gather, gather_p, scatter_add_p, weighted_gather

BACKENDS = [
    "xla",
    pytest.param("cpu", marks=pytest.mark.skipif(not has_cpu_kernels(), reason="installed without kernels")),
]


def table_and_index(count=50, rows=7, channels=3):
    rng = np.random.default_rng(count + channels)
    table = jnp.asarray(rng.normal(size=(rows, channels)), jnp.float32)
    return table, jnp.asarray(rng.integers(-2, rows + 2, size=count), jnp.int32)


def gathered(table, index):
    table, index = np.asarray(table), np.asarray(index)
    valid = (index >= 0) & (index < len(table))
    fill = -1 if table.dtype == np.int32 else 0
    return np.where(valid[..., None], table[np.where(valid, index, 0)], fill)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "int32", "float16"])
@pytest.mark.parametrize(("count", "channels"), [(50, 1), (50, 2), (20000, 3), (50, 4), (50, 9), (0, 3), (5, 0)])
def test_gather_returns_rows_and_a_fill_value_for_out_of_range_indices(backend, dtype, count, channels):
    table, index = table_and_index(count, channels=channels)
    table = (table * 10).astype(dtype)
    np.testing.assert_array_equal(jax.jit(gather, static_argnames="backend")(table, index, backend=backend),
                                  gathered(table, index))  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("count", "channels"), [(50, 1), (30000, 3), (70000, 9)])
def test_gradient_of_a_row_is_the_sum_of_its_cotangents(backend, count, channels):
    rng = np.random.default_rng(0)
    table, index = table_and_index(count, channels=channels)
    weights = jnp.asarray(rng.normal(size=(count, channels)), jnp.float32)
    grad = jax.grad(lambda t: jnp.vdot(gather(t, index, backend=backend), weights))(table)
    expected = np.zeros(table.shape)
    valid = (index >= 0) & (index < len(table))
    np.add.at(expected, np.asarray(index)[valid], np.asarray(weights, np.float64)[valid])
    np.testing.assert_allclose(grad, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradient_of_a_bfloat16_table_is_rounded_once(backend):
    table = jnp.zeros((2, 1), jnp.bfloat16)
    grad = jax.grad(lambda t: gather(t, jnp.zeros(1000, jnp.int32), backend=backend).astype(jnp.float32).sum())(table)
    assert grad.dtype == jnp.bfloat16
    np.testing.assert_array_equal(grad[:, 0].astype(jnp.float32), [1000, 0])


@pytest.mark.parametrize("backend", ["xla", None])
def test_complex_tables_and_their_gradients_are_accurate(backend):
    table, index = table_and_index()
    rng = np.random.default_rng(0)
    table = jax.lax.complex(table, table[::-1])
    np.testing.assert_array_equal(gather(table, index, backend=backend), gathered(table, index))
    weights = jnp.asarray(rng.normal(size=(50, 3)), jnp.complex64)
    grad = jax.vjp(lambda t: gather(t, index, backend=backend), table)[1](weights)[0]
    expected = np.zeros((7, 3), complex)
    valid = (index >= 0) & (index < 7)
    np.add.at(expected, np.asarray(index)[valid], np.asarray(weights)[valid])
    np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_scatter_add_sums_in_the_order_of_the_values(backend):
    values = jnp.asarray([2.0**24, 1.0, 1.0, -(2.0**24)] * 20000, jnp.float32)[:, None]
    operands = values[None], jnp.zeros((1, len(values)), jnp.int32)
    total = scatter_add_p.bind(*operands, rows=5, sums=1, backend=backend)
    # Added one at a time, the ones are rounded away beside the large number.
    np.testing.assert_array_equal(total[0, :, 0], [0, 0, 0, 0, 0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_vmap_and_its_gradient_equal_a_loop(backend, axes):
    rng = np.random.default_rng(0)
    tables = jnp.asarray(rng.normal(size=(4, 2, 7, 3)), jnp.float32)
    indices = jnp.asarray(rng.integers(-1, 8, size=(4, 2, 30)), jnp.int32)
    weights = jnp.asarray(rng.normal(size=(4, 2, 30, 3)), jnp.float32)

    def loss(table, index, weight):
        return jnp.vdot(gather(table, index, backend=backend), weight)

    # The inner vmap maps all operands, the outer one those with an axis in `axes`.
    inner = jax.vmap(jax.value_and_grad(loss))
    operands = [x if axis == 0 else x[0] for x, axis in zip((tables, indices), axes, strict=True)]
    values, grads = jax.jit(jax.vmap(inner, (*axes, 0)))(*operands, weights)
    for i in range(4):
        for j in range(2):
            chosen = [x[i, j] if axis == 0 else x[j] for x, axis in zip(operands, axes, strict=True)]
            value, grad = jax.value_and_grad(loss)(*chosen, weights[i, j])
            np.testing.assert_allclose(values[i, j], value, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(grads[i, j], grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradient_of_a_shared_table_is_the_sum_over_the_batch(backend):
    rng = np.random.default_rng(0)
    tables = jnp.asarray(rng.normal(size=(3, 7, 2)), jnp.float32)
    indices = jnp.asarray(rng.integers(-1, 8, size=(3, 5, 30)), jnp.int32)
    weights = jnp.asarray(rng.normal(size=(3, 5, 30, 2)), jnp.float32)

    def loss(table, indices, weights):
        return jnp.vdot(jax.vmap(lambda i: gather(table, i, backend=backend))(indices), weights)

    found = jax.jit(jax.vmap(jax.grad(loss)))(tables, indices, weights)
    jaxpr = str(jax.make_jaxpr(jax.vmap(jax.grad(loss)))(tables, indices, weights))
    assert "sums=3" in jaxpr
    for i in range(3):
        expected = sum(jax.grad(loss)(tables[i], indices[i, j : j + 1], weights[i, j : j + 1]) for j in range(5))
        np.testing.assert_allclose(found[i], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_derivatives_of_any_order_and_mode_equal_those_of_indexing(backend):
    rng = np.random.default_rng(0)
    table, index = table_and_index(30)
    direction, other = (jnp.asarray(rng.normal(size=table.shape), jnp.float32) for _ in range(2))

    def cubed(table):
        return jnp.sum(gather(table, index, backend=backend) ** 3)

    def cubed_by_indexing(table):
        return jnp.sum(jnp.where(((index >= 0) & (index < 7))[:, None], table[jnp.clip(index, 0, 6)], 0) ** 3)

    for derivative in (
        lambda f: jax.jvp(f, (table,), (direction,))[1],
        lambda f: jax.jvp(jax.grad(f), (table,), (direction,))[1],
        lambda f: jax.grad(lambda t: jnp.vdot(jax.grad(f)(t), direction))(table),
        lambda f: jax.jvp(lambda t: jax.jvp(f, (t,), (direction,))[1], (table,), (other,))[1],
        lambda f: jax.vmap(lambda d: jax.jvp(jax.grad(f), (table,), (d,))[1])(jnp.stack([direction, other])),
    ):
        np.testing.assert_allclose(derivative(cubed), derivative(cubed_by_indexing), rtol=1e-4, atol=1e-4)


def test_transpose_of_scatter_add_over_groups_of_a_batch_is_a_gather():
    rng = np.random.default_rng(0)
    values = jnp.asarray(rng.normal(size=(6, 30, 2)), jnp.float32)
    index = jnp.asarray(rng.integers(-1, 8, size=(6, 30)), jnp.int32)
    weights = jnp.asarray(rng.normal(size=(3, 7, 2)), jnp.float32)
    for v in (values, values[:1]):
        for i in (index, index[:1]) if v is values else (index,):
            grad = jax.grad(lambda v, i=i: jnp.vdot(scatter_add_p.bind(v, i, rows=7, sums=3, backend="xla"), weights))(
                v
            )
            gathered_rows = gather_p.bind(jnp.repeat(weights, 2, axis=0), i, backend="xla")
            expected = gathered_rows if v is values else gathered_rows.sum(axis=0, keepdims=True)
            np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-5)


SIZES = [
    # terms, group, channels: corners of faces, texels, the general case
    (1, 3, 1),
    (1, 3, 3),
    (1, 3, 5),
    (4, 1, 1),
    (4, 1, 2),
    (8, 1, 4),
    (3, 1, 6),
    (2, 3, 3),
    (1, 1, 2),
]


def weighted_operands(terms, group, channels, *, count=40, groups=6, batch=(), dtype=jnp.float32):
    """Table, weights, index (partly out of range) and values."""
    rng = np.random.default_rng(terms + 10 * group + 100 * channels)
    index = rng.integers(-2, groups + 2, size=(*batch, count, terms))
    index.reshape(-1)[:2] = (2**31 - 1, -(2**31))
    shapes = (groups * group, channels), (count, terms * group), (count, channels)
    table, weights, values = (jnp.asarray(rng.normal(size=(*batch, *shape)), dtype) for shape in shapes)
    return table, weights, jnp.asarray(index, jnp.int32), values


def dense_weighted_gather(table, weights, index):
    """`weighted_gather` as a product with a dense weight matrix (count, rows)."""
    group = weights.shape[-1] // index.shape[-1]
    row = index.astype(table.dtype)[..., None] * group + jnp.arange(group, dtype=table.dtype)
    chosen = row.reshape(weights.shape)[..., None] == jnp.arange(len(table), dtype=table.dtype)
    return jnp.einsum("nk,nkr,rc->nc", weights, chosen.astype(table.dtype), table, precision="highest")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sizes", SIZES)
def test_weighted_gather_and_its_gradients_equal_a_matrix_product(backend, sizes):
    table, weights, index, values = weighted_operands(*sizes)

    def loss(table, weights, function):
        return jnp.vdot(function(table, weights), values)

    found = jax.value_and_grad(loss, (0, 1))(table, weights, lambda t, w: weighted_gather(t, w, index, backend=backend))
    expected = jax.value_and_grad(loss, (0, 1))(table, weights, lambda t, w: dense_weighted_gather(t, w, index))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected)
    out = weighted_gather(table, weights, index, backend=backend)
    np.testing.assert_allclose(out, dense_weighted_gather(table, weights, index), rtol=1e-5, atol=1e-5)
    assert float(jnp.abs(found[1][0]).max()) > 0.1


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradient_of_a_weighted_gather_that_is_summed_in_parts_equals_a_direct_sum(backend):
    table, weights, index, values = weighted_operands(1, 3, 3, count=600 * 600)
    grad = jax.grad(lambda t: jnp.vdot(weighted_gather(t, weights, index, backend=backend), values))(table)
    valid = np.flatnonzero((index[:, 0] >= 0) & (index[:, 0] < 6))
    expected = np.zeros((6, 3, 3))
    products = np.asarray(weights, float)[valid][..., None] * np.asarray(values, float)[valid][:, None]
    np.add.at(expected, np.asarray(index)[valid, 0], products)
    # float32 sums of 36,000 numbers
    np.testing.assert_allclose(grad, expected.reshape(18, 3), atol=0.05)


@pytest.mark.parametrize("backend", BACKENDS)
def test_weighted_gather_has_derivatives_of_any_order_and_mode(backend):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        table, weights, index, values = weighted_operands(2, 3, 3, dtype=jnp.float64)
        directions = tuple(jnp.asarray(rng.normal(size=x.shape)) for x in (table, weights))

        def derivatives(function):
            def loss(operands):
                return jnp.vdot(function(*operands) ** 3, values)

            def along(scalar):
                return lambda x: jax.jvp(scalar, (x,), (directions,))[1]

            at = (table, weights)
            yield along(loss)(at)
            yield along(along(loss))(at)
            yield jax.grad(along(loss))(at)
            yield along(jax.grad(loss))(at)
            yield jax.grad(lambda x: sum(map(jnp.vdot, jax.grad(loss)(x), directions)))(at)

        for found, expected in zip(
            derivatives(lambda t, w: weighted_gather(t, w, index, backend=backend)),
            derivatives(lambda t, w: dense_weighted_gather(t, w, index)),
            strict=True,
        ):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), found, expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mapped", [(None, 0, 0), (0, None, 0), (0, 0, None)])
def test_vmap_of_weighted_gather_equals_a_loop(backend, mapped):
    operands = weighted_operands(1, 3, 3, batch=(3, 2))
    values = operands[-1]
    operands = [x if axis == 0 else x[0] for x, axis in zip(operands, mapped, strict=False)]

    def loss(table, weights, index, values):
        return jnp.vdot(weighted_gather(table, weights, index, backend=backend), values)

    def second(*operands):
        """The second derivative, through the transposes of the ops in the gradient."""
        return jax.grad(
            lambda t, w: sum(map(jnp.vdot, jax.grad(loss, (0, 1))(t, w, *operands[2:]), operands[:2])), (0, 1)
        )(*operands[:2])

    for function in (jax.value_and_grad(loss, (0, 1)), second):
        found = jax.jit(jax.vmap(jax.vmap(function), (*mapped, 0)))(*operands, values)
        for i in range(3):
            for j in range(2):
                chosen = [x[i, j] if axis == 0 else x[j] for x, axis in zip(operands, mapped, strict=True)]
                expected = function(*chosen, values[i, j])
                jax.tree.map(
                    lambda a, b, i=i, j=j: np.testing.assert_allclose(a[i, j], b, rtol=1e-4, atol=1e-4),
                    found,
                    expected,
                )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shared", [(0,), (0, 1), (1, 2)])
def test_gradient_of_shared_operands_is_the_sum_over_the_batch(backend, shared):
    batch = weighted_operands(1, 3, 2, batch=(4, 3))
    operands = [x[:, 0] if k in shared else x for k, x in enumerate(batch[:3])]
    axes = tuple(None if k in shared else 0 for k in range(3))
    values = batch[3]

    def loss(table, weights, index, values):
        function = jax.vmap(lambda t, w, i: weighted_gather(t, w, i, backend=backend), axes)
        return jnp.vdot(function(table, weights, index), values)

    def second(table, weights, index, values):
        return jax.grad(lambda t, w: sum(jnp.vdot(g, g) for g in jax.grad(loss, (0, 1))(t, w, index, values)), (0, 1))(
            table, weights
        )

    for function in (jax.grad(loss, (0, 1)), second):
        found = jax.jit(jax.vmap(function))(*operands, values)
        for i in range(4):
            expected = jax.grad(
                lambda t, w, i=i, f=function: _dense_second(t, w, operands[2][i], values[i], axes, f is second), (0, 1)
            )(operands[0][i], operands[1][i])
            jax.tree.map(
                lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-3, atol=1e-3), found, tuple(expected)
            )


def _dense_second(table, weights, index, values, axes, second):
    def loss(table, weights):
        return jnp.vdot(jax.vmap(dense_weighted_gather, axes)(table, weights, index), values)

    if second:
        return sum(jnp.vdot(g, g) for g in jax.grad(loss, (0, 1))(table, weights))
    return loss(table, weights)


@pytest.mark.parametrize("backend", BACKENDS)
def test_values_of_zero_contribute_zero_whatever_they_are_multiplied_by(backend):
    table, weights, index, values = weighted_operands(1, 3, 3)
    index = index.at[0].set(2)
    values = values.at[0].set(0)

    def loss(table, weights):
        return jnp.vdot(jnp.where(values == 0, 0, weighted_gather(table, weights, index, backend=backend)), values)

    expected = jax.grad(loss, (0, 1))(table, weights)
    broken = jax.grad(loss, (0, 1))(table, weights.at[0].set(jnp.nan))
    np.testing.assert_array_equal(broken[0], expected[0])
    # Only values of zero use these rows.
    index = jnp.where(jnp.arange(len(index))[:, None] == 0, 2, jnp.where(index == 2, -1, index))
    assert np.isfinite(jax.grad(loss, 1)(table.at[6:9].set(jnp.nan), weights)).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_bfloat16_tables_are_summed_in_float32(backend):
    table, index = jnp.ones((3, 1), jnp.bfloat16), jnp.zeros((1000, 1), jnp.int32)
    weights = jnp.full((1000, 3), 0.5, jnp.float32)

    def total(table):
        return weighted_gather(table, weights, index, backend=backend).astype(jnp.float32).sum()

    assert weighted_gather(table, weights, index, backend=backend).dtype == jnp.bfloat16
    np.testing.assert_array_equal(jax.grad(total)(table)[:, 0].astype(jnp.float32), [500, 500, 500])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("groups", "count"), [(0, 5), (3, 0), (0, 0)])
def test_empty_weighted_gather_is_zero(backend, groups, count):
    table, weights, index, values = weighted_operands(1, 3, 2, groups=groups or 1, count=max(count, 2))
    operands = table[: 3 * groups], weights[:count]
    index, values = index[:count], values[:count]
    out, pull = jax.vjp(lambda t, w: weighted_gather(t, w, index, backend=backend), *operands)
    assert out.shape == values.shape
    if groups == 0:
        np.testing.assert_array_equal(out, 0)
    for grad, operand in zip(pull(values), operands, strict=True):
        assert grad.shape == operand.shape
        assert np.isfinite(grad).all()


def test_named_backend_without_a_kernel_for_the_dtype_is_an_error():
    table, index = table_and_index()
    for backend in [b.values[0] if hasattr(b, "values") else b for b in BACKENDS[1:]]:
        if has_cpu_kernels():
            with pytest.raises(NotImplementedError, match=r'gather has no C\+\+ kernel for complex64.*backend="cpu"'):
                gather(jax.lax.complex(table, table), index, backend=backend)
