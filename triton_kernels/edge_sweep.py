"""Backward pass of the edge sweep as a Triton kernel.

jnr/_ops/edge_sweep/README.md derives it; README.md, "Edge sweep", has the layout.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import triton
import triton.language as tl
from jax import lax

from jnr._ops.pixel_space import clip_cotangent
from jnr.triton_kernels import launch
from jnr.triton_kernels.geometry import (
    Point,
    load_point,
    load_vertex,
    maximum,
    power_of_two_scale,
    relative_to,
    sign,
)

# A program is one warp on BLOCK pixels of a line: few lanes idle where few sweeps start, and barriers are not needed.
# It follows SWEEPS out sweeps at once, PIXELS pixels of the line per step.
BLOCK = 32
SWEEPS = 8
PIXELS = 32
WARPS = 1
# Modes of `_accumulate`: dtype of the sums, and shape of a vertex's sum in words of this dtype.
MODES = {"add": (jnp.float32, ()), "find_largest": (jnp.int32, ()), "add_fixed_point": (jnp.uint32, (2,))}


def edge_sweep_bwd(
    image: jax.Array,
    cotangent: jax.Array,
    clip_positions: jax.Array,
    faces: jax.Array,
    face_index: jax.Array,
    depth_limit: jax.Array,
    *,
    eps: float,
    silhouettes_only: bool = False,
    deterministic: bool = False,
) -> jax.Array:
    """Arguments and result as in jnr/_ops/edge_sweep/definition.py."""
    launch.check_float32(image, cotangent, clip_positions, depth_limit)
    by_row = image, cotangent, clip_positions, faces, face_index, depth_limit
    batch = max(map(len, by_row))
    num_vertices = clip_positions.shape[1]
    if 0 in (batch, num_vertices, faces.shape[1], image.size):
        return jnp.zeros((batch, num_vertices, 4), clip_positions.dtype)
    sweep = _sweep_deterministic if deterministic or launch.is_deterministic() else _sweep
    # In the transposed image the pixels of a column are contiguous.
    image, cotangent, face_index, depth_limit = (a.swapaxes(1, 2) for a in (image, cotangent, face_index, depth_limit))
    by_column = image, cotangent, clip_positions, faces, face_index, depth_limit
    options = {"eps": eps, "silhouettes_only": silhouettes_only}
    grad_x, grad_y = sweep(by_row, axis=0, **options), sweep(by_column, axis=1, **options)
    # Rows grow downwards and y upwards.
    return clip_cotangent(grad_x, -grad_y, clip_positions)


def _sweep(operands, **options):
    """Cotangent of the clip coordinate along the lines, `(batch, vertices)`."""
    return _launch(operands, "add", **options)


def _sweep_deterministic(operands, **options):
    """The same from sums in fixed point, which do not depend on the order of the terms."""
    _, lines, length, _ = operands[0].shape
    # A pixel adds at most three terms to a sum, each below 4 units. One more bit is the sign.
    fraction_bits = 61 - (3 * lines * length).bit_length()
    run = partial(_launch, operands, **options)
    largest = run("find_largest")
    sums = run("add_fixed_point", largest=largest, fixed_point_scale=2.0**fraction_bits)
    return _from_fixed_point(sums, largest, fraction_bits)


def _launch(operands, mode, *, axis, eps, silhouettes_only, largest=None, fixed_point_scale=1.0):
    image, cotangent, clip_positions, faces, face_index, depth_limit = operands
    occlusion = depth_limit.size > 0
    batch, num_vertices = max(map(len, operands)), clip_positions.shape[1]
    lines, length, channels = image.shape[1:]
    dtype, words = MODES[mode]
    (sums,) = launch.call(
        edge_sweep_bwd_kernel,
        *operands[:-1],
        depth_limit if occlusion else image,  # read only with occlusion
        face_index if largest is None else largest,  # read only in fixed point
        *(launch.batch_step(a, a.shape[-1]) for a in (image, cotangent, clip_positions, faces)),
        launch.batch_step(face_index),
        launch.batch_step(depth_limit),
        lines,
        length,
        num_vertices,
        float(eps),
        fixed_point_scale,
        results=[jax.ShapeDtypeStruct((batch, num_vertices, *words), dtype)],
        zeroed=(0,),
        programs=batch * lines * -(-length // BLOCK),
        warps=WARPS,
        AXIS=axis,
        CHANNELS=channels,
        MODE=mode,
        OCCLUSION=int(occlusion),
        SILHOUETTES_ONLY=int(silhouettes_only),
        BLOCK=BLOCK,
        # Fixed point and occlusion need the registers that the other half of the sweeps would take.
        SWEEPS=SWEEPS if mode == "add" and not occlusion else SWEEPS // 2,
        PIXELS=PIXELS,
    )
    return sums


def _from_fixed_point(sums, largest, fraction_bits):
    """Sums as float32, from signed 64-bit integers in words of 32 bits and the bits of the largest term of each."""
    low, high = sums[..., 0], sums[..., 1]
    negative = lax.bitcast_convert_type(high, jnp.int32) < 0
    # Converts the magnitude, so that a small negative number is not the difference of two large ones.
    high = jnp.where(negative, ~high + (low == 0).astype(jnp.uint32), high)
    low = jnp.where(negative, -low, low)
    magnitude = high.astype(jnp.float32) * 2.0 ** (32 - fraction_bits) + low.astype(jnp.float32) * 2.0**-fraction_bits
    unit = lax.bitcast_convert_type(jnp.clip(largest & 0x7F800000, 0x00800000, 0x7E800000), jnp.float32)
    total = jnp.where(negative, -magnitude, magnitude) * unit
    return jnp.where(largest >= 0x7F800000, jnp.nan, total)


class Line(NamedTuple):
    """The line of pixels that a program processes."""

    image_ptr: tl.tensor
    cotangent_ptr: tl.tensor
    face_index_ptr: tl.tensor
    depth_limit_ptr: tl.tensor  # NDC depth beyond which a pixel hides an edge
    length: tl.tensor
    pixel_ndc: tl.tensor  # distance between neighbouring pixels in NDC
    eps: tl.tensor


class Gradient(NamedTuple):
    """Where a program adds its terms."""

    ptr: tl.tensor
    largest_ptr: tl.tensor
    fixed_point_scale: tl.tensor


class Face(NamedTuple):
    """The face that a pixel sees: the vertices of its corners, and the corners relative to the pixel."""

    v0: tl.tensor
    v1: tl.tensor
    v2: tl.tensor
    p0: Point  # x along the line, y across the lines
    p1: Point
    p2: Point
    scale: tl.tensor  # of the points


class Crossing(NamedTuple):
    """Where the line through a pixel leaves the pixel's face in one direction, on an edge from corner a to corner b."""

    distance: tl.tensor  # from the pixel, in pixels
    edge: tl.tensor  # 0 from corner 1 to 2, 1 from 2 to 0, 2 from 0 to 1; -1 if there is no crossing
    slope_a: tl.tensor  # derivatives with respect to the clip coordinates of the corners
    slope_b: tl.tensor
    share_a: tl.tensor  # derivatives with respect to the NDC coordinates of the corners
    share_b: tl.tensor


class Sweeps(NamedTuple):
    """Out sweeps that are followed together."""

    start: tl.tensor  # column of the last pixel before the crossing
    exists: tl.tensor
    direction: tl.tensor  # +1 or -1
    distance: tl.tensor  # from start to the crossing, in pixels
    near_a: tl.tensor  # eps times the absolute shares of the edge's corners
    near_b: tl.tensor
    depth: tl.tensor  # of the edge at the crossing, in NDC


@triton.jit
def _accumulate(gradient, vertex, term, mask, MODE: tl.constexpr):
    """Adds terms to the sums of their vertices in float32 or fixed point, or finds the largest absolute terms."""
    mask = mask & (term != 0)
    if MODE == "add":
        tl.atomic_add(gradient.ptr + vertex, term, mask=mask, sem="relaxed")
    elif MODE == "find_largest":
        # The order of non-negative numbers is that of their bits, with NaN above all.
        bits = term.to(tl.int32, bitcast=True) & 0x7FFFFFFF
        tl.atomic_max(gradient.ptr + vertex, bits, mask=mask, sem="relaxed")
    else:
        exponent = tl.load(gradient.largest_ptr + vertex, mask=mask, other=0) & 0x7F800000
        # Below 2**-126 and above 2**126 the exponent's field alone has no inverse.
        exponent = tl.minimum(tl.maximum(exponent, 0x00800000), 0x7E800000)
        units = term * (0x7F000000 - exponent).to(tl.float32, bitcast=True)
        fixed_point = (units * gradient.fixed_point_scale).to(tl.int64)
        tl.atomic_add(gradient.ptr + vertex, fixed_point, mask=mask, sem="relaxed")


@triton.jit
def _load_channel(pixels_ptr, column, channel, mask, CHANNELS: tl.constexpr):
    """One channel of the image or of the cotangent at columns of the line."""
    return tl.load(pixels_ptr + column.to(tl.int64) * CHANNELS + channel, mask=mask, other=0.0)


@triton.jit
def _is_active(line, column, mask, CHANNELS: tl.constexpr):
    """Which pixels have a nonzero cotangent."""
    active = column < 0
    for channel in range(CHANNELS):
        active = active | (_load_channel(line.cotangent_ptr, column, channel, mask, CHANNELS) != 0)
    return active


@triton.jit
def _load_corner(clip_ptr, vertex, lines, length, mask, AXIS: tl.constexpr):
    """Pixel-space point of a vertex, x along the line and y across the lines."""
    vertex_ptr = clip_ptr + vertex.to(tl.int64) * 4
    if AXIS == 0:
        return load_point(vertex_ptr, lines, length, mask)
    else:
        point = load_point(vertex_ptr, length, lines, mask)
        return Point(point.y, point.x, point.w)


@triton.jit
def _load_face(clip_ptr, face_ptr, column, row, lines, length, num_vertices, mask, AXIS: tl.constexpr):
    v0 = load_vertex(face_ptr, 0, num_vertices, mask)
    v1 = load_vertex(face_ptr, 1, num_vertices, mask)
    v2 = load_vertex(face_ptr, 2, num_vertices, mask)
    p0 = _load_corner(clip_ptr, v0, lines, length, mask, AXIS)
    p1 = _load_corner(clip_ptr, v1, lines, length, mask, AXIS)
    p2 = _load_corner(clip_ptr, v2, lines, length, mask, AXIS)
    scale = power_of_two_scale(p0, p1, p2)
    x, y = column.to(tl.float32), row.to(tl.float32)
    p0, p1, p2 = relative_to(p0, x, y, scale), relative_to(p1, x, y, scale), relative_to(p2, x, y, scale)
    return Face(v0, v1, v2, p0, p1, p2, scale)


@triton.jit
def _edge_along_line(a, b):
    """Edge function of a -> b along the line: its value at the pixel, and its increase per pixel."""
    return a.y * b.x - a.x * b.y, a.w * b.y - a.y * b.w


@triton.jit
def _nearer_crossing(nearest, a, b, value, fall, EDGE: tl.constexpr):
    """The crossing with edge a -> b if it is nearer than the nearest so far; `fall` is the edge function's decrease."""
    leaves = fall > 0
    distance = tl.div_rn(tl.maximum(value, 0.0), tl.where(leaves, fall, 1.0))
    nearer = leaves & (distance < nearest.distance)
    # The crossing is the homogeneous point a * b.y - b * a.y.
    w = tl.where(nearer, a.w * b.y - b.w * a.y, 1.0)
    slope_a, slope_b = tl.div_rn(b.y, w), tl.div_rn(-a.y, w)
    return Crossing(
        tl.where(nearer, distance, nearest.distance),
        tl.where(nearer, EDGE, nearest.edge),
        tl.where(nearer, slope_a, nearest.slope_a),
        tl.where(nearer, slope_b, nearest.slope_b),
        tl.where(nearer, slope_a * a.w, nearest.share_a),
        tl.where(nearer, slope_b * b.w, nearest.share_b),
    )


@triton.jit
def _exit_crossing(p0, p1, p2, direction, limit):
    """The crossing in a direction (+1 or -1), from corners relative to the pixel; `limit` away if there is none."""
    value0, increase0 = _edge_along_line(p1, p2)
    value1, increase1 = _edge_along_line(p2, p0)
    value2, increase2 = _edge_along_line(p0, p1)
    facing = sign(value0 * p0.w + value1 * p1.w + value2 * p2.w)
    # The edge functions of a face that faces backwards have the opposite sign.
    outward = -facing * direction
    zero = tl.zeros_like(value0)
    crossing = Crossing(zero + limit, tl.full(value0.shape, -1, tl.int32), zero, zero, zero, zero)
    crossing = _nearer_crossing(crossing, p1, p2, facing * value0, outward * increase0, 0)
    crossing = _nearer_crossing(crossing, p2, p0, facing * value1, outward * increase1, 1)
    return _nearer_crossing(crossing, p0, p1, facing * value2, outward * increase2, 2)


@triton.jit
def _corners_of_edge(edge, v0, v1, v2):
    return tl.where(edge == 0, v1, tl.where(edge == 1, v2, v0)), tl.where(edge == 0, v2, tl.where(edge == 1, v0, v1))


@triton.jit
def _is_joined(face, edge, other_ptr, num_vertices, mask):
    """Whether other faces have both corners of an edge of faces."""
    u0 = load_vertex(other_ptr, 0, num_vertices, mask)
    u1 = load_vertex(other_ptr, 1, num_vertices, mask)
    u2 = load_vertex(other_ptr, 2, num_vertices, mask)
    a, b = _corners_of_edge(edge, face.v0, face.v1, face.v2)
    return mask & ((u0 == a) | (u1 == a) | (u2 == a)) & ((u0 == b) | (u1 == b) | (u2 == b))


@triton.jit
def _depth(clip_ptr, face, crossing, mask):
    """NDC depth of the edge at the crossing."""
    a, b = _corners_of_edge(crossing.edge, face.v0, face.v1, face.v2)
    z_a = tl.load(clip_ptr + a.to(tl.int64) * 4 + 2, mask=mask, other=0.0)
    z_b = tl.load(clip_ptr + b.to(tl.int64) * 4 + 2, mask=mask, other=0.0)
    return (crossing.slope_a * z_a + crossing.slope_b * z_b) * face.scale


@triton.jit
def _look_beyond(
    line,
    clip_ptr,
    faces_ptr,
    column,
    face,
    crossing,
    direction,
    num_vertices,
    mask,
    OCCLUSION: tl.constexpr,
    SILHOUETTES_ONLY: tl.constexpr,
):
    """Which crossings count, for what the pixel after each sees; and the depths of their edges, with OCCLUSION."""
    counts, depth = mask, crossing.distance
    beyond = column + direction * (tl.floor(crossing.distance).to(tl.int32) + 1)
    in_line = mask & (beyond >= 0) & (beyond < line.length)
    if SILHOUETTES_ONLY:
        other = tl.load(line.face_index_ptr + beyond, mask=in_line, other=-1)
        other_ptr = faces_ptr + other.to(tl.int64) * 3
        counts = counts & ~_is_joined(face, crossing.edge, other_ptr, num_vertices, other >= 0)
    if OCCLUSION:
        depth = _depth(clip_ptr, face, crossing, mask)
        counts = counts & ~(depth > tl.load(line.depth_limit_ptr + beyond, mask=in_line, other=float("inf")))
    return counts, depth


@triton.jit
def _first_hiding(line, sweeps, first, end, SWEEPS: tl.constexpr, PIXELS: tl.constexpr):
    """Per sweep, the distance from the crossing to the first pixel of [first, end) that hides the edge."""
    nearest = tl.full([SWEEPS, PIXELS], float("inf"), tl.float32)
    for step in range(first, end, PIXELS):
        column = step + tl.arange(0, PIXELS)
        limit = tl.load(line.depth_limit_ptr + column, mask=column < line.length, other=float("inf"))
        pixels = (column[None, :] - sweeps.start[:, None]).to(tl.float32)
        distance = sweeps.direction[:, None] * pixels - sweeps.distance[:, None]
        hides = (distance > 0) & (sweeps.depth[:, None] > limit[None, :])
        nearest = tl.where(hides, tl.minimum(nearest, distance), nearest)
    return tl.min(nearest, axis=1)


@triton.jit
def _pull(line, gain, direction, distance, slope, share):
    """Term of one corner: the gain over the distance that the corner has to move."""
    reach = distance * line.pixel_ndc + line.eps * tl.abs(share)
    exists = reach > 0
    return tl.where(exists, direction * tl.div_rn(gain * slope, tl.where(exists, reach, 1.0)), 0.0)


@triton.jit
def _in_terms(line, column, active, crossing, direction, CHANNELS: tl.constexpr):
    """Terms of active pixels, per corner: if the crossing passed them, they would take the colour beyond it."""
    beyond = column + direction * (tl.floor(crossing.distance).to(tl.int32) + 1)
    exists = active & (beyond >= 0) & (beyond < line.length)
    gain = tl.zeros(column.shape, tl.float32)
    for channel in range(CHANNELS):
        color = _load_channel(line.image_ptr, column, channel, exists, CHANNELS)
        other = _load_channel(line.image_ptr, beyond, channel, exists, CHANNELS)
        weight = _load_channel(line.cotangent_ptr, column, channel, exists, CHANNELS)
        gain += (color - other) * weight
    gain = maximum(gain, 0.0)
    a = _pull(line, gain, direction, crossing.distance, crossing.slope_a, crossing.share_a)
    b = _pull(line, gain, direction, crossing.distance, crossing.slope_b, crossing.share_b)
    edge = crossing.edge
    return (
        tl.where(edge == 2, a, tl.where(edge == 1, b, 0.0)),
        tl.where(edge == 0, a, tl.where(edge == 2, b, 0.0)),
        tl.where(edge == 1, a, tl.where(edge == 0, b, 0.0)),
    )


@triton.jit
def _number(condition, first):
    """Numbers the lanes at which a condition holds, counting from `first`; -1 in the other lanes."""
    return tl.where(condition, first + tl.cumsum(condition.to(tl.int32), axis=0) - 1, -1)


@triton.jit
def _pick(left, right, lane, is_left):
    """Per sweep, the value of the lane where it starts, among those of the crossings to its side."""
    return tl.where(is_left, tl.gather(left, lane, 0), tl.gather(right, lane, 0))


@triton.jit
def _sum_out_terms(
    line,
    sweeps,
    first,
    end,
    CHANNELS: tl.constexpr,
    OCCLUSION: tl.constexpr,
    SWEEPS: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """Per sweep and corner, the sum of gain / reach over the pixels of [first, end) beyond the crossing.

    The reach is the distance from the crossing to the pixel in NDC plus the corner's share of eps.
    """
    sum_a, sum_b = tl.zeros([SWEEPS, PIXELS], tl.float32), tl.zeros([SWEEPS, PIXELS], tl.float32)
    if OCCLUSION:
        hidden_from = _first_hiding(line, sweeps, first, end, SWEEPS, PIXELS)
    for step in range(first, end, PIXELS):
        column = step + tl.arange(0, PIXELS)
        in_line = column < line.length
        # Most pixels are inactive under most losses.
        if tl.max(_is_active(line, column, in_line, CHANNELS).to(tl.int32), axis=0) > 0:
            gain = tl.zeros([SWEEPS, PIXELS], tl.float32)
            for channel in range(CHANNELS):
                weight = _load_channel(line.cotangent_ptr, column, channel, in_line, CHANNELS)
                color = _load_channel(line.image_ptr, column, channel, in_line, CHANNELS)
                other = _load_channel(line.image_ptr, sweeps.start, channel, sweeps.exists, CHANNELS)
                gain += (color[None, :] - other[:, None]) * weight[None, :]
            pixels = (column[None, :] - sweeps.start[:, None]).to(tl.float32)
            distance = sweeps.direction[:, None] * pixels - sweeps.distance[:, None]
            beyond = distance > 0
            if OCCLUSION:
                beyond = beyond & (distance < hidden_from[:, None])
            gain = tl.where(beyond, maximum(gain, 0.0), 0.0)
            distance = tl.where(beyond, distance * line.pixel_ndc, 1.0)
            # One division for both corners.
            reach_a, reach_b = distance + sweeps.near_a[:, None], distance + sweeps.near_b[:, None]
            quotient = gain / (reach_a * reach_b)
            sum_a += quotient * reach_b
            sum_b += quotient * reach_a
    return tl.sum(sum_a, axis=1), tl.sum(sum_b, axis=1)


@triton.jit
def _add_out_sweeps(
    gradient,
    line,
    first_column,
    face,
    left,
    right,
    ends_left,
    ends_right,
    depth_left,
    depth_right,
    CHANNELS: tl.constexpr,
    MODE: tl.constexpr,
    OCCLUSION: tl.constexpr,
    BLOCK: tl.constexpr,
    SWEEPS: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """Adds the terms of pixels beyond a crossing: if it passed them, they would take the colour before it.

    A sweep starts at each pixel at which a face ends. The sweeps are numbered, those to the left first, and followed in
    groups of SWEEPS.
    """
    num_left = tl.sum(ends_left.to(tl.int32), axis=0)
    num_sweeps = num_left + tl.sum(ends_right.to(tl.int32), axis=0)
    number_left, number_right = _number(ends_left, 0), _number(ends_right, num_left)
    for first in range(0, num_sweeps, SWEEPS):
        number = first + tl.arange(0, SWEEPS)
        exists = number < num_sweeps
        is_left = number < num_left
        starts = (number_left[None, :] == number[:, None]) | (number_right[None, :] == number[:, None])
        lane = tl.sum(tl.where(starts, tl.arange(0, BLOCK)[None, :], 0), axis=1)  # [SWEEPS, BLOCK] to [SWEEPS]
        start = first_column + lane
        direction = tl.where(is_left, -1.0, 1.0)
        sweeps = Sweeps(
            start,
            exists,
            direction,
            _pick(left.distance, right.distance, lane, is_left),
            line.eps * tl.abs(_pick(left.share_a, right.share_a, lane, is_left)),
            line.eps * tl.abs(_pick(left.share_b, right.share_b, lane, is_left)),
            _pick(depth_left, depth_right, lane, is_left),
        )

        # Columns before the first start matter to sweeps to the left only, those after the last to sweeps to the right.
        low = tl.min(tl.where(exists, start, line.length), axis=0)
        low = tl.where(first < num_left, 0, low // PIXELS * PIXELS)
        high = tl.max(tl.where(exists, start, 0), axis=0) + 1
        high = tl.where(tl.minimum(first + SWEEPS, num_sweeps) > num_left, line.length, high)
        sum_a, sum_b = _sum_out_terms(line, sweeps, low, high, CHANNELS, OCCLUSION, SWEEPS, PIXELS)

        # After the sum, so that they occupy no registers during it.
        slope_a = _pick(left.slope_a, right.slope_a, lane, is_left)
        slope_b = _pick(left.slope_b, right.slope_b, lane, is_left)
        edge = _pick(left.edge, right.edge, lane, is_left)
        scale = tl.gather(face.scale, lane, 0)
        term_a = -direction * slope_a * scale * sum_a
        term_b = -direction * slope_b * scale * sum_b
        v0, v1, v2 = tl.gather(face.v0, lane, 0), tl.gather(face.v1, lane, 0), tl.gather(face.v2, lane, 0)
        vertex_a, vertex_b = _corners_of_edge(edge, v0, v1, v2)
        _accumulate(gradient, vertex_a, term_a, exists & (edge >= 0), MODE)
        _accumulate(gradient, vertex_b, term_b, exists & (edge >= 0), MODE)


@triton.jit
def edge_sweep_bwd_kernel(
    image_ptr,
    cotangent_ptr,
    clip_ptr,
    faces_ptr,
    face_index_ptr,
    depth_limit_ptr,
    largest_ptr,
    image_step,
    cotangent_step,
    clip_step,
    faces_step,
    face_index_step,
    depth_limit_step,
    lines,
    length,
    num_vertices,
    eps,
    fixed_point_scale,
    grad_ptr,
    AXIS: tl.constexpr,
    CHANNELS: tl.constexpr,
    MODE: tl.constexpr,
    OCCLUSION: tl.constexpr,
    SILHOUETTES_ONLY: tl.constexpr,
    BLOCK: tl.constexpr,
    SWEEPS: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """Adds the terms of BLOCK pixels of a line to the cotangent of the clip coordinate along the line.

    Lines are rows if AXIS is 0 and columns if it is 1. MODE is that of `_accumulate`.
    """
    blocks = tl.cdiv(length, BLOCK)
    global_row = tl.program_id(0) // blocks
    first_column = (tl.program_id(0) - global_row * blocks) * BLOCK
    item, row = (global_row // lines).to(tl.int64), global_row % lines
    row_start = row.to(tl.int64) * length
    image_ptr += (item * image_step + row_start) * CHANNELS
    cotangent_ptr += (item * cotangent_step + row_start) * CHANNELS
    face_index_ptr += item * face_index_step + row_start
    depth_limit_ptr += item * depth_limit_step + row_start
    clip_ptr += item * clip_step * 4
    faces_ptr += item * faces_step * 3
    if MODE == "add_fixed_point":
        # JAX has no 64-bit integers without x64, so the launch function passes pairs of 32-bit words.
        grad_ptr = grad_ptr.to(tl.pointer_type(tl.int64))
    line = Line(image_ptr, cotangent_ptr, face_index_ptr, depth_limit_ptr, length, tl.div_rn(2.0, length * 1.0), eps)
    gradient = Gradient(grad_ptr + item * num_vertices, largest_ptr + item * num_vertices, fixed_point_scale)

    column = first_column + tl.arange(0, BLOCK)
    face_index = tl.load(face_index_ptr + column, mask=column < length, other=-1)
    if tl.max(face_index, axis=0) < 0:
        return
    covered = face_index >= 0

    # Only active pixels have in terms, and a face can end only next to a pixel that sees another face.
    active = _is_active(line, column, covered, CHANNELS)
    ends_left = covered & (column > 0)
    ends_right = covered & (column + 1 < length)
    ends_left = ends_left & (tl.load(face_index_ptr + column - 1, mask=ends_left, other=-1) != face_index)
    ends_right = ends_right & (tl.load(face_index_ptr + column + 1, mask=ends_right, other=-1) != face_index)
    if tl.max((active | ends_left | ends_right).to(tl.int32), axis=0) == 0:
        return

    face_ptr = faces_ptr + face_index.to(tl.int64) * 3
    face = _load_face(clip_ptr, face_ptr, column, row, lines, length, num_vertices, covered, AXIS)
    left = _exit_crossing(face.p0, face.p1, face.p2, -1.0, length + 1.0)
    right = _exit_crossing(face.p0, face.p1, face.p2, 1.0, length + 1.0)

    counts_left, depth_left = _look_beyond(
        line, clip_ptr, faces_ptr, column, face, left, -1, num_vertices, covered, OCCLUSION, SILHOUETTES_ONLY
    )
    counts_right, depth_right = _look_beyond(
        line, clip_ptr, faces_ptr, column, face, right, 1, num_vertices, covered, OCCLUSION, SILHOUETTES_ONLY
    )

    if tl.max(active.to(tl.int32), axis=0) > 0:
        left0, left1, left2 = _in_terms(line, column, active & counts_left, left, -1, CHANNELS)
        right0, right1, right2 = _in_terms(line, column, active & counts_right, right, 1, CHANNELS)
        _accumulate(gradient, face.v0, (left0 + right0) * face.scale, active, MODE)
        _accumulate(gradient, face.v1, (left1 + right1) * face.scale, active, MODE)
        _accumulate(gradient, face.v2, (left2 + right2) * face.scale, active, MODE)

    ends_left = ends_left & counts_left & (left.distance < 1)
    ends_right = ends_right & counts_right & (right.distance < 1)
    _add_out_sweeps(
        gradient,
        line,
        first_column,
        face,
        left,
        right,
        ends_left,
        ends_right,
        depth_left,
        depth_right,
        CHANNELS,
        MODE,
        OCCLUSION,
        BLOCK,
        SWEEPS,
        PIXELS,
    )
