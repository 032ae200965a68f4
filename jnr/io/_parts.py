"""Shared parts of all readers and writers: numbers in text, polygons, images, and files that a mesh file names."""

from __future__ import annotations

import io
import itertools
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jnr._extras import require as require

# Limits for hostile files. Images have at most MAX_PIXELS pixels in all, and at most FREE_PIXELS plus PIXELS_PER_BYTE
# for each byte of their files: photographs have 1 to 20 pixels per byte, an image of one colour up to 340.
MAX_PIXELS = 2**27
FREE_PIXELS = 2**25
PIXELS_PER_BYTE = 64
MAX_IMAGES = 4096
# In characters; longer than any number in a mesh file. A NumPy array of bytes is as wide as its longest entry.
MAX_NUMBER = 64
MAX_NAME = 1024
# Files of a folder among which a name in another case is looked for.
MAX_ENTRIES = 2**16
MAX_LEFT_OUT = 16
MAX_REASON = 160
BLOCK = 2**22
# Byte order mark of text that some programs write.
BOM = b"\xef\xbb\xbf"
GRAY = 0.5
# Colours above it are 8-bit numbers; fractions below it are colours that were exposed beyond 1.
MAX_EXPOSURE = 16
# A colour that rounding may have made.
MAX_ROUNDED = 1 + 1 / 128
# Pillow's decoders of other formats run external programs or are rarely needed.
IMAGES = ("PNG", "JPEG", "BMP", "TGA", "TIFF", "GIF", "WEBP")


class Texture(NamedTuple):
    """A UV texture as NumPy arrays, with one entry of each list per material.

    A wrap mode is a name, or a pair of names for the directions of u and v. All images have three channels, or all have
    four: the last is then opacity, and `alphas` says what it does.
    """

    images: list[np.ndarray]
    wraps: list[str | tuple[str, str]]
    uv: np.ndarray
    uv_faces: np.ndarray | None
    material: np.ndarray
    alphas: list[str] | None = None
    cutoffs: list[float] | None = None


class Content(NamedTuple):
    """Contents of a mesh file as NumPy arrays.

    `vertices` are float64 where the file is text. At most one of `colors`, `face_colors` and `texture` is given.
    Normals are rows per vertex, or `(faces, 3, 3)` per corner.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colors: np.ndarray | None = None
    texture: Texture | None = None
    face_colors: np.ndarray | None = None
    normals: np.ndarray | None = None


class Files:
    """Access to the files that a mesh file names, and a record of what its reader leaves out.

    Files are found only inside of `root`, and the pixels of images are limited by the sizes of their files.
    """

    def __init__(self, folder: Path, root: Path | None = None):
        self.folder = folder.resolve()
        self.root = self.folder if root is None else root.resolve()
        self.pixels, self.image_bytes = 0, 0
        self.images: dict[Path, np.ndarray] = {}
        self.names: dict[Path, dict[str, Path]] = {}
        self.left_out: dict[str, None] = {}

    def leave_out(self, what: str) -> None:
        """Records something that the file has and the mesh does not, for the one warning of a load."""
        if len(self.left_out) < MAX_LEFT_OUT:
            self.left_out[what[:MAX_REASON]] = None

    def find(self, name: str) -> Path | None:
        """Returns the path of a file, or None if it does not exist. Names outside of `root` raise ValueError.

        Names may have backslashes or the wrong case. Of an absolute path, which another machine wrote, the last part
        is looked up beside the mesh file.
        """
        if len(name) > MAX_NAME:
            raise ValueError(f"it names a file by {len(name)} characters, more than {MAX_NAME}")
        try:
            return self._find(name)
        except (OSError, RuntimeError) as error:  # name too long, cycle of links
            raise ValueError(f"it names a file {name[:80]!r}, which is not a valid file name: {error}") from error

    def _find(self, name):
        if "\0" in name:
            raise ValueError(f"it names a file {name[:80]!r}, which is not a valid file name")
        slashed = name.replace("\\", "/")
        is_absolute = slashed.startswith("/") or slashed[1:3] == ":/"
        spellings = [slashed.rpartition("/")[2]] if is_absolute else [name, slashed]
        escapes = is_absolute
        for spelling in filter(None, spellings):
            for path in filter(None, (self.folder / spelling, self._in_any_case(spelling))):
                path = path.resolve()
                if path.is_relative_to(self.root):
                    if path.is_file():
                        return path
                else:
                    escapes = True
        if escapes:
            raise ValueError(
                f"it names a file {name[:80]!r} outside its folder; the argument root permits a folder above"
            )
        return None

    def _in_any_case(self, name):
        """The path of a file whose name differs in upper and lower case, None if there is none."""
        path = self.folder
        for part in Path(name).parts:
            if (path / part).exists() or part == "..":
                path = path / part
                continue
            if not path.resolve().is_relative_to(self.root):
                return None
            if path not in self.names:
                entries = itertools.islice(path.iterdir(), MAX_ENTRIES) if path.is_dir() else ()
                self.names[path] = {entry.name.casefold(): entry for entry in entries}
            found = self.names[path].get(part.casefold())
            if found is None:
                return None
            path = found
        return path

    def image(self, name: str, owner: str) -> np.ndarray:
        """Returns the texels of the image file `name`, grey if it does not exist; `owner` is what refers to it."""
        path = self.find(name)
        if path is None:
            self.leave_out(f"the image {name[:80]!r} of {owner}, which does not exist (grey in its place)")
            return gray()
        if path not in self.images:
            self.images[path] = self.decode(path, repr(name[:80]))
        return self.images[path]

    def decode(self, source: Path | bytes, name: str) -> np.ndarray:
        """Returns float32 texels in [0, 1], `(rows, columns, 3)`, or 4 channels if the image has alpha."""
        pil = require("PIL.Image", "pillow", "Textures")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with pil.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=IMAGES) as image:
                    size = len(source) if isinstance(source, bytes) else source.stat().st_size
                    self.count(image.width * image.height, size)
                    return _texels(image)
        except Exception as error:  # Pillow's decoders raise many types of exceptions on invalid data
            raise ValueError(f"the image {name} cannot be decoded: {error}") from error

    def count(self, pixels: int, size: int = 0) -> None:
        """Adds to the pixels and bytes of image files; raises ValueError when there are too many pixels."""
        self.pixels += pixels
        self.image_bytes += size
        limit = min(MAX_PIXELS, FREE_PIXELS + PIXELS_PER_BYTE * self.image_bytes)
        if self.pixels > limit:
            raise ValueError(f"images must have at most {limit} pixels in all, got {self.pixels}")


def _texels(image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grayscale
        gray = np.clip(np.asarray(image, np.float32) / np.float32(65535), 0, 1)
        return np.repeat(gray[..., None], 3, axis=-1)
    if image.mode == "F":
        raise ValueError("its texels are floating point numbers, not 8-bit or 16-bit integers")
    texels = np.array(image.convert("RGBA" if image.has_transparency_data else "RGB"), np.float32)
    texels /= np.float32(255)  # in place: images may take most of the memory
    return texels


def png(image: np.ndarray) -> bytes:
    """Encodes an image as an 8-bit PNG file."""
    pil = require("PIL.Image", "pillow", "Textures")
    file = io.BytesIO()
    pil.fromarray(eight_bits(image)).save(file, "PNG")
    return file.getvalue()


def eight_bits(values: np.ndarray) -> np.ndarray:
    """Converts values in [0, 1] to 8-bit integers, clipped and rounded to nearest."""
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)


def with_equal_channels(images: list[np.ndarray]) -> list[np.ndarray]:
    """Adds an alpha channel of 1 to images without one if any image has alpha."""
    if len({image.shape[-1] for image in images}) == 1:
        return images
    # Images that several materials share stay shared.
    with_alpha = {
        key: image if image.shape[-1] == 4 else np.concatenate([image, np.ones_like(image[..., :1])], axis=-1)
        for key, image in {id(image): image for image in images}.items()
    }
    return [with_alpha[id(image)] for image in images]


def numbers(tokens: list[bytes], dtype: type) -> np.ndarray:
    """Parses numbers from words."""
    if not tokens:
        return np.zeros(0, dtype)
    if max(map(len, tokens)) > MAX_NUMBER:
        raise ValueError(f"it has a number of more than {MAX_NUMBER} characters")
    if dtype is np.float64:
        return np.fromiter(map(float, tokens), np.float64, len(tokens))
    # In pieces, because the longest word sets the width of an array entry.
    try:
        return np.concatenate([np.array(tokens[k : k + 2**18]).astype(dtype) for k in range(0, len(tokens), 2**18)])
    except OverflowError as error:
        raise ValueError("it has an integer that does not fit into 64 bits") from error


def all_numbers(text: bytes) -> np.ndarray:
    """Parses all numbers of a text, block by block: a list of all words would take many times the memory."""
    values, start = [np.zeros(0)], 0
    while start < len(text):
        block = text[start : start + BLOCK]
        if start + BLOCK < len(text) and not block[-1:].isspace():
            # The last word may continue in the next block.
            word = block[-MAX_NUMBER - 1 :].split()[-1]
            if len(word) > MAX_NUMBER:
                raise ValueError(f"it has a number of more than {MAX_NUMBER} characters")
            block = block[: -len(word)]
        values.append(numbers(block.split(), np.float64))
        start += len(block)
    return np.concatenate(values)


def runs(material: np.ndarray) -> list[tuple[int, int, int]]:
    """Returns (start, end, material) of each run of consecutive faces with the same material."""
    if not len(material):
        return []
    edges = [0, *(np.flatnonzero(np.diff(material)) + 1).tolist(), len(material)]
    return [(a, b, int(material[a])) for a, b in itertools.pairwise(edges)]


def gray() -> np.ndarray:
    """The image of a material whose image or definition is missing."""
    return np.full((1, 1, 3), GRAY, np.float32)


def white(uv: np.ndarray, uv_faces: np.ndarray | None, num_faces: int, wrap: str) -> Texture:
    """A texture that keeps the texture coordinates of a file without images."""
    return Texture([np.ones((1, 1, 3), np.float32)], [wrap], uv, uv_faces, np.zeros(num_faces, np.int64))


def fractions(colors: np.ndarray, files: Files, dtype: np.dtype | type = float) -> np.ndarray:
    """Colours in [0, 1] of numbers that a file declares as `dtype`.

    Integers of 8 bits have the maximum 255, others the least of 255, 65535 and their type's maximum that none exceeds.
    Floating point numbers have the maximum 1, unless they are far above it or all are integers.
    """
    dtype = np.dtype(dtype)
    if dtype.itemsize == 1:
        colors = colors.astype(np.float32)
        # Programs that write char mean uchar.
        return np.clip(np.where(colors < 0, colors + 256, colors) / np.float32(255), 0, 1)
    given = colors[np.isfinite(colors)]
    largest = given.max(initial=0)
    if dtype.kind == "f" and largest <= MAX_EXPOSURE and (largest <= 1 or np.any(given != np.round(given))):
        if largest > MAX_ROUNDED:
            files.leave_out("the part of colours above 1")
        return np.clip(colors, 0, 1)
    maximum = 255 if largest <= 255 else 65535 if largest <= 65535 or dtype.kind == "f" else np.iinfo(dtype).max
    return np.clip(colors / np.float32(maximum), 0, 1)


def with_look(
    content: Content,
    files: Files,
    polygon: np.ndarray,
    *,
    texture: Texture | None = None,
    colors: np.ndarray | None = None,
    face_colors: np.ndarray | None = None,
    white: Texture | None = None,
) -> Content:
    """Adds the first of the ways to colour a mesh that is not all white, and records the others.

    Args:
        content: The mesh.
        files: Records what is left out.
        polygon: The row of `face_colors` that each triangle has.
        texture: Images.
        colors: Colours of vertices, with 3 columns, or 4 with opacity.
        face_colors: The same of polygons.
        white: Texture coordinates without an image.
    """
    looks = []
    if texture is not None:
        looks.append((False, "texture", "a texture", texture))
    for field, what, rgba in (("colors", "vertex colours", colors), ("face_colors", "face colours", face_colors)):
        if rgba is not None:
            if np.any(rgba[:, 3:] != 1):
                files.leave_out(f"opacity of {what}")
            looks.append((bool(np.all(rgba[:, :3] == 1)), field, what, rgba[:, :3]))
    if white is not None:
        looks.append((False, "texture", "texture coordinates without an image", white))
    looks.sort(key=lambda look: look[0])
    for is_white, _, what, _ in looks[1:]:
        if not is_white:
            files.leave_out(f"{what}, because it has {looks[0][2]}")
    if not looks:
        return content
    _, field, _, value = looks[0]
    return content._replace(**{field: value[polygon] if field == "face_colors" else value})


def rows(row: str, array: np.ndarray) -> bytes:
    """Formats the rows of an array by the pattern `row`, in pieces of bounded memory."""
    parts = (array[start : start + 2**16] for start in range(0, len(array), 2**16))
    return b"".join((row * len(part) % tuple(part.ravel().tolist())).encode() for part in parts)
