"""Reader and writer of Wavefront OBJ files and their material libraries (MTL)."""

from __future__ import annotations

import contextlib
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jnr.io import _parts, _polygons
from jnr.io._parts import Content, Files, Texture

# Limits for hostile files; those of a line, of all libraries and of an image's options and name are in bytes.
MAX_LINE = 2**24
MAX_LIBRARIES = 256
MAX_LIBRARY = 2**24
MAX_IMAGE = 2**16
# Kinds of statements that are kept for a warning, and the bytes of each.
MAX_KEYWORDS, MAX_KEYWORD = 16, 16
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
# Index of a texture coordinate or a normal that is out of range.
INVALID = 2**62

IS_SPACE = np.isin(np.arange(256), np.frombuffer(b" \t\n\r\v\f", np.uint8))
# Options of an image and their maximal number of arguments; -o, -s and -t take one to three numbers.
OPTIONS = {"-blendu": 1, "-blendv": 1, "-boost": 1, "-cc": 1, "-clamp": 1, "-imfchan": 1, "-mm": 2, "-texres": 1}
OPTIONS |= {"-bm": 1, "-type": 1, "-o": 3, "-s": 3, "-t": 3}
# Options that move an image or change its texels, and the value that does neither.
CHANGES = {"-o": (0, 0, 0), "-s": (1, 1, 1), "-t": (0, 0, 0), "-mm": (0, 1)}
# Statements that have no place in a mesh of triangles, by what a warning calls them.
LEFT_OUT: dict[bytes, str] = dict.fromkeys((b"curv", b"curv2", b"surf", b"cstype", b"vp"), "curves and surfaces")
LEFT_OUT |= {b"l": "lines", b"p": "points", b"usemap": "texture maps of usemap"}
# Statements that change no picture, or only those of the curves and surfaces above.
HARMLESS = {*b"g o s mg lod bevel c_interp d_interp shadow_obj trace_obj ctech stech maplib call csh".split()}
HARMLESS |= {*b"deg bmat step parm trim hole scrv sp end con".split()}
# Statements of a material. Other maps than those of colour and opacity are only named in a warning.
MATERIAL = re.compile(
    rb"^[ \t]*(newmtl|kd|d|tr|(?:map_\w+|bump|disp|decal|refl|norm)(?<!map_aat))(?:[ \t]+([^\n]*)|$)", re.I | re.M
)


class _Reader:
    """Accumulates the contents of an OBJ file block by block."""

    def __init__(self):
        # Per block: rows of numbers, and whether a vertex has a colour; None for a block without colours.
        self.vertices, self.colors, self.uv, self.normals = [], [], [], []
        # Per face: number of corners, corners (position, uv, normal) and index into `names`; -1 for none.
        self.counts, self.corners, self.materials = [], [], []
        self.num_vertices = self.num_uv = self.num_normals = 0
        self.has_weights = self.has_more_numbers = self.has_bad_normals = False
        self.names: dict[bytes, int] = {}
        self.libraries: dict[bytes, None] = {}
        self.others: dict[bytes, None] = {}
        self.material = -1

    def add(self, block: bytes) -> None:
        """Reads a block of complete lines."""
        if b"\0" in block:
            raise ValueError("it contains NUL bytes, so it is not a text file")
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\\\n" in block:
            block = _joined(block)
        lines = [line.strip() for line in block.replace(b"\t", b" ").split(b"\n")]
        prefixes = np.array([line[:2] for line in lines], "S2")
        is_vertex, is_uv, is_normal = prefixes == b"v ", prefixes == b"vt", prefixes == b"vn"
        is_face = prefixes == b"f "
        others = np.flatnonzero(~(is_vertex | is_uv | is_normal | is_face | (prefixes == b"")))
        face_lines = np.flatnonzero(is_face)
        # Negative indices are relative to the number of rows defined before their line.
        before = [
            number + np.cumsum(is_row)[face_lines]
            for number, is_row in (
                (self.num_vertices, is_vertex),
                (self.num_uv, is_uv),
                (self.num_normals, is_normal),
            )
        ]
        self._add_vertices([lines[i] for i in np.flatnonzero(is_vertex)])
        self._add_uv([lines[i] for i in np.flatnonzero(is_uv)])
        self._add_normals([lines[i] for i in np.flatnonzero(is_normal)])
        self._add_faces([lines[i] for i in face_lines], before)
        self._add_others(lines, others, face_lines)

    def _add_vertices(self, lines):
        if not lines:
            return
        words = _Words(lines, 2)
        values, counts = words.numbers(np.float64), words.counts
        if counts.min() < 3:
            raise ValueError(f"it has a vertex of {counts.min()} coordinates")
        first = np.cumsum(counts) - counts
        self.vertices.append(values[first[:, None] + np.arange(3)])
        self.num_vertices += len(lines)
        is_colored = counts >= 6
        is_weighted = (counts == 4) | (counts == 5)
        self.has_weights |= bool(np.any(values[first[is_weighted] + 3] != 1))
        self.has_more_numbers |= bool(np.any(counts > 6))
        self.colors.append(None)
        if np.any(is_colored):
            # Infinity is white after clipping.
            self.colors[-1] = np.full((len(lines), 3), np.inf)
            self.colors[-1][is_colored] = values[first[is_colored, None] + np.arange(3, 6)]

    def _add_uv(self, lines):
        if not lines:
            return
        words = _Words(lines, 2)
        values, counts = words.numbers(np.float64), words.counts
        if counts.min() < 1:
            raise ValueError("it has a texture coordinate without numbers")
        first = np.cumsum(counts) - counts
        v = np.where(counts > 1, values[np.minimum(first + 1, len(values) - 1)], 0)
        self.uv.append(np.stack([values[first], v], axis=-1))
        self.num_uv += len(lines)

    def _add_normals(self, lines):
        if not lines:
            return
        self.num_normals += len(lines)
        words = _Words(lines, 2)
        try:
            self.normals.append(words.numbers(np.float64).reshape(-1, 3))
        except ValueError:
            self.has_bad_normals = True
        self.has_bad_normals |= not np.all(words.counts == 3)

    def _add_faces(self, lines, before):
        if not lines:
            return
        words = _Words(lines, 1)
        corners = words.corners()
        if corners.min() < 0:
            for column in range(3):
                given = corners[:, column]
                index = np.where(given < 0, given + np.repeat(before[column], words.counts) + 1, given)
                if column == 0 and np.any(index[given < 0] < 1):
                    raise ValueError(f"it has the relative index {given.min()}, which points before the first entry")
                corners[:, column] = np.where((given < 0) & (index < 1), INVALID, index)
        self.counts.append(words.counts)
        self.corners.append(corners - 1)

    def _add_others(self, lines, others, face_lines):
        changes, materials = [], [self.material]
        for i in others:
            keyword, _, name = lines[i].partition(b" ")
            name = name.strip()
            if keyword == b"usemtl":
                changes.append(i)
                materials.append(self.names.setdefault(name, len(self.names)) if name else -1)
            elif keyword == b"mtllib":
                self.libraries[name] = None
                if len(self.libraries) > MAX_LIBRARIES:
                    raise ValueError(f"it has more than {MAX_LIBRARIES} material libraries")
            elif keyword == b"v":
                raise ValueError("it has a vertex of 0 coordinates")
            elif not keyword.startswith(b"#") and keyword not in HARMLESS and len(self.others) < MAX_KEYWORDS:
                self.others[keyword[:MAX_KEYWORD]] = None
        self.material = materials[-1]
        self.materials.append(np.array(materials)[np.searchsorted(changes, face_lines)])

    def content(self, files: Files, wrap: str, *, textures: bool) -> Content:
        """Returns the mesh after all lines have been read."""
        counts, corners, names = (
            _concatenated(self.counts),
            _concatenated(self.corners, 3),
            _concatenated(self.materials),
        )
        is_polygon = counts > 2
        if not np.all(is_polygon) or b"f" in self.others:
            files.leave_out("faces of fewer than three corners")
            corners = corners[np.repeat(is_polygon, counts)]
            counts, names = counts[is_polygon], names[is_polygon]
        self._leave_out_others(files)
        vertices = _concatenated(self.vertices, 3, float)
        triangles, polygon = _polygons.triangulate(vertices, corners[:, 0], counts, files)
        faces, uv_faces, normal_faces = (corners[:, column][triangles] for column in range(3))
        if not faces.size or faces.min() < 0 or faces.max() >= len(vertices):
            return Content(vertices, faces)  # which is rejected
        content = Content(vertices, faces, normals=self._normals_of(faces, normal_faces, files))
        if not textures:
            return content
        colors = self._vertex_colors(faces, files)
        has_uv = self._has_uv(uv_faces, files)
        looks, material = self._looks(names[polygon], files)
        if colors is not None and (not looks or all(looks[k].is_white for k in np.unique(material))):
            if has_uv:
                files.leave_out("texture coordinates, since vertex colours are drawn")
            return content._replace(colors=colors)
        if colors is not None:
            files.leave_out("vertex colours, since materials are drawn")
        if not looks and not has_uv:
            return content
        return content._replace(texture=self._texture(looks, material, uv_faces, wrap, files))

    def _leave_out_others(self, files):
        if self.has_weights:
            files.leave_out("weights (w) of vertices")
        if self.has_more_numbers:
            files.leave_out("numbers of vertices after position and colour")
        unknown = [keyword for keyword in self.others if keyword not in LEFT_OUT and keyword != b"f"]
        for keyword in self.others:
            if keyword in LEFT_OUT:
                files.leave_out(LEFT_OUT[keyword])
        if unknown:
            files.leave_out(f"unknown statements ({', '.join(ascii(_text(keyword))[1:-1] for keyword in unknown)})")

    def _normals_of(self, faces, normal_faces, files):
        """Normals per vertex or per corner, None without any."""
        if np.all(normal_faces < 0):
            if self.num_normals:
                files.leave_out("normals, to which no face refers")
            return None
        rows = _concatenated(self.normals, 3, float)
        if self.has_bad_normals or normal_faces.min() < 0 or normal_faces.max() >= len(rows):
            files.leave_out("normals, which some corners lack")
            return None
        of_corners, of_vertices = rows[normal_faces], np.zeros((self.num_vertices, 3))
        of_vertices[faces] = of_corners
        return of_vertices if np.array_equal(of_vertices[faces], of_corners) else of_corners

    def _vertex_colors(self, faces, files):
        """Colours in [0, 1], None if no vertex has one; vertices without one are white."""
        if all(colors is None for colors in self.colors):
            return None
        colors = np.concatenate(
            [
                np.full(rows.shape, np.inf) if colors is None else colors
                for rows, colors in zip(self.vertices, self.colors, strict=True)
            ]
        )
        is_unused = np.ones(len(colors), bool)
        is_unused[faces] = False
        colors[is_unused & np.isnan(colors).any(axis=1)] = 1
        return _parts.fractions(colors, files)

    def _has_uv(self, uv_faces, files):
        """Whether any corner has texture coordinates."""
        has_uv = bool(np.any((uv_faces >= 0) & (uv_faces < self.num_uv)))
        if self.num_uv and not has_uv:
            files.leave_out("texture coordinates, to which no face refers")
        return has_uv

    def _looks(self, names, files):
        """The look of each material in the order of the libraries, and the material of each face.

        `names` indexes `self.names`, -1 for none. Faces with an unknown material or none have an additional, grey one.
        There are no looks if the file names no library, or no face a material.
        """
        used = set(np.unique(names).tolist())
        used_names = [name for name, k in self.names.items() if k in used]
        materials, is_complete = _libraries(list(self.libraries), files)
        if not self.libraries or not used_names:
            if used_names:
                files.leave_out(f"{_listed(used_names)}, for which the file names no library (white instead)")
            return [], np.zeros(len(names), np.int64)
        order = {name: k for k, name in enumerate(materials)}
        order = {_uncommented(name): k for name, k in order.items()} | order
        gray = len(materials)
        index = {name: order.get(name, order.get(_uncommented(name), gray)) for name in self.names}
        unknown = [name for name in used_names if index[name] == gray]
        if unknown and is_complete:
            files.leave_out(f"{_listed(unknown)}, which no library defines (grey instead)")
        material = np.array([*index.values(), gray])[names]
        is_used = np.bincount(material, minlength=gray + 1) > 0
        looks = [
            _look(_owner(name), statements, files) if is_used[k] else _unused_look(statements)
            for k, (name, statements) in enumerate(materials.items())
        ]
        if is_used[gray]:
            looks.append(_Look(_parts.gray()))
        _leave_out_maps([own for k, own in enumerate(materials.values()) if is_used[k]], files)
        return looks, material

    def _texture(self, looks, material, uv_faces, wrap, files) -> Texture:
        """The texture of materials, white without any."""
        uv = _concatenated(self.uv, 2, float)
        is_missing, is_invalid = uv_faces < 0, uv_faces >= len(uv)
        is_broken = ~np.all(np.isfinite(uv.astype(np.float32)), axis=1)
        # Plain colours need no texture coordinates.
        needs_uv = np.array([look.has_image for look in looks])[material] if looks else np.ones(len(material), bool)
        if np.any(is_invalid[needs_uv]):
            files.leave_out("texture coordinates of corners whose index is out of range ((0, 0) in their place)")
        if np.any(is_broken) and np.any(is_broken[uv_faces[needs_uv][~(is_missing | is_invalid)[needs_uv]]]):
            files.leave_out("texture coordinates that are not finite ((0, 0) in their place)")
        uv = np.where(is_broken[:, None], 0, uv)
        if np.any(is_missing | is_invalid):
            uv_faces = np.where(is_missing | is_invalid, len(uv), uv_faces)
            uv = np.concatenate([uv, np.zeros((1, 2))])
        # A 1 x 1 image of a material's colour is clamped in place of "border", so that no border colour is seen.
        plain_wrap = "clamp" if wrap == "border" else wrap
        if not looks:
            return _parts.white(uv, uv_faces, len(material), plain_wrap)
        wraps = ["clamp" if look.clamp else wrap if look.has_image else plain_wrap for look in looks]
        images = _parts.with_equal_channels([look.image for look in looks])
        alphas = ["blend"] * len(images) if images[0].shape[-1] == 4 else None
        return Texture(images, wraps, uv, uv_faces, material, alphas)


class _Look(NamedTuple):
    """What a material's faces show: texels of three channels, or four if it has opacity."""

    image: np.ndarray
    has_image: bool = False
    clamp: bool = False

    @property
    def is_white(self) -> bool:
        """Whether it changes no colour."""
        return self.image.shape == (1, 1, 3) and bool(np.all(self.image == 1))


class _Words:
    """The words of lines without their first `keyword` bytes and without comments."""

    def __init__(self, lines, keyword):
        text = b"\n".join([line[keyword:] for line in lines])
        if b"#" in text:
            text = b"\n".join([line[keyword:].partition(b"#")[0] for line in lines])
        self.text = b"\n" + text
        self.characters = np.frombuffer(self.text, np.uint8)
        is_space = IS_SPACE[self.characters]
        self.begins = np.flatnonzero(is_space[:-1] & ~is_space[1:]) + 1
        starts = np.flatnonzero(self.characters == 10)
        # Number of words per line.
        self.counts = np.diff(np.searchsorted(self.begins, np.append(starts, len(self.text))))

    def numbers(self, dtype) -> np.ndarray:
        """The words as numbers."""
        return _numbers(self.text, len(self.begins), dtype)

    def corners(self) -> np.ndarray:
        """Indices `(words, 3)` of position, texture coordinate and normal, from 1; 0 for none, or INVALID."""
        slashes = np.flatnonzero(self.characters == 47)
        word = np.searchsorted(self.begins, slashes, side="right") - 1
        number = np.bincount(word, minlength=len(self.begins)) + 1
        if number.max(initial=0) > 3:
            raise ValueError("it has a face corner of more than three indices")
        values, has_uv = self.text, np.zeros(len(self.begins), bool)
        if len(slashes):
            # The index after a slash may be missing.
            following = self.characters[np.minimum(slashes + 1, len(self.text) - 1)]
            is_given = ~IS_SPACE[following] & (following != 47)
            is_first = np.concatenate([[True], word[1:] != word[:-1]])
            has_uv[word[is_first & is_given]] = True
            values = (values + b"\n").replace(b"//", b"/0/").replace(b"/ ", b"/0 ").replace(b"/\n", b"/0\n")
            values = values.replace(b"/", b" ")
        values = _numbers(values, int(number.sum()), np.int64)
        first = np.cumsum(number) - number
        corners = np.stack(
            [np.where(number > k, values[np.minimum(first + k, len(values) - 1)], 0) for k in range(3)], axis=1
        )
        if np.any(corners[:, 0] == 0):
            raise ValueError("it has the vertex index 0; indices start at 1")
        corners[has_uv & (corners[:, 1] == 0), 1] = INVALID
        return corners


def read(path: Path, files: Files, wrap: str, *, textures: bool, progress: bool) -> Content:
    """Reads an OBJ file and its materials."""
    reader = _Reader()
    with path.open("rb") as file, _bar(path, progress) as bar:
        block = _complete_lines(file).removeprefix(_parts.BOM)
        while block:
            reader.add(block)
            block = _complete_lines(file)
            if bar is not None:
                bar.update(file.tell() - bar.n)
    return reader.content(files, wrap, textures=textures)


def _bar(path, progress):
    if not progress:
        return contextlib.nullcontext()
    tqdm = _parts.require("tqdm", "tqdm", "Progress bars")
    return tqdm.tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True, delay=1)


def _complete_lines(file) -> bytes:
    """Reads about one block, up to the end of a line; empty at the end of the file."""
    parts = [file.read(_parts.BLOCK)]
    line = parts[0][parts[0].rfind(b"\n", 0, -1) + 1 :]
    left = MAX_LINE
    while not line.endswith(b"\n") or _is_continued(line):
        parts.append(file.readline(left + 1))
        if not parts[-1]:
            break
        left -= len(parts[-1])
        if left < 0:
            raise ValueError(f"it has a line of more than {MAX_LINE} bytes")
        line = parts[-1] if line.endswith(b"\n") else line + parts[-1]
    return b"".join(parts)


def _is_continued(line):
    """Whether a line ends in a backslash, which continues it on the next one unless it is in a comment."""
    return line.endswith((b"\\\n", b"\\\r\n")) and b"#" not in line


def _joined(block):
    """Joins the lines that end in a backslash with the next one."""
    pieces = block.split(b"\\\n")
    ends = [b"\n" if b"#" in piece[piece.rfind(b"\n") + 1 :] else b" " for piece in pieces[:-1]]
    return b"".join([part for pair in zip(pieces, [*ends, b""], strict=True) for part in pair])


def _numbers(text, count, dtype) -> np.ndarray:
    """Parses a text of `count` numbers."""
    if count == 0:
        return np.zeros(0, dtype)
    try:
        with warnings.catch_warnings():
            # NumPy warns of what it cannot parse.
            warnings.simplefilter("error")
            values = np.fromstring(text, dtype, sep=" ")
    except (DeprecationWarning, ValueError):
        values = np.zeros(0, dtype)
    # NumPy clips integers that do not fit.
    limits = np.iinfo(np.int64)
    if len(values) != count or (dtype == np.int64 and (values.min() == limits.min or values.max() == limits.max)):
        values = _parts.numbers(text.split(), dtype)
    if len(values) != count:
        raise ValueError("it has a face corner without a vertex index")
    return values


def _concatenated(arrays, columns: int | None = None, dtype: type = np.int64) -> np.ndarray:
    """Concatenates arrays of equal columns; the result of none is empty."""
    empty = np.zeros(0 if columns is None else (0, columns), dtype)
    return np.concatenate([empty, *arrays])


def _libraries(names, files) -> tuple[dict[bytes, dict[bytes, bytes]], bool]:
    """Returns the statements of each material in the order of definition, and whether no library is missing."""
    paths, materials = {}, {}
    for name in names:
        paths |= dict.fromkeys(_paths(name, files))
    left = MAX_LIBRARY
    for path in filter(None, paths):
        left -= path.stat().st_size
        if left < 0:
            raise ValueError(f"its material library {path.name!r} has more than {MAX_LIBRARY} bytes, with those before")
        _read_materials(path.read_bytes(), materials)
    return materials, None not in paths


def _paths(name, files) -> list[Path | None]:
    """Returns the files of a mtllib line: its whole text if that is a file, else each of its words; None if missing."""
    text = _text(name)
    whole = files.find(_existing(files, text)) if text else None
    if whole:
        return [whole]
    words = _without_comment(text).split()
    paths = [files.find(word) for word in words]
    missing = [word for word, path in zip(words, paths, strict=True) if path is None]
    if missing:
        shown = " ".join(missing)[:80]
        files.leave_out(f"the material library {shown!r}, which does not exist (grey in place of its materials)")
    return paths


def _read_materials(content, materials):
    """Adds the statements of a library's materials to the dict `materials`."""
    current = None
    content = content.removeprefix(_parts.BOM).replace(b"\r", b"\n").replace(b"\t", b" ")
    for match in MATERIAL.finditer(content):
        keyword, rest = match[1].lower(), (match[2] or b"").strip()
        if keyword == b"newmtl":
            current = materials[rest] = {}
            if len(materials) > _parts.MAX_IMAGES:
                raise ValueError(f"it has more than {_parts.MAX_IMAGES} materials")
        elif current is not None and (keyword in current or len(current) < MAX_KEYWORDS):
            current[keyword] = rest


def _look(owner, statements, files) -> _Look:
    image, mask, clamp = _color(statements.get(b"kd", b"1")), None, False
    has_image = b"map_kd" in statements
    if has_image:
        name, clamp = _named_image("map_Kd", statements[b"map_kd"], owner, files)
        image = files.image(name, owner)
    opacity = _opacity(statements)
    if b"map_d" in statements:
        name, _ = _named_image("map_d", statements[b"map_d"], owner, files)
        mask = _mask(files, name, owner, image, has_image)
    if opacity == 1 and mask is None:
        return _Look(image, has_image, clamp)
    if mask is None:
        mask = image[..., 3] if image.shape[-1] == 4 else np.ones(image.shape[:2], np.float32)
    files.count(mask.size)
    color = np.broadcast_to(image[..., :3], (*mask.shape, 3))
    image = np.concatenate([color, np.float32(opacity) * mask[..., None]], axis=-1)
    return _Look(image, has_image or mask.size > 1, clamp)


def _named_image(keyword, text, owner, files):
    """The file of an image statement, and whether it has -clamp on."""
    name, clamp, changes = _image(keyword, text)
    if changes:
        files.leave_out(f"the options {', '.join(changes)} of {keyword} of {owner}")
    return _existing(files, name), clamp


def _unused_look(statements) -> _Look:
    """A look in place of one that no face shows: its image is not opened, and its errors do not matter."""
    color, has_image, clamp = _color(b"1"), b"map_kd" in statements, False
    with contextlib.suppress(ValueError):
        color = _color(statements.get(b"kd", b"1"))
    with contextlib.suppress(ValueError):
        _, clamp, _ = _image("map_Kd", statements.get(b"map_kd", b""))
    return _Look(color, has_image, clamp)


def _mask(files, name, owner, image, has_image):
    """Opacity by an image: its alpha channel, or its luminance if it has none; None if it cannot be applied."""
    if files.find(name) is None:
        files.leave_out(f"the opacity map {name[:80]!r} of {owner}, which does not exist")
        return None
    texels = files.image(name, owner)
    if texels is image and texels.shape[-1] == 4:
        return None
    if has_image and texels.shape[:2] != image.shape[:2]:
        files.leave_out(f"the opacity map {name[:80]!r} of {owner}, whose size is not that of its image")
        return None
    return texels[..., 3] if texels.shape[-1] == 4 else texels @ LUMINANCE


def _leave_out_maps(materials, files):
    maps = {}
    for statements in materials:
        for keyword, rest in statements.items():
            is_color = keyword == b"map_ka" and rest == statements.get(b"map_kd")
            if keyword not in (b"kd", b"d", b"tr", b"map_kd", b"map_d") and not is_color:
                maps[_text(keyword)] = None
    if maps:
        files.leave_out(f"maps of materials other than colour and opacity ({', '.join(maps)})")


def _color(text):
    """The colour of a Kd statement as an image of one texel."""
    words = text.partition(b"#")[0].split()
    if words and words[0].lower() in (b"xyz", b"spectral"):
        raise ValueError(f"it has a material with a colour in the format {_text(words[0])}, not RGB")
    color = _parts.numbers(words[:3], np.float64)
    if color.size not in (1, 3) or not np.all(np.isfinite(color)):
        raise ValueError(f"it has a material with the colour {_text(text)[:80]!r}, not three finite numbers")
    return np.clip(np.broadcast_to(color, (1, 1, 3)), 0, 1).astype(np.float32)


def _opacity(statements):
    """The opacity by d (dissolve), else by Tr (transparency)."""
    keyword = b"d" if b"d" in statements else b"tr"
    words = statements.get(keyword, b"0").partition(b"#")[0].split()
    value = _parts.numbers([word for word in words if word.lower() != b"-halo"][:1], np.float64)
    if value.size != 1 or not np.isfinite(value[0]):
        raise ValueError(f"it has a material with the opacity {_text(statements[keyword])[:80]!r}, not a finite number")
    return np.clip(value[0] if keyword == b"d" else 1 - value[0], 0, 1)


def _image(keyword, text) -> tuple[str, bool, list[str]]:
    """Returns the image name of a statement, whether it has -clamp on, and its options that change the image."""
    if len(text) > MAX_IMAGE:
        raise ValueError(f"it has a material whose {keyword} has more than {MAX_IMAGE} bytes")
    text = _text(text)
    words = list(re.finditer(r"[^ ]+", text))
    values, at = {}, 0
    while at < len(words) and (option := words[at][0].lower()) in OPTIONS:
        first = at = at + 1
        for position in range(OPTIONS[option]):
            if position and option in ("-o", "-s", "-t") and not (at < len(words) and _is_number(words[at][0])):
                break
            at += 1
        values[option] = [word[0] for word in words[first:at]]
    if at >= len(words):
        raise ValueError(f"it has a material whose {keyword} has no image name")
    changes = [
        option
        for option, neutral in CHANGES.items()
        if any(not _is_number(own) or float(own) != neutral[k] for k, own in enumerate(values.get(option, [])))
    ]
    return text[words[at].start() :], values.get("-clamp", [""])[0].lower() == "on", changes


def _is_number(word):
    try:
        float(word)
    except ValueError:
        return False
    return True


def _existing(files, text):
    """The file name in a text, which may be in quotes or have a comment after it: all of the text if that exists."""
    name = _without_comment(text)
    with contextlib.suppress(ValueError):
        if name != text and files.find(text):
            return text
    return name


def _without_comment(text):
    quoted = re.match(r"(\"|')(.+?)\1", text)
    return quoted[2] if quoted else text.partition(" #")[0].strip()


def _uncommented(name):
    return name.partition(b" #")[0].strip()


def _listed(names):
    shown = ", ".join(repr(_text(name)[:20]) for name in names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"the material{'s' if len(names) > 1 else ''} {shown}{more}"


def _owner(name):
    return f"material {_text(name)[:80]!r}"


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
    alphas = texture.alphas or [None] * len(texture.images)
    for k, (image, wrap, alpha) in enumerate(zip(texture.images, texture.wraps, alphas, strict=True)):
        if alpha == "mask":
            raise ValueError("alpha must be 'blend' to be saved as .obj, got 'mask'.")
        if wrap not in ("repeat", "clamp"):
            raise ValueError(f"wrap must be 'repeat' or 'clamp' to be saved as .obj, got {wrap!r}.")
        files[path.with_name(f"{name}_{k}.png")] = _parts.png(image)
        clamp = "-clamp on " if wrap == "clamp" else ""
        statements = ["map_Kd"] if alpha is None else ["map_Kd", "map_d"]
        maps = "".join(f"{statement} {clamp}{name}_{k}.png\n" for statement in statements)
        library.append(f"newmtl material_{k}\nKd 1 1 1\n{maps}")
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
