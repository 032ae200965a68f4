import dataclasses
import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jnr
from jnr import optim


def gradients(steps, seed=0):
    """Gradients of 12 elements, in float64: about a third are exactly zero, those of the last element always."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (steps, 12)) * 10.0 ** rng.integers(-3, 3, 12)
    values[rng.uniform(size=values.shape) < 0.3] = 0
    values[:, -1] = 0
    return values.astype(np.float32).astype(np.float64)


def loop(start, grads, rate=1e-3, b1=0.9, b2=0.999, eps=1e-8):
    """Chainer's Adam, element by element, in float64."""
    weights, first, second = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for t, grad in enumerate(grads, 1):
        for i, g in enumerate(grad):
            if g == 0:
                continue
            first[i] += (1 - b1) * (g - first[i])
            second[i] += (1 - b2) * (g * g - second[i])
            step = (rate(t - 1) if callable(rate) else rate) * np.sqrt(1 - b2**t) / (1 - b1**t)
            weights[i] -= step * first[i] / (np.sqrt(second[i]) + eps)
    return weights, first, second


def run(optimizer, start, grads):
    """Parameters and state after one step per gradient, in float32 under jit."""

    @jax.jit
    def all_steps(params, grads):
        def step(carry, grad):
            params, state = carry
            updates, state = optimizer.update(grad, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), grads)[0]

    return all_steps(jnp.asarray(start, jnp.float32), jnp.asarray(grads, jnp.float32))


START = np.linspace(-1, 1, 12).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize(
    "settings",
    [{}, {"rate": 0.05, "b1": 0.5, "b2": 0.9, "eps": 0.1}, {"rate": optax.linear_schedule(0.1, 0.0, 20), "b1": 0.0}],
    ids=["defaults", "large_eps", "schedule"],
)
def test_adam_equals_a_loop_over_its_numbers(settings):
    grads = gradients(25)
    weights, first, second = loop(START, grads, **settings)
    rate = settings.get("rate", 1e-3)
    optimizer = optim.zero_skipping_adam(rate, **{k: v for k, v in settings.items() if k != "rate"})
    params, state = run(optimizer, START, grads)
    # float32 against float64: the running means of 25 steps, and weights near 1.
    np.testing.assert_allclose(state[0].first, first, rtol=2e-5, atol=1e-6 * np.abs(first).max())
    np.testing.assert_allclose(state[0].second, second, rtol=2e-5)
    moved = np.asarray(params, np.float64) - START
    np.testing.assert_allclose(moved, weights - START, rtol=1e-4, atol=3e-7)
    assert np.abs(weights - START).max() > 1e-3


def test_numbers_without_a_gradient_keep_their_bits_and_their_means():
    optimizer = optim.zero_skipping_adam(0.1)
    params = jnp.array([0.1, -0.0, 3e-30, jnp.inf, 0.7], jnp.float32)
    state = optimizer.init(params)
    first = jnp.array([1.0, -2.0, 0.5, 1.0, 0.25], jnp.float32)
    updates, state = optimizer.update(first, state)
    before = optax.apply_updates(params, updates)
    # Only the last element has a gradient in the second step.
    updates, after_state = optimizer.update(jnp.array([0.0, -0.0, 0.0, 0.0, 1.0], jnp.float32), state)
    after = optax.apply_updates(before, updates)
    np.testing.assert_array_equal(np.asarray(after)[:4].view(np.int32), np.asarray(before)[:4].view(np.int32))
    for name in ("first", "second"):
        np.testing.assert_array_equal(getattr(after_state[0], name)[:4], getattr(state[0], name)[:4])
        assert getattr(after_state[0], name)[4] != getattr(state[0], name)[4]
    assert after[4] != before[4]
    # Elements that never had a gradient keep their bits, also negative zero.
    untouched, _ = optimizer.update(jnp.zeros(5), optimizer.init(params))
    same = optax.apply_updates(params, untouched)
    np.testing.assert_array_equal(np.asarray(same).view(np.int32), np.asarray(params).view(np.int32))


def test_steps_without_a_gradient_still_count_for_the_correction():
    optimizer = optim.zero_skipping_adam(1.0)
    params = jnp.zeros(1)
    state = optimizer.init(params)
    for _ in range(3):
        _, state = optimizer.update(jnp.zeros(1), state)
    updates, state = optimizer.update(jnp.ones(1), state)
    assert state[0].count == 4
    expected, _, _ = loop(np.zeros(1), np.array([[0.0], [0.0], [0.0], [1.0]]), rate=1.0)
    np.testing.assert_allclose(np.asarray(updates), expected, rtol=1e-6)  # a few roundings of float32


def test_adam_equals_optax_adam_where_every_gradient_is_larger_than_eps():
    grads = gradients(10)
    grads[grads == 0] = 1.0
    ours, _ = run(optim.zero_skipping_adam(0.01), START, grads)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        theirs, _ = run(optax.adam(0.01), START, grads)
    # eps 1e-8 against gradients of at least 1e-4; float32.
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_decay_rates_may_be_traced():
    grads = gradients(5)

    def moved(b1, b2):
        return run(optim.zero_skipping_adam(0.1, b1=b1, b2=b2), START, grads)[0]

    found, expected = jax.jit(moved)(0.5, 0.9), moved(0.5, 0.9)
    assert np.abs(expected - START).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)  # the logarithm of the decay rate in float32


def test_nan_gradient_is_not_skipped():
    optimizer = optim.zero_skipping_adam(0.1)
    updates, _ = optimizer.update(jnp.array([jnp.nan, 0.0]), optimizer.init(jnp.ones(2)))
    assert np.isnan(np.asarray(updates)[0])
    assert np.asarray(updates)[1] == 0


def test_factors_scale_the_steps_of_their_parameters():
    params = {"vertices": jnp.ones((4, 3)), "textures": {"a": jnp.ones(2), "b": jnp.ones(3)}, "fixed": jnp.ones(2)}
    rows = jnp.array([[1.0], [2.0], [0.0], [1.0]])
    factors = {"vertices": rows, "textures": 0.5, "fixed": 0}
    optimizer = optax.chain(optim.zero_skipping_adam(0.1), optim.scale_rates(factors))
    plain = optim.zero_skipping_adam(0.1)
    grads = jax.tree.map(lambda p: p * 3, params)
    scaled, _ = jax.jit(optimizer.update)(grads, optimizer.init(params))
    expected, _ = jax.jit(plain.update)(grads, plain.init(params))
    np.testing.assert_allclose(scaled["vertices"], expected["vertices"] * rows, rtol=1e-6)
    np.testing.assert_allclose(scaled["textures"]["b"], expected["textures"]["b"] * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(scaled["fixed"], 0)


@pytest.mark.validation
def test_adam_is_a_deprecated_alias_with_equal_updates():
    grads = gradients(5)
    with pytest.warns(
        DeprecationWarning, match=r"jnr\.optim\.adam is .*: use jnr\.optim\.zero_skipping_adam"
    ) as caught:
        alias = optim.adam(0.1, b1=0.5, b2=0.9, eps=1e-4)
    assert [warning.filename for warning in caught] == [__file__]
    expected = run(optim.zero_skipping_adam(0.1, b1=0.5, b2=0.9, eps=1e-4), START, grads)
    for found, array in zip(jax.tree.leaves(run(alias, START, grads)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(found, array)


@pytest.mark.validation
@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"vertices": 1.0}, r"factors must be a tree prefix of the parameters, got a mismatch: "),
        ({"vertices": jnp.ones(4), "textures": 1.0}, r"factors must broadcast .*, got shape \(4,\) for \(4, 3\)\."),
        ({"vertices": jnp.ones((2, 4, 3)), "textures": 1.0}, r"factors must broadcast .*, got shape \(2, 4, 3\) for"),
    ],
    ids=["missing", "shape", "more_axes"],
)
def test_factors_that_do_not_fit_are_an_error(factors, message):
    params = {"vertices": jnp.ones((4, 3)), "textures": jnp.ones(2)}
    with pytest.raises(ValueError, match=message):
        optim.scale_rates(factors).init(params)


@pytest.mark.validation
@pytest.mark.parametrize("name", ["b1", "b2"])
def test_decay_rate_out_of_range_is_an_error(name):
    with pytest.raises(ValueError, match=rf"^{name} must be at least 0 and less than 1, got 1\.0\.$"):
        optim.zero_skipping_adam(**{name: 1.0})


def test_missing_optax_is_an_error_that_says_how_to_install_it():
    code = """
import sys
sys.modules["optax"] = None
import jnr
for make in (jnr.optim.zero_skipping_adam, lambda: jnr.optim.scale_rates(1.0)):
    try:
        make()
    except ImportError as error:
        print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ['Optimizers need optax. Install it with: pip install "jnr[examples]"'] * 2


BALL = jnr.shapes.icosphere(1)


def matrix_of(coordinates, count):
    """I + strength L as an array."""
    return np.asarray(coordinates.parameters(jnp.eye(count)), np.float64)


def test_parameters_of_large_steps_are_the_vertices_and_their_laplacian():
    coordinates = optim.large_steps(BALL.faces, 42, strength=3.0)
    matrix = np.eye(42)
    for a, b in np.asarray(jnr.unique_edges(BALL.faces)[0]):
        matrix[a, b] -= 3
        matrix[b, a] -= 3
        matrix[a, a] += 3
        matrix[b, b] += 3
    np.testing.assert_allclose(matrix_of(coordinates, 42), matrix, atol=1e-5)


def test_cotangent_weights_are_those_of_right_triangles():
    """In a grid of right triangles the diagonals weigh nothing, and the sides 1 inside, 1/2 on the border."""
    plane = jnr.shapes.plane(4, 4)
    coordinates = optim.large_steps(plane.faces, 25, vertices=plane.vertices, strength=1.0)
    matrix = matrix_of(coordinates, 25) - np.eye(25)
    for a, b in np.asarray(jnr.unique_edges(plane.faces)[0]):
        ends = np.asarray(plane.vertices)[[a, b], :2]
        is_diagonal = bool(np.all(ends[0] != ends[1]))
        on_border = bool(np.any((ends[0] == ends[1]) & (np.abs(ends[0]) == np.abs(np.asarray(plane.vertices)).max())))
        np.testing.assert_allclose(-matrix[a, b], 0 if is_diagonal else 0.5 if on_border else 1, atol=1e-6)
    # The coordinates of a plane are harmonic inside.
    inside = np.all(np.abs(np.asarray(plane.vertices)[:, :2]) < np.abs(np.asarray(plane.vertices)).max(), axis=1)
    np.testing.assert_allclose((matrix @ np.asarray(plane.vertices))[inside], 0, atol=1e-6)


@pytest.mark.parametrize("vertices", [None, BALL.vertices], ids=["uniform", "cotangent"])
def test_vertices_of_parameters_are_the_vertices(vertices):
    coordinates = optim.large_steps(BALL.faces, 42, vertices=vertices)
    start = BALL.vertices + 0.1 * jnp.sin(9 * BALL.vertices)
    back = jax.jit(lambda c, u: c.vertices(u))(coordinates, coordinates.parameters(start))
    np.testing.assert_allclose(back, start, atol=1e-3)  # a residual of 1e-5 times the largest eigenvalue, 230
    batch = jnp.stack([start, 2 * start])
    batched = jax.vmap(lambda v: coordinates.vertices(coordinates.parameters(v), tolerance=1e-6))(batch)
    np.testing.assert_allclose(batched, batch, atol=1e-3)


def test_derivatives_of_large_steps_are_those_of_the_matrix():
    with jax.enable_x64(True):
        coordinates = optim.large_steps(BALL.faces, 42, strength=jnp.float64(5.0))
        inverse = np.linalg.inv(matrix_of(coordinates, 42))
        cotangent = jnp.asarray(np.random.default_rng(0).normal(size=(42, 3)))
        solve = functools.partial(coordinates.vertices, tolerance=1e-12)
        parameters = coordinates.parameters(BALL.vertices.astype(jnp.float64))
        _, pull = jax.vjp(solve, parameters)
        np.testing.assert_allclose(pull(cotangent)[0], inverse @ cotangent, atol=1e-9)
        np.testing.assert_allclose(jax.jvp(solve, (parameters,), (cotangent,))[1], inverse @ cotangent, atol=1e-9)

        def of_strength(strength):
            return jnp.vdot(
                dataclasses.replace(coordinates, strength=strength).vertices(parameters, tolerance=1e-12), cotangent
            )

        step = 1e-5
        difference = (of_strength(5 + step) - of_strength(5 - step)) / (2 * step)
        np.testing.assert_allclose(jax.grad(of_strength)(5.0), difference, rtol=1e-6)


def test_start_at_the_solution_needs_no_iterations():
    coordinates = optim.large_steps(BALL.faces, 42)
    parameters = coordinates.parameters(BALL.vertices)
    near = coordinates.vertices(parameters, start=BALL.vertices, most_iterations=1)
    np.testing.assert_allclose(near, BALL.vertices, atol=1e-5)
    assert float(jnp.max(jnp.abs(coordinates.vertices(parameters, most_iterations=1) - BALL.vertices))) > 0.1


def test_vertices_without_faces_and_padding_are_left_alone():
    faces = jnp.concatenate([BALL.faces, jnp.full((3, 3), -1)])
    coordinates = optim.large_steps(faces, 44)
    matrix = matrix_of(coordinates, 44)
    np.testing.assert_array_equal(matrix[42:], np.eye(44)[42:])
    np.testing.assert_array_equal(matrix[:42, :42], matrix_of(optim.large_steps(BALL.faces, 42), 42))
    alone = optim.large_steps(faces[:0], 2)
    np.testing.assert_array_equal(alone.vertices(jnp.ones((2, 3))), 1)


@pytest.mark.parametrize("per", ["array", "vector"])
def test_uniform_adam_equals_a_loop_over_its_numbers(per):
    grads, start = np.random.default_rng(0).normal(size=(6, 4, 3)), np.ones((4, 3))
    first, second, weights = np.zeros((4, 3)), np.zeros((4, 3 if per == "array" else 1)), start.copy()
    for t, grad in enumerate(grads, 1):
        square = grad**2 if per == "array" else np.sum(grad**2, axis=1, keepdims=True)
        first, second = 0.9 * first + 0.1 * grad, 0.99 * second + 0.01 * square
        size = np.sqrt((second.max() if per == "array" else second) / (1 - 0.99**t))
        weights -= 0.05 * first / (1 - 0.9**t) / (size + 1e-8)
    params, (state, *_) = run(optim.uniform_adam(0.05, b2=0.99, per=per), start, grads)
    np.testing.assert_allclose(params, weights, rtol=1e-5)
    assert int(state.count) == 6


def test_steps_per_vector_turn_with_the_axes():
    grads = np.random.default_rng(1).normal(size=(5, 7, 3))
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    straight, _ = run(optim.uniform_adam(0.1, per="vector"), np.zeros((7, 3)), grads)
    turned, _ = run(optim.uniform_adam(0.1, per="vector"), np.zeros((7, 3)), grads @ turn)
    np.testing.assert_allclose(turned, straight @ turn, atol=1e-5)
    # The largest number of an array depends on the axes.
    straight, turned = (run(optim.uniform_adam(0.1), np.zeros((7, 3)), g)[0] for g in (grads, grads @ turn))
    assert float(np.max(np.abs(turned - straight @ turn))) > 0.01


@pytest.mark.validation
def test_large_steps_refuse_what_does_not_fit():
    coordinates = optim.large_steps(BALL.faces, 42)
    with pytest.raises(ValueError, match=r"strength must be at least 0, got -1"):
        optim.large_steps(BALL.faces, 42, strength=-1.0)
    with pytest.raises(TypeError, match=r"vertices must be concrete"):
        jax.jit(lambda v: optim.large_steps(BALL.faces, 42, vertices=v).weights)(BALL.vertices)
    with pytest.raises(ValueError, match=r"parameters must have shape \(42, channels\), got \(41, 3\)"):
        coordinates.vertices(jnp.zeros((41, 3)))
    with pytest.raises(ValueError, match=r"start must have shape \(42, 3\)"):
        coordinates.vertices(jnp.zeros((42, 3)), start=jnp.zeros((42, 2)))
    with pytest.raises(ValueError, match=r"per must be one of 'array', 'vector'"):
        optim.uniform_adam(per="number")  # pyright: ignore[reportArgumentType]: wrong on purpose
