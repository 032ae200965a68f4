"""Reader and writer of Wavefront OBJ files and their material libraries (MTL)."""

from __future__ import annotations

import contextlib
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jnr.io import _parts, _polygons
from jnr.io._parts import Content, Files, Texture

# Limits for hostile files; those of a line and of a library are in bytes.
MAX_LINE = 2**24
MAX_LIBRARIES = 256
MAX_LIBRARY = 2**26
# Colour of faces without a known material.

SPACES = np.frombuffer(b" \t\n\r\v\f", np.uint8)
# Options of map_Kd and their maximal number of arguments; -o, -s and -t take one to three numbers.
OPTIONS = {"-blendu": 1, "-blendv": 1, "-boost": 1, "-cc": 1, "-clamp": 1, "-imfchan": 1, "-mm": 2, "-texres": 1}
OPTIONS |= {"-bm": 1, "-type": 1, "-o": 3, "-s": 3, "-t": 3}


class _Material(NamedTuple):
    color: np.ndarray
    image: str | None = None
    clamp: bool = False


class _Reader:
    """Accumulates the contents of an OBJ file block by block."""

    def __init__(self):
        self.vertices, self.colors, self.uv = [], [], []
        # Per face: number of corners, corners (position, uv) and index into `names`; -1 for none.
        self.counts, self.corners, self.materials = [], [], []
        self.num_vertices = self.num_uv = 0
        self.names: dict[bytes, int] = {}
        self.libraries: dict[bytes, None] = {}
        self.material = -1

    def add(self, block: bytes) -> None:
        """Reads a block of complete lines."""
        if b"\0" in block:
            raise ValueError("it contains NUL bytes, so it is not a text file")
        block = block.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").replace(b"\r", b"\n").replace(b"\t", b" ")
        lines = [line.strip() for line in block.split(b"\n")]
        prefixes = np.array([line[:2] for line in lines], "S2")
        is_vertex, is_uv = prefixes == b"v ", prefixes == b"vt"
        face_lines = np.flatnonzero(prefixes == b"f ")
        # Negative indices are relative to the number of vertices defined before their line.
        vertices_before = self.num_vertices + np.cumsum(is_vertex)[face_lines]
        uv_before = self.num_uv + np.cumsum(is_uv)[face_lines]
        self._add_vertices([lines[i] for i in np.flatnonzero(is_vertex)])
        self._add_uv([lines[i] for i in np.flatnonzero(is_uv)])
        self._add_faces([lines[i] for i in face_lines], vertices_before, uv_before)
        self._add_materials(lines, np.flatnonzero((prefixes == b"us") | (prefixes == b"mt")), face_lines)

    def _add_vertices(self, lines):
        values, first, counts = _numbers(lines)
        if not lines:
            return
        if counts.min() < 3:
            raise ValueError(f"it has a vertex of {counts.min()} coordinates")
        self.vertices.append(values[first[:, None] + np.arange(3)])
        self.num_vertices += len(lines)
        if counts.min() >= 6:
            self.colors.append(values[first[:, None] + np.arange(3, 6)])

    def _add_uv(self, lines):
        values, first, counts = _numbers(lines)
        if not lines:
            return
        if counts.min() < 1:
            raise ValueError("it has a texture coordinate without numbers")
        v = np.where(counts > 1, values[np.minimum(first + 1, len(values) - 1)], 0)
        self.uv.append(np.stack([values[first], v], axis=-1))
        self.num_uv += len(lines)

    def _add_faces(self, lines, vertices_before, uv_before):
        if not lines:
            return
        tokens, counts = _tokens(lines, 1)
        corners = _corners(tokens)
        for column, before in enumerate((vertices_before, uv_before)):
            given = corners[:, column]
            index = np.where(given > 0, given - 1, given + np.repeat(before, counts))
            if np.any(index[given < 0] < 0):
                raise ValueError(f"it has the relative index {given.min()}, which points before the first entry")
            corners[:, column] = np.where(given == 0, -1, index)
        self.counts.append(counts)
        self.corners.append(corners)

    def _add_materials(self, lines, material_lines, face_lines):
        changes, materials = [], [self.material]
        for i in material_lines:
            keyword, _, name = lines[i].partition(b" ")
            if keyword == b"usemtl":
                changes.append(i)
                materials.append(self.names.setdefault(name.strip(), len(self.names)))
            elif keyword == b"mtllib":
                self.libraries[name.strip()] = None
                if len(self.libraries) > MAX_LIBRARIES:
                    raise ValueError(f"it has more than {MAX_LIBRARIES} material libraries")
        self.material = materials[-1]
        self.materials.append(np.array(materials)[np.searchsorted(changes, face_lines)])

    def content(self, files: Files, wrap: str, *, textures: bool) -> Content:
        """Returns the mesh after all lines have been read."""
        counts = _concatenated(self.counts)
        corners = _concatenated(self.corners, 2)
        vertices = _concatenated(self.vertices, 3, float)
        triangles, polygon = _polygons.triangulate(vertices, corners[:, 0], counts, files)
        faces = corners[:, 0][triangles]
        if not textures:
            return Content(vertices, faces)
        texture = self._texture(files, corners[:, 1][triangles], _concatenated(self.materials)[polygon], wrap)
        colors = _concatenated(self.colors, 3, float)
        has_colors = texture is None and 0 < len(colors) == len(vertices)
        return Content(vertices, faces, _to_unit_range(colors) if has_colors else None, texture)

    def _texture(self, files, uv_faces, names, wrap) -> Texture | None:
        """Returns the texture, or None if no face has a known material. `names` indexes `self.names`, -1 for none."""
        known = _libraries(list(self.libraries), files)
        order = {name: k for k, name in enumerate(known)}
        # Faces with an unknown material or none get one additional, grey material.
        gray = len(known)
        material = np.array([*(order.get(name, gray) for name in self.names), gray])[names]
        if np.all(material == gray):
            return None
        images, wraps = [], []
        # A 1 x 1 image of a material's colour is clamped in place of "border", so that no border colour is seen.
        plain_wrap = "clamp" if wrap == "border" else wrap
        for name, entry in known.items():
            if entry.image is None:
                images.append(np.asarray(entry.color, np.float32).reshape(1, 1, 3))
            else:
                images.append(files.image(entry.image, f"material {_text(name)[:80]!r}"))
            wraps.append("clamp" if entry.clamp else plain_wrap if entry.image is None else wrap)
        if np.any(material == gray):
            images.append(np.full((1, 1, 3), _parts.GRAY, np.float32))
            wraps.append(plain_wrap)
        uv = _concatenated(self.uv, 2, float)
        if uv_faces.max(initial=-1) >= len(uv):
            raise ValueError(f"it has {len(uv)} texture coordinates and a face with texture index {uv_faces.max() + 1}")
        if np.any(uv_faces < 0):
            uv_faces = np.where(uv_faces < 0, len(uv), uv_faces)
            uv = np.concatenate([uv, np.zeros((1, 2))])
        return Texture(_parts.with_equal_channels(images), wraps, uv, uv_faces, material)


def read(path: Path, files: Files, wrap: str, *, textures: bool, progress: bool) -> Content:
    """Reads an OBJ file and its materials."""
    reader = _Reader()
    with path.open("rb") as file, _bar(path, progress) as bar:
        while block := _complete_lines(file):
            reader.add(block)
            if bar is not None:
                bar.update(len(block))
    return reader.content(files, wrap, textures=textures)


def _bar(path, progress):
    if not progress:
        return contextlib.nullcontext()
    tqdm = _parts.require("tqdm", "tqdm", "Progress bars")
    return tqdm.tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True, delay=1)


def _complete_lines(file) -> bytes:
    """Reads about one block, up to the end of a line; empty at the end of the file."""
    parts = [file.read(_parts.BLOCK)]
    left = MAX_LINE
    # A backslash at the end of a line continues it on the next one.
    while parts[-1] and (not parts[-1].endswith(b"\n") or parts[-1].endswith((b"\\\n", b"\\\r\n"))):
        parts.append(file.readline(left + 1))
        left -= len(parts[-1])
        if left < 0:
            raise ValueError(f"it has a line of more than {MAX_LINE} bytes")
    return b"".join(parts)


def _tokens(lines, keyword):
    """Returns the words of all lines without their first `keyword` bytes, and the number of words of each line."""
    text = b"\n".join([line[keyword:] for line in lines])
    if b"#" in text:
        text = b"\n".join([line[keyword:].partition(b"#")[0] for line in lines])
    characters = np.frombuffer(text, np.uint8)
    is_space = np.isin(characters, SPACES)
    begins = np.flatnonzero(~is_space & np.concatenate([[True], is_space[:-1]]))
    ends = np.flatnonzero(characters == 10)
    counts = (
        np.diff(np.searchsorted(begins, np.concatenate([[0], ends, [len(characters)]])))
        if lines
        else np.zeros(0, np.int64)
    )
    return text.split(), counts


def _numbers(lines):
    """Returns the numbers of all lines, and per line the index of its first number and their count."""
    tokens, counts = _tokens(lines, 2)
    return _parts.numbers(tokens, np.float64), np.cumsum(counts) - counts, counts


def _corners(tokens) -> np.ndarray:
    """Returns 1-based indices `(corners, 2)` of position and texture coordinate, 0 for no texture coordinate."""
    slashes = np.fromiter((token.count(b"/") for token in tokens), np.int64, len(tokens))
    if slashes.max(initial=0) > 2:
        raise ValueError("it has a face corner of more than three indices")
    corners = np.zeros((len(tokens), 2), np.int64)
    for count in np.unique(slashes):
        same_count = np.flatnonzero(slashes == count)
        chosen = tokens if len(same_count) == len(tokens) else [tokens[i] for i in same_count]
        pieces = b"/".join(chosen).split(b"/")
        corners[same_count, 0] = _parts.numbers(pieces[:: count + 1], np.int64)
        if count:
            given = pieces[1 :: count + 1]
            corners[same_count, 1] = _parts.numbers([piece or b"0" for piece in given], np.int64)
            if np.any((corners[same_count, 1] == 0) & np.fromiter(map(bool, given), bool, len(given))):
                raise ValueError("it has the texture coordinate index 0; indices start at 1")
    if np.any(corners[:, 0] == 0):
        raise ValueError("it has the vertex index 0; indices start at 1")
    return corners


def _concatenated(arrays, columns: int | None = None, dtype: type = np.int64) -> np.ndarray:
    """Concatenates arrays of equal columns; the result of none is empty."""
    empty = np.zeros(0 if columns is None else (0, columns), dtype)
    return np.concatenate([empty, *arrays])


def _to_unit_range(colors):
    # Some programs write colours in [0, 255].
    return np.clip(colors / 255 if colors.max(initial=0) > 1 else colors, 0, 1)


def _libraries(names, files) -> dict[bytes, _Material]:
    """Returns the materials of all libraries by name, in the order of definition."""
    materials = {}
    for path in dict.fromkeys(chain.from_iterable(_paths(name, files) for name in names)):
        if path.stat().st_size > MAX_LIBRARY:
            raise ValueError(f"its material library {path.name!r} has more than {MAX_LIBRARY} bytes")
        _read_materials(path.read_bytes(), materials)
    return materials


def _paths(name, files):
    """Returns the files of one mtllib line: its whole text if that is a file, else each of its words."""
    names = [_text(name)] if name and files.find(_text(name)) else [_text(word) for word in name.split()]
    paths = []
    for library in names:
        path = files.find(library)
        if path is None:
            raise ValueError(
                f"its material library {library[:80]!r} does not exist; textures=False loads the mesh without materials"
            )
        paths.append(path)
    return paths


def _read_materials(content, materials):
    """Adds the materials of a library to the dict `materials`."""
    current = None
    for line in content.replace(b"\r", b"\n").replace(b"\t", b" ").split(b"\n"):
        keyword, _, rest = line.strip().partition(b" ")
        keyword, rest = keyword.lower(), rest.strip()
        if keyword == b"newmtl":
            current = rest
            materials[current] = _Material(np.ones(3))
            if len(materials) > _parts.MAX_IMAGES:
                raise ValueError(f"it has more than {_parts.MAX_IMAGES} materials")
        elif keyword == b"kd" and current is not None:
            materials[current] = materials[current]._replace(color=_color(rest))
        elif keyword == b"map_kd" and current is not None:
            image, clamp = _image(_text(rest))
            materials[current] = materials[current]._replace(image=image, clamp=clamp)


def _color(text):
    words = text.partition(b"#")[0].split()
    if words and words[0].lower() in (b"xyz", b"spectral"):
        raise ValueError(f"it has a material with a colour in the format {_text(words[0])}, not RGB")
    color = _parts.numbers(words[:3], np.float64)
    if color.size not in (1, 3) or not np.all(np.isfinite(color)):
        raise ValueError(f"it has a material with the colour {_text(text)[:80]!r}, not three finite numbers")
    return np.clip(np.broadcast_to(color, 3), 0, 1)


def _image(text):
    """Returns the image name of map_Kd, which may contain spaces, and whether it has -clamp on; skips other options."""
    clamp = False
    while True:
        option, _, rest = text.partition(" ")
        arguments = OPTIONS.get(option.lower())
        if arguments is None:
            break
        if option.lower() == "-clamp":
            clamp = rest.split(" ")[0].lower() == "on"
        for position in range(arguments):
            word, _, after = rest.lstrip().partition(" ")
            if position and option.lower() in ("-o", "-s", "-t") and not _is_number(word):
                break
            rest = after
        text = rest.lstrip()
    if not text:
        raise ValueError("it has a material whose map_Kd has no image name")
    return text, clamp


def _is_number(word):
    try:
        float(word)
    except ValueError:
        return False
    return True


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def write(path: Path, content: Content) -> dict[Path, bytes]:
    """Returns the contents of the OBJ file, its material library and its images, by path."""
    vertices, faces, colors, texture, *_ = content
    if colors is not None:
        colors = _parts.eight_bits(colors) / np.float32(255)
        return {path: _parts.rows("v" + " %.9g" * 6 + "\n", np.concatenate([vertices, colors], axis=1)) + _faces(faces)}
    if texture is None:
        return {path: _parts.rows("v %.9g %.9g %.9g\n", vertices) + _faces(faces)}
    name = path.stem
    if name != name.strip() or name.startswith("-") or any(ord(character) < 32 for character in name):
        raise ValueError(
            f"path must have a name without a leading minus, without spaces at its ends and without control characters "
            f"to be saved with textures, got {name!r}."
        )
    files, library = {}, []
    for k, (image, wrap) in enumerate(zip(texture.images, texture.wraps, strict=True)):
        if wrap not in ("repeat", "clamp"):
            raise ValueError(f"wrap must be 'repeat' or 'clamp' to be saved as .obj, got {wrap!r}.")
        files[path.with_name(f"{name}_{k}.png")] = _parts.png(image)
        clamp = "-clamp on " if wrap == "clamp" else ""
        library.append(f"newmtl material_{k}\nKd 1 1 1\nmap_Kd {clamp}{name}_{k}.png\n")
    files[path.with_name(f"{name}.mtl")] = _bytes("\n".join(library))
    uv_faces = faces if texture.uv_faces is None else texture.uv_faces
    corners = np.stack([faces, uv_faces], axis=-1).reshape(-1, 6)
    text = [
        _bytes(f"mtllib {name}.mtl\n"),
        _parts.rows("v %.9g %.9g %.9g\n", vertices),
        _parts.rows("vt %.9g %.9g\n", texture.uv),
    ]
    for start, end, k in _parts.runs(texture.material):
        text += [f"usemtl material_{k}\n".encode(), _parts.rows("f %d/%d %d/%d %d/%d\n", corners[start:end] + 1)]
    return {**files, path: b"".join(text)}


def _bytes(text):
    return text.encode("utf-8", "surrogateescape")


def _faces(faces):
    return _parts.rows("f %d %d %d\n", faces + 1)
