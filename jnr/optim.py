"""Optimization of shapes: Neural Renderer's optimizer, coordinates for large steps and their optimizer.

The optimizers are optax transformations and need optax: `pip install "jnr[examples]"`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from jnr import _checks
from jnr._extras import require
from jnr._geometry import unique_edges
from jnr._ops.gather import weighted_gather
from jnr._pytree import pytree

if TYPE_CHECKING:
    from optax import GradientTransformation
else:
    # optax is optional; without it the annotations still resolve.
    GradientTransformation = Any


class AdamState(NamedTuple):
    """State of `zero_skipping_adam` and `uniform_adam`.

    Attributes:
        count: Number of steps taken.
        first: Running mean of the gradients.
        second: Running mean of the squared gradients, summed over each vector with `uniform_adam(per="vector")`.
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
    _check_adam(learning_rate, b1, b2, eps)

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


@pytree()
class LargeSteps:
    """Coordinates in which a step moves a surface as a whole; `large_steps` makes them.

    Parameters are u = (I + strength L) v, with the Laplacian L of the mesh. A gradient with respect to u is smooth
    where one with respect to the vertices v has spikes, so steps may be larger and faces do not crumple.

    Attributes:
        neighbors: Indices of each vertex's neighbours, padded with -1.
        weights: Weights of the edges to them, zero for padding.
        strength: How far a step spreads. An optimizer may change it.
    """

    neighbors: Int[Array, "vertices degree"]
    weights: Float[Array, "vertices degree"]
    strength: ArrayLike

    def parameters(self, vertices: Float[ArrayLike, "vertices channels"]) -> Float[Array, "vertices channels"]:
        """The parameters of vertices: `(I + strength L) vertices`.

        Gradients: reach `vertices`, `weights` and `strength`.
        """
        return self._apply(self._rows(vertices, "vertices"))

    def vertices(
        self,
        parameters: Float[ArrayLike, "vertices channels"],
        *,
        start: Float[ArrayLike, "vertices channels"] | None = None,
        tolerance: float = 1e-5,
        most_iterations: int = 500,
    ) -> Float[Array, "vertices channels"]:
        """The vertices of parameters, by preconditioned conjugate gradients.

        Gradients: reach `parameters`, `weights` and `strength` by a second solve of the same accuracy, in forward and
        reverse mode. `start` is a constant.

        Args:
            parameters: From `parameters`, and then from an optimizer.
            start: Where the iterations begin, for example the vertices of the step before, which saves iterations. None
                begins at zero.
            tolerance: Norm of the residual, relative to that of `parameters`, at which the iterations end.
            most_iterations: Number of iterations after which they end in any case.

        Raises:
            TypeError: If an argument is not of the right kind.
            ValueError: If a shape or a number is not allowed.
        """
        from jax.scipy.sparse.linalg import cg  # takes long to import

        right = self._rows(parameters, "parameters")
        first = jnp.zeros_like(right) if start is None else self._rows(start, "start").astype(right.dtype)
        _checks.check_shape(first, "start", *right.shape)
        tolerance = _checks.as_number(tolerance, "tolerance", least=0)
        most_iterations = _checks.as_count(most_iterations, "most_iterations")
        scale = self._diagonal(right.dtype)
        return cg(
            self._apply,
            right,
            x0=lax.stop_gradient(first),
            tol=tolerance,
            maxiter=most_iterations,
            M=lambda residual: residual / scale,
        )[0]

    def _rows(self, values, name):
        values = _checks.as_compute(values, name)
        _checks.check_shape(values, name, len(self.neighbors), "channels")
        return values

    def _diagonal(self, dtype):
        weights = jnp.asarray(self.weights, dtype)
        return 1 + jnp.asarray(self.strength, dtype) * jnp.sum(weights, axis=1, keepdims=True)

    def _apply(self, values):
        weights = jnp.asarray(self.strength, values.dtype) * jnp.asarray(self.weights, values.dtype)
        return self._diagonal(values.dtype) * values - weighted_gather(values, weights, self.neighbors)


def large_steps(
    faces: Int[ArrayLike, "faces 3"],
    num_vertices: int,
    *,
    strength: ArrayLike = 19.0,
    vertices: Float[ArrayLike, "vertices 3"] | None = None,
) -> LargeSteps:
    """Returns coordinates for large steps on a mesh: the optimizer's parameters instead of the vertices.

    Combine them with `uniform_adam` rather than `optax.adam`, which has a step size of its own per number and so undoes
    the smoothing. Runs outside of `jit`; the methods of the result run in it, and under `vmap`.

    Args:
        faces: Vertex indices of each face; padding is skipped. A vertex without faces moves alone.
        num_vertices: Number of vertices.
        strength: Weight of the Laplacian, at least 0. A step spreads over a number of edges that grows with its square
            root.
        vertices: Positions for the cotangent Laplacian, in whose weights the sizes of faces do not matter; None for the
            uniform one, in which every edge has weight 1.

    Raises:
        TypeError: If `faces` or `vertices` are traced, or an argument is not of the right kind.
        ValueError: If an index, a shape or a number is not allowed.

    Example:
        >>> ball = jnr.shapes.icosphere(3)
        >>> coordinates = jnr.optim.large_steps(ball.faces, len(ball.vertices), strength=5.0)
        >>> parameters = coordinates.parameters(ball.vertices)
        >>> loss = lambda parameters: jnp.mean(coordinates.vertices(parameters, start=ball.vertices) ** 4)
        >>> gradient = jax.grad(loss)(parameters)

    References:
        Nicolet, Jacobson and Jakob, Large steps in inverse rendering of geometry, 2021; its lambda is `strength`, for
        which it recommends 19. Pinkall and Polthier, Computing discrete minimal surfaces and their conjugates, 1993,
        for the cotangents.
    """
    num_vertices = _checks.as_count(num_vertices, "num_vertices", least=0)
    _checks.as_faces(faces, num_vertices)
    strength = _checks.as_finite(strength, "strength", ())
    if _checks.is_concrete(strength) and float(strength) < 0:
        raise ValueError(f"strength must be at least 0, got {float(strength):g}.")
    with jax.ensure_compile_time_eval():
        edges = np.asarray(unique_edges(faces)[0])
    edge_weights = np.ones(len(edges)) if vertices is None else _cotangents(vertices, faces, num_vertices, edges)
    ends = np.concatenate([edges, edges[:, ::-1]])
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    rows, others = ends[order].T
    degree = np.bincount(rows, minlength=num_vertices)
    place = np.arange(len(rows)) - (np.cumsum(degree) - degree)[rows]
    neighbors = np.full((num_vertices, degree.max(initial=1)), -1, np.int32)
    weights = np.zeros(neighbors.shape)
    neighbors[rows, place], weights[rows, place] = others, np.tile(edge_weights, 2)[order]
    return LargeSteps(jnp.asarray(neighbors), jnp.asarray(weights, strength.dtype), strength)


def _cotangents(vertices, faces, num_vertices, edges):
    """Half the sums of the cotangents of the angles opposite to edges, in float64; faces of zero area add nothing."""
    if not _checks.is_concrete(vertices):
        raise TypeError("vertices must be concrete to weigh edges, got a traced array.")
    points = np.asarray(_checks.as_finite(vertices, "vertices", (num_vertices, 3)), np.float64)
    faces = np.asarray(faces)
    faces = faces[np.all(faces >= 0, axis=1)]
    first_edge = edges[:, 0].astype(np.int64) * num_vertices + edges[:, 1]
    sums = np.zeros(len(edges))
    for k in range(3):
        at, ahead, behind = (points[faces[:, (k + i) % 3]] for i in range(3))
        ahead, behind = ahead - at, behind - at
        doubled = np.linalg.norm(np.cross(ahead, behind), axis=1)
        valid = doubled > 1e-12 * np.sum(ahead**2 + behind**2, axis=1)
        ends = np.sort(faces[:, [(k + 1) % 3, (k + 2) % 3]], axis=1)[valid].astype(np.int64)
        opposite = np.searchsorted(first_edge, ends[:, 0] * num_vertices + ends[:, 1])
        np.add.at(sums, opposite, np.sum(ahead * behind, axis=1)[valid] / doubled[valid] / 2)
    return sums


def uniform_adam(
    learning_rate: float | Callable = 1e-3,
    b1: float | Array = 0.9,
    b2: float | Array = 0.999,
    eps: float = 1e-8,
    *,
    per: Literal["array", "vector"] = "array",
) -> GradientTransformation:
    """Returns Adam with one step size for all numbers of an array, or of each vector along the last axis.

    Adam divides every number's step by the root of its own mean square, so the steps of small and large gradients are
    of one length, and their direction depends on the axes. Here steps keep the gradient's direction: with `"array"` the
    largest mean square of the whole array divides, and a smooth gradient gives a smooth step; with `"vector"` the mean
    square of each vector's length divides, so that a turn of the axes turns the steps.

    Args:
        learning_rate: A number, or an optax schedule: a function of the number of steps taken.
        b1: Decay rate of the mean of the gradients, in [0, 1).
        b2: Decay rate of the mean of the squared gradients, in [0, 1).
        eps: Added to the square root.
        per: `"array"` for the optimizer of large steps, or `"vector"`.

    Returns:
        An `optax.GradientTransformation`. Its state is a tuple whose first entry is a `AdamState`.

    Raises:
        ImportError: If optax is missing.
        TypeError: If an argument is not a number.
        ValueError: If `b1` or `b2` is outside [0, 1), `eps` negative, a number not finite, or `per` unknown.

    Example:
        >>> optimizer = jnr.optim.uniform_adam(0.1)

    References:
        Nicolet, Jacobson and Jakob, Large steps in inverse rendering of geometry, 2021, section 4, for `"array"`; Ling,
        Sharp and Jacobson, VectorAdam for rotation equivariant geometry optimization, 2022, for `"vector"`.
    """
    optax = require("optax", "optax", "Optimizers", extra="examples")
    _check_adam(learning_rate, b1, b2, eps)
    _checks.check_choice(per, "per", ("array", "vector"))

    def square(gradient):
        return jnp.sum(gradient**2, axis=-1, keepdims=True) if per == "vector" and gradient.ndim else gradient**2

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(square, zeros))

    def update(updates, state, params=None):
        del params
        count = optax.safe_increment(state.count)

        def mean(old, new, decay):
            return old + _cast(1 - decay, old) * (new - old)

        first = jax.tree.map(lambda m, g: mean(m, g, b1), state.first, updates)
        second = jax.tree.map(lambda v, g: mean(v, square(g), b2), state.second, updates)

        def step_of(m, v):
            largest = jnp.max(v, initial=0) if per == "array" else v
            root = jnp.sqrt(largest / _one_minus_power(b2, count).astype(v.dtype))
            return m / _one_minus_power(b1, count).astype(m.dtype) / (root + _cast(eps, m))

        return jax.tree.map(step_of, first, second), AdamState(count, first, second)

    return optax.chain(optax.GradientTransformation(init, update), optax.scale_by_learning_rate(learning_rate))


def _check_adam(learning_rate, b1, b2, eps):
    for name, decay in (("b1", b1), ("b2", b2)):
        _check_number(decay, name, lambda number: 0 <= number < 1, "at least 0 and less than 1")
    _check_number(eps, "eps", lambda number: 0 <= number < math.inf, "finite and at least 0")
    if not callable(learning_rate):
        _check_number(learning_rate, "learning_rate", math.isfinite, "finite")


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
