"""JAX's modes: forbidden rank promotion, double precision, no jit, export, derivatives of derivatives."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calls import CALLS, COLORS, CUBES, FACES, LIGHTS, ON_HOST, UV, VERTICES, Call, differentiable
from jax import export

import jnr

VARIANTS = {
    "cubes": {"textures": CUBES},
    "uv": {"textures": UV},
    "uv_border": {"textures": jnr.UVTexture(UV.images, UV.uv, FACES, wrap="border", border=(1.0, 0.0, 0.0))},
    "white": {"textures": None, "shader": None, "normals": "flat", "lights": LIGHTS[:2]},
    "unlit": {"lights": (), "shader": None},
    "background_image": {"background": jnp.ones((8, 8, 3), jnp.float32)},
    "opendr": {"gradient": "opendr", "eps": None, "interior": False},
    "xla": {"backend": "xla"},
}


@pytest.mark.parametrize("name", sorted(CALLS.keys() - ON_HOST))
def test_function_and_its_gradient_work_where_rank_promotion_is_forbidden(name):
    function, floats = differentiable(name)
    with jax.numpy_rank_promotion("raise"):
        jax.jit(jax.value_and_grad(function)).lower(floats)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_rendering_works_where_rank_promotion_is_forbidden(variant, monkeypatch):
    render = CALLS["render"]
    monkeypatch.setitem(CALLS, "render", Call(render.function, render.arguments | variant))
    test_function_and_its_gradient_work_where_rank_promotion_is_forbidden("render")


def test_functions_of_the_host_work_where_rank_promotion_is_forbidden():
    with jax.numpy_rank_promotion("raise"):
        for name in sorted(ON_HOST):
            CALLS[name].run()


@pytest.mark.skipif(not os.environ.get("JNR_NIGHTLY"), reason="takes minutes; JNR_NIGHTLY=1 runs it")
@pytest.mark.parametrize("name", sorted(CALLS))
def test_function_without_jit_has_the_same_result(name):
    with jax.disable_jit():
        without = CALLS[name].run()
    for a, b in zip(*(jax.tree.leaves(result) for result in (without, CALLS[name].run())), strict=True):
        if hasattr(a, "dtype"):
            # float32 sums in another order
            np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=1e-5, atol=1e-4)


K: Any = ((8, 0, 4), (0, 8, 4), (0, 0, 1))
HARMONICS: Any = [1.0] * 9
PYTHON_CAMERAS = {
    "look_at": lambda: jnr.Camera(jnr.LookAt((0, 0.5, 3)), jnr.Perspective(fov=60)),
    "look_along": lambda: jnr.Camera(jnr.LookAlong((0.0, 0.0, 3.0)), jnr.Orthographic(1)),
    "weak": lambda: jnr.Camera(jnr.LookAt((0, 0.5, 3)), jnr.WeakPerspective(0.5, (0, 0.1))),
    "intrinsics": lambda: jnr.Camera(jnr.LookAt((0, 0.5, 3)), jnr.Intrinsics(K, (8, 8), (0.1, 0, 0, 0))),
    "angles": lambda: jnr.Camera(jnr.LookAt(jnr.points_from_angles(3, 30, 40.0))),
}
PYTHON_LIGHTS = (
    jnr.AmbientLight(0.3, (1, 1, 0.5)),
    jnr.DirectionalLight(1, direction=(0, 1, 1)),
    jnr.PointLight(0.5),
    jnr.SphericalHarmonicsLight(HARMONICS),
)


@pytest.mark.parametrize("camera", PYTHON_CAMERAS.values(), ids=PYTHON_CAMERAS)
def test_numbers_of_python_do_not_widen_a_picture_in_double_precision(camera):
    def render(vertices):
        options = {"lights": PYTHON_LIGHTS, "shader": jnr.Phong(0.5, 8), "background": (1, 0, 0), "image_size": 8}
        return jnr.render(vertices, FACES, camera=camera(), **options)

    single = camera().clip_positions(VERTICES)
    with jax.enable_x64(True):
        assert camera().clip_positions(VERTICES).dtype == camera().depth(VERTICES).dtype == jnp.float32
        np.testing.assert_allclose(camera().clip_positions(VERTICES), single, atol=1e-6)
        for dtype in (jnp.float32, jnp.float64):
            fields = jax.eval_shape(render, VERTICES.astype(dtype))
            assert {field.dtype for field in fields} == {np.dtype(dtype), np.dtype(np.int32)}


def test_light_in_the_dtype_of_the_surface():
    normal = jnp.array([[0.0, 0.0, 1.0]], jnp.float32)
    with jax.enable_x64(True):
        for light in PYTHON_LIGHTS:
            assert light.arriving(normal, normal).color.dtype == jnp.float32
        assert jnr.AmbientLight(jnp.float64(0.5)).arriving(normal, normal).color.dtype == jnp.float64


def _rgb(vertices, colors, gradient):
    return jnr.render(vertices, FACES, colors, image_size=6, gradient=gradient).rgb


@pytest.mark.parametrize("gradient", ["edge_sweep", "opendr"])
def test_second_derivative_of_a_visibility_gradient_is_an_error_that_says_so(gradient):
    def loss(vertices, colors=COLORS):
        return jnp.sum(_rgb(vertices, colors, gradient) ** 2)

    after_a_step = jax.grad(lambda v: loss(v - 0.1 * jax.grad(loss)(v)))
    mixed = jax.grad(lambda c: jnp.sum(jax.grad(loss)(VERTICES, c) ** 2))
    for derivative, at in ((after_a_step, VERTICES), (mixed, COLORS)):
        with pytest.raises(NotImplementedError, match=rf"^{gradient} has no second derivative.*Use gradient=None"):
            derivative(at)
    with pytest.raises(TypeError, match=rf"^{gradient} has no forward-mode derivative .*jacfwd.*gradient=None"):
        jax.jacfwd(lambda c: _rgb(VERTICES, c, gradient))(COLORS)


@pytest.mark.parametrize("gradient", ["edge_sweep", None])
def test_second_derivative_by_colours_is_that_of_a_square(gradient):
    def loss(colors):
        return jnp.sum(_rgb(VERTICES, colors, gradient) ** 2)

    # The image is linear in colours, so the quadratic form of the second derivative is twice the loss.
    product = jax.grad(lambda c: jnp.vdot(jax.grad(loss)(c), COLORS))(COLORS)
    np.testing.assert_allclose(jnp.vdot(product, COLORS), 2 * loss(COLORS), rtol=1e-5)  # float32 sums of 108 terms


def test_first_gradient_has_no_visibility_gradient_where_positions_have_none():
    jaxpr = jax.make_jaxpr(jax.grad(lambda c: jnp.sum(_rgb(VERTICES, c, "edge_sweep"))))(COLORS)
    assert "jnr_edge_sweep_bwd" not in str(jaxpr)
    moved = jax.make_jaxpr(jax.grad(lambda v: jnp.sum(_rgb(v, COLORS, "edge_sweep"))))(VERTICES)
    assert "jnr_edge_sweep_bwd" in str(moved)


def test_program_is_exported_with_a_symbolic_batch():
    @jax.jit
    @jax.vmap
    def step(vertices):
        def loss(vertices, colors):
            return jnp.sum(jnr.render(vertices, FACES, colors, image_size=6).rgb ** 2)

        return jax.value_and_grad(loss, (0, 1))(vertices, COLORS)

    batch = export.symbolic_shape("b")
    exported = export.export(step)(jax.ShapeDtypeStruct((*batch, *VERTICES.shape), jnp.float32))
    for size in (1, 3):
        vertices = jnp.stack([VERTICES * (1 - 0.1 * k) for k in range(size)])
        for got, want in zip(*map(jax.tree.leaves, (exported.call(vertices), step(vertices))), strict=True):
            assert got.shape == want.shape
            # A few units in the last place of a sum of fractions with small denominators
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3 * float(jnp.abs(want).max()))


def test_named_kernel_with_a_symbolic_batch_is_an_error():
    batch = export.symbolic_shape("b")
    render = jax.jit(jax.vmap(lambda v: jnr.render_silhouette(v, FACES, image_size=6, backend="cpu")))
    with pytest.raises(NotImplementedError, match=r'backend="cpu" on a batch of symbolic size.*"xla"'):
        export.export(render)(jax.ShapeDtypeStruct((*batch, *VERTICES.shape), jnp.float32))


def test_chamfer_of_sets_of_different_dtypes_is_that_of_the_wider():
    with jax.enable_x64(True):
        wide = VERTICES.astype(jnp.float64) + 0.1
        mixed, same = (jnr.losses.chamfer(VERTICES.astype(dtype), wide) for dtype in (jnp.float32, jnp.float64))
    assert mixed.dtype == jnp.float64
    assert float(mixed) == float(same) > 0


@pytest.mark.parametrize("backend", ["xla", "cpu"])
@pytest.mark.parametrize("axes", [(0, None), (None, 0)])
def test_batch_without_items_has_results_without_items(axes, backend):
    def loss(vertices, colors):
        return jnp.sum(jnr.render(vertices, FACES, colors, image_size=(6, 4), backend=backend).rgb)

    operands = (VERTICES, COLORS)
    empty = [jnp.zeros((0, *x.shape), x.dtype) if axis == 0 else x for x, axis in zip(operands, axes, strict=True)]
    value, gradients = jax.jit(jax.vmap(jax.value_and_grad(loss, (0, 1)), axes))(*empty)
    assert value.shape == (0,)
    assert [gradient.shape for gradient in gradients] == [(0, *x.shape) for x in operands]
    summed = jax.jit(jax.grad(lambda *x: jnp.sum(jax.vmap(loss, axes)(*x)), (0, 1)))(*empty)
    for gradient, operand in zip(summed, empty, strict=True):
        assert gradient.shape == operand.shape
        assert not gradient.any()
