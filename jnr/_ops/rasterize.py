"""Which face each pixel sees, and where on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import jax.numpy as jnp
from jax import lax

from jnr import _checks, _cpu
from jnr._backend import Backend, check_backend
from jnr._ops._primitive import batch_size, batched_primitive
from jnr._ops.resolve import face_corners, resolve
from jnr._ops.rows import blend_rows
from jnr._program import program
from jnr._xla.rasterize import rasterize as rasterize_xla

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

Cull = Literal["back", "front"]


class Fragments(NamedTuple):
    """What each pixel sees of a mesh.

    Attributes:
        face_index: int32; the face, -1 where there is none.
        barycentric: Perspective-correct weights of the face's corners; zero where there is no face.
        depth: Clip-space w, which is the distance along the view axis of a perspective camera and 1 for an
            orthographic one; zero where there is no face.
    """

    face_index: Int[Array, "height width"]
    barycentric: Float[Array, "height width 3"]
    depth: Float[Array, "height width"]


def _shape(clip_positions, faces, *, height, width, **_):
    if batch_size((clip_positions, faces)) * height * width >= 2**31:
        raise ValueError(
            f"image_size times the batch must stay below 2**31 pixels, got {batch_size((clip_positions, faces))} "
            f"images of {height} x {width}."
        )
    if batch_size((clip_positions, faces)) * max(faces.shape[1], clip_positions.shape[1]) >= 2**31:
        raise ValueError(
            f"faces and vertices times the batch must stay below 2**31, got a batch of "
            f"{batch_size((clip_positions, faces))}, {faces.shape[1]} faces and {clip_positions.shape[1]} vertices."
        )
    return (height, width), jnp.int32


rasterize_p = batched_primitive(
    "jnr_rasterize", rasterize_xla, _shape, cpu=_cpu.rasterize, kernels=("rasterize", "rasterize")
)


def rasterize(
    clip_positions: Float[Array, "vertices 4"],
    faces: Int[Array, "faces 3"],
    image_size: int | tuple[int, int],
    *,
    cull: Cull | None = None,
    backend: Backend | None = None,
) -> Fragments:
    """Finds the nearest face at every pixel centre, and the point of it that is seen.

    A face covers its boundary; at equal depth the lowest face index wins, so the result does not depend on
    the order of execution. Visible is what satisfies `-w <= z <= w`, tested at each pixel, so faces may cross
    the near plane or reach behind the camera. Degenerate faces, faces with a corner that is not finite and
    padding faces (index -1) are not drawn.

    Gradients: `barycentric` and `depth` reach `clip_positions`, in forward and reverse mode, as if every pixel
    kept its face. `face_index` is a constant; `edge_sweep` carries the gradient of visibility.

    Args:
        clip_positions: Vertices in clip space as in OpenGL, x right and y up.
        faces: Vertex indices of each face, counter-clockwise seen from the front.
        image_size: Height and width, or one int for both.
        cull: `"back"` leaves out faces that are clockwise in the image, `"front"` the others.
        backend: `"xla"`, `"cpu"`, `"triton"`, `"interpret"`, or None to choose by platform.

    Returns:
        The fragments. Pixel (r, c) has its centre at NDC ((2c + 1) / width - 1, 1 - (2r + 1) / height).

    Raises:
        ValueError: If a shape, size, index or name is not allowed.
        TypeError: If an argument is not an array of the right kind of numbers.

    Example:
        >>> triangle = jnp.array([[-1.0, -1, 0, 1], [1, -1, 0, 1], [0, 1, 0, 1]])
        >>> jnr.rasterize(triangle, jnp.array([[0, 1, 2]]), 4).face_index
        Array([[-1, -1, -1, -1],
               [-1,  0,  0, -1],
               [-1,  0,  0, -1],
               [ 0,  0,  0,  0]], dtype=int32)

    References:
        Olano and Greer, Triangle scan conversion using 2D homogeneous coordinates, 1997.
    """
    clip_positions = _checks.as_compute(clip_positions, "clip_positions")
    _checks.check_shape(clip_positions, "clip_positions", "vertices", 4)
    faces = _checks.as_faces(faces, clip_positions.shape[0])
    height, width = _checks.as_image_size(image_size)
    _checks.check_choice(cull, "cull", (None, "back", "front"))
    check_backend(backend)
    return _fragments(clip_positions, faces, height=height, width=width, cull=cull, backend=backend)


@program("height", "width", "cull", "backend")
def _fragments(clip_positions, faces, *, height, width, cull, backend):
    face_index = rasterize_p.bind(
        lax.stop_gradient(clip_positions)[None], faces[None], height=height, width=width, cull=cull, backend=backend
    )[0]
    barycentric = resolve(clip_positions, faces, face_index, backend=backend)
    corners = face_corners(faces, face_index, backend=backend)
    depth = blend_rows(clip_positions[:, 3:], barycentric, corners, backend=backend)
    return Fragments(face_index, barycentric, depth[..., 0])
