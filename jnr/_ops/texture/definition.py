"""Mip pyramids, texture coordinates at pixels and samples of textures in plain JAX. README.md beside this file."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jnr._ops.barycentrics.definition import barycentric_derivatives
from jnr._ops.gather import definition as gather_definition
from jnr._ops.indexing import gather_or_fill, map_batch

# How an image continues outside, by the number that a `MipPlace` has.
WRAPS = ("repeat", "mirror", "clamp", "border")


class MipPlace(NamedTuple):
    """Where a level of an image is in a table of texels, and what is outside of it."""

    first: jax.Array | int
    stride: jax.Array | int  # the distance of rows
    height: jax.Array | int
    width: jax.Array | int
    across: jax.Array | int  # position of the wrap mode of u in WRAPS
    up: jax.Array | int


def level_shapes(rows: int, columns: int, levels: int) -> list[tuple[int, int]]:
    """Rows and columns of each level of a pyramid."""
    return [(max(rows >> k, 1), max(columns >> k, 1)) for k in range(levels)]


def mip_pyramid(image: jax.Array, size: jax.Array, *, levels: int, whole: bool) -> jax.Array:
    """The levels of an image one after the other as rows of a table; each halves the one before.

    Args:
        image: `(1 or batch, rows, columns, channels)`.
        size: Height and width of the part that is in use, `(1 or batch, 2)`, int32.
        levels: Number of levels.
        whole: Whether all of the image is in use, so that `size` need not be read.

    Returns:
        `(batch, texels, channels)`.
    """

    def pyramid(image, size):
        size = image.shape[:2] if whole else (size[0], size[1])
        tables = []
        for level in range(levels):
            if level:
                image, size = _halve(image, size)
            tables.append(image.reshape(image.shape[0] * image.shape[1], image.shape[2]))
        return jnp.concatenate(tables)

    return map_batch(pyramid, image, size)


def _halve(image, size):
    """The next level: each texel is the mean of the area that it covers, also where the size is odd."""
    if isinstance(size[0], int) and size[0] % 2 == size[1] % 2 == 0:
        height, width, channels = image.shape
        # Sums over rows and slices of columns: XLA for the CPU vectorizes these, and their transposes.
        image = jnp.sum(0.25 * image.reshape(height // 2, 2, width * channels), axis=1)
        pairs = image.reshape(height // 2, width // 2, 2 * channels)
        return pairs[..., :channels] + pairs[..., channels:], (height // 2, width // 2)
    for axis in range(2):
        image = jnp.moveaxis(_halve_axis(jnp.moveaxis(image, axis, 0), size[axis]), 0, axis)
    return image, tuple(max(n // 2, 1) if isinstance(n, int) else jnp.maximum(n // 2, 1) for n in size)


def _halve_axis(image, n):
    # With n = 2m texels each covers two. With n = 2m + 1 each covers 2 + 1/m: one texel and parts of its neighbours.
    rows = max(image.shape[0] // 2, 1)
    image = jnp.pad(image, ((0, 2 * rows + 1 - image.shape[0]), (0, 0), (0, 0)))
    i = jnp.arange(rows, dtype=image.dtype)
    half, length = (lax.convert_element_type(value, image.dtype) for value in (n // 2, n))
    odd, single = n % 2 == 1, n == 1
    weights = [
        jnp.where(odd, jnp.where(single, 1, (half - i) / length), 0.5),
        jnp.where(odd, half / length, 0.5),
        jnp.where(odd & (not single if isinstance(n, int) else ~single), (i + 1) / length, 0),
    ]
    return sum(weights[k].reshape(-1, 1, 1) * image[k : k + 2 * rows : 2] for k in range(3))


def uv_and_steps(
    clip_positions: jax.Array,
    uv: jax.Array,
    barycentric: jax.Array,
    faces: jax.Array,
    uv_faces: jax.Array,
    face_index: jax.Array,
    *,
    gather: Callable[..., jax.Array] = gather_or_fill,
) -> jax.Array:
    """Texture coordinates (u, v) at each pixel and their derivatives by column and by row; zero on background.

    Args:
        clip_positions: `(1 or batch, vertices, 4)`.
        uv: `(1 or batch, uvs, 2)`.
        barycentric: `(1 or batch, height, width, 3)`.
        faces: `(1 or batch, faces, 3)`.
        uv_faces: Rows of `uv` of each face's corners, `(1 or batch, faces, 3)`.
        face_index: `(1 or batch, height, width)`, -1 on background.
        gather: Reads rows of a table, such as the op of jnr/_ops/gather.

    Returns:
        `(batch, height, width, 6)`.
    """

    def single(clip_positions, uv, barycentric, faces, uv_faces, face_index):
        slopes = barycentric_derivatives(clip_positions, faces, face_index, gather=gather)
        corners = gather(uv, gather(uv_faces, face_index))
        # An image for each number: XLA for the CPU does not vectorize short last axes.
        corners = [[corners[..., k, i] for i in range(2)] for k in range(3)]
        values = [sum(barycentric[..., k] * corners[k][i] for k in range(3)) for i in range(2)]
        # Relative to one corner, since the slopes' sum is zero: far from the origin it would have few digits left.
        values += [
            sum((corners[k][i] - corners[0][i]) * slopes[k][axis] for k in (1, 2))
            for axis in range(2)
            for i in range(2)
        ]
        return jnp.stack(values, axis=-1)

    return map_batch(single, clip_positions, uv, barycentric, faces, uv_faces, face_index)


def sample_texels(
    texels: jax.Array,
    coordinates: jax.Array,
    material: jax.Array,
    places: jax.Array,
    *,
    levels: int,
    nearest: bool,
    gather: Callable[..., jax.Array] = gather_or_fill,
    weighted_gather: Callable[..., jax.Array] = gather_definition.weighted_gather,
) -> jax.Array:
    """Colours at texture coordinates, zero where the material is negative.

    Args:
        texels: All levels of all images, and in the last row the border's colour if one is in use, `(1 or batch, rows,
            channels)`.
        coordinates: u and v, or these and their derivatives as from `uv_and_steps`, which choose the level, `(1 or
            batch, count, 2 or 6)`.
        material: The image of each, `(1 or batch, count)`, int32.
        places: The fields of `MipPlace` of every level, image by image, `(1 or batch, images * levels, 6)`, int32.
        levels: Number of levels per image.
        nearest: Whether the nearest texel alone is read.
        gather: Reads rows of a table, such as the op of jnr/_ops/gather.
        weighted_gather: An implementation of `weighted_gather` in jnr/_ops/gather/definition.py.

    Returns:
        `(batch, count, channels)`.
    """

    def terms(coordinates, material, places):
        rows = texels.shape[1]
        shown = (material >= 0) & (material < places.shape[0] // levels)
        # Masked first: the derivative of a coordinate that is not finite would be NaN times zero.
        numbers = [jnp.where(shown, coordinates[:, k], 0) for k in range(coordinates.shape[1])]
        row = jnp.where(shown, material, 0) * levels
        place = _place(places, row, gather)
        if len(numbers) == 2:
            found = _terms(numbers, place, rows, nearest)
        else:
            low, fraction, blends = _mip_level(numbers[2:], place)
            found = [
                (jnp.where(is_read, index, -1), share * weight)
                for is_read, share, above in ((shown, 1 - fraction, 0), (blends, fraction, 1))
                for index, weight in _terms(
                    numbers, _place(places, jnp.minimum(row + low + above, places.shape[0] - 1), gather), rows, nearest
                )
            ]
        index, weight = (jnp.stack(values, axis=-1) for values in zip(*found, strict=True))
        return jnp.where(shown[:, None], index, -1), weight

    index, weights = map_batch(terms, coordinates, material, places)
    return weighted_gather(texels, weights, index)


def _place(places, row, gather):
    # One read for all: XLA for the CPU would compute the row again for every number that it reads.
    values = gather(places, row)
    return MipPlace._make(values[:, k] for k in range(6))


def _mip_level(steps, place):
    """The finer of the levels that a pixel's texels are as large as, the share of the coarser one, if any is read."""
    width, height = place.width.astype(steps[0].dtype), place.height.astype(steps[0].dtype)
    largest = jnp.maximum(*((steps[k] * width) ** 2 + (steps[k + 1] * height) ** 2 for k in (0, 2)))
    # An image that is smaller than the largest reaches one texel at an earlier level.
    last = (31 - lax.clz(jnp.maximum(place.width, place.height))).astype(width.dtype)
    # Half the logarithm of the square. Below one texel per pixel it is the first level, which has no derivative.
    magnified = ~(largest > 1)
    level = jnp.where(magnified, 0, 0.5 * jnp.log2(jnp.where(magnified, 1, largest)))
    blends = ~magnified & (level < last)
    low = jnp.where(magnified, 0, jnp.minimum(lax.stop_gradient(jnp.floor(level)), last))
    return low.astype(jnp.int32), jnp.where(blends, level - low, 0), blends


def _terms(coordinates, place, rows, nearest):
    """For each texel that a sample of a level blends: its row in the table, and its weight."""
    columns = _neighbours(_in_first_period(coordinates[0], place.across), place.width, place.across, nearest)
    lines = _neighbours(1 - _in_first_period(coordinates[1], place.up), place.height, place.up, nearest)
    terms = []
    for (i, inside_i), row_weight in lines:
        for (j, inside_j), column_weight in columns:
            index = jnp.where(inside_i & inside_j, place.first + i * place.stride + j, rows - 1)
            terms.append((index, row_weight * column_weight))
    return terms


def _in_first_period(x, wrap):
    """The coordinate without whole periods: a thousand copies away it would have few digits left."""
    period = jnp.where(wrap == WRAPS.index("mirror"), 2, 1).astype(x.dtype)
    periods = period * lax.stop_gradient(jnp.floor(x / period))
    return x - jnp.where((wrap == WRAPS.index("repeat")) | (wrap == WRAPS.index("mirror")), periods, 0)


def _neighbours(x, n, wrap, nearest):
    """Texels next to a coordinate along one axis of `n` texels, and their weights."""
    position = x * n.astype(x.dtype)
    if nearest:
        return [(_wrapped(_as_index(position), n, wrap), jnp.ones_like(x))]
    position = position - 0.5
    low = _as_index(position)
    fraction = position - low.astype(x.dtype)
    return [(_wrapped(low, n, wrap), 1 - fraction), (_wrapped(low + 1, n, wrap), fraction)]


def _as_index(position):
    """The texel below, or one far outside of the image where the number is too large for an int or NaN."""
    floor = lax.stop_gradient(jnp.floor(position))
    return jnp.clip(jnp.where(jnp.isnan(floor), 2.0**24, floor), -(2.0**24), 2.0**24).astype(jnp.int32)


def _wrapped(index, n, wrap):
    """The texel that a wrap mode takes for a texel outside of the image, and whether it is inside."""
    mirrored = jnp.mod(index, 2 * n)
    result = jnp.clip(index, 0, n - 1)
    result = jnp.where(wrap == WRAPS.index("repeat"), jnp.mod(index, n), result)
    result = jnp.where(wrap == WRAPS.index("mirror"), jnp.where(mirrored < n, mirrored, 2 * n - 1 - mirrored), result)
    return result, (wrap != WRAPS.index("border")) | ((index >= 0) & (index < n))
