"""OBJ files."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp

import jnr
from jnr import _checks
from jnr._textures import Wrap

WRAPS: dict[str, Wrap] = {
    "REPEAT": "repeat",
    "MIRRORED_REPEAT": "mirror",
    "CLAMP_TO_EDGE": "clamp",
    "CLAMP_TO_BORDER": "border",
}


def load_obj(
    filename_obj: str | os.PathLike,
    normalization: bool = True,
    texture_size: int = 4,
    load_texture: bool = False,
    texture_wrapping: str = "REPEAT",
    use_bilinear: bool = True,
) -> Any:
    """Loads an OBJ file.

    Args:
        filename_obj: The file.
        normalization: Whether the mesh is centred and scaled to [-1, 1] along its longest side.
        texture_size: Texels along each side of a texture cube.
        load_texture: Whether to read materials and images.
        texture_wrapping: Continuation of images beyond their edges: `"REPEAT"`, `"MIRRORED_REPEAT"`, `"CLAMP_TO_EDGE"`
            or `"CLAMP_TO_BORDER"`.
        use_bilinear: Whether images are sampled bilinearly, else at the nearest texel.

    Returns:
        Vertices (vertices, 3) and int32 faces (faces, 3); with `load_texture` also texture cubes
        (faces, t, t, t, 3). Faces without a material are grey (0.5).

    Raises:
        FileNotFoundError: If the file does not exist.
        ImportError: If Pillow is needed and missing.
        ValueError: If `texture_wrapping` is unknown or the file invalid, see `jnr.load`.
    """
    _checks.check_choice(texture_wrapping, "texture_wrapping", tuple(WRAPS))
    mesh = jnr.load(filename_obj, wrap=WRAPS[texture_wrapping], textures=load_texture)
    if normalization:
        mesh = jnr.normalize(mesh)
    if not load_texture:
        return mesh.vertices, mesh.faces
    texture = mesh.textures
    if not isinstance(texture, jnr.UVTexture) or _is_white_texel(texture):
        value = 1.0 if _has_materials(filename_obj) else 0.5
        return mesh.vertices, mesh.faces, jnp.full((mesh.faces.shape[0], *(texture_size,) * 3, 3), value)
    if not use_bilinear:
        texture = dataclasses.replace(texture, filter="nearest")
    # Neural Renderer has no transparency, and cubes have no opacity.
    return mesh.vertices, mesh.faces, jnr.uv_to_cubes(texture, mesh.faces, texture_size)


def _is_white_texel(texture):
    """Whether the texture is what `jnr.load` makes of a file without images, or a white material."""
    return (
        not isinstance(texture.images, tuple) and texture.images.shape == (1, 1, 3) and bool(texture.images.min() == 1)
    )


def _has_materials(path):
    with Path(path).open("rb") as file:
        keywords = {line.split(maxsplit=1)[0] for line in file if line[:6] in (b"usemtl", b"mtllib")}
    return len(keywords) == 2
