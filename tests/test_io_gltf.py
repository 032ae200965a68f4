"""What the glTF reader and writer do with each feature of the format."""

import base64
import contextlib
import importlib
import struct
import sys
import time
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gltf_files import TRIANGLE, TRIANGLE_UV, Gltf, encoded

import jnr

pil = pytest.importorskip("PIL.Image", reason="textures need the io extra")

FLIPPED_UV = TRIANGLE_UV * (1, -1) + (0, 1)
RED, GREEN, BLUE = (1, 0, 0), (0, 1, 0), (0, 0, 1)
SKIN = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}


@pytest.fixture
def file():
    return Gltf()


def read(path) -> Any:
    """What `jnr.io.read` returns, with one warning that names what was left out."""
    with pytest.warns(UserWarning, match=r"^mesh\.gltf was loaded without: ") as caught:
        read = jnr.io.read(path)
    assert len(caught) == 1
    assert all(text in str(caught[0].message) for text in read.left_out)
    return read


def colored(factor, **more):
    return {"pbrMetallicRoughness": {"baseColorFactor": factor}, **more}


# --- colours of vertices


def test_vertex_colours_are_multiplied_by_the_colour_of_the_material(tmp_path, file):
    colors = np.array([[1, 0.5, 0.25], [0, 1, 1], [1, 1, 0]])
    primitives = [
        file.triangle(attributes={"COLOR_0": file.array(colors)}, material=0),
        file.triangle(material=0),
        file.triangle(attributes={"COLOR_0": file.array(colors)}),
        file.triangle(),
    ]
    mesh = jnr.load(file.save(tmp_path, primitives, materials=[colored([0.5, 1, 0.25, 1])]))
    factor = [0.5, 1, 0.25]
    expected = [*(colors * factor), *[factor] * 3, *colors, *[[1, 1, 1]] * 3]
    np.testing.assert_allclose(np.asarray(mesh.textures), expected, atol=1e-7)


def test_primitives_that_share_vertices_have_the_colours_of_their_own_materials(tmp_path, file):
    shared = file.triangle(attributes={"COLOR_0": file.array(np.full((3, 3), 0.5))})
    primitives = [{**shared, "material": k} for k in (0, 1)]
    mesh = jnr.load(file.save(tmp_path, primitives, materials=[colored([1, 0, 0, 1]), colored([0, 1, 0, 1])]))
    np.testing.assert_array_equal(mesh.textures, [[0.5, 0, 0]] * 3 + [[0, 0.5, 0]] * 3)
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("color", [0.5, 1])
def test_vertex_colours_beside_images_are_named_unless_they_are_white(tmp_path, file, color):
    primitive = file.triangle(attributes={"COLOR_0": file.array(np.full((3, 4), color))}, material=0)
    path = file.save(tmp_path, [primitive], materials=[SKIN], **file.with_image(encoded([RED])))
    mesh = jnr.load(path) if color == 1 else read(path).mesh
    np.testing.assert_array_equal(mesh.textures.images, [[RED]])
    if color != 1:
        assert read(path).left_out == ("vertex colours beside images",)


@pytest.mark.parametrize(
    ("alpha", "factor", "mode", "is_named"),
    [(0.5, 1, "BLEND", True), (1, 0.5, "MASK", True), (0.5, 0.5, "OPAQUE", False), (1, 1, "BLEND", False)],
)
def test_opacity_of_vertex_colours_is_named(tmp_path, file, alpha, factor, mode, is_named):
    primitive = file.triangle(attributes={"COLOR_0": file.array([[1, 1, 0, alpha]] * 3)}, material=0)
    path = file.save(tmp_path, [primitive], materials=[colored([1, 0, 1, factor], alphaMode=mode)])
    mesh = read(path).mesh if is_named else jnr.load(path)
    np.testing.assert_array_equal(mesh.textures, [[1, 0, 0]] * 3)
    if is_named:
        assert read(path).left_out == ("opacity of vertex colours",)


def test_texture_coordinates_beside_vertex_colours_are_named(tmp_path, file):
    attributes = {"COLOR_0": file.array(TRIANGLE), "TEXCOORD_0": file.array(TRIANGLE_UV)}
    loaded = read(file.save(tmp_path, [file.triangle(attributes=attributes)]))
    assert loaded.left_out == ("texture coordinates beside vertex colours",)
    np.testing.assert_array_equal(loaded.mesh.textures, TRIANGLE)


def test_colours_outside_zero_to_one_are_clipped_and_named(tmp_path, file):
    path = file.save(tmp_path, [file.triangle(material=0)], materials=[colored([1e308, -1, 0.5, 1])])
    assert read(path).left_out == ("parts of colours outside [0, 1] (clipped)",)
    np.testing.assert_array_equal(read(path).mesh.textures.images, [[[1, 0, 0.5]]])
    primitive = file.triangle(attributes={"COLOR_0": file.array([[4, 0.5, -1]] * 3)}, material=0)
    loaded = read(file.save(tmp_path, [primitive], materials=[colored([0.5, 0.5, 0.5, 1])]))
    np.testing.assert_array_equal(loaded.mesh.textures, [[0.5, 0.25, 0]] * 3)


# --- materials


def test_texture_coordinates_without_an_image_are_kept_for_a_texture_to_be_optimised(tmp_path, file):
    attributes = {"TEXCOORD_0": file.array(TRIANGLE_UV)}
    mesh = jnr.load(file.save(tmp_path, [file.triangle(attributes=attributes)]))
    np.testing.assert_array_equal(mesh.textures.images, [[[1, 1, 1]]])
    np.testing.assert_array_equal(mesh.textures.uv, FLIPPED_UV)
    materials = [colored([1, 0, 0, 1]), {}]
    mesh = jnr.load(file.save(tmp_path, [file.triangle(attributes=attributes, material=0)], materials=materials))
    np.testing.assert_array_equal(mesh.textures.images[0], [[RED]])
    np.testing.assert_array_equal(mesh.textures.uv, FLIPPED_UV)


def test_diffuse_colour_of_specular_glossiness_is_the_base_colour(tmp_path, file):
    diffuse = {"diffuseFactor": [0.5, 1, 1, 1], "diffuseTexture": {"index": 0}}
    material = colored([0, 0, 0, 1], extensions={"KHR_materials_pbrSpecularGlossiness": diffuse})
    attributes = {"TEXCOORD_0": file.array(TRIANGLE_UV)}
    more = file.with_image(encoded([RED, BLUE]), extensionsRequired=["KHR_materials_pbrSpecularGlossiness"])
    mesh = jnr.load(
        file.save(tmp_path, [file.triangle(attributes=attributes, material=0)], materials=[material], **more)
    )
    np.testing.assert_array_equal(mesh.textures.images, [[[0.5, 0, 0], BLUE]])
    diffuse["glossinessFactor"] = 0.25
    loaded = read(file.save(tmp_path, [file.triangle(material=0)], materials=[material], **more))
    assert loaded.left_out == ("material properties other than base colour: glossinessFactor",)


@pytest.mark.parametrize("kind", ["plain", "transform"])
def test_material_chooses_its_texture_coordinates(tmp_path, file, kind):
    texture = {"index": 0, "texCoord": 1}
    if kind == "transform":
        texture = {"index": 0, "texCoord": 1, "extensions": {"KHR_texture_transform": {"offset": [0.5, 0]}}}
    attributes = {"TEXCOORD_0": file.array(TRIANGLE_UV), "TEXCOORD_1": file.array(TRIANGLE_UV[::-1])}
    path = file.save(
        tmp_path,
        [file.triangle(attributes=attributes, material=0)],
        materials=[{"pbrMetallicRoughness": {"baseColorTexture": texture}}],
        **file.with_image(encoded([RED])),
    )
    assert read(path).left_out == ("vertex attributes: TEXCOORD_0",)
    shift = np.array([0.5 * (kind == "transform"), 0])
    np.testing.assert_array_equal(read(path).mesh.textures.uv, FLIPPED_UV[::-1] + shift)


@pytest.mark.parametrize(
    ("name", "is_required"),
    [
        *((f"KHR_materials_{name}", True) for name in ("ior", "clearcoat", "transmission", "specular", "sheen")),
        *((f"KHR_materials_{name}", True) for name in ("volume", "iridescence", "anisotropy", "dispersion", "unlit")),
        ("KHR_materials_emissive_strength", True),
        ("VENDOR_materials_unknown", False),
    ],
)
def test_extension_of_a_material_without_effect_on_base_colour_is_named(tmp_path, file, name, is_required):
    material = colored([1, 0, 0, 1], extensions={name: {}})
    required = [name] if is_required else []
    loaded = read(file.save(tmp_path, [file.triangle(material=0)], materials=[material], extensionsRequired=required))
    assert loaded.left_out == (f"material properties other than base colour: {name}",)
    np.testing.assert_array_equal(loaded.mesh.textures.images, [[RED]])


@pytest.mark.parametrize("name", ["KHR_xmp_json_ld", "KHR_lights_punctual", "KHR_materials_variants", "KHR_xmp"])
def test_required_extension_that_the_mesh_does_not_need_is_no_reason_to_reject(tmp_path, file, name):
    mesh = jnr.load(file.save(tmp_path, [file.triangle()], extensionsRequired=[name], extensionsUsed=[name]))
    np.testing.assert_array_equal(mesh.vertices, TRIANGLE)


@pytest.mark.validation
def test_unknown_required_extension_is_an_error(tmp_path, file):
    path = file.save(tmp_path, [file.triangle()], extensionsRequired=["VENDOR_geometry"])
    with pytest.raises(ValueError, match="it requires the unsupported extension VENDOR_geometry"):
        jnr.load(path)


def test_properties_other_than_base_colour_are_named_once(tmp_path, file):
    surface = {"metallicFactor": 0.5, "roughnessFactor": 1, "metallicRoughnessTexture": {"index": 9}}
    material = {"normalTexture": {"index": 9}, "emissiveFactor": [1, 0, 0], "pbrMetallicRoughness": surface}
    neutral = {"emissiveFactor": [0, 0, 0], "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0}}
    primitives = [file.triangle(material=0), file.triangle(material=1)]
    loaded = read(file.save(tmp_path, primitives, materials=[material, {"doubleSided": True, **neutral}]))
    names = "emissiveFactor, metallicFactor, metallicRoughnessTexture, normalTexture"
    assert loaded.left_out == (f"material properties other than base colour: {names}",)
    jnr.load(file.save(tmp_path, primitives[1:], materials=[material, neutral]))
    jnr.load(file.save(tmp_path, primitives, materials=[material, neutral]), textures=False)


# --- opacity

CLEAR_RED = (1, 0, 0, 0.2)


@pytest.mark.parametrize(
    ("more", "image", "alpha", "cutoff"),
    [
        ({}, [[RED]], None, 0.5),
        ({"alphaMode": "OPAQUE"}, [[RED]], None, 0.5),
        ({"alphaMode": "BLEND"}, [[CLEAR_RED]], "blend", 0.5),
        ({"alphaMode": "MASK"}, [[CLEAR_RED]], "mask", 0.5),
        ({"alphaMode": "MASK", "alphaCutoff": 0.25}, [[CLEAR_RED]], "mask", 0.25),
    ],
)
def test_alpha_mode_says_what_the_fourth_channel_does(tmp_path, file, more, image, alpha, cutoff):
    primitive = file.triangle(attributes={"TEXCOORD_0": file.array(TRIANGLE_UV)}, material=0)
    document = file.with_image(encoded([CLEAR_RED], mode="RGBA"))
    texture = jnr.load(file.save(tmp_path, [primitive], materials=[SKIN | more], **document)).textures
    np.testing.assert_allclose(texture.images, image, atol=1e-6)
    assert (texture.alpha, texture.alpha_cutoff) == (alpha, cutoff)


def test_materials_of_different_alpha_modes_all_have_four_channels(tmp_path, file):
    materials = [SKIN, colored([0, 0, 1, 0.5]), SKIN | {"alphaMode": "MASK", "alphaCutoff": 0.75}]
    materials += [colored([0, 1, 0, 0.5], alphaMode="BLEND")]
    primitives = [file.triangle(material=k) for k in range(4)]
    document = file.with_image(encoded([CLEAR_RED], mode="RGBA"))
    texture = jnr.load(file.save(tmp_path, primitives, materials=materials, **document)).textures
    expected = [(1, 0, 0, 1), (0, 0, 1, 1), CLEAR_RED, (0, 1, 0, 0.5)]
    np.testing.assert_allclose(np.array(texture.images)[:, 0, 0], expected, atol=1e-6)
    # The opacity of opaque materials is 1.
    assert texture.alpha == ("blend", "blend", "mask", "blend")
    assert texture.alpha_cutoff == (0.5, 0.5, 0.75, 0.5)


@pytest.mark.parametrize(("cutoff", "channels"), [(0.5, 3), (1.5, 4)])
def test_mask_of_what_is_opaque_needs_no_opacity_unless_it_hides_all(tmp_path, file, cutoff, channels):
    material = colored([1, 0, 0, 1], alphaMode="MASK", alphaCutoff=cutoff)
    texture = jnr.load(file.save(tmp_path, [file.triangle(material=0)], materials=[material])).textures
    assert texture.images.shape == (1, 1, channels)
    assert texture.alpha == (None if channels == 3 else "mask")


def test_opacity_and_wrap_modes_are_restored(tmp_path):
    rng = np.random.default_rng(0)
    images = tuple(jnp.asarray(rng.integers(0, 256, (2, 2, 4)) / 255, jnp.float32) for _ in range(3))
    texture = jnr.UVTexture(
        images,
        jnp.asarray(TRIANGLE_UV),
        material=jnp.array([0, 1, 2, 0]),
        wrap=(("repeat", "clamp"), "mirror", ("mirror", "repeat")),
        alpha=("mask", "blend", "mask"),
        alpha_cutoff=(0.25, 0.5, 0.75),
    )
    faces = jnp.asarray([[0, 1, 2]] * 4, jnp.int32)
    jnr.save(tmp_path / "mesh.glb", jnr.Mesh(jnp.asarray(TRIANGLE), faces, texture))
    back = jnr.load(tmp_path / "mesh.glb").textures
    np.testing.assert_array_equal(back.images, images)
    np.testing.assert_array_equal(back.material, texture.material)
    assert (back.wrap, back.alpha, back.alpha_cutoff) == (texture.wrap, texture.alpha, texture.alpha_cutoff)


# --- images


@pytest.mark.parametrize(
    ("sampler", "wrap"),
    [
        ({"wrapS": 33071, "wrapT": 10497}, (("clamp", "repeat"),)),
        ({"wrapS": 33648, "wrapT": 33071}, (("mirror", "clamp"),)),
        ({"wrapS": 33071}, (("clamp", "repeat"),)),
        ({"wrapT": 33071}, (("repeat", "clamp"),)),
        ({"wrapT": 10497}, "repeat"),
        ({}, "border"),
    ],
)
def test_wrap_modes_of_the_two_axes_may_differ(tmp_path, file, sampler, wrap):
    document = file.with_image(encoded([RED]), textures=[{"source": 0, "sampler": 0}], samplers=[sampler])
    path = file.save(tmp_path, [file.triangle(material=0)], materials=[SKIN], **document)
    assert jnr.load(path, wrap="border").textures.wrap == wrap


@pytest.mark.parametrize("source", ["absent.png", "broken.png", "huge.png"])
def test_image_of_an_unused_material_is_not_opened(tmp_path, file, source):
    (tmp_path / "broken.png").write_bytes(b"no image")
    pil.new("1", (11600, 11600)).save(tmp_path / "huge.png")
    materials = [colored([1, 0, 0, 1]), SKIN | {"alphaMode": "BLEND", "normalTexture": {"index": 0}}]
    document = {"materials": materials, "textures": [{"source": 0}], "images": [{"uri": source}]}
    texture = jnr.load(file.save(tmp_path, [file.triangle(material=0)], **document)).textures
    np.testing.assert_array_equal(texture.images[0], [[RED]])
    assert texture.alpha is None


def test_webp_image_of_the_extension_is_read(tmp_path, file):
    textures = [{"extensions": {"EXT_texture_webp": {"source": 0}}}]
    document = file.with_image(encoded([RED, GREEN], kind="WEBP"), textures=textures)
    path = file.save(
        tmp_path, [file.triangle(material=0)], materials=[SKIN], extensionsRequired=["EXT_texture_webp"], **document
    )
    np.testing.assert_array_equal(jnr.load(path).textures.images, [[RED, GREEN]])


def test_image_in_an_unsupported_format_is_gray_unless_there_is_another(tmp_path, file):
    basisu = {"extensions": {"KHR_texture_basisu": {"source": 1}}}
    document = file.with_image(encoded([RED]), materials=[SKIN], extensionsRequired=["KHR_texture_basisu"])
    primitives = [file.triangle(material=0)]
    fallback = file.save(tmp_path, primitives, **document | {"textures": [basisu | {"source": 0}]})
    np.testing.assert_array_equal(jnr.load(fallback).textures.images, [[RED]])
    with pytest.raises(ValueError, match="without an image in a supported format without KHR_texture_basisu"):
        jnr.load(file.save(tmp_path, primitives, **document | {"textures": [basisu]}))
    loaded = read(file.save(tmp_path, primitives, **document | {"textures": [basisu], "extensionsRequired": []}))
    assert loaded.left_out == ("the image of texture 0, which needs KHR_texture_basisu (grey in its place)",)
    np.testing.assert_array_equal(loaded.mesh.textures.images, [[[0.5, 0.5, 0.5]]])


def test_nearest_filtering_is_named(tmp_path, file):
    document = file.with_image(encoded([RED]), textures=[{"source": 0, "sampler": 0}], samplers=[{"magFilter": 9728}])
    path = file.save(tmp_path, [file.triangle(material=0)], materials=[SKIN], **document)
    assert read(path).left_out == ("nearest filtering of textures",)


# --- the scene


def turned_by(quaternion, point):
    """A point turned by a unit quaternion (x, y, z, w): Rodrigues' formula with half angles."""
    axis, w = np.array(quaternion[:3]), quaternion[3]
    return point + 2 * np.cross(axis, np.cross(axis, point) + w * point)


def test_nodes_apply_scale_then_rotation_then_translation_then_their_parent(tmp_path, file):
    rng = np.random.default_rng(0)
    nodes = []
    for k in range(8):
        quaternion = rng.normal(size=4)
        quaternion /= np.linalg.norm(quaternion)
        node = {"rotation": quaternion.tolist(), "scale": rng.uniform(0.5, 2, 3).tolist()}
        nodes.append({**node, "translation": rng.normal(size=3).tolist(), "children": [k + 1]})
    nodes.append({"mesh": 0})
    expected = TRIANGLE.astype(np.float64)
    for node in reversed(nodes[:-1]):
        expected = turned_by(node["rotation"], expected * node["scale"]) + node["translation"]
    path = file.save(tmp_path, [file.triangle()], nodes=nodes, scenes=[{"nodes": [0]}])
    np.testing.assert_allclose(jnr.load(path).vertices, expected, rtol=1e-5, atol=1e-5)


def test_matrix_of_a_node_is_stored_by_columns(tmp_path, file):
    matrix = np.array([[0, -2, 0, 5], [1, 0, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1.0]])
    nodes = [{"mesh": 0, "matrix": matrix.T.reshape(-1).tolist()}]
    path = file.save(tmp_path, [file.triangle(shift=(0, 0, 1))], nodes=nodes)
    np.testing.assert_array_equal(jnr.load(path).vertices, [[5, 6, 10], [5, 7, 10], [3, 6, 10]])


def test_chain_of_many_nodes_adds_up(tmp_path, file):
    nodes = [{"translation": [1, 2, 0.5], "children": [k + 1]} for k in range(3000)] + [{"mesh": 0}]
    mesh = jnr.load(file.save(tmp_path, [file.triangle()], nodes=nodes))
    np.testing.assert_array_equal(mesh.vertices, TRIANGLE + np.array([3000, 6000, 1500]))


def test_coordinates_far_from_the_origin_keep_their_digits(tmp_path, file):
    nodes = [{"translation": [4e8, 5e8, 0], "children": [1]}, {"mesh": 0, "translation": [0.125, 0, 0]}]
    path = file.save(tmp_path, [file.triangle()], nodes=nodes)
    loaded = jnr.io.read(path, center=True)
    np.testing.assert_array_equal(loaded.center, [4e8 + 0.625, 5e8 + 0.5, 0])
    np.testing.assert_array_equal(loaded.mesh.vertices, TRIANGLE - np.array([0.5, 0.5, 0], "f4"))
    with jax.enable_x64(True):
        np.testing.assert_array_equal(jnr.load(path).vertices, TRIANGLE + np.array([4e8 + 0.125, 5e8, 0]))
    assert read(path).left_out[0].startswith("precision: ")


def test_hidden_node_is_not_drawn_nor_are_its_children(tmp_path, file):
    hidden = {"extensions": {"KHR_node_visibility": {"visible": False}}, "children": [1]}
    nodes = [hidden, {"mesh": 0}, {"mesh": 0, "translation": [5, 0, 0]}]
    path = file.save(tmp_path, [file.triangle()], nodes=nodes, extensionsRequired=["KHR_node_visibility"])
    np.testing.assert_array_equal(jnr.load(path).vertices, TRIANGLE + np.array([5, 0, 0], "f4"))


@pytest.mark.parametrize("dtype", ["f4", "i2"])
def test_instances_of_a_node_are_drawn_in_order(tmp_path, file, dtype):
    half = np.sqrt(0.5)
    rotation = np.array([[0, 0, 0, 1], [0, 0, half, half]])
    if dtype == "i2":
        rotation = np.round(rotation * 32767)
    places = {
        "TRANSLATION": file.array([[10, 0, 0], [20, 0, 0]]),
        "ROTATION": file.array(rotation, dtype, **({"normalized": True} if dtype == "i2" else {})),
        "SCALE": file.array([[1, 1, 1], [2, 1, -1]]),
    }
    instances = {"extensions": {"EXT_mesh_gpu_instancing": {"attributes": places}}}
    nodes = [{"mesh": 0, "translation": [0, 0, 5], **instances}, {"mesh": 0}]
    required = ["EXT_mesh_gpu_instancing"]
    mesh = jnr.load(file.save(tmp_path, [file.triangle()], nodes=nodes, extensionsRequired=required))
    first, second = TRIANGLE + np.array([10, 0, 5]), [[20, 0, 5], [20, 2, 5], [19, 0, 5]]
    np.testing.assert_allclose(mesh.vertices, [*first, *second, *TRIANGLE], atol=1e-5)
    # The second instance is reflected.
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [5, 4, 3], [6, 7, 8]])


def test_default_weights_morph_the_mesh(tmp_path, file):
    up, bent = file.array([[0, 0, 1]] * 3), file.array([[4, 0, 0], [0, 4, 0], [0, 0, 4]])
    attributes = {"NORMAL": file.array([[0, 0, 1]] * 3)}
    primitive = file.triangle(attributes=attributes, targets=[{"POSITION": up, "NORMAL": bent}, {"POSITION": bent}])
    nodes = [{"mesh": 0}, {"mesh": 0, "weights": [0, 0.5]}]
    loaded = read(file.save(tmp_path, [primitive], mesh={"weights": [0.25, 0]}, nodes=nodes))
    assert loaded.left_out == ("morph targets other than by their default weights",)
    morphed = TRIANGLE + np.array([[2, 0, 0], [0, 2, 0], [0, 0, 2]])
    np.testing.assert_array_equal(loaded.mesh.vertices, [*(TRIANGLE + np.array([0, 0, 0.25])), *morphed])
    half = np.sqrt(0.5)
    expected = [[half, 0, half], [0, half, half], [0, 0, 1], *[[0, 0, 1]] * 3]
    np.testing.assert_allclose(loaded.normals, expected, atol=1e-6)


def skinned(file, joints, weights):
    attributes = {"JOINTS_0": file.array(joints, "u1"), "WEIGHTS_0": file.array(weights)}
    return file.triangle(attributes=attributes | {"NORMAL": file.array([[0, 0, 1]] * 3)})


def test_skin_is_drawn_at_rest(tmp_path, file):
    primitive = skinned(
        file, [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]], [[1, 0, 0, 0], [2, 0, 0, 0], [0.5, 0.5, 0, 0]]
    )
    inverse = np.tile(np.eye(4), (2, 1, 1))
    inverse[1, :3, 3] = [-1, 0, 0]
    # glTF stores matrices by columns.
    skins = [{"joints": [1, 2], "inverseBindMatrices": file.array(inverse.transpose(0, 2, 1).reshape(2, 16))}]
    nodes = [
        {"mesh": 0, "skin": 0, "translation": [100, 100, 100]},  # ignored, as the specification demands
        {"translation": [0, 0, 1], "children": [2]},
        {"translation": [0, 5, 0], "rotation": [0, 0, np.sqrt(0.5), np.sqrt(0.5)]},
    ]
    loaded = read(file.save(tmp_path, [primitive], nodes=nodes, skins=skins))
    assert loaded.left_out == ("skins other than at rest",)
    # The second joint turns (x - 1, y) to (-y, x - 1), and shifts it.
    both = (np.array([0, 1, 1]) + np.array([-1, 5 - 1, 1])) / 2
    np.testing.assert_allclose(loaded.mesh.vertices, np.stack([[0, 0, 1], [0, 5, 1], both]), atol=1e-6)
    np.testing.assert_allclose(loaded.normals, [[0, 0, 1]] * 3, atol=1e-6)
    np.testing.assert_array_equal(loaded.mesh.faces, [[0, 1, 2]])


def test_reflecting_skin_reverses_faces(tmp_path, file):
    primitive = skinned(file, [[0] * 4] * 3, [[0, 0, 0, 0]] * 3)  # without weights, the first joint moves a vertex
    nodes = [{"mesh": 0, "skin": 0}, {"scale": [1, 1, -1]}]
    loaded = read(file.save(tmp_path, [primitive], nodes=nodes, skins=[{"joints": [1]}]))
    np.testing.assert_array_equal(loaded.mesh.faces, [[2, 1, 0]])
    np.testing.assert_array_equal(loaded.normals, [[0, 0, -1]] * 3)


def test_skin_whose_joints_are_elsewhere_is_named(tmp_path, file):
    primitive = skinned(file, [[0] * 4] * 3, [[1, 0, 0, 0]] * 3)
    nodes = [{"mesh": 0, "skin": 0, "translation": [1, 0, 0]}, {"scale": [2, 2, 2]}]
    loaded = read(file.save(tmp_path, [primitive], nodes=nodes, skins=[{"joints": [1]}], scenes=[{"nodes": [0]}]))
    assert loaded.left_out == ("skins whose joints are not in the scene",)
    np.testing.assert_array_equal(loaded.mesh.vertices, TRIANGLE + np.array([1, 0, 0], "f4"))


def test_rest_of_the_document_is_named(tmp_path, file):
    attributes = {"TANGENT": file.array(np.ones((3, 4))), "COLOR_1": file.array(TRIANGLE), "_MINE": 0}
    primitives = [
        file.triangle(attributes=attributes, extensions={"KHR_materials_variants": {"mappings": []}}),
        file.triangle(mode=1),
        {"attributes": {}},
    ]
    lights = {"KHR_lights_punctual": {"lights": [{"type": "point"}]}}
    nodes = [{"mesh": 0, "extensions": {"MSFT_lod": {"ids": []}}}]
    document = {"cameras": [{}], "animations": [{}], "scenes": [{"nodes": [0]}, {}], "extensions": lights}
    loaded = read(file.save(tmp_path, primitives, nodes=nodes, **document))
    assert set(loaded.left_out) == {
        *("cameras", "animations", "lights", "scenes other than the default", "points and lines"),
        *("primitives without positions", "vertex attributes: COLOR_1, TANGENT, _MINE"),
        *("extensions of nodes: MSFT_lod", "extensions of primitives: KHR_materials_variants"),
    }
    assert len(loaded.mesh.faces) == 1


# --- normals


def test_normals_are_turned_as_the_surface_is(tmp_path, file):
    # The normal of the plane x + y + z = 0, stretched along x and reflected along z: a plane x / 2 + y - z = 0.
    vertices, normal = [[0, 0, 0], [1, -1, 0], [1, 0, -1]], np.ones(3) / np.sqrt(3)
    primitive = {"attributes": {"POSITION": file.array(vertices), "NORMAL": file.array([normal] * 3)}}
    nodes = [{"mesh": 0}, {"mesh": 0, "scale": [2, 1, -1], "translation": [9, 9, 9]}]
    loaded: Any = jnr.io.read(file.save(tmp_path, [primitive], nodes=nodes))
    turned = np.array([0.5, 1, -1]) / 1.5
    np.testing.assert_allclose(loaded.normals, [*[normal] * 3, *[turned] * 3], atol=1e-6)
    # Faces and normals agree on the front.
    corners = np.asarray(loaded.mesh.vertices)[np.asarray(loaded.mesh.faces)]
    fronts = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    np.testing.assert_allclose(fronts / np.linalg.norm(fronts, axis=1, keepdims=True), [normal, turned], atol=1e-6)


def test_primitives_without_normals_are_flat_beside_others(tmp_path, file):
    normals = np.eye(3)
    primitives = [
        file.triangle(attributes={"NORMAL": file.array(127 * normals, "i1", normalized=True)}),
        file.triangle(),
    ]
    loaded: Any = jnr.io.read(file.save(tmp_path, primitives))
    np.testing.assert_array_equal(loaded.normals, [normals, [[0, 0, 1]] * 3])
    assert jnr.io.read(file.save(tmp_path, primitives[1:])).normals is None
    loaded = jnr.io.read(file.save(tmp_path, primitives[:1]), textures=False)
    assert loaded.normals.shape == (3, 3)


# --- buffers and accessors


@pytest.mark.parametrize("text", ["{}", " {}\n", "{}%3D", "plain"])
def test_data_uri_may_have_whitespace_and_escapes(tmp_path, file, text):
    primitive = file.triangle()
    data = base64.b64encode(file.data).decode()
    lines = "\r\n\t".join(data[k : k + 20] for k in range(0, len(data), 20))
    uri = "data:application/octet-stream;base64," + text.format(lines)
    if text == "{}%3D":
        data = base64.b64encode(file.data + b"\0\0").decode().removesuffix("=")
        uri = "data:;base64," + text.format(data)
    if text == "plain":
        uri = "data:," + "".join(f"%{byte:02x}" for byte in file.data)
    path = file.save(tmp_path, [primitive], buffers=[{"byteLength": len(file.data), "uri": uri}])
    np.testing.assert_array_equal(jnr.load(path).vertices, TRIANGLE)


@pytest.mark.parametrize("has_base", [True, False])
def test_sparse_accessor_replaces_rows(tmp_path, file, has_base):
    sparse = {
        "count": 2,
        "indices": {"bufferView": file.view(np.array([1, 2], "<u2").tobytes()), "componentType": 5123},
        "values": {"bufferView": file.view(np.array([[7, 8, 9], [1, 2, 3]], "<f4").tobytes())},
    }
    base = {"bufferView": file.view((TRIANGLE + 5).tobytes())} if has_base else {}
    position = file.accessor(3, 3, sparse=sparse, **base)
    mesh = jnr.load(file.save(tmp_path, [{"attributes": {"POSITION": position}}]))
    np.testing.assert_array_equal(mesh.vertices, [[5 * has_base] * 3, [7, 8, 9], [1, 2, 3]])


def test_accessor_without_data_is_zero(tmp_path, file):
    primitive = file.triangle(attributes={"COLOR_0": file.accessor(3, 3)})
    np.testing.assert_array_equal(jnr.load(file.save(tmp_path, [primitive])).textures, np.zeros((3, 3)))


def test_binary_file_is_known_by_its_content(tmp_path):
    mesh = jnr.shapes.cube()
    jnr.save(tmp_path / "mesh.glb", mesh)
    (tmp_path / "mesh.glb").rename(tmp_path / "mesh.gltf")
    np.testing.assert_array_equal(jnr.load(tmp_path / "mesh.gltf").faces, mesh.faces)


def test_buffer_that_no_primitive_needs_may_be_missing(tmp_path, file):
    primitive = file.triangle()
    data = base64.b64encode(file.data).decode()
    buffers = [{"byteLength": len(file.data), "uri": "data:;base64," + data}, {"byteLength": 9, "uri": "absent.bin"}]
    np.testing.assert_array_equal(jnr.load(file.save(tmp_path, [primitive], buffers=buffers)).vertices, TRIANGLE)


# --- compression

DRACO = "KHR_draco_mesh_compression"


def compressed(file, data, ids, **more):
    """A primitive whose vertices, colours and indices are compressed."""
    attributes = {"POSITION": file.accessor(3, 3), "COLOR_0": file.accessor(3, 4, "u1", normalized=True)}
    extension = {"bufferView": file.view(data), "attributes": ids}
    indices = file.accessor(3, 1, "u2")
    return {"attributes": attributes, "indices": indices, "extensions": {DRACO: extension}, **more}


def test_draco_is_decoded(tmp_path, file):
    draco = pytest.importorskip("DracoPy", reason="compressed files need the io extra")
    colors = np.array([[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 51, 255]], np.uint8)
    data = draco.encode(TRIANGLE + 2, np.array([[0, 2, 1]]), quantization_bits=20, generic_attributes={5: colors})
    (position,) = [a["unique_id"] for a in draco.decode(data).attributes if a["attribute_type"] == 0]
    primitive = compressed(file, data, {"POSITION": position, "COLOR_0": 5}, mode=5)
    mesh = jnr.load(file.save(tmp_path, [primitive], extensionsRequired=[DRACO], extensionsUsed=[DRACO]))
    corners = np.asarray(mesh.vertices)[np.asarray(mesh.faces)]
    order = np.lexsort(np.round(corners[0]).T)
    np.testing.assert_allclose(corners[0][order], (TRIANGLE + 2)[np.lexsort(TRIANGLE.T)], atol=1e-5)
    assert np.cross(corners[0, 1] - corners[0, 0], corners[0, 2] - corners[0, 0])[2] < 0
    seen = np.asarray(mesh.textures)[np.asarray(mesh.faces)][0][order]
    np.testing.assert_allclose(seen, (colors[:, :3] / 255)[np.lexsort(TRIANGLE.T)], atol=1e-6)
    cut = compressed(file, data[: len(data) // 2], {"POSITION": position, "COLOR_0": 5})
    with pytest.raises(ValueError, match=f"its {DRACO} data cannot be decoded"):
        jnr.load(file.save(tmp_path, [cut]))
    points = compressed(file, draco.encode(TRIANGLE), {"POSITION": 0, "COLOR_0": 0})
    with pytest.raises(ValueError, match=f"its {DRACO} data cannot be decoded: it has points alone"):
        jnr.load(file.save(tmp_path, [points]))
    bare = compressed(file, data, {"POSITION": position, "COLOR_0": 5})
    del bare["indices"]
    with pytest.raises(ValueError, match=f"it has {DRACO} data without indices"):
        jnr.load(file.save(tmp_path, [bare]))
    more = compressed(file, data, {"POSITION": position, "COLOR_0": 5})
    file.accessors[more["indices"]]["count"] = 6
    with pytest.raises(ValueError, match=r"declares 6 x 1 numbers, but \(3, 1\) were compressed"):
        jnr.load(file.save(tmp_path, [more]))


@pytest.mark.validation
def test_missing_draco_decoder_is_an_error_that_names_extension_and_package(tmp_path, file, monkeypatch):
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    path = file.save(tmp_path, [compressed(file, b"DRACO", {"POSITION": 0})])
    with pytest.raises(ImportError, match=rf'{DRACO} need DracoPy. Install it with: pip install "jnr\[io\]"'):
        jnr.load(path)


def test_compressed_mesh_that_is_not_drawn_needs_no_decoder(tmp_path, file, monkeypatch):
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    meshes = [{"primitives": [file.triangle()]}, {"primitives": [compressed(file, b"DRACO", {"POSITION": 0})]}]
    path = file.save(tmp_path, [], meshes=meshes, extensionsRequired=[DRACO])
    np.testing.assert_array_equal(jnr.load(path).vertices, TRIANGLE)


def test_data_beside_draco_needs_no_decoder(tmp_path, file, monkeypatch):
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    extension = {DRACO: {"bufferView": file.view(b"DRACO"), "attributes": {"POSITION": 0}}}
    path = file.save(tmp_path, [file.triangle(extensions=extension)])
    np.testing.assert_array_equal(jnr.load(path).vertices, TRIANGLE)


# --- invalid and hostile files


def unequal_instances(file):
    attributes = {"TRANSLATION": file.array(TRIANGLE), "SCALE": file.array(TRIANGLE[:2])}
    return [{"mesh": 0, "extensions": {"EXT_mesh_gpu_instancing": {"attributes": attributes}}}]


def sparse_beyond_the_end(file):
    view = file.view(np.array([3], "<u4").tobytes())
    values = {"bufferView": file.view(TRIANGLE.tobytes())}
    sparse = {"count": 1, "indices": {"bufferView": view, "componentType": 5125}, "values": values}
    return file.accessor(3, 3, sparse=sparse)


@pytest.mark.validation
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, p, d: d.update(materials=[{"alphaMode": "GLASS"}]), "it has the alphaMode 'GLASS'"),
        (lambda f, p, d: d.update(materials=[{"alphaCutoff": "x"}]), "a alphaCutoff that is not 1"),
        (lambda f, p, d: d.update(materials=[colored([1, 1, 1])]), "a baseColorFactor that is not 4 finite numbers"),
        (lambda f, p, d: d.update(nodes=[{"mesh": 0, "rotation": [0, 0, 1]}]), "a rotation that is not 4 finite"),
        (lambda f, p, d: p.update(targets=[{"POSITION": f.array(TRIANGLE[:2])}]), "3 vertices and 2 rows"),
        (lambda f, p, d: p["attributes"].update(NORMAL=f.array(TRIANGLE[:2])), "3 vertices and 2 rows"),
        (lambda f, p, d: p["attributes"].update(JOINTS_0=f.array([[9] * 4] * 3, "u1")), "moved by joint 9 of 1"),
        (lambda f, p, d: d.update(skins=[{"joints": [0], "inverseBindMatrices": f.accessor(0, 16)}]), "0 inverse bind"),
        (lambda f, p, d: d.update(nodes=[{"mesh": 0, "skin": 3}]), "it has 1 skins and refers to index 3"),
        (lambda f, p, d: d.update(nodes=unequal_instances(f)), "2 different numbers of instances"),
        (lambda f, p, d: p.update(indices=f.array([0, 1, 3], "u2")), "a face with vertex index 3, but 3 vertices"),
        (lambda f, p, d: p["attributes"].update(POSITION=sparse_beyond_the_end(f)), "replaces row 3 of 3"),
    ],
    ids=range(12),
)
def test_invalid_entry_is_an_error_with_the_reason(tmp_path, file, change, message):
    primitive = skinned(file, [[0] * 4] * 3, [[1, 0, 0, 0]] * 3) | {"material": 0}
    document = {"materials": [{}], "nodes": [{"mesh": 0, "skin": 0}], "skins": [{"joints": [0]}]}
    change(file, primitive, document)
    path = file.save(tmp_path, [primitive], mesh={"weights": [1]}, **document)
    with pytest.raises(ValueError, match=rf"^path must be a complete, valid mesh file, .*{message}"):
        jnr.load(path)


def seconds(path):
    """Processor time that it takes to load a file, or to reject it."""
    start = time.process_time()
    with contextlib.suppress(ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jnr.load(path)
    return time.process_time() - start


def test_time_for_many_nodes_attributes_and_targets_grows_with_the_file(tmp_path, file):
    primitive = file.triangle()
    names = {f"_A{k}": primitive["attributes"]["POSITION"] for k in range(20000)}
    crowded = {"attributes": primitive["attributes"] | names}
    many = {"nodes": [{"mesh": 0}] * 20000}
    # Comparing all attributes for each node took more than ten seconds.
    assert seconds(file.save(tmp_path, [crowded, crowded], **many)) < 5
    many = {"nodes": [{"mesh": 0, "weights": [k]} for k in range(5000)]}
    assert seconds(file.save(tmp_path, [primitive | {"targets": [{}] * 20000}], **many)) < 5
    # 20 million primitives.
    assert seconds(file.save(tmp_path, [primitive] * 2000, nodes=[{"mesh": 0}] * 10000)) < 5


@pytest.mark.validation
def test_corners_of_strips_count_three_times(tmp_path, file, monkeypatch):
    primitive = file.triangle(indices=file.array([0, 1, 2] * 40, "u1"), mode=5)
    path = file.save(tmp_path, [primitive], nodes=[{"mesh": 0}] * 16)
    limit = 1024 + 16 * (64 + 9 + 3 * 120)
    module = importlib.import_module("jnr.io._gltf_document")
    monkeypatch.setattr(module, "PER_BYTE", 0)
    monkeypatch.setattr(module, "MAX_SCENE", limit)
    assert len(jnr.load(path).faces) == 16 * 118
    monkeypatch.setattr(module, "MAX_SCENE", limit - 1)
    with pytest.raises(ValueError, match=f"more than {limit - 1} coordinates and corners"):
        jnr.load(path)


@pytest.mark.validation
@pytest.mark.parametrize("kind", ["vertices", "sparse", "instances"])
def test_accessor_without_data_does_not_take_memory(tmp_path, file, kind):
    count = 10**9
    huge = file.accessor(count, 3)
    primitive, node = file.triangle(), {"mesh": 0}
    if kind == "instances":
        node |= {"extensions": {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": huge}}}}
    else:
        primitive["attributes"]["POSITION"] = huge
    if kind == "sparse":
        file.accessors[huge]["sparse"] = {"count": 0, "indices": {}, "values": {}}
    with pytest.raises(ValueError, match="its scene has more than"):
        jnr.load(file.save(tmp_path, [primitive], nodes=[node]))


@pytest.mark.validation
def test_pixels_are_limited_by_the_size_of_the_image_file(tmp_path, file, monkeypatch):
    image = encoded([RED] * 50)
    document = file.with_image(image, materials=[SKIN])
    path = file.save(tmp_path, [file.triangle(material=0)], **document)
    parts = importlib.import_module("jnr.io._parts")
    monkeypatch.setattr(parts, "PIXELS_PER_BYTE", 0)
    monkeypatch.setattr(parts, "FREE_PIXELS", 50)
    assert jnr.load(path).textures.images.shape == (1, 50, 3)
    monkeypatch.setattr(parts, "FREE_PIXELS", 49)
    with pytest.raises(ValueError, match="images must have at most 49 pixels in all, got 50"):
        jnr.load(path)
    monkeypatch.setattr(parts, "PIXELS_PER_BYTE", 1)
    assert jnr.load(path).textures.images.shape == (1, 50, 3)
    monkeypatch.setattr(parts, "FREE_PIXELS", 49 - len(image))
    with pytest.raises(ValueError, match="images must have at most 49 pixels in all, got 50"):
        jnr.load(path)


@pytest.mark.validation
def test_pixels_of_images_times_colours_are_limited(tmp_path, file, monkeypatch):
    textures = {"baseColorTexture": {"index": 0}}
    materials = [{"pbrMetallicRoughness": textures | {"baseColorFactor": [k / 4, 1, 1, 1]}} for k in (1, 2, 3)]
    document = file.with_image(encoded([RED] * 50), materials=materials)
    path = file.save(tmp_path, [file.triangle(material=k) for k in range(3)], **document)
    parts = importlib.import_module("jnr.io._parts")
    # The image, and three products of it.
    monkeypatch.setattr(parts, "MAX_PIXELS", 200)
    assert len(jnr.load(path).textures.images) == 3
    monkeypatch.setattr(parts, "MAX_PIXELS", 199)
    with pytest.raises(ValueError, match="images must have at most 199 pixels in all, got 200"):
        jnr.load(path)


@pytest.mark.validation
def test_small_gif_of_many_pixels_is_rejected(tmp_path, file):
    gif = bytearray(encoded([RED], kind="GIF"))
    gif[6:10] = struct.pack("<HH", 65535, 2047)
    document = file.with_image(bytes(gif), materials=[SKIN])
    path = file.save(tmp_path, [file.triangle(material=0)], **document)
    with pytest.raises(ValueError, match=r"images must have at most 335\d* pixels in all, got 134150145"):
        jnr.load(path)
