"""The point of its face that each pixel sees, in plain JAX, and its derivatives by JAX."""

import jax
import jax.numpy as jnp
from jax import lax

from jnr._xla.geometry import mapped, pixel_space, power_of_two_scale, take, take_where

# Of each corner, in the order of its minor.
OTHERS = ((1, 2), (2, 0), (0, 1))


def face_corners(faces: jax.Array, face_index: jax.Array, num_vertices: int) -> list[jax.Array]:
    """Vertex index of each corner of the face a pixel sees, each `(height, width)`; anything on background."""
    rows = take(faces, jnp.maximum(face_index, 0))
    return [jnp.clip(rows[..., k], 0, num_vertices - 1) for k in range(3)]


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
    cotangent: jax.Array, clip_positions: jax.Array, faces: jax.Array, face_index: jax.Array, *, sums: int
) -> jax.Array:
    """Cotangent of the clip positions.

    Args:
        cotangent: `(1 or batch, height, width, 3)`.
        clip_positions: As for `resolve`.
        faces: As for `resolve`.
        face_index: As for `resolve`.
        sums: How many cotangents there are, each of as many items of the batch that follow each other.

    Returns:
        `(sums, vertices, 4)`.
    """

    def single(cotangent, clip_positions, faces, face_index):
        return jax.vjp(lambda clip: _resolve(clip, faces, face_index), clip_positions)[1](cotangent)[0]

    grad = mapped(single, cotangent, clip_positions, faces, face_index)
    return grad.reshape(sums, -1, *grad.shape[1:]).sum(axis=1)


def _resolve(clip_positions, faces, face_index):
    height, width = face_index.shape
    if 0 in (faces.shape[0], clip_positions.shape[0]):
        return jnp.zeros((height, width, 3), clip_positions.dtype)
    covered = face_index >= 0
    local = _seen_faces(clip_positions, faces, face_index)
    # The pixel's ray meets the face at sum(b * corner): the weights are three-by-three minors.
    minors = []
    for i, j in OTHERS:
        (xi, yi, _), (xj, yj, _) = local[i], local[j]
        minors.append(xi * yj - yi * xj)
    total = minors[0] + minors[1] + minors[2]
    sound = covered & (total != 0)
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
    height, width = face_index.shape
    vertices = jnp.stack(pixel_space(clip_positions, height, width), axis=-1)
    column = lax.broadcasted_iota(vertices.dtype, (height, width), 1)
    row = lax.broadcasted_iota(vertices.dtype, (height, width), 0)
    covered = face_index >= 0
    # On background any sound triangle, so that nothing unsound is differentiated.
    spare = [(0.0, 0.0, 1.0), (1.0, 0.0, 1.0), (0.0, 1.0, 1.0)]
    corners = []
    for index, sound in zip(face_corners(faces, face_index, clip_positions.shape[0]), spare, strict=True):
        corner = take_where(covered, vertices, index)
        corners.append([jnp.where(covered, corner[..., i], sound[i]) for i in range(3)])
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
