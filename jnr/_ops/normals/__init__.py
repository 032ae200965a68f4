"""Normals: of faces, summed at vertices, and vectors of length 1.

They are primitives for the sake of the CPU: XLA's code for arrays of three-vectors is ten times slower there. On GPUs
XLA fuses them with their neighbours, and the sums of cotangents are the gather op's.
"""

from functools import partial

import numpy as np
from jax import lax, numpy as jnp
from jax.interpreters import batching
from jaxtyping import Array, Float, Int

from jnr._backend import Backend
from jnr._inline_jit import inline_jit
from jnr._ops.batching import fold_batch
from jnr._ops.derivative import declare_differentiable
from jnr._ops.devices import vary_alike
from jnr._ops.gather import gather
from jnr._ops.normals import definition
from jnr._ops.op import Cpp, declare


def _with_gather(definition):
    """A definition with the gather op, whose transpose has a Triton kernel."""

    def on_gpu(*operands, backend):
        return definition(*operands, gather=partial(gather, backend=backend))

    return on_gpu


face_normals_p = declare_differentiable(
    definition.face_normals,
    lambda vertices, faces, index: ((index.shape[1], 3), vertices.dtype),
    cpp=Cpp(),
    on_gpu=_with_gather(definition.face_normals),
)
face_turns_p = declare(
    definition.face_turns,
    lambda clip_positions, faces, index, **_: ((index.shape[1],), clip_positions.dtype),
    cpp=Cpp(),
    on_gpu=lambda *operands, backend: definition.face_turns(*operands),
)
indexed_vertices_p = declare(
    definition.indexed_vertices,
    lambda *_, num_vertices, **__: ((num_vertices,), jnp.int8),
    cpp=Cpp(dtypes=("int32",)),
    on_gpu=lambda *operands, backend, num_vertices: definition.indexed_vertices(*operands, num_vertices=num_vertices),
)
normal_sums_p = declare_differentiable(
    definition.normal_sums,
    lambda vertices, *_: ((vertices.shape[1], 4), vertices.dtype),
    cpp=Cpp(),
    on_gpu=_with_gather(definition.normal_sums),
)


def _batch_normal_sums(operands, axes, **params):
    # Views of one mesh share the sums that any of them wants.
    if axes[-1] is not None and all(axis is None for axis in axes[:-1]):
        *mesh, wanted = operands
        return normal_sums_p.bind(*mesh, jnp.max(wanted, axis=axes[-1]), **params), None
    return fold_batch(normal_sums_p, operands, axes, **params)


batching.primitive_batchers[normal_sums_p] = _batch_normal_sums
unit_vectors_p = declare_differentiable(
    definition.unit_vectors,
    lambda sums: ((sums.shape[1], 3), sums.dtype),
    cpp=Cpp(),
    on_gpu=lambda sums, backend: definition.unit_vectors(sums),
)


def every_face(faces: Int[Array, "faces 3"]) -> Int[Array, " faces"]:
    """The index that names every face in order."""
    return jnp.asarray(np.arange(faces.shape[0], dtype=np.int32))


@inline_jit("backend")
def face_normals(
    vertices: Float[Array, "vertices 3"],
    faces: Int[Array, "faces 3"],
    index: Int[Array, "*shape"],
    *,
    backend: Backend | None = None,
) -> Float[Array, "*shape 3"]:
    """Unit normals of the faces that an index names; zero where it names none, and for degenerate faces.

    Gradients: reach `vertices`, in any mode and order.
    """
    operands = vary_alike(vertices, faces, index)
    rows = face_normals_p.bind(*(x[None] for x in operands[:2]), operands[2].reshape(1, -1), backend=backend)
    return rows.reshape(*index.shape, 3)


@inline_jit("backend")
def face_sides(
    clip_positions: Float[Array, "vertices 4"],
    faces: Int[Array, "faces 3"],
    index: Int[Array, "*shape"],
    clip_from_world: Float[Array, "4 4"],
    *,
    backend: Backend | None = None,
) -> Float[Array, "*shape"]:
    """1 where the camera sees the front of the face that an index names, where it is counter-clockwise; else -1."""
    operands = vary_alike(*lax.stop_gradient((clip_positions, faces, index)))
    turns = face_turns_p.bind(*(x[None] for x in operands[:2]), operands[2].reshape(1, -1), backend=backend)
    # A face seen from behind is clockwise in the image, or counter-clockwise if the camera mirrors.
    mirrored = jnp.linalg.det(lax.stop_gradient(clip_from_world)[:3, :3]) > 0
    return jnp.where(mirrored, -turns, turns).reshape(index.shape)


@inline_jit("backend")
def vertex_normals(
    vertices: Float[Array, "vertices 3"],
    faces: Int[Array, "faces 3"],
    seen: Int[Array, "*shape"] | None = None,
    *,
    backend: Backend | None = None,
) -> Float[Array, "vertices 3"]:
    """Unit normals of a smooth surface, see `jnr.vertex_normals`, for arguments that have been checked.

    With `seen`, an index of faces, the normals of their corners; those of other vertices are not used.
    """
    if 0 in (vertices.shape[0], faces.shape[0]):
        return jnp.zeros_like(vertices)
    if seen is None:
        wanted = jnp.ones((1, vertices.shape[0]), jnp.int8)
    else:
        operands = (x[None] for x in vary_alike(faces, seen.reshape(-1)))
        wanted = indexed_vertices_p.bind(*operands, num_vertices=vertices.shape[0], backend=backend)
    vertices, faces, wanted = vary_alike(vertices, faces, wanted[0])
    sums = normal_sums_p.bind(vertices[None], faces[None], wanted[None], backend=backend)
    return unit_vectors(sums[0], backend=backend)


@inline_jit("backend")
def unit_vectors(sums: Float[Array, "*shape 4"], *, backend: Backend | None = None) -> Float[Array, "*shape 3"]:
    """Sums of vectors `with_size`, normalized; zero where the vectors cancel but for the rounding of their sum.

    Gradients: reach the vectors, in any mode and order.
    """
    rows = unit_vectors_p.bind(sums.reshape(1, -1, 4), backend=backend)
    return rows.reshape(*sums.shape[:-1], 3)
