"""Adding values of pixels up in the rows that they were read from, as a Triton kernel. README.md, "Rows"."""

import jax
import jax.numpy as jnp
import triton
import triton.language as tl

from jnr._xla import resolve as xla_resolve, rows as xla_rows
from jnr.triton_kernels import launch

# Values, of pixels next to each other as a rule, that one program, which is one warp, adds up.
BLOCK = 32


def add_rows(values: jax.Array, index: jax.Array, *, rows: int, sums: int) -> jax.Array:
    """Values added up by their index; arguments and result as in jnr/_xla/rows.py."""
    if launch.same_bits():
        return xla_rows.add_rows(values, index, rows=rows, sums=sums)
    return _spread(values, None, index[..., None], rows, sums)


def spread_rows(values: jax.Array, weights: jax.Array, index: jax.Array, *, rows: int, sums: int) -> jax.Array:
    """Weighted values added up by their indices; arguments and result as in jnr/_xla/rows.py."""
    if launch.same_bits():
        return xla_rows.spread_rows(values, weights, index, rows=rows, sums=sums)
    return _spread(values, weights, index, rows, sums)


def resolve_bwd(
    cotangent: jax.Array, clip_positions: jax.Array, faces: jax.Array, face_index: jax.Array, *, sums: int
) -> jax.Array:
    """Cotangent of the clip positions; arguments and result as in jnr/_xla/resolve.py, whose arithmetic it is."""
    return xla_resolve.resolve_bwd(cotangent, clip_positions, faces, face_index, sums=sums, add_rows=add_rows)


def _spread(values, weights, index, rows, sums):
    count, channels = values.shape[1:]
    terms, each, weighted = index.shape[2], 1, weights is not None
    if weighted:
        each = weights.shape[2] // max(terms, 1)
    else:
        weights = values  # not read
    launch.check_float32(values, weights)
    batch = max(a.shape[0] for a in (values, weights, index))
    result = jax.ShapeDtypeStruct((sums, rows, channels), jnp.float32)
    if 0 in (batch, count, channels, rows, terms, each):
        return jnp.zeros(result.shape, result.dtype)
    blocks = -(-count // BLOCK)
    (out,) = launch.call(
        spread_rows_kernel,
        values,
        weights,
        index,
        *map(launch.batch_step, (values, weights, index)),
        count,
        blocks,
        rows // each,
        batch // sums,
        results=[result],
        zeroed=(0,),
        programs=batch * blocks,
        warps=1,
        CHANNELS=channels,
        TERMS=terms,
        EACH=each,
        WEIGHTED=weighted,
        BLOCK=BLOCK,
    )
    return out


@triton.jit
def _run_sum(value, lane, start, BLOCK: tl.constexpr):
    """Sums over the run that each lane is in, up to it; `start` is the run's first lane."""
    step = 1
    while step < BLOCK:
        before = tl.gather(value, tl.maximum(lane - step, 0), 0)
        value += tl.where(lane - step >= start, before, 0.0)
        step = step * 2
    return value


@triton.jit
def spread_rows_kernel(
    values_ptr,
    weights_ptr,
    index_ptr,
    values_step,
    weights_step,
    index_step,
    count,
    blocks,
    groups,
    items_each,
    sums_ptr,
    CHANNELS: tl.constexpr,
    TERMS: tl.constexpr,
    EACH: tl.constexpr,
    WEIGHTED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Adds up a block of values; neighbours with the same index, as pixels of one face are, are added up first."""
    item = tl.program_id(0) // blocks
    lane = tl.arange(0, BLOCK)
    position = (tl.program_id(0) - item * blocks) * BLOCK + lane
    there = position < count
    position = position.to(tl.int64)
    value_ptr = values_ptr + item.to(tl.int64) * values_step + position * CHANNELS
    weight_ptr = weights_ptr + item.to(tl.int64) * weights_step + position * (TERMS * EACH)
    index_ptr += item.to(tl.int64) * index_step + position * TERMS
    sums_ptr += (item // items_each).to(tl.int64) * groups * (EACH * CHANNELS)
    for term in range(TERMS):
        index = tl.load(index_ptr + term, mask=there, other=-1)
        wanted = (index >= 0) & (index < groups)
        if tl.max(wanted.to(tl.int32), 0) > 0:
            # A run's first lane differs from the one before it, its last one from the next.
            is_first = (lane == 0) | (index != tl.gather(index, tl.maximum(lane - 1, 0), 0))
            is_last = (lane == BLOCK - 1) | (index != tl.gather(index, tl.minimum(lane + 1, BLOCK - 1), 0))
            start = tl.where(is_first, lane, 0)
            step = 1
            while step < BLOCK:
                start = tl.maximum(start, tl.gather(start, tl.maximum(lane - step, 0), 0))
                step = step * 2
            row_ptr = sums_ptr + index.to(tl.int64) * (EACH * CHANNELS)
            for channel in range(CHANNELS):
                value = tl.load(value_ptr + channel, mask=wanted, other=0.0)
                for k in range(EACH):
                    product = value
                    if WEIGHTED:
                        weight = tl.load(weight_ptr + term * EACH + k, mask=wanted, other=0.0)
                        # A value of zero adds nothing, whatever its weight.
                        product = tl.where(value == 0, 0.0, value * weight)
                    total = _run_sum(product, lane, start, BLOCK)
                    tl.atomic_add(
                        row_ptr + k * CHANNELS + channel, total, mask=wanted & is_last & (total != 0), sem="relaxed"
                    )
