"""The Triton kernels on a GPU against plain JAX, through the public ops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes import NAMES, SCENES

import jnr
from jnr._ops.barycentrics import barycentrics_bwd_p
from jnr._ops.boundary import boundary_crossings_p, crossing_motion_bwd_p

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs an NVIDIA GPU"),
]
# In these scenes edges or ties of depth coincide with pixel centres, where a rounding error decides.
ALIGNED = ("shared_edges", "ties")


def image_and_gradient(scene, channels, backend, **options):
    clip, faces, height, width = SCENES[scene]
    image, cotangent = np.random.default_rng(0).normal(size=(2, height, width, channels)).astype(np.float32)

    @jax.jit
    def run(clip):
        fragments = jnr.rasterize(clip, faces, (height, width), backend=backend)

        def loss(clip):
            return jnp.sum(jnr.edge_sweep(image, clip, faces, fragments, backend=backend, **options) * cotangent)

        return fragments, jax.grad(loss)(clip)

    return jax.tree.map(np.asarray, run(clip))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("scene", NAMES)
def test_kernels_agree_with_plain_jax(scene, channels, deterministic):
    fragments, grad = image_and_gradient(scene, channels, "triton", deterministic=deterministic)
    expected, expected_grad = image_and_gradient(scene, channels, "xla")
    differs = fragments.face_index != expected.face_index
    assert differs.mean() <= (0.02 if scene in ALIGNED else 0.005)
    if not differs.any() and scene not in ALIGNED:
        # The order of the float32 sums differs, and terms as large as 1 / eps partly cancel.
        assert np.linalg.norm(grad - expected_grad) <= 1e-3 * np.linalg.norm(expected_grad)
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("scene", NAMES)
def test_gradients_through_barycentrics_agree_with_plain_jax(scene):
    clip, faces, height, width = SCENES[scene]
    rng = np.random.default_rng(0)
    attributes = rng.normal(size=(len(clip), 3)).astype(np.float32)
    cotangent = rng.normal(size=(height, width, 3)).astype(np.float32)
    fragments = jnr.rasterize(clip, faces, (height, width), backend="xla")
    operands = jnp.asarray(cotangent)[None], jnp.asarray(clip)[None], faces[None], fragments.face_index[None]

    def gradients(backend):
        def loss(attributes):
            return jnp.vdot(jnr.interpolate(attributes, faces, fragments, backend=backend), cotangent)

        return jax.grad(loss)(attributes), barycentrics_bwd_p.bind(*operands, sums=1, backend=backend)

    for found, expected in zip(gradients("triton"), gradients("xla"), strict=True):
        scale = np.abs(np.asarray(expected)).max(initial=0)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("scene", NAMES)
def test_crossings_and_their_gradient_agree_with_plain_jax(scene):
    clip, faces, height, width = SCENES[scene]
    face_index = jnr.rasterize(clip, faces, (height, width), backend="xla").face_index
    mesh = jnp.asarray(clip)[None], jnp.asarray(faces)[None], face_index[None]
    active = jnp.ones((1, 2, height, width), bool)
    found, expected = (boundary_crossings_p.bind(*mesh, active, backend=backend) for backend in ("triton", "xla"))
    differs = found[..., 0] != expected[..., 0]
    # Of edges at one place rounding chooses one.
    assert differs.mean() <= (0.02 if scene in ALIGNED else 0.005)
    place, expected_place = (jnp.where(differs, 0, crossings[..., 1] / 2**24) for crossings in (found, expected))
    np.testing.assert_allclose(place, expected_place, atol=1e-5)

    cotangent = jnp.asarray(np.random.default_rng(0).normal(size=active.shape), jnp.float32)
    found, expected_grad = (
        crossing_motion_bwd_p.bind(cotangent, expected, *mesh, sums=1, backend=backend) for backend in ("triton", "xla")
    )
    scale = np.abs(np.asarray(expected_grad)).max(initial=0)
    np.testing.assert_allclose(found, expected_grad, rtol=1e-4, atol=1e-5 * scale)


def test_rendering_is_deterministic():
    mesh = jnr.shapes.icosphere(4)
    render = jax.jit(lambda v: jnr.render(v, mesh.faces, image_size=512, backend="triton"))
    first = jax.tree.map(np.asarray, render(mesh.vertices))
    for _ in range(10):
        jax.tree.map(np.testing.assert_array_equal, render(mesh.vertices), first)


def test_fixed_point_gradient_is_deterministic():
    mesh = jnr.shapes.icosphere(4)

    @jax.jit
    def gradient(clip):
        fragments = jnr.rasterize(clip, mesh.faces, 512, backend="triton")
        alpha = (fragments.face_index >= 0).astype(jnp.float32)[..., None]

        def loss(clip):
            image = jnr.edge_sweep(alpha, clip, mesh.faces, fragments, backend="triton", deterministic=True)
            return jnp.sum((image - 0.5) ** 2)

        return jax.grad(loss)(clip)

    clip = jnr.Camera().clip_from_world(1.0) @ jnp.pad(mesh.vertices, ((0, 0), (0, 1)), constant_values=1.0).T
    first = np.asarray(gradient(clip.T))
    assert np.abs(first).max() > 0
    for _ in range(10):
        np.testing.assert_array_equal(gradient(clip.T), first)


def test_default_backend_renders_the_same_image_as_triton():
    mesh = jnr.shapes.icosphere(2)
    images = [jnr.render(mesh.vertices, mesh.faces, image_size=64, backend=b).alpha for b in (None, "triton")]
    np.testing.assert_array_equal(*images)  # pyright: ignore[reportArgumentType]: unpacked
