"""Homogeneous pixel-space geometry shared by the plain-JAX definitions.

A vertex is `(x, y, w)` in *pixel space*: `x / w` is a column and `y / w` a row, with integers at pixel centres and rows
growing downwards. Nothing is divided by `w`, so vertices behind the camera are ordinary values (Olano and Greer 1997).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jnr._inline_jit import inline_jit


def pixel_space(clip_positions: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Pixel-space x, y and w, each `(...)`, from clip positions `(..., 4)`."""
    x, y, w = clip_positions[..., 0], clip_positions[..., 1], clip_positions[..., 3]
    return ((x + w) * width - w) * 0.5, ((w - y) * height - w) * 0.5, w


def clip_cotangent_of_pixels(grad: jax.Array, height: int, width: int) -> jax.Array:
    """Cotangent of clip positions `(..., 4)` from that of pixel-space x, y and w, `(..., 3)`."""
    clip_like = jax.ShapeDtypeStruct((*grad.shape[:-1], 4), grad.dtype)
    transpose = jax.linear_transpose(partial(pixel_space, height=height, width=width), clip_like)
    return transpose(tuple(jnp.moveaxis(grad, -1, 0)))[0]


def is_projectable(clip_positions: jax.Array) -> jax.Array:
    """Whether a vertex has a place in the image: finite and in front of the camera, `(...)` from `(..., 4)`."""
    x, y, z, w = (clip_positions[..., k] for k in range(4))
    # Not jnp.all: on a GPU XLA fuses no reduction with the operations that use its result.
    return jnp.isfinite(x) & jnp.isfinite(y) & jnp.isfinite(z) & jnp.isfinite(w) & (w > 0)


def clip_cotangent(grad_x: jax.Array, grad_y: jax.Array, clip_positions: jax.Array) -> jax.Array:
    """Cotangent of clip positions `(..., 4)` from that of clip x and y. NDC x is x / w, so w has a part; z has none."""
    projectable = is_projectable(clip_positions)
    toward = grad_x * clip_positions[..., 0] + grad_y * clip_positions[..., 1]
    grad_w = jnp.where(projectable, -toward / jnp.where(projectable, clip_positions[..., 3], 1), 0)
    return jnp.stack([grad_x, grad_y, jnp.zeros_like(grad_x), grad_w], axis=-1)


def cross(p: tuple, q: tuple) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The cross product of two points `(x, y, w)`: coefficients `(a, b, c)` of a function that is zero on their line.

    Faces that share an edge form it from the same points in the same order, see `in_order`. So they get the same
    numbers, also where the compiler contracts a product and a sum, and no pixel on the edge is missed by both.
    """
    (px, py, pw), (qx, qy, qw) = p, q
    return py * qw - pw * qy, pw * qx - px * qw, px * qy - py * qx


def precedes(p: tuple, q: tuple) -> jax.Array:
    """Whether a point `(x, y, w, ...)` comes before another one in an order of positions."""
    (px, py, pw), (qx, qy, qw) = p[:3], q[:3]
    return (px < qx) | ((px == qx) & ((py < qy) | ((py == qy) & (pw < qw))))


def in_order(corners: list[tuple]) -> tuple[list[tuple], jax.Array]:
    """The three corners `(x, y, w, ...)` of faces in an order that their positions determine, and its sign.

    The sign is 1 for an even permutation and -1 for an odd one. Faces with the same corners have the same result, but
    for the sign, whichever way round they are listed.
    """
    sign = jnp.ones_like(corners[0][0])
    for i, j in ((0, 1), (1, 2), (0, 1)):
        swap = precedes(corners[j], corners[i])
        first = tuple(jnp.where(swap, b, a) for a, b in zip(corners[i], corners[j], strict=True))
        second = tuple(jnp.where(swap, a, b) for a, b in zip(corners[i], corners[j], strict=True))
        corners = [first if k == i else second if k == j else corner for k, corner in enumerate(corners)]
        sign = jnp.where(swap, -sign, sign)
    return corners, sign


@inline_jit()
def power_of_two_scale(*values: jax.Array) -> jax.Array:
    """A power of two that brings the largest of the absolute values near 1: an exact rescaling."""
    largest = jnp.abs(values[0])
    for value in values[1:]:
        largest = jnp.maximum(largest, jnp.abs(value))
    # By the bits, since frexp is slow: the exponent field alone is the power of two below a float32.
    largest = jnp.clip(largest.astype(jnp.float32), 2.0**-126, 2.0**126)
    exponent = lax.bitcast_convert_type(largest, jnp.int32) & 0x7F800000
    scale = lax.bitcast_convert_type(np.int32(254 << 23) - exponent, jnp.float32)
    return scale.astype(values[0].dtype)
