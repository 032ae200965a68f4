"""Neural Renderer's optimizer as an optax transformation: `init` and `update` instead of a mutable object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

from jnr.compat.neural_renderer.mesh import Mesh

if TYPE_CHECKING:
    from optax import GradientTransformation
else:
    # optax is optional; without it the annotations still resolve.
    GradientTransformation = Any


def Adam(  # noqa: N802 (the name in the original)
    alpha: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8
) -> GradientTransformation:
    """Returns `jnr.optim.zero_skipping_adam` with the learning rate factors of `Mesh.set_lr`.

    Elements whose gradient is zero keep their value and running means.

    Args:
        alpha: Learning rate.
        beta1: Decay rate of the mean of the gradients.
        beta2: Decay rate of the mean of the squared gradients.
        eps: Added to the square root of the mean of squares.

    Raises:
        ImportError: If optax is missing.
        ValueError: If a decay rate is outside [0, 1).
    """
    from jnr import optim

    return with_rates(optim.zero_skipping_adam(alpha, b1=beta1, b2=beta2, eps=eps))


def with_rates(transform: GradientTransformation) -> GradientTransformation:
    """Returns `transform` with the updates of every `Mesh` multiplied by the factors of `Mesh.set_lr`."""

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
