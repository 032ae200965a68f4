"""Neural Renderer's optimizer as optax transformations. Needs optax: `pip install "jnr[examples]"`."""

from __future__ import annotations

import math
import warnings
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
    """State of `zero_skipping_adam`.

    Attributes:
        count: Number of steps taken.
        first: Running mean of the gradients.
        second: Running mean of the squared gradients.
    """

    count: Int[Array, ""]
    first: PyTree
    second: PyTree


def zero_skipping_adam(
    learning_rate: float | Callable = 1e-3, b1: float | Array = 0.9, b2: float | Array = 0.999, eps: float = 1e-8
) -> GradientTransformation:
    """Returns Adam that skips every element whose gradient is exactly zero.

    Vertices and texels that no pixel of a step sees have zero gradient. Plain Adam would still move them by its
    running means. Here such elements keep their value and both running means.

    Step t, counted from 1 and including skipped steps, subtracts from every other element
    `learning_rate * sqrt(1 - b2**t) / (1 - b1**t) * first / (sqrt(second) + eps)`. As in Chainer, `eps` is added before
    the bias correction; `optax.adam` adds it after. The two differ where gradients are of the order of `eps`.

    Gradients with NaN are not skipped: the element becomes NaN.

    Args:
        learning_rate: A number, or an optax schedule: a function of the number of steps taken.
        b1: Decay rate of the mean of the gradients, in [0, 1). May be traced.
        b2: Decay rate of the mean of the squared gradients, in [0, 1). May be traced.
        eps: Added to the square root of the mean of squares.

    Returns:
        An `optax.GradientTransformation`, for use with `optax.chain` and `optax.apply_updates`. Its state is a tuple
        whose first entry is an `AdamState`.

    Raises:
        ImportError: If optax is missing.
        TypeError: If an argument is not a number.
        ValueError: If `b1` or `b2` is outside [0, 1), `eps` negative, or a number not finite.

    Example:
        >>> optimizer = jnr.optim.zero_skipping_adam(0.01)
        >>> vertices = jnr.shapes.icosphere(2).vertices
        >>> state = optimizer.init(vertices)
        >>> updates, state = optimizer.update(jnp.zeros_like(vertices), state)
        >>> vertices = optax.apply_updates(vertices, updates)

    References:
        Kingma and Ba, Adam: A method for stochastic optimization, ICLR 2015, section 2, the reordered form at its end;
        Neural Renderer's `optimizers.Adam`.
    """
    optax = require("optax", "optax", "Optimizers", extra="examples")
    for name, decay in (("b1", b1), ("b2", b2)):
        _check_number(decay, name, lambda number: 0 <= number < 1, "at least 0 and less than 1")
    _check_number(eps, "eps", lambda number: 0 <= number < math.inf, "finite and at least 0")
    if not callable(learning_rate):
        _check_number(learning_rate, "learning_rate", math.isfinite, "finite")

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(updates, state, params=None):
        del params
        count = optax.safe_increment(state.count)
        scale = jnp.sqrt(_one_minus_power(b2, count)) / _one_minus_power(b1, count)

        def decayed_mean(mean, gradient, value, decay):
            return jnp.where(gradient != 0, mean + _cast(1 - decay, mean) * (value - mean), mean)

        first = jax.tree.map(lambda m, g: decayed_mean(m, g, g, b1), state.first, updates)
        second = jax.tree.map(lambda v, g: decayed_mean(v, g, g * g, b2), state.second, updates)

        def step_of(gradient, m, v):
            return jnp.where(gradient != 0, scale.astype(m.dtype) * m / (jnp.sqrt(v) + _cast(eps, v)), 0)

        return jax.tree.map(step_of, updates, first, second), AdamState(count, first, second)

    return optax.chain(optax.GradientTransformation(init, update), optax.scale_by_learning_rate(learning_rate))


def adam(
    learning_rate: float | Callable = 1e-3, b1: float | Array = 0.9, b2: float | Array = 0.999, eps: float = 1e-8
) -> GradientTransformation:
    """Deprecated alias of `zero_skipping_adam`; emits a DeprecationWarning."""
    warnings.warn(
        "jnr.optim.adam is deprecated and will be removed in the next version: use jnr.optim.zero_skipping_adam.",
        DeprecationWarning,
        stacklevel=2,
    )
    return zero_skipping_adam(learning_rate, b1, b2, eps)


def scale_rates(factors: PyTree) -> GradientTransformation:
    """Returns a transformation that multiplies the updates of each parameter by its own factor.

    It replaces the attribute `lr` of Neural Renderer's parameters. Chain it after the optimizer, where it scales the
    steps. Before an optimizer that normalizes gradients, such as Adam, it has no effect.

    Args:
        factors: A pytree with the structure of the parameters or a prefix of it; a factor at an inner node applies to
            all parameters below. Arrays must broadcast to their parameter. Factor 0 keeps a parameter fixed.

    Returns:
        A stateless `optax.GradientTransformation`.

    Raises:
        ImportError: If optax is missing.
        TypeError: If the factors are not numbers.
        ValueError: If they are not finite; from `init`, if the structure or a shape of the factors does not match the
            parameters.

    Example:
        >>> rates = {"vertices": 0.01, "textures": 1.0}
        >>> optimizer = optax.chain(jnr.optim.zero_skipping_adam(0.05), jnr.optim.scale_rates(rates))
    """
    optax = require("optax", "optax", "Optimizers", extra="examples")
    for factor in jax.tree.leaves(factors):
        _checks.as_float(factor, "factors")
        _checks.check_finite(factor, "factors")

    def init(params):
        try:
            mismatches = jax.tree.leaves(jax.tree.map(_mismatches, factors, params))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"factors must be a tree prefix of the parameters, got a mismatch: {error}") from error
        if mismatches:
            raise ValueError(f"factors must broadcast to their parameters, got shape {mismatches[0]}.")
        return optax.EmptyState()

    def update(updates, state, params=None):
        del params

        def scaled(factor, subtree):
            return jax.tree.map(lambda u: u * _cast(factor, u), subtree)

        return jax.tree.map(scaled, factors, updates), state

    return optax.GradientTransformation(init, update)


def _check_number(value, name, valid, rule):
    _checks.check_shape(_checks.as_float(value, name), name)
    if _checks.is_concrete(value) and not valid(float(value)):
        raise ValueError(f"{name} must be {rule}, got {value!r}.")


def _mismatches(factor, subtree) -> list[str]:
    """Describes each parameter of a subtree to which the factor does not broadcast."""
    shape, found = jnp.shape(factor), []
    for leaf in jax.tree.leaves(subtree):
        target = jnp.shape(leaf)
        fits = len(shape) <= len(target) and all(a in (1, b) for a, b in zip(shape[::-1], target[::-1], strict=False))
        found += [] if fits else [f"{shape} for {target}"]
    return found


def _cast(value: Any, like: jax.Array) -> jax.Array:
    return jnp.asarray(value, like.dtype)


def _one_minus_power(decay, count):
    """Computes `1 - decay**count` without the cancellation of a decay near 1 in float32."""
    if _checks.is_concrete(decay):
        with np.errstate(divide="ignore"):  # decay 0: log is -inf, the result 1
            log = float(np.log(np.asarray(decay, np.float64)))
    else:
        log = jnp.log(decay)
    return -jnp.expm1(count.astype(jnp.float32) * log)
