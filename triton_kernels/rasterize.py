"""Rasterization as Triton kernels: face setup, offsets, depth test. Derivation and layout: README.md, "Rasterize"."""

import jax
import jax.numpy as jnp
import triton
import triton.language as tl
from jax import lax

from jnr.triton_kernels import launch
from jnr.triton_kernels.geometry import (
    edge_function,
    is_finite,
    maximum,
    minimum,
    power_of_two_scale,
    sign,
    to_column,
    to_row,
)

TILE = 8
# Faces whose pairs are numbered together, and pairs that one program, which is one warp, tests at once.
BLOCK_FACES = 128
PAIRS = 32
BLOCK_OFFSETS = 1024
# As many programs as a large GPU holds at once; each strides over what there is to do.
PROGRAMS = 4096


def rasterize(clip_positions: jax.Array, faces: jax.Array, *, height: int, width: int, cull: str | None) -> jax.Array:
    """The face each pixel sees, -1 where none; arguments and result as in jnr/_ops/rasterize/definition.py."""
    launch.check_float32(clip_positions)
    batch = max(clip_positions.shape[0], faces.shape[0])
    num_vertices, num_faces = clip_positions.shape[1], faces.shape[1]
    if 0 in (batch, num_vertices, num_faces):
        return jnp.full((batch, height, width), -1, jnp.int32)
    total = batch * num_faces
    blocks = -(-total // BLOCK_FACES)
    mesh = {
        "clip_step": launch.batch_step(clip_positions, 4),
        "faces_step": launch.batch_step(faces, 3),
        "total": total,
        "num_faces": num_faces,
        "num_vertices": num_vertices,
        "height": height,
        "width": width,
    }
    culling = {None: 0, "back": 1, "front": -1}[cull]
    box, ends, chunks = launch.call(
        rasterize_setup_kernel,
        clip_positions,
        faces,
        *mesh.values(),
        results=[
            jax.ShapeDtypeStruct((total, 3), jnp.int32),
            jax.ShapeDtypeStruct((total, 2), jnp.uint32),
            jax.ShapeDtypeStruct((blocks,), jnp.int32),
        ],
        programs=blocks,
        warps=4,
        CULL=culling,
        TILE=TILE,
        BLOCK_FACES=BLOCK_FACES,
        PAIRS=PAIRS,
    )
    (block_ends,) = launch.call(
        rasterize_offsets_kernel,
        chunks,
        blocks,
        results=[jax.ShapeDtypeStruct((blocks, 2), jnp.uint32)],
        programs=1,
        warps=4,
        BLOCK=BLOCK_OFFSETS,
    )
    (keys,) = launch.call(
        rasterize_fwd_kernel,
        clip_positions,
        faces,
        box,
        ends,
        block_ends,
        *mesh.values(),
        blocks,
        results=[jax.ShapeDtypeStruct((batch, height, width, 2), jnp.uint32)],
        zeroed=(0,),
        programs=launch.persistent(PROGRAMS),
        warps=1,
        CULL=culling,
        TILE=TILE,
        BLOCK_FACES=BLOCK_FACES,
        PAIRS=PAIRS,
    )
    # The low word is the face's complement, and 0 where nothing was drawn, whose complement is -1.
    return lax.bitcast_convert_type(~keys[..., 0], jnp.int32)


@triton.jit
def _load_face(faces_ptr, item, face, faces_step, mask):
    row = faces_ptr + (item.to(tl.int64) * faces_step + face) * 3
    v0 = tl.load(row, mask=mask, other=-1)
    v1 = tl.load(row + 1, mask=mask, other=-1)
    v2 = tl.load(row + 2, mask=mask, other=-1)
    return v0, v1, v2


@triton.jit
def _load_vertex(clip_ptr, item, vertex, clip_step, mask):
    row = clip_ptr + (item.to(tl.int64) * clip_step + vertex) * 4
    x = tl.load(row, mask=mask, other=0.0)
    y = tl.load(row + 1, mask=mask, other=0.0)
    z = tl.load(row + 2, mask=mask, other=0.0)
    w = tl.load(row + 3, mask=mask, other=0.0)
    return x, y, z, w


@triton.jit
def _project(x, y, z, w, height, width):
    """Column, row, and place: 0 not a number, 1 before near, 2 beyond it but behind the camera, 3 in front of both."""
    usable = is_finite(x) & is_finite(y) & is_finite(z) & is_finite(w)
    beyond_near = usable & (z >= -w)
    in_front = beyond_near & (w > 0)
    divisor = tl.where(in_front, w, 1.0)
    place = usable.to(tl.int32) + beyond_near.to(tl.int32) + in_front.to(tl.int32)
    return tl.div_rn(to_column(x, w, width), divisor), tl.div_rn(to_row(y, w, height), divisor), place


@triton.jit
def _include(low_x, low_y, high_x, high_y, low_w, x, y, w, exists):
    """Widens the bounds by a point of a near-clipped face."""
    positive = exists & (w > 0)
    divisor = tl.where(positive, w, 1.0)
    x, y = tl.div_rn(x, divisor), tl.div_rn(y, divisor)
    low_x = tl.where(positive, minimum(low_x, x), low_x)
    low_y = tl.where(positive, minimum(low_y, y), low_y)
    high_x = tl.where(positive, maximum(high_x, x), high_x)
    high_y = tl.where(positive, maximum(high_y, y), high_y)
    low_w = tl.where(exists, minimum(low_w, w), low_w)
    return low_x, low_y, high_x, high_y, low_w


@triton.jit
def _include_edge(low_x, low_y, high_x, high_y, low_w, ax, ay, az, aw, bx, by, bz, bw, height, width):
    """Widens the bounds by a corner, and by the point where the edge that starts there meets the near plane."""
    ax, ay, bx, by = to_column(ax, aw, width), to_row(ay, aw, height), to_column(bx, bw, width), to_row(by, bw, height)
    near_a, near_b = az + aw, bz + bw
    inside = near_a >= 0
    cut = inside != (near_b >= 0)
    t = tl.div_rn(near_a, tl.where(cut, near_a - near_b, 1.0))
    low_x, low_y, high_x, high_y, low_w = _include(low_x, low_y, high_x, high_y, low_w, ax, ay, aw, inside)
    return _include(
        low_x, low_y, high_x, high_y, low_w, ax + t * (bx - ax), ay + t * (by - ay), aw + t * (bw - aw), cut
    )


@triton.jit
def rasterize_setup_kernel(
    clip_ptr,
    faces_ptr,
    clip_step,
    faces_step,
    total,
    num_faces,
    num_vertices,
    height,
    width,
    box_ptr,
    ends_ptr,
    chunks_ptr,
    CULL: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_FACES: tl.constexpr,
    PAIRS: tl.constexpr,
):
    """Tiles each face may touch, their running number in a block of faces, and the work that the block makes."""
    ends_ptr = ends_ptr.to(tl.pointer_type(tl.int64))
    block = tl.program_id(0)
    flat = block * BLOCK_FACES + tl.arange(0, BLOCK_FACES)
    exists = flat < total
    item = flat // num_faces
    v0, v1, v2 = _load_face(faces_ptr, item, flat - item * num_faces, faces_step, exists)
    drawn = (v0 >= 0) & (v1 >= 0) & (v2 >= 0) & (v0 < num_vertices) & (v1 < num_vertices) & (v2 < num_vertices)
    x0, y0, z0, w0 = _load_vertex(clip_ptr, item, v0, clip_step, drawn)
    x1, y1, z1, w1 = _load_vertex(clip_ptr, item, v1, clip_step, drawn)
    x2, y2, z2, w2 = _load_vertex(clip_ptr, item, v2, clip_step, drawn)
    px0, py0, place0 = _project(x0, y0, z0, w0, height, width)
    px1, py1, place1 = _project(x1, y1, z1, w1, height, width)
    px2, py2, place2 = _project(x2, y2, z2, w2, height, width)

    lowest = tl.minimum(tl.minimum(place0, place1), place2)
    drawn = drawn & (lowest > 0) & (tl.maximum(tl.maximum(place0, place1), place2) > 1)
    crossing = drawn & (lowest < 3)
    low_x, high_x = minimum(minimum(px0, px1), px2), maximum(maximum(px0, px1), px2)
    low_y, high_y = minimum(minimum(py0, py1), py2), maximum(maximum(py0, py1), py2)
    if CULL != 0:
        # Only what is clear before rounding: the pair decides the rest.
        area = CULL * ((px2 - px0) * (py1 - py0) - (px1 - px0) * (py2 - py0))
        drawn = drawn & (crossing | (area > -1e-2 * (high_x - low_x + high_y - low_y)))

    # Bounds of the part in front of the near plane; the whole image where w is not positive there.
    big = tl.full([BLOCK_FACES], 1e30, tl.float32)
    cx, cy, dx, dy, low_w = _include_edge(big, big, -big, -big, big, x0, y0, z0, w0, x1, y1, z1, w1, height, width)
    cx, cy, dx, dy, low_w = _include_edge(cx, cy, dx, dy, low_w, x1, y1, z1, w1, x2, y2, z2, w2, height, width)
    cx, cy, dx, dy, low_w = _include_edge(cx, cy, dx, dy, low_w, x2, y2, z2, w2, x0, y0, z0, w0, height, width)
    unbounded = low_w <= 0
    low_x = tl.where(crossing, tl.where(unbounded, 0.0, cx), low_x)
    low_y = tl.where(crossing, tl.where(unbounded, 0.0, cy), low_y)
    high_x = tl.where(crossing, tl.where(unbounded, width - 1.0, dx), high_x)
    high_y = tl.where(crossing, tl.where(unbounded, height - 1.0, dy), high_y)

    # The margin covers the rounding of a division at the far end of a 16384-pixel image.
    first_x = tl.ceil(minimum(maximum(low_x - 2e-3, 0.0), 16777216.0))
    first_y = tl.ceil(minimum(maximum(low_y - 2e-3, 0.0), 16777216.0))
    last_x = tl.floor(minimum(maximum(high_x + 2e-3, -1.0), width - 1.0))
    last_y = tl.floor(minimum(maximum(high_y + 2e-3, -1.0), height - 1.0))
    drawn = drawn & (first_x <= last_x) & (first_y <= last_y)
    tile_x = tl.where(drawn, first_x, 0.0).to(tl.int32) // TILE
    tile_y = tl.where(drawn, first_y, 0.0).to(tl.int32) // TILE
    columns = tl.where(drawn, last_x, 0.0).to(tl.int32) // TILE - tile_x + 1
    rows = tl.where(drawn, last_y, 0.0).to(tl.int32) // TILE - tile_y + 1
    count = tl.where(drawn, columns * rows, 0)

    box = box_ptr + flat.to(tl.int64) * 3
    tl.store(box, tile_y, mask=exists)
    tl.store(box + 1, tile_x, mask=exists)
    tl.store(box + 2, columns, mask=exists)
    tl.store(ends_ptr + flat, tl.cumsum(count.to(tl.int64), axis=0), mask=exists)
    pairs = tl.sum(count.to(tl.int64), axis=0)
    tl.store(chunks_ptr + block, ((pairs + PAIRS - 1) // PAIRS).to(tl.int32))


@triton.jit
def rasterize_offsets_kernel(chunks_ptr, blocks, block_ends_ptr, BLOCK: tl.constexpr):
    """Running number of chunks up to and including each block of faces, 64 bits each. One program."""
    block_ends_ptr = block_ends_ptr.to(tl.pointer_type(tl.int64))
    before = tl.zeros([], tl.int64)
    for first in range(0, blocks, BLOCK):
        index = first + tl.arange(0, BLOCK)
        chunks = tl.load(chunks_ptr + index, mask=index < blocks, other=0).to(tl.int64)
        tl.store(block_ends_ptr + index, before + tl.cumsum(chunks, axis=0), mask=index < blocks)
        before += tl.sum(chunks, axis=0)


@triton.jit
def rasterize_fwd_kernel(
    clip_ptr,
    faces_ptr,
    box_ptr,
    ends_ptr,
    block_ends_ptr,
    clip_step,
    faces_step,
    total,
    num_faces,
    num_vertices,
    height,
    width,
    blocks,
    keys_ptr,
    CULL: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_FACES: tl.constexpr,
    PAIRS: tl.constexpr,
):
    """Depth-tests all pixels of all (face, tile) pairs; the largest key of a pixel is the nearest, lowest face."""
    ends_ptr = ends_ptr.to(tl.pointer_type(tl.int64))
    block_ends_ptr = block_ends_ptr.to(tl.pointer_type(tl.int64))
    keys_ptr = keys_ptr.to(tl.pointer_type(tl.uint64))
    lane = tl.arange(0, PAIRS)
    column = lane % TILE
    u = column.to(tl.float32)
    chunks = tl.load(block_ends_ptr + blocks - 1)
    for chunk in range(tl.program_id(0).to(tl.int64), chunks, tl.num_programs(0)):
        # The block of faces that the chunk belongs to: the first whose end lies beyond it.
        block, high = tl.zeros([], tl.int32), tl.zeros([], tl.int32) + (blocks - 1)
        while block < high:
            middle = (block + high) // 2
            beyond = tl.load(block_ends_ptr + middle) > chunk
            high = tl.where(beyond, middle, high)
            block = tl.where(beyond, block, middle + 1)
        start = tl.load(block_ends_ptr + block - 1, mask=block > 0, other=0)

        # A pair's face is the first of them whose end lies beyond the pair, by bisection too.
        pair = (chunk - start) * PAIRS + lane
        flat, passed = tl.zeros([PAIRS], tl.int32) + block * BLOCK_FACES, tl.zeros([PAIRS], tl.int64)
        half = tl.zeros([], tl.int32) + BLOCK_FACES // 2
        while half > 0:
            end = tl.load(ends_ptr + flat + (half - 1), mask=flat + (half - 1) < total, other=9223372036854775807)
            flat += tl.where(end <= pair, half, 0)
            passed = tl.where(end <= pair, end, passed)
            half = half // 2
        valid = tl.load(ends_ptr + flat, mask=flat < total, other=0) > pair

        item = flat // num_faces
        face = flat - item * num_faces
        box = box_ptr + flat.to(tl.int64) * 3
        columns = tl.load(box + 2, mask=valid, other=1)
        step = (pair - passed).to(tl.int32)
        step_y = step // columns
        origin_y = (tl.load(box, mask=valid, other=0) + step_y) * TILE
        origin_x = (tl.load(box + 1, mask=valid, other=0) + step - step_y * columns) * TILE
        v0, v1, v2 = _load_face(faces_ptr, item, face, faces_step, valid)
        x0, y0, z0, w0 = _load_vertex(clip_ptr, item, v0, clip_step, valid)
        x1, y1, z1, w1 = _load_vertex(clip_ptr, item, v1, clip_step, valid)
        x2, y2, z2, w2 = _load_vertex(clip_ptr, item, v2, clip_step, valid)
        x0, x1, x2 = to_column(x0, w0, width), to_column(x1, w1, width), to_column(x2, w2, width)
        y0, y1, y2 = to_row(y0, w0, height), to_row(y1, w1, height), to_row(y2, w2, height)
        scale = power_of_two_scale(x0, y0, w0, x1, y1, w1, x2, y2, w2)
        w0, w1, w2 = w0 * scale, w1 * scale, w2 * scale
        z0, z1, z2 = z0 * scale, z1 * scale, z2 * scale
        # Relative to the tile, so that no digits are lost far from the image's corner.
        tx, ty = origin_x.to(tl.float32), origin_y.to(tl.float32)
        x0, x1, x2 = x0 * scale - tx * w0, x1 * scale - tx * w1, x2 * scale - tx * w2
        y0, y1, y2 = y0 * scale - ty * w0, y1 * scale - ty * w1, y2 * scale - ty * w2
        a0, b0, c0 = edge_function(x1, y1, w1, x2, y2, w2, v1 > v2)
        a1, b1, c1 = edge_function(x2, y2, w2, x0, y0, w0, v2 > v0)
        a2, b2, c2 = edge_function(x0, y0, w0, x1, y1, w1, v0 > v1)
        det = c0 * w0 + c1 * w1 + c2 * w2
        drawable = valid & is_finite(tl.div_rn(1.0, det)) & (det != 0)
        if CULL != 0:
            drawable = drawable & (CULL * det > 0)
        divisor = tl.where(drawable, det, 1.0)
        plane_a = tl.div_rn(a0 * z0 + a1 * z1 + a2 * z2, divisor)
        plane_b = tl.div_rn(b0 * z0 + b1 * z1 + b2 * z2, divisor)
        plane_c = tl.div_rn(c0 * z0 + c1 * z1 + c2 * z2, divisor)
        # Without this range a sliver's plane, extrapolated by rounding, would win over its neighbours.
        in_front = minimum(minimum(w0, w1), w2) > 0
        ndc0 = tl.div_rn(z0, tl.where(in_front, w0, 1.0))
        ndc1 = tl.div_rn(z1, tl.where(in_front, w1, 1.0))
        ndc2 = tl.div_rn(z2, tl.where(in_front, w2, 1.0))
        nearest = tl.where(in_front, minimum(minimum(ndc0, ndc1), ndc2), float("-inf"))
        farthest = tl.where(in_front, maximum(maximum(ndc0, ndc1), ndc2), float("inf"))
        facing = sign(det)
        a0, b0, c0 = facing * a0, facing * b0, facing * c0
        a1, b1, c1 = facing * a1, facing * b1, facing * c1
        a2, b2, c2 = facing * a2, facing * b2, facing * c2
        # How many of the tile's columns and rows lie in the image.
        columns_left = tl.where(drawable, width - origin_x, 0)
        rows_left = height - origin_y
        address = (item.to(tl.int64) * height + origin_y) * width + origin_x

        # So far a lane had a pair. Now it has a column of a pair's tile, and so on for all pairs: a line of a few tiles
        # at a time, whose pixels lie next to each other in memory.
        for first in range(0, PAIRS, PAIRS // TILE):
            source = first + lane // TILE
            a0_, b0_, c0_ = tl.gather(a0, source, 0), tl.gather(b0, source, 0), tl.gather(c0, source, 0)
            a1_, b1_, c1_ = tl.gather(a1, source, 0), tl.gather(b1, source, 0), tl.gather(c1, source, 0)
            a2_, b2_, c2_ = tl.gather(a2, source, 0), tl.gather(b2, source, 0), tl.gather(c2, source, 0)
            a3_, b3_, c3_ = tl.gather(plane_a, source, 0), tl.gather(plane_b, source, 0), tl.gather(plane_c, source, 0)
            near, far = tl.gather(nearest, source, 0), tl.gather(farthest, source, 0)
            rows = tl.where(column < tl.gather(columns_left, source, 0), tl.gather(rows_left, source, 0), 0)
            pixel = keys_ptr + tl.gather(address, source, 0) + column
            low = (~tl.gather(face, source, 0)).to(tl.uint32, bitcast=True).to(tl.uint64)
            for line in tl.static_range(TILE):
                v = line * 1.0
                depth = a3_ * u + (b3_ * v + c3_)
                depth = minimum(maximum(depth, near), far)
                edges = minimum(a0_ * u + (b0_ * v + c0_), a1_ * u + (b1_ * v + c1_))
                edges = minimum(edges, a2_ * u + (b2_ * v + c2_))
                inside = (line < rows) & (edges >= 0) & (tl.abs(depth) <= 1)
                # The order of the complement's bits, as unsigned integers, is the reverse order of the numbers.
                bits = depth.to(tl.int32, bitcast=True)
                bits = tl.where(bits < 0, bits, bits ^ 0x7FFFFFFF)
                key = (bits.to(tl.uint32, bitcast=True).to(tl.uint64) << 32) | low
                tl.atomic_max(pixel + line * width, key, mask=inside, sem="relaxed")
