"""3D DeepDream: optimizes a mesh so that its renderings excite the features of a network."""

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
    """Settings of `deep_dream`. The defaults are those of the original.

    Attributes:
        image_size: Height and width of the renderings, in pixels.
        texture_size: Texels along each side of new texture cubes.
        steps: Number of optimization steps.
        batch: Number of views per step.
        elevation: Lowest and highest elevation of the views, in degrees.
        distance: Mean distance of the views from the origin.
        distance_noise: Standard deviation of the distance.
        length_weight: Weight of the variance of the side lengths of faces, times the number of faces.
        vertices_rate: Factor on the learning rate of vertices.
        textures_rate: Factor on the learning rate of textures.
        learning_rate: Learning rate of Adam: a number or an optax schedule.
        b1: Decay rate of Adam's mean of the gradients.
        antialias: Supersampling factor per axis.
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
    """Optimizes vertices and textures of a mesh to increase the features of a network in its renderings.

    The renderings show the unshaded mesh from random directions, each on a random grey background. The original uses
    the layer inception4c of GoogLeNet, see `features.load_googlenet`.

    Args:
        mesh: A mesh of about the size of the cube [-1, 1]^3, see `jnr.normalize`. Its texture cubes are the initial
            textures; None starts from grey noise.
        features: Differentiable function from images in [0, 1] to feature maps, as for `style_transfer`.
        config: Settings; None is `DeepDreamConfig()`.
        key: Key of `jax.random`. Equal keys give equal results on the same machine.
        progress: Whether to show a progress bar.

    Returns:
        The mesh with its texture cubes and the history of the weighted terms: `"features"`, minus the sum over feature
        maps of the mean squared feature, and `"length"`.

    Raises:
        ImportError: If optax or, with `progress`, tqdm is missing; install them with `pip install "jnr[examples]"`.
        TypeError: If `features` is not callable, or the mesh is traced or has arrays of the wrong kind.
        ValueError: If a shape or setting is not valid.

    Example:
        >>> network = jnr.applications.features.load_googlenet("googlenet.npz")
        >>> fit = jnr.applications.deep_dream(mesh, network, key=jax.random.key(0))

    References:
        Kato, Ushiku and Harada, Neural 3D mesh renderer, CVPR 2018, section 4.3; Mordvintsev, Olah and Tyka,
        Inceptionism, 2015.
    """
    config = DeepDreamConfig() if config is None else config
    _fitting.check(mesh, config, DeepDreamConfig, progress=progress)
    if not _checks.is_concrete(mesh.faces):
        raise TypeError("faces must be concrete to find their sides, got a traced array. Call deep_dream outside jit.")
    faces = np.asarray(_checks.as_faces(mesh.faces, jnp.shape(mesh.vertices)[0]))
    faces = faces[np.all(faces >= 0, axis=1)]
    # Sides, not unique edges: as in the original, an edge between two faces counts twice.
    sides = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2)
    constants = jnp.asarray(mesh.faces), _fitting.as_argument(features), jnp.asarray(sides)
    return _fitting.fit(_terms, mesh, constants, config, key, progress=progress)


def _terms(params, key, constants, config):
    faces, features, sides = constants
    vertices, cubes = params["vertices"], jax.nn.sigmoid(params["textures"])
    eye_key, background_key = jax.random.split(key)
    eyes = _fitting.random_eyes(eye_key, config)
    backgrounds = jax.random.uniform(background_key, (config.batch,))

    def render_rgb(eye, background):
        rendering = render(
            vertices,
            faces,
            cubes,
            camera=Camera(LookAt(eye)),
            lights=(AmbientLight(1.0),),
            image_size=config.image_size,
            background=background,
            antialias=config.antialias,
        )
        return rendering.rgb

    feature_maps = jax.tree.leaves(features(jax.vmap(render_rgb)(eyes, backgrounds)))
    return {
        "features": -sum(jnp.mean(maps * maps) for maps in feature_maps),
        "length": config.length_weight * (sides.shape[0] / 3) * edge_length_variance(vertices, sides),
    }
