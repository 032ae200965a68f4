"""OBJ files."""

from __future__ import annotations

import os
from pathlib import Path

from jaxtyping import ArrayLike, Float, Int

import jnr


def save_obj(
    filename: str | os.PathLike,
    vertices: Float[ArrayLike, "vertices 3"],
    faces: Int[ArrayLike, "faces 3"],
    textures: Float[ArrayLike, "faces t t t 3"] | None = None,
) -> None:
    """Writes an OBJ file; with textures also an MTL file and a PNG file with 16 x 16 texels per face.

    Args:
        filename: The file, ending in .obj.
        vertices: Positions.
        faces: Vertex indices of each face.
        textures: Texture cubes, or None.

    Raises:
        ImportError: If there are textures and Pillow is missing.
        ValueError: If `filename` does not end in .obj, a shape is wrong or a number not finite.
    """
    if Path(filename).suffix.lower() != ".obj":
        raise ValueError(f"filename must end in .obj, got {str(filename)!r}.")
    # `save` converts them.
    jnr.save(filename, jnr.Mesh(vertices, faces, textures))  # pyright: ignore[reportArgumentType]
