"""Rasterization in plain JAX: setup, expansion into (face, tile) pairs, depth test, read-out.

README.md beside this file derives it.
"""

from functools import partial, reduce
from itertools import accumulate

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jnr._ops.indexing import batch_offset, gather_in_bounds
from jnr._ops.pixel_space import cross, in_order, pixel_space, power_of_two_scale

TILE = 8
# Pairs evaluated at once. 512 pairs x 64 pixels x 8 bytes stay in the second-level cache.
BLOCK = 512
# Faces whose pairs are counted together, which is faster than a running sum over all faces and a search in it.
GROUP = 8
EMPTY = np.uint64(2**64 - 1)
INT32_MAX = 2**31 - 1
# The bit of a face's index that says that its back is seen.
BACK = np.int32(-(2**31))


def rasterize(clip_positions: jax.Array, faces: jax.Array, *, height: int, width: int, cull: str | None) -> jax.Array:
    """The face that each pixel sees, -1 where there is none.

    Args:
        clip_positions: `(1 or batch, vertices, 4)`.
        faces: `(1 or batch, faces, 3)`.
        height: Rows of the image.
        width: Columns of the image.
        cull: None, `"back"` or `"front"`.

    Returns:
        `(batch, height, width)` int32.
    """
    batch = max(clip_positions.shape[0], faces.shape[0])
    num_faces = batch * faces.shape[1]
    if num_faces == 0 or clip_positions.shape[1] == 0:
        return jnp.full((batch, height, width), -1, jnp.int32)
    tiles = batch, -(-height // TILE), -(-width // TILE)

    count, box = _tile_boxes(clip_positions, faces, height, width, cull)
    positions = jnp.stack([*pixel_space(clip_positions, height, width), clip_positions[..., 2]], axis=-1)
    count, box, positions = lax.optimization_barrier((count, box, positions))
    draw = partial(_draw, positions=positions, faces=faces, tiles=tiles, cull=cull)

    with jax.enable_x64(True):
        # One extra tile takes the pairs that cover nothing.
        image = lax.full((np.prod(tiles) + 1, TILE * TILE), EMPTY, jnp.uint64)
    # The running number of pairs is an int32, so faces are processed in groups that cannot overflow it.
    group = min(num_faces, INT32_MAX // (tiles[1] * tiles[2]) - BLOCK)
    groups = -(-num_faces // group)
    if groups == 1:
        image = draw(image, count, box, first_face=jnp.int32(0))
    else:
        padding = groups * group - num_faces
        count = jnp.pad(count, (0, padding)).reshape(groups, group)
        box = jnp.pad(box, ((0, padding), (0, 0))).reshape(groups, group, 3)
        image = lax.fori_loop(
            0, groups, lambda i, image: draw(image, count[i], box[i], first_face=jnp.int32(i * group)), image
        )

    with jax.enable_x64(True):
        face_index = image[:-1].astype(jnp.uint32)
    face_index = lax.bitcast_convert_type(face_index, jnp.int32)
    # An empty pixel's low 32 bits are all ones, which is -1.
    face_index = jnp.where(face_index == -1, -1, face_index & ~BACK)
    face_index = face_index.reshape(*tiles, TILE, TILE).swapaxes(2, 3)
    return face_index.reshape(batch, tiles[1] * TILE, tiles[2] * TILE)[:, :height, :width]


def _tile_boxes(clip_positions, faces, height, width, cull):
    """Tiles that each face may touch: their number `(batch * faces,)`; first row, first column, columns `(.., 3)`."""
    num_vertices = clip_positions.shape[1]
    offset = batch_offset(clip_positions)[:, None]
    index = [(jnp.clip(faces[..., k], 0, num_vertices - 1) + offset).reshape(-1) for k in range(3)]
    in_range = jnp.all((faces >= 0) & (faces < num_vertices), axis=-1)
    in_range = jnp.broadcast_to(in_range, (index[0].size // faces.shape[1], faces.shape[1])).reshape(-1)

    x, y, w = pixel_space(clip_positions, height, width)
    finite = jnp.all(jnp.isfinite(clip_positions), axis=-1)
    beyond_near = finite & (clip_positions[..., 2] >= -w)
    in_front = beyond_near & (w > 0)
    # 0: not finite, 1: before near, 2: beyond near but behind the camera (an oblique near plane), 3: in front of both
    place = sum(condition.astype(x.dtype) for condition in (finite, beyond_near, in_front))
    divisor = jnp.where(in_front, w, 1)
    projected = jnp.stack([x / divisor, y / divisor, place], axis=-1).reshape(-1, 3)
    corners = [gather_in_bounds(lax.optimization_barrier(projected), i) for i in index]
    corners = lax.optimization_barrier(corners)
    xs, ys, places = ([corner[:, k] for corner in corners] for k in range(3))

    drawn = in_range & (_minimum(places) > 0) & (_maximum(places) > 1)
    crossing = drawn & (_minimum(places) < 3)
    bounds = _minimum(xs), _minimum(ys), _maximum(xs), _maximum(ys)
    if cull is not None:
        # Only faces whose side is certain despite rounding; the pair decides the rest.
        area = (xs[2] - xs[0]) * (ys[1] - ys[0]) - (xs[1] - xs[0]) * (ys[2] - ys[0])
        margin = 1e-2 * (bounds[2] - bounds[0] + bounds[3] - bounds[1])
        drawn &= crossing | ((area if cull == "back" else -area) > -margin)
    bounds = lax.cond(
        jnp.any(crossing),
        lambda: _where_all(crossing, _near_clipped_bounds(clip_positions, index, height, width), bounds),
        lambda: bounds,
    )

    # Covers the rounding of a division at the far end of a 16384-pixel image.
    margin = 2e-3
    first_x, first_y = (jnp.ceil(jnp.clip(b - margin, 0, 2**24)) for b in bounds[:2])
    last_x = jnp.floor(jnp.clip(bounds[2] + margin, -1, width - 1))
    last_y = jnp.floor(jnp.clip(bounds[3] + margin, -1, height - 1))
    drawn &= (first_x <= last_x) & (first_y <= last_y)
    first_x, first_y, last_x, last_y = (
        jnp.where(drawn, b, 0).astype(jnp.int32) // TILE for b in (first_x, first_y, last_x, last_y)
    )
    columns = last_x - first_x + 1
    count = jnp.where(drawn, columns * (last_y - first_y + 1), 0)
    return count, jnp.stack([first_y, first_x, columns], axis=-1)


def _near_clipped_bounds(clip_positions, index, height, width):
    """Bounds of the part of each face in front of the near plane, the whole image where w is not positive there."""
    flat = clip_positions.reshape(-1, 4)
    x, y, w = pixel_space(flat, height, width)
    rows = jnp.stack([x, y, w, flat[:, 2] + w], axis=-1)
    corners = [jnp.moveaxis(gather_in_bounds(rows, i), -1, 0) for i in index]
    big = jnp.asarray(1e30, x.dtype)
    low_x, low_y, high_x, high_y, low_w = [big], [big], [-big], [-big], [big]
    for k in range(3):
        a, b = corners[k], corners[(k + 1) % 3]
        inside = a[3] >= 0
        cut = inside != (b[3] >= 0)
        # The point of the edge on the near plane: there z = -w.
        t = a[3] / jnp.where(cut, a[3] - b[3], 1)
        on_plane = [a[i] + t * (b[i] - a[i]) for i in range(3)]
        for point, exists in ((a, inside), (on_plane, cut)):
            positive = exists & (point[2] > 0)
            px, py = (point[i] / jnp.where(positive, point[2], 1) for i in range(2))
            low_x.append(jnp.where(positive, px, big))
            low_y.append(jnp.where(positive, py, big))
            high_x.append(jnp.where(positive, px, -big))
            high_y.append(jnp.where(positive, py, -big))
            low_w.append(jnp.where(exists, point[2], big))
    unbounded = _minimum(low_w) <= 0
    whole = (0.0, 0.0, width - 1.0, height - 1.0)
    bounds = _minimum(low_x), _minimum(low_y), _maximum(high_x), _maximum(high_y)
    return tuple(jnp.where(unbounded, all_, b) for all_, b in zip(whole, bounds, strict=True))


def _draw(image, count, box, *, first_face, positions, faces, tiles, cull):
    """Depth-tests the pixels of all (face, tile) pairs of a group of faces into `image`."""
    num_faces = faces.shape[1]
    _, tiles_y, tiles_x = tiles
    end, group_end = _running_sum(count)
    rows = jnp.concatenate([(end.reshape(-1)[: count.shape[0]] - count)[:, None], box], axis=-1)
    end, group_end, rows = lax.optimization_barrier((end, group_end, rows))
    total = group_end[-1]
    flat_positions = positions.reshape(-1, 4)
    flat_faces = faces.reshape(-1, 3)
    columns = jnp.tile(jnp.arange(TILE, dtype=positions.dtype), TILE)
    lines = jnp.repeat(jnp.arange(TILE, dtype=positions.dtype), TILE)

    def draw_block(state):
        first_pair, image = state
        pair = first_pair + lax.iota(jnp.int32, BLOCK)
        valid = pair < total
        local = _owner(end, group_end, jnp.where(valid, pair, 0))
        # A face of the last, padded group may lie past the end; such a pair covers nothing.
        item, face = jnp.divmod(jnp.minimum(first_face + local, tiles[0] * num_faces - 1), num_faces)
        row = gather_in_bounds(rows, local)
        vertex = gather_in_bounds(flat_faces, face if faces.shape[0] == 1 else item * num_faces + face)
        if positions.shape[0] > 1:
            vertex += (item * positions.shape[1])[:, None]
        row, vertex, face, item = lax.optimization_barrier((row, vertex, face, item))
        step_y, step_x = jnp.divmod(pair - row[:, 0], row[:, 3])
        tile_y, tile_x = row[:, 1] + step_y, row[:, 2] + step_x
        corners = gather_in_bounds(flat_positions, jnp.where(valid[:, None], vertex, 0))
        corners, tile_y, tile_x = lax.optimization_barrier((corners, tile_y, tile_x))

        coefficients, side = _pair_coefficients(corners, tile_y * TILE, tile_x * TILE)
        drawn = side != 0 if cull is None else side > 0 if cull == "back" else side < 0
        tile = jnp.where(valid & drawn, (item * tiles_y + tile_y) * tiles_x + tile_x, image.shape[0] - 1)
        # Of faces at one depth those that are seen from the front come first.
        face = jnp.where(side > 0, face, face | BACK)
        coefficients, tile, face = lax.optimization_barrier((coefficients, tile, face))
        inside, depth = _pair_pixels(coefficients[..., None], columns, lines)
        low = lax.bitcast_convert_type(face, jnp.uint32)[:, None]
        with jax.enable_x64(True):
            # Depth in the high half, side and face in the low half: the minimum is the pixel's face.
            key = (_sortable(depth).astype(jnp.uint64) << np.uint64(32)) | low.astype(jnp.uint64)
            image = image.at[tile].min(jnp.where(inside, key, EMPTY), mode="promise_in_bounds")
        return first_pair + BLOCK, image

    return lax.while_loop(lambda state: state[0] < total, draw_block, (jnp.int32(0), image))[1]


def _running_sum(count):
    """Pairs up to and including each face, `(groups, GROUP)`, and each group of faces, `(groups,)`."""
    count = jnp.pad(count, (0, -count.shape[0] % GROUP)).reshape(-1, GROUP)
    end = list(accumulate(count[:, k] for k in range(GROUP)))
    group_end = jnp.cumsum(end[-1], dtype=jnp.int32)
    return jnp.stack(end, axis=-1) + (group_end - end[-1])[:, None], group_end


def _owner(end, group_end, pair):
    """The face that each pair belongs to."""
    group = jnp.searchsorted(group_end, pair, side="right").astype(jnp.int32)
    own = gather_in_bounds(end, group)
    group, own = lax.optimization_barrier((group, own))
    return group * GROUP + sum((own[:, k] <= pair).astype(jnp.int32) for k in range(GROUP - 1))


def _pair_coefficients(corners, origin_y, origin_x):
    """Three edges, depth plane and depth range of each pair, relative to the tile's first pixel, and the side seen.

    The side is 1 for the front, -1 for the back and 0 for a pair that covers nothing. All else has the same bits
    whichever way round the face is listed.
    """
    corners, turn = lax.optimization_barrier(in_order([tuple(corners[:, k, i] for i in range(4)) for k in range(3)]))
    scale = power_of_two_scale(*(value for corner in corners for value in corner[:3]))
    w = [corner[2] * scale for corner in corners]
    z = [corner[3] * scale for corner in corners]
    # Relative to the tile, so that no digits are lost far from the image's corner.
    x = [corners[k][0] * scale - origin_x.astype(w[k].dtype) * w[k] for k in range(3)]
    y = [corners[k][1] * scale - origin_y.astype(w[k].dtype) * w[k] for k in range(3)]
    first, second, third = zip(x, y, w, strict=True)
    # Positive inside of a front face: rows grow downwards, so a counter-clockwise face is clockwise here.
    edges = [_negated(cross(second, third)), cross(first, third), _negated(cross(first, second))]
    det = sum(edges[k][2] * w[k] for k in range(3))
    facing = jnp.where(jnp.isfinite(1 / det), jnp.sign(det), 0)
    plane = [sum(edges[k][i] * z[k] for k in range(3)) / det for i in range(3)]
    # Without this range a sliver's plane, extrapolated by rounding errors, would win over its neighbours.
    in_front = _minimum(w) > 0
    ndc = [z[k] / jnp.where(in_front, w[k], 1) for k in range(3)]
    nearest, farthest = jnp.where(in_front, _minimum(ndc), -jnp.inf), jnp.where(in_front, _maximum(ndc), jnp.inf)
    return jnp.stack([*(facing * c for edge in edges for c in edge), *plane, nearest, farthest]), facing * turn


def _negated(values):
    return tuple(-value for value in values)


def _pair_pixels(coefficients, columns, lines):
    """Whether the face covers each pixel of the tile, boundary included, and its NDC depth there."""
    edges = [a * columns + (b * lines + c) for a, b, c in (coefficients[0:3], coefficients[3:6], coefficients[6:9])]
    a, b, c, nearest, farthest = coefficients[9:14]
    depth = jnp.clip(a * columns + (b * lines + c), nearest, farthest)
    return (_minimum(edges) >= 0) & (depth >= -1) & (depth <= 1), depth


def _sortable(depth):
    """Bits of a float32 whose order as unsigned integers is the numeric order; 0 and -0 are one number."""
    depth = depth.astype(jnp.float32)
    bits = lax.bitcast_convert_type(jnp.where(depth == 0, 0, depth), jnp.int32)
    bits = jnp.where(bits < 0, ~bits, bits ^ np.int32(-(2**31)))
    return lax.bitcast_convert_type(bits, jnp.uint32)


def _minimum(values):
    return reduce(jnp.minimum, values)


def _maximum(values):
    return reduce(jnp.maximum, values)


def _where_all(condition, values, others):
    return tuple(jnp.where(condition, a, b) for a, b in zip(values, others, strict=True))
