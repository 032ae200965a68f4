"""The Triton kernels on a GPU against the C++ kernels, and against themselves.

The comparisons with the golden data in edge_sweep/ and rasterize/ run on a GPU, too; `-m gpu` selects all of them.
"""

import gpu_cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes import GPU_BACKEND as BACKEND, NAMES, NEEDS_GPU

import jnr

pytestmark = NEEDS_GPU
# In these scenes edges or ties of depth coincide with pixel centres, where a rounding error decides.
ALIGNED = ("shared_edges", "ties")


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("channels", gpu_cases.CHANNELS)
@pytest.mark.parametrize("scene", NAMES)
def test_faces_are_equal_and_the_sweep_agrees(scene, channels, deterministic):
    expected_index, expected = gpu_cases.expected(f"sweep {scene} {channels}")
    face_index, grad = gpu_cases.sweep(scene, channels, backend=BACKEND, deterministic=deterministic)
    np.testing.assert_array_equal(face_index, expected_index)
    # The order of the float32 sums differs, and terms as large as 1 / eps partly cancel.
    assert np.linalg.norm(grad - expected) <= 1e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize("scene", NAMES)
def test_gradients_through_barycentrics_agree(scene):
    expected_index, *expected = gpu_cases.expected(f"interpolation {scene}")
    face_index, *found = gpu_cases.interpolation(scene, backend=BACKEND)
    np.testing.assert_array_equal(face_index, expected_index)
    for gradient, reference in zip(found, expected, strict=True):
        scale = np.abs(reference).max(initial=0)
        np.testing.assert_allclose(gradient, reference, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("scene", NAMES)
def test_crossings_and_their_gradient_agree(scene):
    expected, expected_grad = gpu_cases.expected(f"boundary {scene}")
    found, grad = (np.asarray(x) for x in gpu_cases.boundary(scene, backend=BACKEND, crossings=expected))
    differs = found[..., 0] != expected[..., 0]
    # Of edges at one place rounding chooses one.
    assert differs.mean() <= (0.02 if scene in ALIGNED else 0.005)
    place, expected_place = (np.where(differs, 0, crossings[..., 1] / 2**24) for crossings in (found, expected))
    np.testing.assert_allclose(place, expected_place, atol=1e-5)
    scale = np.abs(expected_grad).max(initial=0)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-4, atol=1e-5 * scale)


def test_rendering_is_deterministic():
    mesh = jnr.shapes.icosphere(4)
    render = jax.jit(lambda v: jnr.render(v, mesh.faces, image_size=512, backend=BACKEND))
    first = jax.tree.map(np.asarray, render(mesh.vertices))
    for _ in range(10):
        jax.tree.map(np.testing.assert_array_equal, render(mesh.vertices), first)


def test_fixed_point_gradient_is_deterministic():
    mesh = jnr.shapes.icosphere(4)

    @jax.jit
    def gradient(clip):
        fragments = jnr.rasterize(clip, mesh.faces, 512, backend=BACKEND)
        alpha = (fragments.face_index >= 0).astype(jnp.float32)[..., None]

        def loss(clip):
            image = jnr.edge_sweep(alpha, clip, mesh.faces, fragments, backend=BACKEND, deterministic=True)
            return jnp.sum((image - 0.5) ** 2)

        return jax.grad(loss)(clip)

    clip = jnr.Camera().clip_from_world(1.0) @ jnp.pad(mesh.vertices, ((0, 0), (0, 1)), constant_values=1.0).T
    first = np.asarray(gradient(clip.T))
    assert np.abs(first).max() > 0
    for _ in range(10):
        np.testing.assert_array_equal(gradient(clip.T), first)


def test_default_backend_renders_the_same_image_as_the_kernels():
    mesh = jnr.shapes.icosphere(2)
    images = [jnr.render(mesh.vertices, mesh.faces, image_size=64, backend=b).alpha for b in (None, BACKEND)]
    np.testing.assert_array_equal(*images)  # pyright: ignore[reportArgumentType]: unpacked
