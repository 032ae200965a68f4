"""Gather, scatter-add and their weighted forms as Triton kernels. README.md, "Gather", has the layout."""

import jax
import jax.numpy as jnp
import triton
import triton.language as tl

from jnr._ops.gather import definition
from jnr.triton_kernels import launch

# Values per program of one warp; as a rule those of neighbouring pixels.
BLOCK = 32


def gather(table: jax.Array, index: jax.Array) -> jax.Array:
    """Arguments and result as in jnr/_ops/gather/definition.py."""
    batch, count, channels = max(len(table), len(index)), index.shape[1], table.shape[2]
    if table.dtype not in (jnp.float32, jnp.int32):
        raise NotImplementedError(f'The Triton kernel gathers float32 and int32, got {table.dtype}. Use backend="xla".')
    return _map_values(gather_kernel, (batch, count, channels), table, index, rows=table.shape[1], CHANNELS=channels)


def scatter_add(values: jax.Array, index: jax.Array, *, rows: int, sums: int) -> jax.Array:
    """Arguments and result as in jnr/_ops/gather/definition.py."""
    if launch.is_deterministic():
        return definition.scatter_add(values, index, rows=rows, sums=sums)
    return _scatter_add(values, None, index[..., None], rows, sums)


def weighted_gather(table: jax.Array, weights: jax.Array, index: jax.Array) -> jax.Array:
    """Arguments and result as in jnr/_ops/gather/definition.py."""
    launch.check_float32(table, weights)
    batch, (count, terms) = max(map(len, (table, weights, index))), index.shape[1:]
    group = weights.shape[2] // max(terms, 1)
    return _map_values(
        weighted_gather_kernel,
        (batch, count, table.shape[2]),
        table,
        weights,
        index,
        rows=table.shape[1] // max(group, 1),
        CHANNELS=table.shape[2],
        TERMS=terms,
        GROUP=group,
    )


def weighted_scatter_add(values: jax.Array, weights: jax.Array, index: jax.Array, *, rows: int, sums: int) -> jax.Array:
    """Arguments and result as in jnr/_ops/gather/definition.py."""
    if launch.is_deterministic():
        return definition.weighted_scatter_add(values, weights, index, rows=rows, sums=sums)
    return _scatter_add(values, weights, index, rows, sums)


def row_dot(values: jax.Array, table: jax.Array, index: jax.Array, *, weights: int) -> jax.Array:
    """Arguments and result as in jnr/_ops/gather/definition.py."""
    launch.check_float32(values, table)
    batch, (count, terms) = max(map(len, (values, table, index))), index.shape[1:]
    group = weights // max(terms, 1)
    return _map_values(
        row_dot_kernel,
        (batch, count, weights),
        values,
        table,
        index,
        rows=table.shape[1] // max(group, 1),
        CHANNELS=table.shape[2],
        TERMS=terms,
        GROUP=group,
    )


def _map_values(kernel, shape, *operands, rows, **constants):
    """Runs a kernel that computes each value of its own, from operands `(1 or batch, ...)` and an index into `rows`."""
    result = jax.ShapeDtypeStruct(shape, operands[0].dtype)
    batch, count = shape[:2]
    if 0 in (*shape, rows, *constants.values()):
        fill = -1 if result.dtype == jnp.int32 else 0
        return jnp.full(shape, fill, result.dtype)
    blocks = -(-count // BLOCK)
    (out,) = launch.call(
        kernel,
        *operands,
        *map(launch.batch_step, operands),
        count,
        blocks,
        rows,
        results=[result],
        programs=batch * blocks,
        warps=1,
        BLOCK=BLOCK,
        **constants,
    )
    return out


def _scatter_add(values, weights, index, rows, sums):
    count, channels = values.shape[1:]
    terms, group, weighted = index.shape[2], 1, weights is not None
    if weighted:
        group = weights.shape[2] // max(terms, 1)
    else:
        weights = values  # not read
    launch.check_float32(values, weights)
    batch = max(a.shape[0] for a in (values, weights, index))
    result = jax.ShapeDtypeStruct((sums, rows, channels), jnp.float32)
    if 0 in (batch, count, channels, rows, terms, group):
        return jnp.zeros(result.shape, result.dtype)
    blocks = -(-count // BLOCK)
    (out,) = launch.call(
        scatter_add_kernel,
        values,
        weights,
        index,
        *map(launch.batch_step, (values, weights, index)),
        count,
        blocks,
        rows // group,
        batch // sums,
        results=[result],
        zeroed=(0,),
        programs=batch * blocks,
        warps=1,
        CHANNELS=channels,
        TERMS=terms,
        GROUP=group,
        WEIGHTED=weighted,
        BLOCK=BLOCK,
    )
    return out


@triton.jit
def _values_of_program(count, blocks, BLOCK: tl.constexpr):
    """The batch item of a program, the numbers of its values, and which of them exist."""
    item = tl.program_id(0) // blocks
    position = (tl.program_id(0) - item * blocks) * BLOCK + tl.arange(0, BLOCK)
    return item.to(tl.int64), position.to(tl.int64), position < count


@triton.jit
def gather_kernel(
    table_ptr,
    index_ptr,
    table_step,
    index_step,
    count,
    blocks,
    rows,
    out_ptr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Copies rows of a table; zeros, or -1 in a table of integers, where the index is out of range."""
    item, position, exists = _values_of_program(count, blocks, BLOCK)
    index = tl.load(index_ptr + item * index_step + position, mask=exists, other=-1)
    in_range = (index >= 0) & (index < rows)
    row_ptr = table_ptr + item * table_step + index.to(tl.int64) * CHANNELS
    out_ptr += (item * count + position) * CHANNELS
    for channel in range(CHANNELS):
        fill = -1 if table_ptr.dtype.element_ty == tl.int32 else 0.0
        tl.store(out_ptr + channel, tl.load(row_ptr + channel, mask=in_range, other=fill), mask=exists)


@triton.jit
def weighted_gather_kernel(
    table_ptr,
    weights_ptr,
    index_ptr,
    table_step,
    weights_step,
    index_step,
    count,
    blocks,
    groups,
    out_ptr,
    CHANNELS: tl.constexpr,
    TERMS: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Weighted sums of rows of a table."""
    item, position, exists = _values_of_program(count, blocks, BLOCK)
    table_ptr += item * table_step
    weight_ptr = weights_ptr + item * weights_step + position * (TERMS * GROUP)
    index_ptr += item * index_step + position * TERMS
    out_ptr += (item * count + position) * CHANNELS
    for channel in range(CHANNELS):
        total = tl.zeros([BLOCK], tl.float32)
        for term in range(TERMS):
            index = tl.load(index_ptr + term, mask=exists, other=-1)
            in_range = (index >= 0) & (index < groups)
            row_ptr = table_ptr + index.to(tl.int64) * (GROUP * CHANNELS) + channel
            for k in range(GROUP):
                weight = tl.load(weight_ptr + term * GROUP + k, mask=in_range, other=0.0)
                total += weight * tl.load(row_ptr + k * CHANNELS, mask=in_range, other=0.0)
        tl.store(out_ptr + channel, total, mask=exists)


@triton.jit
def row_dot_kernel(
    values_ptr,
    table_ptr,
    index_ptr,
    values_step,
    table_step,
    index_step,
    count,
    blocks,
    groups,
    out_ptr,
    CHANNELS: tl.constexpr,
    TERMS: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Scalar products of values with rows of a table."""
    item, position, exists = _values_of_program(count, blocks, BLOCK)
    value_ptr = values_ptr + item * values_step + position * CHANNELS
    table_ptr += item * table_step
    index_ptr += item * index_step + position * TERMS
    out_ptr += (item * count + position) * (TERMS * GROUP)
    for term in range(TERMS):
        index = tl.load(index_ptr + term, mask=exists, other=-1)
        in_range = (index >= 0) & (index < groups)
        row_ptr = table_ptr + index.to(tl.int64) * (GROUP * CHANNELS)
        for k in range(GROUP):
            total = tl.zeros([BLOCK], tl.float32)
            for channel in range(CHANNELS):
                value = tl.load(value_ptr + channel, mask=in_range, other=0.0)
                product = value * tl.load(row_ptr + k * CHANNELS + channel, mask=in_range, other=0.0)
                # A value of zero contributes zero, whatever it is multiplied by.
                total += tl.where(value == 0, 0.0, product)
            tl.store(out_ptr + term * GROUP + k, total, mask=exists)


@triton.jit
def _run_sum(value, lane, start, BLOCK: tl.constexpr):
    """Inclusive sums over the run of each lane; `start` is the run's first lane."""
    step = 1
    while step < BLOCK:
        before = tl.gather(value, tl.maximum(lane - step, 0), 0)
        value += tl.where(lane - step >= start, before, 0.0)
        step = step * 2
    return value


@triton.jit
def scatter_add_kernel(
    values_ptr,
    weights_ptr,
    index_ptr,
    values_step,
    weights_step,
    index_step,
    count,
    blocks,
    groups,
    items_per_sum,
    sums_ptr,
    CHANNELS: tl.constexpr,
    TERMS: tl.constexpr,
    GROUP: tl.constexpr,
    WEIGHTED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Adds a block of values to their rows. Runs of neighbours with one index (pixels of a face) are summed first."""
    item, position, exists = _values_of_program(count, blocks, BLOCK)
    lane = tl.arange(0, BLOCK)
    value_ptr = values_ptr + item * values_step + position * CHANNELS
    weight_ptr = weights_ptr + item * weights_step + position * (TERMS * GROUP)
    index_ptr += item * index_step + position * TERMS
    sums_ptr += item // items_per_sum * groups * (GROUP * CHANNELS)
    for term in range(TERMS):
        index = tl.load(index_ptr + term, mask=exists, other=-1)
        in_range = (index >= 0) & (index < groups)
        if tl.max(in_range.to(tl.int32), 0) > 0:
            # A run's first lane differs from the lane before it, its last lane from the next.
            is_first = (lane == 0) | (index != tl.gather(index, tl.maximum(lane - 1, 0), 0))
            is_last = (lane == BLOCK - 1) | (index != tl.gather(index, tl.minimum(lane + 1, BLOCK - 1), 0))
            start = tl.where(is_first, lane, 0)
            step = 1
            while step < BLOCK:
                start = tl.maximum(start, tl.gather(start, tl.maximum(lane - step, 0), 0))
                step = step * 2
            row_ptr = sums_ptr + index.to(tl.int64) * (GROUP * CHANNELS)
            for channel in range(CHANNELS):
                value = tl.load(value_ptr + channel, mask=in_range, other=0.0)
                for k in range(GROUP):
                    product = value
                    if WEIGHTED:
                        weight = tl.load(weight_ptr + term * GROUP + k, mask=in_range, other=0.0)
                        # A value of zero contributes zero, whatever its weight.
                        product = tl.where(value == 0, 0.0, value * weight)
                    total = _run_sum(product, lane, start, BLOCK)
                    tl.atomic_add(
                        row_ptr + k * CHANNELS + channel, total, mask=in_range & is_last & (total != 0), sem="relaxed"
                    )
