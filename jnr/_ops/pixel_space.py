"""Homogeneous pixel-space geometry shared by the plain-JAX definitions.

A vertex is `(x, y, w)` in *pixel space*: `x / w` is a column and `y / w` a row, with integers at pixel centres and rows
growing downwards. Nothing is divided by `w`, so vertices behind the camera are ordinary values (Olano and Greer 1997).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jnr._inline_jit import inline_jit


def pixel_space(clip_positions: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Pixel-space x, y and w, each `(...)`, from clip positions `(..., 4)`."""
    x, y, w = clip_positions[..., 0], clip_positions[..., 1], clip_positions[..., 3]
    return ((x + w) * width - w) * 0.5, ((w - y) * height - w) * 0.5, w


def is_projectable(clip_positions: jax.Array) -> jax.Array:
    """Whether a vertex has a place in the image: finite and in front of the camera, `(...)` from `(..., 4)`."""
    return jnp.all(jnp.isfinite(clip_positions), axis=-1) & (clip_positions[..., 3] > 0)


def clip_cotangent(grad_x: jax.Array, grad_y: jax.Array, clip_positions: jax.Array) -> jax.Array:
    """Cotangent of clip positions `(..., 4)` from that of clip x and y. NDC x is x / w, so w has a part; z has none."""
    projectable = is_projectable(clip_positions)
    toward = grad_x * clip_positions[..., 0] + grad_y * clip_positions[..., 1]
    grad_w = jnp.where(projectable, -toward / jnp.where(projectable, clip_positions[..., 3], 1), 0)
    return jnp.stack([grad_x, grad_y, jnp.zeros_like(grad_x), grad_w], axis=-1)


def edge_function(p: tuple, q: tuple, swap: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Coefficients `(a, b, c)` of `a x + b y + c`, positive on the inner side of edge p -> q of a front face.

    `swap` is true where q comes before p in a fixed order of the vertices. The products are formed in that order and
    the sign is applied after, so that both faces of a shared edge get the same numbers with opposite signs, also where
    the compiler contracts a product and a sum. So no pixel on the edge is missed by both faces.
    """
    (px, py, pw), (qx, qy, qw) = (
        [jnp.where(swap, b, a) for a, b in zip(p, q, strict=True)],
        [jnp.where(swap, a, b) for a, b in zip(p, q, strict=True)],
    )
    # Rows grow downwards, so a counter-clockwise face is clockwise here: hence -1 for p -> q.
    sign = jnp.where(swap, 1.0, -1.0).astype(px.dtype)
    return sign * (py * qw - pw * qy), sign * (pw * qx - px * qw), sign * (px * qy - py * qx)


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
