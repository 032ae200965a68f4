"""Checks the dtypes of results and gradients that docs/precision.md documents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnr

MESH = jnr.shapes.icosphere(0)
SIZE = 8


def _camera(dtype):
    numbers = ((0.3, 0.4, 2.5), (0, 0, 0), (0, 1, 0)), (60, 0.1, 100)
    pose, projection = ([jnp.asarray(x, dtype) for x in part] for part in numbers)
    return jnr.Camera(jnr.LookAt(*pose), jnr.Perspective(*projection))  # pyright: ignore[reportArgumentType]: unpacked


def _dtypes(vertices, colors, camera):
    """Returns the dtypes of the rendering, and of the gradients of vertices, colours and camera."""
    light = jax.tree.map(lambda x: jnp.asarray(x, camera.pose.eye.dtype), jnr.DirectionalLight())

    def loss(moving):
        vertices, colors, camera = moving
        rendering = jnr.render(
            vertices, MESH.faces, colors, camera=camera, lights=(light,), attributes=colors, image_size=SIZE
        )
        return sum(jnp.sum(image.astype(jnp.float32)) for image in rendering), rendering

    gradients, rendering = jax.eval_shape(jax.grad(loss, has_aux=True), (vertices, colors, camera))
    return [a.dtype for a in rendering], [gradients[0].dtype, gradients[1].dtype, gradients[2].pose.eye.dtype]


F16, BF16, F32, F64 = (jnp.dtype(name) for name in ("float16", "bfloat16", "float32", "float64"))
I32 = jnp.dtype("int32")


@pytest.mark.parametrize(
    ("vertices", "colors", "camera", "geometry"),
    [
        (F32, F32, F32, F32),
        (F16, F16, F32, F32),
        (BF16, BF16, BF16, F32),
        (F32, BF16, F32, F32),
        (F64, F64, F64, F64),
        (F64, F32, F64, F64),
        (F64, F16, F64, F64),
    ],
    ids=str,
)
def test_colors_and_attributes_keep_their_dtype_and_other_images_have_the_geometrys(vertices, colors, camera, geometry):
    with jax.enable_x64(F64 in (vertices, camera)):
        rng = np.random.default_rng(0)
        given = jnp.asarray(np.asarray(MESH.vertices), vertices), jnp.asarray(rng.random((12, 3)), colors)
        rendering, gradients = _dtypes(*given, _camera(camera))
    # rgb, alpha, depth, normals, attributes, face_index, instance, position, uv
    assert rendering == [colors, geometry, geometry, geometry, colors, I32, I32, geometry, geometry]
    # Each gradient has the dtype of its argument.
    assert gradients == [vertices, colors, camera]


@pytest.mark.parametrize(("vertices", "camera"), [(F32, F64), (F64, F32), (BF16, F64)], ids=str)
def test_geometry_has_the_wider_dtype_of_vertices_and_camera(vertices, camera):
    # This is JAX's standard promotion; the other tests use strict promotion.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        colors = jnp.ones((12, 3), jnp.float32)
        rendering, _ = _dtypes(jnp.asarray(np.asarray(MESH.vertices), vertices), colors, _camera(camera))
    assert rendering == [F32, F64, F64, F64, F32, I32, I32, F64, F64]


def test_integers_and_float64_become_float32_without_x64():
    vertices = np.asarray(MESH.vertices)
    rendering = jax.eval_shape(lambda: jnr.render(vertices.astype(np.int32), MESH.faces, np.ones((12, 3), np.uint8)))
    assert {image.dtype for image in rendering} == {F32, I32}
    rendering = jax.eval_shape(lambda: jnr.render(vertices.astype(np.float64), MESH.faces, np.ones((12, 3))))
    assert {image.dtype for image in rendering} == {F32, I32}
    fragments = jax.eval_shape(lambda: jnr.rasterize(np.ones((12, 4)), MESH.faces, SIZE))
    assert [a.dtype for a in fragments] == [jnp.int32, F32, F32]


def test_sixteen_bit_positions_are_computed_in_float32():
    narrow = (MESH.vertices + 0.1).astype(jnp.bfloat16)

    @jax.jit
    def render_with_gradient(vertices):
        def loss(vertices):
            rendering = jnr.render(vertices, MESH.faces, camera=_camera(F32), image_size=SIZE)
            return jnp.sum(rendering.alpha[:, :3]) + jnp.sum(rendering.depth), rendering

        return jax.grad(loss, has_aux=True)(vertices)

    gradient, rendering = render_with_gradient(narrow)
    expected_gradient, expected = render_with_gradient(narrow.astype(jnp.float32))
    for one, other in zip(rendering, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(gradient, expected_gradient.astype(jnp.bfloat16))
