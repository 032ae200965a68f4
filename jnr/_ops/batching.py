"""The batch axis of the ops, and its rule for `vmap`."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def batch_size(operands: Any) -> int:
    """The size of the operands' common batch axis."""
    return _common({operand.shape[0] for operand in operands})


def _common(sizes):
    sizes = sizes - {1}
    assert len(sizes) <= 1, sizes
    return sizes.pop() if sizes else 1


def fold_batch(primitive, operands, axes, **params):
    """Runs an op once for all items of `vmap`: folds the mapped axes into the operands' batch axes."""
    mapped = next(x.shape[a] for x, a in zip(operands, axes, strict=True) if a is not None)
    if mapped == 0:
        shapes = [x.shape if a is None else x.shape[:a] + x.shape[a + 1 :] for x, a in zip(operands, axes, strict=True)]
        items = [jax.ShapeDtypeStruct(shape, x.dtype) for shape, x in zip(shapes, operands, strict=True)]
        out = jax.eval_shape(functools.partial(primitive.bind, **params), *items)
        return jnp.zeros((0, *out.shape), out.dtype), 0
    moved = [x if a is None else jnp.moveaxis(x, a, 0) for x, a in zip(operands, axes, strict=True)]
    is_mapped = [a is not None for a in axes]
    inner = _common({x.shape[1] if m else x.shape[0] for x, m in zip(moved, is_mapped, strict=True)})

    def fold(x, m):
        own = x.shape[1] if m else x.shape[0]
        if not m and own == 1:
            return x
        if not m:
            x = jnp.broadcast_to(x, (mapped, *x.shape))
        elif own != inner:
            x = jnp.broadcast_to(x, (mapped, inner, *x.shape[2:]))
        return x.reshape(mapped * inner, *x.shape[2:])

    if "sums" in params:
        params["sums"] *= mapped
    out = primitive.bind(*(fold(x, m) for x, m in zip(moved, is_mapped, strict=True)), **params)
    return out.reshape(mapped, out.shape[0] // mapped, *out.shape[1:]), 0


def has_symbolic_batch(operands: Any) -> bool:
    """Whether the size of the batch is a symbol of `jax.export`."""
    return not all(isinstance(operand.shape[0], int) for operand in operands)


def item_by_item(function: Callable[..., jax.Array], *operands: jax.Array, **params: Any) -> jax.Array:
    """An op over a batch of symbolic size, one item after the other, so that the op sees numbers only."""
    batch = batch_size(operands)
    sums = params.get("sums", batch)
    own = params | ({"sums": 1} if "sums" in params else {})
    is_shared = [operand.shape[0] == 1 for operand in operands]

    def one(items):
        items = iter(items)
        return function(*(x if s else next(items)[None] for x, s in zip(operands, is_shared, strict=True)), **own)[0]

    out = lax.map(one, [x for x, s in zip(operands, is_shared, strict=True) if not s])
    return out.reshape(sums, batch // sums, *out.shape[1:]).sum(axis=1)
