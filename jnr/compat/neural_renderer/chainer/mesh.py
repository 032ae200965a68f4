"""Neural Renderer's class `Mesh` with the constructor of the Chainer original."""

from __future__ import annotations

import os

import jax

from jnr.compat.neural_renderer import mesh as port
from jnr.compat.neural_renderer.load_obj import load_obj


@jax.tree_util.register_pytree_node_class
class Mesh(port.Mesh):
    """`jnr.compat.neural_renderer.Mesh` of an OBJ file, with normal noise as textures.

    Args:
        filename_obj: The file.
        texture_size: Texels along each side of the texture cubes.
        normalization: Whether the mesh is centred and scaled to [-1, 1] along its longest side.
        seed: Seed of the noise.
    """

    def __init__(
        self, filename_obj: str | os.PathLike, texture_size: int = 4, normalization: bool = True, *, seed: int = 0
    ):
        super().__init__(*load_obj(filename_obj, normalization), texture_size=texture_size, seed=seed)
