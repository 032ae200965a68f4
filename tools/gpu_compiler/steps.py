"""The steps that are compiled: value and gradient of a loss, with the arguments' types."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jnr

SIZE = 256
TEXELS = 64


def silhouette(vertices, faces):
    return jnp.sum((jnr.render_silhouette(vertices, faces, image_size=SIZE) - 0.5) ** 2)


def rgb(vertices, faces, colors):
    return jnp.sum((jnr.render(vertices, faces, colors, image_size=SIZE).rgb - 0.5) ** 2)


def uv_texture(vertices, faces, texels, uv):
    return jnp.sum((jnr.render(vertices, faces, jnr.UVTexture(texels, uv), image_size=SIZE).rgb - 0.5) ** 2)


def boundary(vertices, faces):
    alpha = jnr.render_silhouette(vertices, faces, image_size=SIZE, gradient=jnr.gradients.Boundary())
    return jnp.sum((alpha - 0.5) ** 2)


def step(name: str) -> tuple[Callable[..., Any], tuple[jax.ShapeDtypeStruct, ...]]:
    """The step of this name and its arguments: the vertices, and the colours, texels and coordinates if it has any."""
    mesh = jnr.shapes.icosphere(3)
    vertices, uv = mesh.vertices.shape, (mesh.vertices.shape[0], 2)
    loss, shapes = {
        "silhouette_step": (silhouette, [vertices]),
        "rgb_step": (rgb, [vertices, vertices]),
        "uv_step": (uv_texture, [vertices, (TEXELS, TEXELS, 3), uv]),
        "boundary_step": (boundary, [vertices]),
    }[name]
    faces = jnp.asarray(mesh.faces)

    def step(vertices, *textures):
        def of(vertices, textures):
            return loss(vertices, faces, *textures)

        return jax.value_and_grad(of, (0, 1))(vertices, textures)

    step.__name__ = name  # the name of XLA's module
    return step, tuple(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
