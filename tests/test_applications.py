import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnr
from jnr.applications import (
    DeepDreamConfig,
    StyleTransferConfig,
    _fitting,
    deep_dream,
    gram_matrix,
    style_transfer,
)
from jnr.applications.features import random_vgg
from jnr.applications.style_transfer import _targets, _terms

BALL = jnr.shapes.icosphere(1)
NETWORK = random_vgg(jax.random.key(1), ((4,), (6,)))
SMALL: dict[str, Any] = {"image_size": 16, "texture_size": 2, "batch": 2, "antialias": 1}
# With features of order 1 and 256 pixels, these weights make all terms of the same order.
STYLE = StyleTransferConfig(
    **SMALL, steps=20, learning_rate=0.2, style_weight=100.0, content_weight=1.0, variation_weight=1e-3
)
DREAM = DeepDreamConfig(**SMALL, steps=12, learning_rate=0.05)


def stripes():
    """An image of red and green stripes."""
    row = np.arange(24) % 4 < 2
    return np.broadcast_to(np.stack([row, ~row, 0 * row], axis=-1), (20, 24, 3)).astype(np.float32)


@functools.cache
def painted(**changes):
    config = dataclasses.replace(STYLE, **changes)
    return style_transfer(BALL, stripes(), NETWORK, config, key=jax.random.key(0))


@functools.cache
def dreamt(**changes):
    return deep_dream(BALL, NETWORK, dataclasses.replace(DREAM, **changes), key=jax.random.key(0))


def largest_move(fit):
    return float(jnp.abs(fit.mesh.vertices - BALL.vertices).max())


def slopes(loss, constants, config):
    """Gradients at displaced vertices, from the first running mean of Adam, which is a tenth of them after one step."""
    params = _fitting.parameters(BALL, config, jax.random.key(2))
    params["vertices"] += 0.05 * jax.random.normal(jax.random.key(3), BALL.vertices.shape)
    # As in the loop, to share the compiled function.
    config = dataclasses.replace(config, steps=0)
    state = _fitting._optimizer(config).init(params)
    _, state, terms = _fitting._step(params, state, jax.random.key(4), constants, config, loss=loss)
    assert all(np.isfinite(term) for term in terms.values())
    return jax.tree.map(lambda mean: np.asarray(mean) / 0.1, state[0][0].first)


# --- style transfer


def test_style_loss_decreases():
    fit = painted()
    assert set(fit.history) == {"style", "content", "variation", "loss"}
    for values in fit.history.values():
        assert values.shape == (20,)
        assert np.all(np.isfinite(values))
    np.testing.assert_allclose(
        fit.history["loss"], sum(fit.history[name] for name in ("style", "content", "variation")), rtol=1e-5
    )
    # Mean over three steps of two views each, which hardly depends on the views.
    assert fit.history["style"][-3:].mean() < 0.7 * fit.history["style"][:3].mean()
    assert fit.history["content"][0] == 0
    assert fit.mesh.textures.shape == (80, 2, 2, 2, 3)
    textures = np.asarray(fit.mesh.textures)
    assert np.all((textures > 0) & (textures < 1))
    np.testing.assert_array_equal(fit.mesh.faces, BALL.faces)


def test_red_and_green_style_makes_the_mesh_less_blue():
    colors = np.asarray(painted().mesh.textures).mean(axis=(0, 1, 2, 3))
    assert colors[2] < colors[:2].min() - 0.05


def test_content_weight_holds_the_vertices():
    # Without the content term, vertices move by at most about 20 steps of 0.2 * 0.01.
    free, held = largest_move(painted(content_weight=0.0)), largest_move(painted(content_weight=1e9))
    assert 5e-3 < free < 20 * 0.2 * 0.01 * 1.5
    # Adam normalizes gradients, so that steps around the minimum stay large.
    assert held < free / 2


def test_rates_of_zero_keep_vertices_or_textures():
    assert largest_move(painted(vertices_rate=0.0)) == 0
    start = jax.nn.sigmoid(_fitting.parameters(BALL, STYLE, jax.random.split(jax.random.key(0))[0])["textures"])
    np.testing.assert_allclose(np.asarray(painted(textures_rate=0.0).mesh.textures), start, atol=1e-7)
    assert np.abs(np.asarray(painted(vertices_rate=0.0).mesh.textures) - start).max() > 0.05


def test_every_term_of_style_transfer_reaches_what_it_must():
    image, targets = _targets(jnp.asarray(stripes()), NETWORK, size=16)
    constants = BALL.faces, NETWORK, BALL.vertices, targets, image
    none = {"style_weight": 0.0, "content_weight": 0.0, "variation_weight": 0.0}
    reached = {}
    for term in ("style", "content", "variation"):
        gradient = slopes(_terms, constants, dataclasses.replace(STYLE, **{**none, f"{term}_weight": 1.0}))
        assert all(np.all(np.isfinite(g)) for g in gradient.values())
        reached[term] = [name for name in ("vertices", "textures") if np.any(gradient[name] != 0)]
        if term == "content":
            # The gradient of a sum of squares is twice the displacements: 126 numbers of standard deviation 0.05.
            assert np.std(gradient["vertices"]) == pytest.approx(2 * 0.05, rel=0.3)
    # The variation term reaches vertices through the shading.
    both = ["vertices", "textures"]
    assert reached == {"style": both, "content": ["vertices"], "variation": both}


def test_background_does_not_count_as_style():
    def colors(images):
        return images

    features = jax.tree_util.Partial(colors)
    image, targets = _targets(jnp.asarray(stripes()), features, size=16)
    constants = BALL.faces, features, BALL.vertices, targets, image
    params = _fitting.parameters(BALL, STYLE, jax.random.key(2))

    @jax.jit
    def style(params):
        configs = [dataclasses.replace(STYLE, background=background) for background in ("random", "mean")]
        return [_terms(params, jax.random.key(5), constants, config) for config in configs]

    random, mean = style(params)
    assert random["style"] == pytest.approx(float(mean["style"]), rel=1e-5)  # order of float32 sums
    assert random["variation"] == pytest.approx(float(mean["variation"]), rel=1e-5)


def test_gram_matrix_is_the_masked_mean_of_channel_products():
    rng = np.random.default_rng(0)
    maps, mask = rng.normal(size=(4, 6, 3)), rng.integers(0, 2, (8, 12))
    weights = mask.reshape(4, 2, 6, 2).mean(axis=(1, 3))
    expected = np.zeros((3, 3))
    for r, c in np.ndindex(4, 6):
        expected += weights[r, c] * np.outer(maps[r, c], maps[r, c])
    gram = jax.jit(gram_matrix)
    got = gram(jnp.asarray(maps, jnp.float32), mask)
    np.testing.assert_allclose(got, expected / weights.sum() / 3, rtol=1e-5, atol=1e-6)  # sums of 24 terms in float32
    np.testing.assert_array_equal(gram(jnp.asarray(maps, jnp.float32), 0 * mask), 0)
    whole = gram_matrix(jnp.asarray(maps, jnp.float32))
    np.testing.assert_allclose(whole, np.einsum("hwc,hwd->cd", maps, maps) / 24 / 3, rtol=1e-5, atol=1e-6)


def test_mask_whose_size_is_not_a_multiple_is_interpolated():
    rng = np.random.default_rng(0)
    maps, mask = rng.normal(size=(4, 6, 3)), rng.uniform(size=(3, 2))
    # Linear between the centres of mask pixels, constant beyond the outermost.
    rows = np.stack([np.interp((np.arange(4) + 0.5) * 3 / 4 - 0.5, np.arange(3), column) for column in mask.T])
    weights = np.stack([np.interp((np.arange(6) + 0.5) * 2 / 6 - 0.5, np.arange(2), row) for row in rows.T])
    expected = np.einsum("hw,hwc,hwd->cd", weights, maps, maps) / weights.sum() / 3
    found = gram_matrix(jnp.asarray(maps, jnp.float32), mask)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)  # sums of 24 terms in float32


# --- DeepDream


def test_features_grow_and_textures_and_vertices_move():
    fit = dreamt()
    assert set(fit.history) == {"features", "length", "loss"}
    assert np.all(np.isfinite(fit.history["loss"]))
    assert fit.history["features"][-3:].mean() < 1.2 * fit.history["features"][:3].mean() < 0
    assert largest_move(fit) > 1e-3


def test_progress_bar_counts_steps_and_shows_the_loss_every_20_steps(monkeypatch):
    tqdm = pytest.importorskip("tqdm")
    bars = []
    real = tqdm.tqdm
    monkeypatch.setattr(tqdm, "tqdm", lambda **options: bars.append(real(**options)) or bars[-1])
    config = dataclasses.replace(DREAM, steps=22)
    fit = deep_dream(BALL, NETWORK, config, key=jax.random.key(0), progress=True)
    assert [(bar.n, bar.total) for bar in bars] == [(22, 22)]
    assert bars[0].postfix == f"loss={fit.history['loss'][20]:.4g}"


def test_length_term_is_the_originals():
    corners = np.asarray(BALL.vertices, np.float64)[np.asarray(BALL.faces)]
    lengths = np.linalg.norm(corners - np.roll(corners, -1, axis=1), axis=-1)
    expected = 1e-4 * 80 * (np.mean(lengths**2) - np.mean(lengths) ** 2)
    assert dreamt().history["length"][0] == pytest.approx(expected, rel=1e-4)


# --- both


def test_results_are_deterministic_for_a_key_and_differ_between_keys():
    first = painted()
    again = style_transfer(BALL, stripes(), NETWORK, STYLE, key=jax.random.key(0))
    other = style_transfer(BALL, stripes(), NETWORK, STYLE, key=jax.random.key(1))
    for a, b, c in zip(jax.tree.leaves(first), jax.tree.leaves(again), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
        if a.dtype != np.int32:
            assert np.any(a != c)


def test_texture_cubes_of_the_mesh_are_the_initial_textures():
    cubes = jnp.linspace(0, 1, 80 * 8 * 3).reshape(80, 2, 2, 2, 3)
    params = _fitting.parameters(BALL._replace(textures=cubes), STYLE, jax.random.key(0))
    np.testing.assert_allclose(jax.nn.sigmoid(params["textures"]), np.clip(cubes, 0.01, 0.99), atol=1e-6)


def test_random_eyes_have_the_configured_distribution():
    config = dataclasses.replace(STYLE, batch=1000)
    eyes = np.asarray(_fitting.random_eyes(jax.random.key(0), config))
    distance = np.linalg.norm(eyes, axis=1)
    elevation = np.degrees(np.arcsin(eyes[:, 1] / distance))
    assert 20 - 1e-3 < elevation.min() < 21
    assert 39 < elevation.max() < 40 + 1e-3
    # Five standard errors of the mean and of the standard deviation.
    assert distance.mean() == pytest.approx(2.732, abs=5 * 0.1 / np.sqrt(1000))
    assert distance.std() == pytest.approx(0.1, abs=5 * 0.1 / np.sqrt(2000))
    azimuth = np.arctan2(eyes[:, 0], eyes[:, 2])
    assert np.histogram(azimuth, 8, (-np.pi, np.pi))[0].min() > 125 - 5 * np.sqrt(125)


def test_defaults_are_the_originals():
    style, dream = StyleTransferConfig(), DeepDreamConfig()
    assert (style.style_weight, style.content_weight, style.variation_weight) == (1, 2e9, 1e7)
    assert (style.elevation, style.distance, style.distance_noise) == ((20, 40), 2.732, 0.1)
    assert (dream.elevation, dream.distance, dream.distance_noise) == ((-10, 30), 2.5, 0.1)
    assert dream.length_weight == 1e-4
    assert (style.learning_rate, style.steps, dream.learning_rate, dream.steps) == (0.05, 5000, 0.01, 1000)
    for config in (style, dream):
        assert (config.image_size, config.texture_size, config.batch, config.b1) == (224, 4, 4, 0.9)
        assert (config.vertices_rate, config.textures_rate, config.antialias) == (0.01, 1.0, 2)


@pytest.mark.validation
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: style_transfer(BALL, jnp.zeros((4, 4)), NETWORK, key=0), ValueError, r"style must have shape"),  # pyright: ignore[reportArgumentType]: wrong on purpose
        (lambda: style_transfer(BALL, stripes(), "net", key=0), TypeError, r"features must be a function .*, got str"),  # pyright: ignore[reportArgumentType]: wrong on purpose
        (
            lambda: painted(background="black"),
            ValueError,
            r"background must be one of 'random', 'mean', got 'black'",
        ),
        (lambda: painted(steps=0), ValueError, r"steps must be at least 1, got 0"),
        (
            lambda: deep_dream(BALL._replace(textures=BALL.vertices), NETWORK, DREAM, key=jax.random.key(0)),
            ValueError,
            r"textures must be texture cubes .* got \(42, 3\)\. See jnr\.uv_to_cubes and jnr\.colors_to_cubes\.",
        ),
        (
            lambda: jax.jit(lambda f: deep_dream(BALL._replace(faces=f), NETWORK, DREAM, key=0).history)(BALL.faces),  # pyright: ignore[reportArgumentType]: wrong on purpose
            TypeError,
            r"faces must be concrete to find their sides, got a traced array\. Call deep_dream outside jit\.",
        ),
    ],
    ids=["style", "features", "background", "steps", "textures", "traced"],
)
def test_invalid_argument_is_named_in_the_error(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call()
