"""The edge-sweep gradient of visibility."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from jnr import _cpu
from jnr._backend import Backend, check_backend
from jnr._ops._primitive import batched_primitive
from jnr._ops.rasterize import Fragments
from jnr._ops.visibility import with_gradient
from jnr._xla.edge_sweep import edge_sweep_bwd as edge_sweep_bwd_xla

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

edge_sweep_bwd_p = batched_primitive(
    "jnr_edge_sweep_bwd",
    edge_sweep_bwd_xla,
    lambda image, cotangent, clip_positions, *_, **__: (clip_positions.shape[1:], clip_positions.dtype),
    cpu=_cpu.edge_sweep_bwd,
    kernels=("edge_sweep", "edge_sweep_bwd"),
)


@dataclasses.dataclass(frozen=True)
class EdgeSweep:
    """Neural Renderer's gradient, as `edge_sweep` describes it.

    Attributes:
        eps: Added to every distance, in NDC; bounds the gradient where an edge passes a pixel centre.
        deterministic: Whether the result has the same bits every time, see `edge_sweep`.
        backend: `"xla"`, `"cpu"`, `"triton"`, `"interpret"`, or None to choose by platform.
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

    def __call__(self, image, cotangent, clip_positions, faces, fragments):
        """The cotangent of the positions; see `jnr.gradients.Gradient`."""
        operands = image, cotangent, clip_positions, faces, fragments.face_index
        options = {"eps": float(self.eps), "deterministic": self.deterministic, "backend": self.backend}
        return edge_sweep_bwd_p.bind(*(operand[None] for operand in operands), **options)[0]


def edge_sweep(
    image: Float[Array, "height width channels"],
    clip_positions: Float[Array, "vertices 4"],
    faces: Int[Array, "faces 3"],
    fragments: Fragments,
    *,
    eps: float = 1e-3,
    deterministic: bool = False,
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
        deterministic: Whether the sweep's gradient has the same bits every time. It has on a CPU; the GPU kernel needs
            about twice the time for it. With `XLA_FLAGS=--xla_gpu_deterministic_ops=true` every sum on a GPU has them:
            this one, those through colours, textures and depth, and those of plain JAX.
        backend: `"xla"`, `"cpu"`, `"triton"`, `"interpret"`, or None to choose by platform.

    Returns:
        `image`.

    Raises:
        ValueError: If shapes do not fit each other, or a value is out of range.
        TypeError: If an argument is not an array of the right kind of numbers, or if forward mode is asked for.

    References:
        Kato, Ushiku and Harada, Neural 3D mesh renderer, CVPR 2018, section 3.2.
    """
    gradient = EdgeSweep(eps, deterministic=deterministic, backend=backend)
    return with_gradient(image, clip_positions, faces, fragments, gradient)
