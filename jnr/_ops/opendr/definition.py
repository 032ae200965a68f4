"""Backward pass of OpenDR's gradient in plain JAX, and the occlusion boundaries that it treats separately."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jnr._ops.barycentrics.definition import clamped_corners
from jnr._ops.indexing import gather_in_bounds, map_batch
from jnr._ops.pixel_space import clip_cotangent, is_projectable, pixel_space, power_of_two_scale

# NDC depth: a surface that is less than this behind a face counts as the face's own.
TOUCHING = 1e-6


def opendr_bwd(
    image: jax.Array,
    cotangent: jax.Array,
    clip_positions: jax.Array,
    faces: jax.Array,
    face_index: jax.Array,
    barycentric: jax.Array,
    boundary: jax.Array,
    *,
    one_sided: bool,
) -> jax.Array:
    """Cotangent of the clip positions.

    Args:
        image: `(1 or batch, height, width, channels)`.
        cotangent: The image's cotangent, of the same shape.
        clip_positions: `(1 or batch, vertices, 4)`.
        faces: `(1 or batch, faces, 3)`.
        face_index: `(1 or batch, height, width)`.
        barycentric: `(1 or batch, height, width, 3)`.
        boundary: Pixels on an occlusion boundary, `(1 or batch, height, width)`.
        one_sided: Whether differences avoid the boundary pixels. Without it `boundary` has no effect.

    Returns:
        `(batch, vertices, 4)`; the z column is zero.
    """
    operands = image, cotangent, clip_positions, faces, face_index, barycentric, boundary
    batch = max(operand.shape[0] for operand in operands)
    if 0 in (batch, clip_positions.shape[1], faces.shape[1], image.size):
        return jnp.zeros((batch, clip_positions.shape[1], 4), clip_positions.dtype)
    return map_batch(partial(_single, one_sided=one_sided), *operands)


def _single(image, cotangent, clip_positions, faces, face_index, barycentric, boundary, *, one_sided):
    height, width = face_index.shape
    covered = face_index >= 0
    index = clamped_corners(faces, face_index, clip_positions.shape[0])
    grads = []
    for axis, size in ((1, width), (0, height)):
        # If the mesh moves by a pixel, the pixel takes the colour of the pixel before it: hence the minus sign.
        slope = _differences(image, axis, boundary if one_sided else None)
        # Channel by channel: with a batch of cotangents of one image, XLA for the CPU (jax 0.10) computes a wrong
        # product of the masked sum.
        pull = -sum(slope[..., c] * cotangent[..., c] for c in range(image.shape[-1]))
        pull = jnp.where(covered, pull, 0) * (size / 2)
        grad = jnp.zeros(clip_positions.shape[0], clip_positions.dtype)
        for k in range(3):
            row = jnp.where(covered, index[..., k], grad.shape[0])
            grad = grad.at[row].add(pull * barycentric[..., k], mode="drop")
        grads.append(grad)
    # From NDC, x / w, to clip space.
    projectable = is_projectable(clip_positions)
    divisor = jnp.where(projectable, clip_positions[:, 3], 1)
    # Rows grow downwards and y upwards.
    grad_x, grad_y = (jnp.where(projectable, grad / divisor, 0) for grad in (grads[0], -grads[1]))
    return clip_cotangent(grad_x, grad_y, clip_positions)


def _differences(image, axis, boundary):
    """Differences of the image per pixel along an axis, `(height, width, channels)`.

    Without `boundary`: central differences, with the image extended by its last pixel. With it: the mean of the
    differences to either side that neither start nor end at a boundary pixel nor leave the image; where there is no
    such difference, twice the central difference.
    """
    image = jnp.moveaxis(image, axis, 0)
    step = image[1:] - image[:-1]
    none = jnp.zeros_like(image[:1])
    forward, backward = jnp.concatenate([step, none]), jnp.concatenate([none, step])
    if boundary is None:
        return jnp.moveaxis((forward + backward) / 2, 0, axis)
    boundary = jnp.moveaxis(boundary, axis, 0)[..., None]
    valid = ~(boundary[1:] | boundary[:-1])
    end = jnp.zeros_like(boundary[:1])
    has_forward, has_backward = jnp.concatenate([valid, end]), jnp.concatenate([end, valid])
    count = has_forward.astype(image.dtype) + has_backward.astype(image.dtype)
    mean = (jnp.where(has_forward, forward, 0) + jnp.where(has_backward, backward, 0)) / jnp.maximum(count, 1)
    return jnp.moveaxis(jnp.where(count > 0, mean, forward + backward), 0, axis)


def occlusion_boundary(clip_positions: jax.Array, faces: jax.Array, face_index: jax.Array) -> jax.Array:
    """Pixels whose face ends before a neighbour that sees something behind it, `(height, width)` bool.

    The neighbour sees background, or a face that shares no vertex with this one and whose plane passes behind this
    pixel's point by more than the plane's slope per pixel plus the change of that slope over the next pixel.

    Args:
        clip_positions: `(vertices, 4)`.
        faces: `(faces, 3)`.
        face_index: `(height, width)`.
    """
    if 0 in (clip_positions.shape[0], faces.shape[0]):
        return jnp.zeros(face_index.shape, bool)
    covered = face_index >= 0
    index = clamped_corners(faces, face_index, clip_positions.shape[0])
    depth, *slopes = _plane_depth(clip_positions, index)
    boundary = jnp.zeros(face_index.shape, bool)
    for axis, slope in enumerate(slopes):
        position = lax.broadcasted_iota(jnp.int32, face_index.shape, axis)
        for shift in (1, -1):
            exists, next_exists = (
                (position + n * shift >= 0) & (position + n * shift < face_index.shape[axis]) for n in (1, 2)
            )
            their_index, their_slope = jnp.roll(index, -shift, axis), jnp.roll(slope, -shift, axis)
            at_us = jnp.roll(depth, -shift, axis) - shift * their_slope
            # A curved surface of pixel-sized faces departs from the neighbour's plane by half of the change of its
            # slope over a pixel, which the slope alone does not cover in the bottom of a dent.
            bend = jnp.abs(jnp.roll(slope, -2 * shift, axis) - their_slope)
            bend = jnp.where(next_exists & jnp.roll(covered, -2 * shift, axis), bend, 0)
            behind = at_us - depth > jnp.abs(their_slope) + bend + TOUCHING
            apart = ~jnp.any(index[..., :, None] == their_index[..., None, :], axis=(-2, -1))
            boundary |= exists & (~jnp.roll(covered, -shift, axis) | (apart & behind))
    return covered & boundary


def _plane_depth(clip_positions, index):
    """NDC depth at each pixel of the plane through the corners `index` `(height, width, 3)`, 0 where it is undefined.

    Also its slopes per row and per column.
    """
    height, width = index.shape[:2]
    x, y, w = pixel_space(clip_positions, height, width)
    corner = gather_in_bounds(jnp.stack([x, y, w, clip_positions[:, 2]], axis=-1), index)
    x, y, w, z = ([corner[..., k, i] for k in range(3)] for i in range(4))
    scale = power_of_two_scale(*x, *y, *w)
    column = lax.broadcasted_iota(scale.dtype, (height, width), 1)
    row = lax.broadcasted_iota(scale.dtype, (height, width), 0)
    x, y, w, z = ([value * scale for value in values] for values in (x, y, w, z))
    x = [x[k] - column * w[k] for k in range(3)]
    y = [y[k] - row * w[k] for k in range(3)]
    # Relative to the pixel. The minors are the third components of the corners' cross products; the other components
    # are their derivatives.
    pairs = (1, 2), (2, 0), (0, 1)
    minors = [x[i] * y[j] - y[i] * x[j] for i, j in pairs]
    by_row = [w[i] * x[j] - x[i] * w[j] for i, j in pairs]
    by_column = [y[i] * w[j] - w[i] * y[j] for i, j in pairs]
    det = sum(minors[k] * w[k] for k in range(3))
    plane = [sum(m[k] * z[k] for k in range(3)) / jnp.where(det != 0, det, 1) for m in (minors, by_row, by_column)]
    valid = (det != 0) & jnp.isfinite(plane[0]) & jnp.isfinite(plane[1]) & jnp.isfinite(plane[2])
    return [jnp.where(valid, value, 0) for value in plane]
