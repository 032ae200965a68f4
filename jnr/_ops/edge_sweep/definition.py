"""Backward pass of the edge sweep in plain JAX. README.md beside this file derives it.

Lines are the image's rows; its columns are the rows of the transposed image. An active pixel is one with a nonzero
cotangent.
"""

from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jnr._ops.compaction import WORD, Flags, pack, select
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
    *,
    eps: float,
    deterministic: bool = False,
) -> jax.Array:
    """Cotangent of the clip positions.

    Args:
        image: `(1 or batch, height, width, channels)`.
        cotangent: The image's cotangent, of the same shape.
        clip_positions: `(1 or batch, vertices, 4)`.
        faces: `(1 or batch, faces, 3)`.
        face_index: `(1 or batch, height, width)`.
        eps: Added to the distance a vertex has to move, in NDC.
        deterministic: Without effect: XLA adds in a fixed order on a CPU, and by its own flag on a GPU.

    Returns:
        `(batch, vertices, 4)`; the z column is zero.
    """
    del deterministic
    batch = max(a.shape[0] for a in (image, cotangent, clip_positions, faces, face_index))
    height, width, _ = image.shape[1:]
    num_vertices = clip_positions.shape[1]
    if 0 in (batch, num_vertices, faces.shape[1], image.size):
        return jnp.zeros((batch, num_vertices, 4), clip_positions.dtype)
    image, cotangent = (jnp.broadcast_to(a, (batch, *a.shape[1:])) for a in (image, cotangent))
    face_index = jnp.broadcast_to(face_index, (batch, height, width))
    x, y, w = pixel_space(clip_positions, height, width)

    by_row = image, cotangent, face_index, jnp.stack([x, y, w], axis=-1)
    by_column = *(a.swapaxes(1, 2) for a in by_row[:3]), jnp.stack([y, x, w], axis=-1)
    if height == width:
        # Rows and columns are one batch of lines: half the program to compile.
        both = [jnp.concatenate(pair) for pair in zip(by_row, by_column, strict=True)]
        grad_x, grad_y = jnp.split(_sweep_lines(*both, faces=faces, eps=eps), 2)
    else:
        grad_x, grad_y = (_sweep_lines(*lines, faces=faces, eps=eps) for lines in (by_row, by_column))
    # Rows grow downwards and y upwards.
    return clip_cotangent(grad_x, -grad_y, clip_positions)


def _sweep_lines(image, cotangent, face_index, corners, *, faces, eps):
    """Cotangent of the clip coordinate along the lines, `(items, vertices)`, from all rows of all items.

    Args:
        image: `(items, rows, columns, channels)`.
        cotangent: Like `image`.
        face_index: `(items, rows, columns)`.
        corners: Pixel-space coordinate along the rows, across the rows, and w: `(sets, vertices, 3)`. Each set
            belongs to as many consecutive items.
        faces: `(1 or batch, faces, 3)`, cycled over the items.
        eps: As for `edge_sweep_bwd`.
    """
    lines = _Lines(image, cotangent, face_index, corners, faces, eps)
    grad = jnp.zeros(image.shape[0] * corners.shape[1], corners.dtype)
    grad = _out_sweeps(lines, _in_terms(lines, grad))
    return grad.reshape(image.shape[0], corners.shape[1])


class _Lines:
    """The lines of all items, and the faces that their pixels see."""

    def __init__(self, image, cotangent, face_index, corners, faces, eps):
        items, self.height, self.width, channels = image.shape
        self.count = items * self.height
        self.image, self.cotangent = (a.reshape(self.count, self.width, channels) for a in (image, cotangent))
        self.face_index = face_index.reshape(self.count, self.width)
        self.items_per_set, self.face_sets = items // corners.shape[0], faces.shape[0]
        self.num_vertices, self.num_faces = corners.shape[1], faces.shape[1]
        self.corners, self.faces = corners.reshape(-1, 3), faces.reshape(-1, 3)
        self.eps, self.pixel_ndc, self.unit_ndc = eps, 2 / self.width, 2 / UNITS

    def pixel_geometry(self, line, column):
        """The corners of the faces that pixels see, relative to the pixels, and the corners' rows in the gradient."""
        face = jnp.maximum(gather_in_bounds(self.face_index, (line, column)), 0)
        item = line // self.height
        vertex = gather_in_bounds(self.faces, item % self.face_sets * self.num_faces + face)
        # No pixel sees a padding face, but an unused lane may read one.
        vertex = jnp.clip(vertex, 0, self.num_vertices - 1)
        row = vertex + (item // self.items_per_set * self.num_vertices)[:, None]
        target = vertex + (item * self.num_vertices)[:, None]
        corner = gather_in_bounds(self.corners, row)
        corner, target = lax.optimization_barrier((corner, target))
        x, y, w = ([corner[:, k, i] for k in range(3)] for i in range(3))
        scale = power_of_two_scale(*x, *y, *w)
        across = (line - item * self.height).astype(scale.dtype)
        x, y, w = ([v * scale for v in values] for values in (x, y, w))
        x = [x[k] - column.astype(scale.dtype) * w[k] for k in range(3)]
        y = [y[k] - across * w[k] for k in range(3)]
        return (x, y, w), scale, target


def _exit_crossing(geometry, direction, limit):
    """The crossing at which the line through a pixel leaves the pixel's face in a direction (+1 or -1, per pixel).

    Returns:
        distance: From the pixel to the crossing, in pixels, at most `limit`.
        share: Per corner, the derivative of the crossing with respect to the corner's NDC position.
        slope: Per corner, the derivative with respect to the corner's clip position, finite where `w` is zero.
    """
    x, y, w = geometry
    pairs = ((1, 2), (2, 0), (0, 1))
    # The edge functions along the line: constant + slope * step.
    constant = [y[i] * x[j] - x[i] * y[j] for i, j in pairs]
    gradient = [w[i] * y[j] - y[i] * w[j] for i, j in pairs]
    det = sum(constant[k] * w[k] for k in range(3))
    facing = jnp.sign(det) * direction
    best = jnp.full_like(det, limit)
    share, slope = [jnp.zeros_like(det)] * 3, [jnp.zeros_like(det)] * 3
    for k, (a, b) in enumerate(pairs):
        fall = -facing * gradient[k]
        leaves = fall > 0
        distance = jnp.maximum(jnp.sign(det) * constant[k], 0) / jnp.where(leaves, fall, 1)
        nearer = leaves & (distance < best)
        # The crossing is the homogeneous point a * y_b - b * y_a.
        divisor = jnp.where(nearer, w[a] * y[b] - w[b] * y[a], 1)
        best = jnp.where(nearer, distance, best)
        for corner in range(3):
            numerator = {a: y[b], b: -y[a]}.get(corner)
            value = jnp.zeros_like(det) if numerator is None else numerator / divisor
            slope[corner] = jnp.where(nearer, value, slope[corner])
            share[corner] = jnp.where(nearer, value * w[corner], share[corner])
    return best, share, slope


def _in_terms(lines, grad):
    """Adds the terms of pixels inside of a face: if the crossing passed them, they would take the colour beyond it."""
    width = lines.width
    active = (lines.face_index >= 0) & jnp.any(lines.cotangent != 0, axis=-1)
    padded = -(-width // WORD) * WORD
    flags = lax.optimization_barrier(pack(jnp.pad(active, ((0, 0), (0, padded - width)))))

    def block(state):
        first, grad = state
        rank = first + lax.iota(jnp.int32, IN_BLOCK)
        valid = rank < flags.total
        line, column = jnp.divmod(jnp.where(valid, select(flags, rank), 0), padded)
        line, column = lax.optimization_barrier((line, column))
        geometry, scale, target = lines.pixel_geometry(line, column)
        own, weight = gather_in_bounds(lines.image, (line, column)), gather_in_bounds(lines.cotangent, (line, column))
        total = [jnp.zeros_like(scale)] * 3
        for direction in (-1, 1):
            distance, share, slope = _exit_crossing(geometry, jnp.asarray(direction, scale.dtype), width + 1.0)
            beyond = column + direction * (jnp.floor(distance).astype(jnp.int32) + 1)
            exists = valid & (beyond >= 0) & (beyond < width)
            color = gather_in_bounds(lines.image, (line, jnp.clip(beyond, 0, width - 1)))
            # Not jnp.sum: its order of terms depends on the shape of the array.
            gain = _dot([((own - color)[..., c], weight[..., c]) for c in range(own.shape[-1])])
            gain = jnp.where(exists, jnp.maximum(gain, 0), 0)
            for k in range(3):
                reach = distance * lines.pixel_ndc + lines.eps * jnp.abs(share[k])
                push = gain * slope[k] / jnp.where(reach > 0, reach, 1)
                total[k] += jnp.where(reach > 0, direction * push, 0)
        update = jnp.stack([t * scale for t in total], axis=-1)
        return first + IN_BLOCK, grad.at[target].add(jnp.where(valid[:, None], update, 0))

    return lax.while_loop(lambda state: state[0] < flags.total, block, (jnp.int32(0), grad))[1]


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

        geometry, scale, target = lines.pixel_geometry(lane_line, column)
        direction = (2 * side - 1).astype(scale.dtype)
        distance, share, slope = _exit_crossing(geometry, direction, 1.0)
        own = jnp.moveaxis(gather_in_bounds(lines.image, (lane_line, column)), -1, 0)
        # The two corners of the crossing's edge. The third corner has slope zero; so has one of the two where the other
        # lies on the line, and then no corner is counted twice.
        exists = valid.reshape(-1) & (distance < 1)
        third = [(slope[k] == 0) & (share[k] == 0) for k in range(3)]
        pick = jnp.where(third[0], 1, 0), jnp.where(third[2] & ~third[0], 1, 2)
        near = [lines.eps / lines.unit_ndc * jnp.abs(_pick(share, p)) for p in pick]
        lanes = distance, column.astype(scale.dtype), direction, *near
        lanes = [v.reshape(CHUNKS, LANES) for v in lanes]
        own = own.reshape(channels, CHUNKS, LANES)
        rows = [_columns_first(gather_in_bounds(a, line)) for a in (lines.image, lines.cotangent)]
        lanes, own, rows = lax.optimization_barrier((lanes, own, rows))

        updates = [
            -direction * _pick(slope, p) * scale * total.reshape(-1) / lines.unit_ndc
            for p, total in zip(pick, _sum_columns(rows, lanes, own, UNITS / lines.width), strict=True)
        ]
        # One update per pixel, so that sums do not depend on where a block ends.
        update = jnp.where(exists[:, None], jnp.stack(updates, axis=-1), 0)
        row = jnp.take_along_axis(target, jnp.stack(pick, axis=-1), axis=1)
        return first + CHUNKS, grad.at[row].add(update)

    return lax.while_loop(lambda state: state[0] < chunk_end[-1], block, (jnp.int32(0), grad))[1]


def _columns_first(rows):
    """`(chunks, width, channels)` to `(width, channels, chunks)`, the width padded to whole steps."""
    padding = -rows.shape[1] % COLUMNS
    return jnp.pad(jnp.moveaxis(rows, 0, -1), ((0, padding), (0, 0), (0, 0)))


def _sum_columns(rows, lanes, own, unit):
    """Per lane, the sum over the pixels beyond its crossing of gain / (distance + near), for both corners."""
    distance, column, direction, near_a, near_b = lanes
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
            beyond = reach > 0
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
