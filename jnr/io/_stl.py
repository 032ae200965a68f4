"""Reader and writer of STL files, binary and text."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np

from jnr.io import _parts
from jnr.io._parts import Content, Files

FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
HEADER = 84
WORD = rb"\s+(\S+)"
LOOP = re.compile(rb"\bouter\s+loop" + 3 * (rb"\s+vertex" + 3 * WORD) + rb"\s+endloop\b", re.IGNORECASE)


def read(path: Path, files: Files) -> Content:
    """Reads an STL file. It is text if it begins with "solid" and has no NUL, which the header of a binary file has."""
    content = path.read_bytes()
    is_text = content.removeprefix(_parts.BOM).lstrip()[:5].lower() == b"solid" and b"\0" not in content
    vertices = (_text(content) if is_text else _binary(content, files)).reshape(-1, 3)
    return Content(vertices, np.arange(len(vertices)).reshape(-1, 3))


def _binary(content, files):
    count = int.from_bytes(content[80:HEADER], "little")
    declared = HEADER + FACET.itemsize * count
    if len(content) < declared:
        raise ValueError(f"it has {len(content)} bytes where its header declares {declared}")
    facets = np.frombuffer(content, FACET, count, HEADER)
    if facets["attribute"].any():
        files.leave_out("attributes of facets, which some programs use as colours")
    if len(content) > declared:
        files.leave_out(f"{len(content) - declared} bytes after the last facet")
    return facets["corners"]


def _text(content):
    loops = LOOP.findall(content)
    lower = content.lower()
    if len(loops) != lower.count(b"endloop"):
        raise ValueError(f"it has {lower.count(b'endloop')} facets, of which {len(loops)} have three vertices")
    if not re.search(rb"end\s*solid", lower[max(lower.rfind(b"endloop"), 0) :]):
        raise ValueError("it ends without endsolid, so it is cut off")
    return _parts.numbers(list(itertools.chain.from_iterable(loops)), np.float64)


def write(path: Path, content: Content) -> dict[Path, bytes]:
    """Returns the contents of the binary STL file by path."""
    facets = np.zeros(len(content.faces), FACET)
    facets["corners"] = content.vertices[content.faces]
    sides = np.diff(facets["corners"].astype(np.float64), axis=1)
    normals = np.cross(sides[:, 0], sides[:, 1])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    facets["normal"] = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    return {path: bytes(80) + len(facets).to_bytes(4, "little") + facets.tobytes()}
