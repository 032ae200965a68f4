"""Edge sweep: the visibility gradient of Neural 3D Mesh Renderer."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from jnr._backend import Backend, check_backend
from jnr._ops.edge_sweep import definition
from jnr._ops.interpolate import interpolate_unchecked
from jnr._ops.op import Cpp, Triton, declare
from jnr._ops.rasterize import Fragments
from jnr._ops.reverse_only import without_derivative
from jnr._ops.visibility import with_gradient

edge_sweep_bwd_p = declare(
    definition.edge_sweep_bwd,
    lambda image, cotangent, clip_positions, *_, **__: (clip_positions.shape[1:], clip_positions.dtype),
    # The C++ kernel adds in a fixed order, so it is deterministic in any case.
    cpp=Cpp(
        attributes=lambda *, eps, silhouettes_only, **_: {
            "eps": np.float64(eps),
            "silhouettes_only": np.bool_(silhouettes_only),
        }
    ),
    triton=Triton("edge_sweep"),
)
without_derivative(edge_sweep_bwd_p, "edge_sweep")

# Difference of NDC depths that counts as none: eight units in the last place of a depth near 1 in float32.
TIE = 2.0**-20


@dataclasses.dataclass(frozen=True)
class EdgeSweep:
    """Neural Renderer's gradient, as `edge_sweep` describes it.

    Attributes:
        eps: Added to every distance, in NDC; bounds the gradient where an edge passes a pixel centre.
        deterministic: Whether equal arguments give equal bits, see `edge_sweep`.
        backend: `"xla"`, `"cpu"`, `"triton"`, or None to choose by platform (in `render`, to take its backend).
        occlusion: Whether nearer surfaces hide edges, see `edge_sweep`.
        silhouettes_only: Whether edges inside a surface are left out, see `edge_sweep`.
    """

    eps: float = 1e-3
    deterministic: bool = False
    backend: Backend | None = None
    _: dataclasses.KW_ONLY
    occlusion: bool = False
    silhouettes_only: bool = False
    op: ClassVar = "edge_sweep"

    def __post_init__(self):
        eps = self.eps
        if isinstance(eps, bool) or not isinstance(eps, (int, float, np.number)) or not 0 <= float(eps) < np.inf:
            raise ValueError(f"eps must be a finite number that is not negative, got {eps!r}.")
        for name in ("deterministic", "occlusion", "silhouettes_only"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}.")
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
        if self.occlusion:
            depth_limit = _ndc_depth(clip_positions, faces, fragments, self.backend) + TIE
        else:
            depth_limit = jnp.zeros((0, 0), clip_positions.dtype)
        operands = image, cotangent, clip_positions, faces, fragments.face_index, depth_limit
        options = {"eps": float(self.eps), "deterministic": self.deterministic, "backend": self.backend}
        options |= {"silhouettes_only": self.silhouettes_only}
        return edge_sweep_bwd_p.bind(*(operand[None] for operand in operands), **options)[0]


def _ndc_depth(clip_positions, faces, fragments, backend):
    """NDC depth of what each pixel sees, infinite on background."""
    covered = fragments.face_index >= 0
    z, w = jnp.moveaxis(interpolate_unchecked(clip_positions[:, 2:], faces, fragments, backend=backend), -1, 0)
    return jnp.where(covered, z / jnp.where(covered, w, 1), jnp.inf)


def edge_sweep(
    image: Float[ArrayLike, "height width channels"],
    clip_positions: Float[ArrayLike, "vertices 4"],
    faces: Int[ArrayLike, "faces 3"],
    fragments: Fragments,
    *,
    eps: float = 1e-3,
    occlusion: bool = False,
    silhouettes_only: bool = False,
    deterministic: bool = False,
    backend: Backend | None = None,
) -> Float[Array, "height width channels"]:
    """Returns `image` unchanged and attaches the edge-sweep gradient of visibility to the positions.

    Along the row and the column of every pixel that sees a face, each pixel beyond the face's crossing with that line
    is
    examined: would the loss fall if it took the colour on the other side of the crossing? If it would, the edge's
    vertices are pulled towards it, with a force of the gain over the distance that the vertex has to move. So a pixel
    far from a face still moves the face, and only in the direction in which the loss falls.

    By default the gradient is the published one, which neither looks at depth nor knows which faces are neighbours.
    `occlusion` and `silhouettes_only` leave out what moving an edge would not change. The second is also faster, where
    colours have a loss.

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
        occlusion: Whether nearer surfaces hide edges. A crossing is not counted if the pixel beyond it sees a surface
            nearer than the edge is there, so no occluder's colour stands for the colour behind the face; and a pull
            from outside the face ends at the first pixel that sees such a surface.
        silhouettes_only: Whether crossings are left out if the pixel beyond sees the face on the other side of the
            edge: one that has both vertices of the edge. The surface goes on there, so moving the edge uncovers
            nothing. Faces that share no vertices have no neighbours.
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
    options = {"occlusion": occlusion, "silhouettes_only": silhouettes_only}
    gradient = EdgeSweep(eps, deterministic=deterministic, backend=backend, **options)
    return with_gradient(image, clip_positions, faces, fragments, gradient)
