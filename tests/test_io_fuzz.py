"""Corrupted files of every format: each loads as a valid mesh or raises ValueError."""

import base64
import json
import re
import struct
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from gltf_files import TRIANGLE, TRIANGLE_UV, Gltf, encoded

import jnr
from jnr._textures import check_uv
from jnr.io._parts import Files
from jnr.io._polygons import triangulate

pytest.importorskip("PIL", reason="textures need the io extra")
hypothesis = pytest.importorskip("hypothesis", reason="it makes the broken files")
st = hypothesis.strategies

EXAMPLES = 150
# Numbers and words that often break parsers.
TOKENS = [
    *(b"", b"0", b"-1", b"1", b"2", b"3", b"4", b"255", b"1e39", b"nan", b"inf", b"-inf", b"2147483648", b"4294967297"),
    *(
        b"99999999999999999999",
        b"1/1",
        b"1//1",
        b"1/1/1",
        b"/",
        b"//",
        b"#",
        b"\\",
        b"\n",
        b"\0",
        b'"',
        b"[",
        b"]",
        b"{",
    ),
    *(
        b"null",
        b"true",
        b"[]",
        b"{}",
        b"..",
        b"/etc/passwd",
        b"../skin.png",
        b"x" * 100,
        b"\xff\xfe",
        b"f",
        b"v",
        b"vt",
    ),
    *(
        b"\xef\xbb\xbf",
        b"\\\n",
        b"\\\r\n",
        b" # ",
        b"'",
        b"vn",
        b"l",
        b"map_d",
        b"-o",
        b"-s",
        b"-clamp",
        b"Tr",
        b"0.5",
        b"255",
    ),
    *(b"usemtl", b"mtllib", b"list", b"element", b"property", b"float", b"uchar", b"POSITION", b"_UV", b"_VERTEX"),
]


def textured_mesh():
    rng = np.random.default_rng(0)
    faces = jnp.asarray([[0, 1, 2], [2, 1, 3], [3, 1, 0]], jnp.int32)
    image = jnp.asarray(rng.random((2, 3, 3)), jnp.float32)
    uv = jnp.asarray(rng.random((6, 2)), jnp.float32)
    uv_faces = jnp.asarray([[5, 0, 1], [2, 3, 4], [0, 0, 1]], jnp.int32)
    return jnr.Mesh(
        jnp.asarray(rng.normal(size=(4, 3)), jnp.float32),
        faces,
        jnr.UVTexture((image, image[:1]), uv, uv_faces, jnp.asarray([0, 1, 0], jnp.int32), wrap=("repeat", "clamp")),
    )


def files(folder):
    """Valid files of every format, by name."""
    mesh = textured_mesh()
    one = mesh._replace(textures=jnr.UVTexture(mesh.textures.images[0], mesh.textures.uv, mesh.textures.uv_faces))
    jnr.save(folder / "skin.obj", mesh)
    jnr.save(folder / "skin.ply", one)
    jnr.save(folder / "skin.glb", mesh)
    jnr.save(folder / "plain.stl", mesh._replace(textures=None))
    jnr.save(folder / "plain.off", mesh._replace(textures=None))
    jnr.save(folder / "colors.obj", mesh._replace(textures=jnp.ones((4, 3))))
    jnr.save(folder / "colors.glb", mesh._replace(textures=jnp.ones((4, 3))))
    (folder / "strips.ply").write_bytes(
        b"ply\nformat binary_big_endian 1.0\nelement vertex 4\nproperty double x\nproperty double y\n"
        b"property double z\n"
        b"property ushort diffuse_red\nproperty ushort diffuse_green\nproperty ushort diffuse_blue\n"
        b"element edge 2\nproperty list uchar int vertices\nelement face 2\nproperty list ushort int64 vertex_index\n"
        b"property float red\nproperty float green\nproperty float blue\nelement tristrips 1\n"
        b"property list int int vertex_indices\nend_header\n"
        + b"".join(struct.pack(">3d3H", *row, 0, 300, 65535) for row in [(0, 0, 0), (2, 0, 0), (2, 2, 0), (1, 0.5, 0)])
        + struct.pack(">B2iB3i", 2, 0, 1, 3, 0, 1, 2)
        + struct.pack(">H4q3fH3q3f", 4, 0, 1, 2, 3, 0, 0.5, 1, 3, 0, 1, 2, 1, 1, 1)
        + struct.pack(">8i", 7, 0, 1, 2, -1, 1, 2, 3)
    )
    (folder / "colors.off").write_text(
        "STCNOFF # with everything\n4 4 0\n0 0 0 0 0 1 255 0 0 255 0 0\n2 0 0 0 0 1 255 0 0 255 1 0\n"
        "2 2 0 0 0 1 0 255 0 255 1 1\n1 0.5 0 0 0 1 0 0 255 128 0 1\n4 0 1 2 3 255 0 0\n3 0 1 2\n3 0 2 3 7\n2 0 1\n"
    )
    (folder / "text.ply").write_text(
        "ply\nformat ascii 1.0\ncomment TextureFile skin.png\nelement vertex 4\nproperty float x\nproperty float y\n"
        "property float z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\nelement face 2\n"
        "property list uchar int vertex_indices\nproperty list uchar float texcoord\nproperty int texnumber\n"
        "end_header\n0 0 0 1 2 3\n1 0 0 4 5 6\n1 1 0 7 8 9\n0 1 0 9 9 9\n3 0 1 2 6 0 0 1 0 1 1 0\n4 0 1 2 3 0 0\n"
    )
    (folder / "text.stl").write_text(
        "solid a\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\n"
        "endfacet\nendsolid a\n"
    )
    # Byte order marks, comments, quotes, continued lines, opacity, normals and polygons that are not convex.
    (folder / "rich.obj").write_bytes(
        b"\xef\xbb\xbf# C:\\models\\\nmtllib rich.mtl # all\nv 0 0 0\nv 3 0 0\nv 3 1 0\nv 1 1 0\nv 1 3 0\nv 0 3 \\\n0\n"
        b"vt 0 0\nvt 1 0\nvt 1 1\nvn 0 0 1\nvn 0 1 0\nusemtl a b # first\nf 1/1/1 2/2/1 3/3/1 4/1/1 5/2/1 6/3/1\n"
        b"l 1 2\nusemtl glass\nf 6//2 5//2 4//2 3//2 2//2 \\\r\n1//2\nf -1/-1/-1 -2/-2/-1 -3/-3/-2\nf 1 2\n"
    )
    (folder / "rich.mtl").write_bytes(
        b'\xef\xbb\xbfnewmtl a b\nKd 1 0 0\nmap_Kd -s 1 1 1 -clamp on "skin_0.png" # image\nmap_d SKIN_0.PNG\n'
        b"newmtl glass\nKd 0 0 1\nd 0.5 # half\nmap_Bump -bm 1 b.png\nnewmtl unused\nTr 1\nmap_Kd gone.png\n"
    )
    (folder / "rich_colors.obj").write_text(
        "v 0 0 0 255 0 0\nv 3 0 0 0 255 0\nv 1 1 0\nv 0 3 0 1 2 3.5\nvt 0 0\nf 1/1 2/1 3/1 4/1\nf 4 3 2 1 1 2\n"
    )
    content = (folder / "skin.glb").read_bytes()
    (length,) = struct.unpack_from("<I", content, 12)
    document = json.loads(content[20 : 20 + length])
    document["buffers"][0]["uri"] = "data:;base64," + base64.b64encode(content[28 + length :]).decode()
    document["nodes"] = [{"children": [1], "scale": [1, -1, 2]}, {"mesh": 0, "rotation": [0, 1, 0, 0]}]
    (folder / "skin.gltf").write_text(json.dumps(document))
    rich_gltf(folder).rename(folder / "rich.gltf")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rich_gltf(folder):
    """A file with instances, morph targets, a skin, sparse and quantized accessors, opacity, and normals."""
    file = Gltf()
    sparse = {
        "count": 1,
        "indices": {"bufferView": file.view(b"\2\0"), "componentType": 5123},
        "values": {"bufferView": file.view(TRIANGLE[1].tobytes())},
    }
    attributes = {
        "POSITION": file.array(TRIANGLE, sparse=sparse),
        "NORMAL": file.array(127 * np.eye(3), "i1", normalized=True),
        "TEXCOORD_0": file.array(255 * TRIANGLE_UV, "u1", normalized=True),
        "COLOR_0": file.array(TRIANGLE),
        "JOINTS_0": file.array([[0, 1, 0, 0]] * 3, "u1"),
        "WEIGHTS_0": file.array([[0.5, 0.5, 0, 0]] * 3),
    }
    strip = {"attributes": attributes, "material": 0, "mode": 5, "targets": [{"POSITION": file.array(TRIANGLE)}]}
    fan = {"attributes": {"POSITION": file.accessor(3, 3)}, "indices": file.array([0, 1, 2, 0], "u1"), "mode": 6}
    places = {"TRANSLATION": file.array(TRIANGLE), "ROTATION": file.array(np.eye(4)[:3]), "SCALE": file.array(TRIANGLE)}
    surface = {"baseColorTexture": {"index": 0}, "baseColorFactor": [0.5, 1, 1, 0.5]}
    diffuse = {"KHR_materials_pbrSpecularGlossiness": {"diffuseFactor": [0.5, 1, 1, 0.5]}}
    return file.save(
        folder,
        [strip, {**fan, "material": 1}],
        mesh={"weights": [0.5]},
        nodes=[
            {"mesh": 0, "skin": 0, "weights": [0.25], "children": [1, 2]},
            {"mesh": 0, "extensions": {"EXT_mesh_gpu_instancing": {"attributes": places}}},
            {"rotation": [0, 0, 1, 0], "extensions": {"KHR_node_visibility": {"visible": False}}},
        ],
        skins=[{"joints": [1, 2], "inverseBindMatrices": file.array([np.eye(4).reshape(-1)] * 2)}],
        materials=[
            {"pbrMetallicRoughness": surface, "alphaMode": "MASK", "alphaCutoff": 0.25},
            {"extensions": diffuse, "alphaMode": "BLEND"},
        ],
        samplers=[{"wrapS": 33071, "wrapT": 33648}],
        **file.with_image(encoded([(1, 0, 0, 0.2)], mode="RGBA"), textures=[{"source": 0, "sampler": 0}]),
    )


def assert_valid(mesh):
    assert mesh.vertices.dtype == jnp.float32
    assert mesh.faces.dtype == jnp.int32
    assert mesh.vertices.ndim == 2
    assert mesh.faces.shape[1:] == (3,)
    assert np.all(np.isfinite(mesh.vertices))
    faces = np.asarray(mesh.faces)
    assert faces.size
    assert faces.min() >= 0
    assert faces.max() < len(mesh.vertices)
    if isinstance(mesh.textures, jnr.UVTexture):
        checked = check_uv(mesh.textures, mesh.faces, len(mesh.vertices))
        assert np.all(np.isfinite(checked.uv))
        assert int(checked.uv_faces.min()) >= 0
        for image in checked.images:
            assert image.dtype == jnp.float32
            assert np.all(np.isfinite(image))
    elif mesh.textures is not None:
        assert mesh.textures.shape in (mesh.vertices.shape, (len(faces), 1, 1, 1, 3))
        assert np.all((np.asarray(mesh.textures) >= 0) & (np.asarray(mesh.textures) <= 1))


def assert_valid_or_rejected(path, *, is_valid=False):
    message = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            file = jnr.io.read(path)
        except ValueError as error:
            message = str(error)
    # All that is left out is in one warning.
    assert [str(one.message).partition(": ")[0] for one in caught] in ([], [f"{path.name} was loaded without"])
    if message is None:
        assert_valid(file.mesh)
        if file.normals is not None:
            assert file.normals.shape in (file.mesh.vertices.shape, (len(file.mesh.faces), 3, 3))
            assert np.all(np.isfinite(file.normals))
    else:
        assert not is_valid, message
        assert message.startswith("path must be ")


def corrupted(content, edits):
    """Applies edits: changes, removes or inserts bytes, swaps or replaces words, or cuts off the end."""
    for kind, at, other, value in edits:
        words = re.split(rb"(\s+|[,:/\[\]{}])", content)
        at, other = at % (len(content) + 1), other % (len(content) + 1)
        low, high = min(at, other), max(at, other)
        if kind == "byte":
            content = content[:at] + bytes([value % 256]) + content[at + 1 :]
        elif kind == "cut":
            content = content[:low] + content[min(high, low + value % 64) :]
        elif kind == "insert":
            content = content[:at] + TOKENS[value % len(TOKENS)] + content[at:]
        elif kind == "repeat":
            content = content[:high] + content[low : low + value % 200] + content[high:]
        elif kind == "end":
            content = content[:at]
        else:
            i, j = at % len(words), other % len(words)
            words[i] = words[j] if kind == "swap" else TOKENS[value % len(TOKENS)]
            content = b"".join(words)
    return content


NUMBERS = st.integers(0, 2**20)
KINDS = st.sampled_from(["byte", "cut", "insert", "repeat", "end", "swap", "word", "word"])
EDITS = st.lists(st.tuples(KINDS, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=4)
FORMATS = ["skin.obj", "skin.ply", "skin.glb", "skin.gltf", "plain.stl", "plain.off", "colors.obj", "colors.glb"]
TEXTS = ["rich.gltf", "rich.obj", "rich_colors.obj", "text.ply", "text.stl"]
CORRUPTED = [*((name, name) for name in [*FORMATS, *TEXTS]), ("rich.obj", "rich.mtl")]
# Files that the mesh file names.
CORRUPTED += [("skin.obj", "skin.mtl"), ("skin.obj", "skin_0.png"), ("skin.ply", "skin.png")]
# Files with what few files have.
CORRUPTED += [("strips.ply", "strips.ply"), ("colors.off", "colors.off")]


@pytest.mark.parametrize(("name", "part"), CORRUPTED)
def test_corrupted_file_is_a_valid_mesh_or_a_value_error(tmp_path, name, part):
    folder = tmp_path / "valid"
    folder.mkdir()
    content = files(folder)[part]
    assert_valid_or_rejected(folder / name, is_valid=True)

    @hypothesis.settings(derandomize=True, deadline=None, max_examples=EXAMPLES, database=None)
    @hypothesis.given(EDITS)
    def check(edits):
        (folder / part).write_bytes(corrupted(content, edits))
        assert_valid_or_rejected(folder / name)

    check()


COORDINATES = st.one_of(st.integers(-2, 2), st.floats(width=32), st.sampled_from([1e300, 1e-300]))


def test_polygons_of_any_points_become_triangles(tmp_path):
    @hypothesis.settings(derandomize=True, deadline=None, max_examples=EXAMPLES, database=None)
    @hypothesis.given(
        st.lists(st.lists(st.tuples(*[COORDINATES] * 3), min_size=3, max_size=12), min_size=1, max_size=4)
    )
    def check(polygons):
        counts = np.array([len(polygon) for polygon in polygons])
        vertices = np.concatenate([np.array(polygon, float) for polygon in polygons])
        with np.errstate(all="ignore"):
            triangles, polygon = triangulate(vertices, np.arange(len(vertices)), counts, Files(tmp_path))
        np.testing.assert_array_equal(polygon, np.repeat(np.arange(len(counts)), counts - 2))
        # Each triangle has three different corners of its polygon in their order, and all corners are used.
        assert np.all(np.diff(triangles, axis=1) > 0)
        np.testing.assert_array_equal(
            np.repeat(np.arange(len(counts)), counts)[triangles], polygon[:, None].repeat(3, 1)
        )
        np.testing.assert_array_equal(np.unique(triangles), np.arange(len(vertices)))

    check()


@pytest.mark.parametrize("ending", [".obj", ".ply", ".stl", ".off", ".gltf", ".glb"])
def test_random_bytes_are_a_valid_mesh_or_a_value_error(tmp_path, ending):
    path = tmp_path / f"mesh{ending}"
    heads = [b"", b"ply\nformat ascii 1.0\n", b"OFF\n", b"solid\n", b"glTF\2\0\0\0", b"f 1 2 3\n", b'{"asset": {']

    @hypothesis.settings(derandomize=True, deadline=None, max_examples=EXAMPLES, database=None)
    @hypothesis.given(st.sampled_from(heads), st.binary(max_size=200))
    def check(head, content):
        path.write_bytes(head + content)
        assert_valid_or_rejected(path)

    check()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ending", [".obj", ".glb"])
def test_random_uv_texture_is_restored_exactly(tmp_path, ending, seed):
    rng = np.random.default_rng(seed)
    num_vertices, num_faces, num_uv, num_images = rng.integers(1, [12, 20, 12, 4])
    images = tuple(
        jnp.asarray(rng.integers(0, 256, (*rng.integers(1, 6, 2), 3)).astype(np.float32) / np.float32(255))
        for _ in range(num_images)
    )
    uv = (rng.normal(size=(num_uv, 2)) * 10.0 ** rng.integers(-30, 30, (num_uv, 1))).astype(np.float32)
    faces = rng.integers(0, num_vertices, (num_faces, 3)).astype(np.int32)
    uv_faces = rng.integers(0, num_uv, (num_faces, 3)).astype(np.int32)
    material = jnp.asarray(rng.integers(0, num_images, num_faces), jnp.int32)
    texture = jnr.UVTexture(
        images if num_images > 1 else images[0],
        jnp.asarray(uv),
        jnp.asarray(uv_faces),
        material if num_images > 1 else None,
        wrap="clamp",
    )
    vertices = jnp.asarray(rng.normal(size=(num_vertices, 3)), jnp.float32)
    jnr.save(tmp_path / f"mesh{ending}", jnr.Mesh(vertices, jnp.asarray(faces), texture))
    back = jnr.load(tmp_path / f"mesh{ending}")
    np.testing.assert_array_equal(back.vertices, vertices)
    np.testing.assert_array_equal(back.faces, faces)
    np.testing.assert_array_equal(back.textures.uv, uv)
    np.testing.assert_array_equal(back.textures.uv_faces, uv_faces)
    assert back.textures.wrap == "clamp"
    if num_images > 1:
        np.testing.assert_array_equal(back.textures.material, material)
    restored = back.textures.images if num_images > 1 else [back.textures.images]
    for k, (one, other) in enumerate(zip(restored, images, strict=True)):
        # Images that no face of an OBJ file shows are not opened.
        if ending != ".obj" or num_images == 1 or k in np.asarray(material):
            np.testing.assert_array_equal(one, other)
