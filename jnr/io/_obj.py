"""Wavefront OBJ files with their material libraries, in which texture coordinates have indices of their own."""

from __future__ import annotations

import contextlib
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jnr.io import _parts
from jnr.io._parts import Content, Files, Texture

MAX_LINE = 2**24
MAX_LIBRARIES = 256
MAX_LIBRARY = 2**26
GREY = 0.5
SPACES = np.frombuffer(b" \t\n\r\v\f", np.uint8)
# Arguments of the options that may stand before an image's name; -o, -s and -t have one to three numbers.
OPTIONS = {"-blendu": 1, "-blendv": 1, "-boost": 1, "-cc": 1, "-clamp": 1, "-imfchan": 1, "-mm": 2, "-texres": 1}
OPTIONS |= {"-bm": 1, "-type": 1, "-o": 3, "-s": 3, "-t": 3}


class _Material(NamedTuple):
    color: np.ndarray
    image: str | None = None
    clamp: bool = False


class _Reader:
    """What the lines read so far hold."""

    def __init__(self):
        self.vertices, self.colors, self.uv = [], [], []
        self.counts, self.corners, self.materials = [], [], []
        self.num_vertices = self.num_uv = 0
        self.names: dict[bytes, int] = {}
        self.libraries: dict[bytes, None] = {}
        self.material = -1

    def add(self, block: bytes) -> None:
        """Reads whole lines."""
        if b"\0" in block:
            raise ValueError("it holds NUL bytes, which no text does")
        block = block.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").replace(b"\r", b"\n").replace(b"\t", b" ")
        lines = [line.strip() for line in block.split(b"\n")]
        heads = np.array([line[:2] for line in lines], "S2")
        is_vertex, is_uv = heads == b"v ", heads == b"vt"
        is_face = np.flatnonzero(heads == b"f ")
        # Negative indices count back from the line they stand in.
        vertices_before = self.num_vertices + np.cumsum(is_vertex)[is_face]
        uv_before = self.num_uv + np.cumsum(is_uv)[is_face]
        self._add_vertices([lines[i] for i in np.flatnonzero(is_vertex)])
        self._add_uv([lines[i] for i in np.flatnonzero(is_uv)])
        self._add_faces([lines[i] for i in is_face], vertices_before, uv_before)
        self._add_materials(lines, np.flatnonzero((heads == b"us") | (heads == b"mt")), is_face)

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
                raise ValueError(f"it has an index of {given.min()}, counted back beyond the first")
            corners[:, column] = np.where(given == 0, -1, index)
        self.counts.append(counts)
        self.corners.append(corners)

    def _add_materials(self, lines, where, is_face):
        changes, materials = [], [self.material]
        for i in where:
            keyword, _, name = lines[i].partition(b" ")
            if keyword == b"usemtl":
                changes.append(i)
                materials.append(self.names.setdefault(name.strip(), len(self.names)))
            elif keyword == b"mtllib":
                self.libraries[name.strip()] = None
                if len(self.libraries) > MAX_LIBRARIES:
                    raise ValueError(f"it has more than {MAX_LIBRARIES} material libraries")
        self.material = materials[-1]
        self.materials.append(np.array(materials)[np.searchsorted(changes, is_face)])

    def content(self, files: Files, wrap: str, *, textures: bool) -> Content:
        """The mesh, once all lines are read."""
        counts = _joined(self.counts)
        corners = _joined(self.corners, 2)
        vertices = _joined(self.vertices, 3, float)
        triangles, polygon = _parts.fan(counts)
        faces = corners[:, 0][triangles]
        if not textures:
            return Content(vertices, faces)
        texture = self._texture(files, corners[:, 1][triangles], _joined(self.materials)[polygon], wrap)
        colors = _joined(self.colors, 3, float)
        has_colors = texture is None and 0 < len(colors) == len(vertices)
        return Content(vertices, faces, _unit(colors) if has_colors else None, texture)

    def _texture(self, files, uv_faces, names, wrap) -> Texture | None:
        known = _libraries(list(self.libraries), files)
        order = {name: k for k, name in enumerate(known)}
        # Names without a material, and faces before the first name, come last as grey.
        grey = len(known)
        numbers = np.array([*(order.get(name, grey) for name in self.names), grey])
        material = numbers[names]
        if np.all(material == grey):
            return None
        images, wraps = [], []
        for name, own in known.items():
            if own.image is None:
                images.append(np.asarray(own.color, np.float32).reshape(1, 1, 3))
            else:
                images.append(files.image(own.image, f"material {_text(name)[:80]!r}"))
            # One colour has no edge at which a border could begin.
            plain = "clamp" if wrap == "border" else wrap
            wraps.append("clamp" if own.clamp else plain if own.image is None else wrap)
        if np.any(material == grey):
            images.append(np.full((1, 1, 3), GREY, np.float32))
            wraps.append("clamp" if wrap == "border" else wrap)
        uv = _joined(self.uv, 2, float)
        if uv_faces.max(initial=-1) >= len(uv):
            raise ValueError(f"it has {len(uv)} texture coordinates and a face that has number {uv_faces.max() + 1}")
        if np.any(uv_faces < 0):
            uv_faces = np.where(uv_faces < 0, len(uv), uv_faces)
            uv = np.concatenate([uv, np.zeros((1, 2))])
        return Texture(_parts.alike(images), wraps, uv, uv_faces, material)


def read(path: Path, files: Files, wrap: str, *, textures: bool, progress: bool) -> Content:
    """Reads an OBJ file and its materials."""
    reader = _Reader()
    with path.open("rb") as file, _bar(path, progress) as bar:
        while block := _whole_lines(file):
            reader.add(block)
            if bar is not None:
                bar.update(len(block))
    return reader.content(files, wrap, textures=textures)


def _bar(path, progress):
    if not progress:
        return contextlib.nullcontext()
    tqdm = _parts.require("tqdm", "tqdm", "Progress bars")
    return tqdm.tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True, delay=1)


def _whole_lines(file) -> bytes:
    parts = [file.read(_parts.BLOCK)]
    left = MAX_LINE
    # A backslash at its end carries a line on to the next.
    while parts[-1] and (not parts[-1].endswith(b"\n") or parts[-1].endswith((b"\\\n", b"\\\r\n"))):
        parts.append(file.readline(left + 1))
        left -= len(parts[-1])
        if left < 0:
            raise ValueError(f"it has a line of more than {MAX_LINE} bytes")
    return b"".join(parts)


def _tokens(lines, keyword):
    """The words of lines behind their keyword, and how many each line has."""
    text = b"\n".join([line[keyword:] for line in lines])
    if b"#" in text:
        text = b"\n".join([line[keyword:].partition(b"#")[0] for line in lines])
    letters = np.frombuffer(text, np.uint8)
    is_space = np.isin(letters, SPACES)
    begins = np.flatnonzero(~is_space & np.concatenate([[True], is_space[:-1]]))
    ends = np.flatnonzero(letters == 10)
    counts = (
        np.diff(np.searchsorted(begins, np.concatenate([[0], ends, [len(letters)]])))
        if lines
        else np.zeros(0, np.int64)
    )
    return text.split(), counts


def _numbers(lines):
    """All numbers of lines, and for each line where they begin and how many there are."""
    tokens, counts = _tokens(lines, 2)
    return _parts.numbers(tokens, np.float64), np.cumsum(counts) - counts, counts


def _corners(tokens) -> np.ndarray:
    """Numbers of position and texture coordinate at each corner, 0 where a corner has no texture coordinate."""
    slashes = np.fromiter((token.count(b"/") for token in tokens), np.int64, len(tokens))
    if slashes.max(initial=0) > 2:
        raise ValueError("it has a corner of more than three indices")
    corners = np.zeros((len(tokens), 2), np.int64)
    for count in np.unique(slashes):
        own = np.flatnonzero(slashes == count)
        chosen = tokens if len(own) == len(tokens) else [tokens[i] for i in own]
        pieces = b"/".join(chosen).split(b"/")
        corners[own, 0] = _parts.numbers(pieces[:: count + 1], np.int64)
        if count:
            given = pieces[1 :: count + 1]
            corners[own, 1] = _parts.numbers([piece or b"0" for piece in given], np.int64)
            if np.any((corners[own, 1] == 0) & np.fromiter(map(bool, given), bool, len(given))):
                raise ValueError("it has a texture coordinate of number 0, where 1 is the first")
    if np.any(corners[:, 0] == 0):
        raise ValueError("it has a vertex of number 0, where 1 is the first")
    return corners


def _joined(arrays, columns: int | None = None, dtype: type = np.int64) -> np.ndarray:
    empty = np.zeros(0 if columns is None else (0, columns), dtype)
    return np.concatenate([empty, *arrays])


def _unit(colors):
    # Some programs write 8-bit numbers.
    return np.clip(colors / 255 if colors.max(initial=0) > 1 else colors, 0, 1)


def _libraries(names, files) -> dict[bytes, _Material]:
    """The materials of all libraries, in their order."""
    materials = {}
    for path in dict.fromkeys(chain.from_iterable(_paths(name, files) for name in names)):
        if path.stat().st_size > MAX_LIBRARY:
            raise ValueError(f"its material library {path.name!r} is larger than {MAX_LIBRARY} bytes")
        _read_materials(path.read_bytes(), materials)
    return materials


def _paths(name, files):
    """The libraries of one line: its whole text is a name, or else each word is."""
    names = [_text(name)] if name and files.find(_text(name)) else [_text(word) for word in name.split()]
    paths = []
    for library in names:
        path = files.find(library)
        if path is None:
            raise ValueError(
                f"its material library {library[:80]!r} is not there; textures=False reads the mesh without"
            )
        paths.append(path)
    return paths


def _read_materials(content, materials):
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
        raise ValueError(f"it has a material whose colour is given as {_text(words[0])}, not as RGB")
    color = _parts.numbers(words[:3], np.float64)
    if color.size not in (1, 3) or not np.all(np.isfinite(color)):
        raise ValueError(f"it has a material whose colour is {_text(text)[:80]!r}, not three numbers")
    return np.clip(np.broadcast_to(color, 3), 0, 1)


def _image(text):
    """The image's name, which may hold spaces, and whether it is clamped. Its other options change nothing here."""
    clamp = False
    while True:
        option, _, rest = text.partition(" ")
        arguments = OPTIONS.get(option.lower())
        if arguments is None:
            break
        if option.lower() == "-clamp":
            clamp = rest.split(" ")[0].lower() == "on"
        for taken in range(arguments):
            word, _, after = rest.lstrip().partition(" ")
            if taken and option.lower() in ("-o", "-s", "-t") and not _is_number(word):
                break
            rest = after
        text = rest.lstrip()
    if not text:
        raise ValueError("it has a material with map_Kd but no image's name")
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
    """The OBJ file, its material library and its images."""
    vertices, faces, colors, texture = content
    if colors is not None:
        colors = _parts.eight_bits(colors) / np.float32(255)
        return {path: _rows("v" + " %.9g" * 6 + "\n", np.concatenate([vertices, colors], axis=1)) + _faces(faces)}
    if texture is None:
        return {path: _rows("v %.9g %.9g %.9g\n", vertices) + _faces(faces)}
    name = path.stem
    if name != name.strip() or name.startswith("-") or any(ord(letter) < 32 for letter in name):
        raise ValueError(
            f"path must have a name without a minus or space at an end and without control characters to be saved "
            f"with textures, got {name!r}."
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
        _rows("v %.9g %.9g %.9g\n", vertices),
        _rows("vt %.9g %.9g\n", texture.uv),
    ]
    for start, end, k in _parts.runs(texture.material):
        text += [f"usemtl material_{k}\n".encode(), _rows("f %d/%d %d/%d %d/%d\n", corners[start:end] + 1)]
    return {**files, path: b"".join(text)}


def _bytes(text):
    return text.encode("utf-8", "surrogateescape")


def _faces(faces):
    return _rows("f %d %d %d\n", faces + 1)


def _rows(row, array):
    parts = (array[start : start + 2**16] for start in range(0, len(array), 2**16))
    return b"".join((row * len(part) % tuple(part.ravel().tolist())).encode() for part in parts)
