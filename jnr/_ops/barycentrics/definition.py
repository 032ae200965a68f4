"""Barycentrics of the face that each pixel sees, in plain JAX. README.md beside this file derives them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jnr._ops.gather import definition as gather_definition
from jnr._ops.indexing import gather_in_bounds, gather_or_fill, map_batch
from jnr._ops.pixel_space import clip_cotangent_of_pixels, pixel_space, power_of_two_scale

# The two other corners of each corner, in the order of its minor.
OTHERS = ((1, 2), (2, 0), (0, 1))


def clamped_corners(faces: jax.Array, face_index: jax.Array, num_vertices: int) -> jax.Array:
    """Vertex index of each corner of the face that a pixel sees, `(height, width, 3)`; any vertex on background."""
    return jnp.clip(gather_in_bounds(faces, jnp.maximum(face_index, 0)), 0, num_vertices - 1)


def barycentrics(clip_positions: jax.Array, faces: jax.Array, face_index: jax.Array) -> jax.Array:
    """Perspective-correct barycentrics at each pixel, zero on background.

    Args:
        clip_positions: `(1 or batch, vertices, 4)`.
        faces: `(1 or batch, faces, 3)`.
        face_index: `(1 or batch, height, width)`, -1 on background.

    Returns:
        `(batch, height, width, 3)`.
    """
    return map_batch(_barycentrics, clip_positions, faces, face_index)


def barycentrics_tangent(
    tangent: jax.Array, clip_positions: jax.Array, faces: jax.Array, face_index: jax.Array
) -> jax.Array:
    """Tangent of `barycentrics` for the tangent `(1 or batch, vertices, 4)` of the clip positions."""

    def single(tangent, clip_positions, faces, face_index):
        return jax.jvp(lambda clip: _barycentrics(clip, faces, face_index), (clip_positions,), (tangent,))[1]

    return map_batch(single, tangent, clip_positions, faces, face_index)


def barycentrics_bwd(
    cotangent: jax.Array,
    clip_positions: jax.Array,
    faces: jax.Array,
    face_index: jax.Array,
    *,
    sums: int,
    scatter_add: Callable[..., jax.Array] = gather_definition.scatter_add,
) -> jax.Array:
    """Cotangent of the clip positions.

    Args:
        cotangent: `(1 or batch, height, width, 3)`.
        clip_positions: As for `barycentrics`.
        faces: As for `barycentrics`.
        face_index: As for `barycentrics`.
        sums: Number of cotangents, each the sum over as many consecutive items of the batch.
        scatter_add: An implementation of `scatter_add` in jnr/_ops/gather/definition.py.

    Returns:
        `(sums, vertices, 4)`.
    """
    num_vertices = clip_positions.shape[1]
    if 0 in (num_vertices, faces.shape[1]):
        return jnp.zeros((sums, num_vertices, 4), cotangent.dtype)
    height, width = face_index.shape[1:]

    def single(cotangent, clip_positions, faces, face_index):
        corners, index = _corners_at_pixels(clip_positions, faces, face_index)
        (grad,) = jax.vjp(
            lambda corners: _weights(_relative_to_pixel(_split(corners), face_index), face_index), corners
        )[1](cotangent)
        # Pixels of one corner are consecutive, as they are in the image.
        return jnp.moveaxis(grad, 2, 0).reshape(-1, 3), jnp.moveaxis(index, 2, 0).reshape(-1)

    grad, index = map_batch(single, cotangent, clip_positions, faces, face_index)
    grad = scatter_add(grad, index, rows=num_vertices, sums=sums)
    # From pixel space to clip space, which is linear, after the sum.
    return clip_cotangent_of_pixels(grad, height, width)


def _barycentrics(clip_positions, faces, face_index):
    height, width = face_index.shape
    if 0 in (faces.shape[0], clip_positions.shape[0]):
        return jnp.zeros((height, width, 3), clip_positions.dtype)
    return _weights(_faces_at_pixels(clip_positions, faces, face_index), face_index)


def _weights(local, face_index):
    """Barycentrics from corners relative to the pixel."""
    # The pixel's ray meets the face at sum(b * corner): the weights are 3 x 3 minors.
    minors = []
    for i, j in OTHERS:
        (xi, yi, _), (xj, yj, _) = local[i], local[j]
        minors.append(xi * yj - yi * xj)
    total = minors[0] + minors[1] + minors[2]
    valid = (face_index >= 0) & (total != 0)
    # Scaled near 1 before the division: the derivative of a quotient has the square of its denominator.
    inverse = lax.stop_gradient(1 / jnp.where(valid, total, 1))
    minors = [m * inverse for m in minors]
    total = minors[0] + minors[1] + minors[2]
    weights = [m / jnp.where(valid, total, 1) for m in minors]
    weights = [jnp.where(valid & (w > 0), w, 0) for w in weights]
    # A pixel on an edge may lie outside by a rounding error; its weights are normalized to sum to one.
    total = weights[0] + weights[1] + weights[2]
    return jnp.stack([w / jnp.where(total > 0, total, 1) for w in weights], axis=-1)


def _faces_at_pixels(clip_positions, faces, face_index):
    """Corners of the face that each pixel sees in pixel space, scaled, relative to the pixel."""
    return _relative_to_pixel(_split(_corners_at_pixels(clip_positions, faces, face_index)[0]), face_index)


def _split(corners):
    """An image for each coordinate of each corner."""
    return [[corners[..., k, i] for i in range(3)] for k in range(3)]


def _corners_at_pixels(clip_positions, faces, face_index):
    """Corners of the face that each pixel sees in pixel space, and their vertices, both `(height, width, 3, ...)`."""
    vertices = jnp.stack(pixel_space(clip_positions, *face_index.shape), axis=-1)
    index = clamped_corners(faces, face_index, clip_positions.shape[0])
    index = jnp.where(face_index[..., None] >= 0, index, -1)
    return gather_or_fill(vertices, index), index


def _relative_to_pixel(corners, face_index):
    column = lax.broadcasted_iota(corners[0][0].dtype, face_index.shape, 1)
    row = lax.broadcasted_iota(corners[0][0].dtype, face_index.shape, 0)
    # On background the corners (0, 0, 1), (1, 0, 1) and (0, 1, 1), so that no invalid face is differentiated.
    spare = ((0, 0, 1), (1, 0, 1), (0, 1, 1))
    corners = [[jnp.where(face_index >= 0, corners[k][i], spare[k][i]) for i in range(3)] for k in range(3)]
    scale = lax.stop_gradient(power_of_two_scale(*(v for corner in corners for v in corner)))
    local = []
    for x, y, w in corners:
        w = w * scale
        local.append((x * scale - column * w, y * scale - row * w, w))
    return local


def barycentric_derivatives(
    clip_positions: jax.Array,
    faces: jax.Array,
    face_index: jax.Array,
    *,
    gather: Callable[..., jax.Array] = gather_or_fill,
) -> list[list[jax.Array]]:
    """Derivatives of each pixel's barycentrics with respect to column and row, zero on background.

    Args:
        clip_positions: `(vertices, 4)`.
        faces: `(faces, 3)`.
        face_index: `(height, width)`, -1 on background.
        gather: Reads rows of a table, such as the op of jnr/_ops/gather.

    Returns:
        For each corner the derivatives with respect to column and row, each `(height, width)`.
    """
    if 0 in (faces.shape[0], clip_positions.shape[0]):
        return [[jnp.zeros(face_index.shape, clip_positions.dtype)] * 2] * 3
    # Each coordinate is read on its own. XLA for the CPU would compute the whole backward pass again for each entry of
    # an array of them.
    corners = jnp.clip(gather(faces, face_index), 0, clip_positions.shape[0] - 1)
    index = [jnp.where(face_index >= 0, corners[..., k], -1) for k in range(3)]
    coordinates = pixel_space(clip_positions, *face_index.shape)
    local = _relative_to_pixel([[gather(v[:, None], i)[..., 0] for v in coordinates] for i in index], face_index)
    minors, steps = [], []
    for i, j in OTHERS:
        (xi, yi, wi), (xj, yj, wj) = local[i], local[j]
        minors.append(xi * yj - yi * xj)
        steps.append((yi * wj - wi * yj, wi * xj - xi * wj))
    total = minors[0] + minors[1] + minors[2]
    valid = (face_index >= 0) & (total != 0)
    inverse = 1 / jnp.where(valid, total, 1)
    of_total = [sum(step[axis] for step in steps) for axis in range(2)]
    return [
        [jnp.where(valid, (step[axis] - minor * inverse * of_total[axis]) * inverse, 0) for axis in range(2)]
        for minor, step in zip(minors, steps, strict=True)
    ]


def weight_slopes(clip_positions: jax.Array, faces: jax.Array, height: int, width: int) -> jax.Array:
    """How a face's barycentrics divided by `clip_w`, which are linear in the image, change per column and per row.

    Args:
        clip_positions: `(vertices, 4)`.
        faces: `(faces, 3)`.
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        `(faces, 6)`: the three corners' per column, then per row; zero for faces that are not drawn.
    """
    if 0 in (faces.shape[0], clip_positions.shape[0]):
        return jnp.zeros((faces.shape[0], 6), clip_positions.dtype)
    vertices = jnp.stack(pixel_space(clip_positions, height, width), axis=-1)
    corners = [gather_or_fill(vertices, faces[:, k]) for k in range(3)]
    # From the first corner's place, so that no digits are lost far from the image's corner.
    first = corners[0]
    divisor = jnp.where(first[:, 2] > 0, first[:, 2], 1)
    origin = [jnp.where(first[:, 2] > 0, first[:, i] / divisor, 0) for i in range(2)]
    scale = power_of_two_scale(*(corner[:, i] for corner in corners for i in range(3)))
    x, y = ([(corner[:, i] - origin[i] * corner[:, 2]) * scale for corner in corners] for i in range(2))
    w = [corner[:, 2] * scale for corner in corners]
    det = sum((x[i] * y[j] - y[i] * x[j]) * w[k] for k, (i, j) in enumerate(OTHERS))
    inverse = scale / jnp.where(det == 0, 1, det)
    valid = (det != 0) & jnp.isfinite(inverse)
    steps = [y[i] * w[j] - w[i] * y[j] for i, j in OTHERS] + [w[i] * x[j] - x[i] * w[j] for i, j in OTHERS]
    return jnp.stack([jnp.where(valid, step * inverse, 0) for step in steps], axis=-1)
