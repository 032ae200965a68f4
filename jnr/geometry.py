"""Normals of meshes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import lax

from jnr import _checks
from jnr._xla.geometry import power_of_two_scale, take_where

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


def face_normals(vertices: Float[Array, "vertices 3"], faces: Int[Array, "faces 3"]) -> Float[Array, "faces 3"]:
    """Unit normals of faces, towards the side from which they are counter-clockwise; zero for degenerate faces.

    Gradients: reach `vertices`; zero at degenerate faces.
    """
    vertices = _checks.as_compute(vertices, "vertices")
    _checks.check_shape(vertices, "vertices", "vertices", 3)
    faces = _checks.as_faces(faces, vertices.shape[0])
    return unit(_cross_products(vertices, faces))


def vertex_normals(vertices: Float[Array, "vertices 3"], faces: Int[Array, "faces 3"]) -> Float[Array, "vertices 3"]:
    """Unit normals of a smooth surface through the vertices: the mean of the faces' around each, by their areas.

    Zero for vertices without a face that has an area. Vertices at the same place that are not one vertex have normals
    of their own, so a seam stays an edge.

    Gradients: reach `vertices`.

    References:
        Gouraud, Continuous shading of curved surfaces, 1971.
    """
    vertices = _checks.as_compute(vertices, "vertices")
    _checks.check_shape(vertices, "vertices", "vertices", 3)
    faces = _checks.as_faces(faces, vertices.shape[0])
    if 0 in (vertices.shape[0], faces.shape[0]):
        return jnp.zeros_like(vertices)
    # One scale for the whole mesh, so that areas compare.
    sound = jnp.where(jnp.isfinite(vertices), vertices, 0)
    scale = lax.stop_gradient(power_of_two_scale(jnp.max(jnp.abs(sound - sound[:1]))))
    products = _cross_products(vertices * scale, faces, rescaled=False)
    total = jnp.zeros_like(vertices)
    for k in range(3):
        total = total.at[jnp.where(faces[:, k] < 0, vertices.shape[0], faces[:, k])].add(products, mode="drop")
    return unit(_near_one(total))


def _cross_products(vertices, faces, *, rescaled=True):
    """A vector along each face's normal, twice its area long unless rescaled; zero for faces that have none."""
    if 0 in (vertices.shape[0], faces.shape[0]):
        return jnp.zeros((faces.shape[0], 3), vertices.dtype)
    corner = jnp.stack(at_corners(vertices, faces))
    # Masked before the product: its derivative would be NaN times zero.
    sound = jnp.all(faces >= 0, axis=-1) & jnp.all(jnp.isfinite(corner), axis=(0, 2))
    corner = jnp.where(sound[:, None], corner, 0)
    # Around corner 1 as in Neural Renderer: where a face lies along the light, the last bit decides.
    forward, back = corner[2] - corner[1], corner[0] - corner[1]
    if rescaled:
        forward, back = _near_one(forward), _near_one(back)
    return jnp.cross(forward, back)


def unit(normal: jax.Array) -> jax.Array:
    """Vectors along the last axis brought to length 1, zero where they have no direction."""
    # Not jnp.sum, whose order of terms depends on the shape of the array.
    x, y, z = (normal[..., i : i + 1] for i in range(3))
    squared = x * x + y * y + z * z
    sound = (squared > 0) & jnp.isfinite(squared)
    # Not rsqrt, whose last bit depends on the size of the array.
    return jnp.where(sound, normal, 0) / jnp.sqrt(jnp.where(sound, squared, 1))


def _near_one(vectors):
    """The same directions, scaled so that products of their coordinates neither overflow nor vanish."""
    scale = power_of_two_scale(*(vectors[..., i] for i in range(3)))
    return vectors * lax.stop_gradient(scale)[..., None]


def at_corners(values, faces):
    """Rows of per-vertex values at each corner of the faces; zeros for padding, which gives back no cotangent."""
    return [take_where(faces[:, k] >= 0, values, faces[:, k]) for k in range(3)]
