"""Neural Renderer's mesh files and its class for meshes that are optimized."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

import jnr
from jnr import _checks
from jnr._textures import Wrap

WRAPS: dict[str, Wrap] = {
    "REPEAT": "repeat",
    "MIRRORED_REPEAT": "mirror",
    "CLAMP_TO_EDGE": "clamp",
    "CLAMP_TO_BORDER": "border",
}


def load_obj(
    filename_obj: str | os.PathLike,
    normalization: bool = True,
    texture_size: int = 4,
    load_texture: bool = False,
    texture_wrapping: str = "REPEAT",
    use_bilinear: bool = True,
) -> Any:
    """Loads an OBJ file.

    Args:
        filename_obj: The file.
        normalization: Whether the mesh is centred and scaled to [-1, 1] along its longest side.
        texture_size: Texels along each side of a texture cube.
        load_texture: Whether to read materials and images.
        texture_wrapping: Continuation of images beyond their edges: `"REPEAT"`, `"MIRRORED_REPEAT"`, `"CLAMP_TO_EDGE"`
            or `"CLAMP_TO_BORDER"`.
        use_bilinear: Whether images are sampled bilinearly, else at the nearest texel.

    Returns:
        Vertices (vertices, 3) and int32 faces (faces, 3); with `load_texture` also texture cubes
        (faces, t, t, t, 3). Faces without a material are grey (0.5).

    Raises:
        FileNotFoundError: If the file does not exist.
        ImportError: If Pillow is needed and missing.
        ValueError: If `texture_wrapping` is unknown or the file invalid, see `jnr.load`.
    """
    _checks.check_choice(texture_wrapping, "texture_wrapping", tuple(WRAPS))
    mesh = jnr.load(filename_obj, wrap=WRAPS[texture_wrapping], textures=load_texture)
    if normalization:
        mesh = jnr.normalize(mesh)
    if not load_texture:
        return mesh.vertices, mesh.faces
    texture = mesh.textures
    if not isinstance(texture, jnr.UVTexture):
        return mesh.vertices, mesh.faces, jnp.full((mesh.faces.shape[0], *(texture_size,) * 3, 3), 0.5)
    if not use_bilinear:
        texture = dataclasses.replace(texture, filter="nearest")
    cubes = jnr.uv_to_cubes(texture, mesh.faces, texture_size)
    # Neural Renderer has no transparency: alpha is dropped.
    return mesh.vertices, mesh.faces, cubes[..., :3]


def save_obj(
    filename: str | os.PathLike,
    vertices: Float[ArrayLike, "vertices 3"],
    faces: Int[ArrayLike, "faces 3"],
    textures: Float[ArrayLike, "faces t t t 3"] | None = None,
) -> None:
    """Writes an OBJ file; with textures also an MTL file and a PNG file with 16 x 16 texels per face.

    Args:
        filename: The file, ending in .obj.
        vertices: Positions.
        faces: Vertex indices of each face.
        textures: Texture cubes, or None.

    Raises:
        ImportError: If there are textures and Pillow is missing.
        ValueError: If `filename` does not end in .obj, a shape is wrong or a number not finite.
    """
    if Path(filename).suffix.lower() != ".obj":
        raise ValueError(f"filename must end in .obj, got {str(filename)!r}.")
    # `save` converts them.
    jnr.save(filename, jnr.Mesh(vertices, faces, textures))  # pyright: ignore[reportArgumentType]


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
        self.textures = _checks.as_float(textures, "textures")
        _checks.check_shape(self.textures, "textures", len(self.faces), "t", "t", "t", "channels")
        self.lr_vertices = self.lr_textures = 1.0

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
