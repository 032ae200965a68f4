"""Where the picture's boundaries cross the lines of pixel centres, and how the crossings move, in plain JAX.

README.md beside this file derives it. A *gap* is the piece of a row or a column between two neighbouring pixel centres,
p and then q. Gaps are counted as in an array (2, height, width): first those of rows, to the pixel's right, then those
of columns, below it. Coordinates are named by the gap's line: x along it, y across it.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jnr._ops.compaction import for_each, pack
from jnr._ops.indexing import gather_in_bounds, map_batch
from jnr._ops.pixel_space import clip_cotangent_of_pixels, pixel_space, power_of_two_scale, precedes

# Gaps, or lines of edges, processed at once.
BLOCK = 2048
# Positions within a gap are integers: multiples of 2**-24 of a pixel.
UNIT = 2**24
# Pixels by which rounding may move a crossing.
MARGIN = 1e-3
# NDC depth: surfaces that are nearer to each other than this touch.
TOUCHING = 1e-6
# Of the slopes of two surfaces that cut each other, the least part by which they differ: nearly parallel surfaces meet
# anywhere.
PARALLEL = 0.01
# A crossing is a face's edge, 3 * face + edge, or a surface cut by another: CUT - (2 * face + side of the other).
NONE, CUT = -1, -2
# The edge opposite each corner, from its first corner, after which it is named, to its second.
PAIRS = ((1, 2), (2, 0), (0, 1))


def boundary_crossings(
    clip_positions: jax.Array, faces: jax.Array, face_index: jax.Array, active: jax.Array
) -> jax.Array:
    """The boundary that crosses each gap whose pixels see different faces.

    Args:
        clip_positions: `(1 or batch, vertices, 4)`.
        faces: `(1 or batch, faces, 3)`.
        face_index: `(1 or batch, height, width)`, -1 on background.
        active: Gaps that are wanted, `(1 or batch, 2, height, width)` bool. The last row and column have no gap.

    Returns:
        `(batch, 2, height, width, 2)` int32: what crosses, NONE where nothing does, and where between p (0) and q
        (UNIT).
    """
    return map_batch(_crossings, clip_positions, faces, face_index, active)


def crossing_motion(
    tangent: jax.Array, crossings: jax.Array, clip_positions: jax.Array, faces: jax.Array, face_index: jax.Array
) -> jax.Array:
    """Motion of the crossings along their lines, in pixels, for a tangent of the clip positions.

    Args:
        tangent: `(1 or batch, vertices, 4)`.
        crossings: From `boundary_crossings`.
        clip_positions: As for `boundary_crossings`.
        faces: As for `boundary_crossings`.
        face_index: As for `boundary_crossings`.

    Returns:
        `(batch, 2, height, width)`, zero where nothing crosses.
    """
    return map_batch(_motion, tangent, crossings, clip_positions, faces, face_index)


def crossing_motion_bwd(
    cotangent: jax.Array,
    crossings: jax.Array,
    clip_positions: jax.Array,
    faces: jax.Array,
    face_index: jax.Array,
    *,
    sums: int,
) -> jax.Array:
    """Cotangent of the clip positions for that of the crossings' motion, `(1 or batch, 2, height, width)`.

    Returns:
        `(sums, vertices, 4)`, each the sum over as many consecutive items of the batch.
    """
    grad = map_batch(_motion_bwd, cotangent, crossings, clip_positions, faces, face_index)
    return grad.reshape(sums, -1, *grad.shape[1:]).sum(axis=1)


class _Scene(NamedTuple):
    positions: jax.Array  # (vertices, 4): x, y, w in pixel space, and clip z
    faces: jax.Array
    face_index: jax.Array

    @property
    def pixels(self):
        """Number of pixels: the first of a gap's two is `gap % pixels`."""
        return self.face_index.size

    @property
    def is_empty(self):
        return 0 in (self.positions.shape[0], self.faces.shape[0], self.face_index.size)

    def corners(self, face):
        """Positions of the corners of a face that is in range, three of `(..., 4)`."""
        vertex = jnp.clip(gather_in_bounds(self.faces, face), 0, self.positions.shape[0] - 1)
        corner = gather_in_bounds(self.positions, vertex)
        return [corner[..., k, :] for k in range(3)]


def _scene(clip_positions, faces, face_index):
    x, y, w = pixel_space(clip_positions, *face_index.shape)
    return _Scene(jnp.stack([x, y, w, clip_positions[:, 2]], axis=-1), faces, face_index)


class _Gap(NamedTuple):
    along_rows: jax.Array
    column: jax.Array  # of p, along the line
    line: jax.Array


def _gap(scene, index):
    height, width = scene.face_index.shape
    along_rows = index < height * width
    row, column = jnp.divmod(index % (height * width), width)
    return _Gap(along_rows, jnp.where(along_rows, column, row), jnp.where(along_rows, row, column))


def _faces_of(scene, index):
    """The faces that p and q see."""
    height, width = scene.face_index.shape
    pixel = index % (height * width)
    flat = scene.face_index.reshape(-1)
    # An unused lane may have a gap at the end of the image.
    next_ = jnp.minimum(pixel + jnp.where(index < height * width, 1, width), height * width - 1)
    return gather_in_bounds(flat, pixel), gather_in_bounds(flat, next_)


def _relative(points, gap):
    """Homogeneous points `(..., 4)` relative to p: lists of x, y, w, z."""
    dtype = points[0].dtype
    column, line = gap.column.astype(dtype), gap.line.astype(dtype)
    x = [jnp.where(gap.along_rows, p[..., 0], p[..., 1]) - column * p[..., 2] for p in points]
    y = [jnp.where(gap.along_rows, p[..., 1], p[..., 0]) - line * p[..., 2] for p in points]
    return x, y, [p[..., 2] for p in points], [p[..., 3] for p in points]


class _Section(NamedTuple):
    """A face along a gap's line, in pixels from p: where it is, and its NDC depth."""

    left: jax.Array
    right: jax.Array
    left_edge: jax.Array  # edge k joins corners k and k + 1
    right_edge: jax.Array
    depth: jax.Array
    slope: jax.Array
    across: jax.Array  # slope of the depth across the line
    weights: list  # of the corners at p, as (value, change along the line): their sums over w are 1

    def depth_at(self, t):
        return self.depth + self.slope * t


def _section(scene, face, gap):
    points = _relative(scene.corners(jnp.maximum(face, 0)), gap)
    scale = power_of_two_scale(*(v for values in points[:3] for v in values))
    x, y, w, z = ([v * scale for v in values] for values in points)
    constant = [y[i] * x[j] - x[i] * y[j] for i, j in PAIRS]
    along = [w[i] * y[j] - y[i] * w[j] for i, j in PAIRS]
    across = [x[i] * w[j] - w[i] * x[j] for i, j in PAIRS]
    det = sum(constant[k] * w[k] for k in range(3))
    valid = jnp.isfinite(1 / det)
    inverse = jnp.where(valid, 1 / jnp.where(valid, det, 1), 0)
    facing = jnp.sign(inverse)
    right = jnp.full_like(det, jnp.inf)
    left, left_edge, right_edge = -right, jnp.zeros_like(face), jnp.zeros_like(face)
    for k, (edge, _) in enumerate(PAIRS):
        rise = facing * along[k]
        end = -facing * constant[k] / jnp.where(rise == 0, 1, rise)
        right_edge = jnp.where((rise < 0) & (end < right), edge, right_edge)
        right = jnp.where((rise < 0) & (end < right), end, right)
        left_edge = jnp.where((rise > 0) & (end > left), edge, left_edge)
        left = jnp.where((rise > 0) & (end > left), end, left)
    weights = [(constant[k] * inverse * scale, along[k] * inverse * scale) for k in range(3)]
    depth, slope, over = (sum(m[k] * z[k] for k in range(3)) * inverse for m in (constant, along, across))
    return _Section(left, right, left_edge, right_edge, depth, slope, over, weights)


class _Own(NamedTuple):
    """Per gap, the nearer of two surfaces, whose end is the boundary, and the other one."""

    is_p: jax.Array  # whether p sees the nearer one
    reach: jax.Array  # how far its face goes towards the other pixel, in UNIT; -1 where it does not end in the gap
    edge: jax.Array  # edge at which it ends
    least: jax.Array  # how far an edge must reach to be one at which its surface ends, beyond UNIT where none is
    depth: jax.Array  # depth there
    other_p: jax.Array  # depth of the other surface at p and q, infinite where there is none
    other_q: jax.Array


def _own_surface(scene, index):
    gap, (face_p, face_q) = _gap(scene, index), _faces_of(scene, index)
    p, q = _section(scene, face_p, gap), _section(scene, face_q, gap)
    sees_p, sees_q = face_p >= 0, face_q >= 0
    ends_p, ends_q = p.right <= 1, q.left >= 0
    # By rounding a face may end before the centre of the pixel that sees it.
    at_p, at_q = jnp.clip(p.right, 0, 1), jnp.clip(q.left, 0, 1)
    # How far the other surface lies behind each where it ends. p's is nearer if both do as far: not by rounding.
    behind_p, behind_q = q.depth_at(at_p) - p.depth_at(at_p), p.depth_at(at_q) - q.depth_at(at_q)
    is_p = jnp.where(ends_p == ends_q, behind_p >= behind_q - TOUCHING, ends_p)
    is_p = sees_p & (~sees_q | is_p)
    reach = jnp.where(is_p, jnp.where(ends_p, at_p, -1), jnp.where(ends_q, 1 - at_q, -1))
    edge = jnp.where(is_p, 3 * face_p + p.right_edge, 3 * face_q + q.left_edge)
    depth = jnp.where(is_p, p.depth_at(at_p), q.depth_at(at_q))
    has_other = sees_p & sees_q
    other = [jnp.where(has_other, jnp.where(is_p, q.depth_at(t), p.depth_at(t)), jnp.inf) for t in (0, 1)]
    # Surfaces that do not lie behind each other are one surface, whose edges move alike.
    occludes = (reach >= 0) & (~has_other | (jnp.where(is_p, behind_p, behind_q) > TOUCHING))
    # Faces that no centre sees may lie between theirs: the middle stands for them.
    middle = (at_p + at_q) / 2
    reach = jnp.where((reach < 0) | occludes, reach, jnp.where(is_p, middle, 1 - middle))
    reach = jnp.where(reach < 0, -1, _as_units(reach))
    least = jnp.where(occludes, reach - int(MARGIN * UNIT), 2 * UNIT)
    return _Own(is_p, reach, edge, least, depth, *other)


def _as_units(t):
    return jnp.round(t * UNIT).astype(jnp.int32)


def _crossings(clip_positions, faces, face_index, active):
    scene = _scene(clip_positions, faces, face_index)
    shape = active.shape
    if scene.is_empty:
        return jnp.full((*shape, 2), NONE, jnp.int32)
    differ = jnp.stack(
        [
            jnp.pad(face_index[:, 1:] != face_index[:, :-1], ((0, 0), (0, 1))),
            jnp.pad(face_index[1:] != face_index[:-1], ((0, 1), (0, 0))),
        ]
    )
    flags = pack(active & differ)

    def find_own(index, valid, own):
        values = _own_surface(scene, index)
        index = jnp.where(valid, index, 2 * scene.pixels)
        return jax.tree.map(lambda array, value: array.at[index].set(value, mode="drop"), own, values)

    example = jax.eval_shape(partial(_own_surface, scene), jax.ShapeDtypeStruct((BLOCK,), jnp.int32))
    own = jax.tree.map(lambda x: jnp.zeros(2 * scene.pixels, x.dtype), example)
    own = own._replace(least=jnp.full_like(own.least, 2 * UNIT))
    own = for_each(flags, BLOCK, find_own, own)
    furthest = _furthest_edges(scene, own)

    def choose(index, valid, result):
        values = _choose(scene, index, jax.tree.map(lambda x: gather_in_bounds(x, index), own), furthest)
        index = jnp.where(valid, index, 2 * scene.pixels)
        return result.at[index].set(values, mode="drop")

    result = jnp.full((2 * scene.pixels, 2), NONE, jnp.int32)
    return for_each(flags, BLOCK, choose, result).reshape(*shape, 2)


def _furthest_edges(scene, own):
    """Per gap, a key of the edge at which the nearer surface ends.

    It is the edge in front of the other surface that lies furthest towards it. The key holds how far, whether a face
    continues beyond the edge, and the edge, the lowest of those at one place; it is zero where there is none.
    """
    height, width = scene.face_index.shape
    num_vertices, num_faces = scene.positions.shape[0], scene.faces.shape[0]
    valid_face = jnp.all((scene.faces >= 0) & (scene.faces < num_vertices), axis=-1)
    finite = jnp.all(jnp.isfinite(scene.positions), axis=-1)
    in_front = finite & (scene.positions[:, 2] > 0)
    divisor = jnp.where(in_front, scene.positions[:, 2], 1)
    corner = jnp.clip(scene.faces, 0, num_vertices - 1)
    valid_face &= jnp.all(gather_in_bounds(finite, corner), axis=-1)
    # Lines that the edges of each face may cross, rows and then columns: first and number, (2, faces, 3).
    first, count = [], []
    for across, lines in ((1, height), (0, width)):
        place = gather_in_bounds(scene.positions[:, across] / divisor, corner)
        front = gather_in_bounds(in_front, corner)
        a, b = place, jnp.roll(place, -1, axis=-1)
        bounded = front & jnp.roll(front, -1, axis=-1)
        low = jnp.where(bounded, jnp.minimum(a, b), 0) - MARGIN
        high = jnp.where(bounded, jnp.maximum(a, b), lines) + MARGIN
        low = jnp.ceil(jnp.clip(low, 0, lines)).astype(jnp.int32)
        high = jnp.floor(jnp.clip(high, -1, lines - 1)).astype(jnp.int32)
        first.append(low)
        count.append(jnp.where(valid_face[:, None], jnp.maximum(high - low + 1, 0), 0))
    first, count = jnp.stack(first).reshape(-1), jnp.stack(count).reshape(-1)
    end = jnp.cumsum(count, dtype=jnp.int32)
    first, count, end = lax.optimization_barrier((first, count, end))
    with jax.enable_x64(True):
        keys = lax.full((2 * scene.pixels,), np.uint64(0), jnp.uint64)

    def block(state):
        start, keys = state
        rank = start + lax.iota(jnp.int32, BLOCK)
        valid = rank < end[-1]
        item = jnp.minimum(jnp.searchsorted(end, rank, side="right").astype(jnp.int32), end.size - 1)
        line = gather_in_bounds(first, item) + rank - (gather_in_bounds(end, item) - gather_in_bounds(count, item))
        axis, edge = jnp.divmod(item, 3 * num_faces)
        line, axis, edge = lax.optimization_barrier((line, axis, edge))
        for index, high, low, counts in _candidates(scene, own, axis == 0, line, edge):
            with jax.enable_x64(True):
                key = (high.astype(jnp.uint64) << np.uint64(32)) | low.astype(jnp.uint64)
                keys = keys.at[index].max(jnp.where(valid & counts, key, np.uint64(0)), mode="promise_in_bounds")
        return start + BLOCK, keys

    keys = lax.while_loop(lambda state: state[0] < end[-1], block, (jnp.int32(0), keys))[1]
    with jax.enable_x64(True):
        return (keys >> np.uint64(32)).astype(jnp.uint32), keys.astype(jnp.uint32)


def _candidates(scene, own, along_rows, line, edge):
    """The gaps in which an edge crosses a line, their keys in two halves, and whether they count."""
    height, width = scene.face_index.shape
    length = jnp.where(along_rows, width, height)
    face, k = jnp.divmod(edge, 3)
    corners = scene.corners(face)
    a, b, c = (_pick([corners[(i + j) % 3] for i in range(3)], k[:, None]) for j in range(3))
    # The edge from either of its faces is computed from the same points in the same order.
    swap = precedes(tuple(b.T), tuple(a.T))[:, None]
    a, b = jnp.where(swap, b, a), jnp.where(swap, a, b)
    zero = jnp.zeros_like(line)
    x, y, w, z = _relative((a, b, c), _Gap(along_rows, zero, line))
    crosses = (y[0] >= 0) != (y[1] >= 0)
    share = y[0] / jnp.where(crosses, y[0] - y[1], 1)
    w_at = w[0] + share * (w[1] - w[0])
    crosses &= w_at > 0
    w_at = jnp.where(crosses, w_at, 1)
    depth = (z[0] + share * (z[1] - z[0])) / w_at
    column = jnp.floor(jnp.clip((x[0] + share * (x[1] - x[0])) / w_at, -2, length + 1))
    # From the gap's own pixel, so that no digits are lost far from the image's corner.
    x = [x[i] - column * w[i] for i in range(3)]
    t = (x[0] + share * (x[1] - x[0])) / w_at
    crosses &= (depth >= -1) & (depth <= 1) & (t > -MARGIN) & (t < 1 + MARGIN)
    # The face lies on the side of its third corner.
    normal = y[0] * w[1] - w[0] * y[1], w[0] * x[1] - x[0] * w[1], x[0] * y[1] - y[0] * x[1]
    side = normal[0] * x[2] + normal[1] * y[2] + normal[2] * w[2]
    rightward = (normal[0] > 0) == (side > 0)
    column = column.astype(jnp.int32)
    # Beside a pixel's centre the crossing counts for the gaps on both sides.
    for step in (0, 1):
        if step:
            beside = (t < MARGIN) | (t > 1 - MARGIN)
            column = column + jnp.where(t < 0.5, -1, 1)
            t = jnp.where(t < 0.5, jnp.ones_like(t), 0)
            crosses &= beside
        counts = crosses & (column >= 0) & (column < length - 1)
        pixel = jnp.where(along_rows, line * width + column, column * width + line)
        index = jnp.where(counts, pixel + jnp.where(along_rows, 0, scene.pixels), 0)
        mine = jax.tree.map(lambda x, index=index: gather_in_bounds(x, index), own)
        at = jnp.clip(t, 0, 1)
        reach = _as_units(jnp.where(mine.is_p, at, 1 - at))
        rise = jnp.where(jnp.isfinite(mine.other_p), mine.other_q - mine.other_p, 0)
        behind = mine.other_p + rise * at
        # Clearly nearer than the other surface: its own edges lie at its depth.
        clear = behind - jnp.maximum(behind - mine.depth, 0) / 4 - TOUCHING - MARGIN * jnp.abs(rise)
        clear = jnp.where(jnp.isfinite(behind), clear, jnp.inf)
        counts &= (reach >= mine.least) & (depth < clear)
        continues = (rightward == mine.is_p) & (side != 0)
        low = (2**31 - 1 - edge).astype(jnp.uint32) | (continues.astype(jnp.uint32) << np.uint32(31))
        yield index, (reach + 1).astype(jnp.uint32), low, counts


def _pick(values, index):
    return jnp.where(index == 0, values[0], jnp.where(index == 1, values[1], values[2]))


def _choose(scene, index, own, furthest):
    """What crosses a gap and where, `(..., 2)`."""
    gap, (face_p, face_q) = _gap(scene, index), _faces_of(scene, index)
    high, low = (gather_in_bounds(half, index) for half in furthest)
    ends, found = own.reach >= 0, high > 0
    edge = jnp.where(found, 2**31 - 1 - (low & np.uint32(2**31 - 1)).astype(jnp.int32), own.edge)
    reach = jnp.where(found, high.astype(jnp.int32) - 1, jnp.maximum(own.reach, 0))
    continues = jnp.where(ends, found & (low >> np.uint32(31) == 1), True)
    # The surface beyond its last edge: where does it pass behind the other one, or leave the depths that are seen?
    face = jnp.where(ends, edge // 3, jnp.where(own.is_p, face_p, face_q))
    beyond = _section(scene, jnp.maximum(face, 0), gap)
    start = reach.astype(own.depth.dtype) / UNIT
    start, stop = jnp.where(own.is_p, start, 1 - start), own.is_p.astype(start.dtype)
    first, last = beyond.depth_at(start), beyond.depth_at(stop)
    other = jnp.isfinite(own.other_p)
    rise = jnp.where(other, own.other_q - own.other_p, 0)
    base = jnp.where(other, own.other_p, 0)
    first = jnp.where(other, first - (base + rise * start), jnp.where(last > 1, first - 1, -1 - first))
    last = jnp.where(other, last - (base + rise * stop), jnp.where(last > 1, last - 1, -1 - last))
    least = PARALLEL * (jnp.abs(beyond.slope) + jnp.abs(rise)) + 10 * TOUCHING
    cut = continues & (first < 0) & (last > 0) & (jnp.abs(beyond.slope - rise) > least)
    at = start + (stop - start) * first / jnp.where(cut, first - last, 1)
    what = jnp.where(cut, CUT - (2 * face + own.is_p.astype(jnp.int32)), jnp.where(ends, edge, NONE))
    return jnp.stack([what, jnp.where(cut, _as_units(at), jnp.where(own.is_p, reach, UNIT - reach))], axis=-1)


def _forms(scene, index, crossings):
    """The motion of crossings along their lines as linear forms of their faces' corners.

    Returns:
        Twice, for the surface that ends and the one that cuts it: the corners' vertices (..., 3), their weights
        (..., 3), and the form (..., 4) of a corner's motion: x, y, w, z in pixel space.
    """
    gap, (face_p, face_q) = _gap(scene, index), _faces_of(scene, index)
    what, t = crossings[..., 0], crossings[..., 1].astype(scene.positions.dtype) / UNIT
    is_edge = what >= 0
    face = jnp.maximum(jnp.where(is_edge, what // 3, (CUT - what) // 2), 0)
    other = jnp.where((CUT - what) % 2 == 1, face_q, face_p)
    other = jnp.where(is_edge, -1, other)
    own, cutting = _section(scene, face, gap), _section(scene, other, gap)
    here, line = t + gap.column.astype(t.dtype), gap.line.astype(t.dtype)

    # An edge: the corner's motion along the line, by its weight in the point of the edge.
    corners = scene.corners(face)
    x, y, w, _ = _relative(corners, gap)
    k = what % 3
    a, b = _pick(y, k), _pick([*y[1:], y[0]], k)
    crosses = (a >= 0) != (b >= 0)
    share = jnp.clip(a / jnp.where(crosses, a - b, 1), 0, 1)
    w_at = _pick(w, k) * (1 - share) + _pick([*w[1:], w[0]], k) * share
    inverse = jnp.where(crosses & (w_at > 0), 1 / jnp.where(w_at > 0, w_at, 1), 0)
    x_at = _pick(x, k) * (1 - share) + _pick([*x[1:], x[0]], k) * share
    crossing = gap.column.astype(t.dtype) + x_at * inverse
    of_edge = [
        jnp.where(k == j, (1 - share) * inverse, jnp.where((k + 1) % 3 == j, share * inverse, 0)) for j in range(3)
    ]
    one, zero = jnp.ones_like(t), jnp.zeros_like(t)
    edge_form = [one, zero, -crossing, zero]

    # A cut: depths are equal along it. A corner's motion changes its plane's depth at a fixed place.
    has_other = other >= 0
    slope = own.slope - jnp.where(has_other, cutting.slope, 0)
    across = own.across - jnp.where(has_other, cutting.across, 0)
    steepness = slope * slope + across * across
    towards = -slope / jnp.where(steepness > 0, steepness, 1)
    results = []
    for section, of_face, sign, exists in ((own, face, 1, True), (cutting, other, -1, has_other)):
        depth = section.depth_at(t)
        form = [-section.slope, -section.across, section.slope * here + section.across * line - depth, one]
        form = [sign * towards * value for value in form]
        weights = [value + change * t for value, change in section.weights]
        if sign == 1:
            form = [jnp.where(is_edge, e, f) for e, f in zip(edge_form, form, strict=True)]
            weights = [jnp.where(is_edge, e, v) for e, v in zip(of_edge, weights, strict=True)]
        exists = (what != NONE) & exists
        weights, form = ([jnp.where(exists, v, 0) for v in values] for values in (weights, form))
        # From along and across to x and y.
        form = [jnp.where(gap.along_rows, form[0], form[1]), jnp.where(gap.along_rows, form[1], form[0]), *form[2:]]
        vertex = jnp.clip(gather_in_bounds(scene.faces, jnp.maximum(of_face, 0)), 0, scene.positions.shape[0] - 1)
        results.append((vertex, jnp.stack(weights, axis=-1), jnp.stack(form, axis=-1)))
    return results


def _motion(tangent, crossings, clip_positions, faces, face_index):
    scene = _scene(clip_positions, faces, face_index)
    shape = crossings.shape[:-1]
    if scene.is_empty:
        return jnp.zeros(shape, tangent.dtype)
    x, y, w = pixel_space(tangent, *face_index.shape)
    moved = jnp.stack([x, y, w, tangent[:, 2]], axis=-1)
    flat = crossings.reshape(-1, 2)

    def move(index, valid, motion):
        forms = _forms(scene, index, gather_in_bounds(flat, index))
        total = sum(
            jnp.sum(weights * jnp.sum(gather_in_bounds(moved, vertex) * form[:, None], axis=-1), axis=-1)
            for vertex, weights, form in forms
        )
        return motion.at[jnp.where(valid, index, motion.size)].set(total, mode="drop")

    motion = jnp.zeros(flat.shape[0], tangent.dtype)
    return for_each(pack(flat[:, 0] != NONE), BLOCK, move, motion).reshape(shape)


def _motion_bwd(cotangent, crossings, clip_positions, faces, face_index):
    scene = _scene(clip_positions, faces, face_index)
    if scene.is_empty:
        return jnp.zeros(clip_positions.shape, cotangent.dtype)
    flat, force = crossings.reshape(-1, 2), cotangent.reshape(-1)

    def add(index, valid, grad):
        pull = jnp.where(valid, gather_in_bounds(force, index), 0)
        for vertex, weights, form in _forms(scene, index, gather_in_bounds(flat, index)):
            row = jnp.where(weights != 0, vertex, grad.shape[0])
            grad = grad.at[row].add((pull[:, None] * weights)[..., None] * form[:, None], mode="drop")
        return grad

    flags = pack((flat[:, 0] != NONE) & (force != 0))
    grad = for_each(flags, BLOCK, add, jnp.zeros((clip_positions.shape[0], 4), cotangent.dtype))
    # From pixel space to clip space, which is linear, after the sum.
    return clip_cotangent_of_pixels(grad[:, :3], *face_index.shape).at[:, 2].add(grad[:, 3])
