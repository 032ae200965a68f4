"""Reader and writer of OFF files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from jnr.io import _parts, _tables
from jnr.io._parts import Content, Files
from jnr.io._tables import REST, Column, Element, Property

# Upper and lower case differ: N stands for normals, n for a number of dimensions.
KEYWORD = re.compile(rb"(ST)?(C)?(N)?(4)?(n)?(?:OFF|off)(?![A-Za-z])\s*(BINARY)?")
COUNTS = re.compile(rb"\s*(\d{1,18})\s+(\d{1,18})(?:[ \t]+\d{1,18})?(?=\s|$)")


def read(path: Path, files: Files, wrap: str, *, textures: bool) -> Content:
    """Reads an OFF file; the keyword, of which some files lack all letters, may touch the number of vertices."""
    content = path.read_bytes().removeprefix(_parts.BOM)
    if b"#" in content:
        content = re.sub(rb"#[^\r\n]*", b"", content)
    content = content.lstrip()
    uv = colors = normals = None
    keyword = KEYWORD.match(content)
    if keyword is not None:
        uv, colors, normals, *others = keyword.groups()
        if any(others):
            raise ValueError(
                f"it begins with {keyword[0].decode().strip()!r}; only text with three coordinates can be read"
            )
        content = content[keyword.end() :]
    counts = COUNTS.match(content)
    if counts is None:
        raise ValueError("it has no line of counts")
    names = ["x", "y", "z", *(("nx", "ny", "nz") if normals else ())]
    number = np.dtype("f8")
    elements = [
        Element("vertex", int(counts[1]), [Property(name, number) for name in names]),
        Element("face", int(counts[2]), [Property("index", number, number)]),
    ]
    tables = _tables.read_text(elements, content[counts.end() :], ("vertex", "face"), files)
    if tables.keys() != {"vertex", "face"}:
        return Content(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
    vertex, face = tables["vertex"], tables["face"]
    columns = np.stack([vertex[name].values for name in names], axis=-1)
    triangles = _tables.triangles(columns[:, :3], face["index"], files)
    content = Content(columns[:, :3], triangles.faces, normals=columns[:, 3:] if normals else None)
    if not textures:
        return content
    colors, uv = _rest_of_vertices(vertex.get(REST), bool(colors), bool(uv), files)
    white = None if uv is None else _parts.white(uv, None, len(triangles.faces), wrap)
    face_colors = _face_colors(face.get(REST), files)
    return _parts.with_look(content, files, triangles.polygon, colors=colors, face_colors=face_colors, white=white)


def _rest_of_vertices(rest, has_colors, has_uv, files):
    """Colours and texture coordinates, which follow the position and the normal in the line of a vertex."""
    if rest is None:
        if has_colors or has_uv:
            raise ValueError("it has vertices without the colours or texture coordinates that its first line declares")
        return None, None
    width = rest.counts[0]
    num_colors = width - 2 * has_uv if has_colors else 0
    if np.any(rest.counts != width) or (has_colors and num_colors not in (3, 4)) or width < 2 * has_uv:
        files.leave_out("numbers of vertices beyond their positions, of which some have more than others")
        return None, None
    if width > num_colors + 2 * has_uv:
        files.leave_out("numbers of vertices beyond those that its first line declares")
    rows = rest.values.reshape(-1, width)
    colors = _parts.fractions(rows[:, :num_colors], files) if has_colors else None
    return colors, rows[:, num_colors : num_colors + 2] if has_uv else None


def _face_colors(rest: Column | None, files) -> np.ndarray | None:
    """Colours and opacity of polygons, white for those without; None if no polygon has a colour."""
    if rest is None:
        return None
    counts = np.asarray(rest.counts)
    if np.any(counts == 1):
        files.leave_out("indices of face colours, whose table is in no file")
    if np.any((counts == 2) | (counts > 4)):
        files.leave_out("the numbers of faces of which there are two or more than four")
    has_color = (counts == 3) | (counts == 4)
    if not has_color.any():
        return None
    first = (np.cumsum(counts) - counts)[has_color]
    last = first + counts[has_color] - 1
    rgba = rest.values[np.stack([first, first + 1, first + 2, last], axis=-1)]
    has_alpha = counts[has_color] == 4
    rgba[~has_alpha, 3] = 0  # not above the largest
    fractions = _parts.fractions(rgba, files)
    fractions[~has_alpha, 3] = 1
    colors = np.ones((len(counts), 4))
    colors[has_color] = fractions
    return colors


def write(path: Path, content: Content) -> dict[Path, bytes]:
    """Returns the contents of the OFF file by path."""
    head = f"OFF\n{len(content.vertices)} {len(content.faces)} 0\n".encode()
    vertices, faces = _parts.rows("%.9g %.9g %.9g\n", content.vertices), _parts.rows("3 %d %d %d\n", content.faces)
    return {path: head + vertices + faces}
