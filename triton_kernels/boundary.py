"""Crossings of the picture's boundaries with the lines of pixels, and their motion's cotangent, as Triton kernels.

jnr/_ops/boundary/definition.py says what they compute; README.md, "Boundary", has the layout.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import triton
import triton.language as tl

from jnr._ops.boundary import definition
from jnr.triton_kernels import launch
from jnr.triton_kernels.geometry import (
    Linear,
    cross,
    is_finite,
    load_point,
    load_vertex,
    power_of_two_scale,
    precedes,
    sign,
)

# Gaps, or edges, per program of one warp.
BLOCK = 32
# Where a mesh has few edges, their lines are divided among this many programs.
PROGRAMS = 2048
UNIT = tl.constexpr(definition.UNIT)
MARGIN = tl.constexpr(definition.MARGIN)
MARGIN_UNITS = tl.constexpr(int(definition.MARGIN * definition.UNIT))
TOUCHING, PARALLEL = tl.constexpr(definition.TOUCHING), tl.constexpr(definition.PARALLEL)
NONE, CUT = tl.constexpr(definition.NONE), tl.constexpr(definition.CUT)
# A gap's state is 4 * reach + OCCLUDES + is_p, by the names of the definition's `_Own`, or INACTIVE. OCCLUDES is set
# where the nearer surface may end at other edges.
OCCLUDES, INACTIVE = tl.constexpr(2), tl.constexpr(-5)
BIG = tl.constexpr(float("inf"))


def boundary_crossings(
    clip_positions: jax.Array, faces: jax.Array, face_index: jax.Array, active: jax.Array
) -> jax.Array:
    """Arguments and result as in jnr/_ops/boundary/definition.py."""
    launch.check_float32(clip_positions)
    batch, (height, width) = max(map(len, (clip_positions, faces, face_index, active))), face_index.shape[1:]
    shape = batch, 2, height, width
    num_vertices, num_faces = clip_positions.shape[1], faces.shape[1]
    if 0 in (*shape, num_vertices, num_faces):
        return jnp.full((*shape, 2), definition.NONE, jnp.int32)
    mesh, sizes = (clip_positions, faces), (height, width, num_vertices, num_faces)
    steps = launch.batch_step(clip_positions, 4), launch.batch_step(faces, 3)
    index_step = launch.batch_step(face_index)
    blocks = -(-height * width // BLOCK)
    per_gap = {"programs": 2 * batch * blocks, "warps": 1, "BLOCK": BLOCK}
    surfaces = launch.call(
        nearer_surface_kernel,
        *mesh,
        face_index,
        active.astype(jnp.int8),
        *steps,
        index_step,
        launch.batch_step(active),
        *sizes,
        blocks,
        results=[
            jax.ShapeDtypeStruct(shape, jnp.int32),
            jax.ShapeDtypeStruct(shape, jnp.int32),
            jax.ShapeDtypeStruct((*shape, 3), jnp.float32),
        ],
        **per_gap,
    )
    keys = _furthest_edges(mesh, surfaces, steps, sizes, shape)
    (crossings,) = launch.call(
        choose_crossing_kernel,
        *mesh,
        face_index,
        *surfaces,
        keys,
        *steps,
        index_step,
        *sizes,
        blocks,
        results=[jax.ShapeDtypeStruct((*shape, 2), jnp.int32)],
        **per_gap,
    )
    return crossings


def _furthest_edges(mesh, surfaces, steps, sizes, shape):
    """The largest key of each gap, as a pair of 32-bit words."""
    state, _, depths = surfaces
    batch, blocks = shape[0], -(-3 * mesh[1].shape[1] // BLOCK)
    splits = max(launch.persistent(PROGRAMS) // (batch * blocks), 1)
    (keys,) = launch.call(
        furthest_edge_kernel,
        *mesh,
        state,
        depths,
        *steps,
        *sizes,
        blocks,
        splits,
        results=[jax.ShapeDtypeStruct((*shape, 2), jnp.uint32)],
        zeroed=(0,),
        programs=batch * blocks * splits,
        warps=1,
        BLOCK=BLOCK,
    )
    return keys


def crossing_motion_bwd(
    cotangent: jax.Array,
    crossings: jax.Array,
    clip_positions: jax.Array,
    faces: jax.Array,
    face_index: jax.Array,
    *,
    sums: int,
) -> jax.Array:
    """Arguments and result as in jnr/_ops/boundary/definition.py."""
    if launch.is_deterministic():
        return definition.crossing_motion_bwd(cotangent, crossings, clip_positions, faces, face_index, sums=sums)
    launch.check_float32(cotangent, clip_positions)
    batch = max(map(len, (cotangent, crossings, clip_positions, faces, face_index)))
    height, width = face_index.shape[1:]
    num_vertices, num_faces = clip_positions.shape[1], faces.shape[1]
    if 0 in (batch, num_vertices, num_faces, height, width):
        return jnp.zeros((sums, num_vertices, 4), cotangent.dtype)
    blocks = -(-height * width // BLOCK)
    (grad,) = launch.call(
        crossing_motion_bwd_kernel,
        cotangent,
        crossings,
        clip_positions,
        faces,
        face_index,
        launch.batch_step(cotangent),
        launch.batch_step(crossings, 2),
        launch.batch_step(clip_positions, 4),
        launch.batch_step(faces, 3),
        launch.batch_step(face_index),
        height,
        width,
        num_vertices,
        num_faces,
        blocks,
        batch // sums,
        results=[jax.ShapeDtypeStruct((sums, num_vertices, 4), jnp.float32)],
        zeroed=(0,),
        programs=2 * batch * blocks,
        warps=1,
        BLOCK=BLOCK,
    )
    return grad


class Mesh(NamedTuple):
    """The mesh of a batch item, and the image's size."""

    clip_ptr: tl.tensor
    faces_ptr: tl.tensor
    num_vertices: tl.tensor
    num_faces: tl.tensor
    height: tl.tensor
    width: tl.tensor


class Gaps(NamedTuple):
    """The gaps of a program, which all lie in rows or all in columns."""

    item: tl.tensor
    along_rows: tl.tensor
    pixel: tl.tensor  # p, and to q
    step: tl.tensor
    number: tl.tensor  # in a batch item
    in_image: tl.tensor  # whether p is
    exists: tl.tensor  # whether q is too
    column: tl.tensor  # of p, along the line
    line: tl.tensor


class Corner(NamedTuple):
    """A homogeneous point by the gap's line: x along it, y across it, with the clip-space z."""

    x: tl.tensor
    y: tl.tensor
    w: tl.tensor
    z: tl.tensor


class Face(NamedTuple):
    """Vertices of a face, and its corners relative to p."""

    v0: tl.tensor
    v1: tl.tensor
    v2: tl.tensor
    p0: Corner
    p1: Corner
    p2: Corner


class Section(NamedTuple):
    """A face along a gap's line: as in the definition, with linear functions of the place relative to p."""

    left: tl.tensor
    right: tl.tensor
    left_edge: tl.tensor
    right_edge: tl.tensor
    depth: Linear
    edge0: Linear  # of the edge opposite to corner 0; times `inverse` the corner's weight
    edge1: Linear
    edge2: Linear
    inverse: tl.tensor


class Edge(NamedTuple):
    """An edge, from the first of its points to the second."""

    a: Corner
    b: Corner
    c: Corner  # the face's third corner


@triton.jit
def _gaps_of_program(height, width, blocks, BLOCK: tl.constexpr):
    """A block of one item's gaps along one axis."""
    line_block = tl.program_id(0) // blocks
    item = line_block // 2
    along_rows = line_block == 2 * item
    pixel = (tl.program_id(0) - line_block * blocks) * BLOCK + tl.arange(0, BLOCK)
    row = pixel // width
    column = pixel - row * width
    in_image = pixel < height * width
    return Gaps(
        item.to(tl.int64),
        along_rows,
        pixel,
        tl.where(along_rows, 1, width),
        pixel.to(tl.int64) + tl.where(along_rows, 0, height * width),
        in_image,
        in_image & tl.where(along_rows, column + 1 < width, row + 1 < height),
        tl.where(along_rows, column, row).to(tl.float32),
        tl.where(along_rows, row, column).to(tl.float32),
    )


@triton.jit
def _by_line(corner, along_rows):
    """The corner with x along the lines and y across them."""
    return Corner(
        tl.where(along_rows, corner.x, corner.y), tl.where(along_rows, corner.y, corner.x), corner.w, corner.z
    )


@triton.jit
def _relative_to(corner, column, line):
    """The corner with a place as the origin."""
    return Corner(corner.x - column * corner.w, corner.y - line * corner.w, corner.w, corner.z)


@triton.jit
def _load_corner(mesh, gaps, vertex, mask):
    vertex_ptr = mesh.clip_ptr + vertex.to(tl.int64) * 4
    point = load_point(vertex_ptr, mesh.height, mesh.width, mask)
    z = tl.load(vertex_ptr + 2, mask=mask, other=0.0)
    return _relative_to(_by_line(Corner(point.x, point.y, point.w, z), gaps.along_rows), gaps.column, gaps.line)


@triton.jit
def _load_face(mesh, gaps, face, mask):
    mask = mask & (face >= 0) & (face < mesh.num_faces)
    face_ptr = mesh.faces_ptr + face.to(tl.int64) * 3
    v0 = load_vertex(face_ptr, 0, mesh.num_vertices, mask)
    v1 = load_vertex(face_ptr, 1, mesh.num_vertices, mask)
    v2 = load_vertex(face_ptr, 2, mesh.num_vertices, mask)
    p0 = _load_corner(mesh, gaps, v0, mask)
    p1 = _load_corner(mesh, gaps, v1, mask)
    p2 = _load_corner(mesh, gaps, v2, mask)
    return Face(v0, v1, v2, p0, p1, p2)


@triton.jit
def _scaled(corner, scale):
    return Corner(corner.x * scale, corner.y * scale, corner.w * scale, corner.z * scale)


@triton.jit
def _nearest_ends(left, right, left_edge, right_edge, edge, facing, EDGE: tl.constexpr):
    """The ends of a face after one more edge, which begins at corner EDGE."""
    rise = facing * edge.a
    end = tl.div_rn(-facing * edge.c, tl.where(rise == 0, 1.0, rise))
    ends_right, ends_left = (rise < 0) & (end < right), (rise > 0) & (end > left)
    return (
        tl.where(ends_left, end, left),
        tl.where(ends_right, end, right),
        tl.where(ends_left, EDGE, left_edge),
        tl.where(ends_right, EDGE, right_edge),
    )


@triton.jit
def _combine(a0, a1, a2, z0, z1, z2, inverse):
    return (a0 * z0 + a1 * z1 + a2 * z2) * inverse


@triton.jit
def _section(face):
    scale = power_of_two_scale(face.p0, face.p1, face.p2)
    p0, p1, p2 = _scaled(face.p0, scale), _scaled(face.p1, scale), _scaled(face.p2, scale)
    edge0, edge1, edge2 = cross(p2, p1), cross(p0, p2), cross(p1, p0)
    det = edge0.c * p0.w + edge1.c * p1.w + edge2.c * p2.w
    valid = (det != 0) & is_finite(det)
    inverse = tl.div_rn(1.0, tl.where(valid, det, 1.0))
    valid = valid & is_finite(inverse)
    inverse = tl.where(valid, inverse, 0.0)
    facing = sign(inverse)
    right = tl.full(det.shape, BIG, tl.float32)
    none = tl.zeros(det.shape, tl.int32)
    left, right, left_edge, right_edge = _nearest_ends(-right, right, none, none, edge0, facing, 1)
    left, right, left_edge, right_edge = _nearest_ends(left, right, left_edge, right_edge, edge1, facing, 2)
    left, right, left_edge, right_edge = _nearest_ends(left, right, left_edge, right_edge, edge2, facing, 0)
    depth = Linear(
        _combine(edge0.a, edge1.a, edge2.a, p0.z, p1.z, p2.z, inverse),
        _combine(edge0.b, edge1.b, edge2.b, p0.z, p1.z, p2.z, inverse),
        _combine(edge0.c, edge1.c, edge2.c, p0.z, p1.z, p2.z, inverse),
    )
    return Section(left, right, left_edge, right_edge, depth, edge0, edge1, edge2, inverse * scale)


@triton.jit
def _depth_at(section, t):
    return section.depth.c + section.depth.a * t


@triton.jit
def _as_units(t):
    """A place of 0 to 1 in integer units, the nearest one, of two the even one."""
    t = tl.where(t > 0, t, 0.0) * UNIT  # NaN becomes 0
    half = UNIT // 2
    return tl.where(t < half, (t + half) - half, t).to(tl.int32)


@triton.jit
def _clamp(value, low, high):
    return tl.minimum(tl.maximum(value, low), high)


@triton.jit
def _load_faces_of(face_index_ptr, gaps, mask):
    """The faces that p and q see."""
    face_index_ptr += gaps.pixel
    return tl.load(face_index_ptr, mask=mask, other=-1), tl.load(face_index_ptr + gaps.step, mask=mask, other=-1)


@triton.jit
def nearer_surface_kernel(
    clip_ptr,
    faces_ptr,
    face_index_ptr,
    active_ptr,
    clip_step,
    faces_step,
    face_index_step,
    active_step,
    height,
    width,
    num_vertices,
    num_faces,
    blocks,
    state_ptr,
    edge_ptr,
    depths_ptr,
    BLOCK: tl.constexpr,
):
    """Per active gap, where the nearer of its two surfaces ends, and the depths of both; the definition's `_Own`."""
    gaps = _gaps_of_program(height, width, blocks, BLOCK)
    pixels = height * width
    clip_ptr += gaps.item * clip_step * 4
    faces_ptr += gaps.item * faces_step * 3
    face_index_ptr += gaps.item * face_index_step
    mesh = Mesh(clip_ptr, faces_ptr, num_vertices, num_faces, height, width)
    out = gaps.item * 2 * pixels + gaps.number
    active_ptr += gaps.item * active_step + gaps.number
    active = gaps.exists & (tl.load(active_ptr, mask=gaps.exists, other=0) != 0)
    face_p, face_q = _load_faces_of(face_index_ptr, gaps, active)
    active = active & (face_p != face_q)
    if tl.max(active.to(tl.int32), axis=0) == 0:
        tl.store(state_ptr + out, tl.full([BLOCK], INACTIVE, tl.int32), mask=gaps.in_image)
        return

    p, q = _section(_load_face(mesh, gaps, face_p, active)), _section(_load_face(mesh, gaps, face_q, active))
    sees_p, sees_q = face_p >= 0, face_q >= 0
    # By rounding a face may end before the centre of the pixel that sees it.
    ends_p, ends_q = p.right <= 1, q.left >= 0
    at_p, at_q = _clamp(p.right, 0.0, 1.0), _clamp(q.left, 0.0, 1.0)
    behind_p, behind_q = _depth_at(q, at_p) - _depth_at(p, at_p), _depth_at(p, at_q) - _depth_at(q, at_q)
    # p's where both are as near, so that rounding does not decide.
    in_front_p = behind_p >= behind_q - TOUCHING
    is_p = sees_p & (~sees_q | ((ends_p == ends_q) & in_front_p) | ((ends_p != ends_q) & ends_p))
    ends = tl.where(is_p, ends_p, ends_q)
    edge = tl.where(is_p, 3 * face_p + p.right_edge, 3 * face_q + q.left_edge)
    has_other = sees_p & sees_q
    # Surfaces that do not lie behind each other are one surface, whose edges move alike.
    occludes = ends & (~has_other | (tl.where(is_p, behind_p, behind_q) > TOUCHING))
    # Faces that no centre sees may lie between those of p and q: the middle stands for them.
    end = tl.where(occludes, tl.where(is_p, at_p, at_q), (at_p + at_q) * 0.5)
    reach = tl.where(ends, _as_units(tl.where(is_p, end, 1.0 - end)), -1)
    state = 4 * reach + tl.where(occludes, OCCLUDES, 0) + is_p.to(tl.int32)
    other_p = tl.where(is_p, _depth_at(q, 0.0), _depth_at(p, 0.0))
    other_q = tl.where(is_p, _depth_at(q, 1.0), _depth_at(p, 1.0))

    tl.store(state_ptr + out, tl.where(active, state, INACTIVE), mask=gaps.in_image)
    tl.store(edge_ptr + out, edge, mask=active)
    depths_ptr += out * 3
    tl.store(depths_ptr, tl.where(is_p, _depth_at(p, at_p), _depth_at(q, at_q)), mask=active)
    tl.store(depths_ptr + 1, tl.where(has_other, other_p, BIG), mask=active)
    tl.store(depths_ptr + 2, tl.where(has_other, other_q, BIG), mask=active)


@triton.jit
def _load_point(mesh, face_ptr, corner, exists):
    """A corner of faces, x by columns and y by rows, and whether it is valid."""
    vertex = tl.load(face_ptr + corner, mask=exists, other=-1)
    valid = exists & (vertex >= 0) & (vertex < mesh.num_vertices)
    vertex_ptr = mesh.clip_ptr + vertex.to(tl.int64) * 4
    point = load_point(vertex_ptr, mesh.height, mesh.width, valid)
    z = tl.load(vertex_ptr + 2, mask=valid, other=0.0)
    valid = valid & is_finite(point.x) & is_finite(point.y) & is_finite(point.w) & is_finite(z)
    return Corner(point.x, point.y, point.w, z), valid


@triton.jit
def _swapped(swap, a, b):
    """The corner b where `swap` is true, else a."""
    return Corner(
        tl.where(swap, b.x, a.x), tl.where(swap, b.y, a.y), tl.where(swap, b.w, a.w), tl.where(swap, b.z, a.z)
    )


@triton.jit
def _load_edge(mesh, face, k, exists):
    """The edge of a face from its corner k to the next one, and whether the face is valid."""
    face_ptr = mesh.faces_ptr + face.to(tl.int64) * 3
    a, valid_a = _load_point(mesh, face_ptr, k, exists)
    b, valid_b = _load_point(mesh, face_ptr, tl.where(k == 2, 0, k + 1), exists)
    c, valid_c = _load_point(mesh, face_ptr, tl.where(k == 0, 2, k - 1), exists)
    # The edge from either of its faces is computed from the same points in the same order.
    swap = precedes(b, a)
    return Edge(_swapped(swap, a, b), _swapped(swap, b, a), c), valid_a & valid_b & valid_c


@triton.jit
def _lines_of(edge, lines):
    """The lines that an edge may cross: the first and how many."""
    bounded = (edge.a.w > 0) & (edge.b.w > 0)
    a = tl.div_rn(edge.a.y, tl.where(bounded, edge.a.w, 1.0))
    b = tl.div_rn(edge.b.y, tl.where(bounded, edge.b.w, 1.0))
    low = tl.where(bounded, tl.minimum(a, b), 0.0) - MARGIN
    high = tl.where(bounded, tl.maximum(a, b), lines * 1.0) + MARGIN
    first = tl.ceil(_clamp(low, 0.0, lines * 1.0)).to(tl.int32)
    last = tl.floor(_clamp(high, -1.0, lines - 1.0)).to(tl.int32)
    return first, tl.maximum(last - first + 1, 0)


@triton.jit
def _gather_corner(corner, lane):
    x, y = tl.gather(corner.x, lane, 0), tl.gather(corner.y, lane, 0)
    return Corner(x, y, tl.gather(corner.w, lane, 0), tl.gather(corner.z, lane, 0))


@triton.jit
def _find_lane(end, rank, BLOCK: tl.constexpr):
    """The first lane whose running number lies beyond the rank."""
    lane = tl.zeros(rank.shape, tl.int32)
    half = BLOCK // 2
    while half > 0:
        lane += tl.where(tl.gather(end, lane + (half - 1), 0) <= rank, half, 0)
        half = half // 2
    return lane


@triton.jit
def _update_key(keys_ptr, depths_ptr, gap, state, number, edge, t, depth, counts):
    """Takes an edge that crosses a gap at t into account if it is in front of the surface behind."""
    is_p, own_reach = (state & 1) != 0, state >> 2
    at = _clamp(t, 0.0, 1.0)
    reach = _as_units(tl.where(is_p, at, 1.0 - at))
    depths_ptr += gap.to(tl.int64) * 3
    own = tl.load(depths_ptr, mask=counts, other=0.0)
    other_p = tl.load(depths_ptr + 1, mask=counts, other=0.0)
    other_q = tl.load(depths_ptr + 2, mask=counts, other=0.0)
    rise = tl.where(is_finite(other_p), other_q - other_p, 0.0)
    behind = other_p + rise * at
    # Clearly nearer than the other surface: its own edges lie at its depth.
    clear = behind - tl.maximum(behind - own, 0.0) * 0.25 - TOUCHING - MARGIN * tl.abs(rise)
    clear = tl.where(is_finite(behind), clear, BIG)
    counts = counts & (reach >= own_reach - MARGIN_UNITS) & (depth < clear)
    # The face lies on the side of its third corner.
    normal = cross(edge.a, edge.b)
    side = normal.a * edge.c.x + normal.b * edge.c.y + normal.c * edge.c.w
    rightward = (normal.a > 0) == (side > 0)
    continues = (rightward == is_p) & (side != 0)
    low = (0x7FFFFFFF - number).to(tl.uint32, bitcast=True) | (continues.to(tl.uint32) << 31)
    key = ((reach + 1).to(tl.uint64) << 32) | low.to(tl.uint64)
    tl.atomic_max(keys_ptr + gap, key, mask=counts, sem="relaxed")


@triton.jit
def _cross_line(state_ptr, depths_ptr, keys_ptr, edge, number, line, exists, length, along, across):
    """Takes an edge into account at the gap in which it crosses a line, and at the next one if it is near its end.

    A line has `length` pixels. Pixels are `along` from each other on it, and lines `across`.
    """
    place = line.to(tl.float32)
    a, b = _relative_to(edge.a, 0.0, place), _relative_to(edge.b, 0.0, place)
    crosses = exists & ((a.y >= 0) != (b.y >= 0))
    share = tl.div_rn(a.y, tl.where(crosses, a.y - b.y, 1.0))
    w = a.w + share * (b.w - a.w)
    crosses = crosses & (w > 0)
    w = tl.where(crosses, w, 1.0)
    depth = tl.div_rn(a.z + share * (b.z - a.z), w)
    column = tl.floor(_clamp(tl.div_rn(a.x + share * (b.x - a.x), w), -2.0, length + 1.0))
    # From the gap's own pixel, so that no digits are lost far from the image's corner.
    a, b, c = _relative_to(a, column, 0.0), _relative_to(b, column, 0.0), _relative_to(edge.c, column, place)
    t = tl.div_rn(a.x + share * (b.x - a.x), w)
    crosses = crosses & (tl.abs(depth) <= 1) & (t > -MARGIN) & (t < 1 + MARGIN)
    column = column.to(tl.int32)
    # Beside a pixel's centre the crossing counts for the gaps on both sides.
    for step in tl.static_range(2):
        if step == 1:
            crosses = crosses & ((t < MARGIN) | (t > 1 - MARGIN))
            column += tl.where(t < 0.5, -1, 1)
            t = tl.where(t < 0.5, 1.0, 0.0)
        counts = crosses & (column >= 0) & (column < length - 1)
        gap = line * across + column * along
        state = tl.load(state_ptr + gap, mask=counts, other=INACTIVE)
        counts = counts & (state >= 0) & ((state & OCCLUDES) != 0)
        if tl.max(counts.to(tl.int32), axis=0) > 0:
            _update_key(keys_ptr, depths_ptr, gap, state, number, Edge(a, b, c), t, depth, counts)


@triton.jit
def furthest_edge_kernel(
    clip_ptr,
    faces_ptr,
    state_ptr,
    depths_ptr,
    clip_step,
    faces_step,
    height,
    width,
    num_vertices,
    num_faces,
    blocks,
    splits,
    keys_ptr,
    BLOCK: tl.constexpr,
):
    """Per gap, the largest key of the edges that cross it in front of the surface behind.

    A program has a block of an item's edges: all faces' first edges, then the second and the third ones. Neighbouring
    faces may be large, but the edges of one are far apart. It follows every `splits`-th BLOCK of the lines they cross.
    """
    item = tl.program_id(0) // (blocks * splits)
    block = tl.program_id(0) // splits - item * blocks
    split = tl.program_id(0) % splits
    item = item.to(tl.int64)
    mesh = Mesh(
        clip_ptr + item * clip_step * 4, faces_ptr + item * faces_step * 3, num_vertices, num_faces, height, width
    )
    gaps = item * 2 * height * width
    state_ptr += gaps
    depths_ptr += gaps * 3
    keys_ptr = keys_ptr.to(tl.pointer_type(tl.uint64)) + gaps
    lane = tl.arange(0, BLOCK)
    # At first a lane is an edge.
    k = _corner_of(block * BLOCK + lane, num_faces)
    face = block * BLOCK + lane - k * num_faces
    edges, valid = _load_edge(mesh, face, k, k < 3)
    number = 3 * face + k
    for axis in range(2):
        along_rows = axis == 0
        by_line = Edge(_by_line(edges.a, along_rows), _by_line(edges.b, along_rows), _by_line(edges.c, along_rows))
        first, count = _lines_of(by_line, tl.where(along_rows, height, width))
        count = tl.where(valid, count, 0)
        end = tl.cumsum(count, axis=0)
        offset = first - (end - count)
        # Then a lane is a line of an edge.
        for start in range(split * BLOCK, tl.sum(count, axis=0), splits * BLOCK):
            rank = start + lane
            source = _find_lane(end, rank, BLOCK)
            edge = Edge(
                _gather_corner(by_line.a, source),
                _gather_corner(by_line.b, source),
                _gather_corner(by_line.c, source),
            )
            _cross_line(
                state_ptr,
                depths_ptr,
                keys_ptr,
                edge,
                tl.gather(number, source, 0),
                rank + tl.gather(offset, source, 0),
                rank < tl.max(end, axis=0),
                tl.where(along_rows, width, height),
                tl.where(along_rows, 1, width),
                tl.where(along_rows, width, 1),
            )
        state_ptr += height * width
        depths_ptr += height * width * 3
        keys_ptr += height * width


@triton.jit
def _corner_of(number, num_faces):
    """The corner at which an edge begins, from its number among all faces' first, second and third edges; 3 beyond."""
    second, third, beyond = number >= num_faces, number >= 2 * num_faces, number >= 3 * num_faces
    return second.to(tl.int32) + third.to(tl.int32) + beyond.to(tl.int32)


@triton.jit
def choose_crossing_kernel(
    clip_ptr,
    faces_ptr,
    face_index_ptr,
    state_ptr,
    edge_ptr,
    depths_ptr,
    keys_ptr,
    clip_step,
    faces_step,
    face_index_step,
    height,
    width,
    num_vertices,
    num_faces,
    blocks,
    crossings_ptr,
    BLOCK: tl.constexpr,
):
    """What crosses each gap, and where."""
    gaps = _gaps_of_program(height, width, blocks, BLOCK)
    out = gaps.item * 2 * height * width + gaps.number
    state = tl.load(state_ptr + out, mask=gaps.in_image, other=INACTIVE)
    crossings_ptr += out * 2
    active = state > INACTIVE
    if tl.max(active.to(tl.int32), axis=0) == 0:
        nothing = tl.full([BLOCK], NONE, tl.int32)
        tl.store(crossings_ptr, nothing, mask=gaps.in_image)
        tl.store(crossings_ptr + 1, nothing, mask=gaps.in_image)
        return

    clip_ptr += gaps.item * clip_step * 4
    faces_ptr += gaps.item * faces_step * 3
    face_index_ptr += gaps.item * face_index_step
    mesh = Mesh(clip_ptr, faces_ptr, num_vertices, num_faces, height, width)
    key = tl.load(keys_ptr.to(tl.pointer_type(tl.uint64)) + out, mask=active, other=0)
    found, low = key != 0, key.to(tl.uint32).to(tl.int32, bitcast=True)
    is_p, own_reach = (state & 1) != 0, state >> 2
    ends = own_reach >= 0
    edge = tl.where(found, 0x7FFFFFFF - (low & 0x7FFFFFFF), tl.load(edge_ptr + out, mask=active, other=0))
    reach = tl.where(found, (key >> 32).to(tl.int32) - 1, tl.maximum(own_reach, 0))
    continues = ~ends | (found & (low < 0))
    # The surface beyond its last edge: where does it pass behind the other one, or leave the depths that are seen?
    face_p, face_q = _load_faces_of(face_index_ptr, gaps, active & ~ends)
    face = tl.where(ends, edge // 3, tl.where(is_p, face_p, face_q))
    beyond = _section(_load_face(mesh, gaps, face, active & continues))
    start = reach.to(tl.float32) * (1.0 / UNIT)
    start, stop = tl.where(is_p, start, 1.0 - start), tl.where(is_p, 1.0, 0.0)
    first, last = _depth_at(beyond, start), _depth_at(beyond, stop)
    other_p = tl.load(depths_ptr + out * 3 + 1, mask=active, other=0.0)
    other_q = tl.load(depths_ptr + out * 3 + 2, mask=active, other=0.0)
    other = is_finite(other_p)
    rise, base = tl.where(other, other_q - other_p, 0.0), tl.where(other, other_p, 0.0)
    first = tl.where(other, first - (base + rise * start), tl.where(last > 1, first - 1, -1 - first))
    last = tl.where(other, last - (base + rise * stop), tl.where(last > 1, last - 1, -1 - last))
    slope = beyond.depth.a
    least = PARALLEL * (tl.abs(slope) + tl.abs(rise)) + 10 * TOUCHING
    cut = continues & (first < 0) & (last > 0) & (tl.abs(slope - rise) > least)
    at = start + tl.div_rn((stop - start) * first, tl.where(cut, first - last, 1.0))
    what = tl.where(cut, CUT - (2 * face + is_p.to(tl.int32)), tl.where(ends, edge, NONE))
    place = tl.where(cut, _as_units(at), tl.where(is_p, reach, UNIT - reach))
    tl.store(crossings_ptr, tl.where(active, what, NONE), mask=gaps.in_image)
    tl.store(crossings_ptr + 1, tl.where(active, place, NONE), mask=gaps.in_image)


@triton.jit
def _add(grad_ptr, mesh, gaps, vertex, pull, along, across, w, z, mask):
    """Adds the cotangent of a vertex: `pull` times a form in pixel space, along and across the gap's line."""
    x, y = tl.where(gaps.along_rows, along, across), tl.where(gaps.along_rows, across, along)
    # The transpose of `pixel_space`.
    w += (x * (mesh.width - 1) + y * (mesh.height - 1)) * 0.5
    x, y = x * mesh.width * 0.5, y * mesh.height * -0.5
    grad_ptr += vertex.to(tl.int64) * 4
    tl.atomic_add(grad_ptr, pull * x, mask=mask & (pull * x != 0), sem="relaxed")
    tl.atomic_add(grad_ptr + 1, pull * y, mask=mask & (pull * y != 0), sem="relaxed")
    tl.atomic_add(grad_ptr + 2, pull * z, mask=mask & (pull * z != 0), sem="relaxed")
    tl.atomic_add(grad_ptr + 3, pull * w, mask=mask & (pull * w != 0), sem="relaxed")


@triton.jit
def _pick(value0, value1, value2, index):
    return tl.where(index == 0, value0, tl.where(index == 1, value1, value2))


@triton.jit
def _add_edges(grad_ptr, mesh, gaps, edge, force, mask):
    """Adds the terms of edges: the motion of the two corners along the line, by their weights in the edge's point."""
    face = _load_face(mesh, gaps, edge // 3, mask)
    k = edge % 3
    p0, p1, p2 = face.p0, face.p1, face.p2
    a, b = _pick(p0.y, p1.y, p2.y, k), _pick(p1.y, p2.y, p0.y, k)
    crosses = (a >= 0) != (b >= 0)
    share = _clamp(tl.div_rn(a, tl.where(crosses, a - b, 1.0)), 0.0, 1.0)
    w = _pick(p0.w, p1.w, p2.w, k) * (1 - share) + _pick(p1.w, p2.w, p0.w, k) * share
    mask = mask & crosses & (w > 0)
    pull = tl.div_rn(force, tl.where(mask, w, 1.0))
    one, zero = tl.full(edge.shape, 1.0, tl.float32), tl.zeros(edge.shape, tl.float32)
    vertex_a, vertex_b = _pick(face.v0, face.v1, face.v2, k), _pick(face.v1, face.v2, face.v0, k)
    x = _pick(p0.x, p1.x, p2.x, k) * (1 - share) + _pick(p1.x, p2.x, p0.x, k) * share
    here = tl.div_rn(x, tl.where(mask, w, 1.0)) + gaps.column
    _add(grad_ptr, mesh, gaps, vertex_a, pull * (1 - share), one, zero, -here, zero, mask)
    _add(grad_ptr, mesh, gaps, vertex_b, pull * share, one, zero, -here, zero, mask)


@triton.jit
def _add_plane(grad_ptr, mesh, gaps, face, section, t, pull, mask):
    """Adds the terms of a face that is cut: a corner's motion changes the depth of its plane at a fixed place."""
    slope, across = section.depth.a, section.depth.b
    w = slope * (t + gaps.column) + across * gaps.line - _depth_at(section, t)
    z = tl.full(t.shape, 1.0, tl.float32)
    pull = pull * section.inverse
    _add(grad_ptr, mesh, gaps, face.v0, pull * _along(section.edge0, t), -slope, -across, w, z, mask)
    _add(grad_ptr, mesh, gaps, face.v1, pull * _along(section.edge1, t), -slope, -across, w, z, mask)
    _add(grad_ptr, mesh, gaps, face.v2, pull * _along(section.edge2, t), -slope, -across, w, z, mask)


@triton.jit
def _along(function, t):
    return function.c + function.a * t


@triton.jit
def _add_cuts(grad_ptr, mesh, face_index_ptr, gaps, code, t, force, mask):
    """Adds the terms of surfaces that are cut by another one, or by the near or the far plane."""
    face_p, face_q = _load_faces_of(face_index_ptr, gaps, mask)
    other = tl.where(code % 2 == 1, face_q, face_p)
    own_face, other_face = _load_face(mesh, gaps, code // 2, mask), _load_face(mesh, gaps, other, mask)
    own, cutting = _section(own_face), _section(other_face)
    has_other = mask & (other >= 0)
    slope = own.depth.a - tl.where(has_other, cutting.depth.a, 0.0)
    across = own.depth.b - tl.where(has_other, cutting.depth.b, 0.0)
    steepness = slope * slope + across * across
    pull = force * tl.div_rn(-slope, tl.where(steepness > 0, steepness, 1.0))
    _add_plane(grad_ptr, mesh, gaps, own_face, own, t, pull, mask)
    _add_plane(grad_ptr, mesh, gaps, other_face, cutting, t, -pull, has_other)


@triton.jit
def crossing_motion_bwd_kernel(
    cotangent_ptr,
    crossings_ptr,
    clip_ptr,
    faces_ptr,
    face_index_ptr,
    cotangent_step,
    crossings_step,
    clip_step,
    faces_step,
    face_index_step,
    height,
    width,
    num_vertices,
    num_faces,
    blocks,
    items_per_sum,
    grad_ptr,
    BLOCK: tl.constexpr,
):
    """Adds the cotangent of a block of crossings to that of the clip positions of the vertices that move them."""
    gaps = _gaps_of_program(height, width, blocks, BLOCK)
    crossings_ptr += (gaps.item * crossings_step + gaps.number) * 2
    what = tl.load(crossings_ptr, mask=gaps.exists, other=NONE)
    exists = what != NONE
    force = tl.load(cotangent_ptr + gaps.item * cotangent_step + gaps.number, mask=exists, other=0.0)
    exists = exists & (force != 0)
    if tl.max(exists.to(tl.int32), axis=0) == 0:
        return

    clip_ptr += gaps.item * clip_step * 4
    faces_ptr += gaps.item * faces_step * 3
    face_index_ptr += gaps.item * face_index_step
    mesh = Mesh(clip_ptr, faces_ptr, num_vertices, num_faces, height, width)
    grad_ptr += gaps.item // items_per_sum * num_vertices * 4
    t = tl.load(crossings_ptr + 1, mask=exists, other=0).to(tl.float32) * (1.0 / UNIT)
    is_edge, is_cut = exists & (what >= 0), exists & (what <= CUT)
    if tl.max(is_edge.to(tl.int32), axis=0) > 0:
        _add_edges(grad_ptr, mesh, gaps, tl.where(is_edge, what, 0), force, is_edge)
    if tl.max(is_cut.to(tl.int32), axis=0) > 0:
        _add_cuts(grad_ptr, mesh, face_index_ptr, gaps, tl.where(is_cut, CUT - what, 0), t, force, is_cut)
