"""OpenDR: the visibility gradient of OpenDR."""

import dataclasses
from typing import ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from jnr import _checks
from jnr._ops.op import declare
from jnr._ops.opendr import definition
from jnr._ops.rasterize import Fragments
from jnr._ops.reverse_only import without_derivative
from jnr._ops.visibility import with_gradient

opendr_bwd_p = declare(
    definition.opendr_bwd,
    lambda image, cotangent, clip_positions, *_, **__: (clip_positions.shape[1:], clip_positions.dtype),
    definition_only=True,
)
without_derivative(opendr_bwd_p, "opendr")


@dataclasses.dataclass(frozen=True)
class OpenDR:
    """OpenDR's gradient, as `opendr` describes it.

    Attributes:
        boundary: `"occlusion"` to find the occlusion boundaries, or None to treat all pixels alike.
    """

    boundary: Literal["occlusion"] | None = "occlusion"
    op: ClassVar = "opendr"

    def __post_init__(self):
        _checks.check_choice(self.boundary, "boundary", (None, "occlusion"))

    def __call__(
        self,
        image: Float[Array, "height width channels"],
        cotangent: Float[Array, "height width channels"],
        clip_positions: Float[Array, "vertices 4"],
        faces: Int[Array, "faces 3"],
        fragments: Fragments,
    ) -> Float[Array, "vertices 4"]:
        """The cotangent of the positions; see `jnr.gradients.Gradient`."""
        face_index, barycentric = fragments.face_index, fragments.barycentric.astype(clip_positions.dtype)
        one_sided = self.boundary is not None
        boundary = jnp.zeros(face_index.shape, bool)
        if one_sided:
            boundary = definition.occlusion_boundary(clip_positions, faces, face_index)
        operands = image, cotangent, clip_positions, faces, face_index, barycentric, boundary
        return opendr_bwd_p.bind(*(operand[None] for operand in operands), one_sided=one_sided, backend=None)[0]


def opendr(
    image: Float[ArrayLike, "height width channels"],
    clip_positions: Float[ArrayLike, "vertices 4"],
    faces: Int[ArrayLike, "faces 3"],
    fragments: Fragments,
    *,
    boundary: Literal["occlusion"] | None = "occlusion",
) -> Float[Array, "height width channels"]:
    """Returns `image` unchanged and attaches OpenDR's gradient of visibility to the positions.

    The image around a pixel that sees a face is taken to move with the face: the pixel's colour changes by the
    difference of its neighbours' colours. At an occlusion boundary the pixel belongs to the occluder, which receives
    the whole difference; beside the boundary only the difference on the other side counts. So a pixel moves its face
    only where colours differ within a pixel or two of it, and background pixels move nothing.

    Gradients: the cotangent of `image` passes through unchanged. `clip_positions` receive OpenDR's gradient (x, y, and
    w through the perspective division; never z), linear in the cotangent. Reverse mode only. It includes how colours
    change with the barycentrics, so pass an image whose barycentrics have no gradient of their own.

    Args:
        image: The finished image before supersamples are averaged, with any number of channels.
        clip_positions: Vertices in clip space, as given to `rasterize`.
        faces: Vertex indices of each face, as given to `rasterize`.
        fragments: From `rasterize`.
        boundary: `"occlusion"` treats pixels on occlusion boundaries separately (those with a neighbour that sees
            background or a surface behind their own), None treats all pixels alike.

    Returns:
        `image`.

    Raises:
        ValueError: If shapes do not match, or `boundary` is an unknown name.
        TypeError: If an argument is not of the right kind, or if forward mode is used.

    References:
        Loper and Black, OpenDR: an approximate differentiable renderer, ECCV 2014, section 4.
    """
    return with_gradient(image, clip_positions, faces, fragments, OpenDR(boundary))
