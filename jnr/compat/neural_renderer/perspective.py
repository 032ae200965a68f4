"""Perspective division."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jnr import _checks
from jnr.compat.neural_renderer._batch import as_vertices, over_batch


def perspective(
    vertices: Float[ArrayLike, "#batch vertices 3"], angle: ArrayLike = 30.0
) -> Float[Array, "batch vertices 3"]:
    """Projects camera-space points to the screen: x and y are divided by `z * tan(angle)`, z is kept.

    Gradients: reach both arguments.

    Args:
        vertices: Positions in the space of a camera that looks along +z.
        angle: Half the field of view, in degrees.
    """

    def one(vertices, angle):
        extent = vertices[:, 2:] * jnp.tan(jnp.deg2rad(_checks.as_compute(angle, "angle"))).astype(vertices.dtype)
        return jnp.concatenate([vertices[:, :2] / extent, vertices[:, 2:]], axis=-1)

    return over_batch(one, as_vertices(vertices), angle=(angle, 0))
