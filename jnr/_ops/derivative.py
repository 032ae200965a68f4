"""Ops whose derivative is an op of its own, so that a CPU computes both in one pass."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad

from jnr._ops.batching import batch_size
from jnr._ops.op import Cpp, declare


def declare_differentiable(
    definition: Callable[..., jax.Array],
    result: Callable[..., tuple[tuple[int, ...], Any]],
    *,
    on_gpu: Callable[..., jax.Array],
    cpp: Cpp | None = None,
) -> Primitive:
    """Declares an op that is differentiable with respect to its first operand, in any mode and order.

    Its cotangent map is the op `<name>_bwd`, with the C++ custom call of that name: operands are the cotangent and the
    op's own, and the result is the cotangent of the first operand. Forward mode and higher derivatives are those of the
    definition.

    Args:
        definition: As for `declare`.
        result: As for `declare`, from the operands.
        on_gpu: As for `declare`; JAX differentiates it.
        cpp: The C++ kernels of the op and of its cotangent map.
    """

    def pushforward(tangent, primal, *constants):
        size = max(tangent.shape[0], primal.shape[0])
        tangent, primal = (jnp.broadcast_to(x, (size, *x.shape[1:])) for x in (tangent, primal))
        return jax.jvp(lambda x: definition(x, *constants), (primal,), (tangent,))[1]

    pullback, pullback_on_gpu = _pullback(definition), _pullback(on_gpu)
    pushforward.__name__, pullback.__name__ = f"{definition.__name__}_jvp", f"{definition.__name__}_bwd"
    primitive = declare(definition, lambda *operands, **_: result(*operands), cpp=cpp, on_gpu=on_gpu)
    pushforward_p = declare(pushforward, lambda _, *operands, **__: result(*operands), definition_only=True)
    pullback_p = declare(
        pullback,
        lambda cotangent, primal, *_, **__: (primal.shape[1:], cotangent.dtype),
        cpp=cpp,
        on_gpu=pullback_on_gpu,
    )

    set_derivative(primitive, (pushforward_p, pushforward), (pullback_p, pullback))
    return primitive


def set_derivative(
    primitive: Primitive,
    pushforward: tuple[Primitive, Callable[..., jax.Array]],
    pullback: tuple[Primitive, Callable[..., jax.Array]],
) -> None:
    """Makes an op differentiable with respect to its first operand, in any mode and order.

    Args:
        primitive: The op.
        pushforward: The op that maps the operand's tangent, followed by the op's operands, to the result's tangent, and
            its definition.
        pullback: The op that maps the result's cotangent, followed by the op's operands, to `sums` cotangents of the
            operand, and its definition.
    """
    (pushforward_p, pushforward_definition), (pullback_p, pullback_definition) = pushforward, pullback

    def jvp(primals, tangents, *, backend):
        out = primitive.bind(*primals, backend=backend)
        if isinstance(tangents[0], ad.Zero):
            return out, ad.Zero(jax.typeof(out).to_tangent_aval())
        return out, pushforward_p.bind(tangents[0], *primals, backend=backend)

    def transpose(cotangent, tangent, *operands, backend):
        rest = (None,) * len(operands)
        if isinstance(cotangent, ad.Zero):
            return ad.Zero(tangent.aval), *rest
        return pullback_p.bind(cotangent, *operands, sums=tangent.aval.shape[0], backend=backend), *rest

    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[pushforward_p] = transpose
    # Derivatives of derivatives are those of the definition.
    ad.primitive_jvps[pushforward_p] = partial(_jvp_of, pushforward_definition)
    ad.primitive_jvps[pullback_p] = partial(_jvp_of, pullback_definition)


def _pullback(function):
    """The cotangent map of a function with respect to its first operand, summed over items that share it."""

    def pullback(cotangent, primal, *constants, sums, **params):
        batch = batch_size((cotangent, primal, *constants))
        primal, cotangent = (jnp.broadcast_to(x, (batch, *x.shape[1:])) for x in (primal, cotangent))
        (grad,) = jax.vjp(lambda x: function(x, *constants, **params), primal)[1](cotangent)
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
