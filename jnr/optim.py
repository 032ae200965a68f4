"""Neural Renderer's optimizer as transforms of optax, which `pip install "jnr[examples]"` brings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from jnr import _checks
from jnr._extras import require

if TYPE_CHECKING:
    from optax import GradientTransformation
else:
    # optax is optional; without it the annotations still resolve.
    GradientTransformation = Any


class AdamState(NamedTuple):
    """What `adam` remembers.

    Attributes:
        count: Steps so far.
        first: Running mean of the gradients.
        second: Running mean of their squares.
    """

    count: Int[Array, ""]
    first: PyTree
    second: PyTree


def adam(
    learning_rate: float | Callable = 1e-3, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> GradientTransformation:
    """Adam that leaves numbers alone whose gradient is exactly zero.

    Vertices and texels that a step does not see have no gradient. Plain Adam would move them on by what it remembers;
    here their values and both running means stay as they are. Step t moves the others by
    `learning_rate * sqrt(1 - b2**t) / (1 - b1**t) * first / (sqrt(second) + eps)`, so `eps` is added before the means
    are corrected, as in Chainer; `optax.adam` adds it after, which differs where gradients are about as small as it.

    Args:
        learning_rate: A number, or a schedule of optax's: a function of the number of steps so far.
        b1: How much of the mean of gradients each step keeps, in [0, 1).
        b2: How much of the mean of their squares each step keeps, in [0, 1).
        eps: Added to the root of the mean of squares.

    Returns:
        A transform for `optax.chain`, `optax.apply_updates` and the rest of optax. Its state has an `AdamState`.

    Raises:
        ImportError: If optax is missing.
        ValueError: If `b1` or `b2` is outside of [0, 1).

    Example:
        >>> optimizer = jnr.optim.adam(0.01)
        >>> vertices = jnr.shapes.icosphere(2).vertices
        >>> state = optimizer.init(vertices)
        >>> updates, state = optimizer.update(jnp.zeros_like(vertices), state)
        >>> vertices = optax.apply_updates(vertices, updates)

    References:
        Kingma and Ba, Adam, 2015, section 2, the form at its end; Neural Renderer's `optimizers.Adam`.
    """
    optax = require("optax", "optax", "Optimizers", extra="examples")
    for name, decay in (("b1", b1), ("b2", b2)):
        if _checks.is_concrete(decay) and not 0 <= decay < 1:
            raise ValueError(f"{name} must be at least 0 and less than 1, got {decay!r}.")

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(updates, state, params=None):
        del params
        count = optax.safe_increment(state.count)
        step = jnp.sqrt(_one_minus_power(b2, count)) / _one_minus_power(b1, count)

        def towards(mean, gradient, value, decay):
            return jnp.where(gradient != 0, mean + _as(1 - decay, mean) * (value - mean), mean)

        first = jax.tree.map(lambda m, g: towards(m, g, g, b1), state.first, updates)
        second = jax.tree.map(lambda v, g: towards(v, g, g * g, b2), state.second, updates)

        def move(gradient, m, v):
            return jnp.where(gradient != 0, step.astype(m.dtype) * m / (jnp.sqrt(v) + _as(eps, v)), 0)

        return jax.tree.map(move, updates, first, second), AdamState(count, first, second)

    return optax.chain(optax.GradientTransformation(init, update), optax.scale_by_learning_rate(learning_rate))


def scale_rates(factors: PyTree) -> GradientTransformation:
    """Multiplies updates by factors: learning rates of their own for some parameters.

    It stands for the attribute `lr` of Neural Renderer's parameters. Put after an optimizer it scales the steps; in
    front of one that normalizes gradients, as Adam does, it would change nothing.

    Args:
        factors: A pytree like the parameters, or like their upper levels, where one number is for all below it. Arrays
            broadcast against their parameter. 0 keeps a parameter as it is.

    Returns:
        A transform without a state.

    Raises:
        ImportError: If optax is missing.
        ValueError: From `init`, if the factors do not fit the parameters.

    Example:
        >>> rates = {"vertices": 0.01, "textures": 1.0}
        >>> optimizer = optax.chain(jnr.optim.adam(0.05), jnr.optim.scale_rates(rates))
    """
    optax = require("optax", "optax", "Optimizers", extra="examples")

    def init(params):
        try:
            misfits = jax.tree.leaves(jax.tree.map(_misfits, factors, params))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"factors must be a pytree like the parameters or their upper levels: {error}") from error
        if misfits:
            raise ValueError(f"factors must broadcast to their parameters, got shape {misfits[0]}.")
        return optax.EmptyState()

    def update(updates, state, params=None):
        del params

        def scaled(factor, part):
            return jax.tree.map(lambda u: u * _as(factor, u), part)

        return jax.tree.map(scaled, factors, updates), state

    return optax.GradientTransformation(init, update)


def _misfits(factor, part) -> list[str]:
    """The shapes of a factor and of the parameters that it cannot be multiplied with."""
    shape, found = jnp.shape(factor), []
    for leaf in jax.tree.leaves(part):
        own = jnp.shape(leaf)
        fits = len(shape) <= len(own) and all(a in (1, b) for a, b in zip(shape[::-1], own[::-1], strict=False))
        found += [] if fits else [f"{shape} for {own}"]
    return found


def _as(value: Any, like: jax.Array) -> jax.Array:
    return jnp.asarray(value, like.dtype)


def _one_minus_power(decay, count):
    """`1 - decay**count` without the digits that a decay near 1 loses in float32."""
    if _checks.is_concrete(decay):
        with np.errstate(divide="ignore"):  # decay 0 has the logarithm -inf and the result 1
            log = float(np.log(np.asarray(decay, np.float64)))
    else:
        log = jnp.log(decay)
    return -jnp.expm1(count.astype(jnp.float32) * log)
