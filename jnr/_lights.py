"""Lights. Every class is a pytree whose numbers can all be differentiated, mapped and optimised."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jnr import _checks
from jnr._inline_jit import inline_jit
from jnr._pytree import pytree


class Arriving(NamedTuple):
    """Light that arrives at points.

    Attributes:
        color: Of the light, one channel or several.
        toward: Vector to where it comes from, which a surface's normal is multiplied with; None for light that
            `color` alone describes.
    """

    color: Float[Array, "*points channels"]
    toward: Float[Array, "*points 3"] | None = None


@runtime_checkable
class Light(Protocol):
    """A light; any pytree with this method is one."""

    def arriving(self, position: Float[Array, "*points 3"], normal: Float[Array, "*points 3"]) -> Arriving:
        """The light at points of a surface, given in the world."""
        ...


@pytree()
class AmbientLight:
    """Light from everywhere.

    Attributes:
        intensity: Factor on the colour.
        color: One number or one a channel.
    """

    intensity: ArrayLike = 0.5
    color: ArrayLike | Sequence[float] = 1.0
    # Whether the light at a point depends on where the point is.
    local: ClassVar[bool] = False

    def arriving(self, position: Float[Array, "*points 3"], normal: Float[Array, "*points 3"]) -> Arriving:
        """The light at points of a surface."""
        del position, normal
        return Arriving(_color(self))


@pytree()
class DirectionalLight:
    """Light from far away.

    A surface gets `intensity * color * max(0, normal . direction)`.

    Attributes:
        intensity: Factor on the colour.
        color: One number or one a channel.
        direction: Where the light comes from; used as it is, so its length scales the light.
    """

    intensity: ArrayLike = 0.5
    color: ArrayLike | Sequence[float] = 1.0
    direction: ArrayLike | Sequence[float] = (0.0, 1.0, 0.0)
    local: ClassVar[bool] = False

    def arriving(self, position: Float[Array, "*points 3"], normal: Float[Array, "*points 3"]) -> Arriving:
        """The light at points of a surface."""
        del position, normal
        direction = _checks.as_compute(self.direction, "direction")
        _checks.check_shape(direction, "direction", 3)
        return Arriving(_color(self), direction)


@pytree()
class PointLight:
    """Light from a point.

    A surface at distance d gets `intensity * color * max(0, cosine) / (a + b d + c d^2)`.

    Attributes:
        intensity: Factor on the colour.
        color: One number or one a channel.
        position: Of the light, in the world.
        attenuation: a, b and c above: (1, 0, 0) does not fall with distance, (0, 0, 1) as real light does.
    """

    intensity: ArrayLike = 0.5
    color: ArrayLike | Sequence[float] = 1.0
    position: ArrayLike | Sequence[float] = (0.0, 1.0, 2.0)
    attenuation: ArrayLike | Sequence[float] = (1.0, 0.0, 0.0)
    local: ClassVar[bool] = True

    def arriving(self, position: Float[Array, "*points 3"], normal: Float[Array, "*points 3"]) -> Arriving:
        """The light at points of a surface."""
        del normal
        light = _checks.as_compute(self.position, "position")
        _checks.check_shape(light, "position", 3)
        attenuation = _checks.as_compute(self.attenuation, "attenuation")
        _checks.check_shape(attenuation, "attenuation", 3)
        return Arriving(*_from_point(_color(self), light, attenuation, position))


@pytree()
class SphericalHarmonicsLight:
    """Light from all around, given by nine spherical harmonics of what arrives from each direction.

    A surface gets the mean over its half of the sky, weighted by the cosine, so that a sky of the constant radiance 1,
    whose first coefficient is `sqrt(4 pi)`, gives 1. It may come out negative where the nine describe no sky.

    Attributes:
        coefficients: Of 1, y, z, x, xy, yz, 3z^2 - 1, xz, x^2 - y^2 in this order (degree, then order), with the usual
            orthonormal factors; one row each, of one or several channels.

    References:
        Ramamoorthi and Hanrahan, An efficient representation for irradiance environment maps, 2001, equation 10.
    """

    coefficients: Float[Array, "9 channels"] | Float[Array, 9]
    local: ClassVar[bool] = False

    def arriving(self, position: Float[Array, "*points 3"], normal: Float[Array, "*points 3"]) -> Arriving:
        """The light at points of a surface."""
        del position
        coefficients = _checks.as_compute(self.coefficients, "coefficients")
        if coefficients.ndim == 1:
            coefficients = coefficients[:, None]
        _checks.check_shape(coefficients, "coefficients", 9, "channels")
        return Arriving(_sky(coefficients, normal))


# From the upper right behind the default camera, so that a mesh shows its relief.
DEFAULT_LIGHTS = (AmbientLight(0.4), DirectionalLight(0.6, direction=(0.4243, 0.5657, 0.7071)))


def depends_on_position(light: Light) -> bool:
    """Whether the light at a point depends on the position of the point; any light of one's own may."""
    return getattr(light, "local", True)


def check_lights(lights: Sequence[Light] | None) -> tuple[Light, ...]:
    """The lights as a tuple, the default ones for None."""
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
    """All light on a matt surface, one or several channels."""
    total = jnp.zeros((*normal.shape[:-1], 1), normal.dtype)
    for light in lights:
        color, toward = light.arriving(position, normal)
        if toward is not None:
            color = _on_slope(color, normal, toward)
        total = add(total, color)
    return total


@inline_jit()
def _on_slope(color, normal, toward):
    cosine = dot(normal, toward)
    # Not maximum: faces exactly along the light are common, and there it would have half a derivative.
    return color * jnp.where(cosine > 0, cosine, 0)


def add(total, color):
    """The sum of two lights of one number of channels."""
    if color.shape[-1] != total.shape[-1] and 1 not in (color.shape[-1], total.shape[-1]):
        raise ValueError(
            f"lights must have colours of one number of channels, got {total.shape[-1]} and {color.shape[-1]}."
        )
    return total + color


@inline_jit()
def dot(a, b):
    """Scalar products along the last axis, which stays."""
    # Not the sum of a product: XLA for the CPU (jax 0.10) gets it wrong where a mask and a batch meet.
    return sum(a[..., i : i + 1] * b[..., i : i + 1] for i in range(3))


@inline_jit()
def _from_point(color, light, attenuation, position):
    """Colour and direction of a point's light where it arrives."""
    ray = light - position
    squared = sum(ray[..., i : i + 1] ** 2 for i in range(3))
    apart = squared > 0
    squared = jnp.where(apart, squared, 1)
    distance = jnp.sqrt(squared)
    fall = attenuation[0] + attenuation[1] * distance + attenuation[2] * squared
    return color / jnp.where(fall > 0, fall, 1), jnp.where(apart, ray / distance, 0)


@inline_jit()
def _sky(coefficients, normal):
    x, y, z = (normal[..., i : i + 1] for i in range(3))
    one = np.sqrt(1 / (4 * np.pi))
    # The cosine's own harmonics, pi, 2 pi / 3 and pi / 4, divided by pi.
    first, second = 2 / 3 * np.sqrt(3 / (4 * np.pi)), 1 / 4 * np.sqrt(15 / (4 * np.pi))
    third = 1 / 4 * np.sqrt(5 / (16 * np.pi))
    basis = [
        jnp.full_like(x, one),
        *(first * axis for axis in (y, z, x)),
        *(second * product for product in (x * y, y * z)),
        third * (3 * z * z - 1),
        second * x * z,
        second / 2 * (x * x - y * y),
    ]
    # A degenerate face has no normal and gets the sky's mean alone, like any direction's average.
    return reduce(jnp.add, [value * coefficients[k] for k, value in enumerate(basis)])


def _color(light):
    intensity = _checks.as_compute(light.intensity, "intensity")
    _checks.check_shape(intensity, "intensity")
    color = _checks.as_compute(light.color, "color")
    if color.ndim > 1:
        raise ValueError(f"color must be a number or have one value a channel, got shape {color.shape}.")
    return jnp.atleast_1d(color) * intensity
