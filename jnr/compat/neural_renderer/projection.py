"""The calibrated camera."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jnr.compat.neural_renderer._batch import as_vertices, over_batch
from jnr.compat.neural_renderer._cameras import calibrated, calibration


def projection(
    vertices: Float[ArrayLike, "#batch vertices 3"],
    K: Float[ArrayLike, "3 3"] | Float[ArrayLike, "#batch 3 3"],
    R: Float[ArrayLike, "3 3"] | Float[ArrayLike, "#batch 3 3"],
    t: Float[ArrayLike, " 3"] | Float[ArrayLike, "#batch 3"] | Float[ArrayLike, "#batch 1 3"],
    dist_coeffs: Float[ArrayLike, " 5"] | Float[ArrayLike, "#batch 5"] | None,
    orig_size: ArrayLike,
    eps: float = 1e-9,
) -> Float[Array, "batch vertices 3"]:
    """Projects world points to the screen of a calibrated camera.

    The result has x and y in [-1, 1] across the image, y up, and the depth along the optical axis.

    Gradients: reach `vertices`, `K`, `R`, `t`, `dist_coeffs` and `orig_size`.

    Args:
        vertices: Positions in world space.
        K: Matrix from (x / z, y / z, 1) to pixels of a square image whose first pixel extends from 0 to 1. Any numbers
            are allowed, such as negative focal lengths; the third row is not used.
        R: Rotation from world to camera, in OpenCV's axes (x right, y down, z forward).
        t: World origin in camera coordinates.
        dist_coeffs: k1, k2, p1, p2, k3 of OpenCV's distortion model; None for no distortion.
        orig_size: Width and height of that image, in pixels.
        eps: Replaces a depth of exactly zero in the division.

    Raises:
        TypeError: If an argument is not an array of the right kind of numbers.
        ValueError: If a shape is wrong, or a number of the camera not finite.
    """

    def one(vertices, **camera):
        clip = calibrated(**camera).clip_positions(vertices)
        depth = clip[:, 3:]
        return jnp.concatenate([clip[:, :2] / jnp.where(depth == 0, eps, depth), depth], axis=-1)

    return over_batch(one, as_vertices(vertices), **calibration(K, R, t, dist_coeffs, orig_size))
