"""jit, vmap and grad of the renderer: one op call per batch, one compilation per shape, equal to a Python loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from programs import equations

import jnr

SPHERE = jnr.shapes.icosphere(1)
SIZE = (12, 17)  # neither square nor a multiple of the tile


# A batched matrix product rounds differently from single ones, and the sweep's 1 / distance magnifies the last bit
# where an edge passes close to a pixel centre; worst seen 1.1e-3.
ROUNDING = 3e-3


def _meshes(count, seed=0):
    noise = np.random.default_rng(seed).normal(size=(count, *SPHERE.vertices.shape))
    return SPHERE.vertices + jnp.asarray(0.1 * noise, jnp.float32)


def _loss(vertices, textures=None, eye=(0.3, 0.4, 2.5), faces=SPHERE.faces):
    camera = jnr.Camera(jnr.LookAt(eye))
    rendering = jnr.render(vertices, faces, textures, camera=camera, image_size=SIZE)
    target = jnp.linspace(0, 1, SIZE[1], dtype=jnp.float32)
    return jnp.sum((rendering.rgb - target[:, None]) ** 2) + jnp.sum((rendering.alpha - target) ** 2)


def _calls(jaxpr, name):
    """Returns the equations of a primitive in a jaxpr, including nested ones."""
    return [equation for equation in equations(jaxpr) if equation.primitive.name == name]


def _step_jaxpr(function, *args):
    return jax.make_jaxpr(function)(*args).jaxpr


def test_vmapped_step_calls_each_op_once_with_unbatched_shared_faces():
    jaxpr = _step_jaxpr(jax.vmap(jax.value_and_grad(_loss)), _meshes(16))
    (rasterize,) = _calls(jaxpr, "jnr_rasterize")
    (sweep,) = _calls(jaxpr, "jnr_edge_sweep_bwd")
    assert rasterize.outvars[0].aval.shape == (16, *SIZE)
    assert sweep.outvars[0].aval.shape == (16, *SPHERE.vertices.shape[:1], 4)
    faces_shape = (1, *SPHERE.faces.shape)
    assert faces_shape in [v.aval.shape for v in rasterize.invars]
    assert faces_shape in [v.aval.shape for v in sweep.invars]


def test_nested_vmap_calls_each_op_once():
    both = jax.vmap(jax.vmap(jax.grad(_loss)))
    jaxpr = _step_jaxpr(both, _meshes(6).reshape(2, 3, -1, 3))
    assert len(_calls(jaxpr, "jnr_rasterize")) == 1
    (sweep,) = _calls(jaxpr, "jnr_edge_sweep_bwd")
    assert sweep.outvars[0].aval.shape[0] == 6


COLORS = jnp.asarray(np.random.default_rng(1).uniform(size=(3, SPHERE.vertices.shape[0], 3)), jnp.float32)
EYES = jnp.asarray([(0.3, 0.4, 2.5), (-2.0, 0.5, 1.0), (0.1, 2.6, 0.3)], jnp.float32)
FACES = jnp.stack([SPHERE.faces, SPHERE.faces[::-1], jnp.roll(SPHERE.faces, 1, axis=1)])

GRAD = jax.grad(_loss, argnums=(0, 1, 2))
SINGLE = jax.jit(GRAD)

MAPPED = {
    "vertices": (0, None, None, None),
    "textures": (None, 0, None, None),
    "camera": (None, None, 0, None),
    "faces": (None, None, None, 0),
    "all": (0, 0, 0, 0),
}


@pytest.mark.parametrize("axes", MAPPED.values(), ids=MAPPED.keys())
def test_vmap_equals_a_loop(axes):
    stacked = (_meshes(3), COLORS, EYES, FACES)
    args = [value if axis == 0 else value[0] for value, axis in zip(stacked, axes, strict=True)]
    together = jax.jit(jax.vmap(GRAD, in_axes=axes))(*args)
    for i in range(3):
        alone = SINGLE(*(value[i] if axis == 0 else value for value, axis in zip(args, axes, strict=True)))
        for value, reference in zip(together, alone, strict=True):
            np.testing.assert_allclose(value[i], reference, rtol=ROUNDING, atol=ROUNDING * np.abs(reference).max())


def test_nested_vmap_over_different_arguments_equals_loops():
    nested = jax.vmap(jax.vmap(GRAD, in_axes=(None, None, 0)), in_axes=(0, None, None))
    meshes = _meshes(2)
    together = jax.jit(nested)(meshes, COLORS[0], EYES)
    for i in range(2):
        for j in range(3):
            alone = SINGLE(meshes[i], COLORS[0], EYES[j])
            for value, reference in zip(together, alone, strict=True):
                np.testing.assert_allclose(
                    value[i, j], reference, rtol=ROUNDING, atol=ROUNDING * np.abs(reference).max()
                )


def test_vmap_over_the_last_axis_and_over_one_mesh():
    forward = jax.jit(jax.vmap(_loss, in_axes=2))
    meshes = _meshes(2)
    np.testing.assert_allclose(forward(jnp.moveaxis(meshes, 0, 2)), [_loss(meshes[0]), _loss(meshes[1])], rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(_loss)(meshes[:1]), [_loss(meshes[0])], rtol=1e-5)


def test_optax_loop_compiles_once_and_lowers_the_loss():
    traces = []

    def loss(vertices):
        traces.append(None)
        alpha = jnr.render_silhouette(vertices, SPHERE.faces, image_size=16)
        target = jnp.zeros((16, 16), jnp.float32).at[3:9, 2:10].set(1)
        return jnp.mean((alpha - target) ** 2)

    optimizer = optax.adam(0.01)

    @jax.jit
    def step(vertices, state):
        value, grad = jax.value_and_grad(loss)(vertices)
        updates, state = optimizer.update(grad, state)
        return optax.apply_updates(vertices, updates), state, value

    vertices = SPHERE.vertices
    state = optimizer.init(vertices)
    values: list[float] = []
    with jax.numpy_dtype_promotion("standard"):  # optax relies on implicit promotion
        for _ in range(200):
            vertices, state, value = step(vertices, state)
            values.append(float(value))
    assert len(traces) == 1
    assert step._cache_size() == 1
    assert values[-1] < 0.3 * values[0]


@pytest.mark.parametrize("transform", ["jvp", "jacfwd", "linearize", "hessian"])
@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jitted"])
def test_forward_mode_through_the_edge_sweep_is_an_error_with_its_reason(transform, jitted):
    def loss(vertices):
        return jnp.sum(jnr.render_silhouette(vertices, SPHERE.faces, image_size=4))

    function = jax.jit(loss) if jitted else loss
    run = {
        "jvp": lambda v: jax.jvp(function, (v,), (v,)),
        "jacfwd": jax.jacfwd(function),
        "linearize": lambda v: jax.linearize(function, v)[1](v),
        "hessian": jax.hessian(function),
    }[transform]
    with pytest.raises(TypeError, match=r"edge_sweep has no forward-mode derivative .* not linear"):
        run(SPHERE.vertices)


def test_forward_mode_works_without_the_edge_sweep():
    def depth(vertices):
        return jnp.mean(jnr.render_depth(vertices, SPHERE.faces, image_size=8))

    tangent = jnp.ones_like(SPHERE.vertices)
    _, forward = jax.jvp(depth, (SPHERE.vertices,), (tangent,))
    reverse = jnp.sum(jax.grad(depth)(SPHERE.vertices) * tangent)
    np.testing.assert_allclose(forward, reverse, rtol=1e-5)


def test_edge_sweep_is_not_linear_in_the_cotangent():
    faces = jnp.asarray([[0, 1, 2]])
    corners = jnp.asarray([[-0.5, -0.4, 0, 1], [0.4, -0.3, 0, 1], [0.1, 0.5, 0, 1]], jnp.float32)

    def gradient(sign):
        def loss(clip):
            fragments = jnr.rasterize(clip, faces, 16)
            alpha = (fragments.face_index >= 0)[..., None].astype(clip.dtype)
            # One pixel far to the right of the face.
            return sign * jnr.edge_sweep(alpha, clip, faces, fragments)[8, 14, 0]

        return jax.grad(loss)(corners)

    darker, brighter = gradient(1.0), gradient(-1.0)
    # The pixel is already dark. To brighten it, the face must move towards +x.
    np.testing.assert_array_equal(darker, 0)
    assert jnp.sum(brighter[:, 0]) < 0


def test_scaling_the_loss_scales_the_gradient():
    grad = jax.grad(_loss)(SPHERE.vertices)
    scaled = jax.grad(lambda v: 4 * _loss(v))(SPHERE.vertices)
    np.testing.assert_allclose(scaled, 4 * grad, rtol=1e-6, atol=1e-6 * float(jnp.abs(grad).max()))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (8, 8), (33, 5)])
def test_gradient_of_the_transposed_image_is_the_transposed_gradient(size):
    # Swapping x and y of the mesh transposes the image, so both axes must give the same gradient.
    generator = np.random.default_rng(3)
    xyw = generator.uniform(-1, 1, (9, 4)).astype(np.float32)
    xyw[:, 3] = generator.uniform(0.5, 2, 9)
    faces = jnp.arange(9, dtype=jnp.int32).reshape(3, 3)
    weight = jnp.asarray(generator.normal(size=size), jnp.float32)

    def gradient(clip, size, weight):
        def loss(clip):
            fragments = jnr.rasterize(clip, faces, size)
            alpha = (fragments.face_index >= 0)[..., None].astype(clip.dtype)
            return jnp.sum(jnr.edge_sweep(alpha, clip, faces, fragments)[..., 0] * weight)

        return np.asarray(jax.grad(loss)(clip))

    original = gradient(jnp.asarray(xyw), size, weight)
    # x grows to the right and y upwards, so the transposed mesh is (-y, -x).
    swapped = jnp.asarray(xyw[:, [1, 0, 2, 3]] * np.array([-1, -1, 1, 1], np.float32))
    transposed = gradient(swapped, size[::-1], weight.T)
    expected = transposed[:, [1, 0, 2, 3]] * np.array([-1, -1, 1, 1], np.float32)
    np.testing.assert_allclose(original, expected, rtol=1e-3, atol=1e-3 * max(np.abs(expected).max(), 1e-6))
