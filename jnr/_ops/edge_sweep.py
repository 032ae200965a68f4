"""The edge-sweep gradient of visibility."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from jnr import _checks
from jnr._backend import Backend, check_backend
from jnr._ops._primitive import batched_primitive
from jnr._ops._reverse_only import forward_mode_error, reverse_only
from jnr._ops.rasterize import Fragments
from jnr._xla.edge_sweep import edge_sweep_bwd as edge_sweep_bwd_xla

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

edge_sweep_bwd_p = batched_primitive(
    "jnr_edge_sweep_bwd",
    edge_sweep_bwd_xla,
    lambda image, cotangent, clip_positions, *_, **__: (clip_positions.shape[1:], clip_positions.dtype),
    kernels=("edge_sweep", "edge_sweep_bwd"),
)


def edge_sweep(
    image: Float[Array, "height width channels"],
    clip_positions: Float[Array, "vertices 4"],
    faces: Int[Array, "faces 3"],
    fragments: Fragments,
    *,
    eps: float = 1e-3,
    backend: Backend | None = None,
) -> Float[Array, "height width channels"]:
    """Returns `image` unchanged and gives the positions the edge-sweep gradient of visibility.

    Along the row and the column of every pixel that sees a face, the pixels beyond the face's crossings ask: would
    the loss fall if I took the colour on the other side? Each that would pulls the crossing's edge its way, with a
    force of the loss's change over the distance the vertex has to move. So a pixel far from a face still moves it,
    and only in the direction the loss wants.

    Gradients: the cotangent of `image` passes through as it is. `clip_positions` receive the edge sweep (x, y, and w
    through the perspective division; never z). It is not linear in the cotangent: negating the loss does not negate
    it, and two losses' gradients do not add up to their sum's. Reverse mode only. All channels are summed before the
    question is decided, so pass colour and alpha together if both count.

    Args:
        image: The finished image before any averaging, any number of channels.
        clip_positions: Vertices in clip space, as given to `rasterize`.
        faces: Vertex indices of each face, as given to `rasterize`.
        fragments: From `rasterize`.
        eps: Added to every distance, in NDC; bounds the gradient where an edge passes a pixel centre.
        backend: `"xla"`, `"triton"`, `"interpret"`, or None to choose by platform.

    Returns:
        `image`.

    Raises:
        ValueError: If shapes do not fit each other, or a value is out of range.
        TypeError: If an argument is not an array of the right kind of numbers, or if forward mode is asked for.

    References:
        Kato, Ushiku and Harada, Neural 3D mesh renderer, CVPR 2018, section 3.2.
    """
    image = _checks.as_float(image, "image")
    _checks.check_shape(image, "image", *fragments.face_index.shape, "channels")
    return edge_sweep_images((image,), clip_positions, faces, fragments, eps=eps, backend=backend)[0]


def edge_sweep_images(images, clip_positions, faces, fragments, *, eps, backend) -> tuple:
    """`edge_sweep` of several images as if their channels were one image's; unused ones cost nothing."""
    clip_positions = _checks.as_compute(clip_positions, "clip_positions")
    _checks.check_shape(clip_positions, "clip_positions", "vertices", 4)
    faces = _checks.as_faces(faces, clip_positions.shape[0])
    if isinstance(eps, bool) or not isinstance(eps, (int, float, np.number)) or not 0 <= float(eps) < np.inf:
        raise ValueError(f"eps must be a finite number that is not negative, got {eps!r}.")
    check_backend(backend)
    images = tuple(reverse_only(image, op="edge_sweep") for image in images)
    clip_positions = reverse_only(clip_positions, op="edge_sweep")
    try:
        return _edge_sweep(images, clip_positions, faces, fragments.face_index, float(eps), backend)
    except TypeError as error:
        # JAX's own message, where it comes first, does not say why.
        raise (forward_mode_error("edge_sweep") if "jvp" in str(error) else error) from error


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _edge_sweep(images, clip_positions, faces, face_index, eps, backend):
    del clip_positions, faces, face_index, eps, backend
    return images


def _forward(images, clip_positions, faces, face_index, eps, backend):
    del eps, backend
    values = tuple(image.value for image in images)
    return values, (values, clip_positions.value, faces.value, face_index.value)


def _backward(eps, backend, residuals, cotangents):
    images, clip_positions, faces, face_index = residuals
    dtype = clip_positions.dtype
    used = [i for i, cotangent in enumerate(cotangents) if not isinstance(cotangent, SymbolicZero)]
    grad = None
    if used:
        image = jnp.concatenate([images[i].astype(dtype) for i in used], axis=-1)
        cotangent = jnp.concatenate([cotangents[i].astype(dtype) for i in used], axis=-1)
        operands = image, cotangent, clip_positions, faces, face_index
        grad = edge_sweep_bwd_p.bind(*(operand[None] for operand in operands), eps=eps, backend=backend)[0]
    passed = tuple(c if i in used else jnp.zeros(c.shape, c.dtype) for i, c in enumerate(cotangents))
    return passed, grad, None, None


_edge_sweep.defvjp(_forward, _backward, symbolic_zeros=True)
