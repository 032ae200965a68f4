"""Backward pass of the edge sweep in plain JAX. README.md beside this file derives it.

Lines are the image's rows; its columns are the rows of the transposed image. An active pixel is one with a nonzero
cotangent.
"""

from collections.abc import Sequence
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jnr._ops.compaction import WORD, Flags, for_each, pack, select
from jnr._ops.indexing import gather_in_bounds
from jnr._ops.pixel_space import clip_cotangent, pixel_space, power_of_two_scale

# Pixels whose in terms are computed at once.
IN_BLOCK = 2048
# Out sweeps are computed in chunks of LANES sweeps that share a line, CHUNKS chunks at once, COLUMNS pixels per step.
LANES = 32
CHUNKS = 128
COLUMNS = 16
# Fractions added over one common denominator. Distances are in units of a sixteenth of the line, so that the product of
# eight neither overflows nor underflows.
FRACTIONS = 8
UNITS = 16


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
    """Cotangent of the clip positions.

    Args:
        image: `(1 or batch, height, width, channels)`.
        cotangent: The image's cotangent, of the same shape.
        clip_positions: `(1 or batch, vertices, 4)`.
        faces: `(1 or batch, faces, 3)`.
        face_index: `(1 or batch, height, width)`.
        depth_limit: `(1 or batch, height, width)`, the NDC depth beyond which each pixel hides an edge; `(1, 0, 0)` if
            no pixel hides any.
        eps: Added to the distance a vertex has to move, in NDC.
        silhouettes_only: Whether edges between two faces that are both seen are left out.
        deterministic: Without effect: XLA adds in a fixed order on a CPU, and by its own flag on a GPU.

    Returns:
        `(batch, vertices, 4)`; the z column is zero.
    """
    del deterministic
    batch = max(a.shape[0] for a in (image, cotangent, clip_positions, faces, face_index, depth_limit))
    height, width, _ = image.shape[1:]
    num_vertices = clip_positions.shape[1]
    if 0 in (batch, num_vertices, faces.shape[1], image.size):
        return jnp.zeros((batch, num_vertices, 4), clip_positions.dtype)
    images = [image, cotangent, face_index, *([depth_limit] if depth_limit.size else [])]
    images = [jnp.broadcast_to(a, (batch, *a.shape[1:])) for a in images]
    x, y, w = pixel_space(clip_positions, height, width)
    z = [clip_positions[..., 2]] if depth_limit.size else []

    by_row = jnp.stack([x, y, w, *z], axis=-1), *images
    by_column = jnp.stack([y, x, w, *z], axis=-1), *(a.swapaxes(1, 2) for a in images)
    sweep = partial(_sweep_lines, faces=faces, eps=eps, silhouettes_only=silhouettes_only)
    if height == width:
        # Rows and columns are one batch of lines: half the program to compile.
        grad_x, grad_y = jnp.split(sweep(*map(jnp.concatenate, zip(by_row, by_column, strict=True))), 2)
    else:
        grad_x, grad_y = sweep(*by_row), sweep(*by_column)
    # Rows grow downwards and y upwards.
    return clip_cotangent(grad_x, -grad_y, clip_positions)


def _sweep_lines(corners, image, cotangent, face_index, depth_limit=None, **options):
    """Cotangent of the clip coordinate along the lines, `(items, vertices)`, from all rows of all items.

    Args:
        corners: Pixel-space coordinate along the rows, across the rows, w and, with `depth_limit`, clip z: `(sets,
            vertices, 3 or 4)`. Each set belongs to as many consecutive items.
        image: `(items, rows, columns, channels)`.
        cotangent: Like `image`.
        face_index: `(items, rows, columns)`.
        depth_limit: Like `face_index`, or None if no pixel hides an edge.
        **options: Faces `(1 or batch, faces, 3)`, cycled over the items, and options of `edge_sweep_bwd`.
    """
    lines = _Lines(corners, image, cotangent, face_index, depth_limit, **options)
    grad = jnp.zeros(image.shape[0] * corners.shape[1], corners.dtype)
    grad = _out_sweeps(lines, _in_terms(lines, grad))
    return grad.reshape(image.shape[0], corners.shape[1])


class _Geometry(NamedTuple):
    """The corners of the faces that pixels see."""

    along: list[jax.Array]  # coordinates relative to the pixels, times `scale`
    across: list[jax.Array]
    w: list[jax.Array]
    scale: jax.Array
    vertex: jax.Array  # (pixels, 3) rows in the gradient
    z: Sequence[jax.Array] = ()  # clip z times `scale`, if pixels hide edges


class _Crossing(NamedTuple):
    """Where the lines through pixels leave the pixels' faces in one direction."""

    distance: jax.Array  # from the pixel, in pixels
    edge: jax.Array  # number of the corner opposite to the edge; -1 if there is no crossing
    share: list[jax.Array]  # per corner, the derivative of the crossing with respect to the corner's NDC position
    slope: list[jax.Array]  # the same with respect to the corner's clip position, finite where `w` is zero
    depth: jax.Array  # of the edge in NDC, if pixels hide edges


class _Lines:
    """The lines of all items, and the faces that their pixels see."""

    def __init__(self, corners, image, cotangent, face_index, depth_limit, *, faces, eps, silhouettes_only):
        items, self.height, self.width, channels = image.shape
        self.count = items * self.height
        self.image, self.cotangent = (a.reshape(self.count, self.width, channels) for a in (image, cotangent))
        self.face_index = face_index.reshape(self.count, self.width)
        self.depth_limit = None if depth_limit is None else depth_limit.reshape(self.count, self.width)
        self.items_per_set, self.face_sets = items // corners.shape[0], faces.shape[0]
        self.num_vertices, self.num_faces = corners.shape[1], faces.shape[1]
        self.corners, self.faces = corners.reshape(-1, corners.shape[-1]), faces.reshape(-1, 3)
        self.eps, self.pixel_ndc, self.unit_ndc = eps, 2 / self.width, 2 / UNITS
        self.silhouettes_only = silhouettes_only

    def vertices(self, line, column):
        """Vertices of the faces that pixels see, `(pixels, 3)`; of any face where there is none."""
        face = jnp.maximum(gather_in_bounds(self.face_index, (line, column)), 0)
        item = line // self.height
        vertex = gather_in_bounds(self.faces, item % self.face_sets * self.num_faces + face)
        # No pixel sees a padding face, but an unused lane may read one.
        return jnp.clip(vertex, 0, self.num_vertices - 1)

    def geometry(self, line, column):
        """The corners of the faces that pixels see, relative to the pixels."""
        vertex, item = self.vertices(line, column), line // self.height
        row = vertex + (item // self.items_per_set * self.num_vertices)[:, None]
        vertex = vertex + (item * self.num_vertices)[:, None]
        corner = gather_in_bounds(self.corners, row)
        corner, vertex = lax.optimization_barrier((corner, vertex))
        x, y, w, *z = ([corner[:, k, i] for k in range(3)] for i in range(corner.shape[-1]))
        scale = power_of_two_scale(*x, *y, *w)
        across = (line - item * self.height).astype(scale.dtype)
        x, y, w, *z = ([v * scale for v in values] for values in (x, y, w, *z))
        x = [x[k] - column.astype(scale.dtype) * w[k] for k in range(3)]
        y = [y[k] - across * w[k] for k in range(3)]
        return _Geometry(x, y, w, scale, vertex, *z)

    def is_left_out(self, line, beyond, geometry, crossing):
        """Whether a crossing has no terms, for what the pixel beyond it sees."""
        beyond = jnp.clip(beyond, 0, self.width - 1)
        left_out = jnp.zeros(line.shape, bool)
        if self.silhouettes_only:
            other = self.vertices(line, beyond) + (line // self.height * self.num_vertices)[:, None]
            has = [jnp.any(other == geometry.vertex[:, k, None], axis=1) for k in range(3)]
            joined = [has[k] | (crossing.edge == k) for k in range(3)]
            left_out |= joined[0] & joined[1] & joined[2] & (gather_in_bounds(self.face_index, (line, beyond)) >= 0)
        if self.depth_limit is not None:
            left_out |= crossing.depth > gather_in_bounds(self.depth_limit, (line, beyond))
        return left_out


def _exit_crossing(geometry, direction, limit):
    """The crossings in a direction (+1 or -1, per pixel), at most `limit` pixels away."""
    x, y, w, *_ = geometry
    pairs = ((1, 2), (2, 0), (0, 1))
    # The edge functions along the line: constant + slope * step.
    constant = [y[i] * x[j] - x[i] * y[j] for i, j in pairs]
    gradient = [w[i] * y[j] - y[i] * w[j] for i, j in pairs]
    det = sum(constant[k] * w[k] for k in range(3))
    facing = jnp.sign(det) * direction
    best, edge = jnp.full_like(det, limit), jnp.full_like(det, -1, jnp.int32)
    share, slope = [jnp.zeros_like(det)] * 3, [jnp.zeros_like(det)] * 3
    for k, (a, b) in enumerate(pairs):
        fall = -facing * gradient[k]
        leaves = fall > 0
        distance = jnp.maximum(jnp.sign(det) * constant[k], 0) / jnp.where(leaves, fall, 1)
        nearer = leaves & (distance < best)
        # The crossing is the homogeneous point a * y_b - b * y_a.
        divisor = jnp.where(nearer, w[a] * y[b] - w[b] * y[a], 1)
        best, edge = jnp.where(nearer, distance, best), jnp.where(nearer, k, edge)
        for corner in range(3):
            numerator = {a: y[b], b: -y[a]}.get(corner)
            value = jnp.zeros_like(det) if numerator is None else numerator / divisor
            slope[corner] = jnp.where(nearer, value, slope[corner])
            share[corner] = jnp.where(nearer, value * w[corner], share[corner])
    depths = (jnp.where(edge == k, 0, slope[k] * z) for k, z in enumerate(geometry.z))
    depth = sum(depths, jnp.zeros_like(det))
    return _Crossing(best, edge, share, slope, depth)


def _in_terms(lines, grad):
    """Adds the terms of pixels inside of a face: if the crossing passed them, they would take the colour beyond it."""
    width = lines.width
    active = (lines.face_index >= 0) & jnp.any(lines.cotangent != 0, axis=-1)
    padded = -(-width // WORD) * WORD
    flags = lax.optimization_barrier(pack(jnp.pad(active, ((0, 0), (0, padded - width)))))

    def add(position, valid, grad):
        line, column = lax.optimization_barrier(tuple(jnp.divmod(position, padded)))
        geometry = lines.geometry(line, column)
        own, weight = gather_in_bounds(lines.image, (line, column)), gather_in_bounds(lines.cotangent, (line, column))
        total = [jnp.zeros_like(geometry.scale)] * 3
        for direction in (-1, 1):
            crossing = _exit_crossing(geometry, jnp.asarray(direction, geometry.scale.dtype), width + 1.0)
            beyond = column + direction * (jnp.floor(crossing.distance).astype(jnp.int32) + 1)
            exists = valid & (beyond >= 0) & (beyond < width)
            exists &= ~lines.is_left_out(line, beyond, geometry, crossing)
            color = gather_in_bounds(lines.image, (line, jnp.clip(beyond, 0, width - 1)))
            # Not jnp.sum: its order of terms depends on the shape of the array.
            gain = _dot([((own - color)[..., c], weight[..., c]) for c in range(own.shape[-1])])
            gain = jnp.where(exists, jnp.maximum(gain, 0), 0)
            for k in range(3):
                reach = crossing.distance * lines.pixel_ndc + lines.eps * jnp.abs(crossing.share[k])
                push = gain * crossing.slope[k] / jnp.where(reach > 0, reach, 1)
                total[k] += jnp.where(reach > 0, direction * push, 0)
        update = jnp.stack([t * geometry.scale for t in total], axis=-1)
        return grad.at[geometry.vertex].add(jnp.where(valid[:, None], update, 0))

    return for_each(flags, IN_BLOCK, add, grad)


class _Sweeps(NamedTuple):
    """Where out sweeps start: in line order, in chunks of LANES that share a line."""

    flags: Flags  # by line, column and side
    padded: int  # columns per line of flags
    line_start: jax.Array  # (lines,) rank of each line's first sweep
    line_end: jax.Array
    chunks: jax.Array  # (lines,)
    chunk_end: jax.Array  # (lines,) running number of chunks


def _find_sweeps(lines):
    """Pixels at which a face ends towards an active pixel."""
    count, width = lines.count, lines.width
    padded = -(-width // (WORD // 2)) * (WORD // 2)
    # A face ends between two pixels only where they see different faces.
    differs = lines.face_index[:, 1:] != lines.face_index[:, :-1]
    edge = jnp.zeros((count, 1), bool)
    covered = lines.face_index >= 0
    # Sweeps end at the line's first and last active pixel.
    active = jnp.any(lines.cotangent != 0, axis=2)
    column = lax.broadcasted_iota(jnp.int32, active.shape, 1)
    first_active = jnp.min(jnp.where(active, column, width), axis=1, keepdims=True)
    last_active = jnp.max(jnp.where(active, column, -1), axis=1, keepdims=True)
    leftward = covered & jnp.concatenate([edge, differs], axis=1) & (column > first_active)
    rightward = covered & jnp.concatenate([differs, edge], axis=1) & (column < last_active)
    flags = pack(jnp.pad(jnp.stack([leftward, rightward], axis=-1), ((0, 0), (0, padded - width), (0, 0))))

    line_end = flags.end.reshape(count, -1)[:, -1]
    line_start = jnp.concatenate([jnp.zeros(1, jnp.int32), line_end[:-1]])
    chunks = (line_end - line_start + LANES - 1) // LANES
    chunk_end = jnp.cumsum(chunks, dtype=jnp.int32)
    flags, *rest = lax.optimization_barrier((flags, line_start, line_end, chunks, chunk_end))
    return _Sweeps(flags, padded, *rest)


def _out_sweeps(lines, grad):
    """Adds the terms of pixels beyond a crossing: if it passed them, they would take the colour before it."""
    flags, padded, line_start, line_end, chunks, chunk_end = _find_sweeps(lines)
    channels = lines.image.shape[-1]

    def block(state):
        first, grad = state
        chunk = first + lax.iota(jnp.int32, CHUNKS)
        line = jnp.searchsorted(chunk_end, chunk, side="right").astype(jnp.int32)
        line = jnp.minimum(line, lines.count - 1)
        within = chunk - (gather_in_bounds(chunk_end, line) - gather_in_bounds(chunks, line))
        rank = (gather_in_bounds(line_start, line) + within * LANES)[:, None] + lax.iota(jnp.int32, LANES)
        valid = (chunk < chunk_end[-1])[:, None] & (rank < gather_in_bounds(line_end, line)[:, None])
        flag = jnp.where(valid, select(flags, rank), 0).reshape(-1)
        lane_line, rest = jnp.divmod(flag, 2 * padded)
        column, side = jnp.divmod(rest, 2)
        lane_line, column, side, line = lax.optimization_barrier((lane_line, column, side, line))

        geometry = lines.geometry(lane_line, column)
        scale, direction = geometry.scale, (2 * side - 1).astype(geometry.scale.dtype)
        crossing = _exit_crossing(geometry, direction, 1.0)
        exists = valid.reshape(-1) & (crossing.distance < 1)
        exists &= ~lines.is_left_out(lane_line, column + 2 * side - 1, geometry, crossing)
        own = jnp.moveaxis(gather_in_bounds(lines.image, (lane_line, column)), -1, 0)
        pick = (crossing.edge + 1) % 3, (crossing.edge + 2) % 3
        near = [lines.eps / lines.unit_ndc * jnp.abs(_pick(crossing.share, p)) for p in pick]
        lanes = crossing.distance, column.astype(scale.dtype), direction, *near
        lanes = [v.reshape(CHUNKS, LANES) for v in lanes]
        own = own.reshape(channels, CHUNKS, LANES)
        rows = [_columns_first(gather_in_bounds(a, line)) for a in (lines.image, lines.cotangent)]
        hiding = []
        if lines.depth_limit is not None:
            hiding = [crossing.depth.reshape(CHUNKS, LANES), gather_in_bounds(lines.depth_limit, line)]
        lanes, own, rows, hiding = lax.optimization_barrier((lanes, own, rows, hiding))

        updates = [
            -direction * _pick(crossing.slope, p) * scale * total.reshape(-1) / lines.unit_ndc
            for p, total in zip(pick, _sum_columns(rows, lanes, own, UNITS / lines.width, *hiding), strict=True)
        ]
        # One update per pixel, so that sums do not depend on where a block ends.
        update = jnp.where(exists[:, None], jnp.stack(updates, axis=-1), 0)
        row = jnp.take_along_axis(geometry.vertex, jnp.stack(pick, axis=-1), axis=1)
        return first + CHUNKS, grad.at[row].add(update)

    return lax.while_loop(lambda state: state[0] < chunk_end[-1], block, (jnp.int32(0), grad))[1]


def _columns_first(rows):
    """`(chunks, width, channels)` to `(width, channels, chunks)`, the width padded to whole steps."""
    padding = -rows.shape[1] % COLUMNS
    return jnp.pad(jnp.moveaxis(rows, 0, -1), ((0, padding), (0, 0), (0, 0)))


def _first_hiding(lanes, depth, depth_limit):
    """Per lane, the distance from its crossing to the first pixel beyond that hides it; infinite if none does."""
    distance, column, direction, *_ = lanes
    pixel = lax.iota(column.dtype, depth_limit.shape[1])[:, None, None]
    reach = direction * (pixel - column) - distance
    hides = (reach > 0) & (depth > depth_limit.T[:, :, None])
    return jnp.min(jnp.where(hides, reach, jnp.inf), axis=0)


def _sum_columns(rows, lanes, own, unit, *hiding):
    """Per lane, the sum over the pixels beyond its crossing of gain / (distance + near), for both corners."""
    distance, column, direction, near_a, near_b = lanes
    end = _first_hiding(lanes, *hiding) if hiding else None
    steps = rows[0].shape[0] // COLUMNS
    # Only steps with an active pixel in some line.
    active = jnp.any(rows[1].reshape(steps, -1) != 0, axis=1)
    order = jnp.argsort(~active, stable=True).astype(jnp.int32)

    def step(i, sums):
        first = order[i] * COLUMNS
        image, cotangent = (lax.dynamic_slice_in_dim(a, first, COLUMNS) for a in rows)
        terms = []
        for j in range(COLUMNS):
            reach = direction * ((first + j).astype(column.dtype) - column) - distance
            beyond = reach > 0 if end is None else (reach > 0) & (reach < end)
            gain = _dot([(image[j, c][:, None] - own[c], cotangent[j, c][:, None]) for c in range(own.shape[0])])
            reach = jnp.where(beyond, reach * unit, 1)
            terms.append((jnp.where(beyond, jnp.maximum(gain, 0), 0), reach))
        for k in range(0, COLUMNS, FRACTIONS):
            some = terms[k : k + FRACTIONS]
            sums = tuple(
                total + _sum_fractions([(gain, reach + near) for gain, reach in some])
                for total, near in zip(sums, (near_a, near_b), strict=True)
            )
        return sums

    zero = jnp.zeros_like(distance)
    return lax.fori_loop(0, jnp.sum(active, dtype=jnp.int32), step, (zero, zero))


def _dot(pairs):
    return reduce(lambda total, pair: total + pair[0] * pair[1], pairs[1:], pairs[0][0] * pairs[0][1])


def _sum_fractions(fractions):
    """The sum of fractions, numerator and denominator each, by one division, which costs as much as ten products."""
    while len(fractions) > 1:
        fractions = [(a * d + c * b, b * d) for (a, b), (c, d) in zip(fractions[::2], fractions[1::2], strict=True)]
    return fractions[0][0] / fractions[0][1]


def _pick(values, index):
    return jnp.where(index == 0, values[0], jnp.where(index == 1, values[1], values[2]))
