import builtins
import importlib
import json
import struct

import jax.numpy as jnp
import numpy as np
import pytest

import jnr

trimesh = pytest.importorskip("trimesh", reason="mesh files need the io extra")

ENDINGS = [".obj", ".ply", ".stl", ".off", ".glb"]
WITH_COLORS = [".obj", ".ply", ".glb"]


def odd_mesh(colors=False):
    """Vertices that any merging or sorting would change: a doubled one, an unused one, nine digits each."""
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(9, 3)).astype(np.float32) * np.float32(10) ** rng.integers(-4, 4, (9, 1))
    vertices = vertices.astype(np.float32)
    vertices[5] = vertices[2]
    faces = np.array([[7, 1, 4], [0, 5, 2], [3, 1, 0], [2, 7, 8], [1, 7, 4]], np.int32)  # 6 is unused
    textures = rng.integers(0, 256, (9, 3)).astype(np.float32) / 255 if colors else None
    return jnr.Mesh(jnp.asarray(vertices), jnp.asarray(faces), None if textures is None else jnp.asarray(textures))


def from_lowest(faces):
    """Faces turned so that the lowest index comes first, which keeps their winding, as sorted lists."""
    return sorted(np.roll(face, -np.argmin(face)).tolist() for face in np.asarray(faces))


def written(tmp_path, name, content):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content)
    return path


# --- round trips


@pytest.mark.parametrize(
    ("ending", "colors"),
    [(".obj", False), (".ply", False), (".off", False), (".glb", False), *((e, True) for e in WITH_COLORS)],
)
def test_saved_mesh_comes_back_exactly(tmp_path, ending, colors):
    mesh = odd_mesh(colors)
    jnr.save(tmp_path / f"mesh{ending}", mesh)
    back = jnr.load(tmp_path / f"mesh{ending}")
    np.testing.assert_array_equal(back.vertices, mesh.vertices)
    np.testing.assert_array_equal(back.faces, mesh.faces)
    assert back.vertices.dtype == jnp.float32
    assert back.faces.dtype == jnp.int32
    if not colors:
        assert back.textures is None
    else:
        assert back.textures.dtype == jnp.float32
        # Multiples of 1/255 in float32, so equal numbers after rounding to 8 bits are equal to the last bit or so
        np.testing.assert_allclose(back.textures, mesh.textures, atol=1e-7)


def test_saved_stl_comes_back_with_three_vertices_a_face(tmp_path):
    mesh = odd_mesh()
    jnr.save(tmp_path / "mesh.stl", mesh)
    back = jnr.load(tmp_path / "mesh.stl")
    np.testing.assert_array_equal(back.faces, np.arange(15).reshape(5, 3))
    np.testing.assert_array_equal(back.vertices, np.asarray(mesh.vertices)[np.asarray(mesh.faces)].reshape(-1, 3))
    assert back.textures is None


@pytest.mark.parametrize("ending", WITH_COLORS)
def test_colors_are_clipped_and_rounded_to_eight_bits(tmp_path, ending):
    textures = jnp.linspace(-0.5, 1.5, 27).reshape(9, 3)
    jnr.save(tmp_path / f"mesh{ending}", odd_mesh()._replace(textures=textures))
    back = jnr.load(tmp_path / f"mesh{ending}").textures
    assert np.abs(np.asarray(back) - np.clip(textures, 0, 1)).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("ending", [".off", ".stl"])
def test_colors_are_refused_by_formats_without_them(tmp_path, ending):
    with pytest.raises(ValueError, match=rf"^textures cannot be saved as {ending}: use one of \.obj, \.ply, \.glb"):
        jnr.save(tmp_path / f"mesh{ending}", odd_mesh(colors=True))
    assert not (tmp_path / f"mesh{ending}").exists()


@pytest.mark.parametrize("ending", ENDINGS)
def test_shape_of_the_library_survives_a_file(tmp_path, ending):
    mesh = jnr.shapes.icosphere(1)
    jnr.save(tmp_path / f"mesh{ending}", mesh)
    back = jnr.load(tmp_path / f"mesh{ending}")
    np.testing.assert_array_equal(back.vertices[back.faces], mesh.vertices[mesh.faces])


def test_ending_may_be_upper_case_and_path_a_string(tmp_path):
    mesh = jnr.shapes.cube()
    jnr.save(str(tmp_path / "MESH.PLY"), mesh)
    np.testing.assert_array_equal(jnr.load(str(tmp_path / "MESH.PLY")).faces, mesh.faces)


# --- hand-written files


def test_obj_polygons_become_triangle_fans(tmp_path):
    path = written(
        tmp_path,
        "quads.obj",
        "# a quad, a pentagon with texture and normal indices, a triangle counted from the end\n"
        "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 2 2 2\nvt 0 0\nvn 0 0 1\n"
        "f 1 2 3 4\nf 1/1/1 2/1/1 3/1/1 4/1/1 5/1/1\nf -5 -4 -3\n",
    )
    mesh = jnr.load(path)
    assert mesh.vertices.shape == (5, 3)
    expected = [[0, 1, 2], [0, 2, 3], [0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 1, 2]]
    assert from_lowest(mesh.faces) == sorted(expected)


@pytest.mark.parametrize("ending", [".off", ".ply"])
def test_quads_become_triangles(tmp_path, ending):
    if ending == ".off":
        content = "OFF\n4 1 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n"
    else:
        content = (
            "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
            "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
            "0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n"
        )
    mesh = jnr.load(written(tmp_path, f"quad{ending}", content))
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    assert from_lowest(mesh.faces) == [[0, 1, 2], [0, 2, 3]]


def test_obj_order_of_vertices_is_kept_with_texture_coordinates_and_seams(tmp_path):
    # The second face sees other texture coordinates at the shared vertices; that must not split or move them.
    path = written(
        tmp_path,
        "seam.obj",
        "mtllib none.mtl\nv 3 0 0\nv 1 0 0\nv 2 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0.5 0.5\n"
        "usemtl skin\nf 3/1 1/2 2/3\nf 2/4 4/1 3/2\n",
    )
    mesh = jnr.load(path)
    np.testing.assert_array_equal(mesh.vertices, [[3, 0, 0], [1, 0, 0], [2, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(mesh.faces, [[2, 0, 1], [1, 3, 2]])
    assert mesh.textures is None


def test_obj_objects_and_groups_are_put_together(tmp_path):
    path = written(
        tmp_path,
        "two.obj",
        "o first\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\no second\nv 0 0 5\nv 1 0 5\nv 0 1 5\ng part\nf 4 6 5\n",
    )
    mesh = jnr.load(path)
    np.testing.assert_array_equal(mesh.vertices[:, 2], [0, 0, 0, 5, 5, 5])
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [3, 5, 4]])


def two_object_scene(path, first_colors=None, second_colors=None):
    scene = trimesh.Scene()
    cube = jnr.shapes.cube()
    for name, shift, colors in (("a", 0.0, first_colors), ("b", 3.0, second_colors)):
        part = trimesh.Trimesh(
            np.asarray(cube.vertices), np.asarray(cube.faces), vertex_colors=colors, process=False, maintain_order=True
        )
        scene.add_geometry(
            part, node_name=name, geom_name=name, transform=trimesh.transformations.translation_matrix([shift, 0, 0])
        )
    scene.export(path)
    return cube


@pytest.mark.parametrize("ending", [".glb", ".gltf"])
def test_scene_with_several_objects_is_put_together_where_it_stands(tmp_path, ending):
    path = tmp_path / f"scene{ending}"
    if ending == ".gltf":
        cube = two_object_scene(tmp_path / "scene.glb")
        files = trimesh.load_scene(tmp_path / "scene.glb", process=False).export(file_type="gltf")
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        path = tmp_path / "model.gltf"
    else:
        cube = two_object_scene(path)
    mesh = jnr.load(path)
    assert mesh.vertices.shape == (16, 3)
    assert mesh.faces.shape == (24, 3)
    middles = sorted(
        np.asarray(mesh.vertices[part].mean(axis=0)).round(6).tolist() for part in np.split(np.arange(16), 2)
    )
    assert middles == [[0, 0, 0], [3, 0, 0]]
    for part, faces in enumerate(np.split(np.asarray(mesh.faces), 2)):
        np.testing.assert_array_equal(faces - 8 * part, cube.faces)


def test_objects_drawn_twice_come_twice(tmp_path):
    scene = trimesh.Scene()
    box = trimesh.creation.box()
    scene.add_geometry(box, node_name="a", geom_name="box")
    scene.graph.update(frame_to="b", matrix=trimesh.transformations.translation_matrix([5, 0, 0]), geometry="box")
    scene.export(tmp_path / "twice.glb")
    mesh = jnr.load(tmp_path / "twice.glb")
    assert len(mesh.faces) == 24
    assert float(mesh.vertices[:, 0].max()) == 5.5


def test_colors_of_scene_are_put_together(tmp_path):
    red = np.tile(np.uint8([255, 0, 0, 255]), (8, 1))
    blue = np.tile(np.uint8([0, 0, 255, 255]), (8, 1))
    two_object_scene(tmp_path / "scene.glb", red, blue)
    mesh = jnr.load(tmp_path / "scene.glb")
    order = np.asarray(mesh.vertices[:, 0]) > 1.5
    np.testing.assert_array_equal(np.asarray(mesh.textures)[order], np.tile([0, 0, 1], (8, 1)))
    np.testing.assert_array_equal(np.asarray(mesh.textures)[~order], np.tile([1, 0, 0], (8, 1)))


def test_colors_of_part_of_a_scene_are_left_out(tmp_path):
    two_object_scene(tmp_path / "scene.glb", np.tile(np.uint8([255, 0, 0, 255]), (8, 1)), None)
    assert jnr.load(tmp_path / "scene.glb").textures is None


def test_loaded_mesh_can_be_drawn(tmp_path):
    jnr.save(tmp_path / "mesh.ply", jnr.shapes.cube()._replace(textures=jnp.full((8, 3), 0.6)))
    mesh = jnr.load(tmp_path / "mesh.ply")
    image = jnr.render(mesh.vertices, mesh.faces, mesh.textures, lights=(), image_size=8)
    # The texture as it is: 153 / 255, in float32
    np.testing.assert_allclose(image.rgb[4, 4], 0.6, atol=1e-6)


# --- files that are not there, not meshes, or broken


@pytest.mark.validation
@pytest.mark.parametrize("ending", [".obj", ".glb"])
def test_missing_file_is_an_error_that_names_the_path(tmp_path, ending):
    path = tmp_path / f"absent{ending}"
    with pytest.raises(FileNotFoundError, match=r"^path must be an existing file, got '.*absent\.(obj|glb)'\.$"):
        jnr.load(path)


@pytest.mark.validation
def test_folder_is_no_file(tmp_path):
    (tmp_path / "folder.obj").mkdir()
    with pytest.raises(FileNotFoundError, match=r"^path must be an existing file, got '.*folder\.obj'\.$"):
        jnr.load(tmp_path / "folder.obj")


@pytest.mark.validation
@pytest.mark.parametrize("name", ["mesh.xyz", "mesh", "mesh.obj.gz", ".obj"])
def test_unknown_ending_is_an_error_that_lists_the_known_ones(tmp_path, name):
    path = written(tmp_path, name, "v 0 0 0\n")
    with pytest.raises(ValueError, match=r"^path must end in one of \.obj, \.ply, \.stl, \.off, \.gltf, \.glb, got '"):
        jnr.load(path)
    with pytest.raises(ValueError, match=r"^path must end in one of \.obj, \.ply, \.stl, \.off, \.glb, got '"):
        jnr.save(path, jnr.shapes.cube())
    assert path.read_text() == "v 0 0 0\n"


@pytest.mark.validation
@pytest.mark.parametrize("ending", [*ENDINGS, ".gltf"])
@pytest.mark.parametrize("content", [b"", b"\n", b"garbage \x00\xff\xfe" * 20], ids=["empty", "blank", "garbage"])
def test_file_that_is_no_mesh_is_an_error_that_names_the_path(tmp_path, ending, content):
    path = written(tmp_path, f"broken{ending}", content)
    with pytest.raises(ValueError, match=r"^path must be a .*broken\."):
        jnr.load(path)


@pytest.mark.validation
@pytest.mark.parametrize("ending", [".ply", ".stl", ".off", ".glb"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_truncated_file_is_an_error_that_names_the_path(tmp_path, ending, kept):
    whole = tmp_path / f"whole{ending}"
    jnr.save(whole, jnr.shapes.icosphere(1))
    content = whole.read_bytes()
    path = written(tmp_path, f"broken{ending}", content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=r"^path must be a .*broken\."):
        jnr.load(path)


@pytest.mark.validation
@pytest.mark.parametrize("content", ["# nothing\n", "v 0 0 0\nv 1 0 0\nv 0 1 0\n", "v 0 0 0\nv 1 0 0\nl 1 2\n"])
def test_obj_without_triangles_is_an_error(tmp_path, content):
    path = written(tmp_path, "points.obj", content)
    with pytest.raises(ValueError, match=r"^path must be a .*points\.obj'"):
        jnr.load(path)


@pytest.mark.validation
@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("ending", [".obj", ".ply", ".off"])
def test_vertex_that_is_not_finite_is_an_error(tmp_path, ending, number):
    vertices = f"0 0 0\n1 0 0\n0 {number} 0\n"
    content = {
        ".obj": "".join(f"v {line}\n" for line in vertices.splitlines()) + "f 1 2 3\n",
        ".off": f"OFF\n3 1 0\n{vertices}3 0 1 2\n",
        ".ply": "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face 1\nproperty list uchar int vertex_indices\nend_header\n{vertices}3 0 1 2\n",
    }[ending]
    path = written(tmp_path, f"broken{ending}", content)
    with pytest.raises(ValueError, match=r"^path must be a mesh with finite vertices, got NaN or infinity in '"):
        jnr.load(path)


@pytest.mark.validation
@pytest.mark.parametrize("ending", [".stl", ".glb"])
def test_binary_vertex_that_is_not_finite_is_an_error(tmp_path, ending):
    mesh = jnr.shapes.cube()
    jnr.save(tmp_path / f"whole{ending}", mesh._replace(vertices=mesh.vertices.at[3, 1].set(123.0)))
    content = (tmp_path / f"whole{ending}").read_bytes()
    assert struct.pack("<f", 123.0) in content
    broken = content.replace(struct.pack("<f", 123.0), struct.pack("<f", np.nan))
    path = written(tmp_path, f"broken{ending}", broken)
    with pytest.raises(ValueError, match=r"^path must be a mesh with finite vertices, got NaN or infinity in '"):
        jnr.load(path)


@pytest.mark.validation
def test_vertex_too_large_for_float32_is_an_error(tmp_path):
    path = written(tmp_path, "large.obj", "v 0 0 0\nv 1e39 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(ValueError, match=r"^path must be a mesh with finite vertices, got .*large\.obj'"):
        jnr.load(path)


@pytest.mark.validation
@pytest.mark.parametrize("ending", [".obj", ".ply", ".off"])
@pytest.mark.parametrize("index", [3, 4000000])
def test_face_index_out_of_range_is_an_error(tmp_path, ending, index):
    vertices = "0 0 0\n1 0 0\n0 1 0\n"
    content = {
        ".obj": "".join(f"v {line}\n" for line in vertices.splitlines()) + f"f 1 2 {index + 1}\n",
        ".off": f"OFF\n3 1 0\n{vertices}3 0 1 {index}\n",
        ".ply": "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face 1\nproperty list uchar int vertex_indices\nend_header\n{vertices}3 0 1 {index}\n",
    }[ending]
    path = written(tmp_path, f"broken{ending}", content)
    with pytest.raises(ValueError, match=r"^path must be a .*broken\."):
        jnr.load(path)


@pytest.mark.validation
@pytest.mark.parametrize("ending", [".ply", ".off"])
def test_negative_face_index_is_an_error(tmp_path, ending):
    vertices = "0 0 0\n1 0 0\n0 1 0\n"
    content = {
        ".off": f"OFF\n3 1 0\n{vertices}3 0 1 -1\n",
        ".ply": "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face 1\nproperty list uchar int vertex_indices\nend_header\n{vertices}3 0 1 -1\n",
    }[ending]
    path = written(tmp_path, f"broken{ending}", content)
    with pytest.raises(ValueError, match=r"^path must be a .*broken\."):
        jnr.load(path)


@pytest.mark.validation
def test_face_index_out_of_range_in_one_object_of_a_scene_is_an_error(tmp_path):
    # Within the scene's 16 vertices, but not within the object's own 8.
    two_object_scene(tmp_path / "scene.glb")
    content = (tmp_path / "scene.glb").read_bytes()
    (length,) = struct.unpack("<I", content[12:16])
    header = json.loads(content[20 : 20 + length])
    accessor = header["meshes"][0]["primitives"][0]["indices"]
    view = header["bufferViews"][header["accessors"][accessor]["bufferView"]]
    start = 20 + length + 8 + view.get("byteOffset", 0) + header["accessors"][accessor].get("byteOffset", 0)
    assert header["accessors"][accessor]["componentType"] == 5125  # unsigned int
    broken = content[:start] + struct.pack("<I", 9) + content[start + 4 :]
    path = written(tmp_path, "broken.glb", broken)
    with pytest.raises(ValueError, match=r"^path must be a .*broken\.glb"):
        jnr.load(path)


@pytest.mark.validation
def test_gltf_whose_buffer_is_missing_is_an_error(tmp_path):
    files = trimesh.Scene([trimesh.creation.box()]).export(file_type="gltf")
    path = written(tmp_path, "broken.gltf", files["model.gltf"])
    with pytest.raises(ValueError, match=r"^path must be a .*broken\.gltf"):
        jnr.load(path)


# --- saving


@pytest.mark.validation
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"textures": np.zeros((12, 2, 2, 2, 3))}, ValueError, r"textures must be vertex colours \(vertices, 3\)"),
        ({"textures": np.zeros((8, 4))}, ValueError, r"textures must be vertex colours \(vertices, 3\)"),
        ({"textures": np.zeros((7, 3))}, ValueError, r"textures must have shape \(8, 3\), got \(7, 3\)\."),
        ({"vertices": np.zeros((8, 2))}, ValueError, r"vertices must have shape \(vertices, 3\), got \(8, 2\)\."),
        ({"faces": np.full((2, 3), 8)}, ValueError, r"faces must hold vertex indices from 0 to 7 .*, got 8 to 8\."),
        ({"faces": np.zeros((2, 3))}, TypeError, r"faces must be integers, got dtype float"),
    ],
    ids=["cubes", "four_channels", "seven_colors", "flat_vertices", "index", "float_faces"],
)
def test_mesh_that_cannot_be_saved_is_an_error_and_writes_nothing(tmp_path, change, error, message):
    with pytest.raises(error, match=f"^{message}"):
        jnr.save(tmp_path / "mesh.ply", jnr.shapes.cube()._replace(**change))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ENDINGS)
def test_padding_faces_are_not_saved(tmp_path, ending):
    mesh = jnr.shapes.cube()
    padded = jnp.concatenate([mesh.faces, jnp.full((2, 3), -1, jnp.int32)])
    jnr.save(tmp_path / f"mesh{ending}", mesh._replace(faces=padded))
    assert len(jnr.load(tmp_path / f"mesh{ending}").faces) == 12


@pytest.mark.validation
def test_missing_trimesh_is_an_error_that_says_how_to_get_it(tmp_path, monkeypatch):
    path = written(tmp_path, "mesh.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    monkeypatch.setitem(importlib.import_module("sys").modules, "trimesh", None)
    with pytest.raises(ImportError, match=r'pip install "jnr\[io\]"'):
        jnr.load(path)
    with pytest.raises(ImportError, match=r'pip install "jnr\[io\]"'):
        jnr.save(tmp_path / "other.obj", jnr.shapes.cube())


def test_loading_opens_no_other_file(tmp_path, monkeypatch):
    written(tmp_path, "skin.mtl", "newmtl skin\nmap_Kd skin.png\n")
    path = written(tmp_path, "mesh.obj", "mtllib skin.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl skin\nf 1 2 3\n")
    opened = []
    real = builtins.open
    monkeypatch.setattr(builtins, "open", lambda file, *a, **k: opened.append(str(file)) or real(file, *a, **k))
    jnr.load(path)
    assert any("mesh.obj" in name for name in opened)
    assert not any("skin" in name for name in opened)
