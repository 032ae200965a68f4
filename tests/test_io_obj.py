"""OBJ files and their materials as programs write them: what is kept, and what the one warning of a load names."""

import tracemalloc
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

import jnr
from jnr.io import _obj, _parts

pil = pytest.importorskip("PIL.Image", reason="textures need the io extra")

SQUARE = "v -0.5 -0.5 0\nv 0.5 -0.5 0\nv 0.5 0.5 0\nv -0.5 0.5 0\n"
UV = "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
FACES = "f 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"
BOM = b"\xef\xbb\xbf"
RED, BLUE, WHITE = (1, 0, 0), (0, 0, 1), (1, 1, 1)


def read(tmp_path, text, library=None, **options):
    """The contents of an OBJ file with the library a.mtl, if any; what was left out is in its one warning."""
    content = text if isinstance(text, bytes) else text.encode()
    if library is not None:
        (tmp_path / "a.mtl").write_bytes(library if isinstance(library, bytes) else library.encode())
        content = b"mtllib a.mtl\n" + content
    (tmp_path / "a.obj").write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        file = jnr.io.read(tmp_path / "a.obj", **options)
    expected = [f"a.obj was loaded without: {'; '.join(file.left_out)}."] if file.left_out else []
    assert [str(warning.message) for warning in caught] == expected
    return file


def write_image(path, *colors, mode="RGB"):
    """Writes an image of one row."""
    image = pil.new(mode, (len(colors), 1))
    for column, color in enumerate(colors):
        image.putpixel((column, 0), tuple(round(255 * c) for c in color) if isinstance(color, tuple) else color)
    image.save(path)


def texels(texture, k=0):
    images = texture.images if isinstance(texture.images, tuple) else [texture.images]
    return np.asarray(images[k])


# --- lines


def test_byte_order_mark_hides_neither_the_first_vertex_nor_the_first_material(tmp_path):
    library = BOM + b"newmtl first\nKd 1 0 0\n"
    (tmp_path / "a.mtl").write_bytes(library)
    file = read(tmp_path, BOM + (SQUARE + "v 7 8 9\nmtllib a.mtl\nusemtl first\nf 1 2 3\n").encode())
    np.testing.assert_array_equal(file.mesh.vertices[::4], [[-0.5, -0.5, 0], [7, 8, 9]])
    np.testing.assert_array_equal(file.mesh.textures.images, [[RED]])
    assert file.left_out == ()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("block", [2**22, 1, 7])
def test_backslash_continues_a_line_but_no_comment(tmp_path, monkeypatch, end, block):
    monkeypatch.setattr(_parts, "BLOCK", block)
    text = (
        "# written to D:\\models\\\nv 1 2 3 # the first \\\nv 4 5 6\nv 7 \\\n8 \\\n9\n#\\\nv 0 0 0\n"
        "f 1 \\\n2 3 # joined \\\nf 1 3 \\\n 4\n# end\\"
    )
    file = read(tmp_path, text.replace("\n", end))
    np.testing.assert_array_equal(file.mesh.vertices, [[1, 2, 3], [4, 5, 6], [7, 8, 9], [0, 0, 0]])
    np.testing.assert_array_equal(file.mesh.faces, [[0, 1, 2], [0, 2, 3]])


def test_coordinates_are_read_in_double_precision(tmp_path):
    (tmp_path / "a.obj").write_text("v 512345.65 5412345.15 120.1\nv 0 0 0\nv 1 1 1\nf 1 2 3\n")
    content = _obj.read(tmp_path / "a.obj", _parts.Files(tmp_path), "repeat", textures=False, progress=False)
    assert content.vertices.dtype == np.float64
    np.testing.assert_array_equal(content.vertices[0], [512345.65, 5412345.15, 120.1])


@pytest.mark.parametrize("number", ["1e-3", "+5", "-0.1", ".5", "1_0", "123456789.123456789", "1e-400", "0" * 40 + "7"])
def test_numbers_are_those_of_python(tmp_path, number):
    vertices = read(tmp_path, f"v {number} 1 2\nv 0 0 0\nv 1 1 1\nf 1 2 3\n").mesh.vertices
    assert vertices[0].tolist() == [np.float32(float(number)), 1, 2]


@pytest.mark.validation
@pytest.mark.parametrize("line", ["v 1-2 x 3", "v 1-2 3", "v 1,5 2 3", "v 0x10 1 2", "v 1 2 3\nf 1-2 x 3", "f 1 2 3e0"])
def test_word_that_is_not_a_number_is_an_error(tmp_path, line):
    with pytest.raises(ValueError, match=r"^path must be a complete, valid mesh file, got .*a\.obj"):
        read(tmp_path, f"{SQUARE}{line}\nf 1 2 3\n")


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("l 1 2\np 1\nl 2 3", "lines; points"),
        ("vp 0 1\ncstype bezier\nsurf 0 1 0 1 1 2 3\nend", "curves and surfaces"),
        ("f 1 2\nf 3", "faces of fewer than three corners"),
        ("f", "faces of fewer than three corners"),
        ("v 0 0 0 2", "weights (w) of vertices"),
        ("v 0 0 0 1 1 1 0.5", "numbers of vertices after position and colour"),
        ("vn 0 0 1", "normals, to which no face refers"),
        ("vt 0 1", "texture coordinates, to which no face refers"),
        ("usemap a.png", "texture maps of usemap"),
        ("fo 1 2 3\nd\xe9j\xe0 vu", "unknown statements (fo, d\\xe9j\\xe0)"),
        ("", None),
        ("g a b\no c\ns off\nmg 1 2\nlod 1\nbevel on\n#l 1 2\nv 0 0 0 1", None),
    ],
)
def test_what_a_mesh_cannot_hold_is_named(tmp_path, lines, named):
    file = read(tmp_path, f"{SQUARE}{lines}\nf 1 2 3\n")
    np.testing.assert_array_equal(file.mesh.faces, [[0, 1, 2]])
    assert "; ".join(file.left_out) == (named or "")
    assert file.mesh.textures is None or named.startswith("numbers of vertices")


def test_faces_of_two_corners_leave_the_others_their_materials(tmp_path):
    library = "newmtl r\nKd 1 0 0\nnewmtl b\nKd 0 0 1\n"
    file = read(tmp_path, f"{SQUARE}usemtl r\nf 1 2\nf 1 2 3\nusemtl b\nf 4\nf 1 3 4\n", library)
    np.testing.assert_array_equal(file.mesh.faces, [[0, 1, 2], [0, 2, 3]])
    np.testing.assert_array_equal(file.mesh.textures.material, [0, 1])
    assert file.left_out == ("faces of fewer than three corners",)


def test_concave_polygon_of_an_obj_file_is_covered_once(tmp_path):
    corners = [(0, 0), (3, 0), (3, 1), (1, 1), (1, 2), (3, 2), (3, 3), (0, 3)]
    rows = "".join(f"v {x} {y} 0\nvt {x} {y}\n" for x, y in corners)
    faces = "f " + " ".join(f"{k}/{k}" for k in range(1, 9))
    mesh = read(tmp_path, f"{rows}{faces}\n").mesh
    np.testing.assert_allclose(jnr.face_areas(mesh.vertices, mesh.faces).sum(), 7, rtol=1e-6)
    np.testing.assert_array_equal(mesh.textures.uv[mesh.faces], mesh.vertices[mesh.faces][..., :2])


# --- colours of vertices


@pytest.mark.parametrize(
    ("colors", "expected", "named"),
    [
        ("1.003922 0.5 0.5,0.25 0.5 0.75", [1, 0.5, 0.5, 0.25, 0.5, 0.75], ()),
        ("1.6 0.5 0.5,0.25 0.5 0.75", [1, 0.5, 0.5, 0.25, 0.5, 0.75], ("the part of colours above 1",)),
        ("9.5 0 0,0.25 0.5 0.75", [1, 0, 0, 0.25, 0.5, 0.75], ("the part of colours above 1",)),
        ("255 51 0,0 102 153", [1, 0.2, 0, 0, 0.4, 0.6], ()),
        ("2 1 0,0 0 0", [2 / 255, 1 / 255, 0, 0, 0, 0], ()),
        ("127.5 51 0,0 102.0 153", [0.5, 0.2, 0, 0, 0.4, 0.6], ()),
        ("1 0 1,0 1 0", [1, 0, 1, 0, 1, 0], ()),
        ("-0.5 0 1,0 1 0", [0, 0, 1, 0, 1, 0], ()),
        (",0 1 0", [1, 1, 1, 0, 1, 0], ()),
        ("255 0 0,", [1, 0, 0, 1, 1, 1], ()),
    ],
)
@pytest.mark.parametrize("block", [2**22, 1])
def test_vertex_colors_are_fractions_or_eight_bits_by_the_largest(
    tmp_path, monkeypatch, colors, expected, named, block
):
    monkeypatch.setattr(_parts, "BLOCK", block)
    first, second = colors.split(",")
    # A vertex that no face uses may have any colour.
    file = read(tmp_path, f"v 0 0 0 {first}\nv 1 0 0 {second}\nv 0 1 0 {second}\nv 0 0 0 nan nan nan\nf 1 2 3\n")
    np.testing.assert_allclose(np.asarray(file.mesh.textures)[:2].ravel(), expected, atol=1e-6)
    assert file.left_out == named


@pytest.mark.validation
def test_vertex_color_that_is_not_a_number_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="finite vertex colours"):
        read(tmp_path, "v 0 0 0 nan 0 0\nv 1 0 0 0 0 0\nv 0 1 0 0 0 0\nf 1 2 3\n")


COLORED = "v -0.5 -0.5 0 1 0 0\nv 0.5 -0.5 0 0 1 0\nv 0.5 0.5 0 0 0 1\nv -0.5 0.5 0 0 0 0\n"


def test_vertex_colors_are_drawn_in_place_of_white_materials(tmp_path):
    library = "newmtl white\nKd 1 1 1\nnewmtl red\nKd 1 0 0\n"
    file = read(tmp_path, f"{COLORED}{UV}usemtl white\n{FACES}", library)
    np.testing.assert_array_equal(file.mesh.textures, [RED, (0, 1, 0), BLUE, (0, 0, 0)])
    assert file.left_out == ("texture coordinates, since vertex colours are drawn",)
    file = read(tmp_path, f"{COLORED}{UV}usemtl red\n{FACES}", library)
    np.testing.assert_array_equal(texels(file.mesh.textures, 1), [[RED]])
    assert file.left_out == ("vertex colours, since materials are drawn",)


# --- texture coordinates


@pytest.mark.parametrize("wrap", ["repeat", "border"])
def test_texture_coordinates_without_material_are_kept_with_a_white_image(tmp_path, wrap):
    text = f"{SQUARE}{UV}vt 0.25 5\n"
    file = read(tmp_path, f"{text}f 1/5 2/2 3/3\nf 1 3/3 4/4\n", wrap=wrap)
    texture = file.mesh.textures
    np.testing.assert_array_equal(texture.images, [[WHITE]])
    np.testing.assert_array_equal(texture.uv, [[0, 0], [1, 0], [1, 1], [0, 1], [0.25, 5], [0, 0]])
    np.testing.assert_array_equal(texture.uv_faces, [[4, 1, 2], [5, 2, 3]])
    assert texture.wrap == ("clamp" if wrap == "border" else wrap)
    assert file.left_out == ()
    plain = read(tmp_path, f"{SQUARE}f 1 2 3\nf 1 3 4\n").mesh
    assert plain.textures is None
    drawn, expected = (jnr.render(*mesh, image_size=8).rgb for mesh in (file.mesh, plain))
    np.testing.assert_allclose(drawn, expected, atol=1e-6)


OUT_OF_RANGE = "texture coordinates of corners whose index is out of range ((0, 0) in their place)"
NOT_FINITE = "texture coordinates that are not finite ((0, 0) in their place)"


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("f 1/1/1 2/2/1 3/3/1\nvn 0 0 1", OUT_OF_RANGE),
        ("f -4/-4 -3/-3 -2/-2", OUT_OF_RANGE),
        ("vt 1 1\nf 1/1 2/2 3/1", OUT_OF_RANGE),
        ("vt 1 1\nf 1/-1 2/-2 3/-1", OUT_OF_RANGE),
        ("vt 1 1\nf 1/1 2/0 3/1", OUT_OF_RANGE),
        ("vt 1 1\nf 1/1 2/99999999999 3/1", OUT_OF_RANGE),
        ("vt 1 1\nvt nan 0\nf 1/1 2/2 3/1", NOT_FINITE),
        ("vt 1 1\nvt 0 1e39\nf 1/1 2/2 3/1", NOT_FINITE),
        ("vt 1 1\nvt nan 0\nf 1/1 2/1 3/1", None),
        ("vt 1 1\nf 1/1 2 3/1", None),
    ],
)
def test_texture_coordinates_matter_only_with_an_image(tmp_path, lines, named):
    write_image(tmp_path / "a.png", RED)
    library = "newmtl plain\nKd 1 0 0\nnewmtl image\nmap_Kd a.png\n"
    file = read(tmp_path, f"{SQUARE}usemtl plain\n{lines}\n", library)
    np.testing.assert_array_equal(texels(file.mesh.textures), [[RED]])
    assert file.left_out == ()
    file = read(tmp_path, f"{SQUARE}usemtl image\n{lines}\n", library)
    corners = np.asarray(file.mesh.textures.uv[file.mesh.textures.uv_faces])[0]
    has_uv = [(1, 1)] * 3 if "2/1" in lines else [(1, 1), (0, 0), (1, 1)]
    np.testing.assert_array_equal(corners, has_uv if "vt" in lines else np.zeros((3, 2)))
    assert file.left_out == (() if named is None else (named,))


# --- normals

NORMALS = "vn 0 0 1\nvn 0 1 0\nvn 1 0 0\nvn 0 0 1\n"


@pytest.mark.parametrize(
    "faces",
    [
        "f 1//1 2//2 3//3\nf 1//1 3//3 4//4",
        "f 1//1 2//2 3//3\nf 1//4 3//3 4//1",
        "f 1/1/1 2/1/2 3/1/3\nf 1//1 3//3 4/1/4\nvt 0 0",
        "f -4//-4 -3//-3 -2//-2\nf -4//-4 -2//-2 -1//-1",
        "f 1//1 2//2 3//3 4//4",
    ],
)
@pytest.mark.parametrize("block", [2**22, 1])
def test_normals_are_per_vertex_where_corners_agree(tmp_path, monkeypatch, faces, block):
    monkeypatch.setattr(_parts, "BLOCK", block)
    file = read(tmp_path, f"{SQUARE}{NORMALS}{faces}\n")
    np.testing.assert_array_equal(file.normals, [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1]])
    assert file.left_out == ()


def test_normals_are_per_corner_where_corners_differ(tmp_path):
    file = read(tmp_path, f"{SQUARE}{NORMALS}f 1//1 2//1 3//1\nf 1//2 3//2 4//2\n", textures=False)
    np.testing.assert_array_equal(file.normals, [[[0, 0, 1]] * 3, [[0, 1, 0]] * 3])


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("f 1//1 2//1 3//1\nf 1 3 4", "normals, which some corners lack"),
        ("f 1//1 2//1 3//9", "normals, which some corners lack"),
        ("f 1//1 2//1 3//-9", "normals, which some corners lack"),
        ("f 1//1 2//1 3//0", "normals, which some corners lack"),
        ("vn 1 2\nf 1//1 2//1 3//1", "normals, which some corners lack"),
        ("vn 1 x 2\nf 1//1 2//1 3//1", "normals, which some corners lack"),
        ("vn nan 0 0\nf 1//1 2//5 3//1", "normals, of which some are not finite"),
        ("vn 1e39 0 0\nf 1//1 2//5 3//1", "normals, of which some are not finite"),
    ],
)
def test_broken_normals_are_left_out(tmp_path, lines, named):
    file = read(tmp_path, f"{SQUARE}{NORMALS}{lines}\n")
    assert file.normals is None
    assert file.left_out == (named,)
    np.testing.assert_array_equal(file.mesh.faces[0], [0, 1, 2])


def test_normal_that_no_face_uses_may_be_broken(tmp_path):
    file = read(tmp_path, f"vn nan nan nan\n{SQUARE}v 0 0 1\n{NORMALS}f 1//2 2//3 3//4 4//5\n")
    np.testing.assert_array_equal(file.normals, [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]])
    assert file.left_out == ()


# --- materials and the files they name


@pytest.mark.parametrize(
    "statements", ["map_Kd gone.png", "map_Kd", "Kd nan 0 0", "d x", "map_d gone.png", "map_Ks a.png"]
)
def test_faults_of_a_material_that_no_face_uses_do_not_matter(tmp_path, statements):
    library = f"newmtl unused\n{statements}\nnewmtl used\nKd 1 0 0\n"
    file = read(tmp_path, f"{SQUARE}{UV}usemtl used\n{FACES}", library)
    np.testing.assert_array_equal(texels(file.mesh.textures, 0), [[WHITE]])
    np.testing.assert_array_equal(texels(file.mesh.textures, 1), [[RED]])
    np.testing.assert_array_equal(file.mesh.textures.material, [1, 1])
    assert file.left_out == ()


def test_images_of_unused_materials_are_not_opened(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    library = "newmtl used\nKd 1 0 0\nnewmtl unused\nKd 0 0 1\nmap_Kd -clamp on text.png\n"
    texture = read(tmp_path, f"{SQUARE}{UV}usemtl used\n{FACES}", library).mesh.textures
    np.testing.assert_array_equal(texels(texture, 1), [[BLUE]])
    assert texture.wrap == ("repeat", "clamp")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ('"two words.png"', "two words.png"),
        ("'skin.png'", "skin.png"),
        ("skin.png # the skin", "skin.png"),
        ("skin.png   ", "skin.png"),
        ('"skin.png" # the skin', "skin.png"),
        ('-s 1 1 1 "skin.png"', "skin.png"),
        ("skin #1.png", "skin #1.png"),
        ("skin#1.png", "skin#1.png"),
        ('"skin #1.png"', "skin #1.png"),
        ("skin.png # in ../other", "skin.png"),
        ("SKIN.PNG", "skin.png"),
        ("C:\\export\\maps\\skin.png", "skin.png"),
        ('"C:\\export\\maps\\skin.png"', "skin.png"),
        ("skin.png # " + "long " * 400, "skin.png"),
    ],
)
def test_names_may_have_quotes_and_comments(tmp_path, written, name):
    write_image(tmp_path / name, BLUE)
    file = read(tmp_path, f"{SQUARE}{UV}usemtl m\n{FACES}", f"newmtl m\nmap_Kd {written}\n")
    np.testing.assert_array_equal(file.mesh.textures.images, [[BLUE]])
    assert file.left_out == ()


@pytest.mark.parametrize(
    "written", ["b.mtl # mine", '"b.mtl"', "B.MTL", "b.mtl c.mtl", "c.mtl b.mtl # both", "x/../b.mtl", "\tb.mtl "]
)
@pytest.mark.parametrize(("new", "use"), [("m", "m # it"), ("m # it", "m"), ("m #1", "m #1"), ("m", "m")])
def test_names_of_libraries_and_materials_may_have_comments(tmp_path, written, new, use):
    (tmp_path / "x").mkdir()
    (tmp_path / "b.mtl").write_text(f"newmtl {new}\nKd 0 0 1\n")
    (tmp_path / "c.mtl").write_text("newmtl other\nKd 0 1 0\n")
    file = read(tmp_path, f"mtllib {written}\n{SQUARE}usemtl {use}\nf 1 2 3\n")
    texture = file.mesh.textures
    np.testing.assert_array_equal(
        texels(texture, 0 if texture.material is None else int(texture.material[0])), [[BLUE]]
    )
    assert file.left_out == ()


def test_usemtl_without_a_name_is_no_material(tmp_path):
    file = read(tmp_path, f"{SQUARE}usemtl m\nf 1 2 3\nusemtl\nf 1 3 4\n", "newmtl m\nKd 1 0 0\n")
    np.testing.assert_array_equal(file.mesh.textures.material, [0, 1])
    np.testing.assert_array_equal(texels(file.mesh.textures, 1), [[(0.5, 0.5, 0.5)]])
    assert file.left_out == ()


def test_many_unknown_materials_are_one_entry(tmp_path):
    faces = "".join(f"usemtl name{k}\nf 1 2 3\n" for k in range(40))
    listed = "the materials 'name0', 'name1', 'name2' and 37 more, "
    file = read(tmp_path, SQUARE + faces)
    assert file.left_out == (f"{listed}for which the file names no library (white instead)",)
    assert file.mesh.textures is None
    file = read(tmp_path, SQUARE + faces, "newmtl other\n")
    assert file.left_out == (f"{listed}which no library defines (grey instead)",)
    np.testing.assert_array_equal(file.mesh.textures.material, np.ones(40))
    np.testing.assert_array_equal(texels(file.mesh.textures, 1), [[(0.5, 0.5, 0.5)]])


MAPS = "maps of materials other than colour and opacity ({})"


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        ("map_Bump b.png\nmap_Ks s.png", MAPS.format("map_bump, map_ks")),
        ("bump -bm 1 b.png\nnorm n.png\ndisp d.png\nrefl -type sphere r.png", MAPS.format("bump, norm, disp, refl")),
        ("map_Ka other.png", MAPS.format("map_ka")),
        ("map_Ka a.png", None),
        ("map_Kd -o 0.5 0 -s 2 2 a.png", "the options -o, -s of map_Kd of material 'm'"),
        ("map_Kd -o 0 0 0 -s 1 -t 0 -mm 0 1 -bm 3 -blendu off a.png", None),
        ("map_Kd -mm 0.5 1 a.png", "the options -mm of map_Kd of material 'm'"),
        ("Ka 1 1 1\nKs 1 1 1\nNs 10\nillum 2\nNi 1\nTf 1 1 1\nmap_aat on\nKe 0 0 0\nsharpness 1", None),
    ],
)
def test_what_a_material_has_beside_colour_and_opacity_is_named(tmp_path, statements, named):
    write_image(tmp_path / "a.png", BLUE)
    file = read(tmp_path, f"{SQUARE}{UV}usemtl m\n{FACES}", f"newmtl m\nmap_Kd a.png\n{statements}\n")
    np.testing.assert_array_equal(file.mesh.textures.images, [[BLUE]])
    assert file.left_out == (() if named is None else (named,))


# --- opacity


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ("Kd 1 0 0\nd 0.25", (1, 0, 0, 0.25)),
        ("Kd 1 0 0\nTr 0.25", (1, 0, 0, 0.75)),
        ("Kd 1 0 0\nTr 1.0\nd 0.5 # both", (1, 0, 0, 0.5)),
        ("Kd 1 0 0\nd -halo 0.5", (1, 0, 0, 0.5)),
        ("Kd 1 0 0\nd 1.5", RED),
        ("Kd 1 0 0\nd 1\nTr 0", RED),
        ("map_Kd rgb.png\nd 0.5", (0, 0, 1, 0.5)),
        ("map_Kd rgba.png", (0, 0, 1, 0.2)),
        ("map_Kd rgba.png\nd 0.5", (0, 0, 1, 0.1)),
        ("map_Kd rgba.png\nmap_d rgba.png", (0, 0, 1, 0.2)),
        ("map_Kd rgba.png\nmap_d gray.png", (0, 0, 1, 0.4)),
        ("map_Kd rgb.png\nmap_d gray.png", (0, 0, 1, 0.4)),
        ("map_Kd rgb.png\nmap_d -imfchan m rgba.png\nd 0.5", (0, 0, 1, 0.1)),
        ("map_Kd rgb.png\nmap_d rgb.png", (0, 0, 1, 0.0722)),
        ("Kd 1 0 0\nmap_d gray.png", (1, 0, 0, 0.4)),
    ],
)
def test_opacity_is_the_fourth_channel(tmp_path, statements, expected):
    write_image(tmp_path / "rgb.png", BLUE)
    write_image(tmp_path / "rgba.png", (0, 0, 1, 0.2), mode="RGBA")
    write_image(tmp_path / "gray.png", 102, mode="L")
    library = f"newmtl opaque\nKd 0 1 0\nnewmtl m\n{statements}\n"
    file = read(tmp_path, f"{SQUARE}{UV}usemtl m\nf 1/1 2/2 3/3\nusemtl opaque\nf 1/1 3/3 4/4\n", library)
    texture = file.mesh.textures
    np.testing.assert_allclose(texels(texture, 1), [[expected]], atol=1e-6)
    np.testing.assert_array_equal(texels(texture, 0), [[(0, 1, 0, 1)[: len(expected)]]])
    assert texture.alpha == ("blend" if len(expected) == 4 else None)
    assert file.left_out == ()


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        ("map_Kd rgb.png\nmap_d gone.png", "the opacity map 'gone.png' of material 'm', which does not exist"),
        (
            "map_Kd rgb.png\nmap_d wide.png",
            "the opacity map 'wide.png' of material 'm', whose size is not that of its image",
        ),
    ],
)
def test_opacity_map_that_cannot_be_applied_is_named(tmp_path, statements, named):
    write_image(tmp_path / "rgb.png", BLUE)
    write_image(tmp_path / "wide.png", 0, 255, mode="L")
    file = read(tmp_path, f"{SQUARE}{UV}usemtl m\n{FACES}", f"newmtl m\n{statements}\n")
    np.testing.assert_array_equal(file.mesh.textures.images, [[BLUE]])
    assert file.left_out == (named,)


def test_opacity_map_without_image_has_its_own_texels(tmp_path):
    write_image(tmp_path / "wide.png", 0, 255, mode="L")
    texture = read(tmp_path, f"{SQUARE}{UV}usemtl m\n{FACES}", "newmtl m\nKd 1 0 0\nmap_d wide.png\n").mesh.textures
    np.testing.assert_allclose(texture.images, [[(1, 0, 0, 0), (1, 0, 0, 1)]], atol=1e-6)


def test_saved_opacity_is_restored_exactly(tmp_path):
    plane = jnr.shapes.plane()
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 2, 4)).astype(np.float32) / np.float32(255))
    texture = jnr.UVTexture(image, plane.vertices[:, :2], alpha="blend")
    jnr.save(tmp_path / "a.obj", plane._replace(textures=texture))
    assert "map_d a_0.png" in (tmp_path / "a.mtl").read_text()
    back = jnr.load(tmp_path / "a.obj").textures
    np.testing.assert_array_equal(back.images, image)
    assert back.alpha == "blend"


@pytest.mark.validation
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": "mask"}, r"alpha must be 'blend' to be saved as \.obj, got 'mask'\."),
        (
            {"wrap": (("repeat", "clamp"),)},
            r"wrap must be 'repeat' or 'clamp' to be saved as \.obj, got \('repeat', 'clamp'\)\.",
        ),
    ],
)
def test_texture_that_obj_files_cannot_store_is_an_error_and_writes_nothing(tmp_path, changes, message):
    plane = jnr.shapes.plane()
    texture = jnr.UVTexture(jnp.ones((1, 1, 4)), plane.vertices[:, :2], **changes)
    with pytest.raises(ValueError, match=f"^{message}"):
        jnr.save(tmp_path / "a.obj", plane._replace(textures=texture))
    assert not list(tmp_path.iterdir())


# --- bounds


@pytest.mark.validation
def test_options_of_an_image_take_linear_time(tmp_path):
    # At the limit of a line, in 200 materials: 13 MB.
    words = "-bm 1 " * 10920
    library = "".join(f"newmtl {k}\nmap_Kd {words}\n" for k in range(200))
    (tmp_path / "a.mtl").write_text(library)
    text = "mtllib a.mtl\n" + SQUARE + "usemtl 0\nf 1 2 3\n"
    with pytest.raises(ValueError, match="a material whose map_Kd has no image name"):
        read(tmp_path, text)


def test_library_of_short_lines_takes_little_memory():
    content = b"newmtl m\nKd 1 0 0\n" + b"d 1\n" * 2**15 + b"\n" * 2**17
    materials = {}
    tracemalloc.start()
    _obj._read_materials(content, materials)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert materials == {b"m": {b"kd": b"1 0 0", b"d": b"1"}}
    # The content with one kind of line ends, but no list of lines.
    assert peak < 2 * len(content)


@pytest.mark.validation
def test_opacity_of_a_shared_image_counts_its_texels(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png", *[RED] * 50)
    monkeypatch.setattr(_parts, "MAX_PIXELS", 200)
    library = "".join(f"newmtl {k}\nmap_Kd a.png\nd 0.5\n" for k in range(4))
    faces = "".join(f"usemtl {k}\nf 1/1 2/2 3/3\n" for k in range(4))
    with pytest.raises(ValueError, match="images must have at most 200 pixels in all, got 250"):
        read(tmp_path, SQUARE + UV + faces, library)


def test_images_that_materials_share_stay_shared(tmp_path):
    write_image(tmp_path / "a.png", RED)
    library = "newmtl a\nmap_Kd a.png\nnewmtl b\nmap_Kd a.png\nnewmtl c\nd 0.5\n"
    faces = "".join(f"usemtl {name}\nf 1/1 2/2 3/3\n" for name in "abc")
    images = read(tmp_path, SQUARE + UV + faces, library).mesh.textures.images
    assert images[0] is images[1]
    np.testing.assert_array_equal(images[0], [[(1, 0, 0, 1)]])
