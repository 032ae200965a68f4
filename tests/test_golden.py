"""The ops in plain JAX against data from running the original implementations (their conventions: tests/golden.py).

Their kernels are compared in tests/kernels, whole pictures in test_compat.py.
"""

from functools import cache, partial

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jnr
from jnr.textures import sample_cubes

# Vertex depths there are negative for these; the originals interpolate them as if they were not (quirk 7), jnr
# clips them (design: "faces behind the camera are handled by homogeneous edge functions").
NEGATIVE_DEPTH = {"nearfar": [7, 8]}
# The tests of a case share a compiled gradient, so one process does them all.
ILL_CONDITIONED, SOUND = (
    [
        pytest.param(name, marks=pytest.mark.xdist_group(name))
        for name in golden.KERNEL_CASES
        if name.startswith("illcond") == ill_conditioned
    ]
    for ill_conditioned in (True, False)
)


def _render_soup(xyz, textures, background, *, size, near, far):
    """Images of one batch item, from its triangle soup (faces, 3, xyz)."""
    clip = golden.clip_from_screen(xyz.reshape(-1, 3), near, far)
    faces = np.arange(clip.shape[0], dtype=np.int32).reshape(-1, 3)
    fragments = jnr.rasterize(clip, faces, size, cull="back", backend="xla")
    covered = fragments.face_index >= 0
    # The originals' colours have no derivative through the barycentrics.
    fixed = fragments._replace(barycentric=lax.stop_gradient(fragments.barycentric))
    rgb = jnp.where(covered[..., None], sample_cubes(textures, fixed), background)
    alpha = covered[..., None].astype(clip.dtype)
    depth = jnp.where(covered, fragments.depth, far)
    return clip, faces, fragments, rgb, alpha, depth


def _loss(xyz, textures, item, weights, eps, **options):
    """Weighted sum of the images; a channel whose weight is zero does not count in the edge sweep either."""
    clip, faces, fragments, rgb, alpha, depth = _render_soup(xyz, textures, item["background"], **options)
    rgba = jnp.concatenate([rgb, alpha], axis=-1)
    image = jnr.edge_sweep(rgba, clip, faces, fragments, eps=eps, backend="xla")
    weight = jnp.concatenate([item["g_rgb"] * weights["rgb"], item["g_alpha"][..., None] * weights["alpha"]], axis=-1)
    return jnp.sum(image * weight) + weights["depth"] * jnp.sum(depth * item["g_depth"])


@cache
def _gradient(name):
    """The case's compiled gradient: of which images -> cotangents of xyz and textures."""
    case, xyz, textures, items, _ = _inputs(name)
    loss = partial(_loss, eps=float(case["eps"]), **_options(case))
    compiled = jax.jit(jax.vmap(jax.grad(loss, argnums=(0, 1)), in_axes=(0, 0, 0, None)))

    def gradient(*images):
        weights = {key: jnp.float32(key in images) for key in ("rgb", "alpha", "depth")}
        return [np.asarray(grad) for grad in compiled(xyz, textures, items, weights)]

    return gradient


def _options(case):
    return {"size": int(case["image_size"]), "near": float(case["near"]), "far": float(case["far"])}


@cache
def _inputs(name):
    case = golden.load(name)
    batch = case["faces_xyz"].shape[0]
    items = {key: jnp.asarray(golden.top_down(case[key])) for key in ("g_rgb", "g_alpha", "g_depth")}
    items["background"] = jnp.broadcast_to(jnp.asarray(case["background"]), (batch, 3))
    keep = ~case["trunc_quirk_faces"]
    for item in NEGATIVE_DEPTH.get(name, []):
        assert case["faces_xyz"][item, ..., 2].min() < 0
        keep[item] = False
    return case, jnp.asarray(case["faces_xyz"]), jnp.asarray(case["textures"]), items, keep


def _kept_items(name, batch):
    return [b for b in range(batch) if b not in NEGATIVE_DEPTH.get(name, [])]


@pytest.mark.parametrize("name", SOUND)
def test_forward_equals_the_original(name):
    case, xyz, textures, items, _ = _inputs(name)
    render = jax.jit(jax.vmap(partial(_render_soup, **_options(case))))
    _, _, fragments, rgb, alpha, depth = render(xyz, textures, items["background"])
    kept = _kept_items(name, xyz.shape[0])
    index, want = np.asarray(fragments.face_index)[kept], golden.top_down(case["face_index_map"])[kept]
    np.testing.assert_array_equal(index, want)
    np.testing.assert_array_equal(np.asarray(alpha)[kept, ..., 0], golden.top_down(case["alpha_map"])[kept])

    covered = want >= 0
    if not covered.any():
        return
    # Screen-space weights from perspective-correct ones: times w of the corner.
    z = np.take_along_axis(np.asarray(xyz)[kept, :, :, 2], np.maximum(want, 0).reshape(len(kept), -1, 1), axis=1)
    weights = np.asarray(fragments.barycentric)[kept] * z.reshape(*want.shape, 3)
    weights = weights[covered] / weights[covered].sum(-1, keepdims=True)
    # Tolerances are golden/README.md's, section 6; the originals lose digits in tiny faces.
    difference = np.abs(weights - golden.top_down(case["weight_map"])[kept][covered])
    assert np.quantile(difference, 0.99) < 5e-4
    assert difference.max() < 5e-2
    want_depth = golden.top_down(case["depth_map"])[kept]
    difference = np.abs(np.asarray(depth)[kept] - want_depth)[covered] / want_depth[covered]
    assert np.quantile(difference, 0.99) < 1e-4
    assert difference.max() < 5e-3
    np.testing.assert_array_equal(np.asarray(depth)[kept][~covered], want_depth[~covered])
    difference = np.abs(np.asarray(rgb)[kept] - golden.top_down(case["rgb_map"])[kept])
    assert np.quantile(difference[covered], 0.99) < 5e-4
    np.testing.assert_array_equal(np.asarray(rgb)[kept][~covered], golden.top_down(case["rgb_map"])[kept][~covered])


@pytest.mark.parametrize("images", [("alpha",), ("rgb",), ("rgb", "alpha")], ids=["alpha", "rgb", "rgba"])
@pytest.mark.parametrize("name", SOUND)
def test_edge_sweep_gradient_equals_the_original(name, images):
    case, xyz, _, _, keep = _inputs(name)
    grad, grad_textures = _gradient(name)(*images)
    assert np.all(np.isfinite(grad))
    kind = "rgba" if len(images) == 2 else images[0]
    value, reference = grad[keep], case[f"grad_faces_{kind}"][keep]
    # golden/README.md, section 6: re-runs of the original with other rounding stay below 6.1e-4.
    assert golden.relative_l2(value, reference) < 2e-3
    largest = np.abs(reference).max(initial=0)
    assert np.all(np.abs(value - reference) <= 5e-3 * np.abs(reference) + 5e-3 * largest)
    untouched = np.all(reference == 0, axis=(1, 2))
    np.testing.assert_array_equal(value[untouched], 0)
    if kind == "rgb":
        kept = _kept_items(name, xyz.shape[0])
        assert golden.relative_l2(grad_textures[kept], case["grad_textures"][kept]) < 3e-3


@pytest.mark.parametrize("name", SOUND)
def test_depth_gradient_equals_the_original(name):
    case, _, _, _, keep = _inputs(name)
    value = _gradient(name)("depth")[0][keep]
    reference, again = case["grad_faces_depth"][keep], case["grad_faces_depth_f64"][keep]
    # The original's own float64 run says how well conditioned a case is: pixel-sized faces lose digits in float32.
    bound = max(1e-3, 2 * golden.relative_l2(again, reference))
    assert bound < 2e-2
    assert golden.relative_l2(value, reference) < bound


@pytest.mark.parametrize("name", ILL_CONDITIONED)
def test_ill_conditioned_cases_are_finite_and_zero_where_they_must_be(name):
    for images in (("rgb", "alpha"), ("depth",)):
        grad, _ = _gradient(name)(*images)
        assert np.all(np.isfinite(grad))
        if name == "illcond_degenerate":
            np.testing.assert_array_equal(grad[:, 0], 0)  # the face without area
            assert np.all(np.abs(grad[:, 1]).max(axis=(1, 2)) > 0)


@pytest.mark.parametrize("name", [case for case in SOUND if "single_tri" in str(case.values[0])])
def test_published_single_triangle_gradients_are_reproduced(name):
    case = golden.load(name)
    grad, _ = _gradient(name)("alpha")
    vertices = np.zeros((case["vertices"].shape[1], 3))
    np.add.at(vertices, case["faces"][0], grad[0])
    # The original test's tolerance; it compares x and y.
    np.testing.assert_allclose(vertices[:3, :2], case["expected_grad_vertices"][:, :2], rtol=1e-2, atol=1e-4)
