"""Scenes: meshes stored once, instances of them, and the mesh of all instances at their poses."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jnr import _checks
from jnr._camera import affine, transform
from jnr._inline_jit import inline_jit
from jnr._mesh import Mesh, checked_alike, concatenate_textures, concatenated_indices
from jnr._pytree import pytree
from jnr._textures import UVTexture


class PlacedScene(NamedTuple):
    """What `Scene.place` returns; `render(placed.mesh, instance=placed.instance)` renders it.

    Attributes:
        mesh: All instances in world space, one after the other. The faces of instances that are left out are padding.
        instance: int32 index of the instance that each face belongs to.
    """

    mesh: Mesh
    instance: Int[Array, " faces"]


@pytree(static=("instances",))
class Scene:
    """Objects that share meshes: each mesh and its texture are stored once, whatever the number of instances.

    A scene is a pytree. `vmap` over poses, colours or cameras is a batch of environments; what it does not map is
    shared by all of them.

    Attributes:
        meshes: Meshes with textures of one kind, as for `concatenate`. A mesh without textures is white.
        instances: Index of each instance's mesh, constants; None for one instance per mesh.
        colors: Factors of each instance's texture, one value per channel; None for none.

    Raises:
        ValueError: If there are no meshes, an index is out of range, or shapes do not match.
        TypeError: If an argument is not of the right kind.

    Example:
        >>> scene = jnr.Scene([jnr.shapes.cube(), jnr.shapes.icosphere(2)], instances=(0, 1, 1))
        >>> poses = jnr.pose_matrices(jnp.array([[-1.5, 0, 0], [0, 0, 0], [1.5, 0, 0]]), jnp.array([1.0, 0, 0, 0]))
        >>> mesh, instance = scene.place(poses)
        >>> image = jnr.render(mesh, instance=instance).instance
    """

    meshes: Sequence[Mesh]
    instances: Sequence[int] | None = None
    colors: Float[ArrayLike, "... instances channels"] | None = None

    def __post_init__(self):
        meshes = tuple(checked_alike(self.meshes))
        instances = range(len(meshes)) if self.instances is None else self.instances
        if isinstance(instances, (str, bytes)) or not isinstance(instances, (Sequence, np.ndarray)):
            raise TypeError(f"instances must be a sequence of ints or None, got {type(instances).__name__}.")
        instances = tuple(_checks.as_count(mesh, "instances", least=0, most=len(meshes) - 1) for mesh in instances)
        if not instances:
            raise ValueError("instances must hold at least one instance, got none.")
        object.__setattr__(self, "meshes", meshes)
        object.__setattr__(self, "instances", instances)

    @property
    def count(self) -> int:
        """The number of instances."""
        return len(self._instances)

    @property
    def _instances(self) -> tuple[int, ...]:
        assert isinstance(self.instances, tuple)
        return self.instances

    def place(
        self,
        poses: Float[ArrayLike, "instances 4 4"]
        | tuple[Float[ArrayLike, "instances 3"], Float[ArrayLike, "instances 4"]],
        *,
        visible: Bool[ArrayLike, " instances"] | None = None,
    ) -> PlacedScene:
        """Returns the mesh of all instances at their poses.

        A tree of joints is a product of matrices: the pose of a child is its parent's `@` its own.

        Gradients: reach `poses`, `colors`, and the meshes' vertices and textures, in forward and reverse mode.

        Args:
            poses: Matrices from each instance's mesh to world space, with last row (0, 0, 0, 1); or positions and
                quaternions as `pose_matrices` takes them.
            visible: False leaves an instance out; None shows all. The shapes of the result are the same.

        Returns:
            The mesh and the instance of each face.

        Raises:
            ValueError: If a shape or number is not allowed, or textures are not compatible.
            TypeError: If an argument is not of the right kind.
        """
        matrices = self._check_poses(poses)
        meshes, instances = checked_alike(self.meshes), self._instances
        faces = [meshes[mesh].faces for mesh in instances]
        num_vertices = [meshes[mesh].vertices.shape[0] for mesh in instances]
        instance = np.repeat(np.arange(len(instances), dtype=np.int32), [len(own) for own in faces])
        instance = jnp.asarray(instance)
        whole = concatenated_indices(faces, num_vertices)
        if visible is not None:
            visible = _checks.as_array(visible, "visible")
            if visible.dtype != bool:
                raise TypeError(f"visible must be booleans, got dtype {visible.dtype}.")
            _checks.check_shape(visible, "visible", len(instances))
            whole = jnp.where(jnp.take(visible, instance, axis=0)[:, None], whole, -1)
        textures = self._textures(meshes, num_vertices, [len(own) for own in faces])
        vertices = place_points(self, [mesh.vertices for mesh in meshes], matrices)
        return PlacedScene(Mesh(vertices, whole, textures), instance)

    def _check_poses(self, poses):
        if isinstance(poses, tuple) and len(poses) == 2:
            poses = pose_matrices(*poses)
        matrices = _checks.as_finite(poses, "poses", (self.count, 4, 4))
        if _checks.is_concrete(poses) and not np.all(np.asarray(poses)[:, 3] == (0, 0, 0, 1)):
            raise ValueError(f"poses must end in the row (0, 0, 0, 1), got {np.asarray(poses)[:, 3].tolist()}.")
        return matrices

    def _textures(self, meshes, num_vertices, num_faces):
        """Textures of the placed mesh; images and texture coordinates are those of the meshes, not copied."""
        vertices, faces, textures = zip(*meshes, strict=True)
        texture, colors = concatenate_textures(textures, faces), self._check_colors()
        mesh_vertices, mesh_faces = ([len(rows) for rows in every] for every in (vertices, faces))
        if isinstance(texture, UVTexture):
            if texture.uv_faces is None:
                texture = dataclasses.replace(texture, uv_faces=concatenated_indices(faces, mesh_vertices))
            of_face = self._rows(mesh_faces)
            per_face = {
                name: jnp.asarray(getattr(texture, name))[of_face]
                for name in ("uv_faces", "material", "factor")
                if getattr(texture, name) is not None
            }
            if colors is not None:
                per_face["factor"] = self._tinted(per_face.get("factor"), colors, num_faces)
            return dataclasses.replace(texture, **per_face)
        if texture is None:
            return None if colors is None else self._tinted(None, colors, num_vertices)
        is_per_vertex = texture.ndim == 2
        texture = texture[self._rows(mesh_vertices if is_per_vertex else mesh_faces)]
        if colors is None:
            return texture
        return self._tinted(texture, colors, num_vertices if is_per_vertex else num_faces)

    def _check_colors(self):
        if self.colors is None:
            return None
        colors = _checks.as_color(self.colors, "colors")
        _checks.check_shape(colors, "colors", self.count, "channels")
        _checks.check_finite(self.colors, "colors")
        return colors

    def _rows(self, counts):
        """Rows of every instance in an array of all meshes' rows."""
        firsts = np.cumsum([0, *counts])
        return jnp.asarray(np.concatenate([np.arange(firsts[m], firsts[m + 1]) for m in self._instances]))

    def _tinted(self, rows, colors, counts):
        """Rows of all instances times the color of their instance."""
        if rows is not None and rows.shape[-1] != colors.shape[1]:
            raise ValueError(
                f"colors must have a value for each of the textures' {rows.shape[-1]} channels, got {colors.shape[1]}."
            )
        each = [jnp.broadcast_to(color[None], (count, len(color))) for color, count in zip(colors, counts, strict=True)]
        each = jnp.concatenate(each)
        if rows is None:
            return each
        return rows * each.reshape(len(each), *(1,) * (rows.ndim - 2), -1)


def place_points(scene: Scene, points: Sequence[jax.Array], matrices: jax.Array) -> jax.Array:
    """The points that belong to each instance's mesh at its pose, one instance after the other."""
    # Consecutive instances of one mesh are placed together.
    runs = [(mesh, len(list(run))) for mesh, run in itertools.groupby(scene._instances)]
    firsts = np.cumsum([0, *(count for _, count in runs)])
    return jnp.concatenate(
        [
            _placed(matrices[first : first + count], points[mesh])
            for (mesh, count), first in zip(runs, firsts, strict=False)
        ]
    )


@inline_jit()
def _placed(matrices, vertices):
    """The vertices at every pose, one pose after the other."""
    return jax.vmap(transform, (0, None))(matrices[:, :3], vertices).reshape(-1, 3)


def pose_matrices(
    positions: Float[ArrayLike, "*batch 3"], quaternions: Float[ArrayLike, "*batch 4"]
) -> Float[Array, "*batch 4 4"]:
    """Matrices that rotate by quaternions and then move to positions.

    Gradients: reach both.

    Args:
        positions: Where the origin goes.
        quaternions: Rotations (w, x, y, z) as MuJoCo has them, of any length; a quaternion of zeros does not rotate.
            SciPy and ROS write (x, y, z, w).

    Returns:
        One matrix per element of the arguments, whose batch axes are broadcast.

    Raises:
        ValueError: If shapes do not match, or a number is not finite.

    Example:
        >>> quarter_turn_about_z = jnp.array([1.0, 0, 0, 1])
        >>> jnr.pose_matrices(jnp.zeros(3), quarter_turn_about_z)[:3, :3].round()
        Array([[ 0., -1.,  0.],
               [ 1.,  0.,  0.],
               [ 0.,  0.,  1.]], dtype=float32)
    """
    positions = _checks.as_finite(positions, "positions", like=quaternions)
    quaternions = _checks.as_finite(quaternions, "quaternions", like=positions)
    for array, name, length in ((positions, "positions", 3), (quaternions, "quaternions", 4)):
        if array.shape[-1:] != (length,):
            raise ValueError(f"{name} must have {length} numbers in their last axis, got shape {array.shape}.")
    try:
        batch = jnp.broadcast_shapes(positions.shape[:-1], quaternions.shape[:-1])
    except ValueError as error:
        raise ValueError(f"positions and quaternions must have shapes that broadcast: {error}") from error
    return _matrices(
        jnp.broadcast_to(positions, (*batch, 3)), jnp.broadcast_to(quaternions, (*batch, 4)).astype(positions.dtype)
    )


@inline_jit()
def _matrices(positions, quaternions):
    square = jnp.sum(quaternions**2, axis=-1)
    is_zero = square == 0
    w, x, y, z = jnp.moveaxis(quaternions, -1, 0)
    scale = jnp.where(is_zero, 0, 2 / jnp.where(is_zero, 1, square))
    one = jnp.ones_like(w)
    rotation = [
        [one - scale * (y * y + z * z), scale * (x * y - w * z), scale * (x * z + w * y)],
        [scale * (x * y + w * z), one - scale * (x * x + z * z), scale * (y * z - w * x)],
        [scale * (x * z - w * y), scale * (y * z + w * x), one - scale * (x * x + y * y)],
    ]
    return affine(jnp.stack([jnp.stack(row, axis=-1) for row in rotation], axis=-2), positions)
