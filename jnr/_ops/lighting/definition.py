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
        cosine = _dot(normal, toward)
        light = light + color * jnp.where(cosine > 0, cosine, 0)
        if toward_viewer is not None:
            toward = unit(toward)
            cosine = _dot(normal, toward)
            # The viewer's cosine with the reflected direction 2 cosine normal - toward.
            mirrored = 2 * cosine * _dot(normal, toward_viewer) - _dot(toward, toward_viewer)
            shines = (cosine > 0) & (mirrored > 0)
            power = jnp.where(shines, mirrored, 1) ** highlight[:, None, -1:]
            shine = shine + color * jnp.where(shines, power, 0)
    color = albedo * light
    if toward_viewer is not None:
        color = color + shine * highlight[:, None, :-1]
    return jnp.broadcast_to(color, (batch_size((surface, albedo, side, lights, highlight, viewer)), *albedo.shape[1:]))


def _toward_viewer(surface, viewer):
    # Every ray has a direction.
    return unit_vectors(without_size(viewer[:, None, :3] - viewer[:, None, 3:] * surface[..., 4:7]))


def _dot(a, b):
    # Not jnp.sum: its order of terms depends on the shape of the array.
    x, y, z = (a[..., i : i + 1] * b[..., i : i + 1] for i in range(3))
    return x + y + z
