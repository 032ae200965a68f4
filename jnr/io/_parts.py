"""What the readers and writers of all formats share: numbers in text, polygons, images and the files a mesh names."""

from __future__ import annotations

import io
import itertools
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jnr._extras import require as require

MAX_PIXELS = 2**27
MAX_IMAGES = 4096
# Longer than any number in a mesh file; an array of bytes is as wide as its longest.
MAX_NUMBER = 64
MAX_NAME = 1024
BLOCK = 2**22
# Decoders of other formats that Pillow knows run programs or are seldom used.
IMAGES = ("PNG", "JPEG", "BMP", "TGA", "TIFF", "GIF", "WEBP")


class Texture(NamedTuple):
    """A UV texture as arrays of NumPy."""

    images: list[np.ndarray]
    wraps: list[str]
    uv: np.ndarray
    uv_faces: np.ndarray | None
    material: np.ndarray


class Content(NamedTuple):
    """What a mesh file holds."""

    vertices: np.ndarray
    faces: np.ndarray
    colors: np.ndarray | None = None
    texture: Texture | None = None


class Files:
    """The files that a mesh file names: only those inside of its folder, and so many pixels in all."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self.pixels = 0
        self.images: dict[Path, np.ndarray] = {}

    def find(self, name: str) -> Path | None:
        """Where a file lies, None where it is not there."""
        if len(name) > MAX_NAME:
            raise ValueError(f"it names a file by {len(name)} letters, more than {MAX_NAME}")
        for spelling in dict.fromkeys((name, name.replace("\\", "/"))):
            try:
                path = (self.folder / spelling).resolve()
                inside = not Path(spelling).is_absolute() and path.is_relative_to(self.folder)
                found = inside and path.is_file()
            except (OSError, RuntimeError, ValueError) as error:  # too long, a loop of links, NUL bytes
                raise ValueError(f"it names a file {name[:80]!r}, which cannot be looked up: {error}") from error
            if not inside:
                raise ValueError(f"it names a file {name[:80]!r} outside of its folder")
            if found:
                return path
        return None

    def image(self, name: str, owner: str) -> np.ndarray:
        """An image by its name."""
        path = self.find(name)
        if path is None:
            raise ValueError(f"the image {name[:80]!r} of {owner} is not there")
        if path not in self.images:
            self.images[path] = self.decode(path, repr(name[:80]))
        return self.images[path]

    def decode(self, source: Path | bytes, name: str) -> np.ndarray:
        """Texels `(rows, columns, 3)`, or 4 where the image has alpha, in [0, 1]."""
        pil = require("PIL.Image", "pillow", "Textures")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with pil.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=IMAGES) as image:
                    self.count(image.width * image.height)
                    return _texels(image)
        except Exception as error:  # Pillow raises whatever its decoders meet
            raise ValueError(f"the image {name} cannot be read: {error}") from error

    def count(self, pixels: int) -> None:
        """Raises when there are too many pixels in all."""
        self.pixels += pixels
        if self.pixels > MAX_PIXELS:
            raise ValueError(f"images must have at most {MAX_PIXELS} pixels in all, got {self.pixels}")


def _texels(image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey
        grey = np.clip(np.asarray(image, np.float32) / np.float32(65535), 0, 1)
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.mode == "F":
        raise ValueError("its texels are floating point numbers, not 8 or 16 bits")
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"), np.float32) / np.float32(255)


def png(image: np.ndarray) -> bytes:
    """An image as an 8-bit PNG file."""
    pil = require("PIL.Image", "pillow", "Textures")
    file = io.BytesIO()
    pil.fromarray(eight_bits(image)).save(file, "PNG")
    return file.getvalue()


def eight_bits(values: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1] as those of 8 bits."""
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)


def alike(images: list[np.ndarray]) -> list[np.ndarray]:
    """The images with alpha, which is 1 where they have none, if one of them has it."""
    if len({image.shape[-1] for image in images}) == 1:
        return images
    return [
        image if image.shape[-1] == 4 else np.concatenate([image, np.ones_like(image[..., :1])], axis=-1)
        for image in images
    ]


def numbers(tokens: list[bytes], dtype: type) -> np.ndarray:
    """Numbers from their text."""
    if not tokens:
        return np.zeros(0, dtype)
    if max(map(len, tokens)) > MAX_NUMBER:
        raise ValueError(f"it has text of more than {MAX_NUMBER} letters where a number must be")
    # In pieces: one long word makes all beside it as wide.
    try:
        return np.concatenate([np.array(tokens[k : k + 2**18]).astype(dtype) for k in range(0, len(tokens), 2**18)])
    except OverflowError as error:
        raise ValueError("it has a number beyond 64 bits") from error


def all_numbers(text: bytes) -> np.ndarray:
    """The numbers of a whole text, which would fill many times its space as words."""
    values, start = [np.zeros(0)], 0
    while start < len(text):
        block = text[start : start + BLOCK]
        if start + BLOCK < len(text) and not block[-1:].isspace():
            # The last word may go on in the next block.
            word = block[-MAX_NUMBER - 1 :].split()[-1]
            if len(word) > MAX_NUMBER:
                raise ValueError(f"it has text of more than {MAX_NUMBER} letters where a number must be")
            block = block[: -len(word)]
        values.append(numbers(block.split(), np.float64))
        start += len(block)
    return np.concatenate(values)


def fan(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The triangles of polygons of so many corners, as numbers of corners, and the polygon each is of."""
    if counts.size and counts.min() < 3:
        raise ValueError(f"it has a face of {counts.min()} corners")
    triangles = counts - 2
    polygon = np.repeat(np.arange(len(counts)), triangles)
    start = (np.cumsum(counts) - counts)[polygon]
    second = start + np.arange(len(polygon)) - (np.cumsum(triangles) - triangles)[polygon] + 1
    return np.stack([start, second, second + 1], axis=-1), polygon


def runs(material: np.ndarray) -> list[tuple[int, int, int]]:
    """Where each run of faces of one material begins and ends, and the material."""
    if not len(material):
        return []
    edges = [0, *(np.flatnonzero(np.diff(material)) + 1).tolist(), len(material)]
    return [(a, b, int(material[a])) for a, b in itertools.pairwise(edges)]
