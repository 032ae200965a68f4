"""OpenDR's gradient of visibility."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Literal

import jax.numpy as jnp

from jnr import _checks
from jnr._ops._primitive import batched_primitive
from jnr._ops.rasterize import Fragments
from jnr._ops.visibility import with_gradient
from jnr._xla.opendr import occlusion_boundary, opendr_bwd as opendr_bwd_xla

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

opendr_bwd_p = batched_primitive(
    "jnr_opendr_bwd",
    opendr_bwd_xla,
    lambda image, cotangent, clip_positions, *_, **__: (clip_positions.shape[1:], clip_positions.dtype),
)


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

    def __call__(self, image, cotangent, clip_positions, faces, fragments):
        """The cotangent of the positions; see `jnr.gradients.Gradient`."""
        face_index, barycentric = fragments.face_index, fragments.barycentric.astype(clip_positions.dtype)
        one_sided = self.boundary is not None
        boundary = jnp.zeros(face_index.shape, bool)
        if one_sided:
            boundary = occlusion_boundary(clip_positions, faces, face_index)
        operands = image, cotangent, clip_positions, faces, face_index, barycentric, boundary
        return opendr_bwd_p.bind(*(operand[None] for operand in operands), one_sided=one_sided, backend=None)[0]


def opendr(
    image: Float[Array, "height width channels"],
    clip_positions: Float[Array, "vertices 4"],
    faces: Int[Array, "faces 3"],
    fragments: Fragments,
    *,
    boundary: Literal["occlusion"] | None = "occlusion",
) -> Float[Array, "height width channels"]:
    """Returns `image` unchanged and gives the positions OpenDR's gradient.

    A pixel that sees a face is taken to show a picture that moves with the face: its colour changes by the difference
    of its neighbours' colours. At an occlusion boundary the occluder owns the pixel and gets the whole difference;
    beside it only the other side's difference counts. So a pixel moves its face only where colours differ within a
    pixel or two of it, and background pixels move nothing.

    Gradients: the cotangent of `image` passes through as it is. `clip_positions` receive OpenDR's gradient (x, y, and w
    through the perspective division; never z), linear in the cotangent. Reverse mode only. It contains what colours
    change with the barycentrics, so pass an image whose barycentrics have no gradient of their own.

    Args:
        image: The finished image before any averaging, any number of channels.
        clip_positions: Vertices in clip space, as given to `rasterize`.
        faces: Vertex indices of each face, as given to `rasterize`.
        fragments: From `rasterize`.
        boundary: `"occlusion"` treats pixels on occlusion boundaries apart (those with a neighbour that sees background
            or a surface behind their own), None treats all pixels alike.

    Returns:
        `image`.

    Raises:
        ValueError: If shapes do not fit each other, or `boundary` is an unknown name.
        TypeError: If an argument is not of the right kind, or if forward mode is asked for.

    References:
        Loper and Black, OpenDR: an approximate differentiable renderer, ECCV 2014, section 4.
    """
    return with_gradient(image, clip_positions, faces, fragments, OpenDR(boundary))
