"""Polygons of every shape become n - 2 triangles that cover the polygon's area once."""

from pathlib import Path

import numpy as np
import pytest

from jnr.io import _polygons
from jnr.io._parts import Files

# A C of three by three cells, open to the right.
LETTER = [(0, 0), (3, 0), (3, 1), (1, 1), (1, 2), (3, 2), (3, 3), (0, 3)]
# A square of side 4 with a square hole of side 2, cut open from corner to corner: two corners occur twice.
FRAME = [(0, 0), (4, 0), (4, 4), (0, 4), (0, 0), (1, 1), (1, 3), (3, 3), (3, 1), (1, 1)]
ARROW = [(0, 0), (2, -1), (0, 3), (-2, -1)]
DENTED = [(0, 0), (2, 0), (4, 0), (4, 4), (2, 1), (0, 4), (0, 2)]


def comb(teeth):
    """Teeth of area 1 upon a bar of area 2 per tooth."""
    points = [(0, -1), (2 * teeth, -1)]
    for k in range(teeth - 1, -1, -1):
        points += [(2 * k + 2, 0), (2 * k + 1, 1)]
    return [*points, (0, 0)]


def spiral(corners):
    angle = np.linspace(0, 12, corners // 2)
    inside, outside = ((1 + angle + width)[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1) for width in (0, 2))
    return np.concatenate([inside[::-1], outside])


def star(corners):
    rng = np.random.default_rng(0)
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    return rng.uniform(0.2, 1, corners)[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)


SIMPLE = {
    "letter": LETTER,
    "frame": FRAME,
    "arrow": ARROW,
    "dented": DENTED,
    "comb": comb(100),
    "spiral": spiral(300),
    "star": star(200),
}


def shoelace(points):
    x, y = np.asarray(points, float).T
    return np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) / 2


def split(polygons, folder="."):
    """Triangles `(triangles, 3, 3)` and corner numbers of polygons of points in space, and what was left out."""
    counts = np.array([len(polygon) for polygon in polygons])
    vertices = np.concatenate([np.asarray(polygon, float) for polygon in polygons])
    files = Files(Path(folder))
    triangles, polygon = _polygons.triangulate(vertices, np.arange(len(vertices)), counts, files)
    np.testing.assert_array_equal(polygon, np.repeat(np.arange(len(counts)), counts - 2))
    return vertices[triangles], triangles, list(files.left_out)


def in_space(points):
    return np.concatenate([np.asarray(points, float), np.zeros((len(points), 1))], axis=1)


def areas(triangles):
    """Signed areas seen from +z."""
    return np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])[:, 2] / 2


@pytest.mark.parametrize("name", SIMPLE)
def test_simple_polygon_is_covered_once(name):
    points = np.asarray(SIMPLE[name], float)
    for turned in (points, points[::-1]):
        for shift in range(0, len(points), max(1, len(points) // 10)):
            triangles, _, left_out = split([in_space(np.roll(turned, shift, axis=0))])
            sign = np.sign(shoelace(turned))
            # All triangles wind as the polygon does, and their areas add up to its area.
            assert np.all(areas(triangles) * sign >= 0)
            np.testing.assert_allclose(areas(triangles).sum(), shoelace(turned), rtol=1e-9)
            assert not left_out
