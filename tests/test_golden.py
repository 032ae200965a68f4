"""Compares the plain-JAX ops with data from the original implementations (tests/golden.py converts conventions).

tests/ops compares jnr's kernels with the same data, and test_compat.py whole renderings.
"""

from functools import cache, partial

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jnr
from jnr._textures import sample_cubes

# Batch items with negative vertex depths. The originals interpolate these without clipping (quirk 7 in
# golden/README.md); jnr's homogeneous edge functions exclude what is behind the camera.
NEGATIVE_DEPTH = {"nearfar": [7, 8]}
ILL_CONDITIONED = [name for name in golden.KERNEL_CASES if name.startswith("illcond")]
WELL_CONDITIONED = [name for name in golden.KERNEL_CASES if name not in ILL_CONDITIONED]
# Cases are padded to one of these numbers of faces and run two items at a time, so that few shapes are compiled.
NUM_FACES, NUM_ITEMS = (640, 4928), 2


def _render_soup(xyz, textures, num_faces, background, *, size, near, far):
    """Renders one batch item from its triangle soup (faces, 3, xyz)."""
    clip = golden.clip_from_screen(xyz.reshape(-1, 3), near, far)
    faces = jnp.arange(clip.shape[0], dtype=jnp.int32).reshape(-1, 3)
    faces = jnp.where(jnp.arange(faces.shape[0])[:, None] < num_faces, faces, -1)
    fragments = jnr.rasterize(clip, faces, size, cull="back", backend="xla")
    covered = fragments.face_index >= 0
    # In the originals, colours have no derivative with respect to the barycentrics.
    fixed = fragments._replace(barycentric=lax.stop_gradient(fragments.barycentric))
    rgb = jnp.where(covered[..., None], sample_cubes(textures, fixed), background)
    alpha = covered[..., None].astype(clip.dtype)
    depth = jnp.where(covered, fragments.clip_w, far)
    return clip, faces, fragments, rgb, alpha, depth


def _loss(xyz, textures, item, weights, eps, **options):
    """Returns a weighted sum of the images. Channels with zero weight do not affect the edge sweep either."""
    clip, faces, fragments, rgb, alpha, depth = _render_soup(
        xyz, textures, item["num_faces"], item["background"], **options
    )
    rgba = jnp.concatenate([rgb, alpha], axis=-1)
    image = jnr.edge_sweep(rgba, clip, faces, fragments, eps=eps, backend="xla")
    weight = jnp.concatenate([item["g_rgb"] * weights["rgb"], item["g_alpha"][..., None] * weights["alpha"]], axis=-1)
    return jnp.sum(image * weight) + weights["depth"] * jnp.sum(depth * item["g_depth"])


@cache
def _compiled_images(**options):
    def images(xyz, textures, item):
        return _render_soup(xyz, textures, item["num_faces"], item["background"], **options)[2:]

    return jax.jit(jax.vmap(images))


@cache
def _compiled_gradient(eps, **options):
    loss = partial(_loss, eps=eps, **options)
    return jax.jit(jax.vmap(jax.grad(loss, argnums=(0, 1)), in_axes=(0, 0, 0, None)))


def _run(function, name, *more):
    """Applies a compiled function to a case, a few items at a time."""
    case, _ = _inputs(name)
    batch, num_faces = case["faces_xyz"].shape[:2]
    padding = min(n for n in NUM_FACES if n >= num_faces) - num_faces
    item = {key: golden.top_down(case[key]) for key in ("g_rgb", "g_alpha", "g_depth")}
    item["background"] = np.broadcast_to(case["background"], (batch, 3))
    item["num_faces"] = np.full(batch, num_faces)
    xyz, textures = (
        np.pad(a, [(0, 0), (0, padding), *[(0, 0)] * (a.ndim - 2)]) for a in (case["faces_xyz"], case["textures"])
    )
    parts = []
    for first in range(0, batch, NUM_ITEMS):
        some = np.minimum(np.arange(first, first + NUM_ITEMS), batch - 1)
        parts.append(function(xyz[some], textures[some], {key: a[some] for key, a in item.items()}, *more))
    return jax.tree.map(lambda *a: np.concatenate(a)[:batch], *parts)


def _images(name):
    """Returns fragments, rgb, alpha and depth."""
    return _run(_compiled_images(**_options(name)), name)


@cache
def _gradient(name, *images):
    """Returns the cotangents of xyz and textures, given cotangents of the named images."""
    case, _ = _inputs(name)
    weights = {key: np.float32(key in images) for key in ("rgb", "alpha", "depth")}
    gradients = _run(_compiled_gradient(float(case["eps"]), **_options(name)), name, weights)
    return [gradient[:, : case["faces_xyz"].shape[1]] for gradient in gradients]


def _options(name):
    case, _ = _inputs(name)
    return {"size": int(case["image_size"]), "near": float(case["near"]), "far": float(case["far"])}


@cache
def _inputs(name):
    """Returns the case and a mask (batch, faces) of the faces to compare."""
    case = golden.load(name)
    keep = ~case["trunc_quirk_faces"]
    for item in NEGATIVE_DEPTH.get(name, []):
        assert case["faces_xyz"][item, ..., 2].min() < 0
        keep[item] = False
    return case, keep


def _kept_items(name, batch):
    return [b for b in range(batch) if b not in NEGATIVE_DEPTH.get(name, [])]


@pytest.mark.parametrize("name", WELL_CONDITIONED)
def test_forward_equals_the_original(name):
    case, _ = _inputs(name)
    xyz = case["faces_xyz"]
    fragments, rgb, alpha, depth = _images(name)
    kept = _kept_items(name, xyz.shape[0])
    want = golden.top_down(case["face_index_map"])[kept]
    np.testing.assert_array_equal(fragments.face_index[kept], want)
    np.testing.assert_array_equal(alpha[kept, ..., 0], golden.top_down(case["alpha_map"])[kept])

    covered = want >= 0
    if not covered.any():
        return
    # Screen-space weights are proportional to perspective-correct ones times the corner's w.
    z = np.take_along_axis(xyz[kept, :, :, 2], np.maximum(want, 0).reshape(len(kept), -1, 1), axis=1)
    weights = fragments.barycentric[kept] * z.reshape(*want.shape, 3)
    weights = weights[covered] / weights[covered].sum(-1, keepdims=True)
    # Tolerances from golden/README.md, section 6; the originals lose digits in tiny faces.
    difference = np.abs(weights - golden.top_down(case["weight_map"])[kept][covered])
    assert np.quantile(difference, 0.99) < 5e-4
    assert difference.max() < 5e-2
    want_depth = golden.top_down(case["depth_map"])[kept]
    difference = np.abs(depth[kept] - want_depth)[covered] / want_depth[covered]
    assert np.quantile(difference, 0.99) < 1e-4
    assert difference.max() < 5e-3
    np.testing.assert_array_equal(depth[kept][~covered], want_depth[~covered])
    difference = np.abs(rgb[kept] - golden.top_down(case["rgb_map"])[kept])
    assert np.quantile(difference[covered], 0.99) < 5e-4
    np.testing.assert_array_equal(rgb[kept][~covered], golden.top_down(case["rgb_map"])[kept][~covered])


@pytest.mark.parametrize("images", [("alpha",), ("rgb",), ("rgb", "alpha")], ids=["alpha", "rgb", "rgba"])
@pytest.mark.parametrize("name", WELL_CONDITIONED)
def test_edge_sweep_gradient_equals_the_original(name, images):
    case, keep = _inputs(name)
    grad, grad_textures = _gradient(name, *images)
    assert np.all(np.isfinite(grad))
    kind = "rgba" if len(images) == 2 else images[0]
    value, reference = grad[keep], case[f"grad_faces_{kind}"][keep]
    # Reruns of the original with other rounding stay below 6.1e-4 (golden/README.md, section 6).
    assert golden.relative_l2(value, reference) < 2e-3
    largest = np.abs(reference).max(initial=0)
    assert np.all(np.abs(value - reference) <= 5e-3 * np.abs(reference) + 5e-3 * largest)
    untouched = np.all(reference == 0, axis=(1, 2))
    np.testing.assert_array_equal(value[untouched], 0)
    if kind == "rgb":
        kept = _kept_items(name, len(grad))
        assert golden.relative_l2(grad_textures[kept], case["grad_textures"][kept]) < 3e-3


@pytest.mark.parametrize("name", WELL_CONDITIONED)
def test_depth_gradient_equals_the_original(name):
    case, keep = _inputs(name)
    value = _gradient(name, "depth")[0][keep]
    reference, again = case["grad_faces_depth"][keep], case["grad_faces_depth_f64"][keep]
    # The original's float64 run shows how well conditioned a case is: pixel-sized faces lose digits in float32.
    bound = max(1e-3, 2 * golden.relative_l2(again, reference))
    assert bound < 2e-2
    assert golden.relative_l2(value, reference) < bound


@pytest.mark.parametrize("name", ILL_CONDITIONED)
def test_ill_conditioned_gradients_are_finite_and_zero_for_degenerate_faces(name):
    for images in (("rgb", "alpha"), ("depth",)):
        grad = _gradient(name, *images)[0]
        assert np.all(np.isfinite(grad))
        if name == "illcond_degenerate":
            np.testing.assert_array_equal(grad[:, 0], 0)  # the degenerate face
            assert np.all(np.abs(grad[:, 1]).max(axis=(1, 2)) > 0)


@pytest.mark.parametrize("name", [name for name in WELL_CONDITIONED if name.startswith("single_tri")])
def test_published_single_triangle_gradients_are_reproduced(name):
    case = golden.load(name)
    grad = _gradient(name, "alpha")[0]
    vertices = np.zeros((case["vertices"].shape[1], 3))
    np.add.at(vertices, case["faces"][0], grad[0])
    # Tolerance and components (x and y) of the original's own test.
    np.testing.assert_allclose(vertices[:3, :2], case["expected_grad_vertices"][:, :2], rtol=1e-2, atol=1e-4)
