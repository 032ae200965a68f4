"""Rasterization as Triton kernels: setup of the faces, offsets of their pairs, depth test.

jnr/_ops/rasterize/README.md derives it; README.md, "Rasterize", has the layout.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import triton
import triton.language as tl
from jax import lax

from jnr.triton_kernels import launch
from jnr.triton_kernels.geometry import (
    Linear,
    Point,
    cross,
    is_finite,
    maximum,
    minimum,
    pixel_space,
    power_of_two_scale,
    precedes,
    relative_to,
    sign,
)

TILE = 8
# The bit of a face's index that says that its back is seen.
BACK = tl.constexpr(-(2**31))
# Faces whose pairs are numbered together, and pairs that one program, which is one warp, tests at once.
BLOCK_FACES = 128
PAIRS = 32
BLOCK_OFFSETS = 1024
# As many programs as a large GPU holds at once; each strides over the chunks.
PROGRAMS = 4096


def rasterize(clip_positions: jax.Array, faces: jax.Array, *, height: int, width: int, cull: str | None) -> jax.Array:
    """Arguments and result as in jnr/_ops/rasterize/definition.py."""
    launch.check_float32(clip_positions)
    batch = max(clip_positions.shape[0], faces.shape[0])
    num_vertices, num_faces = clip_positions.shape[1], faces.shape[1]
    if 0 in (batch, num_vertices, num_faces):
        return jnp.full((batch, height, width), -1, jnp.int32)
    total_faces = batch * num_faces
    mesh = clip_positions, faces
    sizes = launch.batch_step(clip_positions, 4), launch.batch_step(faces, 3), total_faces, num_faces, height, width
    # The sign of the faces to keep, 0 for all faces.
    culling = {None: 0, "back": 1, "front": -1}[cull]
    constants = {"CULL": culling, "TILE": TILE, "BLOCK_FACES": BLOCK_FACES, "PAIRS": PAIRS}
    box, pair_ends, chunks = _set_up(mesh, sizes, constants)
    chunk_ends = _running_sum(chunks)
    keys = _test_depth((*mesh, box, pair_ends, chunk_ends), sizes, constants, (batch, height, width))
    # The low word is the complement of face and side, or 0 where no face was seen, whose complement is -1.
    face_index = lax.bitcast_convert_type(~keys[..., 0], jnp.int32)
    return jnp.where(face_index == -1, -1, face_index & ~BACK.value)


def _set_up(mesh, sizes, constants):
    """Per face, its box of tiles and the running number of pairs in its block; per block, the number of chunks."""
    total_faces, num_vertices = sizes[2], mesh[0].shape[1]
    blocks = -(-total_faces // BLOCK_FACES)
    return launch.call(
        rasterize_setup_kernel,
        *mesh,
        *sizes,
        num_vertices,
        results=[
            jax.ShapeDtypeStruct((total_faces, 3), jnp.int32),
            jax.ShapeDtypeStruct((total_faces, 2), jnp.uint32),
            jax.ShapeDtypeStruct((blocks,), jnp.int32),
        ],
        programs=blocks,
        warps=4,
        **constants,
    )


def _running_sum(chunks):
    """Number of chunks up to and including each block, as pairs of 32-bit words."""
    (ends,) = launch.call(
        rasterize_offsets_kernel,
        chunks,
        chunks.size,
        results=[jax.ShapeDtypeStruct((chunks.size, 2), jnp.uint32)],
        programs=1,
        warps=4,
        BLOCK=BLOCK_OFFSETS,
    )
    return ends


def _test_depth(operands, sizes, constants, shape):
    """The largest key of each pixel, as a pair of 32-bit words."""
    chunk_ends = operands[-1]
    (keys,) = launch.call(
        rasterize_fwd_kernel,
        *operands,
        *sizes,
        chunk_ends.shape[0],
        results=[jax.ShapeDtypeStruct((*shape, 2), jnp.uint32)],
        zeroed=(0,),
        programs=launch.persistent(PROGRAMS),
        warps=1,
        **constants,
    )
    return keys


class Mesh(NamedTuple):
    """The clip positions and faces of all items of a batch, and vertices and faces from one item to the next."""

    clip_ptr: tl.tensor
    faces_ptr: tl.tensor
    clip_step: tl.tensor
    faces_step: tl.tensor


class Vertex(NamedTuple):
    """A clip-space position."""

    x: tl.tensor
    y: tl.tensor
    z: tl.tensor
    w: tl.tensor


class Corner(NamedTuple):
    """A corner of a face in pixel space, with its clip-space z."""

    point: Point
    z: tl.tensor


class Bounds(NamedTuple):
    """The smallest and the largest column and row of a face."""

    low_x: tl.tensor
    low_y: tl.tensor
    high_x: tl.tensor
    high_y: tl.tensor


class Pair(NamedTuple):
    """What a (face, tile) pair needs at its pixels. Linear functions are relative to the tile's first pixel."""

    edge0: Linear  # not negative inside of the face, whichever way it faces
    edge1: Linear
    edge2: Linear
    depth: Linear  # NDC depth
    nearest: tl.tensor  # range of the depth
    farthest: tl.tensor
    columns: tl.tensor  # from the tile's first column to the end of the image; 0 in a pair that covers nothing
    rows: tl.tensor  # from the tile's first row to the end of the image
    first_pixel: tl.tensor  # index of the tile's first pixel in the batch of images
    face: tl.tensor  # with BACK where its back is seen


@triton.jit
def _load_face(mesh, item, face, mask):
    """The vertices of a face, as indices."""
    face_ptr = mesh.faces_ptr + (item.to(tl.int64) * mesh.faces_step + face) * 3
    v0 = tl.load(face_ptr, mask=mask, other=-1)
    v1 = tl.load(face_ptr + 1, mask=mask, other=-1)
    v2 = tl.load(face_ptr + 2, mask=mask, other=-1)
    return v0, v1, v2


@triton.jit
def _load_vertex(mesh, item, vertex, mask):
    vertex_ptr = mesh.clip_ptr + (item.to(tl.int64) * mesh.clip_step + vertex) * 4
    x = tl.load(vertex_ptr, mask=mask, other=0.0)
    y = tl.load(vertex_ptr + 1, mask=mask, other=0.0)
    z = tl.load(vertex_ptr + 2, mask=mask, other=0.0)
    w = tl.load(vertex_ptr + 3, mask=mask, other=0.0)
    return Vertex(x, y, z, w)


@triton.jit
def _to_pixel_space(vertex, height, width):
    return pixel_space(vertex.x, vertex.y, vertex.w, height, width)


@triton.jit
def _project(vertex, height, width):
    """Column, row, and place: 0 not finite, 1 before near, 2 beyond near but behind the camera, 3 in front of both."""
    finite = is_finite(vertex.x) & is_finite(vertex.y) & is_finite(vertex.z) & is_finite(vertex.w)
    beyond_near = finite & (vertex.z >= -vertex.w)
    in_front = beyond_near & (vertex.w > 0)
    place = finite.to(tl.int32) + beyond_near.to(tl.int32) + in_front.to(tl.int32)
    point = _to_pixel_space(vertex, height, width)
    w = tl.where(in_front, vertex.w, 1.0)
    return tl.div_rn(point.x, w), tl.div_rn(point.y, w), place


@triton.jit
def _include(bounds, low_w, point, exists):
    """Widens the bounds by a point, unless its w is not positive; updates the lowest w."""
    positive = exists & (point.w > 0)
    w = tl.where(positive, point.w, 1.0)
    x, y = tl.div_rn(point.x, w), tl.div_rn(point.y, w)
    bounds = Bounds(
        tl.where(positive, minimum(bounds.low_x, x), bounds.low_x),
        tl.where(positive, minimum(bounds.low_y, y), bounds.low_y),
        tl.where(positive, maximum(bounds.high_x, x), bounds.high_x),
        tl.where(positive, maximum(bounds.high_y, y), bounds.high_y),
    )
    return bounds, tl.where(exists, minimum(low_w, point.w), low_w)


@triton.jit
def _include_edge(bounds, low_w, a, b, height, width):
    """Widens the bounds by corner a if it is beyond near, and by the point of edge a -> b on the near plane."""
    near_a, near_b = a.z + a.w, b.z + b.w
    inside = near_a >= 0
    cut = inside != (near_b >= 0)
    t = tl.div_rn(near_a, tl.where(cut, near_a - near_b, 1.0))
    a, b = _to_pixel_space(a, height, width), _to_pixel_space(b, height, width)
    bounds, low_w = _include(bounds, low_w, a, inside)
    on_plane = Point(a.x + t * (b.x - a.x), a.y + t * (b.y - a.y), a.w + t * (b.w - a.w))
    return _include(bounds, low_w, on_plane, cut)


@triton.jit
def _near_clipped_bounds(vertex0, vertex1, vertex2, height, width):
    """Bounds of the part beyond the near plane; those of the whole image if w is not positive there."""
    big = tl.full(vertex0.x.shape, 1e30, tl.float32)
    bounds, low_w = _include_edge(Bounds(big, big, -big, -big), big, vertex0, vertex1, height, width)
    bounds, low_w = _include_edge(bounds, low_w, vertex1, vertex2, height, width)
    bounds, low_w = _include_edge(bounds, low_w, vertex2, vertex0, height, width)
    return _select(low_w <= 0, Bounds(0.0, 0.0, width - 1.0, height - 1.0), bounds)


@triton.jit
def _select(condition, bounds, others):
    """The bounds where the condition holds, the others elsewhere."""
    return Bounds(
        tl.where(condition, bounds.low_x, others.low_x),
        tl.where(condition, bounds.low_y, others.low_y),
        tl.where(condition, bounds.high_x, others.high_x),
        tl.where(condition, bounds.high_y, others.high_y),
    )


@triton.jit
def _tile_box(bounds, drawn, height, width, TILE: tl.constexpr):
    """First row, first column, rows and columns of the tiles that contain pixels in the bounds; no rows if none."""
    # The margin covers the rounding error of a division at the far end of a 16384-pixel image. 2**24 is past its end.
    first_x = tl.ceil(minimum(maximum(bounds.low_x - 2e-3, 0.0), 16777216.0))
    first_y = tl.ceil(minimum(maximum(bounds.low_y - 2e-3, 0.0), 16777216.0))
    last_x = tl.floor(minimum(maximum(bounds.high_x + 2e-3, -1.0), width - 1.0))
    last_y = tl.floor(minimum(maximum(bounds.high_y + 2e-3, -1.0), height - 1.0))
    drawn = drawn & (first_x <= last_x) & (first_y <= last_y)
    tile_x = tl.where(drawn, first_x, 0.0).to(tl.int32) // TILE
    tile_y = tl.where(drawn, first_y, 0.0).to(tl.int32) // TILE
    columns = tl.where(drawn, last_x, 0.0).to(tl.int32) // TILE - tile_x + 1
    rows = tl.where(drawn, last_y, 0.0).to(tl.int32) // TILE - tile_y + 1
    return tile_y, tile_x, tl.where(drawn, rows, 0), columns


@triton.jit
def rasterize_setup_kernel(
    clip_ptr,
    faces_ptr,
    clip_step,
    faces_step,
    total_faces,
    num_faces,
    height,
    width,
    num_vertices,
    box_ptr,
    pair_ends_ptr,
    chunks_ptr,
    CULL: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_FACES: tl.constexpr,
    PAIRS: tl.constexpr,
):
    """Tiles that each face of a block may touch, running number of their pairs, and the block's number of chunks."""
    pair_ends_ptr = pair_ends_ptr.to(tl.pointer_type(tl.int64))
    block = tl.program_id(0)
    flat = block * BLOCK_FACES + tl.arange(0, BLOCK_FACES)
    exists = flat < total_faces
    item = flat // num_faces
    mesh = Mesh(clip_ptr, faces_ptr, clip_step, faces_step)
    v0, v1, v2 = _load_face(mesh, item, flat - item * num_faces, exists)
    in_range = (v0 >= 0) & (v1 >= 0) & (v2 >= 0) & (v0 < num_vertices) & (v1 < num_vertices) & (v2 < num_vertices)
    vertex0 = _load_vertex(mesh, item, v0, in_range)
    vertex1 = _load_vertex(mesh, item, v1, in_range)
    vertex2 = _load_vertex(mesh, item, v2, in_range)
    x0, y0, place0 = _project(vertex0, height, width)
    x1, y1, place1 = _project(vertex1, height, width)
    x2, y2, place2 = _project(vertex2, height, width)

    lowest = tl.minimum(tl.minimum(place0, place1), place2)
    drawn = in_range & (lowest > 0) & (tl.maximum(tl.maximum(place0, place1), place2) > 1)
    crossing = drawn & (lowest < 3)
    low_x, high_x = minimum(minimum(x0, x1), x2), maximum(maximum(x0, x1), x2)
    low_y, high_y = minimum(minimum(y0, y1), y2), maximum(maximum(y0, y1), y2)
    if CULL != 0:
        # Only faces whose side is certain despite rounding errors; the pair decides the rest.
        area = CULL * ((x2 - x0) * (y1 - y0) - (x1 - x0) * (y2 - y0))
        drawn = drawn & (crossing | (area > -1e-2 * (high_x - low_x + high_y - low_y)))
    bounds = Bounds(low_x, low_y, high_x, high_y)
    near_clipped = _near_clipped_bounds(vertex0, vertex1, vertex2, height, width)
    bounds = _select(crossing, near_clipped, bounds)
    tile_y, tile_x, rows, columns = _tile_box(bounds, drawn, height, width, TILE)

    box_ptr += flat.to(tl.int64) * 3
    tl.store(box_ptr, tile_y, mask=exists)
    tl.store(box_ptr + 1, tile_x, mask=exists)
    tl.store(box_ptr + 2, columns, mask=exists)
    pairs = (columns * rows).to(tl.int64)
    tl.store(pair_ends_ptr + flat, tl.cumsum(pairs, axis=0), mask=exists)
    tl.store(chunks_ptr + block, ((tl.sum(pairs, axis=0) + PAIRS - 1) // PAIRS).to(tl.int32))


@triton.jit
def rasterize_offsets_kernel(chunks_ptr, blocks, chunk_ends_ptr, BLOCK: tl.constexpr):
    """Running number of chunks up to and including each block of faces, 64 bits each. One program."""
    chunk_ends_ptr = chunk_ends_ptr.to(tl.pointer_type(tl.int64))
    before = tl.zeros([], tl.int64)
    for first in range(0, blocks, BLOCK):
        index = first + tl.arange(0, BLOCK)
        chunks = tl.load(chunks_ptr + index, mask=index < blocks, other=0).to(tl.int64)
        tl.store(chunk_ends_ptr + index, before + tl.cumsum(chunks, axis=0), mask=index < blocks)
        before += tl.sum(chunks, axis=0)


@triton.jit
def _find_block(chunk_ends_ptr, blocks, chunk):
    """The block of faces that a chunk belongs to, and the number of chunks before the block."""
    # Bisection for the first block whose end lies beyond the chunk.
    block, high = tl.zeros([], tl.int32), tl.zeros([], tl.int32) + (blocks - 1)
    while block < high:
        middle = (block + high) // 2
        beyond = tl.load(chunk_ends_ptr + middle) > chunk
        high = tl.where(beyond, middle, high)
        block = tl.where(beyond, block, middle + 1)
    return block, tl.load(chunk_ends_ptr + block - 1, mask=block > 0, other=0)


@triton.jit
def _find_faces(pair_ends_ptr, total_faces, block, pair, BLOCK_FACES: tl.constexpr):
    """Per pair of a block: its face, numbered through the batch, the number of pairs before it, whether it exists."""
    # Bisection for the first face of the block whose end lies beyond the pair.
    flat, before = tl.zeros(pair.shape, tl.int32) + block * BLOCK_FACES, tl.zeros(pair.shape, tl.int64)
    half = tl.zeros([], tl.int32) + BLOCK_FACES // 2
    while half > 0:
        last = flat + (half - 1)
        end = tl.load(pair_ends_ptr + last, mask=last < total_faces, other=9223372036854775807)
        flat += tl.where(end <= pair, half, 0)
        before = tl.where(end <= pair, end, before)
        half = half // 2
    return flat, before, tl.load(pair_ends_ptr + flat, mask=flat < total_faces, other=0) > pair


@triton.jit
def _load_tile(box_ptr, flat, step, exists, TILE: tl.constexpr):
    """Row and column of the first pixel of a face's tile, whose number in the face's box is `step`."""
    box_ptr += flat.to(tl.int64) * 3
    columns = tl.load(box_ptr + 2, mask=exists, other=1)
    step_y = step // columns
    tile_y = tl.load(box_ptr, mask=exists, other=0) + step_y
    tile_x = tl.load(box_ptr + 1, mask=exists, other=0) + step - step_y * columns
    return tile_y * TILE, tile_x * TILE


@triton.jit
def _combine(edge0, edge1, edge2, z0, z1, z2, det):
    """Depth as a linear function, from the edge functions and the depths of the opposite corners."""
    return Linear(
        tl.div_rn(edge0.a * z0 + edge1.a * z1 + edge2.a * z2, det),
        tl.div_rn(edge0.b * z0 + edge1.b * z1 + edge2.b * z2, det),
        tl.div_rn(edge0.c * z0 + edge1.c * z1 + edge2.c * z2, det),
    )


@triton.jit
def _depth_range(z0, z1, z2, w0, w1, w2):
    """NDC depth of the nearest and the farthest corner; unbounded unless all corners are in front of the camera."""
    in_front = minimum(minimum(w0, w1), w2) > 0
    ndc0 = tl.div_rn(z0, tl.where(in_front, w0, 1.0))
    ndc1 = tl.div_rn(z1, tl.where(in_front, w1, 1.0))
    ndc2 = tl.div_rn(z2, tl.where(in_front, w2, 1.0))
    nearest = tl.where(in_front, minimum(minimum(ndc0, ndc1), ndc2), float("-inf"))
    farthest = tl.where(in_front, maximum(maximum(ndc0, ndc1), ndc2), float("inf"))
    return nearest, farthest


@triton.jit
def _swapped(swap, a, b):
    """The corner b where `swap` is true, else a."""
    point = Point(
        tl.where(swap, b.point.x, a.point.x), tl.where(swap, b.point.y, a.point.y), tl.where(swap, b.point.w, a.point.w)
    )
    return Corner(point, tl.where(swap, b.z, a.z))


@triton.jit
def _ordered(a, b, turn):
    """Two corners in the order of their positions, and the permutation's sign times `turn`."""
    swap = precedes(b.point, a.point)
    return _swapped(swap, a, b), _swapped(swap, b, a), tl.where(swap, -turn, turn)


@triton.jit
def _in_order(corner0, corner1, corner2):
    """The corners of a face in the order of their positions, and the sign of the permutation."""
    corner0, corner1, turn = _ordered(corner0, corner1, tl.zeros_like(corner0.z) + 1.0)
    corner1, corner2, turn = _ordered(corner1, corner2, turn)
    corner0, corner1, turn = _ordered(corner0, corner1, turn)
    return corner0, corner1, corner2, turn


@triton.jit
def _times(factor, function):
    return Linear(factor * function.a, factor * function.b, factor * function.c)


@triton.jit
def _set_up_pair(mesh, item, face, row, column, exists, height, width, CULL: tl.constexpr):
    """The pair of a face and of the tile whose first pixel is at a row and column."""
    v0, v1, v2 = _load_face(mesh, item, face, exists)
    vertex0 = _load_vertex(mesh, item, v0, exists)
    vertex1 = _load_vertex(mesh, item, v1, exists)
    vertex2 = _load_vertex(mesh, item, v2, exists)
    p0 = _to_pixel_space(vertex0, height, width)
    p1 = _to_pixel_space(vertex1, height, width)
    p2 = _to_pixel_space(vertex2, height, width)
    corner0, corner1, corner2, turn = _in_order(Corner(p0, vertex0.z), Corner(p1, vertex1.z), Corner(p2, vertex2.z))
    # Relative to the tile, so that no digits are lost far from the image's corner.
    scale = power_of_two_scale(corner0.point, corner1.point, corner2.point)
    x, y = column.to(tl.float32), row.to(tl.float32)
    p0, p1 = relative_to(corner0.point, x, y, scale), relative_to(corner1.point, x, y, scale)
    p2 = relative_to(corner2.point, x, y, scale)
    z0, z1, z2 = corner0.z * scale, corner1.z * scale, corner2.z * scale

    # Positive inside of a front face: rows grow downwards, so a counter-clockwise face is clockwise here.
    edge0, edge1, edge2 = _times(-1.0, cross(p1, p2)), cross(p0, p2), _times(-1.0, cross(p0, p1))
    det = edge0.c * p0.w + edge1.c * p1.w + edge2.c * p2.w
    drawable = exists & is_finite(tl.div_rn(1.0, det)) & (det != 0)
    if CULL != 0:
        drawable = drawable & (CULL * turn * det > 0)
    depth = _combine(edge0, edge1, edge2, z0, z1, z2, tl.where(drawable, det, 1.0))
    # Without this range a sliver's plane, extrapolated by rounding errors, would win over its neighbours.
    nearest, farthest = _depth_range(z0, z1, z2, p0.w, p1.w, p2.w)
    facing = sign(det)
    return Pair(
        _times(facing, edge0),
        _times(facing, edge1),
        _times(facing, edge2),
        depth,
        nearest,
        farthest,
        tl.where(drawable, width - column, 0),
        height - row,
        (item.to(tl.int64) * height + row) * width + column,
        # Of faces at one depth those that are seen from the front come first.
        tl.where(turn * det > 0, face, face | BACK),
    )


@triton.jit
def _gather_linear(function, lane):
    return Linear(tl.gather(function.a, lane, 0), tl.gather(function.b, lane, 0), tl.gather(function.c, lane, 0))


@triton.jit
def _gather_pair(pair, lane):
    return Pair(
        _gather_linear(pair.edge0, lane),
        _gather_linear(pair.edge1, lane),
        _gather_linear(pair.edge2, lane),
        _gather_linear(pair.depth, lane),
        tl.gather(pair.nearest, lane, 0),
        tl.gather(pair.farthest, lane, 0),
        tl.gather(pair.columns, lane, 0),
        tl.gather(pair.rows, lane, 0),
        tl.gather(pair.first_pixel, lane, 0),
        tl.gather(pair.face, lane, 0),
    )


@triton.jit
def _value_at(function, x, y):
    return function.a * x + (function.b * y + function.c)


@triton.jit
def _test_column(keys_ptr, pair, column, width, TILE: tl.constexpr):
    """Depth-tests the pixels of a column of a pair's tile."""
    x = column.to(tl.float32)
    rows = tl.where(column < pair.columns, pair.rows, 0)
    pixel_ptr = keys_ptr + pair.first_pixel + column
    low = (~pair.face).to(tl.uint32, bitcast=True).to(tl.uint64)
    for row in tl.static_range(TILE):
        y = row * 1.0
        depth = minimum(maximum(_value_at(pair.depth, x, y), pair.nearest), pair.farthest)
        edges = minimum(_value_at(pair.edge0, x, y), _value_at(pair.edge1, x, y))
        edges = minimum(edges, _value_at(pair.edge2, x, y))
        inside = (row < rows) & (edges >= 0) & (tl.abs(depth) <= 1)
        # The order of the complement's bits, as unsigned integers, is the reverse order of the numbers.
        bits = tl.where(depth == 0, 0.0, depth).to(tl.int32, bitcast=True)
        bits = tl.where(bits < 0, bits, bits ^ 0x7FFFFFFF)
        key = (bits.to(tl.uint32, bitcast=True).to(tl.uint64) << 32) | low
        tl.atomic_max(pixel_ptr + row * width, key, mask=inside, sem="relaxed")


@triton.jit
def rasterize_fwd_kernel(
    clip_ptr,
    faces_ptr,
    box_ptr,
    pair_ends_ptr,
    chunk_ends_ptr,
    clip_step,
    faces_step,
    total_faces,
    num_faces,
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
    pair_ends_ptr = pair_ends_ptr.to(tl.pointer_type(tl.int64))
    chunk_ends_ptr = chunk_ends_ptr.to(tl.pointer_type(tl.int64))
    keys_ptr = keys_ptr.to(tl.pointer_type(tl.uint64))
    mesh = Mesh(clip_ptr, faces_ptr, clip_step, faces_step)
    lane = tl.arange(0, PAIRS)
    chunks = tl.load(chunk_ends_ptr + blocks - 1)
    for chunk in range(tl.program_id(0).to(tl.int64), chunks, tl.num_programs(0)):
        # At first a lane is a pair.
        block, first_chunk = _find_block(chunk_ends_ptr, blocks, chunk)
        number = (chunk - first_chunk) * PAIRS + lane
        flat, before, exists = _find_faces(pair_ends_ptr, total_faces, block, number, BLOCK_FACES)
        item = flat // num_faces
        face = flat - item * num_faces
        row, column = _load_tile(box_ptr, flat, (number - before).to(tl.int32), exists, TILE)
        pairs = _set_up_pair(mesh, item, face, row, column, exists, height, width, CULL)
        # Then a lane is a column of a pair's tile, so that neighbouring lanes update neighbouring pixels.
        for first in range(0, PAIRS, PAIRS // TILE):
            pair = _gather_pair(pairs, first + lane // TILE)
            _test_column(keys_ptr, pair, lane % TILE, width, TILE)
