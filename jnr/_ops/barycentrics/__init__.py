"""Perspective-correct barycentrics of the face that each pixel sees."""

from functools import partial

import jax
from jax.interpreters import ad

from jnr._backend import Backend
from jnr._inline_jit import inline_jit
from jnr._ops.barycentrics import definition
from jnr._ops.devices import vary_alike
from jnr._ops.gather import gather
from jnr._ops.op import Cpp, Triton, declare


def _image_of_weights(*operands, **_):
    *_, face_index = operands
    return (*face_index.shape[1:], 3), operands[0].dtype


barycentrics_p = declare(
    definition.barycentrics, _image_of_weights, cpp=Cpp(), triton=Triton("barycentrics", default=False)
)
# Forward mode is plain JAX on every backend.
barycentrics_tangent_p = declare(definition.barycentrics_tangent, _image_of_weights, definition_only=True)
barycentrics_bwd_p = declare(
    definition.barycentrics_bwd,
    lambda cotangent, clip_positions, *_, **__: (clip_positions.shape[1:], cotangent.dtype),
    cpp=Cpp(),
    triton=Triton("barycentrics"),
)


@inline_jit("backend")
def barycentrics(
    clip_positions: jax.Array, faces: jax.Array, face_index: jax.Array, *, backend: Backend | None = None
) -> jax.Array:
    """Perspective-correct barycentrics at each pixel, zero on background.

    Gradients: reach `clip_positions`, in any mode and order.

    Args:
        clip_positions: `(vertices, 4)`.
        faces: `(faces, 3)`.
        face_index: `(height, width)`, -1 on background.
        backend: See `declare`.

    Returns:
        `(height, width, 3)`.
    """
    operands = vary_alike(clip_positions, faces, face_index)
    return barycentrics_p.bind(*(operand[None] for operand in operands), backend=backend)[0]


def visible_corners(faces: jax.Array, face_index: jax.Array, *, backend: Backend | None = None) -> jax.Array:
    """Vertex index of each corner of the face that a pixel sees, `(height, width, 3)`; -1 on background."""
    return gather(faces, face_index, backend=backend)


def _jvp(primals, tangents, **params):
    tangent = ad.instantiate_zeros(tangents[0])
    return barycentrics_p.bind(*primals, **params), barycentrics_tangent_p.bind(tangent, *primals, **params)


def _transpose_tangent(cotangent, tangent, *primals, backend):
    if isinstance(cotangent, ad.Zero):
        return ad.Zero(tangent.aval), None, None, None
    sums = tangent.aval.shape[0]
    return barycentrics_bwd_p.bind(cotangent, *primals, sums=sums, backend=backend), None, None, None


def _jvp_of_definition(function, primals, tangents, *, backend, **params):
    """Derivatives beyond the first are those of plain JAX."""
    del backend
    (first, clip_positions, *rest), (first_tangent, clip_tangent, *_) = primals, tangents
    return jax.jvp(
        lambda *moved: function(*moved, *rest, **params),
        (first, clip_positions),
        tuple(map(ad.instantiate_zeros, (first_tangent, clip_tangent))),
    )


ad.primitive_jvps[barycentrics_p] = _jvp
ad.primitive_jvps[barycentrics_tangent_p] = partial(_jvp_of_definition, definition.barycentrics_tangent)
ad.primitive_jvps[barycentrics_bwd_p] = partial(_jvp_of_definition, definition.barycentrics_bwd)
ad.primitive_transposes[barycentrics_tangent_p] = _transpose_tangent
