"""Neural Renderer's class for meshes that are optimized."""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from jnr import _checks
from jnr.compat.neural_renderer.load_obj import load_obj


@jax.tree_util.register_pytree_node_class
class Mesh:
    """A mesh whose vertices and textures are optimized.

    It is a pytree with the leaves `vertices` and `textures`, so its gradient by `jax.grad` and its optax updates are
    meshes too. Faces and learning rate factors are static.

    Attributes:
        vertices: Positions (vertices, 3).
        faces: int32 NumPy array (faces, 3).
        textures: Texture cubes (faces, t, t, t, channels) before the sigmoid of `get_batch`.
        lr_vertices: Factor on the learning rate of `vertices`, for `optimizers.Adam`.
        lr_textures: Factor on the learning rate of `textures`.

    Example:
        >>> mesh = nr.Mesh.fromobj("bunny.obj")
        >>> gradient = jax.grad(lambda mesh: jnp.sum(renderer(*mesh.get_batch(1), mode="rgb")))(mesh)
    """

    def __init__(
        self,
        vertices: Float[ArrayLike, "vertices 3"],
        faces: Int[ArrayLike, "faces 3"],
        textures: Float[ArrayLike, "faces t t t 3"] | None = None,
        texture_size: int = 4,
        *,
        seed: int = 0,
    ):
        """Creates a mesh.

        Args:
            vertices: Positions.
            faces: Vertex indices of each face; must be concrete.
            textures: Texture cubes before the sigmoid; None is normal noise of standard deviation 0.05.
            texture_size: Texels along each side of new texture cubes.
            seed: Seed of that noise.
        """
        self.vertices = _checks.as_compute(vertices, "vertices")
        _checks.check_shape(self.vertices, "vertices", "vertices", 3)
        _checks.as_faces(faces, self.vertices.shape[0])
        self.faces = np.asarray(faces, np.int32)
        if textures is None:
            shape = (len(self.faces), *(_checks.as_count(texture_size, "texture_size"),) * 3, 3)
            textures = 0.05 * jax.random.normal(jax.random.key(seed), shape)
        self.textures = _checks.as_color(textures, "textures")
        _checks.check_shape(self.textures, "textures", len(self.faces), "t", "t", "t", "channels")
        self.lr_vertices = self.lr_textures = 1.0

    @property
    def num_vertices(self) -> int:
        """Number of vertices."""
        return self.vertices.shape[0]

    @property
    def num_faces(self) -> int:
        """Number of faces."""
        return self.faces.shape[0]

    @property
    def texture_size(self) -> int:
        """Texels along each side of a texture cube."""
        return self.textures.shape[1]

    @classmethod
    def fromobj(
        cls,
        filename_obj: str | os.PathLike,
        normalization: bool = True,
        load_texture: bool = False,
        texture_size: int = 4,
    ) -> Mesh:
        """Returns the mesh of an OBJ file; arguments as for `load_obj`."""
        return Mesh(*load_obj(filename_obj, normalization, texture_size, load_texture), texture_size=texture_size)

    def get_batch(self, batch_size: int) -> tuple[Array, Array, Array]:
        """Returns vertices, faces and the sigmoid of the textures, each repeated along a batch axis, for `Renderer`."""
        arrays = self.vertices, jnp.asarray(self.faces), jax.nn.sigmoid(self.textures)
        vertices, faces, textures = (jnp.broadcast_to(a, (batch_size, *a.shape)) for a in arrays)
        return vertices, faces, textures

    def set_lr(self, lr_vertices: float, lr_textures: float) -> None:
        """Sets the factors on the learning rates of vertices and textures."""
        self.lr_vertices, self.lr_textures = lr_vertices, lr_textures

    def to_gpu(self) -> Mesh:
        """Returns the mesh unchanged: JAX places arrays on its default device."""
        return self

    def tree_flatten(self) -> tuple[tuple, tuple]:
        """Returns the leaves and the static fields."""
        return (self.vertices, self.textures), (_Faces(self.faces), self.lr_vertices, self.lr_textures)

    @classmethod
    def tree_unflatten(cls, constants: tuple, arrays: tuple) -> Mesh:
        """The inverse of `tree_flatten`."""
        mesh = object.__new__(cls)
        mesh.vertices, mesh.textures = arrays
        faces, mesh.lr_vertices, mesh.lr_textures = constants
        mesh.faces = faces.array
        return mesh


class _Faces:
    """An array with equality and hash, which JAX requires of static fields."""

    def __init__(self, array):
        self.array = array
        self.hash = hash(array.tobytes())

    def __eq__(self, other):
        return isinstance(other, _Faces) and np.array_equal(self.array, other.array)

    def __hash__(self):
        return self.hash
