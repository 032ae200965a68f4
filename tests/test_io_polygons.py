"""Polygons of every shape become n - 2 triangles that cover the polygon's area once."""

import itertools
from pathlib import Path

import numpy as np
import pytest

import jnr
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


@pytest.mark.parametrize("name", SIMPLE)
def test_polygon_in_a_tilted_plane_is_covered_once(name):
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    # Far from the origin, as map coordinates are.
    triangles, _, _ = split([in_space(SIMPLE[name]) @ turn.T + 1e5])
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]) @ turn / 2
    sign = np.sign(np.linalg.det(turn) * shoelace(SIMPLE[name]))
    assert np.all(normals[:, 2] * sign >= -1e-8)
    np.testing.assert_allclose(np.abs(normals[:, 2]).sum(), abs(shoelace(SIMPLE[name])), rtol=1e-8)


def test_polygons_of_all_kinds_keep_their_places():
    square = [(0, 0), (1, 0), (1, 1), (0, 1)]
    shapes = [square, LETTER, square[:3], ARROW[1:] + ARROW[:1], FRAME, ARROW, square, DENTED]
    triangles, corners, _ = split([in_space(shape) for shape in shapes])
    bounds = np.cumsum([0, *(len(shape) - 2 for shape in shapes)])
    first = np.cumsum([0, *(len(shape) for shape in shapes)])
    for k, shape in enumerate(shapes):
        part = slice(bounds[k], bounds[k + 1])
        np.testing.assert_allclose(areas(triangles[part]).sum(), shoelace(shape), rtol=1e-12)
        assert np.all((corners[part] >= first[k]) & (corners[part] < first[k + 1]))
    np.testing.assert_array_equal(corners[bounds[6] : bounds[7]] - first[6], [[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize("shift", range(4))
def test_fan_stays_where_it_covers_the_polygon(shift):
    # An arrow is covered by the fans from its tip and from its notch; a convex polygon by each.
    for shape in (np.roll(ARROW, shift, axis=0), [(0, 0), (2, 0), (3, 1), (3, 2), (1, 3)]):
        triangles, corners, _ = split([in_space(shape)])
        fan = np.stack([np.zeros(len(shape) - 2), np.arange(1, len(shape) - 1), np.arange(2, len(shape))], axis=-1)
        has_fan = np.all(areas(in_space(shape)[fan.astype(int)]) >= 0)
        assert np.array_equal(corners, fan) == has_fan
        np.testing.assert_allclose(areas(triangles).sum(), shoelace(shape))


def test_rounded_coordinates_do_not_change_the_fan_of_a_convex_polygon():
    # Each side has corners within it, which rounding moves inside and outside.
    angle = np.linspace(0, 2 * np.pi, 7)
    ends = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    shape = np.concatenate([np.linspace(a, b, 20, endpoint=False) for a, b in itertools.pairwise(ends)])
    _, corners, _ = split([in_space(np.round(1000 * shape, 4))])
    np.testing.assert_array_equal(corners[:, 0], 0)


def test_straight_corners_do_not_lose_their_triangles():
    # Between two corners of a notch there are others on one line, which a picture would lose in flat triangles.
    shape = [(0, 0), (1, 0), (2, 0), (4, 0), (4, 3), (3, 3), (3, 2), (3, 1), (2, 1), (1, 1), (1, 3), (0, 3), (0, 2)]
    for shift in range(len(shape)):
        triangles, _, _ = split([in_space(np.roll(shape, shift, axis=0))])
        np.testing.assert_allclose(areas(triangles).sum(), shoelace(shape))
        assert np.all(areas(triangles) >= 0)


@pytest.mark.parametrize(
    "points",
    [
        [(0, 0, 0)] * 5,
        [(0, 0, 0), (1, 0, 0), (2, 0, 0), (1, 0, 0), (3, 0, 0)],
        [(0, 0, 0), (2, 2, 0), (2, 0, 0), (0, 2, 0)],
        [(0, 0, 0), (3, 0, 0), (0, 2, 0), (3, 2, 0), (1, 5, 0)],
        [(0, 0, 0), (1, 0, 1), (1, 1, -1), (0, 1, 1), (-1, 2, 5)],
        [(0, 0, 0), (np.nan, 0, 0), (1, 1, 0), (0, 1, 0)],
        [(0, 0, 0), (2, -1, 0), (0, np.inf, 0), (-2, -1, 0)],
        [(0, 0, 0), (2e200, -1e200, 0), (0, 3e200, 0), (-2e200, -1e200, 0)],
        np.random.default_rng(0).normal(size=(200, 3)),
        np.random.default_rng(0).integers(0, 3, (200, 3)),
    ],
    ids=["point", "line", "bow_tie", "star", "twisted", "nan", "infinite", "huge", "random", "grid"],
)
def test_polygon_of_n_corners_has_n_minus_2_triangles(points):
    with np.errstate(all="ignore"):
        _, triangles, left_out = split([in_space(ARROW), points, in_space(ARROW)])
    assert not left_out
    own = triangles[2:-2] - 4
    assert own.shape == (len(points) - 2, 3)
    np.testing.assert_array_equal(np.unique(own), np.arange(len(points)))


def test_index_out_of_range_is_left_to_the_check_of_triangles():
    triangles, _ = _polygons.triangulate(np.zeros((3, 3)), np.array([0, 1, 2, 3]), np.array([4]), Files(Path()))
    np.testing.assert_array_equal(triangles, [[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize("points", [comb(5000), spiral(10000), np.random.default_rng(0).normal(size=(30000, 2))])
def test_work_for_large_polygons_is_bounded(monkeypatch, points):
    monkeypatch.setattr(_polygons, "MAX_COMPARISONS", 2**20)
    monkeypatch.setattr(_polygons, "MAX_COMPARISONS_PER_CORNER", 0)
    blocks, seen = _polygons._Rings._blocks, []
    monkeypatch.setattr(_polygons._Rings, "_blocks", lambda *a: seen.append(len(a[2])) or blocks(*a))
    arrow = in_space(ARROW[1:] + ARROW[:1])
    corners, triangles, left_out = split([arrow, in_space(points), arrow])
    assert len(triangles) == len(points) + 2
    # Small polygons have their exact shape.
    np.testing.assert_array_equal(areas(corners)[[0, 1, -2, -1]] > 0, True)
    assert sum(seen) <= 2**20
    assert len(seen) <= 2**20 / _polygons.ROUND
    assert left_out == ["the exact shape of polygons with very many corners (split into fans)"]


@pytest.mark.parametrize(
    "shape",
    [
        [(-1, -3), (1, -3), (1, -4), (2, -4), (2, 1), (1, 1), (1, 2), (-1, 2)],
        [(-2, -1), (1, -1), (1, 0), (2, 0), (2, 2), (1, 2), (1, 4), (0, 4), (0, 3), (-1, 3), (-1, 0), (-2, 0)],
    ],
)
def test_corners_in_line_may_be_rounded(shape):
    # Turned by any angle, corners in line with each other are a little beside the line.
    angle = np.linspace(0, 2 * np.pi, 3000)
    turns = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=-1).reshape(-1, 2, 2)
    turned = np.array(shape) @ np.swapaxes(turns, 1, 2)
    triangles, _, _ = split([in_space(points) for points in turned])
    covered = np.abs(areas(triangles)).reshape(len(turned), -1).sum(axis=1)
    np.testing.assert_allclose(covered, shoelace(shape), rtol=1e-6)


@pytest.mark.parametrize("ending", [".obj", ".ply"])
def test_concave_polygons_of_files_are_covered_once(tmp_path, ending):
    rows = [f"{x} {y} 0\n" for x, y in LETTER]
    content = "".join(f"v {row}" for row in rows) + "f 1 2 3 4 5 6 7 8\n"
    if ending == ".ply":
        header = "element vertex 8\nproperty float x\nproperty float y\nproperty float z\nelement face 1\n"
        content = f"ply\nformat ascii 1.0\n{header}property list uchar int vertex_indices\nend_header\n{''.join(rows)}"
        content += "8 0 1 2 3 4 5 6 7\n"
    (tmp_path / f"a{ending}").write_text(content)
    mesh = jnr.load(tmp_path / f"a{ending}")
    triangles = np.asarray(mesh.vertices)[np.asarray(mesh.faces)]
    assert areas(triangles).min() >= 0
    np.testing.assert_allclose(areas(triangles).sum(), 7, rtol=1e-6)
