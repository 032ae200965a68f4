"""What every gradient of visibility shares: an identity with a backward pass that is the gradient's."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jnr import _checks
from jnr._ops._reverse_only import forward_mode_error, reverse_only
from jnr._ops.rasterize import Fragments

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


class Gradient(Protocol):
    """A gradient of visibility: what the positions receive from an image's cotangent.

    Any function of this form is one. It sees one mesh and one image, is traced by JAX (`vmap` maps it), and must not
    use traced values from outside.
    """

    def __call__(
        self,
        image: Float[Array, "height width channels"],
        cotangent: Float[Array, "height width channels"],
        clip_positions: Float[Array, "vertices 4"],
        faces: Int[Array, "faces 3"],
        fragments: Fragments,
    ) -> Float[Array, "vertices 4"]:
        """The cotangent of `clip_positions`, to be followed downhill like any other."""
        ...


def with_gradient(
    image: Float[Array, "height width channels"],
    clip_positions: Float[Array, "vertices 4"],
    faces: Int[Array, "faces 3"],
    fragments: Fragments,
    gradient: Gradient,
) -> Float[Array, "height width channels"]:
    """Returns `image` unchanged and gives the positions a gradient of visibility of your own.

    Gradients: the cotangent of `image` passes through as it is; `clip_positions` receive what `gradient` returns.
    Reverse mode only.

    Args:
        image: The finished image before any averaging, any number of channels.
        clip_positions: Vertices in clip space, as given to `rasterize`.
        faces: Vertex indices of each face, as given to `rasterize`.
        fragments: From `rasterize`.
        gradient: Called in the backward pass with image, its cotangent, positions, faces and fragments.

    Returns:
        `image`.

    Raises:
        ValueError: If shapes do not fit each other, or `gradient` does not return the positions' shape.
        TypeError: If an argument is not of the right kind, or if forward mode is asked for.

    Example:
        >>> def toward_the_right(image, cotangent, clip_positions, faces, fragments):
        ...     return jnp.zeros_like(clip_positions).at[:, 0].set(-jnp.abs(cotangent).sum())
        >>> image = jnr.with_gradient(image, clip_positions, faces, fragments, toward_the_right)
    """
    image = _checks.as_float(image, "image")
    _checks.check_shape(image, "image", *fragments.face_index.shape, "channels")
    return images_with_gradient((image,), clip_positions, faces, fragments, gradient)[0]


def images_with_gradient(images, clip_positions, faces, fragments, gradient) -> tuple:
    """`with_gradient` of several images as if their channels were one image's; unused ones cost nothing."""
    clip_positions = _checks.as_compute(clip_positions, "clip_positions")
    _checks.check_shape(clip_positions, "clip_positions", "vertices", 4)
    faces = _checks.as_faces(faces, clip_positions.shape[0])
    if not callable(gradient):
        raise TypeError(f"gradient must be a function, see jnr.gradients, got {type(gradient).__name__}.")
    op = getattr(gradient, "op", "with_gradient")
    images = tuple(reverse_only(image, op=op) for image in images)
    clip_positions = reverse_only(clip_positions, op=op)
    try:
        return _with_gradient(images, clip_positions, faces, lax.stop_gradient(fragments), gradient)
    except TypeError as error:
        # JAX's own message, where it comes first, does not say why.
        raise (forward_mode_error(op) if "jvp" in str(error) else error) from error


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _with_gradient(images, clip_positions, faces, fragments, gradient):
    del clip_positions, faces, fragments, gradient
    return images


def _forward(images, clip_positions, faces, fragments, gradient):
    del gradient
    images, *rest = jax.tree.map(
        lambda leaf: leaf.value, (images, clip_positions, faces, fragments), is_leaf=lambda x: hasattr(x, "perturbed")
    )
    return images, (images, *rest)


def _backward(gradient, residuals, cotangents):
    images, clip_positions, faces, fragments = residuals
    dtype = clip_positions.dtype
    used = [i for i, cotangent in enumerate(cotangents) if not isinstance(cotangent, SymbolicZero)]
    grad = None
    if used:
        image = jnp.concatenate([images[i].astype(dtype) for i in used], axis=-1)
        cotangent = jnp.concatenate([cotangents[i].astype(dtype) for i in used], axis=-1)
        grad = jnp.asarray(gradient(image, cotangent, clip_positions, faces, fragments), dtype)
        if grad.shape != clip_positions.shape:
            raise ValueError(
                f"gradient must return an array like clip_positions, {clip_positions.shape}, got {grad.shape}."
            )
    # None, not an array of zeros, which would be carried back through all that made the image.
    passed = tuple(c if i in used else None for i, c in enumerate(cotangents))
    return passed, grad, None, None


_with_gradient.defvjp(_forward, _backward, symbolic_zeros=True)
