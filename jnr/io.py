"""Mesh files, read and written by trimesh."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jnr import _checks
from jnr.mesh import Mesh

READ = (".obj", ".ply", ".stl", ".off", ".gltf", ".glb")
WRITTEN = (".obj", ".ply", ".stl", ".off", ".glb")
COLOURLESS = (".stl", ".off")


def load(path: str | os.PathLike) -> Mesh:
    """Loads a triangle mesh from an OBJ, PLY, STL, OFF or glTF file.

    Vertices and faces come in the file's order, nothing is merged or moved; polygons become triangle fans. The
    objects of a scene are put together, each placed where the scene has it. An STL file stores every triangle's
    corners anew, so its mesh has three vertices a face.

    Args:
        path: The file; its ending names the format.

    Returns:
        The mesh; `textures` are vertex colours in [0, 1] where the file has them, else None.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If trimesh is missing; `pip install "jnr[io]"` brings it.
        ValueError: If the ending is unknown, or the file cannot be read as a triangle mesh of finite vertices.

    Example:
        >>> mesh = jnr.load("bunny.obj")
        >>> image = jnr.render(mesh.vertices, mesh.faces, mesh.textures).rgb
    """
    path = _checked_path(path, READ)
    if not path.is_file():
        raise FileNotFoundError(f"path must be an existing file, got {str(path)!r}.")
    trimesh = _trimesh()
    try:
        # Materials are not read, so no file but this one is opened.
        scene = trimesh.load_scene(path, process=False, maintain_order=True, skip_materials=True)
        meshes = [m for m in scene.dump() if isinstance(m, trimesh.Trimesh)]
    except Exception as error:  # trimesh raises whatever its parsers meet
        raise ValueError(f"path must be a mesh file that trimesh can read, got {str(path)!r}: {error}") from error
    if path.suffix.lower() == ".off":
        _check_off_is_whole(path)
    if not meshes or not sum(len(m.faces) for m in meshes):
        raise ValueError(f"path must be a file with at least one triangle, got {str(path)!r}.")
    offsets = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    with np.errstate(over="ignore"):
        vertices = np.concatenate([m.vertices for m in meshes]).astype(np.float32)
    faces = np.concatenate([m.faces + offset for m, offset in zip(meshes, offsets, strict=False)])
    if not np.all(np.isfinite(vertices)):
        raise ValueError(f"path must be a mesh with finite vertices, got NaN or infinity in {str(path)!r}.")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise ValueError(
            f"path must be a mesh whose faces index its {len(vertices)} vertices, got indices {faces.min()} to "
            f"{faces.max()} in {str(path)!r}."
        )
    textures = None
    if all(m.visual.kind == "vertex" for m in meshes):
        colors = np.concatenate([m.visual.vertex_colors[:, :3] for m in meshes])
        textures = jnp.asarray(colors / 255, jnp.float32)
    return Mesh(jnp.asarray(vertices), jnp.asarray(faces, jnp.int32), textures)


def save(path: str | os.PathLike, mesh: Mesh) -> None:
    """Writes a mesh to an OBJ, PLY, STL, OFF or binary glTF file.

    Args:
        path: The file to write; its ending names the format.
        mesh: What to write. Padding faces are left out; vertex colours are written as 8-bit numbers.

    Raises:
        ImportError: If trimesh is missing; `pip install "jnr[io]"` brings it.
        ValueError: If the ending is unknown, or the mesh has textures that are not vertex colours, or that the format
            cannot hold.
    """
    path = _checked_path(path, WRITTEN)
    trimesh = _trimesh()
    vertices = _checks.as_float(mesh.vertices, "vertices")
    _checks.check_shape(vertices, "vertices", "vertices", 3)
    faces = np.asarray(_checks.as_faces(mesh.faces, vertices.shape[0]))
    faces = faces[np.all(faces >= 0, axis=1)]
    colors = None
    if mesh.textures is not None:
        if path.suffix.lower() in COLOURLESS:
            fitting = ", ".join(ending for ending in WRITTEN if ending not in COLOURLESS)
            raise ValueError(f"textures cannot be saved as {path.suffix}: use one of {fitting}, or pass none.")
        textures = _checks.as_float(mesh.textures, "textures")
        if textures.ndim != 2 or textures.shape[1] != 3:
            raise ValueError(f"textures must be vertex colours (vertices, 3) to be saved, got shape {textures.shape}.")
        _checks.check_shape(textures, "textures", vertices.shape[0], 3)
        colors = np.round(np.clip(np.asarray(textures), 0, 1) * 255).astype(np.uint8)
    out = trimesh.Trimesh(np.asarray(vertices), faces, vertex_colors=colors, process=False)
    # Nine digits bring every float32 back.
    options = {"digits": 9} if path.suffix.lower() in (".obj", ".off") else {}
    out.export(path, **options)


def _checked_path(path, endings):
    path = Path(path)
    if path.suffix.lower() not in endings:
        raise ValueError(f"path must end in one of {', '.join(endings)}, got {str(path)!r}.")
    return path


def _check_off_is_whole(path):
    """Trimesh takes the faces there are, however many the file's header promises."""
    lines = [line.split("#")[0].split() for line in path.read_text(errors="replace").splitlines()]
    lines = [line for line in lines if line]
    counts = lines[0][1:] or lines[1]
    promised, there = int(counts[0]) + int(counts[1]), len(lines) - (1 if len(lines[0]) > 1 else 2)
    if there < promised:
        raise ValueError(
            f"path must be a whole mesh file, got {there} lines of the {promised} promised in {str(path)!r}."
        )


def _trimesh():
    try:
        return importlib.import_module("trimesh")
    except ImportError as error:
        raise ImportError('Mesh files need trimesh. Install it with: pip install "jnr[io]"') from error
