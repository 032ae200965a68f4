"""The Triton kernels of the gathers and scatter-adds, interpreted and on the PTX emulator, against plain JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes import SCENES, skip_unless_launched_from_jax

launch = pytest.importorskip("jnr.triton_kernels.launch", reason="triton is not installed", exc_type=ImportError)

import ptx_emulator

import jnr
from jnr._ops.barycentrics import definition as barycentrics_definition
from jnr._ops.gather import definition
from jnr.triton_kernels import barycentrics, gather

plain_scatter_add = jax.jit(definition.scatter_add, static_argnames=("rows", "sums"))
plain_weighted_scatter_add = jax.jit(definition.weighted_scatter_add, static_argnames=("rows", "sums"))


@pytest.fixture(params=["interpreter", "emulator"])
def device(request):
    """Runs the kernels interpreted or on the PTX emulator."""
    if request.param == "emulator":
        skip_unless_launched_from_jax()
    with launch.interpreted() if request.param == "interpreter" else ptx_emulator.emulated_gpu():
        yield


def check(found, expected):
    expected = np.asarray(expected)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def normal(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("terms", "each", "channels"), [(1, 3, 3), (3, 1, 1), (2, 2, 5)])
@pytest.mark.parametrize("shared", [None, "values", "weights", "index"])
def test_weighted_values_are_added_up_as_in_plain_jax(terms, each, channels, shared, rng, device):
    # Runs of five equal indices: some are out of range, and some continue in the next program.
    index = np.repeat(rng.integers(-2, 8, size=(4, 8, terms)), 5, axis=1).astype(np.int32)
    index[:, 0], index[:, 1] = 2**31 - 1, -(2**31)
    operands = {"values": normal(rng, 4, 40, channels), "weights": normal(rng, 4, 40, terms * each), "index": index}
    if shared:
        operands[shared] = operands[shared][:1]
    operands = list(operands.values())
    found = gather.weighted_scatter_add(*map(jnp.asarray, operands), rows=6 * each, sums=2)
    check(found, plain_weighted_scatter_add(*operands, rows=6 * each, sums=2))


@pytest.mark.parametrize("count", [1, 31, 32, 33, 65])
def test_runs_of_any_length_are_added_up(count, rng, device):
    for index in (np.zeros(count), np.arange(count) % 2, np.arange(count) // 7, rng.integers(0, 3, count)):
        operands = normal(rng, 1, count, 1), index[None].astype(np.int32)
        check(
            gather.scatter_add(*map(jnp.asarray, operands), rows=12, sums=1),
            plain_scatter_add(*operands, rows=12, sums=1),
        )


def test_values_of_zero_contribute_zero_whatever_their_weight(rng, device):
    values, weights, index = normal(rng, 1, 40, 2), normal(rng, 1, 40, 1), np.zeros((1, 40, 1), np.int32)
    values[:, ::2], weights[:, ::4], weights[:, 2::4] = 0, np.nan, np.inf
    found = gather.weighted_scatter_add(*map(jnp.asarray, (values, weights, index)), rows=3, sums=1)
    check(found, plain_weighted_scatter_add(values, weights, index, rows=3, sums=1))


def test_empty_operands_give_zeros(rng, device):
    for batch, count, num_rows in ((2, 0, 3), (2, 5, 0), (0, 5, 3)):
        operands = jnp.zeros((batch, count, 2)), jnp.zeros((batch, count), jnp.int32)
        np.testing.assert_array_equal(
            gather.scatter_add(*operands, rows=num_rows, sums=batch), np.zeros((batch, num_rows, 2))
        )


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("scene", ["padding", "not_finite", "near_plane"])
def test_gradient_of_barycentrics_agrees_with_plain_jax(scene, shared, rng, device):
    clip, faces, *_ = SCENES[scene]
    height, width = 7, 9
    both = np.stack([clip, clip * np.array([-1, 1, 1, 1], np.float32)])
    clips = both[: 1 if shared else 2]
    rasterize = jax.vmap(lambda c: jnr.rasterize(c, faces, (height, width), backend="xla").face_index)
    face_index = np.asarray(rasterize(both))
    operands = normal(rng, 2, height, width, 3), clips, faces[None], face_index
    found = barycentrics.barycentrics_bwd(*map(jnp.asarray, operands), sums=len(clips))
    expected = jax.jit(barycentrics_definition.barycentrics_bwd, static_argnames="sums")(*operands, sums=len(clips))
    assert found.shape == clips.shape
    check(found, expected)


@pytest.mark.parametrize(("terms", "group", "channels"), [(1, 3, 3), (4, 1, 1), (2, 2, 5)])
@pytest.mark.parametrize("shared", [None, "table", "index"])
def test_gathers_and_products_agree_with_plain_jax(terms, group, channels, shared, rng, device):
    operands = {
        "table": normal(rng, 3, 6 * group, channels),
        "weights": normal(rng, 3, 40, terms * group),
        "values": normal(rng, 3, 40, channels),
        "index": rng.integers(-2, 8, size=(3, 40, terms)).astype(np.int32),
    }
    operands["index"].reshape(-1)[:2] = 2**31 - 1, -(2**31)
    # Values of zero contribute zero whatever they are multiplied by.
    operands["values"][:, 5], operands["table"][:, 0] = 0, np.nan
    operands["index"][operands["index"] == 0] = 1
    operands["index"][:, 5] = 0
    if shared:
        operands[shared] = operands[shared][:1]
    table, weights, values, index = map(jnp.asarray, operands.values())
    weights = jnp.where(index.repeat(group, axis=-1) == 0, 0, weights) if shared != "index" else weights
    finite = jnp.nan_to_num(table)
    check(gather.weighted_gather(finite, weights, index), definition.weighted_gather(finite, weights, index))
    count = weights.shape[-1]
    check(gather.row_dot(values, table, index, weights=count), definition.row_dot(values, table, index, weights=count))
    single = index[..., 0]
    np.testing.assert_array_equal(gather.gather(table, single), definition.gather(table, single))
    faces = (finite * 10).astype(jnp.int32)
    np.testing.assert_array_equal(gather.gather(faces, single), definition.gather(faces, single))


def test_gathers_from_empty_tables_are_zero(rng, device):
    index = jnp.zeros((1, 4, 1), jnp.int32)
    empty, weights = jnp.zeros((1, 0, 2)), jnp.ones((1, 4, 3))
    np.testing.assert_array_equal(gather.weighted_gather(empty, weights, index), np.zeros((1, 4, 2)))
    np.testing.assert_array_equal(gather.row_dot(jnp.ones((1, 4, 2)), empty, index, weights=3), np.zeros((1, 4, 3)))
    np.testing.assert_array_equal(gather.gather(empty.astype(jnp.int32), index[..., 0]), np.full((1, 4, 2), -1))
    assert gather.gather(empty, index[:, :0, 0]).shape == (1, 0, 2)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("scene", ["padding", "not_finite", "near_plane"])
def test_barycentrics_agree_with_plain_jax(scene, shared, rng, device):
    clip, faces, *_ = SCENES[scene]
    clips = np.stack([clip, clip * np.array([-1, 1, 1, 1], np.float32)])
    rasterize = jax.vmap(lambda c: jnr.rasterize(c, faces, (7, 9), backend="xla").face_index)
    face_index = rasterize(clips)
    operands = jnp.asarray(clips[:1] if shared else clips), jnp.asarray(faces)[None], face_index
    found, expected = barycentrics.barycentrics(*operands), barycentrics_definition.barycentrics(*operands)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(found)[np.asarray(face_index) < 0], 0)
    assert float(jnp.max(found)) > 0.5
