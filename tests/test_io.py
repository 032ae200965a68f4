import base64
import builtins
import dataclasses
import importlib
import io
import json
import struct
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnr

trimesh = pytest.importorskip("trimesh", reason="it makes and reads scenes")
pil = pytest.importorskip("PIL.Image", reason="textures need the io extra")

ENDINGS = [".obj", ".ply", ".stl", ".off", ".glb"]
WITH_COLORS = [".obj", ".ply", ".glb"]


def unsorted_mesh(colors=False):
    """A mesh that merging or sorting would change: one duplicate vertex, one unused, nine digits each."""
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(9, 3)).astype(np.float32) * np.float32(10) ** rng.integers(-4, 4, (9, 1))
    vertices = vertices.astype(np.float32)
    vertices[5] = vertices[2]
    faces = np.array([[7, 1, 4], [0, 5, 2], [3, 1, 0], [2, 7, 8], [1, 7, 4]], np.int32)  # 6 is unused
    textures = rng.integers(0, 256, (9, 3)).astype(np.float32) / 255 if colors else None
    return jnr.Mesh(jnp.asarray(vertices), jnp.asarray(faces), None if textures is None else jnp.asarray(textures))


def canonical_faces(faces):
    """Sorted list of faces, each rotated to start at its lowest index, which keeps the orientation."""
    return sorted(np.roll(face, -np.argmin(face)).tolist() for face in np.asarray(faces))


def write_file(tmp_path, name, content):
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
def test_saved_mesh_is_restored_exactly(tmp_path, ending, colors):
    mesh = unsorted_mesh(colors)
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
        # Multiples of 1/255: equal 8-bit integers, converted to float32.
        np.testing.assert_allclose(np.asarray(back.textures), np.asarray(mesh.textures), atol=1e-7)


def test_saved_stl_is_loaded_with_three_vertices_per_face(tmp_path):
    mesh = unsorted_mesh()
    jnr.save(tmp_path / "mesh.stl", mesh)
    back = jnr.load(tmp_path / "mesh.stl")
    np.testing.assert_array_equal(back.faces, np.arange(15).reshape(5, 3))
    np.testing.assert_array_equal(back.vertices, np.asarray(mesh.vertices)[np.asarray(mesh.faces)].reshape(-1, 3))
    assert back.textures is None


@pytest.mark.parametrize("ending", WITH_COLORS)
def test_colors_are_clipped_and_rounded_to_eight_bits(tmp_path, ending):
    textures = jnp.linspace(-0.5, 1.5, 27).reshape(9, 3)
    jnr.save(tmp_path / f"mesh{ending}", unsorted_mesh()._replace(textures=textures))
    back = jnr.load(tmp_path / f"mesh{ending}").textures
    assert np.abs(np.asarray(back) - np.clip(textures, 0, 1)).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("ending", [".off", ".stl"])
def test_colors_are_rejected_by_formats_without_them(tmp_path, ending):
    with pytest.raises(
        ValueError, match=rf"^textures must be None to be saved as {ending}, got some: use one of \.obj, \.ply, \.glb"
    ):
        jnr.save(tmp_path / f"mesh{ending}", unsorted_mesh(colors=True))
    assert not (tmp_path / f"mesh{ending}").exists()


@pytest.mark.parametrize("ending", ENDINGS)
def test_corners_of_a_library_shape_are_restored(tmp_path, ending):
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
    path = write_file(
        tmp_path,
        "quads.obj",
        "# a quad, a pentagon with texture and normal indices, a triangle counted from the end\n"
        "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 2 2 2\nvt 0 0\nvn 0 0 1\n"
        "f 1 2 3 4\nf 1/1/1 2/1/1 3/1/1 4/1/1 5/1/1\nf -5 -4 -3\n",
    )
    with pytest.warns(UserWarning, match="normals, which some corners lack"):
        mesh = jnr.load(path)
    assert mesh.vertices.shape == (5, 3)
    expected = [[0, 1, 2], [0, 2, 3], [0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 1, 2]]
    assert canonical_faces(mesh.faces) == sorted(expected)


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
    mesh = jnr.load(write_file(tmp_path, f"quad{ending}", content))
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    assert canonical_faces(mesh.faces) == [[0, 1, 2], [0, 2, 3]]


def test_obj_seams_do_not_split_or_reorder_vertices(tmp_path):
    # The two faces have different texture coordinates at the shared vertices.
    path = write_file(
        tmp_path,
        "seam.obj",
        "v 3 0 0\nv 1 0 0\nv 2 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0.5 0.5\nf 3/1 1/2 2/3\nf 2/4 4/1 3/2\n",
    )
    mesh = jnr.load(path, textures=False)
    np.testing.assert_array_equal(mesh.vertices, [[3, 0, 0], [1, 0, 0], [2, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(mesh.faces, [[2, 0, 1], [1, 3, 2]])
    assert mesh.textures is None


def test_obj_objects_and_groups_are_concatenated(tmp_path):
    path = write_file(
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
def test_objects_of_a_scene_are_concatenated_with_their_transforms(tmp_path, ending):
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


def test_object_instanced_twice_is_loaded_twice(tmp_path):
    scene = trimesh.Scene()
    box = trimesh.creation.box()
    scene.add_geometry(box, node_name="a", geom_name="box")
    scene.graph.update(frame_to="b", matrix=trimesh.transformations.translation_matrix([5, 0, 0]), geometry="box")
    scene.export(tmp_path / "twice.glb")
    mesh = jnr.load(tmp_path / "twice.glb")
    assert len(mesh.faces) == 24
    assert float(mesh.vertices[:, 0].max()) == 5.5


def test_colors_of_a_scene_are_concatenated(tmp_path):
    red = np.tile(np.array([255, 0, 0, 255], np.uint8), (8, 1))
    blue = np.tile(np.array([0, 0, 255, 255], np.uint8), (8, 1))
    two_object_scene(tmp_path / "scene.glb", red, blue)
    mesh = jnr.load(tmp_path / "scene.glb")
    order = np.asarray(mesh.vertices[:, 0]) > 1.5
    np.testing.assert_array_equal(np.asarray(mesh.textures)[order], np.tile([0, 0, 1], (8, 1)))
    np.testing.assert_array_equal(np.asarray(mesh.textures)[~order], np.tile([1, 0, 0], (8, 1)))


def test_objects_without_colors_are_white_beside_coloured_ones(tmp_path):
    two_object_scene(tmp_path / "scene.glb", np.tile(np.array([255, 0, 0, 255], np.uint8), (8, 1)), None)
    mesh = jnr.load(tmp_path / "scene.glb")
    is_second = np.asarray(mesh.vertices[:, :1]) > 1.5
    np.testing.assert_array_equal(mesh.textures, np.where(is_second, [1, 1, 1], [1, 0, 0]))


def test_loaded_mesh_can_be_rendered(tmp_path):
    jnr.save(tmp_path / "mesh.ply", jnr.shapes.cube()._replace(textures=jnp.full((8, 3), 0.6)))
    mesh = jnr.load(tmp_path / "mesh.ply")
    image = jnr.render(mesh.vertices, mesh.faces, mesh.textures, lights=(), image_size=8)
    # 0.6 is 153 / 255, so 8 bits represent it.
    np.testing.assert_allclose(image.rgb[4, 4], 0.6, atol=1e-6)


# --- missing, invalid and truncated files


@pytest.mark.validation
@pytest.mark.parametrize("ending", [".obj", ".glb"])
def test_missing_file_is_an_error_that_names_the_path(tmp_path, ending):
    path = tmp_path / f"absent{ending}"
    with pytest.raises(FileNotFoundError, match=r"^path must be an existing file, got '.*absent\.(obj|glb)'\.$"):
        jnr.load(path)


@pytest.mark.validation
def test_folder_is_an_error_that_names_the_path(tmp_path):
    (tmp_path / "folder.obj").mkdir()
    with pytest.raises(FileNotFoundError, match=r"^path must be an existing file, got '.*folder\.obj'\.$"):
        jnr.load(tmp_path / "folder.obj")


@pytest.mark.validation
@pytest.mark.parametrize("name", ["mesh.xyz", "mesh", "mesh.obj.gz", ".obj"])
def test_unknown_ending_is_an_error_that_lists_the_known_endings(tmp_path, name):
    path = write_file(tmp_path, name, "v 0 0 0\n")
    with pytest.raises(ValueError, match=r"^path must end in one of \.obj, \.ply, \.stl, \.off, \.gltf, \.glb, got '"):
        jnr.load(path)
    with pytest.raises(ValueError, match=r"^path must end in one of \.obj, \.ply, \.stl, \.off, \.glb, got '"):
        jnr.save(path, jnr.shapes.cube())
    assert path.read_text() == "v 0 0 0\n"


@pytest.mark.validation
@pytest.mark.parametrize("ending", [*ENDINGS, ".gltf"])
@pytest.mark.parametrize("content", [b"", b"\n", b"garbage \x00\xff\xfe" * 20], ids=["empty", "blank", "garbage"])
def test_file_without_a_mesh_is_an_error_that_names_the_path(tmp_path, ending, content):
    path = write_file(tmp_path, f"broken{ending}", content)
    with pytest.raises(ValueError, match=r"^path must be a .*broken\."):
        jnr.load(path)


@pytest.mark.validation
@pytest.mark.parametrize("ending", [".ply", ".stl", ".off", ".glb"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_truncated_file_is_an_error_that_names_the_path(tmp_path, ending, kept):
    whole = tmp_path / f"whole{ending}"
    jnr.save(whole, jnr.shapes.icosphere(1))
    content = whole.read_bytes()
    path = write_file(tmp_path, f"broken{ending}", content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=r"^path must be a .*broken\."):
        jnr.load(path)


@pytest.mark.validation
@pytest.mark.parametrize("content", ["# nothing\n", "v 0 0 0\nv 1 0 0\nv 0 1 0\n", "v 0 0 0\nv 1 0 0\nl 1 2\n"])
def test_obj_without_triangles_is_an_error(tmp_path, content):
    path = write_file(tmp_path, "points.obj", content)
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
    path = write_file(tmp_path, f"broken{ending}", content)
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
    path = write_file(tmp_path, f"broken{ending}", broken)
    with pytest.raises(ValueError, match=r"^path must be a mesh with finite vertices, got NaN or infinity in '"):
        jnr.load(path)


@pytest.mark.validation
def test_vertex_too_large_for_float32_is_an_error(tmp_path):
    path = write_file(tmp_path, "large.obj", "v 0 0 0\nv 1e39 0 0\nv 0 1 0\nf 1 2 3\n")
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
    path = write_file(tmp_path, f"broken{ending}", content)
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
    path = write_file(tmp_path, f"broken{ending}", content)
    with pytest.raises(ValueError, match=r"^path must be a .*broken\."):
        jnr.load(path)


@pytest.mark.validation
def test_face_index_out_of_range_in_one_object_of_a_scene_is_an_error(tmp_path):
    # In range for the 16 vertices of the scene, out of range for the 8 of the object.
    two_object_scene(tmp_path / "scene.glb")
    content = (tmp_path / "scene.glb").read_bytes()
    (length,) = struct.unpack("<I", content[12:16])
    header = json.loads(content[20 : 20 + length])
    accessor = header["meshes"][0]["primitives"][0]["indices"]
    view = header["bufferViews"][header["accessors"][accessor]["bufferView"]]
    start = 20 + length + 8 + view.get("byteOffset", 0) + header["accessors"][accessor].get("byteOffset", 0)
    assert header["accessors"][accessor]["componentType"] == 5125  # unsigned int
    broken = content[:start] + struct.pack("<I", 9) + content[start + 4 :]
    path = write_file(tmp_path, "broken.glb", broken)
    with pytest.raises(ValueError, match=r"^path must be a .*broken\.glb"):
        jnr.load(path)


@pytest.mark.validation
def test_gltf_whose_buffer_is_missing_is_an_error(tmp_path):
    files = trimesh.Scene([trimesh.creation.box()]).export(file_type="gltf")
    path = write_file(tmp_path, "broken.gltf", files["model.gltf"])
    with pytest.raises(ValueError, match=r"^path must be a .*broken\.gltf"):
        jnr.load(path)


@pytest.mark.validation
def test_name_too_long_for_a_file_is_an_error(tmp_path):
    # Whether is_file raises depends on the version of Python.
    message = r"^path must be (a valid file name|an existing file), got '"
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        jnr.load(tmp_path / ("a" * 300 + ".obj"))


# --- saving


@pytest.mark.validation
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"textures": np.zeros((11, 2, 2, 2, 3))}, ValueError, r"textures must have shape \(12, 2, 2, 2, 3\), got"),
        ({"textures": np.zeros((12, 2, 2, 2, 1))}, ValueError, r"textures must be vertex colours \(vertices, 3\)"),
        ({"textures": np.zeros((8, 4))}, ValueError, r"textures must be vertex colours \(vertices, 3\)"),
        ({"textures": np.zeros((7, 3))}, ValueError, r"textures must have shape \(8, 3\), got \(7, 3\)\."),
        ({"vertices": np.zeros((8, 2))}, ValueError, r"vertices must have shape \(vertices, 3\), got \(8, 2\)\."),
        ({"faces": np.full((2, 3), 8)}, ValueError, r"faces must hold vertex indices from 0 to 7 .*, got 8 to 8\."),
        ({"faces": np.zeros((2, 3))}, TypeError, r"faces must be integers, got dtype float"),
        ({"vertices": np.full((8, 3), np.inf)}, ValueError, r"vertices must be finite .*, got NaN or infinity\."),
        ({"textures": np.full((8, 3), np.nan)}, ValueError, r"textures must be finite .*, got NaN or infinity\."),
    ],
    ids=[
        "eleven_cubes",
        "grey_cubes",
        "four_channels",
        "seven_colors",
        "flat_vertices",
        "index",
        "float_faces",
        "infinite",
        "nan_colors",
    ],
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
def test_glb_without_faces_is_not_saved(tmp_path):
    mesh = jnr.shapes.cube()
    with pytest.raises(ValueError, match=r"^faces must hold at least one face to be saved as \.glb, got none\."):
        jnr.save(tmp_path / "mesh.glb", mesh._replace(faces=jnp.full((12, 3), -1)))
    assert not list(tmp_path.iterdir())


def test_loading_without_textures_opens_no_other_file(tmp_path, monkeypatch):
    write_file(tmp_path, "skin.mtl", "newmtl skin\nmap_Kd skin.png\n")
    path = write_file(tmp_path, "mesh.obj", "mtllib skin.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl skin\nf 1 2 3\n")
    opened = []
    real = builtins.open
    monkeypatch.setattr(builtins, "open", lambda file, *a, **k: opened.append(str(file)) or real(file, *a, **k))
    monkeypatch.setattr(io, "open", builtins.open)
    assert jnr.load(path, textures=False).textures is None
    assert any("mesh.obj" in name for name in opened)
    assert not any("skin" in name for name in opened)


# --- textures


def unsorted_texture(images=1, channels=3, per_vertex=False, wrap: Any = "repeat"):
    """Texture coordinates outside the image, duplicate, unused, with nine digits; images of several sizes."""
    rng = np.random.default_rng(1)
    texels = [
        jnp.asarray(rng.integers(0, 256, (k + 2, 2 * k + 3, channels)).astype(np.float32) / np.float32(255))
        for k in range(images)
    ]
    uv = (rng.normal(size=(9 if per_vertex else 12, 2)) * 10.0 ** rng.integers(-6, 2, (1, 2))).astype(np.float32)
    uv[4] = uv[3]
    uv_faces = np.array([[11, 1, 4], [0, 5, 2], [3, 9, 0], [2, 7, 8], [10, 7, 4]], np.int32)  # 6 is unused
    return jnr.UVTexture(
        texels[0] if images == 1 else tuple(texels),
        jnp.asarray(uv),
        None if per_vertex else jnp.asarray(uv_faces),
        None if images == 1 else jnp.asarray([1, 0, 0, images - 1, 1], jnp.int32),
        wrap=wrap,
    )


def assert_same_texture(back, texture):
    assert isinstance(back, jnr.UVTexture)
    for name in ("images", "uv", "uv_faces", "material"):
        one, other = getattr(back, name), getattr(texture, name)
        if name == "images" and isinstance(other, tuple):
            assert isinstance(one, tuple)
            assert len(one) == len(other)
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a, b)
        elif other is None:
            assert one is None, name
        else:
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
    assert back.wrap == texture.wrap


KINDS = {
    "one_image": {},
    "one_per_vertex": {"per_vertex": True},
    "alpha": {"channels": 4},
    "three_images": {"images": 3},
    "clamped": {"wrap": "clamp"},
    "wraps": {"images": 2, "wrap": ("clamp", "repeat")},
    "unused_image": {"images": 5, "per_vertex": True},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", [".obj", ".glb"])
def test_saved_uv_texture_is_restored_exactly(tmp_path, ending, kind):
    mesh = unsorted_mesh()._replace(textures=unsorted_texture(**KINDS[kind]))
    jnr.save(tmp_path / f"my mesh{ending}", mesh)
    back = jnr.load(tmp_path / f"my mesh{ending}")
    np.testing.assert_array_equal(back.vertices, mesh.vertices)
    if kind != "one_per_vertex" or ending == ".glb":
        np.testing.assert_array_equal(back.faces, mesh.faces)
    texture: Any = mesh.textures
    if ending == ".obj" and kind == "unused_image":
        # Images that no face shows are not opened: the colour of their material, white, is in their place.
        used = set(np.asarray(texture.material).tolist())
        images = tuple(image if k in used else jnp.ones((1, 1, 3)) for k, image in enumerate(texture.images))
        assert len(used) < len(images)
        texture = dataclasses.replace(texture, images=images)
    assert_same_texture(back.textures, texture)


@pytest.mark.parametrize("wrap", ["repeat", "mirror", "clamp"])
@pytest.mark.parametrize("per_vertex", [True, False])
@pytest.mark.parametrize("channels", [3, 4])
def test_saved_ply_has_one_texture_coordinate_per_corner(tmp_path, wrap, per_vertex, channels):
    texture = unsorted_texture(channels=channels, per_vertex=per_vertex, wrap=wrap)
    mesh = unsorted_mesh()._replace(textures=texture)
    jnr.save(tmp_path / "my mesh.ply", mesh)
    assert {path.name for path in tmp_path.iterdir()} == {"my mesh.ply", "my mesh.png"}
    back = jnr.load(tmp_path / "my mesh.ply")
    np.testing.assert_array_equal(back.vertices, mesh.vertices)
    np.testing.assert_array_equal(back.faces, mesh.faces)
    np.testing.assert_array_equal(back.textures.images, texture.images)
    corners = mesh.faces if per_vertex else texture.uv_faces
    np.testing.assert_array_equal(back.textures.uv[back.textures.uv_faces], texture.uv[corners])
    assert back.textures.wrap == wrap


def test_glb_keeps_mirrored_wrap(tmp_path):
    mesh = unsorted_mesh()._replace(textures=unsorted_texture(images=3, wrap=("mirror", "clamp", "repeat")))
    jnr.save(tmp_path / "mesh.glb", mesh)
    assert_same_texture(jnr.load(tmp_path / "mesh.glb").textures, mesh.textures)


def test_obj_with_one_texture_coordinate_per_vertex_needs_no_uv_faces(tmp_path):
    mesh = unsorted_mesh()._replace(textures=unsorted_texture(per_vertex=True))
    mesh = mesh._replace(textures=jnr.UVTexture(mesh.textures.images, mesh.textures.uv, mesh.faces))
    jnr.save(tmp_path / "mesh.obj", mesh)
    assert jnr.load(tmp_path / "mesh.obj").textures.uv_faces is None


def test_textured_obj_without_faces_has_only_vertices_and_coordinates(tmp_path):
    mesh = unsorted_mesh()._replace(faces=jnp.zeros((0, 3), jnp.int32), textures=unsorted_texture(per_vertex=True))
    jnr.save(tmp_path / "mesh.obj", mesh)
    keywords = [line.split()[0] for line in (tmp_path / "mesh.obj").read_text().splitlines()]
    assert keywords == ["mtllib", *["v"] * 9, *["vt"] * 9]


@pytest.mark.parametrize("ending", [".obj", ".ply", ".glb"])
def test_every_eight_bit_texel_is_restored(tmp_path, ending):
    image = jnp.asarray(np.arange(256).reshape(16, 16, 1).repeat(3, -1).astype(np.float32) / np.float32(255))
    plane = jnr.shapes.plane()
    texture = jnr.UVTexture(image, plane.vertices[:, :2])
    jnr.save(tmp_path / f"mesh{ending}", plane._replace(textures=texture))
    np.testing.assert_array_equal(jnr.load(tmp_path / f"mesh{ending}").textures.images, image)
    np.testing.assert_array_equal(
        image, jnp.asarray((np.arange(256) / 255).astype(np.float32))[..., None].repeat(3, -1).reshape(16, 16, 3)
    )


@pytest.mark.parametrize("ending", [".obj", ".ply", ".glb"])
def test_saved_cubes_are_tiles_of_one_image(tmp_path, ending):
    mesh = unsorted_mesh()
    cubes = jnr.colors_to_cubes(jnp.linspace(0, 1, 27).reshape(9, 3), mesh.faces)
    jnr.save(tmp_path / f"mesh{ending}", mesh._replace(textures=cubes))
    back = jnr.load(tmp_path / f"mesh{ending}").textures
    expected = jnr.cubes_to_uv(cubes)
    assert np.abs(np.asarray(back.images) - np.clip(expected.images, 0, 1)).max() <= 0.5 / 255 + 1e-6
    np.testing.assert_array_equal(back.uv[back.uv_faces], expected.uv[expected.uv_faces])


@pytest.mark.parametrize("ending", [".obj", ".ply", ".glb"])
def test_padding_of_a_stack_is_not_saved(tmp_path, ending):
    small = unsorted_mesh()._replace(textures=unsorted_texture())
    plane = jnr.shapes.plane()
    large = plane._replace(textures=jnr.UVTexture(jnp.ones((9, 9, 3)), plane.vertices[:, :2], plane.faces))
    batch = jnr.stack([small, large])
    mesh = jnr.Mesh(*(batch.vertices[0], batch.faces[0]), jax.tree.map(lambda x: x[0], batch.textures))
    jnr.save(tmp_path / f"mesh{ending}", mesh)
    back = jnr.load(tmp_path / f"mesh{ending}")
    np.testing.assert_array_equal(back.faces, small.faces)
    np.testing.assert_array_equal(back.textures.images, small.textures.images)
    np.testing.assert_array_equal(back.textures.uv[back.textures.uv_faces], small.textures.uv[small.textures.uv_faces])


@pytest.mark.parametrize("ending", [".obj", ".ply", ".glb"])
def test_trimesh_reads_the_saved_texture(tmp_path, ending):
    mesh = jnr.shapes.cube()
    uv = jnp.asarray(np.random.default_rng(2).random((8, 2)), jnp.float32)
    image = jnp.asarray(np.random.default_rng(3).integers(0, 256, (4, 6, 3)) / 255, jnp.float32)
    jnr.save(tmp_path / f"mesh{ending}", mesh._replace(textures=jnr.UVTexture(image, uv)))
    seen = trimesh.load_scene(tmp_path / f"mesh{ending}", process=False, maintain_order=True).to_geometry()
    material = seen.visual.material
    image_file = material.baseColorTexture if hasattr(material, "baseColorTexture") else material.image
    np.testing.assert_allclose(np.asarray(image_file.convert("RGB")) / 255, image, atol=1e-6)
    # Position and texture coordinate of the corners of each face.
    np.testing.assert_allclose(seen.vertices[seen.faces], mesh.vertices[mesh.faces], atol=1e-7)
    np.testing.assert_allclose(seen.visual.uv[seen.faces], uv[mesh.faces], atol=1e-6)


# --- hand-written textures

SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"
RED, BLUE = (1, 0, 0), (0, 0, 1)


def write_image(tmp_path, name, *colors, mode="RGB"):
    """Writes an image of one row."""
    image = pil.new(mode, (len(colors), 1))
    for column, color in enumerate(colors):
        image.putpixel((column, 0), tuple(int(255 * c) for c in color) if isinstance(color, tuple) else color)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    image.save(tmp_path / name)


def test_obj_with_materials_has_expected_arrays(tmp_path):
    write_image(tmp_path, "two words.png", RED, BLUE)
    write_file(
        tmp_path,
        "skin.mtl",
        "# library\nnewmtl plain\nKd 0.25 0.5 0.75\n\nnewmtl skin of it\nKd 0.1 0.1 0.1\n"
        "map_Kd -s 1 1 1 -o 0 -clamp on -mm 0 1 two words.png\n",
    )
    path = write_file(
        tmp_path,
        "mesh.obj",
        f"mtllib skin.mtl\n{SQUARE}vt 0 0\nvt 1 0\nvt 1 1 0.5\nvt 0.25\nvn 0 0 1\nf 1 2 3\n"
        "usemtl skin of it\nf 1/1 2/2 3/3 4/4\nusemtl plain\nf 1 2 3 # inline\n"
        "usemtl skin of it\nf -4/-1/-1 -3/-2/1 \\\n -2/-3/1\nusemtl unknown\nf 1//1 2//1 3//1\n",
    )
    with pytest.warns(UserWarning, match="was loaded without") as caught:
        mesh = jnr.load(path)
    (message,) = (str(warning.message) for warning in caught)
    unknown = "the material 'unknown', which no library defines (grey instead)"
    assert message == f"mesh.obj was loaded without: normals, which some corners lack; {unknown}."
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 1, 2], [0, 2, 3], [0, 1, 2], [0, 1, 2], [0, 1, 2]])
    texture = mesh.textures
    # The last row of uv belongs to corners without a texture coordinate.
    np.testing.assert_array_equal(texture.uv, [[0, 0], [1, 0], [1, 1], [0.25, 0], [0, 0]])
    np.testing.assert_array_equal(texture.uv_faces, [[4, 4, 4], [0, 1, 2], [0, 2, 3], [4, 4, 4], [3, 2, 1], [4, 4, 4]])
    np.testing.assert_array_equal(texture.material, [2, 1, 1, 0, 1, 2])
    np.testing.assert_array_equal(texture.images[0], [[[0.25, 0.5, 0.75]]])
    np.testing.assert_array_equal(texture.images[1], [[RED, BLUE]])
    np.testing.assert_array_equal(texture.images[2], [[[0.5, 0.5, 0.5]]])
    assert texture.wrap == ("repeat", "clamp", "repeat")


@pytest.mark.parametrize("end", ["\r\n", "\r", " \t\n"])
def test_line_ends_of_every_system_are_read(tmp_path, end):
    (tmp_path / "skin.mtl").write_bytes(f"newmtl skin{end}Kd 1 0 0{end}".encode())
    lines = f"mtllib skin.mtl\n{SQUARE}usemtl skin\nf 1 2 3\nf\t1  3 4".replace("\n", end)
    (tmp_path / "mesh.obj").write_bytes(lines.encode())
    mesh = jnr.load(tmp_path / "mesh.obj")
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3]])
    np.testing.assert_array_equal(mesh.textures.images, [[RED]])


@pytest.mark.parametrize("wrap", ["repeat", "mirror", "clamp", "border"])
@pytest.mark.parametrize("option", ["", "-clamp on ", "-clamp off "])
def test_wrap_argument_applies_where_an_obj_file_does_not_clamp(tmp_path, wrap, option):
    write_image(tmp_path, "skin.png", RED, BLUE)
    write_file(tmp_path, "skin.mtl", f"newmtl skin\nmap_Kd {option}skin.png\n")
    path = write_file(tmp_path, "mesh.obj", f"mtllib skin.mtl\n{SQUARE}vt 0 0\nusemtl skin\nf 1/1 2/1 3/1\n")
    assert jnr.load(path, wrap=wrap).textures.wrap == ("clamp" if "on" in option else wrap)


def test_plain_colour_is_clamped_in_place_of_border(tmp_path):
    write_file(tmp_path, "skin.mtl", "newmtl skin\nKd 1 0 0\n")
    path = write_file(tmp_path, "mesh.obj", f"mtllib skin.mtl\n{SQUARE}vt 9 9\nusemtl skin\nf 1/1 2/1 3/1\n")
    assert jnr.load(path, wrap="border").textures.wrap == "clamp"


@pytest.mark.parametrize(
    ("line", "name", "clamp"),
    [
        ("map_Kd a.png", "a.png", False),
        ("map_Kd   a  b.png", "a  b.png", False),
        ("map_Kd -s 1 1 1 2 c.png", "2 c.png", False),
        ("map_Kd -o 0 1.png", "1.png", False),
        ("map_Kd -s 1 1 -clamp on a.png", "a.png", True),
        ("\tmap_kd -blendu on -blendv off -cc on -boost 2 a.png\r", "a.png", False),
        ("map_Kd -a.png", "-a.png", False),
        ("map_Kd sub\\a.png", "sub/a.png", False),
        ("map_Kd sub/../sub/a.png", "sub/a.png", False),
    ],
)
def test_options_before_an_image_name_are_skipped(tmp_path, line, name, clamp):
    (tmp_path / "sub").mkdir()
    write_image(tmp_path, name, RED)
    write_file(tmp_path, "skin.mtl", f"newmtl skin\n{line}\n")
    path = write_file(tmp_path, "mesh.obj", f"mtllib skin.mtl\n{SQUARE}vt 0 0\nusemtl skin\nf 1/1 2/1 3/1\n")
    texture = jnr.load(path).textures
    np.testing.assert_array_equal(texture.images, [[RED]])
    assert texture.wrap == ("clamp" if clamp else "repeat")


def test_obj_may_name_several_libraries_and_colours_without_coordinates(tmp_path):
    write_file(tmp_path, "a.mtl", "newmtl a\nKd 1 0 0\n")
    write_file(tmp_path, "b.mtl", "newmtl b\nKd 0 0 1\n")
    path = write_file(tmp_path, "mesh.obj", f"mtllib a.mtl b.mtl\n{SQUARE}usemtl b\nf 1 2 3\nusemtl a\nf 1 3 4\n")
    texture = jnr.load(path).textures
    np.testing.assert_array_equal(texture.images, [[[RED]], [[BLUE]]])
    np.testing.assert_array_equal(texture.material, [1, 0])
    np.testing.assert_array_equal(texture.uv, [[0, 0]])
    np.testing.assert_array_equal(texture.uv_faces, np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("library", "color", "message"),
    [
        ("", 1, "the material 'skin', for which the file names no library \\(white instead\\)"),
        ("mtllib empty.mtl\n", 0.5, "the material 'skin', which no library defines \\(grey instead\\)"),
        ("mtllib absent.mtl\n", 0.5, "the material library 'absent.mtl', which does not exist"),
        ("mtllib folder\n", 0.5, "the material library 'folder', which does not exist"),
        ("mtllib empty.mtl absent.mtl\n", 0.5, "the material library 'absent.mtl', which does not exist"),
    ],
)
def test_obj_without_its_material_keeps_texture_coordinates_and_warns(tmp_path, library, color, message):
    write_file(tmp_path, "empty.mtl", "newmtl other\nKd 1 0 0\n")
    (tmp_path / "folder").mkdir()
    path = write_file(tmp_path, "mesh.obj", f"{library}{SQUARE}vt 0.25 0.5\nusemtl skin\nf 1/1 2/1 3/1\n")
    with pytest.warns(UserWarning, match=f"^mesh.obj was loaded without: {message}[^;]*$") as caught:
        texture = jnr.load(path).textures
    assert len(caught) == 1
    image = texture.images if texture.material is None else texture.images[int(texture.material[0])]
    np.testing.assert_array_equal(image, np.full((1, 1, 3), color))
    np.testing.assert_array_equal(texture.uv, [[0.25, 0.5]])
    np.testing.assert_array_equal(texture.uv_faces, [[0, 0, 0]])


def test_obj_vertex_colors_have_expected_values(tmp_path):
    path = write_file(tmp_path, "mesh.obj", "v 0 0 0 1 0 0\nv 1 0 0 0 0.5 0\nv 0 1 0 0 0 0.25\nf 1 2 3\n")
    np.testing.assert_array_equal(jnr.load(path).textures, [[1, 0, 0], [0, 0.5, 0], [0, 0, 0.25]])


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("L", 51, [0.2] * 3),
        ("LA", (0.2, 0.4), [0.2, 0.2, 0.2, 0.4]),
        ("RGBA", (1, 0, 0, 0.2), [1, 0, 0, 0.2]),
        ("I;16", 13107, [0.2] * 3),
        ("1", 1, [1] * 3),
    ],
)
def test_image_of_any_mode_has_three_or_four_channels(tmp_path, mode, color, expected):
    write_image(tmp_path, "skin.png", color, mode=mode)
    write_file(tmp_path, "skin.mtl", "newmtl skin\nmap_Kd skin.png\n")
    path = write_file(tmp_path, "mesh.obj", f"mtllib skin.mtl\n{SQUARE}vt 0 0\nusemtl skin\nf 1/1 2/1 3/1\n")
    np.testing.assert_allclose(jnr.load(path).textures.images, [[expected]], rtol=1e-6)


def test_images_without_alpha_get_one_beside_images_with_alpha(tmp_path):
    write_image(tmp_path, "skin.png", (1, 0, 0, 0.2), mode="RGBA")
    write_file(tmp_path, "skin.mtl", "newmtl skin\nmap_Kd skin.png\nnewmtl plain\nKd 0 0 1\n")
    path = write_file(tmp_path, "mesh.obj", f"mtllib skin.mtl\n{SQUARE}vt 0 0\nusemtl skin\nf 1/1 2/1 3/1\n")
    np.testing.assert_allclose(jnr.load(path).textures.images, [[[[1, 0, 0, 0.2]]], [[[0, 0, 1, 1]]]], rtol=1e-6)


PLY = (
    "ply\nformat ascii 1.0\n{comments}element vertex 4\nproperty float x\nproperty float y\nproperty float z\n{more}"
    "element face 2\nproperty list uchar int vertex_indices\n{face}end_header\n"
)


def test_ply_with_one_coordinate_per_corner_has_expected_arrays(tmp_path):
    write_image(tmp_path, "a b.png", RED, BLUE)
    content = PLY.format(comments="comment TextureFile a b.png\n", more="", face="property list uchar float texcoord\n")
    content += "0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2 6 0 0 1 0 1 1\n4 0 1 2 3 8 0 0 1 0 1 1 0 0.5\n"
    mesh = jnr.load(write_file(tmp_path, "mesh.ply", content))
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 1, 2], [0, 2, 3]])
    np.testing.assert_array_equal(mesh.textures.uv, [[0, 0], [1, 0], [1, 1], [0, 0], [1, 0], [1, 1], [0, 0.5]])
    np.testing.assert_array_equal(mesh.textures.uv_faces, [[0, 1, 2], [3, 4, 5], [3, 5, 6]])
    np.testing.assert_array_equal(mesh.textures.images, [[RED, BLUE]])
    assert mesh.textures.material is None


def test_ply_texnumber_assigns_images_to_faces(tmp_path):
    write_image(tmp_path, "a.png", RED)
    write_image(tmp_path, "b.png", BLUE)
    comments = "comment TextureFile a.png\ncomment TextureFile b.png\n"
    face = "property list uchar float texcoord\nproperty int texnumber\n"
    content = PLY.format(comments=comments, more="", face=face)
    content += "0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2 6 0 0 1 0 1 1 1\n3 0 1 3 0 0\n"
    texture = jnr.load(write_file(tmp_path, "mesh.ply", content), wrap="clamp").textures
    np.testing.assert_array_equal(texture.material, [1, 0])
    np.testing.assert_array_equal(texture.uv, [[0, 0], [1, 0], [1, 1], [0, 0], [0, 0], [0, 0]])
    assert texture.wrap == "clamp"


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian"])
def test_ply_elements_without_rows_or_properties_are_skipped(tmp_path, kind):
    content = PLY.format(comments="element edge 0\nproperty int start\nelement nothing 3\n", more="", face="")
    body = b"0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n"
    if kind != "ascii":
        body = struct.pack("<12fB3iB3i", 0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 3, 0, 1, 2, 3, 0, 2, 3)
    mesh = jnr.load(write_file(tmp_path, "mesh.ply", content.replace("ascii", kind).encode() + body))
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize("order", [">", "<"])
def test_binary_ply_of_either_byte_order_has_expected_arrays(tmp_path, order):
    write_image(tmp_path, "a.png", RED)
    content = PLY.format(
        comments="comment TextureFile a.png\n",
        more="property float s\nproperty float t\n",
        face="property uchar extra\n",
    ).replace("ascii", "binary_big_endian" if order == ">" else "binary_little_endian")
    vertices = [(0, 0, 0, 0.5, 1), (1, 0, 0, 1, 0), (1, 1, 0, 0, 0), (0, 1, 0, 0, 1)]
    body = b"".join(struct.pack(f"{order}5f", *row) for row in vertices)
    body += struct.pack(f"{order}B3iBB4iB", 3, 0, 1, 2, 7, 4, 3, 2, 1, 0, 7)
    with pytest.warns(UserWarning, match=r"does not show \(face extra\)"):
        mesh = jnr.load(write_file(tmp_path, "mesh.ply", content.encode() + body))
    np.testing.assert_array_equal(mesh.vertices, [row[:3] for row in vertices])
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [3, 2, 1], [3, 1, 0]])
    np.testing.assert_array_equal(mesh.textures.uv, [row[3:] for row in vertices])
    assert mesh.textures.uv_faces is None


# Accessors of the file that write_gltf makes.
POSITIONS = {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}
UVS = {"bufferView": 1, "componentType": 5126, "count": 3, "type": "VEC2"}
INDICES = {"bufferView": 2, "componentType": 5123, "count": 3, "type": "SCALAR"}


def write_gltf(tmp_path, **changes):
    """Writes two triangles of two materials, the second with a node transform; `changes` replaces document entries."""
    write_image(tmp_path, "red blue.png", RED, BLUE)
    arrays = [
        np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4"),
        np.array([[0, 0.25], [1, 0], [0.5, 1]], "<f4"),
        np.array([0, 2, 1], "<u2"),
    ]
    views, accessors, data = [], [], b""
    for array, component, kind in zip(arrays, (5126, 5126, 5123), ("VEC3", "VEC2", "SCALAR"), strict=True):
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": array.nbytes})
        accessors.append({"bufferView": len(accessors), "componentType": component, "count": 3, "type": kind})
        data += array.tobytes()
    document = {
        "asset": {"version": "2.0"},
        "buffers": [
            {"byteLength": len(data), "uri": "data:application/octet-stream;base64," + base64.b64encode(data).decode()}
        ],
        "bufferViews": views,
        "accessors": accessors,
        "images": [{"uri": "red%20blue.png"}],
        "samplers": [{"wrapS": 33071, "wrapT": 33071}],
        "textures": [{"source": 0, "sampler": 0}],
        "materials": [
            {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "baseColorFactor": [0.5, 1, 0.25, 1]}},
            {"pbrMetallicRoughness": {"baseColorFactor": [0.25, 0.5, 0.75, 1]}},
        ],
        "meshes": [
            {"primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "material": 0}]},
            {"primitives": [{"attributes": {"POSITION": 0}, "indices": 2, "material": 1}]},
        ],
        "nodes": [
            {"mesh": 0},
            {"mesh": 1, "translation": [0, 0, 5], "rotation": [0, 0, 2**-0.5, 2**-0.5], "scale": [2, 1, 1]},
        ],
        "scenes": [{"nodes": [0, 1]}],
    }
    document |= changes
    return write_file(tmp_path, "mesh.gltf", json.dumps(document))


def test_gltf_with_materials_has_expected_arrays(tmp_path):
    mesh = jnr.load(write_gltf(tmp_path))
    expected = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 5], [0, 2, 5], [-1, 0, 5]]
    np.testing.assert_allclose(mesh.vertices, expected, atol=1e-6)
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [3, 5, 4]])
    texture = mesh.textures
    np.testing.assert_array_equal(texture.uv, [[0, 0.75], [1, 1], [0.5, 0], [0, 0], [0, 0], [0, 0]])
    assert texture.uv_faces is None
    np.testing.assert_array_equal(texture.images[0], [[[0.5, 0, 0], [0, 0, 0.25]]])
    np.testing.assert_array_equal(texture.images[1], [[[0.25, 0.5, 0.75]]])
    np.testing.assert_array_equal(texture.material, [0, 1])
    assert texture.wrap == ("clamp", "repeat")


@pytest.mark.parametrize(("code", "wrap"), [(10497, "repeat"), (33648, "mirror"), (33071, "clamp"), (None, "border")])
def test_gltf_sampler_sets_the_wrap_mode(tmp_path, code, wrap):
    sampler = {} if code is None else {"wrapS": code, "wrapT": code}
    mesh = jnr.load(write_gltf(tmp_path, samplers=[sampler], scenes=[{"nodes": [0]}]), wrap="border")
    # The other material is a plain colour, which is clamped.
    assert mesh.textures.wrap == ("clamp" if wrap == "clamp" else (wrap, "clamp"))


def test_gltf_without_materials_and_texture_coordinates_has_no_texture(tmp_path):
    meshes = [{"primitives": [{"attributes": {"POSITION": 0}}]}] * 2
    assert jnr.load(write_gltf(tmp_path, meshes=meshes)).textures is None


def test_gltf_face_without_material_is_white(tmp_path):
    attributes = {"POSITION": 0, "TEXCOORD_0": 1}
    meshes = [{"primitives": [{"attributes": attributes}, {"attributes": attributes, "material": 0}]}]
    mesh = jnr.load(write_gltf(tmp_path, meshes=meshes, scenes=[{"nodes": [0]}]))
    # Both primitives share their vertices.
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 1, 2]])
    np.testing.assert_array_equal(mesh.textures.material, [2, 0])
    np.testing.assert_array_equal(mesh.textures.images[2], [[[1, 1, 1]]])


@pytest.mark.parametrize(
    ("alpha", "expected"), [(1, [[[0.5, 0, 0], [0, 0, 0.25]]]), (0.5, [[[0.5, 0, 0, 0.5], [0, 0, 0.25, 0.5]]])]
)
def test_gltf_colour_with_alpha_multiplies_blended_images(tmp_path, alpha, expected):
    surface = {"baseColorTexture": {"index": 0}, "baseColorFactor": [0.5, 1, 0.25, alpha]}
    materials = [{"alphaMode": "BLEND", "pbrMetallicRoughness": surface}]
    mesh = jnr.load(write_gltf(tmp_path, materials=materials, scenes=[{"nodes": [0]}]))
    np.testing.assert_array_equal(mesh.textures.images, expected)


@pytest.mark.parametrize("normalized", [False, True])
def test_gltf_eight_bit_colours_become_fractions(tmp_path, normalized):
    # The colours are bytes 12 to 20 of the positions: of the float32 numbers 1, 0 and part of 0.
    accessor = {"bufferView": 0, "byteOffset": 12, "componentType": 5121, "count": 3, "type": "VEC3"}
    accessors = [POSITIONS, UVS, INDICES, accessor | {"normalized": normalized}]
    meshes = [{"primitives": [{"attributes": {"POSITION": 0, "COLOR_0": 3}}]}]
    mesh = jnr.load(write_gltf(tmp_path, accessors=accessors, meshes=meshes, scenes=[{"nodes": [0]}]))
    one = np.frombuffer(np.array([1, 0, 0], "<f4").tobytes()[:9], np.uint8).reshape(3, 3)
    np.testing.assert_allclose(np.asarray(mesh.textures), one / 255, rtol=1e-6)
    assert one.any()


def test_gltf_without_nodes_has_all_meshes_untransformed(tmp_path):
    mesh = jnr.load(write_gltf(tmp_path, nodes=[], scenes=[]))
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1, 0, 0], [0, 1, 0]] * 2)
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [3, 5, 4]])


def test_gltf_primitive_without_vertices_adds_nothing(tmp_path):
    # The offset of an empty accessor is not checked.
    accessors = [POSITIONS, UVS, INDICES, POSITIONS | {"count": 0, "byteOffset": 999}]
    primitives = [{"attributes": {"POSITION": 3}}, {"attributes": {"POSITION": 0}, "indices": 2}]
    meshes = [{"primitives": primitives}]
    mesh = jnr.load(write_gltf(tmp_path, accessors=accessors, meshes=meshes, scenes=[{"nodes": [0]}]))
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(mesh.faces, [[0, 2, 1]])


def test_gltf_texture_transform_moves_texture_coordinates(tmp_path):
    # The example of the extension's specification: the lower left quadrant, rotated by 90 degrees.
    transform = {"KHR_texture_transform": {"offset": [0, 1], "scale": [0.5, 0.5], "rotation": np.pi / 2}}
    texture = {"index": 0, "extensions": transform}
    mesh = jnr.load(write_gltf(tmp_path, materials=[{"pbrMetallicRoughness": {"baseColorTexture": texture}}] * 2))
    uv = np.array([[0, 0.25], [1, 0], [0.5, 1]])
    expected = 0.5 * np.stack([uv[:, 1], uv[:, 0]], axis=-1)
    np.testing.assert_allclose(mesh.textures.uv[:3], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "expected"), [(5, [[0, 1, 2], [1, 3, 2], [2, 3, 4]]), (6, [[0, 1, 2], [0, 2, 3], [0, 3, 4]])]
)
def test_gltf_strips_and_fans_become_triangles(tmp_path, mode, expected):
    vertices = np.random.default_rng(0).normal(size=(5, 3)).astype("<f4")
    uri = "data:;base64," + base64.b64encode(vertices.tobytes()).decode()
    path = write_gltf(
        tmp_path,
        buffers=[{"byteLength": 60, "uri": uri}],
        bufferViews=[{"buffer": 0, "byteLength": 60}],
        accessors=[{"bufferView": 0, "componentType": 5126, "count": 5, "type": "VEC3"}],
        meshes=[{"primitives": [{"attributes": {"POSITION": 0}, "mode": mode}]}],
        scenes=[{"nodes": [0]}],
    )
    mesh = jnr.load(path)
    np.testing.assert_array_equal(mesh.vertices, vertices)
    np.testing.assert_array_equal(mesh.faces, expected)


def test_glb_whose_vertices_were_changed_is_not_restored(tmp_path):
    mesh = unsorted_mesh()._replace(textures=unsorted_texture())
    jnr.save(tmp_path / "mesh.glb", mesh)
    content = bytearray((tmp_path / "mesh.glb").read_bytes())
    (length,) = struct.unpack_from("<I", content, 12)
    document = json.loads(content[20 : 20 + length])
    accessor = document["meshes"][0]["primitives"][0]["attributes"]["POSITION"]
    view = document["bufferViews"][document["accessors"][accessor]["bufferView"]]
    # The last vertex is a copy of an original one; move it away from that.
    struct.pack_into("<f", content, 28 + length + view["byteOffset"] + view["byteLength"] - 4, 77.0)
    back = jnr.load(write_file(tmp_path, "changed.glb", bytes(content)))
    assert len(back.vertices) > len(mesh.vertices)
    assert back.textures.uv_faces is None
    np.testing.assert_allclose(
        back.textures.uv[back.faces], mesh.textures.uv[mesh.textures.uv_faces], rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("names", [(), ("TEXCOORD_0",), ("TEXCOORD_0", "_UV")], ids=["unchanged", "shown", "both"])
def test_glb_whose_texture_coordinates_were_changed_is_not_restored(tmp_path, names):
    plane, path = jnr.shapes.plane(), tmp_path / "mesh.glb"
    # All corners share one row, of which the file has one copy per vertex.
    texture = jnr.UVTexture(jnp.ones((1, 1, 3)), jnp.array([[0.25, 0.5]]), jnp.zeros((2, 3), jnp.int32))
    jnr.save(path, plane._replace(textures=texture))
    content = bytearray(path.read_bytes())
    (length,) = struct.unpack_from("<I", content, 12)
    document = json.loads(content[20 : 20 + length])
    for name in names:
        accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"][name]]
        start = 28 + length + document["bufferViews"][accessor["bufferView"]]["byteOffset"]
        struct.pack_into("<2f", content, start + 8, 0.75, 0.5)
    path.write_bytes(content)
    back = jnr.load(path).textures
    if names:
        assert back.uv_faces is None
        np.testing.assert_array_equal(back.uv, [[0.25, 0.5], [0.75, 0.5], [0.25, 0.5], [0.25, 0.5]])
    else:
        assert_same_texture(back, texture)


def test_textured_mesh_can_be_rendered(tmp_path):
    plane = jnr.shapes.plane()
    image = jnp.asarray([[RED, BLUE]], jnp.float32)
    texture = jnr.UVTexture(image, plane.vertices[:, :2] / 2 + 0.5, wrap="clamp", filter="nearest")
    jnr.save(tmp_path / "mesh.obj", plane._replace(textures=texture))
    mesh = jnr.load(tmp_path / "mesh.obj")
    rgb = [jnr.render(*m, lights=(), image_size=8).rgb for m in (mesh, plane._replace(textures=texture))]
    # Bilinear and nearest filtering agree away from the middle of the image.
    np.testing.assert_allclose(rgb[0][:, :2], rgb[1][:, :2], atol=1e-6)


def test_progress_bar_reaches_the_end_of_the_file(tmp_path, monkeypatch):
    path = write_file(tmp_path, "mesh.obj", SQUARE + "f 1 2 3\n" * 10)
    tqdm = pytest.importorskip("tqdm")
    bars = []
    real = tqdm.tqdm
    monkeypatch.setattr(tqdm, "tqdm", lambda **options: bars.append(real(**options)) or bars[-1])
    jnr.load(path, progress=True)
    assert [bar.n for bar in bars] == [path.stat().st_size]


def test_obj_read_in_small_blocks_is_restored_exactly(tmp_path, monkeypatch):
    mesh = unsorted_mesh()._replace(textures=unsorted_texture(images=3))
    jnr.save(tmp_path / "mesh.obj", mesh)
    monkeypatch.setattr(importlib.import_module("jnr.io._parts"), "BLOCK", 50)
    back = jnr.load(tmp_path / "mesh.obj")
    np.testing.assert_array_equal(back.vertices, mesh.vertices)
    np.testing.assert_array_equal(back.faces, mesh.faces)
    assert_same_texture(back.textures, mesh.textures)


def test_text_ply_read_in_small_blocks_is_restored_exactly(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(4, 3)).astype(np.float32)
    content = PLY.format(comments="", more="", face="")
    content += "\n".join(" ".join(f"{x:.9g}" for x in row) for row in vertices) + "\n3 0 1 2\n3 0 2 3\n"
    monkeypatch.setattr(importlib.import_module("jnr.io._parts"), "BLOCK", 70)
    np.testing.assert_array_equal(jnr.load(write_file(tmp_path, "mesh.ply", content)).vertices, vertices)


# --- missing, invalid and hostile textures


def write_textured_obj(tmp_path, line, material="map_Kd skin.png", faces="f 1/1 2/1 3/1", name="mesh.obj"):
    write_file(tmp_path, "skin.mtl", f"newmtl skin\n{material}\n")
    return write_file(tmp_path, name, f"mtllib skin.mtl\n{SQUARE}{line}\nusemtl skin\n{faces}\n")


def write_mesh_with_image(folder, ending, name):
    """A square whose only material has the image `name`."""
    if ending == ".obj":
        return write_textured_obj(folder, "vt 0 0", f"map_Kd {name}")
    if ending == ".gltf":
        return write_gltf(folder, images=[{"uri": name}])
    content = PLY.format(comments=f"comment TextureFile {name}\n", more="property float s\nproperty float t\n", face="")
    rows = "0 0 0 0 0\n1 0 0 0 0\n1 1 0 0 0\n0 1 0 0 0\n3 0 1 2\n3 0 2 3\n"
    return write_file(folder, "mesh.ply", content + rows)


@pytest.mark.validation
@pytest.mark.parametrize("function", [jnr.load, jnr.io.read])
@pytest.mark.parametrize(
    "wrong",
    [
        *({"path": value} for value in (None, 3, object(), b"mesh.obj", "mesh", "mesh.exe", "")),
        *({name: value} for name in ("textures", "center", "progress") for value in (None, "yes", 1, 0.5)),
        *({"wrap": value} for value in (None, "round", 2, ("clamp",))),
        *({"root": value} for value in (3, object(), "absent", ["."])),
    ],
)
def test_wrong_argument_of_load_is_an_error_that_names_it(tmp_path, function, wrong):
    write_file(tmp_path, "mesh.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    (name,) = wrong
    with pytest.raises((TypeError, ValueError), match=f"^{name} must "):
        function(**{"path": tmp_path / "mesh.obj", **wrong})


@pytest.mark.validation
@pytest.mark.parametrize(
    "wrong",
    [
        *({"path": value} for value in (None, 3, object(), "mesh", "mesh.gltf")),
        *({"mesh": value} for value in (None, 3, "mesh", (np.zeros((3, 3)), np.zeros((1, 3), int)))),
        *({"overwrite": value} for value in (None, "yes", 1)),
    ],
)
def test_wrong_argument_of_save_is_an_error_that_names_it(tmp_path, wrong):
    (name,) = wrong
    with pytest.raises((TypeError, ValueError), match=f"^{name} must "):
        jnr.save(**{"path": tmp_path / "mesh.obj", "mesh": jnr.shapes.cube(), **wrong})


# The colour by which `write_gltf` multiplies the image.
FACTORS = {".gltf": (0.5, 1, 0.25)}


def first_texel(texture):
    images = texture.images if isinstance(texture.images, tuple) else [texture.images]
    return np.asarray(images[0])[0, 0]


@pytest.mark.parametrize("ending", [".obj", ".ply", ".gltf"])
@pytest.mark.parametrize("name", ["absent.png", ".", "folder"])
def test_image_that_does_not_exist_is_gray_and_named_in_a_warning(tmp_path, ending, name):
    (tmp_path / "folder").mkdir()
    path = write_mesh_with_image(tmp_path, ending, name)
    with pytest.warns(UserWarning, match=rf"^mesh\{ending} was loaded without: .*the image '{name}' of") as caught:
        texture = jnr.load(path).textures
    assert len(caught) == 1
    np.testing.assert_allclose(first_texel(texture), np.multiply(0.5, FACTORS.get(ending, 1)), atol=1e-6)


@pytest.mark.parametrize("ending", [".obj", ".ply", ".gltf"])
@pytest.mark.parametrize("name", ["skin.png", "C:\\models\\SKIN.png", "/srv/models/Skin.PNG", "sub/../SKIN.PNG"])
def test_image_name_may_differ_in_case_or_be_absolute_on_another_machine(tmp_path, ending, name):
    (tmp_path / "sub").mkdir()
    write_image(tmp_path, "Skin.PNG", RED)
    texture = jnr.load(write_mesh_with_image(tmp_path, ending, name)).textures
    np.testing.assert_allclose(first_texel(texture), np.multiply(RED, FACTORS.get(ending, 1)), atol=1e-6)


@pytest.mark.parametrize("ending", [".obj", ".ply", ".gltf"])
def test_root_permits_images_in_a_folder_above(tmp_path, ending):
    (tmp_path / "model").mkdir()
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images", "skin.png", RED)
    path = write_mesh_with_image(tmp_path / "model", ending, "../images/skin.png")
    with pytest.raises(ValueError, match="outside its folder; the argument root permits a folder above"):
        jnr.load(path)
    texture = jnr.load(path, root=tmp_path).textures
    np.testing.assert_allclose(first_texel(texture), np.multiply(RED, FACTORS.get(ending, 1)), atol=1e-6)


@pytest.mark.validation
@pytest.mark.parametrize(("root", "message"), [("absent", "must be a folder"), ("beside", "must contain path")])
def test_root_that_does_not_contain_the_file_is_an_error(tmp_path, root, message):
    (tmp_path / "beside").mkdir()
    (tmp_path / "model").mkdir()
    path = write_mesh_with_image(tmp_path / "model", ".obj", "skin.png")
    with pytest.raises(ValueError, match=f"^root {message}, got "):
        jnr.load(path, root=tmp_path / root)


@pytest.mark.validation
@pytest.mark.parametrize("ending", [".obj", ".ply", ".gltf"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../out.png", "outside its folder"),
        ("sub/../../out.png", "outside its folder"),
        ("{out}", "outside its folder"),
        ("..\\out.png", "outside its folder"),
        ("link.png", "outside its folder"),
        ("linked/out.png", "outside its folder"),
        ("/etc/passwd", "outside its folder"),
        ("a" * 300 + ".png", "not a valid file name"),
        ("a/" * 3000 + ".png", "characters, more than 1024"),
        ("text.png", "cannot be decoded"),
        ("cut.png", "cannot be decoded"),
    ],
)
def test_image_that_cannot_be_loaded_is_an_error_with_the_reason(tmp_path, ending, name, message):
    folder = tmp_path / "folder"
    folder.mkdir()
    write_image(tmp_path, "out.png", RED)
    write_image(folder, "whole.png", *[RED, BLUE] * 50)
    (folder / "link.png").symlink_to(tmp_path / "out.png")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "text.png").write_text("no image")
    (folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:45])
    path = write_mesh_with_image(folder, ending, name.format(out=tmp_path / "out.png"))
    with pytest.raises(
        ValueError, match=rf"^path must be a complete, valid mesh file, got '.*mesh\{ending}': .*({message})"
    ):
        jnr.load(path)
    assert jnr.load(path, textures=False).textures is None


@pytest.mark.validation
def test_image_of_too_many_pixels_is_rejected_before_it_is_decoded(tmp_path, monkeypatch):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    # A header that declares 900 million pixels.
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    write_file(tmp_path, "skin.png", content)
    with pytest.raises(ValueError, match=r"exceeds limit|must have at most"):
        jnr.load(write_textured_obj(tmp_path, "vt 0 0"))
    write_image(tmp_path, "skin.png", *[RED] * 50)
    write_image(tmp_path, "other.png", *[RED] * 51)
    monkeypatch.setattr(importlib.import_module("jnr.io._parts"), "MAX_PIXELS", 100)
    assert jnr.load(write_textured_obj(tmp_path, "vt 0 0")).textures.images.shape == (1, 50, 3)
    two = "map_Kd skin.png\nnewmtl other\nmap_Kd other.png"
    path = write_textured_obj(tmp_path, "vt 0 0", two, "f 1/1 2/1 3/1\nusemtl other\nf 1/1 2/1 3/1")
    with pytest.raises(ValueError, match=r"images must have at most 100 pixels in all, got 101"):
        jnr.load(path)


@pytest.mark.validation
def test_floating_point_image_is_rejected(tmp_path):
    write_image(tmp_path, "skin.tif", 0.5, mode="F")
    with pytest.raises(
        ValueError, match=r"the image 'skin\.tif' cannot be decoded: its texels are floating point numbers"
    ):
        jnr.load(write_textured_obj(tmp_path, "vt 0 0", "map_Kd skin.tif"))


@pytest.mark.validation
def test_large_material_library_is_rejected(tmp_path, monkeypatch):
    path = write_textured_obj(tmp_path, "vt 0 0", "Kd 1 0 0")
    size = (tmp_path / "skin.mtl").stat().st_size
    module = importlib.import_module("jnr.io._obj")
    monkeypatch.setattr(module, "MAX_LIBRARY", size)
    np.testing.assert_array_equal(jnr.load(path).textures.images, [[RED]])
    monkeypatch.setattr(module, "MAX_LIBRARY", size - 1)
    with pytest.raises(ValueError, match=rf"its material library 'skin\.mtl' has more than {size - 1} bytes"):
        jnr.load(path)


@pytest.mark.validation
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("v 0 0\nf 1 1 1\n", "a vertex of 2 coordinates"),
        (SQUARE + "f 1 2\n", "at least one triangle"),
        (SQUARE + "f 0 1 2\n", "the vertex index 0"),
        (SQUARE + "v\nf 1 2 3\n", "a vertex of 0 coordinates"),
        (SQUARE + "f 1 2 -5\n", "the relative index -5"),
        (SQUARE + "f /1 2 3\n", "a face corner without a vertex index"),
        (SQUARE + "f 1 2 3.5\n", "3.5"),
        (SQUARE + "f 1 2 99999999999999999999\n", "an integer that does not fit into 64 bits"),
        (SQUARE + "f 1 2 4294967297\n", "got indices 0 to 4294967296"),
        (SQUARE + "f 1/1/1/1 2 3\n", ""),
        (SQUARE + "f 1 2 " + "9" * 1000 + "\n", "more than 64 characters"),
        (SQUARE + "f 1 2 3\0\n", "NUL"),
        (SQUARE + "vt\nf 1 2 3\n", "a texture coordinate without numbers"),
        (SQUARE + "f " + "1 " * 2**24 + "\n", "a line of more than"),
        (SQUARE + "f 1 \\\n" + ("1 " * 1000 + "\\\n") * 2**14 + "1\n", "a line of more than"),
        ("".join(f"mtllib {k}.mtl\n" for k in range(300)) + SQUARE + "f 1 2 3\n", "more than 256 material libraries"),
    ],
    ids=range(16),
)
def test_broken_obj_is_an_error_with_the_reason(tmp_path, content, message):
    path = write_file(tmp_path, "broken.obj", content)
    with pytest.raises(
        ValueError, match=rf"^path must be a .*broken\.obj.*{message}|^path must be .*{message}.*broken"
    ):
        jnr.load(path)


@pytest.mark.validation
@pytest.mark.parametrize(
    ("line", "material", "faces", "message"),
    [
        ("vt 0 0", "d nan", "f 1/1 2/1 3/1", "the opacity 'nan'"),
        ("vt 0 0", "d", "f 1/1 2/1 3/1", "the opacity ''"),
        ("vt 0 0", f"map_Kd {'-bm 1 ' * 2**14}a.png", "f 1/1 2/1 3/1", "map_Kd has more than 65536 bytes"),
        ("vt 0 0", "Kd nan 0 0", "f 1/1 2/1 3/1", "the colour 'nan 0 0'"),
        ("vt 0 0", "Kd 1 0", "f 1/1 2/1 3/1", "the colour '1 0'"),
        ("vt 0 0", "Kd red green blue", "f 1/1 2/1 3/1", "red"),
        ("vt 0 0", "Kd xyz 1 1 1", "f 1/1 2/1 3/1", "not RGB"),
        ("vt 0 0", "map_Kd", "f 1/1 2/1 3/1", "no image name"),
        ("vt 0 0", "map_Kd -s 1 1 1", "f 1/1 2/1 3/1", "no image name"),
        ("vt 0 0", "map_Kd a\0b.png", "f 1/1 2/1 3/1", "not a valid file name"),
        ("vt 0 0", "\n".join(f"newmtl {k}" for k in range(5000)), "f 1/1 2/1 3/1", "more than 4096 materials"),
    ],
    ids=range(11),
)
def test_broken_material_is_an_error_with_the_reason(tmp_path, line, material, faces, message):
    path = write_textured_obj(tmp_path, line, material, faces)
    with pytest.raises(ValueError, match=rf"^path must be .*{message}"):
        jnr.load(path)


@pytest.mark.validation
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("vertex 4", "vertex 4000000000000", "declares 4000000000000 rows of vertex"),
        ("face 2", "face 99999999999", "declares 99999999999 rows of face"),
        ("vertex 4", "vertex -4", "the line 'element vertex -4'"),
        ("property float y", "property float x", "two properties of the same name"),
        ("property float y", "property quad y", "the line 'property quad y'"),
        ("list uchar", "list float", "lengths of type float"),
        ("ascii", "utf8", "its format is 'utf8'"),
        ("end_header", "the end", "no header"),
        ("vertex_indices", "corners", "no faces with vertex_indices"),
        ("float z", "float w", "no vertices with x, y and z"),
        ("3 0 1 2", "3 0 1 2.5", "not an integer"),
        ("3 0 1 2", "-3 0 1 2", "a list of length -3"),
        ("3 0 1 2", "2000000000 0 1 2", "it ends within"),
        ("3 0 1 2", "nan 0 1 2", "nan"),
    ],
)
def test_broken_ply_is_an_error_with_the_reason(tmp_path, old, new, message):
    content = PLY.format(comments="", more="", face="") + "0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n"
    assert old in content
    path = write_file(tmp_path, "broken.ply", content.replace(old, new, 1))
    with pytest.raises(
        ValueError, match=rf"^path must be a complete, valid mesh file, got '.*broken\.ply': .*({message})"
    ):
        jnr.load(path)


@pytest.mark.validation
@pytest.mark.parametrize(
    ("comments", "corners", "message"),
    [
        ("comment TextureFile a.png\n", "4 0 0 0 0", "two numbers per corner"),
        ("comment TextureFile a.png\n", "6 0 0 0 0 0 nan", "finite texture coordinates"),
    ],
)
def test_broken_texture_of_a_ply_is_an_error_with_the_reason(tmp_path, comments, corners, message):
    write_image(tmp_path, "a.png", RED)
    content = PLY.format(comments=comments, more="", face="property list uchar float texcoord\n")
    path = write_file(
        tmp_path, "mesh.ply", content + f"0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2 {corners}\n3 0 2 3 {corners}\n"
    )
    with pytest.raises(ValueError, match=f"^path must be .*{message}"):
        jnr.load(path)


@pytest.mark.validation
def test_ply_whose_header_has_no_end_of_line_is_an_error(tmp_path):
    path = write_file(tmp_path, "broken.ply", "ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nend_header")
    with pytest.raises(ValueError, match=r"it has no vertices with x, y and z or no faces with vertex_indices"):
        jnr.load(path)


@pytest.mark.validation
def test_long_number_across_blocks_of_a_text_ply_is_an_error(tmp_path, monkeypatch):
    content = PLY.format(comments="", more="", face="")
    content += "0" * 99 + "1 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n" + "0 " * 40
    monkeypatch.setattr(importlib.import_module("jnr.io._parts"), "BLOCK", 70)
    with pytest.raises(ValueError, match="it has a number of more than 64 characters"):
        jnr.load(write_file(tmp_path, "broken.ply", content))


@pytest.mark.validation
@pytest.mark.parametrize("number", [-1, 2])
def test_ply_texnumber_out_of_range_is_an_error(tmp_path, number):
    write_image(tmp_path, "a.png", RED)
    comments, face = "comment TextureFile a.png\n" * 2, "property list uchar float texcoord\nproperty int texnumber\n"
    content = PLY.format(comments=comments, more="", face=face)
    content += f"0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2 0 1\n3 0 2 3 0 {number}\n"
    with pytest.raises(ValueError, match="it has 2 images and a face whose texnumber is out of range"):
        jnr.load(write_file(tmp_path, "mesh.ply", content))


@pytest.mark.validation
def test_ply_of_too_many_images_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.import_module("jnr.io._parts"), "MAX_IMAGES", 1)
    more = "property float s\nproperty float t\n"
    content = PLY.format(comments="comment TextureFile a.png\n" * 2, more=more, face="")
    content += "0 0 0 0 0\n1 0 0 0 0\n1 1 0 0 0\n0 1 0 0 0\n3 0 1 2\n3 0 2 3\n"
    with pytest.raises(ValueError, match="it has more than 1 images"):
        jnr.load(write_file(tmp_path, "mesh.ply", content))


@pytest.mark.validation
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes": [{"mesh": 0, "children": [1]}, {"children": [0]}]}, "occurs in the scene twice"),
        ({"nodes": [{"mesh": 0}], "scenes": [{"nodes": [0, 7]}]}, "1 nodes and refers to index 7"),
        ({"nodes": [{"mesh": 0, "scale": [1, 1, "x"]}], "scenes": [{"nodes": [0]}]}, ""),
        ({"nodes": [{"mesh": 0, "matrix": [1, 2]}], "scenes": [{"nodes": [0]}]}, "a matrix that is not 16"),
        (
            {"accessors": [{"bufferView": 0, "componentType": 5126, "count": 10**12, "type": "VEC3"}] * 3},
            "its scene has more than",
        ),
        ({"accessors": [{"componentType": 5126, "count": 10**8, "type": "VEC3"}] * 3}, "bufferView|more than"),
        ({"accessors": [{"bufferView": 0, "componentType": 5126, "count": -1, "type": "VEC3"}] * 3}, "'-1'"),
        ({"accessors": [{"bufferView": 0, "componentType": 5126, "count": True, "type": "VEC3"}] * 3}, "'True'"),
        ({"accessors": [{"bufferView": 0, "componentType": 1, "count": 3, "type": "VEC3"}] * 3}, ""),
        ({"bufferViews": [{"buffer": 0, "byteLength": 10**9}] * 3}, "declares 1000000000 bytes"),
        ({"bufferViews": [{"buffer": 0, "byteLength": 60, "byteStride": 1}] * 3}, "byteStride of 1"),
        ({"buffers": [{"byteLength": 10**9, "uri": "data:;base64,AAAA"}]}, "declares 1000000000 bytes"),
        ({"buffers": [{"byteLength": 3, "uri": "../mesh.gltf"}]}, "outside its folder"),
        ({"buffers": [{"byteLength": 3, "uri": "absent.bin"}]}, "does not exist"),
        ({"buffers": [{"byteLength": 3}]}, "buffer 0 does not exist"),
        ({"extensionsRequired": ["KHR_draco_mesh_compression"]}, "requires KHR_draco_mesh_compression, but has no"),
        ({"extensionsRequired": ["EXT_meshopt_compression"]}, "requires the unsupported extension EXT_meshopt_compr"),
        ({"samplers": [{"wrapS": 5}]}, ""),
        ({"textures": [{}]}, "texture without an image"),
        ({"images": [{"uri": "data:image/png;base64,AAAA"}]}, "image 0 cannot be decoded"),
        ({"asset": {"version": "1.0"}}, "version is not 2"),
        ({"asset": []}, ""),
        ({"meshes": 3}, ""),
        ({"meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "mode": 1}]}] * 2}, "no triangles"),
        (
            {"meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 0}]}] * 2},
            "has the unexpected type VEC3",
        ),
        ({"materials": [{}] * 5000}, "more than 4096 materials"),
        ({"nodes": [{"mesh": 0}] * 2, "scenes": [{"nodes": list(range(2)) * 2}]}, "occurs in the scene twice"),
        (
            {"accessors": [POSITIONS | {"count": 4}]},
            "its accessor 0 declares 4 rows, more than its bufferView contains",
        ),
        ({"accessors": [POSITIONS, UVS | {"count": 2}]}, "3 vertices and 2 rows of another attribute"),
        ({"accessors": [POSITIONS, UVS, INDICES | {"count": 2}]}, "a triangle primitive with 2 corners"),
    ],
    ids=range(30),
)
def test_broken_gltf_is_an_error_with_the_reason(tmp_path, changes, message):
    path = write_gltf(tmp_path, **changes)
    with pytest.raises(
        ValueError, match=rf"^path must be a complete, valid mesh file, got '.*mesh\.gltf': .*({message})"
    ):
        jnr.load(path)


@pytest.mark.validation
def test_gltf_of_too_many_vertices_is_rejected(tmp_path, monkeypatch):
    path = write_gltf(tmp_path, nodes=[{"mesh": 0}] * 40, scenes=[{"nodes": list(range(40))}])
    # Reading one primitive counts 1024. Each of 40 copies counts 64, and 9 coordinates and 3 corners.
    limit = 1024 + 40 * (64 + 9 + 3)
    module = importlib.import_module("jnr.io._gltf_document")
    monkeypatch.setattr(module, "PER_BYTE", 0)
    monkeypatch.setattr(module, "MAX_SCENE", limit)
    assert len(jnr.load(path).faces) == 40
    monkeypatch.setattr(module, "MAX_SCENE", limit - 1)
    with pytest.raises(ValueError, match=f"its scene has more than {limit - 1} coordinates and corners"):
        jnr.load(path)
    monkeypatch.setattr(module, "PER_BYTE", 1)
    assert len(jnr.load(path).faces) == 40


@pytest.mark.validation
def test_mesh_of_too_many_runs_of_a_material_is_not_saved_as_glb(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.import_module("jnr.io._gltf_write"), "MAX_PRIMITIVES", 2)
    mesh = unsorted_mesh()._replace(textures=unsorted_texture(images=3))
    with pytest.raises(ValueError, match=r"^material must change at most 2 times .*, got 4 runs: sort the faces by"):
        jnr.save(tmp_path / "mesh.glb", mesh)
    assert not (tmp_path / "mesh.glb").exists()


@pytest.mark.validation
@pytest.mark.parametrize("content", [b"[" * 100000, b"[]", b"{}", b'{"asset": {"version": "2.0"}}', b'{"a": NaN}'])
def test_json_without_a_gltf_document_is_an_error(tmp_path, content):
    path = write_file(tmp_path, "broken.gltf", content)
    with pytest.raises(ValueError, match=r"^path must be a complete, valid mesh file, got '.*broken\.gltf'"):
        jnr.load(path)


@pytest.mark.validation
def test_binary_stl_that_declares_too_many_faces_is_an_error(tmp_path):
    path = write_file(tmp_path, "broken.stl", b"\0" * 80 + struct.pack("<I", 2**32 - 1) + b"\0" * 500)
    with pytest.raises(ValueError, match=r"^path must be a complete, valid mesh file, got '.*broken\.stl'"):
        jnr.load(path)


@pytest.mark.validation
def test_text_stl_with_an_invalid_number_is_an_error(tmp_path):
    solid = "solid a\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\nendfacet\n"
    path = write_file(
        tmp_path, "broken.stl", solid + solid.replace("solid a\n", "").replace("1 0 0", "1 x 0") + "endsolid a\n"
    )
    with pytest.raises(ValueError, match=r"^path must be a complete, valid mesh file, got '.*broken\.stl'"):
        jnr.load(path)


@pytest.mark.validation
@pytest.mark.parametrize(
    ("ending", "changes", "message"),
    [
        (".obj", {"wrap": "mirror"}, r"wrap must be 'repeat' or 'clamp' to be saved as \.obj, got 'mirror'\."),
        (".obj", {"wrap": "border"}, r"wrap must be 'repeat' or 'clamp' to be saved as \.obj, got 'border'\."),
        (
            ".ply",
            {"wrap": "border"},
            r"wrap must be 'repeat', 'mirror' or 'clamp' to be saved as \.ply, got 'border'\.",
        ),
        (
            ".glb",
            {"wrap": "border"},
            r"wrap must be 'repeat', 'mirror' or 'clamp' to be saved as \.glb, got 'border'\.",
        ),
        (".ply", {"images": 2}, r"images must be a single one to be saved as \.ply, got 2: use \.obj or \.glb"),
        (".obj", {"channels": 1}, r"images must have 3 or 4 channels to be saved, got shape \(2, 3, 1\)\."),
        (".off", {}, r"textures must be None to be saved as \.off, got some: use one of \.obj, \.ply, \.glb"),
    ],
)
def test_uv_texture_that_cannot_be_saved_is_an_error_and_writes_nothing(tmp_path, ending, changes, message):
    mesh = unsorted_mesh()._replace(textures=unsorted_texture(**changes))
    with pytest.raises(ValueError, match=f"^{message}"):
        jnr.save(tmp_path / f"mesh{ending}", mesh)
    assert not list(tmp_path.iterdir())


@pytest.mark.validation
@pytest.mark.parametrize("name", ["images", "uv"])
def test_texture_that_is_not_finite_is_not_saved(tmp_path, name):
    texture = unsorted_texture()
    texture = dataclasses.replace(texture, **{name: getattr(texture, name).at[0, 0].set(jnp.nan)})
    with pytest.raises(ValueError, match=f"^{name} must be finite float32 numbers to be saved, got NaN or infinity"):
        jnr.save(tmp_path / "mesh.obj", unsorted_mesh()._replace(textures=texture))


@pytest.mark.validation
@pytest.mark.parametrize("ending", WITH_COLORS)
def test_face_without_texture_coordinates_is_not_saved(tmp_path, ending):
    texture = unsorted_texture()
    texture = dataclasses.replace(texture, uv_faces=texture.uv_faces.at[1, 2].set(-1))
    with pytest.raises(
        ValueError, match=r"^uv_faces must index uv at every corner of a face that is not padding to be saved"
    ):
        jnr.save(tmp_path / f"mesh{ending}", unsorted_mesh()._replace(textures=texture))
    assert not list(tmp_path.iterdir())


@pytest.mark.validation
@pytest.mark.parametrize("name", ["-s 1.obj", " mesh.obj", "a\nb.obj", "a\nb.ply"])
def test_file_name_that_a_textured_file_cannot_refer_to_is_an_error(tmp_path, name):
    with pytest.raises(ValueError, match=r"^path must have a name without "):
        jnr.save(tmp_path / name, unsorted_mesh()._replace(textures=unsorted_texture()))
    assert not list(tmp_path.iterdir())


@pytest.mark.validation
def test_glb_of_more_indices_than_float32_represents_is_an_error(tmp_path):
    texture = jnr.UVTexture(jnp.ones((1, 1, 3)), jnp.zeros((2**24 + 1, 2)), jnp.zeros((5, 3), jnp.int32))
    with pytest.raises(ValueError, match=r"^uv_faces must index at most 2\*\*24 .*, got 9 and 16777217\."):
        jnr.save(tmp_path / "mesh.glb", unsorted_mesh()._replace(textures=texture))


@pytest.mark.validation
def test_unknown_wrap_is_an_error_that_lists_the_choices(tmp_path):
    path = write_file(tmp_path, "mesh.obj", SQUARE + "f 1 2 3\n")
    with pytest.raises(ValueError, match=r"^wrap must be one of 'repeat', 'mirror', 'clamp', 'border', got 'tile'\."):
        jnr.load(path, wrap="tile")  # pyright: ignore[reportArgumentType]: wrong on purpose


@pytest.mark.validation
@pytest.mark.parametrize(("module", "call"), [("PIL.Image", "load"), ("PIL.Image", "save"), ("tqdm", "load")])
def test_missing_package_is_an_error_that_names_the_install_command(tmp_path, monkeypatch, module, call):
    mesh = unsorted_mesh()._replace(textures=unsorted_texture())
    jnr.save(tmp_path / "mesh.obj", mesh)
    monkeypatch.setitem(importlib.import_module("sys").modules, module, None)
    with pytest.raises(ImportError, match=r'pip install "jnr\[io\]"'):
        jnr.load(tmp_path / "mesh.obj", progress=module == "tqdm") if call == "load" else jnr.save(
            tmp_path / "other.obj", mesh
        )
