"""The mesh every loader and shape returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


class Mesh(NamedTuple):
    """A triangle mesh.

    Attributes:
        vertices: Positions.
        faces: int32 vertex indices of each face, counter-clockwise seen from outside.
        textures: Whatever `render` takes as textures, None where there is none.
    """

    vertices: Float[Array, "vertices 3"]
    faces: Int[Array, "faces 3"]
    textures: Float[Array, "vertices channels"] | Float[Array, "faces t t t channels"] | None = None
