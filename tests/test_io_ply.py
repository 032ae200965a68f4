"""What `load` makes of a PLY file's features."""

import struct
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loading import read_with

import jnr

pil = pytest.importorskip("PIL.Image", reason="textures need the io extra")

XYZ = ("float x", "float y", "float z")
INDICES = ("list uchar int vertex_indices",)
SQUARE = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)]
TRIANGLES = [(3, 0, 1, 2), (3, 0, 2, 3)]
UCHAR = ("uchar red", "uchar green", "uchar blue")


def lines(rows):
    return "".join(" ".join(f"{x}" for x in row) + "\n" for row in rows)


def header(elements, form="ascii", comments=()):
    own = ["ply", f"format {form} 1.0", *(f"comment {comment}" for comment in comments)]
    for name, length, properties in elements:
        own += [f"element {name} {length}", *(f"property {prop}" for prop in properties)]
    return "\n".join([*own, "end_header", ""])


def write_ply(tmp_path, *tables, comments=()):
    """Writes a text file of tables (element, properties, rows)."""
    path = tmp_path / "mesh.ply"
    elements = [(name, len(rows), properties) for name, properties, rows in tables]
    path.write_text(header(elements, comments=comments) + "".join(lines(rows) for *_, rows in tables))
    return path


def square(tmp_path, more=(), values=((),) * 4, face=(), face_values=((),) * 2, others=(), comments=()):
    """Writes two triangles with more properties of vertices and faces."""
    vertices = [(*row, *own) for row, own in zip(SQUARE, values, strict=True)]
    faces = [(*row, *own) for row, own in zip(TRIANGLES, face_values, strict=True)]
    tables = ("vertex", XYZ + tuple(more), vertices), ("face", INDICES + tuple(face), faces)
    return write_ply(tmp_path, *tables, *others, comments=comments)


def write_image(tmp_path, name, *colors):
    image = pil.new("RGBA" if len(colors[0]) == 4 else "RGB", (len(colors), 1))
    image.putdata(colors)
    image.save(tmp_path / name)


# --- headers


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_byte_order_mark_and_line_ends_of_every_system_are_read(tmp_path, mark, end):
    path = square(tmp_path, comments=("end_header is not here",))
    path.write_bytes(mark + path.read_text().replace("\n", end).encode())
    mesh = jnr.load(path)
    np.testing.assert_array_equal(mesh.vertices, SQUARE)
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_body_that_begins_with_a_line_feed_is_kept(tmp_path, end):
    # 10 is the first byte of the body: the first vertex is (10 / 2, 0, 0).
    elements = [("vertex", 3, ("uchar x", "uchar y", "uchar z")), ("face", 1, INDICES)]
    body = bytes([10, 0, 0, 1, 0, 0, 0, 1, 0]) + struct.pack("<B3i", 3, 0, 1, 2)
    path = tmp_path / "mesh.ply"
    path.write_bytes(header(elements, "binary_little_endian").replace("\n", end).encode() + body)
    np.testing.assert_array_equal(jnr.load(path).vertices, [[10, 0, 0], [1, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize("kind", ["char", "uint8", "int16", "uint", "int64", "uint64", "long", "ulong", "double"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("is_ragged", [False, True])
def test_indices_of_every_type_are_read(tmp_path, kind, order, is_ragged):
    code = {"char": "b", "uint8": "B", "int16": "h", "uint": "I", "double": "d"}.get(kind, "Q")
    count, count_code = ("uchar", "B") if kind == "char" else ("int64", "q")
    faces = [(3, 0, 1, 2), (4, 3, 2, 1, 0)] if is_ragged else [(3, 0, 1, 2), (3, 3, 2, 1)]
    form = "binary_little_endian" if order == "<" else "binary_big_endian"
    elements = [("vertex", 4, ("double x", "float y", "short z")), ("face", 2, (f"list {count} {kind} vertex_index",))]
    body = b"".join(struct.pack(order + "dfh", *row) for row in SQUARE)
    body += b"".join(struct.pack(f"{order}{count_code}{row[0]}{code}", *row) for row in faces)
    path = tmp_path / "mesh.ply"
    path.write_bytes(header(elements, form).encode() + body)
    mesh = jnr.load(path)
    np.testing.assert_array_equal(mesh.vertices, SQUARE)
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [3, 2, 1], [3, 1, 0]][: 2 + is_ragged])


@pytest.mark.validation
@pytest.mark.parametrize(("kind", "code", "index"), [("int64", "q", -(2**40)), ("uint64", "Q", 2**64 - 1)])
def test_64_bit_index_out_of_range_is_an_error(tmp_path, kind, code, index):
    elements = [("vertex", 3, XYZ), ("face", 1, (f"list uchar {kind} vertex_index",))]
    path = tmp_path / "mesh.ply"
    body = struct.pack(f"<9fB3{code}", *range(9), 3, 0, 1, index)
    path.write_bytes(header(elements, "binary_little_endian").encode() + body)
    with pytest.raises(ValueError, match="faces index its 3 vertices, got indices"):
        jnr.load(path)


def test_properties_may_have_names_of_several_words(tmp_path):
    file = read_with(square(tmp_path, ("float my own value",), [(k,) for k in range(4)]), r"vertex my own value\)$")
    np.testing.assert_array_equal(file.mesh.vertices, SQUARE)


@pytest.mark.validation
def test_two_elements_of_the_same_name_are_an_error(tmp_path):
    path = square(tmp_path, others=[("vertex", ("int k",), [(1,)])])
    with pytest.raises(ValueError, match="two elements of the same name"):
        jnr.load(path)


# --- rows of text


def test_numbers_beyond_the_properties_of_a_line_are_left_out(tmp_path):
    path = write_ply(
        tmp_path,
        ("vertex", XYZ, [(*row, 7, 8)[: 3 + k] for k, row in enumerate(SQUARE)]),
        ("face", INDICES, [(3, 0, 1, 2), (4, 0, 1, 2, 3)]),
    )
    file = read_with(path, "the numbers of a line beyond its properties")
    np.testing.assert_array_equal(file.mesh.vertices, SQUARE)
    np.testing.assert_array_equal(file.mesh.faces, [[0, 1, 2], [0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize("separator", [" ", "\n", "\n\n "])
def test_rows_may_continue_or_share_a_line(tmp_path, separator):
    path = square(tmp_path)
    head, _, body = path.read_text().partition("end_header\n")
    path.write_text(f"{head}end_header\n{separator.join(body.split())}")
    mesh = jnr.load(path)
    np.testing.assert_array_equal(mesh.vertices, SQUARE)
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3]])


def test_unused_row_may_continue_on_the_next_line(tmp_path):
    camera = ("camera", tuple(f"float {name}" for name in "abcdef"), [range(6)])
    path = write_ply(tmp_path, camera, ("vertex", XYZ, SQUARE), ("face", INDICES, TRIANGLES))
    path.write_text(path.read_text().replace("0 1 2 3 4 5", "0 1 2\n3 4 5"))
    np.testing.assert_array_equal(read_with(path, r"\(camera\)$").mesh.vertices, SQUARE)


@pytest.mark.parametrize("separator", ["\n\n", "\n \t\n", "\r\n"])
def test_blank_lines_between_rows_are_skipped(tmp_path, separator):
    path = square(tmp_path, ("float nothing",), ((5,),) * 4)
    head, _, body = path.read_text().partition("end_header\n")
    path.write_text(f"{head}end_header\n\n{body.replace(chr(10), separator)}")
    np.testing.assert_array_equal(read_with(path, "vertex nothing").mesh.vertices, SQUARE)


@pytest.mark.validation
def test_more_numbers_than_the_header_declares_are_an_error_where_lines_are_no_rows(tmp_path):
    path = square(tmp_path)
    head, _, body = path.read_text().partition("end_header\n")
    path.write_text(f"{head}end_header\n{' '.join(body.split())} 7")
    with pytest.raises(ValueError, match="it has more numbers than its header declares"):
        jnr.load(path)


def mixed_faces(count=200):
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(50, 3)).astype(np.float32).tolist()
    faces = [rng.choice(50, rng.integers(3, 6), replace=False).tolist() for _ in range(count)]
    flags, tags = rng.integers(0, 255, count).tolist(), [rng.integers(0, 9, rng.integers(0, 4)).tolist() for _ in faces]
    return vertices, faces, flags, tags


@pytest.mark.parametrize("form", ["ascii", "one line", "binary_little_endian", "binary_big_endian"])
def test_rows_of_different_lengths_have_the_expected_faces(tmp_path, form):
    vertices, faces, flags, tags = mixed_faces()
    face = ("uchar flags", "list ushort short tags", *INDICES)
    elements = [("vertex", 50, XYZ), ("edge", 2, ("list int char ends",)), ("face", len(faces), face)]
    path, edges = tmp_path / "mesh.ply", [(2, 0, 1), (1, 0)]
    if form in ("ascii", "one line"):
        rows = [(flag, len(tag), *tag, len(own), *own) for flag, tag, own in zip(flags, tags, faces, strict=True)]
        body = lines(vertices) + lines(edges) + lines(rows)
        path.write_text(header(elements) + (body if form == "ascii" else body.replace("\n", " ")))
    else:
        order = "<" if form == "binary_little_endian" else ">"
        body = struct.pack(f"{order}150f", *np.ravel(vertices)) + struct.pack(f"{order}i2bib", 2, 0, 1, 1, 0)
        for flag, tag, own in zip(flags, tags, faces, strict=True):
            body += struct.pack(f"{order}BH{len(tag)}hB{len(own)}i", flag, len(tag), *tag, len(own), *own)
        path.write_bytes(header(elements, form).encode() + body)
    mesh = read_with(path, "face flags, face tags, edge").mesh
    np.testing.assert_array_equal(mesh.vertices, np.array(vertices, np.float32))
    # Every polygon has its own corners, so the corners of its triangles name it.
    counts = np.array([len(own) - 2 for own in faces])
    polygon = np.repeat(np.arange(len(faces)), counts)
    assert len(mesh.faces) == counts.sum()
    for k, own in enumerate(faces):
        assert set(np.asarray(mesh.faces)[polygon == k].ravel().tolist()) == set(own)


@pytest.mark.parametrize("form", ["ascii", "one line", "binary_little_endian"])
def test_unused_rows_of_different_lengths_take_little_time(tmp_path, form):
    # 400,000 lists without an entry, and one with one.
    count, path = 400_001, tmp_path / "mesh.ply"
    elements = [("other", count, ("list uchar uchar k",)), ("vertex", 3, XYZ), ("face", 1, INDICES)]
    if form == "binary_little_endian":
        body = b"\1\7" + bytes(count - 1) + struct.pack("<9fB3i", *range(9), 3, 0, 1, 2)
        path.write_bytes(header(elements, form).encode() + body)
    else:
        body = "1 7\n" + "0\n" * (count - 1) + "0 1 2\n3 4 5\n6 7 8\n3 0 1 2\n"
        path.write_text(header(elements) + (body if form == "ascii" else body.replace("\n", " ")))
    start = time.process_time()
    mesh = read_with(path, "other").mesh
    np.testing.assert_array_equal(mesh.vertices, np.arange(9).reshape(3, 3))
    assert time.process_time() - start < 3  # 0.1 to 0.5; 2 us a row more would be 0.8


@pytest.mark.validation
@pytest.mark.parametrize("form", ["ascii", "binary_little_endian"])
@pytest.mark.parametrize("count", [-1, 120])
def test_unused_list_that_reaches_beyond_the_file_is_an_error(tmp_path, form, count):
    elements = [("other", 2, ("list char uchar k",)), ("vertex", 3, XYZ), ("face", 1, INDICES)]
    path = tmp_path / "mesh.ply"
    if form == "ascii":
        path.write_text(header(elements) + f"0 {count} 0 1 2 3 4 5 6 7 8 3 0 1 2\n")
    else:
        path.write_bytes(header(elements, form).encode() + struct.pack("<bb9fB3i", 0, count, *range(9), 3, 0, 1, 2))
    message = "a list of length -1" if count < 0 else "it ends within a row of (other|vertex), so it is cut off"
    with pytest.raises(ValueError, match=message):
        jnr.load(path)


# --- faces


def test_concave_polygon_is_split_inside_of_itself(tmp_path):
    # A fan from corner 0 has a triangle outside of the arrow.
    arrow = [(0, 2, 0), (-2, -2, 0), (0, -1, 0), (2, -2, 0)]
    path = write_ply(
        tmp_path, ("vertex", XYZ, np.roll(arrow, 1, axis=0).tolist()), ("face", INDICES, [(4, 0, 1, 2, 3)])
    )
    mesh = jnr.load(path)
    assert len(mesh.faces) == 2
    a, b, c = np.moveaxis(np.asarray(mesh.vertices)[np.asarray(mesh.faces)], 1, 0)
    areas = np.cross(b - a, c - a)[:, 2] / 2
    np.testing.assert_allclose(areas, [3, 3])


def test_faces_of_fewer_than_three_corners_are_left_out(tmp_path):
    colors = [(2, 0, 1, 0, 0, 0), (3, 0, 1, 2, 51, 102, 255), (0, 0, 0, 0), (3, 0, 2, 3, 255, 0, 0), (1, 9, 0, 0, 0)]
    path = write_ply(tmp_path, ("vertex", XYZ, SQUARE), ("face", (*INDICES, *UCHAR), colors))
    mesh = read_with(path, "^faces of fewer than three corners$").mesh
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3]])
    # Colours stay with their faces.
    np.testing.assert_allclose(np.asarray(mesh.textures).reshape(2, 3), [[0.2, 0.4, 1], [1, 0, 0]], atol=1e-6)


STRIP = [(7, 0, 1, 3, 2, 2, 4, 5), (8, 0, 1, 2, -1, 5, 4, 3, -1), (0,), (2, 0, 1)]
# The first strip repeats vertex 2, so two of its five triangles have no area. -1 starts a new strip.
OF_STRIP = [[0, 1, 3], [3, 1, 2], [2, 4, 5], [0, 1, 2], [5, 4, 3]]


@pytest.mark.parametrize("form", ["ascii", "binary_big_endian"])
def test_triangle_strips_become_triangles(tmp_path, form):
    vertices = [(k % 2, k // 2, 0) for k in range(6)]
    elements = [("vertex", 6, XYZ), ("tristrips", 4, ("list int int vertex_indices",))]
    path = tmp_path / "mesh.ply"
    if form == "ascii":
        path.write_text(header(elements) + lines(vertices) + lines(STRIP))
    else:
        body = struct.pack(">18f", *np.ravel(vertices)) + b"".join(struct.pack(f">{len(r)}i", *r) for r in STRIP)
        path.write_bytes(header(elements, form).encode() + body)
    np.testing.assert_array_equal(jnr.load(path).faces, OF_STRIP)


def test_triangles_of_strips_follow_the_faces(tmp_path):
    vertices = [(k % 2, k // 2, 0) for k in range(6)]
    strips = ("tristrips", ("list int int vertex_indices",), STRIP)
    path = write_ply(tmp_path, ("vertex", XYZ, vertices), ("face", INDICES, [(3, 3, 4, 5)]), strips)
    np.testing.assert_array_equal(jnr.load(path).faces, [[3, 4, 5], *OF_STRIP])
    face = ("face", (*INDICES, *UCHAR), [(3, 3, 4, 5, 1, 2, 3)])
    file = read_with(write_ply(tmp_path, ("vertex", XYZ, vertices), face, strips), "the properties of faces, which its")
    assert file.mesh.textures is None
    np.testing.assert_array_equal(file.mesh.faces, [[3, 4, 5], *OF_STRIP])


@pytest.mark.validation
def test_point_cloud_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no faces with vertex_indices"):
        jnr.load(write_ply(tmp_path, ("vertex", XYZ, SQUARE)))


# --- vertices


def test_unused_vertex_may_have_no_numbers(tmp_path):
    nan = (float("nan"),) * 3
    properties = (*XYZ, "float nx", "float ny", "float nz", "float red", "float green", "float blue")
    vertices = [(*row, 0, 0, 1, 0.5, 0.25, 1) for row in SQUARE]
    path = write_ply(tmp_path, ("vertex", properties, [nan * 3, *vertices]), ("face", INDICES, [(3, 1, 2, 3)]))
    file = jnr.io.read(path)
    np.testing.assert_array_equal(file.mesh.vertices, [[0, 0, 0], *SQUARE])
    np.testing.assert_array_equal(file.normals, [[0, 0, 0], *[[0, 0, 1]] * 4])
    np.testing.assert_array_equal(file.mesh.textures, [[0, 0, 0], *[[0.5, 0.25, 1]] * 4])


def test_normals_of_vertices_are_kept_and_those_of_faces_follow_from_the_vertices(tmp_path):
    normals = [(0, 0, 1), (0.6, 0, 0.8), (0, 0.6, 0.8), (1, 0, 0)]
    names = ("float nx", "float ny", "float nz")
    file = jnr.io.read(square(tmp_path, names, normals, names, ((0, 0, 1),) * 2))
    np.testing.assert_array_equal(file.normals, np.array(normals, np.float32))
    file = read_with(square(tmp_path, names, [(0, 0, 1), (0, 0, float("nan")), *normals[2:]]), "normals, of which")
    assert file.normals is None


def georeferenced(tmp_path, kind="double"):
    """A grid in steps of 5 cm, far from the origin."""
    x, y = np.meshgrid(512345.60 + 0.05 * np.arange(4), 5412345.15 + 0.05 * np.arange(4))
    vertices = np.stack([x.ravel(), y.ravel(), np.full(16, 120.0)], axis=-1)
    faces = [(4, k, k + 1, k + 5, k + 4) for k in range(11) if k % 4 < 3]
    elements = [("vertex", 16, (f"{kind} x", f"{kind} y", f"{kind} z")), ("face", 9, INDICES)]
    path = tmp_path / "mesh.ply"
    body = vertices.astype("<f8" if kind == "double" else "<f4").tobytes()
    body += b"".join(struct.pack("<B4i", *face) for face in faces)
    path.write_bytes(header(elements, "binary_little_endian").encode() + body)
    return path, vertices


def test_coordinates_that_float32_rounds_are_told_and_kept_by_centring(tmp_path):
    path, vertices = georeferenced(tmp_path)
    file = read_with(path, r"^precision: float32 moves vertices by up to 0\.25; center=True, or jax_enable_x64")
    np.testing.assert_array_equal(file.mesh.vertices, vertices.astype(np.float32))
    np.testing.assert_array_equal(file.center, np.zeros(3))
    centred = jnr.io.read(path, center=True)
    np.testing.assert_allclose(centred.center, [512345.675, 5412345.225, 120], rtol=1e-14)
    # float32 holds the distances of at most 0.1 from the middle to 4e-9.
    np.testing.assert_allclose(np.float64(centred.mesh.vertices) + centred.center, vertices, rtol=0, atol=1e-8)
    assert centred.mesh.vertices.dtype == jnp.float32


def test_vertices_that_no_face_uses_have_no_part_in_the_centre(tmp_path):
    path = write_ply(tmp_path, ("vertex", XYZ, [(9e9, 9e9, 9e9), *SQUARE]), ("face", INDICES, [(4, 1, 2, 3, 4)]))
    file = jnr.io.read(path, center=True)
    np.testing.assert_array_equal(file.center, [0.5, 0.5, 0])
    np.testing.assert_array_equal(file.mesh.vertices[1:], np.subtract(SQUARE, [0.5, 0.5, 0]))


def test_coordinates_are_float64_under_x64(tmp_path):
    path, vertices = georeferenced(tmp_path)
    with jax.enable_x64(True):
        mesh = jnr.load(path)
        assert mesh.vertices.dtype == jnp.float64
        np.testing.assert_array_equal(mesh.vertices, vertices)


def test_coordinates_that_the_file_stores_in_float32_lose_nothing(tmp_path):
    path, vertices = georeferenced(tmp_path, "float")
    np.testing.assert_array_equal(jnr.load(path).vertices, vertices.astype(np.float32))


# --- colours


WANT = np.array([200, 100, 50], np.float32) / np.float32(255)


@pytest.mark.parametrize(
    ("kinds", "values"),
    [
        ("uchar", (200, 100, 50)),
        ("int", (200, 100, 50)),
        ("short", (200, 100, 50)),
        ("uint64", (200, 100, 50)),
        ("float", (200, 100, 50)),
        ("double", (200.0, 100.0, 50.0)),
        ("ushort", (51400, 25700, 12850)),
        ("uint", (200, 100, 50)),
        ("float", (0.784314, 0.392157, 0.196078)),
    ],
)
@pytest.mark.parametrize("names", [("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), "rgb"])
@pytest.mark.parametrize("element", ["vertex", "face"])
def test_colours_of_every_type_and_name_are_fractions(tmp_path, kinds, values, names, element):
    properties = [f"{kinds} {name}" for name in names]
    if element == "vertex":
        colors = jnr.load(square(tmp_path, properties, (values,) * 4)).textures
        assert colors.shape == (4, 3)
    else:
        colors = jnr.load(square(tmp_path, face=properties, face_values=(values,) * 2)).textures
        assert colors.shape == (2, 1, 1, 1, 3)
    np.testing.assert_allclose(
        np.asarray(colors).reshape(-1, 3), np.tile(WANT, (4 if element == "vertex" else 2, 1)), atol=1e-6
    )


def test_eight_bit_colours_have_the_maximum_255_however_dark(tmp_path):
    colors = jnr.load(square(tmp_path, UCHAR, ((1, 0, 1),) * 4)).textures
    np.testing.assert_allclose(np.asarray(colors), [[1 / 255, 0, 1 / 255]] * 4, atol=1e-8)
    # A program that writes char means uchar.
    chars = jnr.load(square(tmp_path, ("char red", "char green", "char blue"), ((-56, 100, 50),) * 4)).textures
    np.testing.assert_allclose(np.asarray(chars), np.tile(WANT, (4, 1)), atol=1e-6)


@pytest.mark.parametrize(("red", "left_out"), [(1.005, []), (1.5, ["^the part of colours above 1$"])])
def test_fractions_above_one_are_clipped(tmp_path, red, left_out):
    path = square(tmp_path, ("float red", "float green", "float blue"), [(red, 0.5, 0.25)] * 4)
    np.testing.assert_array_equal(read_with(path, *left_out).mesh.textures, [[1, 0.5, 0.25]] * 4)


def test_colours_of_faces_are_drawn_on_their_polygons(tmp_path):
    rows = [(4, 0, 1, 2, 3, 255, 0, 0), (3, 0, 2, 3, 0, 0, 255)]
    mesh = jnr.load(write_ply(tmp_path, ("vertex", XYZ, SQUARE), ("face", (*INDICES, *UCHAR), rows)))
    np.testing.assert_array_equal(np.asarray(mesh.textures).reshape(3, 3), [[1, 0, 0], [1, 0, 0], [0, 0, 1]])
    rows = [(3, 0, 1, 2, 255, 0, 0), (3, 0, 2, 3, 0, 0, 255)]
    mesh = jnr.load(write_ply(tmp_path, ("vertex", XYZ, SQUARE), ("face", (*INDICES, *UCHAR), rows)))
    camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 5.0)), jnr.Orthographic(1.0))
    rgb = np.asarray(jnr.render(*mesh, camera=camera, lights=(), image_size=8).rgb)
    np.testing.assert_array_equal(rgb[3, 7], [1, 0, 0])
    np.testing.assert_array_equal(rgb[1, 5], [0, 0, 1])


@pytest.mark.parametrize(("alpha", "is_left_out"), [(255, False), (254, True)])
@pytest.mark.parametrize("element", ["vertex", "face"])
def test_opacity_of_colours_is_left_out_unless_all_are_opaque(tmp_path, alpha, is_left_out, element):
    properties, values = (*UCHAR, "uchar alpha"), (200, 100, 50, 255)
    if element == "vertex":
        path = square(tmp_path, properties, [values] * 3 + [(*values[:3], alpha)])
    else:
        path = square(tmp_path, face=properties, face_values=[values, (*values[:3], alpha)])
    file = read_with(path, *[f"^opacity of {element} colours$"][:is_left_out])
    np.testing.assert_allclose(np.asarray(file.mesh.textures).reshape(-1, 3)[-1], WANT, atol=1e-6)


def test_vertex_colours_win_over_those_of_faces_unless_they_are_white(tmp_path):
    red, blue, white = (255, 0, 0), (0, 0, 255), (255, 255, 255)
    file = read_with(square(tmp_path, UCHAR, (red,) * 4, UCHAR, (blue,) * 2), "^face colours, because it has vertex c")
    np.testing.assert_array_equal(file.mesh.textures, [[1, 0, 0]] * 4)
    assert jnr.load(square(tmp_path, UCHAR, (red,) * 4, UCHAR, (white,) * 2)).textures.shape == (4, 3)
    mesh = jnr.load(square(tmp_path, UCHAR, (white,) * 4, UCHAR, (blue,) * 2))
    np.testing.assert_array_equal(mesh.textures.reshape(2, 3), [[0, 0, 1]] * 2)
    np.testing.assert_array_equal(jnr.load(square(tmp_path, UCHAR, (white,) * 4)).textures, np.ones((4, 3)))


def test_textures_false_reads_no_colours_and_names_none(tmp_path):
    file = jnr.io.read(square(tmp_path, UCHAR, ((1, 2, 3),) * 4, UCHAR, ((1, 2, 3),) * 2), textures=False)
    assert file.mesh.textures is None
    assert file.left_out == ()


# --- textures


ST = ("float s", "float t")
COORDINATES = [(0, 0), (1, 0), (1, 1), (0, 0.5)]


@pytest.mark.parametrize("names", ["st", "uv", ("texture_u", "texture_v"), ("texture_s", "texture_t")])
def test_texture_coordinates_without_an_image_are_kept_with_a_white_one(tmp_path, names):
    mesh = jnr.load(square(tmp_path, [f"float {name}" for name in names], COORDINATES), wrap="clamp")
    np.testing.assert_array_equal(mesh.textures.uv, COORDINATES)
    np.testing.assert_array_equal(mesh.textures.images, np.ones((1, 1, 3)))
    assert mesh.textures.uv_faces is None
    assert mesh.textures.wrap == "clamp"


def test_texture_coordinates_of_corners_without_an_image_are_kept(tmp_path):
    wedges = [(6, 0, 0, 1, 0, 1, 1), (6, 0, 0.5, 0.5, 0.5, 0, 1)]
    mesh = jnr.load(square(tmp_path, face=("list uchar float texcoord",), face_values=wedges))
    expected = [[[0, 0], [1, 0], [1, 1]], [[0, 0.5], [0.5, 0.5], [0, 1]]]
    np.testing.assert_array_equal(mesh.textures.uv[mesh.textures.uv_faces], expected)
    # Zeros say nothing.
    zeros = [(6, *[0] * 6)] * 2
    assert jnr.load(square(tmp_path, face=("list uchar float texcoord",), face_values=zeros)).textures is None


def test_colours_win_over_texture_coordinates_without_an_image(tmp_path):
    values = [(200, 100, 50, *row) for row in COORDINATES]
    file = read_with(
        square(tmp_path, UCHAR + ST, values), "^texture coordinates without an image, because it has vertex"
    )
    assert file.mesh.textures.shape == (4, 3)


def test_broken_texture_coordinates_without_an_image_are_left_out(tmp_path):
    path = square(tmp_path, ST, [*COORDINATES[:3], (0, float("nan"))])
    assert read_with(path, "^texture coordinates, of which some are not finite").mesh.textures is None


def test_image_wins_over_colours(tmp_path):
    write_image(tmp_path, "a.png", (255, 0, 0))
    comments = ("TextureFile a.png",)
    values = [(200, 100, 50, *row) for row in COORDINATES]
    file = read_with(
        square(tmp_path, UCHAR + ST, values, comments=comments), "^vertex colours, because it has a texture"
    )
    np.testing.assert_array_equal(file.mesh.textures.images, [[[1, 0, 0]]])
    # MeshLab writes white colours beside images.
    white = [(255, 255, 255, *row) for row in COORDINATES]
    assert jnr.io.read(square(tmp_path, UCHAR + ST, white, comments=comments)).left_out == ()


@pytest.mark.parametrize("comment", ["TextureFile a b.png", 'texturefile "a b.png"', "TEXTUREFILE  A B.PNG "])
def test_image_names_may_be_quoted_and_keywords_in_any_case(tmp_path, comment):
    write_image(tmp_path, "a b.png", (255, 0, 0))
    mesh = jnr.load(square(tmp_path, ST, COORDINATES, comments=(comment,)))
    np.testing.assert_array_equal(mesh.textures.images, [[[1, 0, 0]]])


def test_alpha_of_an_image_is_opacity(tmp_path):
    write_image(tmp_path, "a.png", (255, 0, 0, 51))
    texture = jnr.load(square(tmp_path, ST, COORDINATES, comments=("TextureFile a.png",))).textures
    np.testing.assert_allclose(texture.images, [[[1, 0, 0, 0.2]]], atol=1e-6)
    assert texture.alpha == "blend"


def test_images_that_no_face_uses_are_not_opened(tmp_path):
    write_image(tmp_path, "a.png", (255, 0, 0))
    write_image(tmp_path, "b.png", (0, 0, 255))
    (tmp_path / "broken.png").write_text("no image")
    comments = ("TextureFile broken.png", "TextureFile a.png", "TextureFile ../secret.png", "TextureFile b.png")
    path = square(tmp_path, ST, COORDINATES, ("int texnumber",), [(3,), (1,)], comments=comments)
    texture = read_with(path, "^2 images that no texnumber assigns").mesh.textures
    np.testing.assert_array_equal(texture.images, [[[[1, 0, 0]]], [[[0, 0, 1]]]])
    np.testing.assert_array_equal(texture.material, [1, 0])
    path = square(tmp_path, ST, COORDINATES, comments=comments[1:])
    texture = read_with(path, "^2 images that no texnumber assigns").mesh.textures
    np.testing.assert_array_equal(texture.images, [[[1, 0, 0]]])


def test_image_without_texture_coordinates_is_left_out(tmp_path):
    path = square(tmp_path, comments=("TextureFile absent.png",))
    assert read_with(path, "^images, because it has no texture coordinates").mesh.textures is None


# --- the rest


def test_what_a_picture_does_not_show_is_one_entry(tmp_path):
    path = square(
        tmp_path,
        ("float quality", "float confidence"),
        ((1, 2),) * 4,
        ("int flags",),
        ((3,),) * 2,
        others=[("edge", ("int vertex1", "int vertex2"), [(0, 1)]), ("material", ("int ambient_red",), [])],
        comments=("made by hand",),
    )
    path.write_text(path.read_text().replace("comment made", "obj_info made"))
    file = read_with(path, r"^what a picture does not show \(vertex quality, vertex confidence, face flags, edge\)$")
    np.testing.assert_array_equal(file.mesh.vertices, SQUARE)


def test_all_that_is_left_out_is_in_one_warning_at_the_line_of_the_call(tmp_path):
    path = square(tmp_path, (*UCHAR, "uchar alpha", "float quality"), ((1, 2, 3, 4, 5),) * 4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jnr.load(path)
    (warning,) = caught
    expected = "mesh.ply was loaded without: what a picture does not show (vertex quality); opacity of vertex colours."
    assert str(warning.message) == expected
    assert warning.filename == __file__


@pytest.mark.validation
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": "mask"}, r"alpha must be 'blend' or None to be saved as \.ply, got 'mask'\."),
        (
            {"wrap": (("repeat", "clamp"),)},
            r"wrap must be 'repeat', 'mirror' or 'clamp' to be saved as \.ply, got \('repeat', 'clamp'\)\.",
        ),
    ],
)
def test_texture_that_a_ply_file_cannot_store_is_not_saved(tmp_path, changes, message):
    texture = jnr.UVTexture(jnp.ones((2, 2, 4)), jnp.zeros((4, 2)), **changes)
    mesh = jnr.Mesh(jnp.asarray(SQUARE, jnp.float32), jnp.asarray([[0, 1, 2]]), texture)
    with pytest.raises(ValueError, match=f"^{message}"):
        jnr.save(tmp_path / "mesh.ply", mesh)
    assert not list(tmp_path.iterdir())


def test_blended_image_is_restored(tmp_path):
    texture = jnr.UVTexture(jnp.full((1, 1, 4), 0.2), jnp.asarray(COORDINATES, jnp.float32), alpha="blend")
    jnr.save(tmp_path / "mesh.ply", jnr.Mesh(jnp.asarray(SQUARE, jnp.float32), jnp.asarray([[0, 1, 2]]), texture))
    back = jnr.load(tmp_path / "mesh.ply").textures
    np.testing.assert_array_equal(back.images, texture.images)
    assert back.alpha == "blend"
