import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes import NAMES, NEEDS, SCENES, on

import jnr
from jnr._ops.barycentrics import barycentrics, barycentrics_bwd_p, barycentrics_p

needs_cpu = NEEDS["cpu"]


def scene_of(name):
    """Clip positions, faces, the face index per pixel, and a cotangent of the barycentrics."""
    clip, faces, height, width = SCENES[name]
    face_index = jnr.rasterize(clip, faces, (height, width), backend="xla").face_index
    cotangent = np.random.default_rng(0).normal(size=(height, width, 3)).astype(np.float32)
    return jnp.asarray(clip), jnp.asarray(faces), face_index, jnp.asarray(cotangent)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kernel", [on("cpu"), on("interpret")])
def test_kernel_agrees_with_plain_jax(name, kernel):
    clip, faces, face_index, _ = scene_of(name)
    found, expected = (barycentrics(clip, faces, face_index, backend=backend) for backend in (kernel, "xla"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(found)[face_index < 0], 0)


@needs_cpu
@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_kernel_agrees_with_plain_jax(name):
    clip, faces, face_index, cotangent = scene_of(name)
    with jax.enable_x64(True):
        operands = [jnp.asarray(x, jnp.float64)[None] for x in (cotangent, clip)]
        operands += [faces[None], face_index[None]]
        found, expected = (barycentrics_bwd_p.bind(*operands, sums=1, backend=backend) for backend in ("cpu", "xla"))
        scale = 1 + np.abs(np.asarray(expected)).max(initial=0)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * scale)
        assert np.isfinite(found).all()


@needs_cpu
def test_float32_gradient_equals_float64_gradient_to_rounding():
    clip, faces, face_index, cotangent = scene_of("odd_sizes")

    def gradient(clip, cotangent):
        return barycentrics_bwd_p.bind(
            cotangent[None], clip[None], faces[None], face_index[None], sums=1, backend="cpu"
        )

    found = np.asarray(gradient(clip, cotangent))
    with jax.enable_x64(True):
        expected = np.asarray(gradient(jnp.asarray(clip, jnp.float64), jnp.asarray(cotangent, jnp.float64)))
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@needs_cpu
@pytest.mark.parametrize("size", [20, 600])
def test_batch_equals_a_loop_bit_for_bit_and_shared_positions_receive_the_sum(size):
    mesh = jnr.shapes.icosphere(2)
    camera = jnr.Camera()
    clip = jnp.stack([camera.clip_positions(mesh.vertices * scale) for scale in (0.7, 1.0, 1.2)])
    rasterize = jax.vmap(lambda c: jnr.rasterize(c, mesh.faces, size, backend="cpu").face_index)
    face_index = rasterize(clip)
    cotangent = jnp.asarray(np.random.default_rng(1).normal(size=(3, size, size, 3)), jnp.float32)
    operands = cotangent, clip, mesh.faces[None], face_index
    together = barycentrics_p.bind(*operands[1:], backend="cpu")
    grads = barycentrics_bwd_p.bind(*operands, sums=3, backend="cpu")
    for i in range(3):
        single = [x[:1] if len(x) == 1 else x[i : i + 1] for x in operands]
        np.testing.assert_array_equal(together[i], barycentrics_p.bind(*single[1:], backend="cpu")[0])
        np.testing.assert_array_equal(grads[i], barycentrics_bwd_p.bind(*single, sums=1, backend="cpu")[0])
    shared = cotangent, clip[:1], mesh.faces[None], face_index
    found, expected = (barycentrics_bwd_p.bind(*shared, sums=1, backend=backend) for backend in ("cpu", "xla"))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * float(jnp.abs(expected).max()))


@needs_cpu
def test_derivatives_of_any_order_and_mode_agree_with_plain_jax():
    clip, faces, face_index, cotangent = scene_of("odd_sizes")
    rng = np.random.default_rng(2)
    with jax.enable_x64(True):
        clip, cotangent = (jnp.asarray(x, jnp.float64) for x in (clip, cotangent))
        one, other = (jnp.asarray(rng.normal(size=clip.shape)) for _ in range(2))

        def loss(clip, backend):
            return jnp.vdot(barycentrics(clip, faces, face_index, backend=backend) ** 2, cotangent)

        for derivative in (
            lambda f: jax.jvp(f, (clip,), (one,))[1],
            lambda f: jnp.vdot(jax.jvp(jax.grad(f), (clip,), (one,))[1], other),
            lambda f: jnp.vdot(jax.grad(lambda c: jnp.vdot(jax.grad(f)(c), one))(clip), other),
            lambda f: jax.jvp(lambda c: jax.jvp(f, (c,), (one,))[1], (clip,), (other,))[1],
        ):
            found, expected = (derivative(lambda c, b=backend: loss(c, b)) for backend in ("cpu", "xla"))
            assert abs(float(expected)) > 1e-3
            np.testing.assert_allclose(found, expected, rtol=1e-8)


@needs_cpu
def test_out_of_range_indices_are_background():
    clip, faces, face_index, cotangent = scene_of("odd_sizes")
    face_index = face_index.at[0, :3].set(jnp.array([-7, len(faces), 2**31 - 1]))
    broken = faces.at[int(face_index.max(where=face_index < len(faces), initial=-1))].set(len(clip) + 5)
    for table in (faces, broken):
        barycentric = barycentrics(clip, table, face_index, backend="cpu")
        assert np.isfinite(barycentric).all()
        np.testing.assert_array_equal(barycentric[0, :3], 0)
        operands = cotangent[None], clip[None], table[None], face_index[None]
        assert np.isfinite(barycentrics_bwd_p.bind(*operands, sums=1, backend="cpu")).all()
