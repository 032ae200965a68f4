"""Mesh files: OBJ, PLY and glTF with their textures, STL and OFF by trimesh."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import cast

import jax.numpy as jnp
import numpy as np

from jnr import _checks
from jnr._mesh import Mesh
from jnr._textures import WRAPS, UVTexture, Wrap, check_uv, cubes_to_uv
from jnr.io import _gltf, _obj, _parts, _ply
from jnr.io._parts import Content, Files, Texture

READ = (".obj", ".ply", ".stl", ".off", ".gltf", ".glb")
WRITTEN = (".obj", ".ply", ".stl", ".off", ".glb")
COLOURLESS = (".stl", ".off")
# Trimesh makes a mesh of each solid in a textual STL file.
MAX_SOLIDS = 4096


def load(path: str | os.PathLike, *, wrap: Wrap = "repeat", textures: bool = True, progress: bool = False) -> Mesh:
    """Loads a triangle mesh from an OBJ, PLY, STL, OFF or glTF file.

    Vertices and faces come in the file's order, nothing is merged, split or moved; polygons become triangle fans. The
    objects of a scene are put together, each placed where the scene has it. An STL file stores every triangle's
    corners anew, so its mesh has three vertices a face.

    Textures become one `UVTexture`, sampled bilinearly, with an image for each material in the file's order. A material
    without an image gets one texel of its colour. An image takes the place of a material's colour in OBJ files and is
    multiplied by it in glTF files. Faces without a material are grey, 0.5, in OBJ files and white in glTF files;
    corners without a texture coordinate have (0, 0).
    Vertex colours beside images are left out.

    A file may come from anyone: files it names are opened only inside of its folder, and images of more than 2**27
    pixels in all are refused.

    Args:
        path: The file; its ending names the format.
        wrap: How images go on beyond their edges where the file does not say; one of `"repeat"`, `"mirror"`,
            `"clamp"` and `"border"`.
        textures: Whether to read materials, images and colours. Without them no file but this one is opened, save the
            buffers of a .gltf file.
        progress: Whether to show a bar while an OBJ file is read that takes more than a second.

    Returns:
        The mesh; `textures` are a `UVTexture` or vertex colours in [0, 1] where the file has them, else None. PLY and
        glTF files split texture coordinates by corner or vertex: `uv` has a row for each corner of a PLY file's
        polygon and one for each vertex of a glTF file. Only what `save` wrote as .glb comes back as it was.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If Pillow, trimesh or tqdm is missing and needed; `pip install "jnr[io]"` brings them.
        ValueError: If the ending is unknown, or the file cannot be read as a triangle mesh of finite vertices and
            texture coordinates, or a file it names is missing, lies outside of its folder or is no image.

    Example:
        >>> mesh = jnr.load("bunny.obj")
        >>> image = jnr.render(mesh.vertices, mesh.faces, mesh.textures).rgb
    """
    path = _checked_path(path, READ)
    _checks.check_choice(wrap, "wrap", WRAPS)
    try:
        there = path.is_file()
    except (OSError, ValueError) as error:
        raise ValueError(f"path must be a name that can be looked up, got {str(path)[:80]!r}: {error}") from error
    if not there:
        raise FileNotFoundError(f"path must be an existing file, got {str(path)!r}.")
    try:
        with np.errstate(all="ignore"):
            content = _read(path, wrap, textures=textures, progress=progress)
    except ImportError:
        raise
    except Exception as error:  # parsers meet whatever a broken file holds
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
        raise ValueError(f"path must be a whole, valid mesh file, got {str(path)!r}: {reason[:400]}.") from error
    return _mesh(content, path)


def save(path: str | os.PathLike, mesh: Mesh) -> None:
    """Writes a mesh to an OBJ, PLY, STL, OFF or binary glTF file.

    Images are written as 8-bit PNG files: with `name.obj` come `name.mtl` and `name_0.png`, `name_1.png` and so on,
    with `name.ply` comes `name.png`; a .glb file holds them. `load` brings back the vertices, faces, texture
    coordinates, materials and texels exactly, but that PLY files have a row of `uv` for each corner.

    Args:
        path: The file to write; its ending names the format.
        mesh: What to write. Padding faces are left out; vertex colours are written as 8-bit numbers. Texture cubes are
            turned into an image by `cubes_to_uv` with its 16 texels along a face's side. A `UVTexture` needs images of
            3 or 4 channels; `"border"` cannot be written, nor `"mirror"` to OBJ, nor several images to PLY.

    Raises:
        ImportError: If Pillow or trimesh is missing and needed; `pip install "jnr[io]"` brings them.
        ValueError: If the ending is unknown, or the mesh has textures that the format cannot hold, or numbers that are
            not finite.
    """
    path = _checked_path(path, WRITTEN)
    ending = path.suffix.lower()
    content = _content(mesh, ending)
    if ending in COLOURLESS:
        trimesh = _parts.require("trimesh", "trimesh", "STL and OFF files")
        out = trimesh.Trimesh(content.vertices, content.faces, process=False)
        # Nine digits bring every float32 back.
        out.export(path, **({"digits": 9} if ending == ".off" else {}))
        return
    write = {".obj": _obj.write, ".ply": _ply.write, ".glb": _gltf.write}[ending]
    for name, data in write(path, content).items():
        name.write_bytes(data)


def _read(path, wrap, *, textures, progress) -> Content:
    files = Files(path.parent)
    match path.suffix.lower():
        case ".obj":
            return _obj.read(path, files, wrap, textures=textures, progress=progress)
        case ".ply":
            return _ply.read(path, files, wrap, textures=textures)
        case ".gltf" | ".glb":
            return _gltf.read(path, files, wrap, textures=textures)
    return _read_by_trimesh(path)


def _read_by_trimesh(path) -> Content:
    trimesh = _parts.require("trimesh", "trimesh", "STL and OFF files")
    if path.suffix.lower() == ".off":
        _check_off_is_whole(path)
    else:
        _check_stl_is_whole(path.read_bytes())
    try:
        with warnings.catch_warnings():
            # NumPy's word for numbers that cannot be read, after which trimesh would go on with those before.
            warnings.filterwarnings("error", "string or file could not be read")
            scene = trimesh.load_scene(path, process=False, maintain_order=True, skip_materials=True)
        meshes = [m for m in scene.dump() if isinstance(m, trimesh.Trimesh)]
    except Exception as error:  # ImportError too: trimesh asks for more packages when a text is not UTF-8
        raise ValueError(f"trimesh cannot read it, {error}") from error
    offsets = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    vertices = np.concatenate([np.zeros((0, 3)), *(m.vertices for m in meshes)])
    faces = [m.faces + offset for m, offset in zip(meshes, offsets, strict=False)]
    return Content(vertices, np.concatenate([np.zeros((0, 3), np.int64), *faces]))


def _check_stl_is_whole(content):
    """Trimesh takes a binary file whose length is not the promised one for a text, and may find no triangle in it."""
    if content.count(b"endsolid") > MAX_SOLIDS:
        raise ValueError(f"it has more than {MAX_SOLIDS} solids")
    if content.lstrip()[:5].lower() == b"solid":  # a text, or a binary file's header that looks like one
        return
    promised = int.from_bytes(content[80:84], "little")
    if len(content) != 84 + 50 * promised:
        raise ValueError(f"it has {len(content)} bytes, and {84 + 50 * promised} were promised")


def _check_off_is_whole(path):
    """Trimesh takes the faces there are, however many the file's header promises."""
    lines = [line.split("#")[0].split() for line in path.read_text(errors="replace").splitlines()]
    lines = [line for line in lines if line]
    if not lines or (len(lines) < 2 and len(lines[0]) < 3):
        raise ValueError("it has no line of counts")
    counts = lines[0][1:] or lines[1]
    promised, there = int(counts[0]) + int(counts[1]), len(lines) - (1 if len(lines[0]) > 1 else 2)
    if there < promised:
        raise ValueError(f"it has {there} lines of the {promised} promised")


def _mesh(content, path) -> Mesh:
    """The mesh of what a file holds, once it is known to be sound."""
    vertices, faces, colors, texture = content
    if not len(faces):
        raise ValueError(f"path must be a file with at least one triangle, got {str(path)!r}.")
    _check_indices(faces, len(vertices), "faces", "vertices", path)
    vertices = _finite(vertices, "vertices", path)
    textures = None
    if colors is not None:
        textures = jnp.asarray(_finite(np.clip(colors, 0, 1), "vertex colours", path))
    if texture is not None:
        textures = _uv_texture(texture, faces, len(vertices), path)
    return Mesh(jnp.asarray(vertices), jnp.asarray(faces, jnp.int32), textures)


def _uv_texture(texture, faces, num_vertices, path) -> UVTexture:
    images, wraps, uv, uv_faces, material = texture
    uv = _finite(uv, "texture coordinates", path)
    if uv_faces is not None:
        _check_indices(uv_faces, len(uv), "faces", "texture coordinates", path)
        if len(uv) == num_vertices and np.array_equal(uv_faces, faces) and path.suffix.lower() == ".obj":
            uv_faces = None
    # One array for all materials that share an image.
    arrays = {id(image): jnp.asarray(image) for image in images}
    arrays = [arrays[id(image)] for image in images]
    return UVTexture(
        images=arrays[0] if len(arrays) == 1 else tuple(arrays),
        uv=jnp.asarray(uv),
        uv_faces=None if uv_faces is None else jnp.asarray(uv_faces, jnp.int32),
        material=None if len(arrays) == 1 else jnp.asarray(material, jnp.int32),
        wrap=cast(Wrap, wraps[0]) if len(set(wraps)) == 1 else cast(tuple[Wrap, ...], tuple(wraps)),
    )


def _finite(array, what, path):
    with np.errstate(over="ignore"):
        array = np.asarray(array).astype(np.float32)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"path must be a mesh with finite {what}, got NaN or infinity in {str(path)!r}.")
    return array


def _check_indices(faces, count, what, indexed, path):
    if faces.min() < 0 or faces.max() >= min(count, 2**31):
        raise ValueError(
            f"path must be a mesh whose {what} index its {count} {indexed}, got indices {faces.min()} to "
            f"{faces.max()} in {str(path)!r}."
        )


def _content(mesh, ending) -> Content:
    """What a format is to hold of a mesh, without padding."""
    vertices = _checks.as_float(mesh.vertices, "vertices")
    _checks.check_shape(vertices, "vertices", "vertices", 3)
    all_faces = _checks.as_faces(mesh.faces, vertices.shape[0])
    kept = np.all(np.asarray(all_faces) >= 0, axis=1)
    faces = np.asarray(all_faces)[kept].astype(np.int64)
    content = Content(_as_saved(vertices, "vertices"), faces)
    textures = mesh.textures
    if textures is None:
        return content
    if ending in COLOURLESS:
        fitting = ", ".join(other for other in WRITTEN if other not in COLOURLESS)
        raise ValueError(f"textures cannot be saved as {ending}: use one of {fitting}, or pass none.")
    if not isinstance(textures, UVTexture):
        textures = _checks.as_float(textures, "textures")
        if textures.ndim not in (2, 5) or textures.shape[-1] != 3:
            raise ValueError(
                f"textures must be vertex colours (vertices, 3), texture cubes (faces, t, t, t, 3) or a UVTexture to "
                f"be saved, got shape {textures.shape}."
            )
        if textures.ndim == 2:
            _checks.check_shape(textures, "textures", vertices.shape[0], 3)
            return content._replace(colors=_as_saved(textures, "textures"))
        _checks.check_shape(textures, "textures", all_faces.shape[0], *(textures.shape[1:2] * 3), 3)
        # Without padding, whose squares would be lost in the file.
        textures = cubes_to_uv(textures[jnp.asarray(np.flatnonzero(kept))])
        kept, all_faces = np.ones(len(faces), bool), jnp.asarray(faces, jnp.int32)
    return content._replace(texture=_texture(textures, all_faces, kept, vertices.shape[0]))


def _texture(texture, faces, kept, num_vertices) -> Texture:
    checked = check_uv(texture, faces, num_vertices)
    images = [_as_saved(image, "images") for image in checked.images]
    if checked.sizes is not None:
        images = [image[: int(size[0]), : int(size[1])] for image, size in zip(images, checked.sizes, strict=True)]
    if images[0].shape[-1] not in (3, 4):
        raise ValueError(f"images must have 3 or 4 channels to be saved, got shape {images[0].shape}.")
    uv_faces = None
    if texture.uv_faces is not None:
        uv_faces = np.asarray(checked.uv_faces)[kept].astype(np.int64)
        if uv_faces.min(initial=0) < 0:
            raise ValueError("uv_faces must be rows of uv at every face that is not padding to be saved, got -1.")
    material = np.zeros(len(kept), np.int64) if checked.material is None else np.asarray(checked.material, np.int64)
    return Texture(images, list(checked.wraps), _as_saved(checked.uv, "uv"), uv_faces, material[kept])


def _as_saved(array, name):
    with np.errstate(over="ignore"):
        array = np.asarray(array).astype(np.float32)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite float32 numbers to be saved, got NaN or infinity.")
    return array


def _checked_path(path, endings):
    path = Path(path)
    if path.suffix.lower() not in endings:
        raise ValueError(f"path must end in one of {', '.join(endings)}, got {str(path)!r}.")
    return path
