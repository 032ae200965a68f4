"""3D DeepDream: a mesh that shows, from all around, more of what a network looks for."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jnr import _checks
from jnr._camera import Camera, LookAt
from jnr._lights import AmbientLight
from jnr._mesh import Mesh
from jnr._pytree import pytree
from jnr._render import render
from jnr.applications import _fitting
from jnr.losses import edge_length_variance


@pytree(static=_fitting.STATIC)
class DeepDreamConfig(_fitting.Config):
    """Settings of `deep_dream`; the defaults are the original's.

    Attributes:
        image_size: Pixels each way.
        texture_size: Texels along a side of new texture cubes.
        steps: How many.
        batch: Views a step.
        elevation: Lowest and highest, in degrees.
        distance: Of the views from the origin, on the mean.
        distance_noise: Its standard deviation.
        length_weight: Of the variance of the lengths of the faces' sides, times the number of faces.
        vertices_rate: Factor on the learning rate for vertices.
        textures_rate: Factor on the learning rate for textures.
        learning_rate: Of Adam, a number or a schedule.
        b1: Of Adam.
        antialias: Samples a pixel each way.
    """

    elevation: tuple[float, float] = (-10.0, 30.0)
    distance: float = 2.5
    length_weight: float = 1e-4


def deep_dream(
    mesh: Mesh,
    features: Callable[[Float[Array, "batch height width 3"]], PyTree],
    config: DeepDreamConfig | None = None,
    *,
    key: jax.Array,
    progress: bool = False,
) -> _fitting.Fit:
    """Moves a mesh's vertices and textures so that its pictures make the features of a network larger.

    Pictures are taken from random sides, without shading, each before a grey of its own. The original compares them by
    GoogLeNet's layer inception4c (`features.load_googlenet`).

    Args:
        mesh: About as large as the unit cube (see `jnr.normalize`); its texture cubes are the start, grey noise where
            it has no textures.
        features: From images in [0, 1] to feature maps, as for `style_transfer`; of several the means are added.
        config: Settings; None is `DeepDreamConfig()`.
        key: Of `jax.random`; the same key gives the same mesh on the same machine.
        progress: Whether to show a bar.

    Returns:
        The mesh with its texture cubes, and the terms at each step: `"features"`, less the mean of squared features,
        and `"length"`, weighted.

    Raises:
        ImportError: If optax, or tqdm for a bar, is missing; `pip install "jnr[examples]"` brings them.
        TypeError: If the mesh's faces are traced.
        ValueError: If a shape or setting is not allowed.

    Example:
        >>> network = jnr.applications.features.load_googlenet("googlenet.npz")
        >>> fit = jnr.applications.deep_dream(mesh, network, key=jax.random.key(0))

    References:
        Kato, Ushiku and Harada, Neural 3D mesh renderer, CVPR 2018, section 4.3; Mordvintsev, Olah and Tyka,
        Inceptionism, 2015.
    """
    config = DeepDreamConfig() if config is None else config
    _checks.as_count(config.image_size, "image_size")
    if not _checks.is_concrete(mesh.faces):
        raise TypeError("faces must be concrete to find their sides: call deep_dream outside jit.")
    faces = np.asarray(_checks.as_faces(mesh.faces, jnp.shape(mesh.vertices)[0]))
    faces = faces[np.all(faces >= 0, axis=1)]
    # Sides and not edges: those between two faces count twice, as in the original.
    sides = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2)
    constants = jnp.asarray(mesh.faces), _fitting.as_argument(features), jnp.asarray(sides)
    return _fitting.fit(_terms, mesh, constants, config, key, progress=progress)


def _terms(params, key, constants, config):
    faces, features, sides = constants
    vertices, cubes = params["vertices"], jax.nn.sigmoid(params["textures"])
    for_eyes, for_backgrounds = jax.random.split(key)
    eyes = _fitting.random_eyes(for_eyes, config)
    backgrounds = jax.random.uniform(for_backgrounds, (config.batch,))

    def draw(eye, background):
        picture = render(
            vertices,
            faces,
            cubes,
            camera=Camera(LookAt(eye)),
            lights=(AmbientLight(1.0),),
            image_size=config.image_size,
            background=background,
            antialias=config.antialias,
        )
        return picture.rgb

    found = jax.tree.leaves(features(jax.vmap(draw)(eyes, backgrounds)))
    return {
        "features": -sum(jnp.mean(maps * maps) for maps in found),
        "length": config.length_weight * (sides.shape[0] / 3) * edge_length_variance(vertices, sides),
    }
