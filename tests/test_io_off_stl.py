"""What `load` makes of the features of OFF and STL files, and the files that `save` writes."""

import importlib
import struct
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loading import read_with

import jnr

SQUARE = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
VERTICES = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"
QUAD = "4 0 1 2 3\n"
FACES = [[0, 1, 2], [0, 2, 3]]


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --- OFF


@pytest.mark.parametrize(
    "head",
    [
        "OFF\n4 1 0\n",
        "OFF 4 1 0\n",
        "OFF4 1 0\n",
        "off\n4 1\n",
        "4 1 0\n",
        "\ufeffOFF\n4 1 0\n",
        "# made by hand\n\nOFF # 3D\n\n# counts\n  4 1 0 # and edges\n\n",
        "OFF\r\n4 1 0\r\n",
    ],
)
def test_every_form_of_an_off_header_is_read(tmp_path, head):
    mesh = jnr.load(write(tmp_path, "mesh.off", head + VERTICES + QUAD))
    np.testing.assert_array_equal(mesh.vertices, SQUARE)
    np.testing.assert_array_equal(mesh.faces, FACES)
    assert mesh.textures is None


@pytest.mark.parametrize("end", ["\r", "\r\n", "  # comment\n", "\n\n"])
def test_lines_of_an_off_file_may_end_in_every_way(tmp_path, end):
    content = ("OFF\n4 1 0\n" + VERTICES + QUAD).replace("\n", end)
    np.testing.assert_array_equal(jnr.load(write(tmp_path, "mesh.off", content)).vertices, SQUARE)


@pytest.mark.parametrize("separator", [" ", "\n"])
def test_rows_of_an_off_file_may_continue_or_share_a_line(tmp_path, separator):
    content = separator.join((VERTICES + QUAD + "3 0 1 3").split())
    mesh = jnr.load(write(tmp_path, "mesh.off", f"OFF\n4 2 0\n{content}"))
    np.testing.assert_array_equal(mesh.vertices, SQUARE)
    np.testing.assert_array_equal(mesh.faces, [*FACES, [0, 1, 3]])


def test_lines_after_the_last_row_of_an_off_file_are_left_out(tmp_path):
    path = write(tmp_path, "mesh.off", f"OFF\n4 1 0\n{VERTICES}{QUAD}3 0 1 2\nend\n")
    np.testing.assert_array_equal(read_with(path, "^lines after the last row").mesh.faces, FACES)


def test_polygons_of_an_off_file_keep_their_place(tmp_path):
    faces = "3 0 1 2\n4 0 1 2 3\n3 3 2 1\n5 0 1 2 3 4\n3 1 2 3\n"
    mesh = jnr.load(write(tmp_path, "mesh.off", f"OFF\n5 5 0\n{VERTICES}-0.5 0.5 0\n{faces}"))
    fan = [[0, 1, 2], [0, 2, 3], [0, 3, 4]]
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], *FACES, [3, 2, 1], *fan, [1, 2, 3]])


def test_concave_polygon_of_an_off_file_is_split_inside_of_itself(tmp_path):
    # A fan from corner 0 has a triangle outside of the arrow.
    mesh = jnr.load(write(tmp_path, "mesh.off", "OFF\n4 1 0\n2 -2 0\n0 2 0\n-2 -2 0\n0 -1 0\n4 0 1 2 3\n"))
    a, b, c = np.moveaxis(np.asarray(mesh.vertices)[np.asarray(mesh.faces)], 1, 0)
    np.testing.assert_allclose(np.cross(b - a, c - a)[:, 2] / 2, [3, 3])


def test_off_faces_of_fewer_than_three_corners_are_left_out(tmp_path):
    path = write(tmp_path, "mesh.off", f"OFF\n4 4 0\n{VERTICES}2 0 1\n{QUAD}1 9\n0\n")
    np.testing.assert_array_equal(read_with(path, "^faces of fewer than three corners$").mesh.faces, FACES)


@pytest.mark.parametrize(
    ("color", "expected"),
    [
        ("51 102 255", [0.2, 0.4, 1]),
        ("51 102 255 255", [0.2, 0.4, 1]),
        ("0.2 0.4 1", [0.2, 0.4, 1]),
        ("0.2 0.4 1.0 1.0", [0.2, 0.4, 1]),
        ("0 0 1 255", [0, 0, 1 / 255]),
        ("0 0 1", [0, 0, 1]),
    ],
)
def test_face_colours_of_an_off_file_are_texture_cubes(tmp_path, color, expected):
    faces = f"4 0 1 2 3 {color}\n3 0 1 2\n3 0 2 3 {color}\n"
    mesh = jnr.load(write(tmp_path, "mesh.off", f"OFF\n4 3 0\n{VERTICES}{faces}"))
    assert mesh.textures.shape == (4, 1, 1, 1, 3)
    # A face without a colour is white.
    want = np.array([expected, expected, [1, 1, 1], expected], np.float32)
    np.testing.assert_allclose(mesh.textures.reshape(4, 3), want, atol=1e-6)


def test_what_an_off_file_says_of_faces_beyond_colours_is_left_out(tmp_path):
    faces = "3 0 1 2 7\n3 0 2 3 1 2\n3 0 1 2 255 0 0 128\n"
    path = write(tmp_path, "mesh.off", f"OFF\n4 3 0\n{VERTICES}{faces}")
    file = read_with(path, "^indices of face colours", "two or more than four", "^opacity of face colours$")
    np.testing.assert_array_equal(file.mesh.textures.reshape(3, 3), [[1, 1, 1], [1, 1, 1], [1, 0, 0]])
    assert jnr.io.read(path, textures=False).left_out == ()


def rows(*columns):
    return "".join(" ".join(str(x) for part in row for x in part) + "\n" for row in zip(*columns, strict=True))


NORMALS = [[0, 0, 1], [0.6, 0, 0.8], [0, 0.6, 0.8], [1, 0, 0]]
COLORS = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [51, 102, 153]]
OPAQUE = [[*color, 255] for color in COLORS]
UV = [[0, 0], [1, 0], [1, 1], [0, 0.5]]


@pytest.mark.parametrize("colors", [COLORS, OPAQUE, (np.array(OPAQUE) / 255).round(6).tolist()])
@pytest.mark.parametrize("normals", [NORMALS, None])
def test_vertex_colours_and_normals_of_an_off_file_are_kept(tmp_path, colors, normals):
    head, columns = ("COFF", [SQUARE, colors]) if normals is None else ("CNOFF", [SQUARE, normals, colors])
    file = jnr.io.read(write(tmp_path, "mesh.off", f"{head}\n4 1 0\n{rows(*columns)}{QUAD}"))
    np.testing.assert_array_equal(file.mesh.vertices, SQUARE)
    np.testing.assert_allclose(np.asarray(file.mesh.textures), np.array(COLORS) / 255, atol=1e-6)
    if normals is None:
        assert file.normals is None
    else:
        np.testing.assert_array_equal(file.normals, np.array(NORMALS, np.float32))


def test_opacity_of_vertex_colours_of_an_off_file_is_left_out(tmp_path):
    path = write(tmp_path, "mesh.off", f"COFF\n4 1 0\n{rows(SQUARE, [[*c, 0] for c in COLORS])}{QUAD}")
    file = read_with(path, "^opacity of vertex colours$")
    np.testing.assert_allclose(np.asarray(file.mesh.textures), np.array(COLORS) / 255, atol=1e-6)


def test_texture_coordinates_of_an_off_file_are_kept_or_named(tmp_path):
    mesh = jnr.load(write(tmp_path, "mesh.off", f"STOFF\n4 1 0\n{rows(SQUARE, UV)}{QUAD}"), wrap="mirror")
    np.testing.assert_array_equal(mesh.textures.uv, UV)
    np.testing.assert_array_equal(mesh.textures.images, np.ones((1, 1, 3)))
    assert mesh.textures.wrap == "mirror"
    path = write(tmp_path, "mesh.off", f"STCNOFF\n4 1 0\n{rows(SQUARE, NORMALS, COLORS, UV)}{QUAD}")
    file = read_with(path, "^texture coordinates without an image, because it has vertex colours")
    np.testing.assert_allclose(np.asarray(file.mesh.textures), np.array(COLORS) / 255, atol=1e-6)
    np.testing.assert_array_equal(file.normals, np.array(NORMALS, np.float32))


def test_texture_coordinates_of_an_off_file_follow_white_colours(tmp_path):
    path = write(tmp_path, "mesh.off", f"STCOFF\n4 1 0\n{rows(SQUARE, [[255] * 4] * 4, UV)}{QUAD}")
    np.testing.assert_array_equal(jnr.io.read(path).mesh.textures.uv, UV)


def test_vertex_colours_of_an_off_file_win_over_those_of_faces(tmp_path):
    path = write(tmp_path, "mesh.off", f"COFF\n4 1 0\n{rows(SQUARE, COLORS)}4 0 1 2 3 255 0 0\n")
    assert read_with(path, "^face colours, because it has vertex colours").mesh.textures.shape == (4, 3)


def test_numbers_of_vertices_that_an_off_header_does_not_declare_are_left_out(tmp_path):
    file = read_with(write(tmp_path, "a.off", f"OFF\n4 1 0\n{rows(SQUARE, COLORS)}{QUAD}"), "its first line declares")
    np.testing.assert_array_equal(file.mesh.vertices, SQUARE)
    uneven = "0 0 0 1\n1 0 0\n1 1 0 2 3\n0 1 0\n"
    path = write(tmp_path, "b.off", f"COFF\n4 1 0\n{uneven}{QUAD}")
    np.testing.assert_array_equal(read_with(path, "of which some have more than others").mesh.vertices, SQUARE)


def test_unused_vertex_of_an_off_file_may_have_no_numbers(tmp_path):
    mesh = jnr.load(write(tmp_path, "mesh.off", f"OFF\n5 1 0\n{VERTICES}nan nan nan\n{QUAD}"))
    np.testing.assert_array_equal(mesh.vertices, [*SQUARE, [0, 0, 0]])


def test_off_coordinates_are_read_in_double_precision(tmp_path):
    path = write(tmp_path, "mesh.off", "OFF\n3 1 0\n5412345.15 0 0\n5412345.25 0 0\n5412345.15 0.1 0\n3 0 1 2\n")
    read_with(path, "^precision: float32 moves vertices by up to 0")
    mesh = jnr.load(path, center=True)
    expected = [[-0.05, -0.05, 0], [0.05, -0.05, 0], [-0.05, 0.05, 0]]
    np.testing.assert_allclose(mesh.vertices, expected, atol=1e-8)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(jnr.load(path).vertices[:, 0], [5412345.15, 5412345.25, 5412345.15])


@pytest.mark.validation
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"OFF4 2 0\n{VERTICES}{QUAD}", "it ends within a row of face, so it is cut off"),
        (f"OFF4 1 0\n{VERTICES}4 0 1 2", "it ends within a row of face, so it is cut off"),
        # A line lacks a number, and another has one more.
        (f"OFF 4 2 0\n{VERTICES}4 0 1 2\n3 0 2 3 9\n", "it has more numbers than its header declares"),
        (f"OFF 4 2 0\n{VERTICES}4 0 1 2 3 255 0 0\n", "it ends within a row of face, so it is cut off"),
        ("OFF\n4 1 0\n0 0 0\n1 0 0\n1 1", "it declares 4 rows of vertex, more than it contains"),
        ("OFF\n4 1 0\n", "it ends within|more than it contains"),
        ("OFF\n4000000000 1 0\n0 0 0\n", "it declares 4000000000 rows of vertex, more than it contains"),
        ("OFF\n", "it has no line of counts"),
        ("OFF\n4.5 1 0\n", "it has no line of counts"),
        ("OFX\n4 1 0\n", "it has no line of counts"),
        (f"4OFF\n4 1 0\n{VERTICES}{QUAD}", "it begins with '4OFF'; only text with three coordinates can be read"),
        (f"nOFF\n3\n4 1 0\n{VERTICES}{QUAD}", "it begins with 'nOFF'; only text"),
        ("OFF BINARY\n\0\0\0\4", "it begins with 'OFF BINARY'; only text"),
        (f"COFF\n4 1 0\n{VERTICES}{QUAD}", "without the colours or texture coordinates"),
        (f"OFF\n4 1 0\n{VERTICES}4 0 1 2 9\n", "faces index its 4 vertices, got indices 0 to 9"),
        (f"OFF\n4 1 0\n{VERTICES}4 0 1 2 2.5\n", "a vertex index that is not an integer"),
        (f"OFF\n4 1 0\n{VERTICES}-4 0 1 2 3\n", "a list of length -4"),
        (f"OFF\n4 1 0\n{VERTICES}4 0 x 2 3\n", "could not convert"),
        (f"OFF\n4 0 0\n{VERTICES}", "at least one triangle"),
        ("OFF\n0 0 0\n", "at least one triangle"),
    ],
)
def test_broken_off_file_is_an_error_with_the_reason(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"^path must be .*({message})"):
        jnr.load(write(tmp_path, "broken.off", content))


# --- STL


def facets(count=3):
    return np.random.default_rng(0).normal(size=(count, 3, 3)).astype(np.float32)


def binary_stl(corners, head=b"", attribute=0):
    content = head.ljust(80, b"\0") + struct.pack("<I", len(corners))
    return content + b"".join(struct.pack("<12fH", 0, 0, 0, *facet.ravel(), attribute) for facet in corners)


def text_stl(corners, name="a", end="\n"):
    loops = (
        "".join(f"vertex {' '.join(f'{x:.9g}' for x in corner)}\n" for corner in facet.tolist()) for facet in corners
    )
    body = "".join(f"facet normal 0 0 1\n outer loop\n{loop} endloop\nendfacet\n" for loop in loops)
    return f"solid {name}\n{body}endsolid {name}\n".replace("\n", end)


def assert_facets(mesh, corners):
    np.testing.assert_array_equal(mesh.vertices, corners.reshape(-1, 3))
    np.testing.assert_array_equal(mesh.faces, np.arange(3 * len(corners)).reshape(-1, 3))
    assert mesh.textures is None


@pytest.mark.parametrize("head", [b"", b"solid made by an exporter", b"solid text\nfacet normal 0 0 1\n", b"\xff\xfe"])
def test_binary_stl_file_may_begin_with_any_text(tmp_path, head):
    assert_facets(jnr.load(write(tmp_path, "mesh.stl", binary_stl(facets(), head))), facets())


def test_attributes_of_facets_and_bytes_after_the_last_are_left_out(tmp_path):
    path = write(tmp_path, "mesh.stl", binary_stl(facets(), attribute=0x801F))
    assert_facets(read_with(path, "^attributes of facets, which some programs use as colours$").mesh, facets())
    path = write(tmp_path, "mesh.stl", binary_stl(facets()) + b"more")
    assert_facets(read_with(path, "^4 bytes after the last facet$").mesh, facets())


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", " "])
@pytest.mark.parametrize("change", [str, str.upper, lambda text: "\ufeff\n" + text])
def test_text_stl_is_read_in_every_spelling(tmp_path, end, change):
    assert_facets(jnr.load(write(tmp_path, "mesh.stl", change(text_stl(facets(), end=end)))), facets())


@pytest.mark.parametrize("name", ["my vertex and facet 1 2 3", "outer loop", "é\xff"])
def test_name_of_a_solid_may_be_anything(tmp_path, name):
    assert_facets(jnr.load(write(tmp_path, "mesh.stl", text_stl(facets(), name).encode("latin-1"))), facets())


def test_solids_of_a_text_stl_are_one_mesh_in_linear_time(tmp_path):
    corners = facets(20_000)
    content = "".join(text_stl(facet[None], f"solid {k}") for k, facet in enumerate(corners))
    path = write(tmp_path, "mesh.stl", content)
    start = time.process_time()
    assert_facets(jnr.load(path), corners)
    assert time.process_time() - start < 3  # 0.1 to 0.3


@pytest.mark.validation
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (binary_stl(facets())[:-1], "it has 233 bytes where its header declares 234"),
        (binary_stl(facets(), b"solid")[:-1], "it has 233 bytes where its header declares 234"),
        (b"solid\n", "it ends without endsolid"),
        (text_stl(facets())[:-12], "it ends without endsolid, so it is cut off"),
        (text_stl(facets())[:-60], "it ends without endsolid|facets, of which"),
        (text_stl(facets()).replace("vertex", "vertices", 1), "it has 3 facets, of which 2 have three vertices"),
        (text_stl(facets()).replace("vertex", "vertex 1 2 3\nvertex", 1), "it has 3 facets, of which 2 have three"),
        (text_stl(facets()).replace("vertex ", "vertex x", 1), "could not convert"),
        (text_stl(facets()).replace("vertex ", "vertex " + "1" * 99, 1), "a number of more than 64 characters"),
        (text_stl(facets()).replace("vertex ", "vertex 1e999 ", 1), "facets, of which"),
        ("solid a\nendsolid a\n", "at least one triangle"),
        (b"\0" * 84, "at least one triangle"),
    ],
)
def test_broken_stl_file_is_an_error_with_the_reason_alone(tmp_path, capfd, content, message):
    with pytest.raises(ValueError, match=rf"^path must be .*({message})"):
        jnr.load(write(tmp_path, "broken.stl", content))
    assert capfd.readouterr() == ("", "")


# --- writers


def test_saved_off_file_has_the_expected_text(tmp_path):
    mesh = jnr.Mesh(jnp.asarray([[0, 0.1, -1e-7], [1, 0, 0], [0, 1, 0]], jnp.float32), jnp.asarray([[0, 1, 2]]))
    jnr.save(tmp_path / "mesh.off", mesh)
    expected = b"OFF\n3 1 0\n0 0.100000001 -1.00000001e-07\n1 0 0\n0 1 0\n3 0 1 2\n"
    assert (tmp_path / "mesh.off").read_bytes() == expected


def test_saved_stl_file_has_unit_normals_and_zeros_for_flat_faces(tmp_path):
    vertices = jnp.asarray([[0, 0, 0], [2, 0, 0], [0, 0, 3], [1, 0, 0]], jnp.float32)
    jnr.save(tmp_path / "mesh.stl", jnr.Mesh(vertices, jnp.asarray([[0, 1, 2], [0, 3, 1]])))
    content = (tmp_path / "mesh.stl").read_bytes()
    assert content[:84] == bytes(80) + struct.pack("<I", 2)
    first, second = struct.unpack("<12fH", content[84:134]), struct.unpack("<12fH", content[134:])
    assert first == (0, -1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0)
    assert second == (0, 0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0)


@pytest.mark.parametrize("ending", [".off", ".stl"])
def test_off_and_stl_need_no_other_package(tmp_path, monkeypatch, ending):
    for name in ("trimesh", "PIL", "PIL.Image", "tqdm"):
        monkeypatch.setitem(importlib.import_module("sys").modules, name, None)
    jnr.save(tmp_path / f"mesh{ending}", jnr.shapes.cube())
    assert len(jnr.load(tmp_path / f"mesh{ending}").faces) == 12


@pytest.mark.parametrize("ending", [".off", ".stl"])
def test_trimesh_reads_what_is_saved_and_the_other_way_round(tmp_path, ending):
    trimesh = pytest.importorskip("trimesh", reason="it reads and writes the files to compare")
    mesh = jnr.shapes.icosphere(1)
    jnr.save(tmp_path / f"mesh{ending}", mesh)
    seen = trimesh.load_mesh(tmp_path / f"mesh{ending}", process=False)
    np.testing.assert_array_equal(np.float32(seen.vertices)[seen.faces], mesh.vertices[mesh.faces])
    seen.export(tmp_path / f"other{ending}", **({"digits": 9} if ending == ".off" else {}))
    other = jnr.load(tmp_path / f"other{ending}")
    np.testing.assert_array_equal(other.vertices[other.faces], mesh.vertices[mesh.faces])
