"""Lights. Every class is a pytree. All of its numbers can be differentiated, mapped and optimized."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from jnr import _checks
from jnr._inline_jit import inline_jit
from jnr._ops.lighting.definition import dot
from jnr._pytree import pytree


class Arriving(NamedTuple):
    """Light that arrives at points.

    Attributes:
        color: Colour of the light, with one or several channels.
        toward: Vector towards the light. A surface receives the colour times the positive part of the scalar product of
            this vector and its normal. None for light that does not depend on the normal in this way.
    """

    color: Float[Array, "*points channels"]
    toward: Float[Array, "*points 3"] | None = None


@runtime_checkable
class Light(Protocol):
    """A light: any pytree with this method."""

    def arriving(self, position: Float[Array, "*points 3"], normal: Float[Array, "*points 3"]) -> Arriving:
        """The light at points of a surface, in world space."""
        ...


@pytree()
class AmbientLight:
    """Light of equal intensity from all directions.

    Attributes:
        intensity: Factor on the colour.
        color: A scalar, or one value per channel.
    """

    intensity: ArrayLike = 0.5
    color: ArrayLike | Sequence[float] = 1.0
    # Whether the light at a point depends on where the point is.
    local: ClassVar[bool] = False

    def arriving(self, position: Float[Array, "*points 3"], normal: Float[Array, "*points 3"]) -> Arriving:
        """The light at points of a surface."""
        del position
        return Arriving(_color(self, normal))


@pytree()
class DirectionalLight:
    """Light from an infinite distance.

    A surface receives `intensity * color * max(0, normal . direction)`.

    Attributes:
        intensity: Factor on the colour.
        color: A scalar, or one value per channel.
        direction: Direction towards the light; not normalized, so its length scales the light.
    """

    intensity: ArrayLike = 0.5
    color: ArrayLike | Sequence[float] = 1.0
    direction: ArrayLike | Sequence[float] = (0.0, 1.0, 0.0)
    local: ClassVar[bool] = False

    def arriving(self, position: Float[Array, "*points 3"], normal: Float[Array, "*points 3"]) -> Arriving:
        """The light at points of a surface."""
        del position
        return Arriving(_color(self, normal), _numbers(self, "direction", normal, 3))


@pytree()
class PointLight:
    """Light from a point.

    A surface at distance d receives `intensity * color * max(0, cosine) / (a + b d + c d^2)`.

    Attributes:
        intensity: Factor on the colour.
        color: A scalar, or one value per channel.
        position: Position of the light, in world space.
        attenuation: a, b and c above: (1, 0, 0) is constant, (0, 0, 1) is the inverse square law.
    """

    intensity: ArrayLike = 0.5
    color: ArrayLike | Sequence[float] = 1.0
    position: ArrayLike | Sequence[float] = (0.0, 1.0, 2.0)
    attenuation: ArrayLike | Sequence[float] = (1.0, 0.0, 0.0)
    local: ClassVar[bool] = True

    def arriving(self, position: Float[Array, "*points 3"], normal: Float[Array, "*points 3"]) -> Arriving:
        """The light at points of a surface."""
        light, attenuation = (_numbers(self, name, position, 3) for name in ("position", "attenuation"))
        return Arriving(*_from_point(_color(self, normal), light, attenuation, position))


@pytree()
class SphericalHarmonicsLight:
    """Environment light, given by the nine spherical harmonics of degree 0 to 2 of the incoming radiance.

    A surface receives the mean radiance over its hemisphere, weighted by the cosine: a constant radiance of 1, whose
    first coefficient is `sqrt(4 pi)`, gives 1. The result may be negative where the coefficients describe no
    environment.

    Attributes:
        coefficients: Coefficients of 1, y, z, x, xy, yz, 3z^2 - 1, xz, x^2 - y^2 in this order (degree, then order),
            with the usual orthonormal factors; one row each, with one or several channels.

    References:
        Ramamoorthi and Hanrahan, An efficient representation for irradiance environment maps, 2001, equation 10.
    """

    coefficients: Float[ArrayLike, "... 9 channels"] | Float[ArrayLike, "... 9"]
    local: ClassVar[bool] = False

    def arriving(self, position: Float[Array, "*points 3"], normal: Float[Array, "*points 3"]) -> Arriving:
        """The light at points of a surface."""
        del position
        coefficients = _numbers(self, "coefficients", normal)
        if coefficients.ndim == 1:
            coefficients = coefficients[:, None]
        _checks.check_shape(coefficients, "coefficients", 9, "channels")
        return Arriving(_irradiance(coefficients, normal))


# From the upper right behind the default camera, so that shading shows the relief.
DEFAULT_LIGHTS = (AmbientLight(0.4), DirectionalLight(0.6, direction=(0.4243, 0.5657, 0.7071)))


def depends_on_position(light: Light) -> bool:
    """Whether the light at a point depends on the position of the point; any light of one's own may."""
    return getattr(light, "local", True)


def check_lights(lights: Sequence[Light] | None) -> tuple[Light, ...]:
    """The lights as a tuple; the default lights for None."""
    if lights is None:
        return DEFAULT_LIGHTS
    if not isinstance(lights, Sequence) or isinstance(lights, str):
        raise TypeError(f"lights must be a sequence of lights, got {type(lights).__name__}.")
    for light in lights:
        if not isinstance(light, Light) or isinstance(light, type):
            raise TypeError(f"lights must be lights such as jnr.AmbientLight, got {type(light).__name__}.")
    return tuple(lights)


def diffuse(
    lights: Sequence[Light], position: Float[Array, "*points 3"], normal: Float[Array, "*points 3"]
) -> Float[Array, "*points channels"]:
    """Light on a diffuse surface, with one or several channels."""
    total = jnp.zeros((*normal.shape[:-1], 1), normal.dtype)
    for light in lights:
        color, toward = light.arriving(position, normal)
        if toward is not None:
            color = _lambert_cosine(color, normal, toward)
        total = add(total, color)
    return total


@inline_jit()
def _lambert_cosine(color, normal, toward):
    cosine = dot(normal, with_rank(toward, normal.ndim))
    # Not maximum: faces exactly parallel to the light are common, and its derivative would be one half there.
    return with_rank(color, cosine.ndim) * jnp.where(cosine > 0, cosine, 0)


def add(total, color):
    """The sum of two lights, whose numbers of channels must match."""
    if color.shape[-1] != total.shape[-1] and 1 not in (color.shape[-1], total.shape[-1]):
        raise ValueError(
            f"lights must have colours with the same number of channels, got {total.shape[-1]} and {color.shape[-1]}."
        )
    return total + with_rank(color, total.ndim)


def with_rank(array: jax.Array, ndim: int) -> jax.Array:
    """An array with leading axes of size 1, so that it has `ndim` axes if it had fewer."""
    return jnp.expand_dims(array, tuple(range(ndim - array.ndim)))


@inline_jit()
def _from_point(color, light, attenuation, position):
    """Colour of a point light at a position, and the unit vector towards the light."""
    light = with_rank(light, position.ndim)
    ray = light - position
    x, y, z = (ray[..., i : i + 1] ** 2 for i in range(3))
    squared = x + y + z
    # A shorter ray is the rounding error of the difference.
    size = jnp.max(jnp.abs(jnp.concatenate(jnp.broadcast_arrays(light, position), axis=-1)), axis=-1, keepdims=True)
    distinct = squared > (2 * float(jnp.finfo(squared.dtype).eps) * lax.stop_gradient(size)) ** 2
    squared = jnp.where(distinct, squared, 1)
    distance = jnp.sqrt(squared)
    divisor = attenuation[0] + attenuation[1] * distance + attenuation[2] * squared
    return with_rank(color, divisor.ndim) / jnp.where(divisor > 0, divisor, 1), jnp.where(distinct, ray / distance, 0)


@inline_jit()
def _irradiance(coefficients, normal):
    x, y, z = (normal[..., i : i + 1] for i in range(3))
    one = math.sqrt(1 / (4 * math.pi))
    # The harmonics of the clamped cosine, pi, 2 pi / 3 and pi / 4, divided by pi.
    first, second = 2 / 3 * math.sqrt(3 / (4 * math.pi)), 1 / 4 * math.sqrt(15 / (4 * math.pi))
    third = 1 / 4 * math.sqrt(5 / (16 * math.pi))
    basis = [
        jnp.full_like(x, one),
        *(first * axis for axis in (y, z, x)),
        *(second * product for product in (x * y, y * z)),
        third * (3 * z * z - 1),
        second * x * z,
        second / 2 * (x * x - y * y),
    ]
    # A degenerate face has no normal and receives the mean over all directions.
    return reduce(jnp.add, [value * with_rank(coefficients[k], value.ndim) for k, value in enumerate(basis)])


def _color(light, like):
    like = like, light.intensity, light.color
    intensity, color = _numbers(light, "intensity", like), _numbers(light, "color", like)
    _checks.check_shape(intensity, "intensity")
    if color.ndim > 1 or color.size == 0:
        raise ValueError(f"color must be a number or have one value per channel, got shape {color.shape}.")
    return jnp.atleast_1d(color) * intensity


def _numbers(light, name, like, *shape):
    """A light's numbers, finite where they are known, in the dtype of `like` unless they have a wider one."""
    return _checks.as_finite(getattr(light, name), name, shape or None, like=like)
