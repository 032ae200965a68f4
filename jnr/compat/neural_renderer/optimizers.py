"""Neural Renderer's optimizer, as optax has it: `init`, `update`, and no object that is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

from jnr.compat.neural_renderer._mesh import Mesh

if TYPE_CHECKING:
    from optax import GradientTransformation
else:
    GradientTransformation = Any


def Adam(  # noqa: N802 (the original's name for it)
    alpha: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8
) -> GradientTransformation:
    """`jnr.optim.adam`, which leaves alone what gets no gradient, with the factors of `Mesh.set_lr`.

    Args:
        alpha: Learning rate.
        beta1: Decay of the mean of gradients.
        beta2: Decay of the mean of their squares.
        eps: Added to the root of the latter.
    """
    from jnr import optim

    return with_rates(optim.adam(alpha, b1=beta1, b2=beta2, eps=eps))


def with_rates(transform: GradientTransformation) -> GradientTransformation:
    """A transform whose updates of each `Mesh` are multiplied by the factors of `Mesh.set_lr`."""

    def scaled(update):
        if not isinstance(update, Mesh):
            return update
        (vertices, textures), constants = update.tree_flatten()
        arrays = vertices * update.lr_vertices, textures * update.lr_textures
        return type(update).tree_unflatten(constants, arrays)

    def update(updates, state, params=None, **extra):
        updates, state = transform.update(updates, state, params, **extra)
        return jax.tree.map(scaled, updates, is_leaf=lambda node: isinstance(node, Mesh)), state

    return transform._replace(update=update)
