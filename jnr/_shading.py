"""Shading: the colour of a visible surface from texture, normal and lights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jnr import _checks
from jnr._inline_jit import inline_jit
from jnr._lights import AmbientLight, DirectionalLight, Light, add, diffuse, with_rank
from jnr._ops.lighting.definition import phong_highlight
from jnr._ops.rasterize import Fragments
from jnr._pytree import pytree


class Surface(NamedTuple):
    """The surface that each pixel sees, as a shader receives it. All fields are zero on background.

    Attributes:
        albedo: Colour of the texture.
        position: Position in world space.
        normal: Unit normal in world space, on the visible side.
        viewer: Unit vector towards the camera.
        attributes: `render`'s attributes, interpolated, without channels if none were given.
        fragments: From `rasterize`.
        lights: `render`'s lights.
    """

    albedo: Float[Array, "height width channels"]
    position: Float[Array, "height width 3"]
    normal: Float[Array, "height width 3"]
    viewer: Float[Array, "height width 3"]
    attributes: Float[Array, "height width attributes"]
    fragments: Fragments
    lights: tuple[Light, ...]


@runtime_checkable
class Shader(Protocol):
    """A shader: any function from a `Surface` to colours."""

    def __call__(self, surface: Surface) -> Float[Array, "height width channels"]:
        """The colour of each pixel; values on background are not used."""
        ...


@pytree()
class Lambert:
    """A diffuse surface: the texture times the light."""

    def __call__(self, surface: Surface) -> Float[Array, "height width channels"]:
        """The colour of each pixel."""
        return lambert(surface.albedo, surface.lights, surface.position, surface.normal)


@pytree()
class Phong:
    """A diffuse surface with specular highlights.

    Each light with a direction adds `specular * color * max(0, r . v) ^ shininess` to `Lambert`'s colour, where r is
    the reflected direction of the light and v the direction of the viewer, on the side that the light illuminates.

    Attributes:
        specular: Strength of the highlights: a scalar, or one value per channel.
        shininess: Exponent; larger values give smaller highlights.

    References:
        Phong, Illumination for computer generated pictures, 1975.
    """

    specular: ArrayLike | Sequence[float] = 0.5
    shininess: ArrayLike = 32.0

    def __call__(self, surface: Surface) -> Float[Array, "height width channels"]:
        """The colour of each pixel."""
        specular, shininess = _numbers_of(self, surface.albedo.shape[-1], like=surface.normal)
        highlights = jnp.zeros((*surface.normal.shape[:-1], 1), surface.normal.dtype)
        for light in surface.lights:
            color, toward = light.arriving(surface.position, surface.normal)
            if toward is None:
                continue
            highlight = _highlight(toward, surface.normal, surface.viewer, shininess)
            highlights = add(highlights, with_rank(color, highlight.ndim) * highlight)
        color = Lambert()(surface)
        return color + _in_channels_of(color, highlights * with_rank(specular, highlights.ndim))


def is_built_in(shader: Shader | None, lights: Sequence[Light]) -> bool:
    """Whether `light_rows` describes the shader and the lights."""
    shaders = (type(None), Lambert, Phong)
    return type(shader) in shaders and all(type(light) in (AmbientLight, DirectionalLight) for light in lights)


def light_rows(
    shader: Shader | None, lights: Sequence[Light], *, channels: int, like: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The lights and the highlights as the op of jnr/_ops/lighting takes them, where `is_built_in`."""
    point = jnp.zeros((1, 3), like.dtype)
    arriving = [light.arriving(point, point) for light in lights]
    for color, _ in arriving:
        check_channels(color, channels)
    highlight = _numbers_of(shader, channels, like=like) if isinstance(shader, Phong) else None
    return _rows(arriving, highlight, point, channels)


@inline_jit("channels")
def _rows(arriving, highlight, point, channels):
    def in_channels(color):
        return jnp.broadcast_to(with_rank(color, 2), (1, channels))

    ambient = [in_channels(color) for color, toward in arriving if toward is None]
    ambient = reduce(jnp.add, ambient, jnp.zeros((1, channels), point.dtype))
    rows = [jnp.concatenate([with_rank(d, 2), in_channels(c)], axis=1) for c, d in arriving if d is not None]
    rows = jnp.concatenate([jnp.concatenate([point, ambient], axis=1), *rows])
    if highlight is None:
        return rows, jnp.zeros(channels + 1, point.dtype)
    specular, shininess = highlight
    return rows, jnp.concatenate([jnp.broadcast_to(specular, channels), shininess[None]])


def _numbers_of(phong, channels, *, like):
    specular = _checks.as_compute(phong.specular, "specular", like=like)
    _checks.check_finite(phong.specular, "specular")
    if specular.ndim > 1 or specular.size not in (1, channels):
        raise ValueError(f"specular must be a number or have one value per channel, got shape {specular.shape}.")
    return specular, _checks.as_finite(phong.shininess, "shininess", (), like=like)


@inline_jit()
def _highlight(toward, normal, viewer, shininess):
    return phong_highlight(normal, with_rank(toward, normal.ndim), viewer, shininess)


def lambert(albedo: jax.Array, lights: Sequence[Light], position: jax.Array, normal: jax.Array) -> jax.Array:
    """The texture times the light at each pixel."""
    return albedo * _in_channels_of(albedo, diffuse(lights, position, normal))


def match_channels(light: jax.Array, color: jax.Array) -> jax.Array:
    """The light in the colour's dtype; it must have one channel or as many as the colour."""
    check_channels(light, color.shape[-1])
    return light.astype(color.dtype)


def check_channels(light: jax.Array, channels: int) -> None:
    """Raises unless a light has one channel or as many as the textures."""
    if light.shape[-1] not in (1, channels):
        raise ValueError(f"lights must have one colour channel or the textures' {channels}, got {light.shape[-1]}.")


def _in_channels_of(color, light):
    """The light with one value per channel of the colour."""
    light = match_channels(light, color)
    # Not broadcast: its transpose sums over an axis of three, for which XLA's code for CPUs is slow.
    return light if light.shape[-1] == color.shape[-1] else jnp.concatenate([light] * color.shape[-1], axis=-1)
