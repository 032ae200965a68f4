"""Reading and writing of mesh files: OBJ, PLY and glTF with textures, OFF with colours, and STL."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jnr import _checks
from jnr._mesh import Mesh, require_mesh
from jnr._pytree import described
from jnr._textures import WRAPS, UVTexture, Wrap, check_uv, cubes_to_uv, one_or_per_image
from jnr.io import _gltf, _obj, _off, _ply, _saving, _stl
from jnr.io._parts import Content, Files, Texture

READABLE = (".obj", ".ply", ".stl", ".off", ".gltf", ".glb")
WRITABLE = (".obj", ".ply", ".stl", ".off", ".glb")
WITHOUT_TEXTURES = (".stl", ".off")
# Part of the bounding box by which rounding may move a vertex without a warning.
MAX_ROUNDING = 1e-5


class MeshFile(NamedTuple):
    """What `read` returns.

    Attributes:
        mesh: The mesh, as `load` returns it.
        normals: The file's normals, one row per vertex, or `(faces, 3, 3)` per corner if the corners at a vertex have
            different ones; None if the file has none. `render` takes them as `normals`.
        center: The point that was moved to the origin, in the file's units; zero unless `center=True`.
        left_out: What the file has and the mesh does not, in words.
    """

    mesh: Mesh
    normals: Float[Array, "vertices 3"] | Float[Array, "faces 3 3"] | None
    center: Float[np.ndarray, " 3"]
    left_out: tuple[str, ...]

    def __repr__(self) -> str:
        """The shapes of the arrays."""
        return described(self, self._fields)


def load(
    path: str | os.PathLike,
    *,
    wrap: Wrap = "repeat",
    textures: bool = True,
    center: bool = False,
    root: str | os.PathLike | None = None,
    progress: bool = False,
) -> Mesh:
    """Loads a triangle mesh from an OBJ, PLY, STL, OFF or glTF file.

    Vertices and faces keep the order of the file. No vertices are merged, split or moved; polygons are split into
    triangles inside of the polygon. All objects of a scene are concatenated, with the transforms of the scene applied.
    STL files store no shared vertices, so their meshes have three vertices per face. Numbers are read in double
    precision; vertices are float64 if `jax_enable_x64` is set, float32 if not.

    Materials become one `UVTexture` with bilinear filtering and one image per material, in the order of the file. A
    material without an image has a 1 x 1 image of its colour. In OBJ files, an image replaces the colour of its
    material; in glTF files, the two are multiplied. Faces without a material are grey (0.5) in OBJ files with materials
    and white elsewhere. Corners without texture coordinates get (0, 0). Texture coordinates without a material get a
    white image of one texel. Vertex colours are in the mesh if all materials are white and without images. Opacity is
    the fourth channel of the images, see `UVTexture.alpha`. The images of materials that no face uses are not opened.

    What the file has and the mesh does not is named in one `UserWarning`. The page "Mesh files" of the documentation
    lists what is kept, left out and rejected per format.

    Limits for untrusted files: the files that they name are opened only inside `root`. Images have at most 2**27 pixels
    in total, and at most 2**25 plus 64 per byte of the image files; the size of the file limits time and memory for the
    rest.

    Args:
        path: The file; its ending selects the format.
        wrap: Continuation of images beyond their edges, for images whose file does not define it; one of `"repeat"`,
            `"mirror"`, `"clamp"` and `"border"`.
        textures: Whether to read materials, images and colours. If False, no other file is opened except the buffers of
            a .gltf file.
        center: Whether to move the centre of the bounding box to the origin, in double precision. It keeps the detail
            of coordinates far from the origin, which float32 cannot hold.
        root: Folder that contains all files which `path` may name; None is the folder of `path`. For a model whose
            images lie in `../images`, pass the folder above.
        progress: Whether to show a progress bar for OBJ files that take more than one second.

    Returns:
        The mesh. `textures` is a `UVTexture`, vertex colours in [0, 1], texture cubes of one texel for colours of
        faces, or None, depending on the file. `uv` has one row per polygon corner for PLY files and one row per vertex
        for glTF files; only .glb files written by `save` restore the original rows.

    Raises:
        FileNotFoundError: If the file does not exist.
        ImportError: If Pillow, tqdm or DracoPy is needed and missing; install them with `pip install "jnr[io]"`.
        ValueError: If the ending or `wrap` is unknown, if the file is not a valid triangle mesh with finite vertices
            and texture coordinates, or if a file that it needs is missing, outside of `root` or not an image.

    Example:
        >>> mesh = jnr.load("bunny.obj")
        >>> image = jnr.render(mesh.vertices, mesh.faces, mesh.textures).rgb
    """
    return _load(path, wrap, textures, center, root, progress).mesh


def read(
    path: str | os.PathLike,
    *,
    wrap: Wrap = "repeat",
    textures: bool = True,
    center: bool = False,
    root: str | os.PathLike | None = None,
    progress: bool = False,
) -> MeshFile:
    """Loads a mesh as `load` does, with what else the file has: normals, and a list of what was left out.

    Args:
        path: As for `load`.
        wrap: As for `load`.
        textures: As for `load`.
        center: As for `load`.
        root: As for `load`.
        progress: As for `load`.

    Raises:
        FileNotFoundError: As for `load`.
        ImportError: As for `load`.
        ValueError: As for `load`.

    Example:
        >>> file = jnr.io.read("bunny.obj")
        >>> image = jnr.render(file.mesh, normals="flat" if file.normals is None else file.normals).rgb
    """
    return _load(path, wrap, textures, center, root, progress)


def _load(path, wrap, textures, center, root, progress) -> MeshFile:
    path = _checked_path(path, READABLE)
    _checks.check_choice(wrap, "wrap", WRAPS)
    for flag, name in ((textures, "textures"), (center, "center"), (progress, "progress")):
        _checks.check_flag(flag, name)
    try:
        exists = path.is_file()
    except (OSError, ValueError) as error:
        raise ValueError(f"path must be a valid file name, got {str(path)[:80]!r}: {error}") from error
    if not exists:
        raise FileNotFoundError(f"path must be an existing file, got {str(path)!r}.")
    files = Files(path.parent, None if root is None else _checked_root(root, path))
    try:
        with np.errstate(all="ignore"):
            content = _read(path, files, wrap, textures=textures, progress=progress)
    except ImportError:
        raise
    except Exception as error:  # parsers raise many types of exceptions on invalid data
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
        raise ValueError(f"path must be a complete, valid mesh file, got {str(path)!r}: {reason[:400]}.") from error
    loaded = _mesh_file(content, path, files, center=center)
    if loaded.left_out:
        warnings.warn(f"{path.name} was loaded without: {'; '.join(loaded.left_out)}.", stacklevel=3)
    return loaded


def _checked_root(root, path):
    root = _as_path(root, "root")
    if not root.is_dir():
        raise ValueError(f"root must be a folder, got {str(root)!r}.")
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"root must contain path, got {str(root)!r} and {str(path)!r}.")
    return root


def save(path: str | os.PathLike, mesh: Mesh, *, overwrite: bool = False) -> None:
    """Writes a mesh to an OBJ, PLY, STL, OFF or binary glTF (.glb) file.

    Images are written as 8-bit PNG: `name.obj` comes with `name.mtl`, `name_0.png`, `name_1.png` and so on, `name.ply`
    with `name.png`, and .glb files embed their images. `load` restores vertices, faces, texture coordinates, materials
    and 8-bit texels exactly, with two exceptions: PLY files have one row of `uv` per face corner, and STL files have
    three vertices per face.

    All files are written, or none: if the disk is full, for instance, existing files stay as they are.

    Args:
        path: The file to write; its ending selects the format. An existing file is replaced, and so are the images and
            the material library that it names.
        mesh: The mesh. Padding faces are omitted. Vertex colours are rounded to 8 bits. Texture cubes are converted to
            an image by `cubes_to_uv` with its default of 16 texels per face side. A `UVTexture` needs images of 3 or 4
            channels; the fourth is opacity for whoever reads the file. Texels are multiplied by `factor`, so an image
            with several factors is written several times. No format stores the wrap mode `"border"`, OBJ
            does not store `"mirror"`, PLY stores one image. Only .glb files store wrap modes that differ along the axes
            and the alpha `"mask"`.
        overwrite: Whether to replace other files as well that have the name of an image or the material library.

    Raises:
        FileExistsError: If an image or the material library exists and does not belong to `path`.
        ImportError: If Pillow is needed and missing; install them with `pip install "jnr[io]"`.
        OSError: If a file cannot be written.
        TypeError: If an array of the mesh has the wrong kind of numbers.
        ValueError: If the ending is unknown, a shape is wrong, the format cannot store the textures, or a number is
            not finite.

    Example:
        >>> jnr.save("ball.glb", jnr.shapes.icosphere(2))
    """
    path = _checked_path(path, WRITABLE)
    _checks.check_flag(overwrite, "overwrite")
    require_mesh(mesh, "mesh")
    ending = path.suffix.lower()
    content = _content(mesh, ending)
    write = {".obj": _obj, ".ply": _ply, ".stl": _stl, ".off": _off, ".glb": _gltf}[ending].write
    _saving.replace_all(path, write(path, content), overwrite=overwrite)


def _read(path, files, wrap, *, textures, progress) -> Content:
    match path.suffix.lower():
        case ".obj":
            return _obj.read(path, files, wrap, textures=textures, progress=progress)
        case ".ply":
            return _ply.read(path, files, wrap, textures=textures)
        case ".off":
            return _off.read(path, files, wrap, textures=textures)
        case ".stl":
            return _stl.read(path, files)
    return _gltf.read(path, files, wrap, textures=textures)


def _mesh_file(content, path, files, *, center) -> MeshFile:
    """Checks the contents of a file and returns them as JAX arrays."""
    vertices, faces, colors, texture, face_colors, normals = content
    if not len(faces):
        raise ValueError(f"path must be a file with at least one triangle, got {str(path)!r}.")
    _check_indices(faces, len(vertices), "faces", "vertices", path)
    vertices, middle = _vertices(vertices, faces, path, files, center=center)
    textures = None
    if colors is not None:
        textures = jnp.asarray(_finite(np.clip(colors, 0, 1), faces, "vertex colours", path))
    if face_colors is not None:
        textures = jnp.asarray(_finite(np.clip(face_colors, 0, 1), ..., "face colours", path)[:, None, None, None])
    if texture is not None:
        textures = _uv_texture(texture, faces, len(vertices), path)
    if normals is not None:
        normals = _normals(normals, faces, vertices.dtype, files)
    mesh = Mesh(jnp.asarray(vertices), jnp.asarray(faces, jnp.int32), textures)
    return MeshFile(mesh, normals, middle, tuple(files.left_out))


def _normals(normals, faces, dtype, files):
    """The normals in a dtype, None if those of a face are not finite."""
    with np.errstate(over="ignore"):
        normals = normals.astype(dtype)
    is_finite = np.isfinite(normals)
    if not np.all(is_finite if normals.ndim == 3 else is_finite[faces]):
        files.leave_out("normals, of which some are not finite")
        return None
    return jnp.asarray(np.where(is_finite, normals, 0))


def _vertices(vertices, faces, path, files, *, center):
    """The vertices in the dtype that JAX computes in, and the point that was moved to the origin."""
    dtype = jnp.result_type(float)
    if not center and np.can_cast(vertices.dtype, dtype) and np.all(np.isfinite(vertices)):
        return vertices.astype(dtype), np.zeros(3)
    vertices = np.asarray(vertices, np.float64)
    used = np.zeros(len(vertices), bool)
    used[faces] = True
    finite = np.isfinite(vertices)
    if not finite.all():
        if not finite[used].all():
            raise ValueError(f"path must be a mesh with finite vertices, got NaN or infinity in {str(path)!r}.")
        # Vertices that no face uses are in no picture.
        vertices = np.where(finite, vertices, 0)
    low, high = _bounds(vertices if used.all() else vertices[used])
    middle = np.zeros(3)
    if center:
        middle = (low + high) / 2
        vertices, low, high = vertices - middle, low - middle, high - middle
    with np.errstate(over="ignore"):
        rounded = vertices.astype(dtype)
    finite = np.isfinite(rounded)
    if not finite.all():
        if not finite[used].all():
            raise ValueError(f"path must be a mesh with finite vertices, got numbers above {dtype} in {str(path)!r}.")
        rounded = np.where(finite, rounded, 0)
    allowed = MAX_ROUNDING * np.max(high - low)
    # Most files need no look at every vertex.
    if np.maximum(np.abs(low), np.abs(high)).max() * np.finfo(dtype).eps > allowed:
        moved = np.abs(rounded - vertices)[used].max()
        if moved > allowed:
            files.leave_out(
                f"precision: float32 moves vertices by up to {moved:.3g}; center=True, or jax_enable_x64 for float64, "
                "keeps them"
            )
    return rounded, middle


def _bounds(points):
    """The corners of the box around points; by columns, which NumPy reads faster than rows of three."""
    columns = [points[:, k] for k in range(3)]
    return np.array([column.min() for column in columns]), np.array([column.max() for column in columns])


def _uv_texture(texture, faces, num_vertices, path) -> UVTexture:
    images, wraps, uv, uv_faces, material, alphas, cutoffs = texture
    if uv_faces is not None:
        _check_indices(uv_faces, len(uv), "faces", "texture coordinates", path)
    uv = _finite(uv, faces if uv_faces is None else uv_faces, "texture coordinates", path)
    has_faces = uv_faces is not None and len(uv) == num_vertices and np.array_equal(uv_faces, faces)
    if has_faces and path.suffix.lower() == ".obj":
        uv_faces = None
    # Materials that share an image share one JAX array.
    by_id = {id(image): jnp.asarray(image) for image in images}
    arrays = [by_id[id(image)] for image in images]
    return UVTexture(
        images=arrays[0] if len(arrays) == 1 else tuple(arrays),
        uv=jnp.asarray(uv),
        uv_faces=None if uv_faces is None else jnp.asarray(uv_faces, jnp.int32),
        material=None if len(arrays) == 1 else jnp.asarray(material, jnp.int32),
        wrap=one_or_per_image(wraps),
        alpha=None if alphas is None else one_or_per_image(alphas),
        alpha_cutoff=0.5 if cutoffs is None else cutoffs[0] if len(set(cutoffs)) == 1 else tuple(cutoffs),
    )


def _finite(array, used, what, path):
    """The array in float32, which must be finite in the rows `used`, with zeros in place of other numbers."""
    with np.errstate(over="ignore"):
        array = np.asarray(array).astype(np.float32)
    if np.all(np.isfinite(array)):
        return array
    if not np.all(np.isfinite(array[used])):
        raise ValueError(f"path must be a mesh with finite {what}, got NaN or infinity in {str(path)!r}.")
    return np.where(np.isfinite(array), array, 0)


def _check_indices(faces, count, what, indexed, path):
    if faces.min() < 0 or faces.max() >= min(count, 2**31):
        raise ValueError(
            f"path must be a mesh whose {what} index its {count} {indexed}, got indices {faces.min()} to "
            f"{faces.max()} in {str(path)!r}."
        )


def _content(mesh, ending) -> Content:
    """Checks a mesh and returns its contents without padding, as the format of `ending` stores them."""
    vertices = _checks.as_float(mesh.vertices, "vertices")
    _checks.check_shape(vertices, "vertices", "vertices", 3)
    all_faces = _checks.as_faces(mesh.faces, vertices.shape[0])
    kept = np.all(np.asarray(all_faces) >= 0, axis=1)
    faces = np.asarray(all_faces)[kept].astype(np.int64)
    content = Content(_as_saved(vertices, "vertices"), faces)
    textures = mesh.textures
    if textures is None:
        return content
    if ending in WITHOUT_TEXTURES:
        suitable = ", ".join(other for other in WRITABLE if other not in WITHOUT_TEXTURES)
        raise ValueError(f"textures must be None to be saved as {ending}, got some: use one of {suitable} instead.")
    if not isinstance(textures, UVTexture):
        textures = _checks.as_color(textures, "textures")
        if textures.ndim not in (2, 5) or textures.shape[-1] != 3:
            raise ValueError(
                f"textures must be vertex colours (vertices, 3), texture cubes (faces, t, t, t, 3) or a UVTexture to "
                f"be saved, got shape {textures.shape}."
            )
        if textures.ndim == 2:
            _checks.check_shape(textures, "textures", vertices.shape[0], 3)
            return content._replace(colors=_as_saved(textures, "textures"))
        _checks.check_shape(textures, "textures", all_faces.shape[0], *(textures.shape[1:2] * 3), 3)
        # Faces are selected first, because cubes_to_uv would reserve part of the image for padding faces.
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
            raise ValueError(
                "uv_faces must index uv at every corner of a face that is not padding to be saved, got -1."
            )
    material = np.zeros(len(kept), np.int64) if checked.material is None else np.asarray(checked.material, np.int64)
    alphas, cutoffs = None, None
    if checked.alphas is not None:
        alphas, cutoffs = list(checked.alphas), np.broadcast_to(checked.alpha_cutoff, (len(images),)).tolist()
    uv = _as_saved(checked.uv, "uv")
    saved = Texture(images, list(checked.wraps), uv, uv_faces, material[kept], alphas, cutoffs)
    if checked.factor is None or not kept.any():
        return saved
    return _multiplied(
        saved, np.broadcast_to(_as_saved(checked.factor, "factor"), (len(kept), images[0].shape[-1]))[kept]
    )


def _multiplied(texture, factor) -> Texture:
    """The texture with an image for each pair of an image and a factor of a face."""
    pairs, material = np.unique(np.column_stack([texture.material, factor]), axis=0, return_inverse=True)
    image, factors = pairs[:, 0].astype(int), pairs[:, 1:].astype(np.float32)

    def repeated(values):
        return [values[k] for k in image]

    return texture._replace(
        images=[texels * row for texels, row in zip(repeated(texture.images), factors, strict=True)],
        wraps=repeated(texture.wraps),
        material=material.reshape(-1),
        alphas=texture.alphas and repeated(texture.alphas),
        cutoffs=texture.cutoffs and repeated(texture.cutoffs),
    )


def _as_saved(array, name):
    with np.errstate(over="ignore"):
        array = np.asarray(array).astype(np.float32)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite float32 numbers to be saved, got NaN or infinity.")
    return array


def _checked_path(path, endings):
    path = _as_path(path, "path")
    if path.suffix.lower() not in endings:
        raise ValueError(f"path must end in one of {', '.join(endings)}, got {str(path)!r}.")
    return path


def _as_path(value, name):
    try:
        return Path(value)
    except TypeError as error:
        raise TypeError(f"{name} must be a path, got {type(value).__name__}.") from error
