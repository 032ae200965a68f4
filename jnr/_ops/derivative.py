"""Ops whose derivatives are ops of their own, so that a CPU computes each in one pass."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad

from jnr._ops.batching import batch_size
from jnr._ops.op import Cpp, declare

# An op and its definition.
Map = tuple[Primitive, Callable[..., jax.Array]]


def declare_differentiable(
    definition: Callable[..., jax.Array],
    result: Callable[..., tuple[tuple[int, ...], Any]],
    *,
    on_gpu: Callable[..., jax.Array],
    cpp: Cpp | None = None,
    wrt: Sequence[str] = (),
    wrt_in_jax: Sequence[str] = (),
) -> Primitive:
    """Declares an op that is differentiable with respect to some of its operands, in any mode and order.

    The cotangent map of its first operand is the op `<name>_bwd`. If `wrt` names operands, theirs are the ops
    `<name>_bwd_<operand>` instead. Their operands are the cotangent and the op's own, and the result is the cotangent
    of that operand. Forward mode and higher derivatives are those of the definition.

    Args:
        definition: As for `declare`.
        result: As for `declare`, from the operands and the parameters.
        on_gpu: As for `declare`; JAX differentiates it.
        cpp: The C++ kernels of the op and of its cotangent maps, which are custom calls by the ops' names.
        wrt: Operands whose cotangent maps have kernels.
        wrt_in_jax: Operands whose cotangent maps are those of the definition on every backend.
    """
    operands = list(inspect.signature(definition).parameters)

    def result_of(*operands, backend=None, **params):
        del backend
        return result(*operands, **params)

    def maps(operand, has_kernel):
        k = operands.index(operand) if operand else 0
        suffix = f"_{operand}" if operand else ""
        pushforward, pullback = _pushforward(definition, k), _pullback(definition, k)
        pushforward.__name__, pullback.__name__ = (f"{definition.__name__}_{kind}{suffix}" for kind in ("jvp", "bwd"))

        def of_tangent(_, *primals, **params):
            return result_of(*primals, **params)

        def of_cotangent(cotangent, *primals, **_):
            return primals[k].shape[1:], cotangent.dtype

        pushforward_p = declare(pushforward, of_tangent, definition_only=True)
        if has_kernel:
            pullback_p = declare(pullback, of_cotangent, cpp=cpp, on_gpu=_pullback(on_gpu, k))
        else:
            pullback_p = declare(pullback, of_cotangent, definition_only=True)
        return k, ((pushforward_p, pushforward), (pullback_p, pullback))

    primitive = declare(definition, result_of, cpp=cpp, on_gpu=on_gpu)
    of_operands = [*((operand, True) for operand in wrt or ("",)), *((operand, False) for operand in wrt_in_jax)]
    set_derivative(primitive, dict(maps(*each) for each in of_operands))
    return primitive


def set_derivative(primitive: Primitive, maps: Mapping[int, tuple[Map, Map]]) -> None:
    """Makes an op differentiable with respect to some of its operands, in any mode and order.

    Args:
        primitive: The op.
        maps: By the number of the operand, the ops that map tangents and cotangents. The first maps the operand's
            tangent, followed by the op's operands, to the result's tangent; the second the result's cotangent, followed
            by the op's operands, to `sums` cotangents of the operand.
    """

    def jvp(primals, tangents, **params):
        out = primitive.bind(*primals, **params)
        moved = [
            pushforward_p.bind(tangents[k], *primals, **params)
            for k, ((pushforward_p, _), _) in maps.items()
            if not isinstance(tangents[k], ad.Zero)
        ]
        return out, functools.reduce(jnp.add, moved) if moved else ad.Zero(jax.typeof(out).to_tangent_aval())

    ad.primitive_jvps[primitive] = jvp
    for (pushforward_p, pushforward), (pullback_p, pullback) in maps.values():
        ad.primitive_transposes[pushforward_p] = partial(_transpose, pullback_p)
        # Derivatives of derivatives are those of the definition.
        ad.primitive_jvps[pushforward_p] = partial(_jvp_of, pushforward)
        ad.primitive_jvps[pullback_p] = partial(_jvp_of, pullback)


def _transpose(pullback_p, cotangent, tangent, *operands, **params):
    rest = (None,) * len(operands)
    if isinstance(cotangent, ad.Zero):
        return ad.Zero(tangent.aval), *rest
    return pullback_p.bind(cotangent, *operands, sums=tangent.aval.shape[0], **params), *rest


def _of_operand(function, primals, k, **params):
    """A function of operands as one of its operand k."""
    return lambda x: function(*primals[:k], x, *primals[k + 1 :], **params)


def _pushforward(function, k):
    """The tangent map of a function with respect to its operand k."""

    def pushforward(tangent, *primals, **params):
        size = max(tangent.shape[0], primals[k].shape[0])
        tangent, primal = (jnp.broadcast_to(x, (size, *x.shape[1:])) for x in (tangent, primals[k]))
        return jax.jvp(_of_operand(function, primals, k, **params), (primal,), (tangent,))[1]

    return pushforward


def _pullback(function, k):
    """The cotangent map of a function with respect to its operand k, summed over items that share it."""

    def pullback(cotangent, *primals, sums, **params):
        batch = batch_size((cotangent, *primals))
        primal, cotangent = (jnp.broadcast_to(x, (batch, *x.shape[1:])) for x in (primals[k], cotangent))
        (grad,) = jax.vjp(_of_operand(function, primals, k, **params), primal)[1](cotangent)
        return grad.reshape(sums, -1, *grad.shape[1:]).sum(axis=1)

    return pullback


def _jvp_of(function, primals, tangents, *, backend, **params):
    """Tangents of a function with respect to its operands of floats."""
    del backend
    varies = [jnp.issubdtype(primal.dtype, jnp.inexact) for primal in primals]

    def of_floats(*floats):
        floats = iter(floats)
        return function(*(next(floats) if v else x for x, v in zip(primals, varies, strict=True)), **params)

    floats, changes = (
        [x for x, v in zip(values, varies, strict=True) if v]
        for values in (primals, map(ad.instantiate_zeros, tangents))
    )
    return jax.jvp(of_floats, floats, changes)
