"""The Triton kernel of the scatter-adds, interpreted and on the PTX emulator, against plain JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes import SCENES, skip_unless_launched_from_jax

launch = pytest.importorskip("jnr.triton_kernels.launch", reason="triton is not installed", exc_type=ImportError)

import ptx_emulator

import jnr
from jnr._xla import resolve as xla_resolve, rows as xla_rows
from jnr.triton_kernels import rows

plain_add = jax.jit(xla_rows.scatter_add, static_argnames=("rows", "sums"))
plain_spread = jax.jit(xla_rows.weighted_scatter_add, static_argnames=("rows", "sums"))
rng = np.random.default_rng(0)


@pytest.fixture(params=["interpreter", "emulator"])
def device(request):
    """What runs the kernels."""
    if request.param == "emulator":
        skip_unless_launched_from_jax()
    with launch.interpreted() if request.param == "interpreter" else ptx_emulator.emulated_gpu():
        yield


def check(found, expected):
    expected = np.asarray(expected)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("terms", "each", "channels"), [(1, 3, 3), (3, 1, 1), (2, 2, 5)])
@pytest.mark.parametrize("shared", [None, "values", "weights", "index"])
def test_weighted_values_are_added_up_as_in_plain_jax(terms, each, channels, shared, device):
    # Runs of five equal indices: some are out of range, and some continue in the next program.
    index = np.repeat(rng.integers(-2, 8, size=(4, 8, terms)), 5, axis=1).astype(np.int32)
    index[:, 0], index[:, 1] = 2**31 - 1, -(2**31)
    operands = {"values": normal(4, 40, channels), "weights": normal(4, 40, terms * each), "index": index}
    if shared:
        operands[shared] = operands[shared][:1]
    operands = list(operands.values())
    found = rows.weighted_scatter_add(*map(jnp.asarray, operands), rows=6 * each, sums=2)
    check(found, plain_spread(*operands, rows=6 * each, sums=2))


@pytest.mark.parametrize("count", [1, 31, 32, 33, 65])
def test_runs_of_any_length_are_added_up(count, device):
    for index in (np.zeros(count), np.arange(count) % 2, np.arange(count) // 7, rng.integers(0, 3, count)):
        operands = normal(1, count, 1), index[None].astype(np.int32)
        check(rows.scatter_add(*map(jnp.asarray, operands), rows=12, sums=1), plain_add(*operands, rows=12, sums=1))


def test_values_of_zero_contribute_nothing_whatever_their_weight(device):
    values, weights, index = normal(1, 40, 2), normal(1, 40, 1), np.zeros((1, 40, 1), np.int32)
    values[:, ::2], weights[:, ::4], weights[:, 2::4] = 0, np.nan, np.inf
    found = rows.weighted_scatter_add(*map(jnp.asarray, (values, weights, index)), rows=3, sums=1)
    check(found, plain_spread(values, weights, index, rows=3, sums=1))


def test_empty_operands_give_zeros(device):
    for batch, count, num_rows in ((2, 0, 3), (2, 5, 0), (0, 5, 3)):
        operands = jnp.zeros((batch, count, 2)), jnp.zeros((batch, count), jnp.int32)
        np.testing.assert_array_equal(
            rows.scatter_add(*operands, rows=num_rows, sums=batch), np.zeros((batch, num_rows, 2))
        )


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("scene", ["padding", "not_finite", "near_plane"])
def test_gradient_of_barycentrics_agrees_with_plain_jax(scene, shared, device):
    clip, faces, *_ = SCENES[scene]
    height, width = 7, 9
    both = np.stack([clip, clip * np.float32([-1, 1, 1, 1])])
    clips = both[: 1 if shared else 2]
    rasterize = jax.vmap(lambda c: jnr.rasterize(c, faces, (height, width), backend="xla").face_index)
    face_index = np.asarray(rasterize(both))
    operands = normal(2, height, width, 3), clips, faces[None], face_index
    found = rows.barycentrics_bwd(*map(jnp.asarray, operands), sums=len(clips))
    expected = jax.jit(xla_resolve.barycentrics_bwd, static_argnames="sums")(*operands, sums=len(clips))
    assert found.shape == clips.shape
    check(found, expected)
