"""Perspective-correct barycentrics of the face that each pixel sees."""

import jax

from jnr._backend import Backend
from jnr._inline_jit import inline_jit
from jnr._ops.barycentrics import definition
from jnr._ops.derivative import set_derivative
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
_positions_maps = (
    (barycentrics_tangent_p, definition.barycentrics_tangent),
    (barycentrics_bwd_p, definition.barycentrics_bwd),
)
set_derivative(barycentrics_p, {0: _positions_maps})


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
