"""The batch axis of the ops, and its rule for `vmap`."""

from typing import Any

import jax.numpy as jnp


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
