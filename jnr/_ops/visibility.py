"""Visibility gradients: an identity on the image whose backward pass is the gradient."""

import functools
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, ArrayLike, Float, Int

from jnr._ops.boundary import Boundary, attach_boundary
from jnr._ops.rasterize import Fragments, check_picture
from jnr._ops.reverse_only import forward_mode_error, reverse_only


@runtime_checkable
class Gradient(Protocol):
    """A gradient of visibility: a function that returns the positions' cotangent for an image's cotangent.

    Any function of this form is one. It is written for one mesh and one image, is traced by JAX (`vmap` maps it), and
    must not use traced values from an enclosing scope.
    """

    def __call__(
        self,
        image: Float[Array, "height width channels"],
        cotangent: Float[Array, "height width channels"],
        clip_positions: Float[Array, "vertices 4"],
        faces: Int[Array, "faces 3"],
        fragments: Fragments,
    ) -> Float[Array, "vertices 4"]:
        """The cotangent of `clip_positions`."""
        ...


def with_gradient(
    image: Float[ArrayLike, "height width channels"],
    clip_positions: Float[ArrayLike, "vertices 4"],
    faces: Int[ArrayLike, "faces 3"],
    fragments: Fragments,
    gradient: Gradient,
) -> Float[Array, "height width channels"]:
    """Returns `image` unchanged and attaches a visibility gradient of your own to the positions.

    Gradients: the cotangent of `image` passes through unchanged; `clip_positions` receive what `gradient` returns.
    Reverse mode only.

    Args:
        image: The finished image before supersamples are averaged, with any number of channels.
        clip_positions: Vertices in clip space, as given to `rasterize`.
        faces: Vertex indices of each face, as given to `rasterize`.
        fragments: From `rasterize`.
        gradient: Called in the backward pass with the image, its cotangent, positions, faces and fragments.

    Returns:
        `image`.

    Raises:
        ValueError: If shapes do not match, or `gradient` does not return the positions' shape.
        TypeError: If an argument is not of the right kind, or if forward mode is used.

    Example:
        >>> def toward_the_right(image, cotangent, clip_positions, faces, fragments):
        ...     return jnp.zeros_like(clip_positions).at[:, 0].set(-jnp.abs(cotangent).sum())
        >>> image = jnr.with_gradient(image, clip_positions, faces, fragments, toward_the_right)
    """
    image, clip_positions, faces, fragments = check_picture(image, clip_positions, faces, fragments)
    if not callable(gradient):
        raise TypeError(f"gradient must be a function, see jnr.gradients, got {type(gradient).__name__}.")
    return attach_gradient((image,), clip_positions, faces, fragments, gradient)[0]


def attach_gradient(
    images: Sequence[jax.Array], clip_positions: jax.Array, faces: jax.Array, fragments: Fragments, gradient: Gradient
) -> tuple[jax.Array, ...]:
    """`with_gradient` for arguments that have been checked, of several images whose channels count as one image's.

    Images without a cotangent cost nothing in the backward pass.
    """
    if isinstance(gradient, Boundary):
        mesh = clip_positions, faces, fragments.face_index
        return attach_boundary(images, None, *mesh, gradient)
    op = getattr(gradient, "op", "with_gradient")
    images = tuple(reverse_only(image, op=op) for image in images)
    clip_positions = reverse_only(clip_positions, op=op)
    try:
        return _with_gradient(images, clip_positions, faces, lax.stop_gradient(fragments), gradient)
    except TypeError as error:
        # JAX's own message does not give the reason.
        raise (forward_mode_error(op) if "jvp" in str(error) else error) from error


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _with_gradient(images, clip_positions, faces, fragments, gradient):
    del clip_positions, faces, fragments, gradient
    return images


def _forward(images, clip_positions, faces, fragments, gradient):
    del gradient
    # Without a derivative by the positions there is no gradient to find, and colours have derivatives of all orders.
    moves = _Moves() if clip_positions.perturbed else None
    images, *rest = jax.tree.map(
        lambda leaf: leaf.value, (images, clip_positions, faces, fragments), is_leaf=lambda x: hasattr(x, "perturbed")
    )
    return images, (moves, images, *rest)


@jax.tree_util.register_static
class _Moves:
    """Says that the positions have a derivative, a constant to JAX."""


def _backward(gradient, residuals, cotangents):
    moves, images, clip_positions, faces, fragments = residuals
    dtype = clip_positions.dtype
    used = [i for i, cotangent in enumerate(cotangents) if not isinstance(cotangent, SymbolicZero)]
    grad = None
    if used and moves:
        image = jnp.concatenate([images[i].astype(dtype) for i in used], axis=-1)
        cotangent = jnp.concatenate([cotangents[i].astype(dtype) for i in used], axis=-1)
        grad = jnp.asarray(gradient(image, cotangent, clip_positions, faces, fragments), dtype)
        if grad.shape != clip_positions.shape:
            raise ValueError(
                f"gradient must return an array like clip_positions, {clip_positions.shape}, got {grad.shape}."
            )
    # None rather than zeros, which would be propagated back through everything that made the image.
    passed = tuple(c if i in used else None for i, c in enumerate(cotangents))
    return passed, grad, None, None


_with_gradient.defvjp(_forward, _backward, symbolic_zeros=True)
