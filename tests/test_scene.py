"""Scenes: instances of shared meshes, their poses, colours and visibility."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnr

CAMERA = jnr.Camera(jnr.LookAt((1.0, 2.0, 9.0)), jnr.Perspective(fov=50.0))
KINDS = ("none", "vertex colours", "texture cubes", "UV textures", "UV textures with rows and materials")


@functools.cache
def textured(kind):
    """Five meshes with textures of one kind."""
    shapes = [jnr.shapes.cube(), jnr.shapes.icosphere(1), jnr.shapes.teapot(1), jnr.shapes.plane(), jnr.shapes.torus()]
    rng = np.random.default_rng(1)

    def noise(*shape):
        return jnp.asarray(rng.uniform(0.1, 1, shape), jnp.float32)

    def texture(mesh, k):
        vertices, faces = len(mesh.vertices), len(mesh.faces)
        if kind == "vertex colours":
            return noise(vertices, 3)
        if kind == "texture cubes":
            return noise(faces, 2, 2, 2, 3)
        if kind == "UV textures":
            return jnr.UVTexture(noise(4 + k, 5, 3), noise(vertices, 2))
        if kind == KINDS[4]:
            material = jnp.asarray(np.arange(faces) % 2)
            uv_faces = jnp.asarray(rng.integers(0, 9, (faces, 3)))
            return jnr.UVTexture([noise(4, 5, 3), noise(3, 3, 3)], noise(9, 2), uv_faces, material, filter="trilinear")
        return None

    # With `exact_poses` every product and sum is exact, however a compiler contracts them.
    return tuple(
        mesh._replace(vertices=(mesh.vertices * 1024).round() / 1024, textures=texture(mesh, k))
        for k, mesh in enumerate(shapes)
    )


def exact_poses(count):
    """Rotations that permute the axes, with scales and positions of few bits."""
    rng = np.random.default_rng(4)
    matrices = np.tile(np.eye(4, dtype=np.float32), (count, 1, 1))
    for matrix in matrices:
        matrix[:3, :3] = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1, 0.5], 3)
        matrix[:3, 3] = rng.integers(-192, 192, 3) / 64
        if np.linalg.det(matrix[:3, :3]) < 0:
            matrix[:3, 0] *= -1
    return jnp.asarray(matrices)


def random_poses(count, seed=0):
    rng = np.random.default_rng(seed)
    positions, quaternions = rng.uniform(-3, 3, (count, 3)), rng.normal(size=(count, 4))
    return jnp.asarray(positions, jnp.float32), jnp.asarray(quaternions, jnp.float32)


INSTANCES = tuple(np.random.default_rng(2).integers(0, 5, 25).tolist())


def by_hand(scene, matrices, colors=None):
    """The scene as a concatenation of copies."""
    copies = []
    for k, (mesh, matrix) in enumerate(zip(scene.instances, matrices, strict=True)):
        mesh = scene.meshes[mesh]
        moved = jnp.asarray(np.asarray(mesh.vertices) @ np.asarray(matrix)[:3, :3].T + np.asarray(matrix)[:3, 3])
        textures = mesh.textures
        if colors is not None:
            if textures is None:
                textures = jnp.broadcast_to(colors[k], moved.shape)
            elif isinstance(textures, jnr.UVTexture):
                textures = dataclasses.replace(textures, factor=colors[k])
            else:
                textures = textures * colors[k]
        copies.append(jnr.Mesh(moved, mesh.faces, textures))
    return jnr.concatenate(copies)


@pytest.mark.parametrize("tinted", [False, True], ids=["plain", "tinted"])
@pytest.mark.parametrize("kind", KINDS)
def test_twenty_five_instances_of_five_meshes_are_their_concatenation_bit_for_bit(kind, tinted):
    colors = jnp.asarray(np.random.default_rng(3).uniform(0.2, 1, (25, 3)), jnp.float32) if tinted else None
    scene = jnr.Scene(textured(kind), INSTANCES, colors)
    matrices = exact_poses(25)
    mesh, instance = scene.place(matrices)
    copy = by_hand(scene, matrices, colors)
    np.testing.assert_array_equal(mesh.faces, copy.faces)
    np.testing.assert_array_equal(mesh.vertices, copy.vertices)
    sizes = [len(scene.meshes[m].faces) for m in INSTANCES]
    np.testing.assert_array_equal(instance, np.repeat(np.arange(25), sizes))
    pictures = [jnr.render(m, camera=CAMERA, image_size=64, normals="smooth") for m in (mesh, copy)]
    assert len(np.unique(instance[jnr.rasterize(CAMERA.clip_positions(mesh.vertices), mesh.faces, 64).face_index])) > 15
    for own, other in zip(*pictures, strict=True):
        np.testing.assert_array_equal(own, other)


def test_images_and_coordinates_are_stored_once():
    meshes = textured("UV textures")
    textures = jnr.Scene(meshes, INSTANCES).place(random_poses(25)).mesh.textures
    assert isinstance(textures, jnr.UVTexture)
    assert len(textures.images) == 5
    assert len(textures.uv) == sum(len(mesh.vertices) for mesh in meshes)


def test_what_vmap_does_not_map_is_shared():
    scene = jnr.Scene(textured("UV textures"), INSTANCES)
    positions, quaternions = random_poses(25)

    def shared(move):
        mesh, instance = scene.place((positions + move, quaternions))
        return mesh.faces, mesh.textures, instance

    # vmap refuses out_axes=None for results that have a batch axis.
    faces, _, instance = jax.vmap(shared, out_axes=None)(jnp.arange(7.0))
    assert faces.shape == (len(instance), 3)
