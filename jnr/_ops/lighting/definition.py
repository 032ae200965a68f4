"""Diffuse surfaces with highlights under lights from infinity, in plain JAX. README.md beside this file derives it."""

import jax
import jax.numpy as jnp

from jnr._ops.batching import batch_size
from jnr._ops.normals.definition import unit, unit_vectors, without_size


def lit_colors(
    surface: jax.Array, albedo: jax.Array, side: jax.Array, lights: jax.Array, highlight: jax.Array, viewer: jax.Array
) -> jax.Array:
    """Colours of points of surfaces under lights that are the same everywhere.

    Args:
        surface: `(1 or batch, count, 4)`: a normal of any length with its size behind it, as `unit_vectors` takes it;
            or `(1 or batch, count, 8)` with the position and a number that is not used behind that, for surfaces with
            highlights.
        albedo: Colours of the texture, `(1 or batch, count, channels)`.
        side: 1 where the normal points to the visible side, else -1: `(1 or batch, count)`.
        lights: A row per light, `(1 or batch, 1 + lights, 3 + channels)`: the vector towards the light and its colour.
            The first row is the ambient light; its vector is not used.
        highlight: The strength of highlights per channel, and their exponent: `(1 or batch, channels + 1)`.
        viewer: Where all rays meet, as `Camera.viewer` gives it: `(1 or batch, 4)`.

    Returns:
        `(batch, count, channels)`.
    """
    normal = unit_vectors(surface[..., :4]) * side[..., None]
    toward_viewer = _toward_viewer(surface, viewer) if surface.shape[-1] == 8 else None
    light, shine = lights[:, :1, 3:], 0
    for k in range(1, lights.shape[1]):
        toward, color = lights[:, k : k + 1, :3], lights[:, k : k + 1, 3:]
        cosine = dot(normal, toward)
        light = light + color * jnp.where(cosine > 0, cosine, 0)
        if toward_viewer is not None:
            shine = shine + color * phong_highlight(normal, toward, toward_viewer, highlight[:, None, -1:])
    color = albedo * light
    if toward_viewer is not None:
        color = color + shine * highlight[:, None, :-1]
    return jnp.broadcast_to(color, (batch_size((surface, albedo, side, lights, highlight, viewer)), *albedo.shape[1:]))


def _toward_viewer(surface, viewer):
    # Every ray has a direction.
    return unit_vectors(without_size(viewer[:, None, :3] - viewer[:, None, 3:] * surface[..., 4:7]))


def phong_highlight(normal: jax.Array, toward: jax.Array, viewer: jax.Array, exponent: jax.Array) -> jax.Array:
    """A light's highlight, along a last axis of size 1. All vectors are unit vectors but `toward`, of any length."""
    toward = unit(toward)
    cosine = dot(normal, toward)
    # The viewer's cosine with the reflected direction 2 cosine normal - toward, without this vector.
    mirrored = 2 * cosine * dot(normal, viewer) - dot(toward, viewer)
    shines = (cosine > 0) & (mirrored > 0)
    return jnp.where(shines, jnp.where(shines, mirrored, 1) ** exponent, 0)


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """Scalar products along the last axis, which is kept with size 1."""
    # Not the sum of a product: its order of terms depends on the shape of the array, and XLA for the CPU (jax 0.10)
    # computes it wrongly where a mask and a batch meet.
    x, y, z = (a[..., i : i + 1] * b[..., i : i + 1] for i in range(3))
    return x + y + z
