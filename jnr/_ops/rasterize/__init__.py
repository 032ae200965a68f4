"""Rasterize: which face each pixel sees, and where on it."""

import warnings
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int

from jnr import _checks
from jnr._backend import Backend, check_backend
from jnr._inline_jit import inline_jit
from jnr._ops.barycentrics import barycentrics, visible_corners
from jnr._ops.batching import batch_size, has_symbolic_batch
from jnr._ops.gather import weighted_gather
from jnr._ops.op import Cpp, Triton, declare
from jnr._ops.rasterize import definition

Cull = Literal["back", "front"]


class Fragments(NamedTuple):
    """What each pixel sees of a mesh.

    Attributes:
        face_index: int32; the face, -1 where there is none.
        barycentric: Perspective-correct weights of the face's corners; zero where there is no face.
        clip_w: Clip-space w, which is the distance along the view axis of a perspective camera and 1 for an
            orthographic one; zero where there is no face.
    """

    face_index: Int[Array, "height width"]
    barycentric: Float[Array, "height width 3"]
    clip_w: Float[Array, "height width"]

    @property
    def depth(self) -> Float[Array, "height width"]:
        """The former name of `clip_w`."""
        warnings.warn("Fragments.depth is now Fragments.clip_w.", DeprecationWarning, stacklevel=2)
        return self.clip_w


def check_fragments(fragments: Any) -> Fragments:
    """The fragments with arrays of the right kinds and shapes."""
    if not all(hasattr(fragments, name) for name in ("face_index", "barycentric")):
        raise TypeError(f"fragments must be a jnr.Fragments, as rasterize returns, got {type(fragments).__name__}.")
    face_index = jnp.asarray(fragments.face_index)
    if not jnp.issubdtype(face_index.dtype, jnp.integer):
        raise TypeError(f"fragments.face_index must be integers, got dtype {face_index.dtype}.")
    _checks.check_shape(face_index, "fragments.face_index", "height", "width")
    barycentric = _checks.as_float(fragments.barycentric, "fragments.barycentric")
    _checks.check_shape(barycentric, "fragments.barycentric", *face_index.shape, 3)
    return Fragments(face_index.astype(jnp.int32), barycentric, fragments.clip_w)


def check_picture(
    image: Any, clip_positions: Any, faces: Any, fragments: Any
) -> tuple[jax.Array, jax.Array, jax.Array, Fragments]:
    """A finished image, the mesh that it shows and what its pixels see, of the right kinds and shapes."""
    fragments = check_fragments(fragments)
    image = _checks.as_float(image, "image")
    _checks.check_shape(image, "image", *fragments.face_index.shape, "channels")
    clip_positions = _checks.as_compute(clip_positions, "clip_positions")
    _checks.check_shape(clip_positions, "clip_positions", "vertices", 4)
    return image, clip_positions, _checks.as_faces(faces, clip_positions.shape[0]), fragments


CULLED = {None: 0, "back": 1, "front": 2}


def _image_of_faces(clip_positions, faces, *, height, width, **_):
    batch = batch_size((clip_positions, faces))
    if has_symbolic_batch((clip_positions, faces)):
        return (height, width), jnp.int32
    if batch * height * width >= 2**31:
        raise ValueError(
            f"image_size times the batch must stay below 2**31 pixels, got {batch} images of {height} x {width}."
        )
    if batch * max(faces.shape[1], clip_positions.shape[1]) >= 2**31:
        raise ValueError(
            f"faces and vertices times the batch must stay below 2**31, got a batch of {batch}, {faces.shape[1]} faces "
            f"and {clip_positions.shape[1]} vertices."
        )
    return (height, width), jnp.int32


rasterize_p = declare(
    definition.rasterize,
    _image_of_faces,
    cpp=Cpp(attributes=lambda *, cull, **_: {"cull": np.int64(CULLED[cull])}),
    triton=Triton("rasterize"),
)


def rasterize(
    clip_positions: Float[ArrayLike, "vertices 4"],
    faces: Int[ArrayLike, "faces 3"],
    image_size: int | tuple[int, int],
    *,
    cull: Cull | None = None,
    backend: Backend | None = None,
) -> Fragments:
    """Finds the nearest face at every pixel centre, and the point of the face that is seen.

    A face covers its boundary. At equal depth a face that is counter-clockwise in the image wins over one that is
    clockwise, and then the lowest face index. So of a surface that is listed twice, once each way round, the side that
    faces the camera is seen. Faces with the same corners have the same depth, whatever the order of the corners. A
    point is visible where `-w <= z <= w`, tested at each pixel, so faces may cross the near plane or reach behind the
    camera. Degenerate faces, faces with a corner that is not finite and padding faces (index -1) are not rendered.

    Gradients: `barycentric` and `clip_w` reach `clip_positions`, in forward and reverse mode, as if every pixel kept
    its face. `face_index` is a constant; `edge_sweep` and `opendr` carry gradients of visibility.

    Args:
        clip_positions: Vertices in clip space as in OpenGL, x right and y up.
        faces: Vertex indices of each face, counter-clockwise seen from the front.
        image_size: Height and width, or one int for both.
        cull: `"back"` omits faces that are clockwise in the image, `"front"` the others.
        backend: `"xla"`, `"cpu"`, `"triton"`, or None to choose by platform.

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
    return rasterize_unchecked(clip_positions, faces, height=height, width=width, cull=cull, backend=backend)


@inline_jit("height", "width", "cull", "backend")
def rasterize_unchecked(
    clip_positions: jax.Array,
    faces: jax.Array,
    *,
    height: int,
    width: int,
    cull: Cull | None,
    backend: Backend | None,
) -> Fragments:
    """`rasterize` for arguments that have been checked."""
    face_index = rasterize_p.bind(
        lax.stop_gradient(clip_positions)[None], faces[None], height=height, width=width, cull=cull, backend=backend
    )[0]
    barycentric = barycentrics(clip_positions, faces, face_index, backend=backend)
    corners = visible_corners(faces, face_index, backend=backend)
    clip_w = weighted_gather(clip_positions[:, 3:], barycentric, corners, backend=backend)
    return Fragments(face_index, barycentric, clip_w[..., 0])
