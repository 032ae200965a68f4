"""Gathering rows and adding them up, by themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnr._backend import has_cpu_kernels
from jnr._ops.rows import add_rows_p, take_rows, take_rows_p

BACKENDS = [
    "xla",
    pytest.param("cpu", marks=pytest.mark.skipif(not has_cpu_kernels(), reason="installed without kernels")),
]
rng = np.random.default_rng(0)


def table_and_index(count=50, rows=7, channels=3):
    table = jnp.asarray(rng.normal(size=(rows, channels)), jnp.float32)
    return table, jnp.asarray(rng.integers(-2, rows + 2, size=count), jnp.int32)


def rows_of(table, index):
    table, index = np.asarray(table), np.asarray(index)
    known = (index >= 0) & (index < len(table))
    none = -1 if table.dtype == np.int32 else 0
    return np.where(known[..., None], table[np.where(known, index, 0)], none)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "int32", "float16"])
@pytest.mark.parametrize(("count", "channels"), [(50, 1), (50, 2), (20000, 3), (50, 4), (50, 9), (0, 3), (5, 0)])
def test_rows_are_taken_and_nothing_where_there_is_none(backend, dtype, count, channels):
    table, index = table_and_index(count, channels=channels)
    table = (table * 10).astype(dtype)
    np.testing.assert_array_equal(jax.jit(take_rows, static_argnames="backend")(table, index, backend=backend),
                                  rows_of(table, index))  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("count", "channels"), [(50, 1), (30000, 3), (70000, 9)])
def test_gradient_adds_up_what_comes_from_the_same_row(backend, count, channels):
    table, index = table_and_index(count, channels=channels)
    weights = jnp.asarray(rng.normal(size=(count, channels)), jnp.float32)
    grad = jax.grad(lambda t: jnp.vdot(take_rows(t, index, backend=backend), weights))(table)
    expected = np.zeros(table.shape)
    known = (index >= 0) & (index < len(table))
    np.add.at(expected, np.asarray(index)[known], np.asarray(weights, np.float64)[known])
    np.testing.assert_allclose(grad, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradient_of_a_bfloat16_table_is_rounded_once(backend):
    table = jnp.zeros((2, 1), jnp.bfloat16)
    grad = jax.grad(lambda t: take_rows(t, jnp.zeros(1000, jnp.int32), backend=backend).astype(jnp.float32).sum())(
        table
    )
    assert grad.dtype == jnp.bfloat16
    np.testing.assert_array_equal(grad[:, 0].astype(jnp.float32), [1000, 0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_sum_of_a_row_is_made_in_the_order_of_the_values(backend):
    values = jnp.asarray([2.0**24, 1.0, 1.0, -(2.0**24)] * 20000, jnp.float32)[:, None]
    operands = values[None], jnp.zeros((1, len(values)), jnp.int32)
    total = add_rows_p.bind(*operands, rows=5, sums=1, backend=backend)
    # One by one, the ones are lost beside the large number.
    np.testing.assert_array_equal(total[0, :, 0], [0, 0, 0, 0, 0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_batches_and_their_gradients_are_those_of_a_loop(backend, axes):
    tables = jnp.asarray(rng.normal(size=(4, 2, 7, 3)), jnp.float32)
    indices = jnp.asarray(rng.integers(-1, 8, size=(4, 2, 30)), jnp.int32)
    weights = jnp.asarray(rng.normal(size=(4, 2, 30, 3)), jnp.float32)

    def loss(table, index, weight):
        return jnp.vdot(take_rows(table, index, backend=backend), weight)

    # The inner vmap maps all, the outer what `axes` says.
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
def test_shared_table_gets_the_sum_over_the_batch(backend):
    tables = jnp.asarray(rng.normal(size=(3, 7, 2)), jnp.float32)
    indices = jnp.asarray(rng.integers(-1, 8, size=(3, 5, 30)), jnp.int32)
    weights = jnp.asarray(rng.normal(size=(3, 5, 30, 2)), jnp.float32)

    def loss(table, indices, weights):
        return jnp.vdot(jax.vmap(lambda i: take_rows(table, i, backend=backend))(indices), weights)

    found = jax.jit(jax.vmap(jax.grad(loss)))(tables, indices, weights)
    jaxpr = str(jax.make_jaxpr(jax.vmap(jax.grad(loss)))(tables, indices, weights))
    assert "sums=3" in jaxpr
    for i in range(3):
        expected = sum(jax.grad(loss)(tables[i], indices[i, j : j + 1], weights[i, j : j + 1]) for j in range(5))
        np.testing.assert_allclose(found[i], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_derivatives_of_any_order_and_mode_are_those_of_indexing(backend):
    table, index = table_and_index(30)
    direction, other = (jnp.asarray(rng.normal(size=table.shape), jnp.float32) for _ in range(2))

    def cubed(table):
        return jnp.sum(take_rows(table, index, backend=backend) ** 3)

    def plainly(table):
        return jnp.sum(jnp.where(((index >= 0) & (index < 7))[:, None], table[jnp.clip(index, 0, 6)], 0) ** 3)

    for derivative in (
        lambda f: jax.jvp(f, (table,), (direction,))[1],
        lambda f: jax.jvp(jax.grad(f), (table,), (direction,))[1],
        lambda f: jax.grad(lambda t: jnp.vdot(jax.grad(f)(t), direction))(table),
        lambda f: jax.jvp(lambda t: jax.jvp(f, (t,), (direction,))[1], (table,), (other,))[1],
        lambda f: jax.vmap(lambda d: jax.jvp(jax.grad(f), (table,), (d,))[1])(jnp.stack([direction, other])),
    ):
        np.testing.assert_allclose(derivative(cubed), derivative(plainly), rtol=1e-4, atol=1e-4)


def test_transpose_of_sums_over_parts_of_a_batch():
    values = jnp.asarray(rng.normal(size=(6, 30, 2)), jnp.float32)
    index = jnp.asarray(rng.integers(-1, 8, size=(6, 30)), jnp.int32)
    weights = jnp.asarray(rng.normal(size=(3, 7, 2)), jnp.float32)
    for v in (values, values[:1]):
        for i in (index, index[:1]) if v is values else (index,):
            grad = jax.grad(lambda v, i=i: jnp.vdot(add_rows_p.bind(v, i, rows=7, sums=3, backend="xla"), weights))(v)
            taken = take_rows_p.bind(jnp.repeat(weights, 2, axis=0), i, backend="xla")
            expected = taken if v is values else taken.sum(axis=0, keepdims=True)
            np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-5)
