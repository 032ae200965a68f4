"""Textures with opacity: what blends, what is cut away, and what light leaves alone."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnr

PLANE = jnr.shapes.plane()
UV = PLANE.vertices[:, :2] + 0.5
FACING = jnr.Camera(jnr.LookAt((0.0, 0.0, 5.0)), jnr.Orthographic(1.0))
# A plane of side 1 covers the middle half of a picture from -1 to 1.
SIZE = 8
INSIDE = np.zeros((SIZE, SIZE), bool)
INSIDE[2:6, 2:6] = True
COLOR, BEHIND = np.array([0.8, 0.4, 0.2]), np.array([0.1, 0.3, 1.0])
LIGHT = np.array([0.5, 1.0, 0.25])


def texture(*opacity, alpha: Any = "blend", **options: Any):
    """One colour whose opacity is one number per column of the texture."""
    image = np.broadcast_to([*COLOR, 0], (1, len(opacity), 4)).astype(np.float32)
    image = np.where(np.arange(4) < 3, image, np.array(opacity, np.float32)[:, None])
    return jnr.UVTexture(jnp.asarray(image), UV, alpha=alpha, filter="nearest", wrap="clamp", **options)


def render(textures, mesh=PLANE, **options: Any):
    options = {"lights": (), "image_size": SIZE, "camera": FACING} | options
    return jnr.render(mesh.vertices, mesh.faces, textures, **options)


def lights():
    return (jnr.AmbientLight(1.0, LIGHT),)


@pytest.mark.parametrize("shader", [None, jnr.Phong()], ids=["Lambert", "Phong"])
def test_light_multiplies_the_colour_and_leaves_opacity_alone(shader):
    rendering = render(texture(0.25), lights=lights(), shader=shader, background=tuple(BEHIND))
    assert rendering.rgb.shape == (SIZE, SIZE, 3)
    assert rendering.rgba.shape == (SIZE, SIZE, 4)
    np.testing.assert_allclose(rendering.alpha, np.where(INSIDE, 0.25, 0), atol=1e-6)
    expected = np.where(INSIDE[..., None], 0.25 * LIGHT * COLOR + 0.75 * BEHIND, BEHIND)
    np.testing.assert_allclose(rendering.rgb, expected, atol=1e-6)


def test_four_channels_that_are_not_declared_to_be_opacity_are_four_features():
    features = dataclasses.replace(texture(0.25), alpha=None)
    rendering = render(features, lights=(jnr.AmbientLight(0.5),), background=(0, 0, 0, 1))
    np.testing.assert_allclose(rendering.alpha, INSIDE)
    expected = np.where(INSIDE[..., None], [*(0.5 * COLOR), 0.125], [0, 0, 0, 1])
    np.testing.assert_allclose(rendering.rgb, expected, atol=1e-6)


def test_a_blend_keeps_depth_and_normals_of_the_surface():
    rendering = render(texture(0.25))
    np.testing.assert_allclose(np.asarray(rendering.depth)[INSIDE], 5, atol=1e-5)
    np.testing.assert_allclose(np.asarray(rendering.normals)[INSIDE], np.broadcast_to([0, 0, 1], (16, 3)), atol=1e-6)


@pytest.mark.parametrize(("cutoff", "opaque"), [(0.5, (2, 3)), (0.25, (0, 1, 2, 3)), (0.9, ())], ids=str)
def test_a_mask_leaves_the_surface_out_below_its_cutoff(cutoff, opaque):
    # Columns of texels 0.25 and 0.75, each two pixels wide.
    cut = texture(0.25, 0.75, alpha="mask", alpha_cutoff=cutoff)
    rendering = render(cut, lights=lights(), background=tuple(BEHIND))
    kept = np.zeros((SIZE, SIZE), bool)
    kept[2:6, [2 + column for column in opaque]] = True
    np.testing.assert_array_equal(rendering.alpha, kept)
    np.testing.assert_allclose(rendering.rgb, np.where(kept[..., None], LIGHT * COLOR, BEHIND), atol=1e-6)
    np.testing.assert_allclose(rendering.depth, np.where(kept, 5, 100), atol=1e-4)
    np.testing.assert_allclose(rendering.normals, np.where(kept[..., None], [0, 0, 1], 0), atol=1e-6)
    np.testing.assert_array_equal(rendering.face_index >= 0, kept)
    np.testing.assert_array_equal(rendering.instance, np.where(kept, 0, -1))
    np.testing.assert_array_equal(np.any(rendering.uv != 0, axis=-1), kept)


def test_without_background_the_colour_is_that_of_the_mesh():
    for antialias in (1, 2):
        rendering = render(texture(0.25, 0.0), background=None, antialias=antialias)
        half = INSIDE & (np.arange(SIZE) < 4)
        np.testing.assert_allclose(rendering.alpha, np.where(half, 0.25, 0), atol=1e-6)
        np.testing.assert_allclose(rendering.rgb, np.where(half[..., None], COLOR, 0), atol=1e-6)


def test_antialiased_opacity_is_the_mean_over_the_samples():
    # Four columns of texels in the two columns of pixels that the plane covers.
    opacity = np.array([0.2, 0.6, 1.0, 0.4])
    rendering = render(texture(*opacity), image_size=4, antialias=2, background=tuple(BEHIND))
    mean = opacity.reshape(2, 2).mean(axis=1)
    np.testing.assert_allclose(rendering.alpha[1, 1:3], mean, atol=1e-6)
    expected = mean[:, None] * COLOR + (1 - mean[:, None]) * BEHIND
    np.testing.assert_allclose(rendering.rgb[1, 1:3], expected, atol=1e-6)
    alone = render(texture(*opacity), image_size=4, antialias=2, background=None)
    np.testing.assert_allclose(alone.rgb[1, 1:3], np.broadcast_to(COLOR, (2, 3)), atol=1e-6)


def test_each_image_has_its_own_alpha_and_cutoff():
    image = jnp.asarray(texture(0.4).images)
    texture_of_three = jnr.UVTexture(
        (image, image, image),
        UV,
        material=np.array([0, 1]),
        alpha=("mask", "mask", "blend"),
        alpha_cutoff=(0.3, 0.6, 0.9),
    )
    opaque_or_cut = np.unique(np.asarray(render(texture_of_three).alpha)[INSIDE])
    np.testing.assert_array_equal(opaque_or_cut, [0, 1])
    blended = dataclasses.replace(texture_of_three, material=np.array([2, 0]))
    np.testing.assert_allclose(np.unique(np.asarray(render(blended).alpha)[INSIDE].round(4)), [0.4, 1], atol=1e-6)


def test_gradient_of_opacity_is_that_of_the_blend():
    def total(opacity):
        image = jnp.stack([*map(jnp.float32, COLOR), opacity])[None, None]
        rendering = render(jnr.UVTexture(image, UV, alpha="blend"), background=tuple(BEHIND), gradient=None)
        return rendering.rgb.sum() + 10 * rendering.alpha.sum()

    slope = INSIDE.sum() * ((COLOR - BEHIND).sum() + 10)
    np.testing.assert_allclose(jax.grad(total)(jnp.float32(0.5)), slope, rtol=1e-5)


def test_the_edge_sweep_sees_a_faint_surface_faintly():
    def pull(opacity):
        def loss(vertices):
            mesh = PLANE._replace(vertices=vertices)
            return jnp.sum(render(texture(opacity), mesh).alpha * jnp.linspace(0, 1, SIZE))

        return jax.grad(loss)(PLANE.vertices)

    np.testing.assert_allclose(pull(0.25), 0.25 * pull(1.0), atol=1e-5)
    assert np.abs(pull(1.0)).max() > 0.1


def test_stacks_and_scenes_keep_opacity():
    meshes = [PLANE._replace(textures=texture(0.25)), PLANE._replace(textures=texture(0.75, alpha="blend"))]
    batch = jnr.stack(meshes)
    alphas = jax.vmap(lambda mesh: render(mesh.textures, mesh).alpha)(batch)
    np.testing.assert_allclose(np.asarray(alphas)[:, INSIDE], np.repeat([[0.25], [0.75]], 16, axis=1), atol=1e-6)
    masks = jnr.stack(
        [PLANE._replace(textures=texture(0.4, alpha="mask", alpha_cutoff=cutoff)) for cutoff in (0.3, 0.5)]
    )
    kept = jax.vmap(lambda mesh: render(mesh.textures, mesh).alpha)(masks)
    np.testing.assert_array_equal(np.asarray(kept)[:, 4, 4], [1, 0])
    opaque = PLANE._replace(vertices=PLANE.vertices + np.array([1.0, 0, 0]))
    opaque = opaque._replace(textures=jnr.UVTexture(np.ones((1, 1, 3), np.float32), UV, filter="nearest", wrap="clamp"))
    for others in ([opaque], [opaque._replace(textures=None)]):
        cut = PLANE._replace(textures=texture(0.25, alpha="mask", alpha_cutoff=0.5))
        scene = jnr.concatenate([meshes[0], *others, cut._replace(vertices=PLANE.vertices + np.array([-1.0, 0, 0]))])
        alpha = render(scene.textures, scene).alpha
        np.testing.assert_allclose(alpha[4], [0, 0, 0.25, 0.25, 0.25, 0.25, 1, 1], atol=1e-6)


def test_cubes_of_a_texture_have_its_colours_without_opacity():
    cubes = jnr.uv_to_cubes(texture(0.25), PLANE.faces, 2)
    np.testing.assert_allclose(cubes, np.broadcast_to(COLOR, (2, 2, 2, 2, 3)), atol=1e-6)
