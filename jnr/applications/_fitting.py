"""What the applications share: random views, a mesh as parameters, and the loop."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnr import _checks, optim
from jnr._extras import require
from jnr._pytree import pytree
from jnr.camera import points_from_angles
from jnr.mesh import Mesh
from jnr.textures import UVTexture

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# How far new textures are from grey, before the sigmoid: what Chainer's default gives Neural Renderer's.
_SPREAD = 0.05


class Fit(NamedTuple):
    """What came of an application.

    Attributes:
        mesh: The mesh with its texture cubes.
        history: Each term of the loss at each step, before the step, and their sum as `"loss"`.
    """

    mesh: Mesh
    history: dict[str, np.ndarray]


# Fields that programs are compiled for; a change of the others, which are plain numbers, compiles nothing anew.
STATIC = ("image_size", "texture_size", "steps", "batch", "learning_rate", "b1", "antialias")


@pytree(static=STATIC)
class Config:
    """Settings that the applications share."""

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


def as_argument(features: Callable) -> Callable:
    """The function as `jit` takes it: a pytree of arrays as it is, any other as a constant."""
    if not callable(features):
        raise TypeError(f"features must be a function of images, got {type(features).__name__}.")
    if all(isinstance(leaf, (jax.Array, np.ndarray)) for leaf in jax.tree.leaves(features)):
        return features
    return jax.tree_util.Partial(features)


def random_eyes(key: jax.Array, config: Config) -> Float[Array, "batch 3"]:
    """Places to look from: any azimuth, an elevation of the range, and a distance with some noise."""
    azimuth, elevation, distance = jax.random.split(key, 3)
    shape = (config.batch,)
    low, high = config.elevation
    return points_from_angles(
        config.distance + config.distance_noise * jax.random.normal(distance, shape),
        jax.random.uniform(elevation, shape, minval=low, maxval=high),
        jax.random.uniform(azimuth, shape, maxval=360.0),
    )


def parameters(mesh: Mesh, config: Config, key: jax.Array) -> dict[str, jax.Array]:
    """What the optimizer moves: vertices, and textures before the sigmoid that keeps colours in [0, 1]."""
    vertices = _checks.as_compute(mesh.vertices, "vertices")
    _checks.check_shape(vertices, "vertices", "vertices", 3)
    faces = _checks.as_faces(mesh.faces, vertices.shape[0])
    if mesh.textures is None:
        size = _checks.as_count(config.texture_size, "texture_size")
        textures = _SPREAD * jax.random.normal(key, (faces.shape[0], size, size, size, 3))
    else:
        shape = () if isinstance(mesh.textures, UVTexture) else jnp.shape(mesh.textures)
        if len(shape) != 5 or shape[-1] != 3:
            raise ValueError(
                f"textures must be texture cubes (faces, t, t, t, 3) or None, got {shape or 'a UVTexture'}. See "
                "jnr.uv_to_cubes and jnr.colors_to_cubes."
            )
        cubes = _checks.as_compute(mesh.textures, "textures")
        _checks.check_shape(cubes, "textures", faces.shape[0], *shape[1:])
        # Black and white would be infinitely far away.
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
    """Minimizes the sum of the terms that `loss(parameters, key, constants, config)` returns."""
    textures, views = jax.random.split(key)
    params = parameters(mesh, config, textures)
    steps = _checks.as_count(config.steps, "steps")
    _checks.as_count(config.batch, "batch")
    # What is compiled does not depend on the number of steps.
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
        whole = sum(terms.values())
        return whole, {**terms, "loss": whole}

    gradient, terms = jax.grad(total, has_aux=True)(params)
    updates, state = _optimizer(config).update(gradient, state, params)
    return jax.tree.map(jnp.add, params, updates), state, terms


def _bar(steps, *, progress):
    if not progress:
        return contextlib.nullcontext()
    tqdm = require("tqdm", "tqdm", "Progress bars")
    return tqdm.tqdm(total=steps, mininterval=0.5)
