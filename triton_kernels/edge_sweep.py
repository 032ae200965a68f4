"""Backward pass of the edge sweep as Triton kernels.

jnr/_ops/edge_sweep/README.md derives it; README.md, "Edge sweep", has the layout and the counts. Lines are the rows and
the columns of the image. A run is a stretch of pixels of a line that see one face, and a sweep is one end of a run,
where the line leaves the face in one direction. A pixel is active if its cotangent is not zero.

`edge_sweep_lists_kernel` lists the runs and the active pixels of each line. In `edge_sweep_bwd_kernel` a lane is a
sweep. It finds its crossing, and then all lanes loop over the line's list of active pixels: a pixel of the run has an
in term, a pixel beyond the crossing an out term. Both are summed in the lane, so a sweep adds to memory once per corner
of its edge, however long the line and the run are.
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

# A program is one warp: barriers are not needed.
WARPS = 1
# Pixels that are listed per step, or fewer if all lines are shorter.
BLOCK = 128
# Threads of a warp: the most sweeps in a group.
LANES = 32
# 64 times the instructions for a group of sweeps, by those for an active pixel (350 by 45); see `_group_size`.
GROUP_COST = 512
# Active pixels that a lane processes per iteration.
UNROLL = 2
# Images of at most this many channels have the colours and the cotangents of active pixels in the lists.
LISTED_CHANNELS = 4
# Programs per line: up to SHARES while the launch has at most PROGRAMS.
SHARES = 4
PROGRAMS = 8192
# Entries that a program may read behind a list of active pixels.
PADDING = LANES * UNROLL
# Pixels of a line whose smallest limit of depth is stored.
STRETCH = 32
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
    operands = image, cotangent, clip_positions, faces, face_index, depth_limit
    batch, num_vertices = max(map(len, operands)), clip_positions.shape[1]
    if 0 in (batch, num_vertices, faces.shape[1], image.size):
        return jnp.zeros((batch, num_vertices, 4), clip_positions.dtype)
    lists = _list_lines(image, cotangent, face_index, depth_limit, batch)
    sweep = _sweep_deterministic if deterministic or launch.is_deterministic() else _sweep
    grad_x, grad_y = sweep(operands, lists, eps=eps, silhouettes_only=silhouettes_only)
    # Rows grow downwards and y upwards.
    return clip_cotangent(grad_x, -grad_y, clip_positions)


def _list_lines(image, cotangent, face_index, depth_limit, batch):
    """What `edge_sweep_lists_kernel` finds about the rows, then the columns, of each item."""
    height, width, channels = image.shape[1:]
    occlusion = depth_limit.size > 0
    counts = jax.ShapeDtypeStruct((batch, height + width, 2), jnp.int32)
    # Every pixel is in a row and in a column.
    by_pixel = jax.ShapeDtypeStruct((batch, 2 * height * width), jnp.int32)
    active = (batch, (2 * height * width + (height + width) * PADDING) * _entry_size(channels))
    smallest = by_pixel.shape if occlusion else (1, 1)
    return launch.call(
        edge_sweep_lists_kernel,
        image,
        cotangent,
        face_index,
        depth_limit if occlusion else image,  # read only with occlusion
        *(launch.batch_step(a, channels) for a in (image, cotangent)),
        *(launch.batch_step(a) for a in (face_index, depth_limit)),
        height,
        width,
        results=[counts, *[by_pixel] * 3, *(jax.ShapeDtypeStruct(a, jnp.float32) for a in (active, smallest))],
        programs=batch * (height + width),
        warps=WARPS,
        CHANNELS=channels,
        ENTRY=_entry_size(channels),
        OCCLUSION=int(occlusion),
        BLOCK=min(BLOCK, max(STRETCH, triton.next_power_of_2(max(height, width)))),
        PADDING=PADDING,
        STRETCH=STRETCH,
    )


def _entry_size(channels):
    """Numbers per active pixel in a list: its column, and as a rule its colour and its cotangent."""
    return 1 + 2 * channels if channels <= LISTED_CHANNELS else 1


def _sweep(operands, lists, **options):
    """Cotangents of clip x and of clip y, which grows downwards here, `(2, batch, vertices)`."""
    return _launch(operands, lists, "add", **options)


def _sweep_deterministic(operands, lists, **options):
    """The same from sums in fixed point, which do not depend on the order of the terms."""
    height, width = operands[0].shape[1:3]
    # A line has at most one run per pixel, a run two sweeps, and a sweep two terms, each below 4 units. One more bit is
    # the sign.
    fraction_bits = 61 - (4 * height * width).bit_length()
    run = partial(_launch, operands, lists, **options)
    largest = run("find_largest")
    sums = run("add_fixed_point", largest=largest, fixed_point_scale=2.0**fraction_bits)
    return _from_fixed_point(sums, largest, fraction_bits)


def _launch(operands, lists, mode, *, eps, silhouettes_only, largest=None, fixed_point_scale=1.0):
    image, cotangent, clip_positions, faces, face_index, depth_limit = operands
    occlusion = depth_limit.size > 0
    batch, num_vertices = max(map(len, operands)), clip_positions.shape[1]
    height, width, channels = image.shape[1:]
    lines = batch * (height + width)
    shares = max(s for s in (1, 2, SHARES) if s == 1 or s * lines <= PROGRAMS)
    dtype, words = MODES[mode]
    (sums,) = launch.call(
        edge_sweep_bwd_kernel,
        *operands[:-1],
        depth_limit if occlusion else image,  # read only with occlusion
        face_index if largest is None else largest,  # read only in fixed point
        *lists,
        *(launch.batch_step(a, a.shape[-1]) for a in (image, cotangent, clip_positions, faces)),
        launch.batch_step(face_index),
        launch.batch_step(depth_limit),
        batch,
        height,
        width,
        num_vertices,
        float(eps),
        fixed_point_scale,
        results=[jax.ShapeDtypeStruct((2, batch, num_vertices, *words), dtype)],
        zeroed=(0,),
        programs=lines * shares,
        warps=WARPS,
        CHANNELS=channels,
        ENTRY=_entry_size(channels),
        MODE=mode,
        OCCLUSION=int(occlusion),
        SILHOUETTES_ONLY=int(silhouettes_only),
        SHARES=shares,
        LANES=LANES,
        GROUP_COST=GROUP_COST,
        UNROLL=UNROLL,
        PADDING=PADDING,
        STRETCH=STRETCH,
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
    """A row or a column of an item's image."""

    item: tl.tensor
    by_row: tl.tensor  # whether it is a row
    number: tl.tensor  # of the row or column
    length: tl.tensor
    start: tl.tensor  # its first pixel in the image
    step: tl.tensor  # from a pixel to the next
    list_start: tl.tensor  # where its list of runs starts
    active_start: tl.tensor  # where its list of active pixels starts


class Image(NamedTuple):
    """The pixels of a line."""

    image_ptr: tl.tensor
    cotangent_ptr: tl.tensor
    face_index_ptr: tl.tensor
    depth_limit_ptr: tl.tensor  # NDC depth beyond which a pixel hides an edge
    smallest_limit_ptr: tl.tensor  # of each STRETCH pixels
    length: tl.tensor
    step: tl.tensor


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


class Exit(NamedTuple):
    """The nearest edge a -> b, of those examined so far, at which the line leaves the face."""

    distance: tl.tensor  # from the pixel, in pixels
    edge: tl.tensor  # 0 from corner 1 to 2, 1 from 2 to 0, 2 from 0 to 1; -1 if there is none
    w: tl.tensor  # of the crossing as the homogeneous point a * b.y - b * a.y
    y_a: tl.tensor
    y_b: tl.tensor
    w_a: tl.tensor
    w_b: tl.tensor


class Crossing(NamedTuple):
    """Where the line through a pixel leaves the pixel's face in one direction, on an edge from corner a to corner b."""

    distance: tl.tensor  # from the pixel, in pixels
    edge: tl.tensor  # as in `Exit`
    slope_a: tl.tensor  # derivatives with respect to the clip coordinates of the corners
    slope_b: tl.tensor
    share_a: tl.tensor  # derivatives with respect to the NDC coordinates of the corners
    share_b: tl.tensor


class Sweeps(NamedTuple):
    """Sweeps that are followed together.

    Pixels are numbered from the run's last pixel, in the direction of the sweep. So the numbers of the run's pixels are
    not positive, and those of pixels beyond the crossing are. A sweep without in terms has `inside_from` above
    `inside_to`, and one without out terms has an infinite `outside_from`.
    """

    start: tl.tensor  # column of the run's last pixel
    direction: tl.tensor  # +1 or -1, as a float, the same for all
    distance: tl.tensor  # from the run's last pixel to the crossing, in pixels
    inside_from: tl.tensor
    inside_to: tl.tensor
    outside_from: tl.tensor  # pixels with larger numbers are beyond the crossing
    hidden_from: tl.tensor  # the first pixel that hides the edge
    near_a: tl.tensor  # what eps adds to the distance of each corner, in pixels
    near_b: tl.tensor
    own_ptr: tl.tensor  # colour of the run's last pixel
    beyond_ptr: tl.tensor  # colour of the pixel beyond the crossing


@triton.jit
def _find_line(line, height, width, PADDING: tl.constexpr):
    """Line number `line` of the batch: in every item the rows come before the columns."""
    item = (line // (height + width)).to(tl.int64)
    number = line % (height + width)
    by_row = number < height
    number = tl.where(by_row, number, number - height)
    length = tl.where(by_row, width, height)
    row_start = number.to(tl.int64) * width
    # The columns' lists follow those of the rows, in which there are height * width pixels.
    list_start = item * 2 * height * width + tl.where(by_row, row_start, (number + width).to(tl.int64) * height)
    return Line(
        item,
        by_row,
        number,
        length,
        tl.where(by_row, row_start, number),
        tl.where(by_row, 1, width),
        list_start,
        list_start + line.to(tl.int64) * PADDING,
    )


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
def _is_active(pixel_ptr, mask, CHANNELS: tl.constexpr):
    """Which pixels have a nonzero cotangent."""
    active = tl.load(pixel_ptr, mask=mask, other=0.0) != 0
    for channel in range(1, CHANNELS):
        active = active | (tl.load(pixel_ptr + channel, mask=mask, other=0.0) != 0)
    return active


@triton.jit
def edge_sweep_lists_kernel(
    image_ptr,
    cotangent_ptr,
    face_index_ptr,
    depth_limit_ptr,
    image_step,
    cotangent_step,
    face_index_step,
    depth_limit_step,
    height,
    width,
    counts_ptr,
    first_pixel_ptr,
    last_pixel_ptr,
    rank_ptr,
    active_pixels_ptr,
    smallest_limit_ptr,
    CHANNELS: tl.constexpr,
    ENTRY: tl.constexpr,
    OCCLUSION: tl.constexpr,
    BLOCK: tl.constexpr,
    PADDING: tl.constexpr,
    STRETCH: tl.constexpr,
):
    """Lists a line's runs and active pixels.

    Writes the numbers of both; per run its first and last pixel and the number of active pixels before it; the active
    pixels; and with OCCLUSION the smallest limit of depth of each STRETCH pixels.
    """
    line = _find_line(tl.program_id(0), height, width, PADDING)
    image_ptr += (line.item * image_step + line.start) * CHANNELS
    cotangent_ptr += (line.item * cotangent_step + line.start) * CHANNELS
    face_index_ptr += line.item * face_index_step + line.start
    first_pixel_ptr += line.list_start
    last_pixel_ptr += line.list_start
    rank_ptr += line.list_start
    active_pixels_ptr += line.active_start * ENTRY
    runs, rank = 0, 0
    for start in range(0, line.length, BLOCK):
        column = start + tl.arange(0, BLOCK)
        in_line = column < line.length
        offset = column.to(tl.int64) * line.step
        face = tl.load(face_index_ptr + offset, mask=in_line, other=-1)
        previous = tl.load(face_index_ptr + offset - line.step, mask=in_line & (column > 0), other=-1)
        active = _is_active(cotangent_ptr + offset * CHANNELS, in_line, CHANNELS)
        changes = in_line & (face != previous)
        begins = changes & (face >= 0)
        if tl.max((changes | active).to(tl.int32), axis=0) > 0:
            # The runs and the active pixels in one sum: both are at most BLOCK.
            added = begins.to(tl.int32) * 65536 + active.to(tl.int32)
            count = tl.cumsum(added, axis=0)
            run, place = runs + (count >> 16), rank + (count & 65535)
            tl.store(first_pixel_ptr + run - 1, column, mask=begins)
            tl.store(rank_ptr + run - 1, place - active.to(tl.int32), mask=begins)
            tl.store(last_pixel_ptr + run - 1 - begins.to(tl.int32), column - 1, mask=changes & (previous >= 0))
            entry_ptr = active_pixels_ptr + (place - 1).to(tl.int64) * ENTRY
            tl.store(entry_ptr, column.to(tl.float32), mask=active)
            if ENTRY > 1:
                for channel in range(CHANNELS):
                    color = tl.load(image_ptr + offset * CHANNELS + channel, mask=active)
                    weight = tl.load(cotangent_ptr + offset * CHANNELS + channel, mask=active)
                    tl.store(entry_ptr + 1 + channel, color, mask=active)
                    tl.store(entry_ptr + 1 + CHANNELS + channel, weight, mask=active)
            total = tl.sum(added, axis=0)
            runs += total >> 16
            rank += total & 65535
    ends = tl.load(face_index_ptr + (line.length - 1).to(tl.int64) * line.step) >= 0
    tl.store(last_pixel_ptr + runs - 1, line.length - 1, mask=ends)
    # Sweeps may read up to PADDING entries behind the list. A column that is not a number has no term.
    padding_ptr = active_pixels_ptr + (rank + tl.arange(0, PADDING)).to(tl.int64) * ENTRY
    for k in range(ENTRY):
        tl.store(padding_ptr + k, tl.full([PADDING], float("nan"), tl.float32))
    counts_ptr += tl.program_id(0).to(tl.int64) * 2
    tl.store(counts_ptr, runs)
    tl.store(counts_ptr + 1, rank)
    if OCCLUSION:
        depth_limit_ptr += line.item * depth_limit_step + line.start
        for start in range(0, line.length, BLOCK):
            stretch = start // STRETCH + tl.arange(0, BLOCK // STRETCH)
            column = stretch[:, None] * STRETCH + tl.arange(0, STRETCH)[None, :]
            limit = tl.load(
                depth_limit_ptr + column.to(tl.int64) * line.step, mask=column < line.length, other=float("inf")
            )
            smallest_ptr = smallest_limit_ptr + line.list_start + stretch
            tl.store(smallest_ptr, tl.min(limit, axis=1), mask=stretch * STRETCH < line.length)


@triton.jit
def _load_corner(clip_ptr, vertex, line, height, width, mask):
    """Pixel-space point of a vertex, x along the line and y across the lines."""
    point = load_point(clip_ptr + vertex.to(tl.int64) * 4, height, width, mask)
    along, across = tl.where(line.by_row, point.x, point.y), tl.where(line.by_row, point.y, point.x)
    return Point(along, across, point.w)


@triton.jit
def _load_face(clip_ptr, face_ptr, column, line, height, width, num_vertices, mask):
    v0 = load_vertex(face_ptr, 0, num_vertices, mask)
    v1 = load_vertex(face_ptr, 1, num_vertices, mask)
    v2 = load_vertex(face_ptr, 2, num_vertices, mask)
    p0 = _load_corner(clip_ptr, v0, line, height, width, mask)
    p1 = _load_corner(clip_ptr, v1, line, height, width, mask)
    p2 = _load_corner(clip_ptr, v2, line, height, width, mask)
    scale = power_of_two_scale(p0, p1, p2)
    x, y = column.to(tl.float32), line.number.to(tl.float32)
    p0, p1, p2 = relative_to(p0, x, y, scale), relative_to(p1, x, y, scale), relative_to(p2, x, y, scale)
    return Face(v0, v1, v2, p0, p1, p2, scale)


@triton.jit
def _edge_along_line(a, b):
    """Edge function of a -> b along the line: its value at the pixel, and its increase per pixel."""
    return a.y * b.x - a.x * b.y, a.w * b.y - a.y * b.w


@triton.jit
def _nearer_exit(nearest, a, b, value, increase, outward, EDGE: tl.constexpr):
    """Edge a -> b if the line leaves the face there before `nearest`; `value` is the edge function, positive inside."""
    fall = outward * increase
    leaves = fall > 0
    distance = tl.div_rn(tl.maximum(value, 0.0), tl.where(leaves, fall, 1.0))
    nearer = leaves & (distance < nearest.distance)
    return Exit(
        tl.where(nearer, distance, nearest.distance),
        tl.where(nearer, EDGE, nearest.edge),
        tl.where(nearer, increase, nearest.w),
        tl.where(nearer, a.y, nearest.y_a),
        tl.where(nearer, b.y, nearest.y_b),
        tl.where(nearer, a.w, nearest.w_a),
        tl.where(nearer, b.w, nearest.w_b),
    )


@triton.jit
def _exit_crossing(p0, p1, p2, direction, limit):
    """The crossings in directions (+1 or -1), from corners relative to the pixels; `limit` away if there is none."""
    value0, increase0 = _edge_along_line(p1, p2)
    value1, increase1 = _edge_along_line(p2, p0)
    value2, increase2 = _edge_along_line(p0, p1)
    facing = sign(value0 * p0.w + value1 * p1.w + value2 * p2.w)
    # The edge functions of a face that faces backwards have the opposite sign.
    outward = -facing * direction
    zero = tl.zeros_like(value0)
    nearest = Exit(zero + limit, tl.full(value0.shape, -1, tl.int32), zero + 1, zero, zero, zero, zero)
    nearest = _nearer_exit(nearest, p1, p2, facing * value0, increase0, outward, 0)
    nearest = _nearer_exit(nearest, p2, p0, facing * value1, increase1, outward, 1)
    nearest = _nearer_exit(nearest, p0, p1, facing * value2, increase2, outward, 2)
    slope_a, slope_b = tl.div_rn(nearest.y_b, nearest.w), tl.div_rn(-nearest.y_a, nearest.w)
    return Crossing(nearest.distance, nearest.edge, slope_a, slope_b, slope_a * nearest.w_a, slope_b * nearest.w_b)


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
def _first_hiding(pixels, start, direction, depth, searches, STRETCH: tl.constexpr):
    """The first pixel beyond each run that hides the edge; outside of the line if none does."""
    column = start + direction
    searches = searches & (column >= 0) & (column < pixels.length)
    while tl.max(searches.to(tl.int32), axis=0) > 0:
        stretch = column // STRETCH
        smallest = tl.load(pixels.smallest_limit_ptr + stretch, mask=searches, other=0.0)
        limit_ptr = pixels.depth_limit_ptr + column.to(tl.int64) * pixels.step
        in_stretch = depth > smallest
        hides = in_stretch & (depth > tl.load(limit_ptr, mask=searches & in_stretch, other=float("inf")))
        # A stretch in which no pixel hides the edge is passed at once.
        passed = tl.where(direction > 0, stretch * STRETCH + STRETCH, stretch * STRETCH - 1)
        following = tl.where(in_stretch, column + direction, passed)
        searches = searches & ~hides
        column = tl.where(searches, following, column)
        searches = searches & (column >= 0) & (column < pixels.length)
    return column


@triton.jit
def _find_sweeps(
    pixels,
    clip_ptr,
    faces_ptr,
    start,
    other_end,
    direction,
    face,
    crossing,
    eps,
    num_vertices,
    mask,
    CHANNELS: tl.constexpr,
    OCCLUSION: tl.constexpr,
    SILHOUETTES_ONLY: tl.constexpr,
    STRETCH: tl.constexpr,
):
    """The sweeps from the ends of runs, and which of their terms count for what the pixel after each crossing sees."""
    infinite = tl.full(start.shape, float("inf"), tl.float32)
    distance = crossing.distance
    beyond = start + direction * (tl.floor(distance).to(tl.int32) + 1)
    counts = mask & (beyond >= 0) & (beyond < pixels.length)
    beyond = tl.where(counts, beyond, 0).to(tl.int64) * pixels.step
    hidden_from = infinite
    if SILHOUETTES_ONLY:
        other = tl.load(pixels.face_index_ptr + beyond, mask=counts, other=-1)
        other_ptr = faces_ptr + other.to(tl.int64) * 3
        counts = counts & ~_is_joined(face, crossing.edge, other_ptr, num_vertices, other >= 0)
    if OCCLUSION:
        depth = _depth(clip_ptr, face, crossing, counts)
        counts = counts & ~(depth > tl.load(pixels.depth_limit_ptr + beyond, mask=counts, other=float("inf")))
        hiding = _first_hiding(pixels, start, direction, depth, counts & (distance < 1), STRETCH)
        hidden_from = ((hiding - start) * direction).to(tl.float32)

    # In pixels: the gains' sum over these distances is divided by the size of a pixel later.
    per_ndc = pixels.length * 0.5
    near_a, near_b = eps * tl.abs(crossing.share_a) * per_ndc, eps * tl.abs(crossing.share_b) * per_ndc
    # A corner that would have to move by nothing has no term. Only the run's last pixel can be so near.
    at_pixel = (near_a == 0) & (crossing.slope_a != 0) | (near_b == 0) & (crossing.slope_b != 0)
    at_pixel = at_pixel & (distance == 0)
    # Above zero, so that a corner that does not move with the crossing divides by no zero.
    near_a, near_b = tl.maximum(near_a, 8.673617379884035e-19), tl.maximum(near_b, 8.673617379884035e-19)
    return Sweeps(
        start.to(tl.float32),
        direction.to(tl.float32),
        distance,
        tl.where(counts, ((other_end - start) * direction).to(tl.float32), infinite),
        tl.where(at_pixel, -1.0, 0.0),
        tl.where(counts & (distance < 1), distance, infinite),
        hidden_from,
        near_a,
        near_b,
        pixels.image_ptr + start.to(tl.int64) * pixels.step * CHANNELS,
        pixels.image_ptr + beyond * CHANNELS,
    )


@triton.jit
def _sum_terms(
    pixels,
    active_pixels_ptr,
    sweeps,
    first,
    end,
    part,
    parts,
    mask,
    CHANNELS: tl.constexpr,
    ENTRY: tl.constexpr,
    OCCLUSION: tl.constexpr,
    UNROLL: tl.constexpr,
):
    """Per sweep and corner, the sum of gain / reach over the active pixels number first to end - 1.

    The reach is the distance from the crossing to the pixel plus the corner's share of eps, in pixels. Out terms count
    negatively: they pull the crossing towards the pixel, and in terms push it away. A sweep has `parts` lanes, each of
    which processes UNROLL pixels per iteration.
    """
    sum_a, sum_b = tl.zeros(part.shape, tl.float32), tl.zeros(part.shape, tl.float32)
    if ENTRY > 1:
        own, beyond = _load_colors(sweeps.own_ptr, mask, CHANNELS), _load_colors(sweeps.beyond_ptr, mask, CHANNELS)
    for i in range(first, end, parts * UNROLL):
        entry_ptr = active_pixels_ptr + (i + part * UNROLL).to(tl.int64) * ENTRY
        for k in tl.static_range(UNROLL):
            column = tl.load(entry_ptr + k * ENTRY)
            number = (column - sweeps.start) * sweeps.direction
            is_inside = number <= sweeps.inside_to
            is_outside = number > sweeps.outside_from
            counts_inside = is_inside & (number >= sweeps.inside_from)
            if OCCLUSION:
                is_outside = is_outside & (number < sweeps.hidden_from)
            if ENTRY > 1:
                color, weight = tl.load(entry_ptr + k * ENTRY + 1), tl.load(entry_ptr + k * ENTRY + 1 + CHANNELS)
                gain = (color - tl.where(is_inside, beyond[0], own[0])) * weight
                for channel in tl.static_range(1, CHANNELS):
                    color = tl.load(entry_ptr + k * ENTRY + 1 + channel)
                    weight = tl.load(entry_ptr + k * ENTRY + 1 + CHANNELS + channel)
                    gain += (color - tl.where(is_inside, beyond[channel], own[channel])) * weight
            else:
                counts = counts_inside | is_outside
                offset = column.to(tl.int32).to(tl.int64) * (pixels.step * CHANNELS)
                other_ptr = tl.where(is_inside, sweeps.beyond_ptr, sweeps.own_ptr)
                gain = tl.zeros(part.shape, tl.float32)
                for channel in range(CHANNELS):
                    color = tl.load(pixels.image_ptr + offset + channel, mask=counts, other=0.0)
                    weight = tl.load(pixels.cotangent_ptr + offset + channel, mask=counts, other=0.0)
                    gain += (color - tl.load(other_ptr + channel, mask=counts, other=0.0)) * weight
            # The minimum is a number also behind the list, where nothing counts. Lines are shorter than it.
            distance = tl.minimum(tl.abs(number - sweeps.distance), 1e15)
            # One division for both corners.
            reach_a, reach_b = distance + sweeps.near_a, distance + sweeps.near_b
            quotient = maximum(gain, 0.0) / (reach_a * reach_b)
            quotient = tl.where(is_outside, -quotient, tl.where(counts_inside, quotient, 0.0))
            sum_a += quotient * reach_b
            sum_b += quotient * reach_a
    return sum_a, sum_b


@triton.jit
def _load_colors(color_ptr, mask, CHANNELS: tl.constexpr):
    colors = ()
    for channel in tl.static_range(CHANNELS):
        colors += (tl.load(color_ptr + channel, mask=mask, other=0.0),)
    return colors


@triton.jit
def _sum_parts(value, lane, parts_from, LANES: tl.constexpr):
    """The sum over the lanes of each sweep, which are `parts_from` apart."""
    step = parts_from
    while step < LANES:
        value += tl.gather(value, lane ^ step, 0)
        step = step * 2
    return value


@triton.jit
def _group_size(runs, num_active, GROUP_COST: tl.constexpr):
    """Logarithm of the number of sweeps in a group, of which each has an equal share of the lanes.

    A side has runs / size groups. Their lanes loop up to the last pixel of any sweep, so they idle for half of
    size / runs of the list: together for num_active * size / 64 iterations. With the cost of the groups this is least
    where size^2 = GROUP_COST * runs / num_active. The exponent of a float is its logarithm, rounded down.
    """
    exponent = ((GROUP_COST * 1.0 * runs / num_active).to(tl.int32, bitcast=True) >> 23) - 127
    return tl.minimum(tl.maximum(exponent, 0) >> 1, 5)  # of LANES


@triton.jit
def edge_sweep_bwd_kernel(
    image_ptr,
    cotangent_ptr,
    clip_ptr,
    faces_ptr,
    face_index_ptr,
    depth_limit_ptr,
    largest_ptr,
    counts_ptr,
    first_pixel_ptr,
    last_pixel_ptr,
    rank_ptr,
    active_pixels_ptr,
    smallest_limit_ptr,
    image_step,
    cotangent_step,
    clip_step,
    faces_step,
    face_index_step,
    depth_limit_step,
    batch,
    height,
    width,
    num_vertices,
    eps,
    fixed_point_scale,
    grad_ptr,
    CHANNELS: tl.constexpr,
    ENTRY: tl.constexpr,
    MODE: tl.constexpr,
    OCCLUSION: tl.constexpr,
    SILHOUETTES_ONLY: tl.constexpr,
    SHARES: tl.constexpr,
    LANES: tl.constexpr,
    GROUP_COST: tl.constexpr,
    UNROLL: tl.constexpr,
    PADDING: tl.constexpr,
    STRETCH: tl.constexpr,
):
    """Adds the terms of a line's sweeps to the cotangent of the clip coordinate along the line.

    The SHARES programs of a line share its groups of sweeps. MODE is that of `_accumulate`.
    """
    number, share = tl.program_id(0) // SHARES, tl.program_id(0) % SHARES
    counts_ptr += number.to(tl.int64) * 2
    runs, num_active = tl.load(counts_ptr), tl.load(counts_ptr + 1)
    if (runs == 0) | (num_active == 0):
        return
    bits = _group_size(runs, num_active, GROUP_COST)
    size = 1 << bits
    groups = (runs + size - 1) >> bits
    if share >= 2 * groups:
        return

    line = _find_line(number, height, width, PADDING)
    pixels = Image(
        image_ptr + (line.item * image_step + line.start) * CHANNELS,
        cotangent_ptr + (line.item * cotangent_step + line.start) * CHANNELS,
        face_index_ptr + line.item * face_index_step + line.start,
        depth_limit_ptr + line.item * depth_limit_step + line.start,
        smallest_limit_ptr + line.list_start,
        line.length,
        line.step,
    )
    first_pixel_ptr += line.list_start
    last_pixel_ptr += line.list_start
    rank_ptr += line.list_start
    active_pixels_ptr += line.active_start * ENTRY
    clip_ptr += line.item * clip_step * 4
    faces_ptr += line.item * faces_step * 3
    if MODE == "add_fixed_point":
        # JAX has no 64-bit integers without x64, so the launch function passes pairs of 32-bit words.
        grad_ptr = grad_ptr.to(tl.pointer_type(tl.int64))
    sums = (tl.where(line.by_row, 0, batch) + line.item) * num_vertices
    gradient = Gradient(grad_ptr + sums, largest_ptr + sums, fixed_point_scale)

    lane = tl.arange(0, LANES)
    for group in range(share, 2 * groups, SHARES):
        # Sweeps to the left come first, then those to the right, both in the order of the runs.
        is_left = group < groups
        direction = tl.where(is_left, -1, 1)
        first_run = tl.where(is_left, group, group - groups) << bits
        # Sweeps to the left have no terms behind their run, and those to the right none before it.
        next_run = first_run + size
        first = tl.load(rank_ptr + first_run, mask=group >= groups, other=0)
        end = tl.load(rank_ptr + next_run, mask=is_left & (next_run < runs), other=num_active)
        if first < end:
            run, part = first_run + (lane & (size - 1)), lane >> bits
            exists = run < runs
            first_pixel = tl.load(first_pixel_ptr + run, mask=exists, other=0)
            last_pixel = tl.load(last_pixel_ptr + run, mask=exists, other=0)
            start, other_end = tl.where(is_left, first_pixel, last_pixel), tl.where(is_left, last_pixel, first_pixel)
            exists = exists & (start + direction >= 0) & (start + direction < line.length)

            face_index = tl.load(pixels.face_index_ptr + start.to(tl.int64) * line.step, mask=exists, other=0)
            face_ptr = faces_ptr + face_index.to(tl.int64) * 3
            face = _load_face(clip_ptr, face_ptr, start, line, height, width, num_vertices, exists)
            crossing = _exit_crossing(face.p0, face.p1, face.p2, direction.to(tl.float32), line.length + 1.0)
            sweeps = _find_sweeps(
                pixels,
                clip_ptr,
                faces_ptr,
                start,
                other_end,
                direction,
                face,
                crossing,
                eps,
                num_vertices,
                exists,
                CHANNELS,
                OCCLUSION,
                SILHOUETTES_ONLY,
                STRETCH,
            )
            sum_a, sum_b = _sum_terms(
                pixels,
                active_pixels_ptr,
                sweeps,
                first,
                end,
                part,
                LANES >> bits,
                exists,
                CHANNELS,
                ENTRY,
                OCCLUSION,
                UNROLL,
            )
            sum_a = _sum_parts(sum_a, lane, size, LANES)
            sum_b = _sum_parts(sum_b, lane, size, LANES)
            factor = sweeps.direction * face.scale * (line.length * 0.5)
            vertex_a, vertex_b = _corners_of_edge(crossing.edge, face.v0, face.v1, face.v2)
            adds = exists & (part == 0) & (crossing.edge >= 0)
            _accumulate(gradient, vertex_a, factor * crossing.slope_a * sum_a, adds, MODE)
            _accumulate(gradient, vertex_b, factor * crossing.slope_b * sum_b, adds, MODE)
