"""What visibility gradients do not have, forward mode and second derivatives, as errors that say why."""

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_reverse_only_p = Primitive("jnr_reverse_only")
_tangent_p = Primitive("jnr_reverse_only_tangent")


def reverse_only(x: jax.Array, *, op: str) -> jax.Array:
    """`x`, whose tangent cannot be evaluated: its evaluation raises `forward_mode_error(op)`."""
    return _reverse_only_p.bind(x, op=op)


def forward_mode_error(op: str) -> TypeError:
    """An error that says why the op has no forward mode."""
    why = "it is defined by its backward pass alone"
    if op == "edge_sweep":
        why = (
            "its backward pass keeps only the changes that lower the loss, so it is not linear in the cotangent and is "
            "the transpose of no tangent map"
        )
    return TypeError(
        f"{op} has no forward-mode derivative (jvp, jacfwd, linearize, hessian): {why}. Use reverse mode (grad, vjp, "
        "value_and_grad), or gradient=None for the interior derivative alone."
    )


def without_derivative(backward: Primitive, op: str) -> None:
    """Makes the derivative of an op's backward pass an error that says so."""

    def refuse(*_, **__):
        raise second_derivative_error(op)

    ad.primitive_jvps[backward] = refuse


def second_derivative_error(op: str) -> NotImplementedError:
    """An error that says that the op has first derivatives only."""
    return NotImplementedError(
        f"{op} has no second derivative (grad of grad, hessian, a gradient step within a loss): its backward pass "
        "is an estimate with jumps, which is not differentiated. Use gradient=None for the interior derivative "
        "alone, which has all orders, or jax.lax.stop_gradient on the first gradient."
    )


def _refuse(*_, op):
    raise forward_mode_error(op)


def _jvp(primals, tangents, *, op):
    (x,), (tangent,) = primals, tangents
    out = _reverse_only_p.bind(x, op=op)
    return out, tangent if isinstance(tangent, ad.Zero) else _tangent_p.bind(tangent, op=op)


def _batch(operands, axes, *, op):
    return _reverse_only_p.bind(operands[0], op=op), axes[0]


for _primitive in (_reverse_only_p, _tangent_p):
    _primitive.def_abstract_eval(lambda x, *, op: x)
_reverse_only_p.def_impl(lambda x, *, op: x)
mlir.register_lowering(_reverse_only_p, lambda context, x, *, op: [x])
batching.primitive_batchers[_reverse_only_p] = _batch
ad.primitive_jvps[_reverse_only_p] = _jvp
_tangent_p.def_impl(_refuse)
mlir.register_lowering(_tangent_p, _refuse)
# A tangent is batched only in forward mode: reverse mode has transposed it before.
batching.primitive_batchers[_tangent_p] = _refuse
ad.primitive_jvps[_tangent_p] = _refuse
ad.primitive_transposes[_tangent_p] = lambda cotangent, x, *, op: [cotangent]
