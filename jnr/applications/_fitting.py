"""Shared parts of the applications: random views, parameters of a mesh, and the optimization loop."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jnr import _checks, optim
from jnr._camera import points_from_angles
from jnr._extras import require
from jnr._geometry import check_vertices
from jnr._mesh import Mesh, require_mesh
from jnr._pytree import pytree
from jnr._textures import MAX_TEXELS_PER_SIDE, UVTexture

# Standard deviation of new textures before the sigmoid; the value of Chainer's default initializer in Neural Renderer.
_TEXTURE_NOISE = 0.05


class Fit(NamedTuple):
    """Result of an application.

    Attributes:
        mesh: The optimized mesh with texture cubes.
        history: Every term of the loss, and their sum as `"loss"`, as arrays `(steps,)`: the values before each step.
    """

    mesh: Mesh
    history: dict[str, np.ndarray]


# Static fields: changing one recompiles. The other fields are numbers that compiled functions take as arguments.
STATIC = ("image_size", "texture_size", "steps", "batch", "learning_rate", "b1", "antialias")


@pytree(static=STATIC)
class Config:
    """Settings shared by the applications."""

    image_size: int = 224
    texture_size: int = 4
    steps: int = 1000
    batch: int = 4
    elevation: tuple[float, float] = (0.0, 30.0)
    distance: float = 2.732
    distance_noise: float = 0.1
    vertices_rate: float = 0.01
    textures_rate: float = 1.0
    learning_rate: float | Callable = 0.01
    b1: float = 0.9
    antialias: int = 2


def check(mesh: Any, config: Any, kind: type, *, progress: Any) -> None:
    """Raises unless these arguments of an application are of the right kind, with the settings' numbers in range."""
    require_mesh(mesh, "mesh")
    if not isinstance(config, kind):
        raise TypeError(f"config must be a jnr.applications.{kind.__name__} or None, got {type(config).__name__}.")
    _checks.check_flag(progress, "progress")
    elevation = config.elevation
    if not isinstance(elevation, (tuple, list)) or len(elevation) != 2:
        raise ValueError(f"elevation must be the lowest and the highest angle, got {elevation!r}.")
    for angle in elevation:
        _checks.as_number(angle, "elevation")
    for name in ("image_size", "texture_size", "steps", "batch", "antialias"):
        most = MAX_TEXELS_PER_SIDE if name == "texture_size" else 2**31 - 1
        _checks.as_count(getattr(config, name), name, most=most)
    learning_rate = () if callable(config.learning_rate) else ("learning_rate",)
    weights = [field.name for field in dataclasses.fields(config) if field.name.endswith("_weight")]
    for name in ("distance", "distance_noise", "vertices_rate", "textures_rate", "b1", *learning_rate, *weights):
        _checks.as_number(getattr(config, name), name)


def as_argument(features: Callable) -> Callable:
    """Returns `features` as a pytree for `jit`: unchanged if its leaves are arrays, else with the function static."""
    if not callable(features):
        raise TypeError(f"features must be a function of images, got {type(features).__name__}.")
    if all(isinstance(leaf, (jax.Array, np.ndarray)) for leaf in jax.tree.leaves(features)):
        return features
    return jax.tree_util.Partial(features)


def random_eyes(key: jax.Array, config: Config) -> Float[Array, "batch 3"]:
    """Samples camera positions: uniform azimuth and elevation, normal distance."""
    azimuth, elevation, distance = jax.random.split(key, 3)
    shape = (config.batch,)
    low, high = config.elevation
    return points_from_angles(
        config.distance + config.distance_noise * jax.random.normal(distance, shape),
        jax.random.uniform(elevation, shape, minval=low, maxval=high),
        jax.random.uniform(azimuth, shape, maxval=360.0),
    )


def parameters(mesh: Mesh, config: Config, key: jax.Array) -> dict[str, jax.Array]:
    """Returns the optimized parameters: vertices, and textures before the sigmoid that keeps colours in [0, 1]."""
    vertices = check_vertices(mesh.vertices)
    faces = _checks.as_faces(mesh.faces, vertices.shape[0])
    if mesh.textures is None:
        size = config.texture_size
        textures = _TEXTURE_NOISE * jax.random.normal(key, (faces.shape[0], size, size, size, 3))
    else:
        shape = () if isinstance(mesh.textures, UVTexture) else jnp.shape(mesh.textures)
        if len(shape) != 5 or shape[-1] != 3:
            raise ValueError(
                f"textures must be texture cubes (faces, t, t, t, 3) or None, got {shape or 'a UVTexture'}. See "
                "jnr.uv_to_cubes and jnr.colors_to_cubes."
            )
        cubes = _checks.as_compute(mesh.textures, "textures")
        _checks.check_shape(cubes, "textures", faces.shape[0], *shape[1:])
        # The logit of 0 and 1 is infinite.
        textures = jax.scipy.special.logit(jnp.clip(cubes, 0.01, 0.99))
    return {"vertices": vertices, "textures": textures}


def fit(
    loss: Callable[[dict, jax.Array, Any, Any], dict],
    mesh: Mesh,
    constants: Any,
    config: Any,
    key: jax.Array,
    *,
    progress: bool,
) -> Fit:
    """Minimizes the sum of the terms in the dict that `loss(parameters, key, constants, config)` returns."""
    textures, views = jax.random.split(key)
    params = parameters(mesh, config, textures)
    steps = config.steps
    # `steps` is static but unused in compiled code; a fixed value avoids recompilation.
    config = dataclasses.replace(config, steps=0)
    state = _optimizer(config).init(params)
    history = []
    with _bar(steps, progress=progress) as bar:
        for i in range(steps):
            params, state, terms = _step(params, state, jax.random.fold_in(views, i), constants, config, loss=loss)
            history.append(terms)
            if bar is not None:
                bar.update()
                if i % 20 == 0:
                    bar.set_postfix(loss=f"{float(terms['loss']):.4g}")
    history = jax.device_get(history)
    return Fit(
        Mesh(params["vertices"], jnp.asarray(mesh.faces), jax.nn.sigmoid(params["textures"])),
        {name: np.array([terms[name] for terms in history]) for name in history[0]},
    )


def _optimizer(config):
    optax = require("optax", "optax", "Applications", extra="examples")
    rates = optim.scale_rates({"vertices": config.vertices_rate, "textures": config.textures_rate})
    return optax.chain(optim.zero_skipping_adam(config.learning_rate, config.b1), rates)


@partial(jax.jit, static_argnames="loss")
def _step(params, state, key, constants, config, *, loss):
    def total(params):
        terms = loss(params, key, constants, config)
        value = sum(terms.values())
        return value, {**terms, "loss": value}

    gradient, terms = jax.grad(total, has_aux=True)(params)
    updates, state = _optimizer(config).update(gradient, state, params)
    return jax.tree.map(jnp.add, params, updates), state, terms


def _bar(steps, *, progress):
    if not progress:
        return contextlib.nullcontext()
    tqdm = require("tqdm", "tqdm", "Progress bars")
    return tqdm.tqdm(total=steps, mininterval=0.5)
