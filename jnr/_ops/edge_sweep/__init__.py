"""Edge sweep: the visibility gradient of Neural 3D Mesh Renderer."""

import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from jnr._backend import Backend, check_backend
from jnr._ops.edge_sweep import definition
from jnr._ops.op import Cpp, Triton, declare
from jnr._ops.rasterize import Fragments
from jnr._ops.reverse_only import without_derivative
from jnr._ops.visibility import with_gradient

edge_sweep_bwd_p = declare(
    definition.edge_sweep_bwd,
    lambda image, cotangent, clip_positions, *_, **__: (clip_positions.shape[1:], clip_positions.dtype),
    # The C++ kernel adds in a fixed order, so it is deterministic in any case.
    cpp=Cpp(attributes=lambda *, eps, **_: {"eps": np.float64(eps)}),
    triton=Triton("edge_sweep"),
)
without_derivative(edge_sweep_bwd_p, "edge_sweep")


@dataclasses.dataclass(frozen=True)
class EdgeSweep:
    """Neural Renderer's gradient, as `edge_sweep` describes it.

    Attributes:
        eps: Added to every distance, in NDC; bounds the gradient where an edge passes a pixel centre.
        deterministic: Whether equal arguments give equal bits, see `edge_sweep`.
        backend: `"xla"`, `"cpu"`, `"triton"`, or None to choose by platform (in `render`, to take its backend).
    """

    eps: float = 1e-3
    deterministic: bool = False
    backend: Backend | None = None
    op: ClassVar = "edge_sweep"

    def __post_init__(self):
        eps = self.eps
        if isinstance(eps, bool) or not isinstance(eps, (int, float, np.number)) or not 0 <= float(eps) < np.inf:
            raise ValueError(f"eps must be a finite number that is not negative, got {eps!r}.")
        if not isinstance(self.deterministic, bool):
            raise TypeError(f"deterministic must be True or False, got {self.deterministic!r}.")
        check_backend(self.backend)

    def __call__(
        self,
        image: Float[Array, "height width channels"],
        cotangent: Float[Array, "height width channels"],
        clip_positions: Float[Array, "vertices 4"],
        faces: Int[Array, "faces 3"],
        fragments: Fragments,
    ) -> Float[Array, "vertices 4"]:
        """The cotangent of the positions; see `jnr.gradients.Gradient`."""
        operands = image, cotangent, clip_positions, faces, fragments.face_index
        options = {"eps": float(self.eps), "deterministic": self.deterministic, "backend": self.backend}
        return edge_sweep_bwd_p.bind(*(operand[None] for operand in operands), **options)[0]


def edge_sweep(
    image: Float[ArrayLike, "height width channels"],
    clip_positions: Float[ArrayLike, "vertices 4"],
    faces: Int[ArrayLike, "faces 3"],
    fragments: Fragments,
    *,
    eps: float = 1e-3,
    deterministic: bool = False,
    backend: Backend | None = None,
) -> Float[Array, "height width channels"]:
    """Returns `image` unchanged and attaches the edge-sweep gradient of visibility to the positions.

    Along the row and the column of every pixel that sees a face, each pixel beyond the face's crossing with that line
    is
    examined: would the loss fall if it took the colour on the other side of the crossing? If it would, the edge's
    vertices are pulled towards it, with a force of the gain over the distance that the vertex has to move. So a pixel
    far from a face still moves the face, and only in the direction in which the loss falls.

    Gradients: the cotangent of `image` passes through unchanged. `clip_positions` receive the edge sweep (x, y, and w
    through the perspective division; never z). It is not linear in the cotangent: negating the loss does not negate the
    gradient, and the gradients of two losses do not add up to the gradient of their sum. Reverse mode only. The gain of
    a pixel is the sum over all channels, so pass colour and alpha together if both count.

    Args:
        image: The finished image before supersamples are averaged, with any number of channels.
        clip_positions: Vertices in clip space, as given to `rasterize`.
        faces: Vertex indices of each face, as given to `rasterize`.
        fragments: From `rasterize`.
        eps: Added to every distance, in NDC; bounds the gradient where an edge passes a pixel centre.
        deterministic: Whether equal arguments give equal bits. On a CPU they always do; the GPU kernel needs about
            twice the time for it. `XLA_FLAGS=--xla_gpu_deterministic_ops=true` makes every sum on a GPU deterministic:
            this one, those through colours, textures and depth, and those of plain JAX.
        backend: `"xla"`, `"cpu"`, `"triton"`, or None to choose by platform.

    Returns:
        `image`.

    Raises:
        ValueError: If shapes do not match, or a value is out of range.
        TypeError: If an argument is not an array of the right kind of numbers, or if forward mode is used.

    References:
        Kato, Ushiku and Harada, Neural 3D mesh renderer, CVPR 2018, section 3.2.
    """
    gradient = EdgeSweep(eps, deterministic=deterministic, backend=backend)
    return with_gradient(image, clip_positions, faces, fragments, gradient)
