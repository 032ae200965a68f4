"""Backward pass of the edge sweep as a Triton kernel. Derivation and layout: README.md, "Edge sweep"."""

import jax
import jax.numpy as jnp
import triton
import triton.language as tl
from jax import lax

from jnr.triton_kernels import launch
from jnr.triton_kernels.geometry import power_of_two_scale, sign, to_column, to_row

# Pixels of a line that one program looks at, sweeps that it follows at once, and pixels that these cross in a step.
# A program is one warp, so that few sweeps on a line leave few lanes idle and nothing waits at a barrier.
BLOCK = 32
SWEEPS = 8
PIXELS = 32
WARPS = 1
# What a program does with its terms.
ADD, FIND_LARGEST, ADD_FIXED_POINT = 0, 1, 2


def edge_sweep_bwd(
    image: jax.Array,
    cotangent: jax.Array,
    clip_positions: jax.Array,
    faces: jax.Array,
    face_index: jax.Array,
    *,
    eps: float,
    deterministic: bool = False,
) -> jax.Array:
    """Cotangent of the clip positions; arguments and result as in jnr/_ops/edge_sweep/definition.py."""
    launch.check_float32(image, cotangent, clip_positions)
    deterministic |= launch.is_deterministic()
    batch = max(a.shape[0] for a in (image, cotangent, clip_positions, faces, face_index))
    num_vertices = clip_positions.shape[1]
    if 0 in (batch, num_vertices, faces.shape[1], image.size):
        return jnp.zeros((batch, num_vertices, 4), clip_positions.dtype)

    def sweep(axis, image, cotangent, face_index):
        lines, length, channels = image.shape[1:]
        steps = [launch.batch_step(a, a.shape[-1]) for a in (image, cotangent, clip_positions, faces)]
        # Fixed point: to a sum each pixel adds three terms at most, each below 4, and the sign is one more bit.
        fraction_bits = 61 - (3 * lines * length).bit_length()

        def run(mode, largest, result):
            (out,) = launch.call(
                edge_sweep_bwd_kernel,
                image,
                cotangent,
                clip_positions,
                faces,
                face_index,
                largest,
                *steps,
                launch.batch_step(face_index),
                lines,
                length,
                num_vertices,
                float(eps),
                2.0**fraction_bits,
                results=[result],
                zeroed=(0,),
                programs=batch * lines * -(-length // BLOCK),
                warps=WARPS,
                AXIS=axis,
                CHANNELS=channels,
                MODE=mode,
                BLOCK=BLOCK,
                # Fixed point needs registers that twice as many sweeps would take.
                SWEEPS=SWEEPS if mode == ADD else SWEEPS // 2,
                PIXELS=PIXELS,
            )
            return out

        size = batch, num_vertices
        if not deterministic:
            return run(ADD, face_index, jax.ShapeDtypeStruct(size, jnp.float32))
        largest = run(FIND_LARGEST, face_index, jax.ShapeDtypeStruct(size, jnp.int32))
        return _from_fixed_point(
            run(ADD_FIXED_POINT, largest, jax.ShapeDtypeStruct((*size, 2), jnp.uint32)), largest, fraction_bits
        )

    grad_x = sweep(0, image, cotangent, face_index)
    # A column's pixels lie next to each other in the transposed image. Rows grow downwards and y upwards.
    grad_y = -sweep(1, *(a.swapaxes(1, 2) for a in (image, cotangent, face_index)))
    # NDC x is x / w. A vertex behind the camera or not finite has no place in the image, so its w gets nothing.
    x, y, w = clip_positions[..., 0], clip_positions[..., 1], clip_positions[..., 3]
    placed = jnp.all(jnp.isfinite(clip_positions), axis=-1) & (w > 0)
    grad_w = jnp.where(placed, -(grad_x * x + grad_y * y) / jnp.where(placed, w, 1), 0)
    return jnp.stack([grad_x, grad_y, jnp.zeros_like(grad_x), grad_w], axis=-1)


def _from_fixed_point(sums, largest, fraction_bits):
    """Sums as float32, from signed 64-bit words and the bits of the largest term of each."""
    low, high = sums[..., 0], sums[..., 1]
    negative = lax.bitcast_convert_type(high, jnp.int32) < 0
    # The two's complement, so that a small negative number is not the difference of two large ones.
    high = jnp.where(negative, ~high + (low == 0).astype(jnp.uint32), high)
    low = jnp.where(negative, -low, low)
    magnitude = high.astype(jnp.float32) * 2.0 ** (32 - fraction_bits) + low.astype(jnp.float32) * 2.0**-fraction_bits
    unit = lax.bitcast_convert_type(jnp.clip(largest & 0x7F800000, 0x00800000, 0x7E800000), jnp.float32)
    total = jnp.where(negative, -magnitude, magnitude) * unit
    return jnp.where(largest >= 0x7F800000, jnp.nan, total)


@triton.jit
def _tell(grad_ptr, largest_ptr, vertex, term, mask, one, MODE: tl.constexpr):
    """Adds terms to their vertices' sums, in float32 or, whatever the order, to the same bits."""
    mask = mask & (term != 0)
    if MODE == 0:
        tl.atomic_add(grad_ptr + vertex, term, mask=mask, sem="relaxed")
    elif MODE == 1:
        # The bits of numbers that are not negative have the numbers' order; NaN is above all.
        bits = term.to(tl.int32, bitcast=True) & 0x7FFFFFFF
        tl.atomic_max(grad_ptr + vertex, bits, mask=mask, sem="relaxed")
    else:
        exponent = tl.load(largest_ptr + vertex, mask=mask, other=0) & 0x7F800000
        # Below 2**-126 and above 2**126 the exponent's field alone has no inverse.
        exponent = tl.minimum(tl.maximum(exponent, 0x00800000), 0x7E800000)
        fraction = term * (0x7F000000 - exponent).to(tl.float32, bitcast=True)
        tl.atomic_add(grad_ptr + vertex, (fraction * one).to(tl.int64), mask=mask, sem="relaxed")


@triton.jit
def _load_corner(clip_ptr, row, column, line, lines, length, mask, AXIS: tl.constexpr):
    """A vertex as (along, across, w), along and across the line in pixels times w."""
    row = clip_ptr + row.to(tl.int64) * 4
    x = tl.load(row, mask=mask, other=0.0)
    y = tl.load(row + 1, mask=mask, other=0.0)
    w = tl.load(row + 3, mask=mask, other=1.0)
    if AXIS == 0:
        along, across = to_column(x, w, length), to_row(y, w, lines)
    else:
        along, across = to_row(y, w, length), to_column(x, w, lines)
    return along, across, w


@triton.jit
def _load_geometry(
    clip_ptr, faces_ptr, clip_row, faces_row, face, column, line, lines, length, num_vertices, mask, AXIS: tl.constexpr
):
    """The corners of the faces that pixels show, relative to the pixels, and their vertices."""
    row = faces_ptr + (faces_row + face) * 3
    v0 = tl.load(row, mask=mask, other=0)
    v1 = tl.load(row + 1, mask=mask, other=0)
    v2 = tl.load(row + 2, mask=mask, other=0)
    v0 = tl.minimum(tl.maximum(v0, 0), num_vertices - 1)
    v1 = tl.minimum(tl.maximum(v1, 0), num_vertices - 1)
    v2 = tl.minimum(tl.maximum(v2, 0), num_vertices - 1)
    x0, y0, w0 = _load_corner(clip_ptr, clip_row + v0, column, line, lines, length, mask, AXIS)
    x1, y1, w1 = _load_corner(clip_ptr, clip_row + v1, column, line, lines, length, mask, AXIS)
    x2, y2, w2 = _load_corner(clip_ptr, clip_row + v2, column, line, lines, length, mask, AXIS)
    scale = power_of_two_scale(x0, y0, w0, x1, y1, w1, x2, y2, w2)
    w0, w1, w2 = w0 * scale, w1 * scale, w2 * scale
    u, v = column.to(tl.float32), line.to(tl.float32)
    x0, x1, x2 = x0 * scale - u * w0, x1 * scale - u * w1, x2 * scale - u * w2
    y0, y1, y2 = y0 * scale - v * w0, y1 * scale - v * w1, y2 * scale - v * w2
    return v0, v1, v2, x0, y0, w0, x1, y1, w1, x2, y2, w2, scale


@triton.jit
def _nearer(best, edge, slope_a, slope_b, share_a, share_b, EDGE: tl.constexpr, constant, fall, ya, wa, yb, wb):
    """Takes the crossing with edge a -> b where it comes before the best so far."""
    leaves = fall > 0
    distance = tl.div_rn(tl.maximum(constant, 0.0), tl.where(leaves, fall, 1.0))
    nearer = leaves & (distance < best)
    # The crossing is the homogeneous point a * yb - b * ya.
    divisor = tl.where(nearer, wa * yb - wb * ya, 1.0)
    new_a, new_b = tl.div_rn(yb, divisor), tl.div_rn(-ya, divisor)
    return (
        tl.where(nearer, distance, best),
        tl.where(nearer, EDGE, edge),
        tl.where(nearer, new_a, slope_a),
        tl.where(nearer, new_b, slope_b),
        tl.where(nearer, new_a * wa, share_a),
        tl.where(nearer, new_b * wb, share_b),
    )


@triton.jit
def _exit_crossing(x0, y0, w0, x1, y1, w1, x2, y2, w2, direction, limit):
    """Where the line through a pixel leaves the pixel's face in a direction (+1 or -1).

    Returns:
        distance: From the pixel to the crossing, in pixels; `limit` if there is none before.
        edge: The edge crossed, 0 being corner 1 -> 2 and so on.
        slope_a, slope_b: How far the crossing moves in NDC when the edge's corners do in clip space.
        share_a, share_b: The same when the corners move in NDC.
    """
    c0, c1, c2 = y1 * x2 - x1 * y2, y2 * x0 - x2 * y0, y0 * x1 - x0 * y1
    g0, g1, g2 = w1 * y2 - y1 * w2, w2 * y0 - y2 * w0, w0 * y1 - y0 * w1
    facing = sign(c0 * w0 + c1 * w1 + c2 * w2)
    outward = -facing * direction
    zero = tl.zeros_like(c0)
    distance, edge = zero + limit, tl.full(c0.shape, -1, tl.int32)
    slope_a, slope_b, share_a, share_b = zero, zero, zero, zero
    distance, edge, slope_a, slope_b, share_a, share_b = _nearer(
        distance, edge, slope_a, slope_b, share_a, share_b, 0, facing * c0, outward * g0, y1, w1, y2, w2
    )
    distance, edge, slope_a, slope_b, share_a, share_b = _nearer(
        distance, edge, slope_a, slope_b, share_a, share_b, 1, facing * c1, outward * g1, y2, w2, y0, w0
    )
    distance, edge, slope_a, slope_b, share_a, share_b = _nearer(
        distance, edge, slope_a, slope_b, share_a, share_b, 2, facing * c2, outward * g2, y0, w0, y1, w1
    )
    return distance, edge, slope_a, slope_b, share_a, share_b


@triton.jit
def _push(saving, direction, distance, slope, share, pixel_ndc, eps):
    reach = distance * pixel_ndc + eps * tl.abs(share)
    exists = reach > 0
    return tl.where(exists, direction * tl.div_rn(saving * slope, tl.where(exists, reach, 1.0)), 0.0)


@triton.jit
def _inside_terms(
    image_ptr,
    cotangent_ptr,
    pixel,
    wanted,
    length,
    pixel_ndc,
    eps,
    step,
    distance,
    edge,
    slope_a,
    slope_b,
    share_a,
    share_b,
    CHANNELS: tl.constexpr,
):
    """What the three corners get from pixels that would take the colour beyond the crossing in one direction."""
    beyond = pixel + step * (tl.floor(distance).to(tl.int32) + 1)
    exists = wanted & (beyond >= 0) & (beyond < length)
    saving = tl.zeros(pixel.shape, tl.float32)
    for channel in range(CHANNELS):
        colour = tl.load(image_ptr + pixel.to(tl.int64) * CHANNELS + channel, mask=exists, other=0.0)
        other = tl.load(image_ptr + beyond.to(tl.int64) * CHANNELS + channel, mask=exists, other=0.0)
        weight = tl.load(cotangent_ptr + pixel.to(tl.int64) * CHANNELS + channel, mask=exists, other=0.0)
        saving += (colour - other) * weight
    saving = tl.maximum(saving, 0.0, propagate_nan=tl.PropagateNan.ALL)
    push_a = _push(saving, step, distance, slope_a, share_a, pixel_ndc, eps)
    push_b = _push(saving, step, distance, slope_b, share_b, pixel_ndc, eps)
    return (
        tl.where(edge == 2, push_a, tl.where(edge == 1, push_b, 0.0)),
        tl.where(edge == 0, push_a, tl.where(edge == 2, push_b, 0.0)),
        tl.where(edge == 1, push_a, tl.where(edge == 0, push_b, 0.0)),
    )


@triton.jit
def _has_weight(cotangent_ptr, pixel, exists, CHANNELS: tl.constexpr):
    """Which pixels have a cotangent."""
    found = pixel < 0
    for channel in range(CHANNELS):
        weight = tl.load(cotangent_ptr + pixel.to(tl.int64) * CHANNELS + channel, mask=exists, other=0.0)
        found = found | (weight != 0)
    return found


@triton.jit
def _follow_sweeps(
    image_ptr,
    cotangent_ptr,
    start,
    direction,
    distance,
    near_a,
    near_b,
    exists,
    low,
    high,
    length,
    pixel_ndc,
    CHANNELS: tl.constexpr,
    SWEEPS: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """Sums over the pixels from `low` to `high` that lie beyond the sweeps' crossings, of savings by reach.

    Reach is the distance from the crossing to the pixel in NDC, and `near_a` or `near_b` more.
    """
    total_a, total_b = tl.zeros([SWEEPS, PIXELS], tl.float32), tl.zeros([SWEEPS, PIXELS], tl.float32)
    for pixel in range(low, high, PIXELS):
        target = pixel + tl.arange(0, PIXELS)
        in_line = target < length
        # Most pixels of most losses want nothing.
        if tl.max(_has_weight(cotangent_ptr, target, in_line, CHANNELS).to(tl.int32), axis=0) > 0:
            saving = tl.zeros([SWEEPS, PIXELS], tl.float32)
            for channel in range(CHANNELS):
                at = target.to(tl.int64) * CHANNELS + channel
                weight = tl.load(cotangent_ptr + at, mask=in_line, other=0.0)
                colour = tl.load(image_ptr + at, mask=in_line, other=0.0)
                own = tl.load(image_ptr + start.to(tl.int64) * CHANNELS + channel, mask=exists, other=0.0)
                saving += (colour[None, :] - own[:, None]) * weight[None, :]
            steps = (target[None, :] - start[:, None]).to(tl.float32)
            reach = direction[:, None] * steps - distance[:, None]
            beyond = reach > 0
            saving = tl.where(beyond, tl.maximum(saving, 0.0, propagate_nan=tl.PropagateNan.ALL), 0.0)
            reach = tl.where(beyond, reach * pixel_ndc, 1.0)
            # One division for both vertices.
            reach_a, reach_b = reach + near_a[:, None], reach + near_b[:, None]
            force = saving / (reach_a * reach_b)
            total_a += force * reach_b
            total_b += force * reach_a
    return tl.sum(total_a, axis=1), tl.sum(total_b, axis=1)


@triton.jit
def _pick(left, right, lane, is_left):
    """For each sweep the value of the pixel where it starts, among those of the sweeps to its side."""
    return tl.where(is_left, tl.gather(left, lane, 0), tl.gather(right, lane, 0))


@triton.jit
def edge_sweep_bwd_kernel(
    image_ptr,
    cotangent_ptr,
    clip_ptr,
    faces_ptr,
    face_index_ptr,
    largest_ptr,
    image_step,
    cotangent_step,
    clip_step,
    faces_step,
    face_index_step,
    lines,
    length,
    num_vertices,
    eps,
    one,
    grad_ptr,
    AXIS: tl.constexpr,
    CHANNELS: tl.constexpr,
    MODE: tl.constexpr,
    BLOCK: tl.constexpr,
    SWEEPS: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """Gradient of the vertices' clip position along the line, from the faces that a piece of a line shows."""
    pieces = (length + BLOCK - 1) // BLOCK
    program = tl.program_id(0)
    global_line = program // pieces
    piece = program - global_line * pieces
    item = (global_line // lines).to(tl.int64)
    line = global_line % lines
    line_start = line.to(tl.int64) * length
    image_ptr += (item * image_step + line_start) * CHANNELS
    cotangent_ptr += (item * cotangent_step + line_start) * CHANNELS
    face_index_ptr += item * face_index_step + line_start
    if MODE == 2:
        grad_ptr = grad_ptr.to(tl.pointer_type(tl.int64))
    grad_ptr += item * num_vertices
    largest_ptr += item * num_vertices
    clip_row, faces_row = item * clip_step, item * faces_step
    pixel_ndc = tl.div_rn(2.0, length * 1.0)

    column = piece * BLOCK + tl.arange(0, BLOCK)
    face = tl.load(face_index_ptr + column, mask=column < length, other=-1)
    if tl.max(face, axis=0) < 0:
        return
    covered = face >= 0

    # Pixels that would take another colour, and those next to a pixel that sees another face.
    wanted = _has_weight(cotangent_ptr, column, covered, CHANNELS)
    starts_left = covered & (column > 0)
    starts_right = covered & (column + 1 < length)
    starts_left = starts_left & (tl.load(face_index_ptr + column - 1, mask=starts_left, other=-1) != face)
    starts_right = starts_right & (tl.load(face_index_ptr + column + 1, mask=starts_right, other=-1) != face)
    if tl.max((wanted | starts_left | starts_right).to(tl.int32), axis=0) == 0:
        return

    v0, v1, v2, x0, y0, w0, x1, y1, w1, x2, y2, w2, scale = _load_geometry(
        clip_ptr, faces_ptr, clip_row, faces_row, face, column, line, lines, length, num_vertices, covered, AXIS
    )
    to_left = _exit_crossing(x0, y0, w0, x1, y1, w1, x2, y2, w2, -1.0, length + 1.0)
    to_right = _exit_crossing(x0, y0, w0, x1, y1, w1, x2, y2, w2, 1.0, length + 1.0)

    # Inside terms: pixels that would take the colour beyond the crossing.
    if tl.max(wanted.to(tl.int32), axis=0) > 0:
        left_0, left_1, left_2 = _inside_terms(
            image_ptr, cotangent_ptr, column, wanted, length, pixel_ndc, eps, -1, *to_left, CHANNELS
        )
        right_0, right_1, right_2 = _inside_terms(
            image_ptr, cotangent_ptr, column, wanted, length, pixel_ndc, eps, 1, *to_right, CHANNELS
        )
        _tell(grad_ptr, largest_ptr, v0, (left_0 + right_0) * scale, wanted, one, MODE)
        _tell(grad_ptr, largest_ptr, v1, (left_1 + right_1) * scale, wanted, one, MODE)
        _tell(grad_ptr, largest_ptr, v2, (left_2 + right_2) * scale, wanted, one, MODE)

    # Sweeps: pixels beyond a crossing that would take the colour of the last pixel before it. A face ends before the
    # next pixel only where that pixel sees another face.
    # They are numbered, those to the left first, so that a group of them can be picked out.
    left, left_edge, left_slope_a, left_slope_b, left_share_a, left_share_b = to_left
    right, right_edge, right_slope_a, right_slope_b, right_share_a, right_share_b = to_right
    starts_left = starts_left & (left < 1)
    starts_right = starts_right & (right < 1)
    rank_left = tl.cumsum(starts_left.to(tl.int32), axis=0) - 1
    num_left = tl.sum(starts_left.to(tl.int32), axis=0)
    rank_right = num_left + tl.cumsum(starts_right.to(tl.int32), axis=0) - 1
    num_sweeps = num_left + tl.sum(starts_right.to(tl.int32), axis=0)
    rank_left = tl.where(starts_left, rank_left, -1)
    rank_right = tl.where(starts_right, rank_right, -1)
    for first in range(0, num_sweeps, SWEEPS):
        rank = first + tl.arange(0, SWEEPS)
        exists = rank < num_sweeps
        picked = (rank_left[None, :] == rank[:, None]) | (rank_right[None, :] == rank[:, None])  # [SWEEPS, BLOCK]
        lane = tl.sum(tl.where(picked, tl.arange(0, BLOCK)[None, :], 0), axis=1)
        start = piece * BLOCK + lane
        is_left = rank < num_left
        direction = tl.where(is_left, -1.0, 1.0)
        low = tl.min(tl.where(exists, start, length), axis=0)
        low = tl.where(first < num_left, 0, low // PIXELS * PIXELS)
        high = tl.max(tl.where(exists, start, 0), axis=0) + 1
        high = tl.where(tl.minimum(first + SWEEPS, num_sweeps) > num_left, length, high)
        sum_a, sum_b = _follow_sweeps(
            image_ptr,
            cotangent_ptr,
            start,
            direction,
            _pick(left, right, lane, is_left),
            eps * tl.abs(_pick(left_share_a, right_share_a, lane, is_left)),
            eps * tl.abs(_pick(left_share_b, right_share_b, lane, is_left)),
            exists,
            low,
            high,
            length,
            pixel_ndc,
            CHANNELS,
            SWEEPS,
            PIXELS,
        )
        scales = tl.gather(scale, lane, 0)
        pull_a = -direction * _pick(left_slope_a, right_slope_a, lane, is_left) * scales * sum_a
        pull_b = -direction * _pick(left_slope_b, right_slope_b, lane, is_left) * scales * sum_b
        edge = _pick(left_edge, right_edge, lane, is_left)
        v0s, v1s, v2s = tl.gather(v0, lane, 0), tl.gather(v1, lane, 0), tl.gather(v2, lane, 0)
        corner_a = tl.where(edge == 0, v1s, tl.where(edge == 1, v2s, v0s))
        corner_b = tl.where(edge == 0, v2s, tl.where(edge == 1, v0s, v1s))
        _tell(grad_ptr, largest_ptr, corner_a, pull_a, exists & (edge >= 0), one, MODE)
        _tell(grad_ptr, largest_ptr, corner_b, pull_b, exists & (edge >= 0), one, MODE)
