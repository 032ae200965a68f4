"""The point of its face that each pixel sees, in plain JAX, and its derivatives by JAX."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jnr._xla import rows
from jnr._xla.geometry import mapped, pixel_space, power_of_two_scale, take, take_known

# Of each corner, in the order of its minor.
OTHERS = ((1, 2), (2, 0), (0, 1))


def face_corners(faces: jax.Array, face_index: jax.Array, num_vertices: int) -> jax.Array:
    """Vertex index of each corner of the face a pixel sees, `(height, width, 3)`; anything on background."""
    return jnp.clip(take(faces, jnp.maximum(face_index, 0)), 0, num_vertices - 1)


def resolve(clip_positions: jax.Array, faces: jax.Array, face_index: jax.Array) -> jax.Array:
    """Perspective-correct barycentrics at each pixel, zero on background.

    Args:
        clip_positions: `(1 or batch, vertices, 4)`.
        faces: `(1 or batch, faces, 3)`.
        face_index: `(1 or batch, height, width)`, -1 on background.

    Returns:
        `(batch, height, width, 3)`.
    """
    return mapped(_resolve, clip_positions, faces, face_index)


def resolve_tangent(
    tangent: jax.Array, clip_positions: jax.Array, faces: jax.Array, face_index: jax.Array
) -> jax.Array:
    """How what `resolve` returns changes with the clip positions, along `tangent` `(1 or batch, vertices, 4)`."""

    def single(tangent, clip_positions, faces, face_index):
        return jax.jvp(lambda clip: _resolve(clip, faces, face_index), (clip_positions,), (tangent,))[1]

    return mapped(single, tangent, clip_positions, faces, face_index)


def resolve_bwd(
    cotangent: jax.Array,
    clip_positions: jax.Array,
    faces: jax.Array,
    face_index: jax.Array,
    *,
    sums: int,
    add_rows: Callable[..., jax.Array] = rows.add_rows,
) -> jax.Array:
    """Cotangent of the clip positions.

    Args:
        cotangent: `(1 or batch, height, width, 3)`.
        clip_positions: As for `resolve`.
        faces: As for `resolve`.
        face_index: As for `resolve`.
        sums: How many cotangents there are, each of as many items of the batch that follow each other.
        add_rows: Does what `add_rows` in jnr/_xla/rows.py does.

    Returns:
        `(sums, vertices, 4)`.
    """
    num_vertices = clip_positions.shape[1]
    if 0 in (num_vertices, faces.shape[1]):
        return jnp.zeros((sums, num_vertices, 4), cotangent.dtype)
    height, width = face_index.shape[1:]

    def single(cotangent, clip_positions, faces, face_index):
        corners, index = _seen_corners(clip_positions, faces, face_index)
        (grad,) = jax.vjp(lambda corners: _weights(_local(corners, face_index), face_index), corners)[1](cotangent)
        # A corner's pixels follow each other, as they do in the image.
        return jnp.moveaxis(grad, 2, 0).reshape(-1, 3), jnp.moveaxis(index, 2, 0).reshape(-1)

    grad, index = mapped(single, cotangent, clip_positions, faces, face_index)
    grad = add_rows(grad, index, rows=num_vertices, sums=sums)
    # From pixel space to clip space, which is linear, after the sum.
    clip_like = jax.ShapeDtypeStruct((sums, num_vertices, 4), grad.dtype)
    to_pixels = jax.linear_transpose(partial(pixel_space, height=height, width=width), clip_like)
    return to_pixels(tuple(jnp.moveaxis(grad, -1, 0)))[0]


def _resolve(clip_positions, faces, face_index):
    height, width = face_index.shape
    if 0 in (faces.shape[0], clip_positions.shape[0]):
        return jnp.zeros((height, width, 3), clip_positions.dtype)
    return _weights(_seen_faces(clip_positions, faces, face_index), face_index)


def _weights(local, face_index):
    """Barycentrics from what `_local` returns."""
    # The pixel's ray meets the face at sum(b * corner): the weights are three-by-three minors.
    minors = []
    for i, j in OTHERS:
        (xi, yi, _), (xj, yj, _) = local[i], local[j]
        minors.append(xi * yj - yi * xj)
    total = minors[0] + minors[1] + minors[2]
    sound = (face_index >= 0) & (total != 0)
    # Brought near 1 before they are divided: the derivative of a quotient has the square of its denominator.
    inverse = lax.stop_gradient(1 / jnp.where(sound, total, 1))
    minors = [m * inverse for m in minors]
    total = minors[0] + minors[1] + minors[2]
    weights = [m / jnp.where(sound, total, 1) for m in minors]
    weights = [jnp.where(sound & (w > 0), w, 0) for w in weights]
    # A pixel on an edge may lie outside by a rounding error; its weights are brought back to sum to one.
    total = weights[0] + weights[1] + weights[2]
    return jnp.stack([w / jnp.where(total > 0, total, 1) for w in weights], axis=-1)


def _seen_faces(clip_positions, faces, face_index):
    """Corners of the face each pixel sees in pixel space, scaled and seen from the pixel."""
    return _local(_seen_corners(clip_positions, faces, face_index)[0], face_index)


def _seen_corners(clip_positions, faces, face_index):
    """Corners of the face each pixel sees in pixel space, and their vertices, both `(height, width, 3, ...)`."""
    vertices = jnp.stack(pixel_space(clip_positions, *face_index.shape), axis=-1)
    index = face_corners(faces, face_index, clip_positions.shape[0])
    index = jnp.where(face_index[..., None] >= 0, index, -1)
    return take_known(vertices, index), index


def _local(corners, face_index):
    column = lax.broadcasted_iota(corners.dtype, face_index.shape, 1)
    row = lax.broadcasted_iota(corners.dtype, face_index.shape, 0)
    # On background any sound triangle, so that nothing unsound is differentiated.
    spare = jnp.asarray([[0, 0, 1], [1, 0, 1], [0, 1, 1]], corners.dtype)
    corners = jnp.where((face_index >= 0)[..., None, None], corners, spare)
    corners = [[corners[..., k, i] for i in range(3)] for k in range(3)]
    scale = lax.stop_gradient(power_of_two_scale(*(v for corner in corners for v in corner)))
    local = []
    for x, y, w in corners:
        w = w * scale
        local.append((x * scale - column * w, y * scale - row * w, w))
    return local


def barycentric_derivatives(clip_positions: jax.Array, faces: jax.Array, face_index: jax.Array) -> jax.Array:
    """How each pixel's barycentrics change towards the next column and row, zero on background.

    Args:
        clip_positions: `(vertices, 4)`.
        faces: `(faces, 3)`.
        face_index: `(height, width)`, -1 on background.

    Returns:
        `(height, width, 3, 2)`: corner, then column and row.
    """
    height, width = face_index.shape
    if 0 in (faces.shape[0], clip_positions.shape[0]):
        return jnp.zeros((height, width, 3, 2), clip_positions.dtype)
    local = _seen_faces(clip_positions, faces, face_index)
    minors, steps = [], []
    for i, j in OTHERS:
        (xi, yi, wi), (xj, yj, wj) = local[i], local[j]
        minors.append(xi * yj - yi * xj)
        steps.append((yi * wj - wi * yj, wi * xj - xi * wj))
    total = minors[0] + minors[1] + minors[2]
    sound = (face_index >= 0) & (total != 0)
    inverse = 1 / jnp.where(sound, total, 1)
    result = []
    for axis in range(2):
        step_of_total = sum(step[axis] for step in steps)
        for minor, step in zip(minors, steps, strict=True):
            result.append((step[axis] - minor * inverse * step_of_total) * inverse)
    result = jnp.stack(result, axis=-1).reshape(height, width, 2, 3).swapaxes(-1, -2)
    return jnp.where(sound[..., None, None], result, 0)
