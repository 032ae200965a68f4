"""Scenes: instances of shared meshes, their poses, colours and visibility."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from programs import equations

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


def test_every_instance_is_placed_by_its_own_pose():
    scene = jnr.Scene([jnr.shapes.cube(), jnr.shapes.icosphere(1)], (1, 0, 0, 1))
    matrices = jnr.pose_matrices(*random_poses(4))
    mesh, instance = scene.place(matrices)
    seen = jnp.zeros((len(mesh.vertices),), jnp.int32).at[mesh.faces].set(instance[:, None])
    for k, own in enumerate((1, 0, 0, 1)):
        # Distances between vertices, and the mean position, which is at the origin of both meshes.
        moved, start = mesh.vertices[seen == k], scene.meshes[own].vertices
        np.testing.assert_allclose(jnp.mean(moved, axis=0), matrices[k, :3, 3], atol=1e-6)
        np.testing.assert_allclose(pairwise(moved), pairwise(start), atol=3e-6)


def pairwise(points):
    return np.linalg.norm(np.asarray(points)[:, None] - np.asarray(points), axis=-1)


def test_quaternion_turns_as_mujoco_s():
    half = np.sqrt(0.5)
    turns = {(1, 0, 0, 0): np.eye(3), (half, half, 0, 0): [[1, 0, 0], [0, 0, -1], [0, 1, 0]]}
    turns |= {
        (half, 0, half, 0): [[0, 0, 1], [0, 1, 0], [-1, 0, 0]],
        (half, 0, 0, half): [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
    }
    turns |= {(0, 0, 0, 0): np.eye(3), (-3, 0, 0, 0): np.eye(3)}
    for quaternion, rotation in turns.items():
        matrix = jnr.pose_matrices(jnp.array([1.0, 2, 3]), jnp.array(quaternion, jnp.float32))
        np.testing.assert_allclose(matrix[:3, :3], rotation, atol=1e-7)
        np.testing.assert_array_equal(matrix[:3, 3], [1, 2, 3])
        np.testing.assert_array_equal(matrix[3], [0, 0, 0, 1])


def test_rotation_has_determinant_one_for_quaternions_of_any_length():
    _, quaternions = random_poses(50)
    for scale in (1e-6, 1.0, 1e6):
        rotation = jnr.pose_matrices(jnp.zeros(3), quaternions * scale)[:, :3, :3]
        np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (50, 1, 1)), atol=1e-6)
        np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-6)


def test_gradient_at_a_quaternion_of_zeros_is_finite():
    gradient = jax.grad(lambda q: jnp.sum(jnr.pose_matrices(jnp.zeros(3), q) ** 2))(jnp.zeros(4))
    np.testing.assert_array_equal(gradient, 0)


def test_gradient_reaches_poses_as_finite_differences_say():
    with jax.enable_x64(True):
        scene = jnr.Scene(textured("none"), INSTANCES)
        positions, quaternions = (x.astype(jnp.float64) for x in random_poses(25))
        weights = jnp.asarray(
            np.random.default_rng(5).normal(size=(len(scene.place((positions, quaternions)).mesh.vertices), 3))
        )

        def loss(positions, quaternions):
            return jnp.sum(jnp.sin(scene.place((positions, quaternions)).mesh.vertices) * weights)

        jax.test_util.check_grads(loss, (positions, quaternions), order=1, modes=("fwd", "rev"), rtol=1e-6)


def test_gradient_of_a_smooth_picture_reaches_poses_as_finite_differences_say():
    """Depth of a plane that fills the picture: no silhouette is in view."""
    with jax.enable_x64(True):
        scene = jnr.Scene([jnr.shapes.plane()], (0, 0))
        camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 3.0)), jnr.Perspective(fov=20.0, far=50.0))
        start = jnp.array([[0.1, 0, 0], [0, 0, -20.0]]), jnp.array([[1.0, 0.1, 0.2, 0], [1, 0, 0, 0]])

        def loss(positions, quaternions):
            mesh = scene.place((positions, quaternions)).mesh
            mesh = mesh._replace(vertices=mesh.vertices * jnp.array([[3.0, 3.0, 1.0]]))
            return jnp.mean(jnr.render_depth(mesh, camera=camera, image_size=8) ** 2)

        moved = jax.grad(loss, (0, 1))(*start)
        assert float(jnp.abs(moved[0][0, 2])) > 0.1
        jax.test_util.check_grads(loss, start, order=1, modes=("rev",), rtol=1e-5)


def test_child_moves_with_its_parent():
    arm = jnr.Scene([jnr.shapes.cube()], (0, 0))

    def tip(angle):
        turn = jnp.stack([jnp.cos(angle / 2), 0.0, 0.0, jnp.sin(angle / 2)])
        parent = jnr.pose_matrices(jnp.array([0.0, 0, 1]), turn)
        child = parent @ jnr.pose_matrices(jnp.array([2.0, 0, 0]), jnp.array([1.0, 0, 0, 0]))
        return jnp.mean(arm.place(jnp.stack([parent, child])).mesh.vertices[8:], axis=0)

    angle = jnp.float32(0.7)
    np.testing.assert_allclose(tip(angle), [2 * np.cos(0.7), 2 * np.sin(0.7), 1], atol=1e-6)
    np.testing.assert_allclose(jax.jacfwd(tip)(angle), [-2 * np.sin(0.7), 2 * np.cos(0.7), 0], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS[:4])
def test_gradient_reaches_colors(kind):
    poses, start = random_poses(3), jnp.full((3, 3), 0.5)

    def brightness(colors):
        mesh, _ = jnr.Scene(textured(kind), (0, 1, 2), colors).place(poses)
        return jnp.sum(jnr.render(mesh, lights=(), camera=CAMERA, image_size=16).rgb)

    gradient = jax.grad(brightness)(start)
    np.testing.assert_allclose(jnp.vdot(gradient, start), brightness(start), rtol=1e-5)  # it is linear
    assert bool(jnp.all(gradient > 0))


def test_instances_that_are_left_out_leave_the_picture_of_the_others():
    scene = jnr.Scene(textured("vertex colours"), INSTANCES)
    matrices = jnr.pose_matrices(*random_poses(25))
    visible = jnp.arange(25) % 3 != 0

    @jax.jit
    def picture(visible):
        mesh, _ = scene.place(matrices, visible=visible)
        return jnr.render(mesh, camera=CAMERA, image_size=32).rgb

    kept = [k for k in range(25) if visible[k]]
    mesh, _ = jnr.Scene(scene.meshes, [INSTANCES[k] for k in kept]).place(matrices[jnp.array(kept)])
    difference = jnp.abs(picture(visible) - jnr.render(mesh, camera=CAMERA, image_size=32).rgb)
    # Two programs round differently: a pixel on the line where two faces cross may see the other face.
    assert int(jnp.sum(jnp.any(difference > 1e-4, axis=-1))) <= 1
    assert bool(jnp.any(jnp.abs(picture(visible) - picture(jnp.ones(25, bool))) > 0.1))
    np.testing.assert_array_equal(picture(jnp.zeros(25, bool)), 0)
    assert picture._cache_size() == 1


@pytest.mark.parametrize("count", [1, 9])
def test_program_has_one_rasterize_call_whatever_the_numbers(count):
    scene = jnr.Scene(textured("none"), INSTANCES[:count])
    eyes = jnp.array([[0.0, 0, 9], [0, 1, 9], [0, 2, 9]])

    def picture(eye, positions):
        mesh, _ = scene.place((positions, jnp.array([1.0, 0, 0, 0])))
        return jnr.render(mesh, camera=jnr.Camera(jnr.LookAt(eye)), image_size=8).rgb

    environments = jax.vmap(jax.vmap(picture, (0, None)), (None, 0))
    jaxpr = jax.make_jaxpr(environments)(eyes, jnp.zeros((4, count, 3)))
    names = [equation.primitive.name for equation in equations(jaxpr.jaxpr)]
    assert names.count("jnr_rasterize") == 1
    pictures = environments(eyes, jnp.zeros((4, count, 3)))
    assert jnp.shape(pictures) == (4, 3, 8, 8, 3)


def test_batch_of_symbolic_size_is_exported():
    scene = jnr.Scene(textured("none"), (0, 1), jnp.ones((2, 3)))

    @jax.jit
    @jax.vmap
    def step(positions):
        mesh, _ = scene.place((positions, jnp.array([1.0, 0, 0, 0])))
        return jnr.render(mesh, camera=CAMERA, image_size=8).rgb

    shape = jax.export.symbolic_shape("b, 2, 3")
    exported = jax.export.export(step)(jax.ShapeDtypeStruct(shape, jnp.float32))
    positions = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (5, 2, 3)), jnp.float32)
    np.testing.assert_allclose(exported.call(positions), step(positions), atol=1e-5)


def test_scene_is_a_tree_of_arrays():
    scene = jnr.Scene(textured("UV textures"), INSTANCES, jnp.ones((25, 3)))
    doubled = jax.tree.map(lambda leaf: leaf * 2, scene)
    assert isinstance(doubled, jnr.Scene)
    assert doubled.instances == INSTANCES
    assert doubled.count == 25
    np.testing.assert_array_equal(doubled.colors, 2)
    place: Any = jax.vmap(lambda c: jnr.Scene(scene.meshes, INSTANCES, c).place(exact_poses(25)).mesh.textures)
    factors = place(jnp.ones((4, 25, 3))).factor
    assert jnp.shape(factors) == (4, sum(len(scene.meshes[m].faces) for m in INSTANCES), 3)


def tinted(mesh, factor):
    assert isinstance(mesh.textures, jnr.UVTexture)
    return mesh._replace(textures=dataclasses.replace(mesh.textures, factor=factor))


def test_factor_multiplies_the_texture():
    mesh = textured("UV textures")[0]
    texture, count = mesh.textures, len(mesh.faces)

    def picture(factor=None):
        return jnr.render(tinted(mesh, factor), lights=(), image_size=16).rgb

    factor = jnp.array([0.5, 1.0, 0.25])
    np.testing.assert_allclose(picture(factor), picture() * factor, rtol=1e-6)
    np.testing.assert_array_equal(picture(jnp.tile(factor, (count, 1))), picture(factor))
    of_bytes = np.array([128, 255, 0], np.uint8)
    np.testing.assert_array_equal(picture(of_bytes), picture(of_bytes.astype(np.float32) / 255))
    dark = tinted(mesh, factor).textures
    assert isinstance(dark, jnr.UVTexture)
    assert isinstance(texture, jnr.UVTexture)
    cubes = jnr.uv_to_cubes(dark, mesh.faces, num_vertices=len(mesh.vertices))
    np.testing.assert_allclose(cubes, jnr.uv_to_cubes(texture, mesh.faces) * factor, rtol=1e-6)


def test_factor_stays_with_its_mesh_in_batches_scenes_and_divisions():
    first, second = textured("UV textures")[:2]
    dark = tinted(first, (0.5, 0.25, 1.0))

    def picture(mesh):
        return jnr.render(mesh, lights=(), image_size=16).rgb

    batch = jax.vmap(picture)(jnr.stack([dark, second]))
    for got, mesh in zip(batch, (dark, second), strict=True):
        np.testing.assert_array_equal(got, picture(mesh))
    hidden = second._replace(faces=jnp.full_like(second.faces, -1))
    np.testing.assert_array_equal(picture(jnr.concatenate([dark, hidden])), picture(dark))
    per_face = tinted(first, np.random.default_rng(0).uniform(size=(len(first.faces), 3)).astype(np.float32))
    np.testing.assert_allclose(picture(jnr.subdivide(per_face)), picture(per_face), atol=1e-5)


@pytest.mark.validation
def test_what_does_not_fit_is_refused():
    cube = jnr.shapes.cube()
    with pytest.raises(ValueError, match=r"meshes must hold at least one mesh"):
        jnr.Scene([])
    with pytest.raises(ValueError, match=r"instances must be at most 0, got 1"):
        jnr.Scene([cube], (0, 1))
    with pytest.raises(ValueError, match=r"instances must hold at least one"):
        jnr.Scene([cube], ())
    with pytest.raises(ValueError, match=r"textures of one kind"):
        jnr.Scene([textured("vertex colours")[0], textured("texture cubes")[0]])
    scene = jnr.Scene([cube], (0, 0), jnp.ones((3, 3)))
    with pytest.raises(ValueError, match=r"poses must have shape \(2, 4, 4\), got \(3, 4, 4\)"):
        scene.place(jnp.zeros((3, 4, 4)))
    with pytest.raises(ValueError, match=r"poses must end in the row \(0, 0, 0, 1\)"):
        scene.place(jnp.zeros((2, 4, 4)))
    with pytest.raises(ValueError, match=r"colors must have shape \(2, channels\), got \(3, 3\)"):
        scene.place(random_poses(2))
    scene = jnr.Scene([textured("texture cubes")[0]], (0, 0), jnp.ones((2, 4)))
    with pytest.raises(ValueError, match=r"colors must have a value for each of the textures' 3 channels, got 4"):
        scene.place(random_poses(2))
    with pytest.raises(TypeError, match=r"visible must be booleans"):
        jnr.Scene([cube]).place(random_poses(1), visible=jnp.ones(1))
    with pytest.raises(ValueError, match=r"positions must have 3 numbers in their last axis"):
        jnr.pose_matrices(jnp.zeros(4), jnp.zeros(4))
    with pytest.raises(ValueError, match=r"positions and quaternions must have shapes that broadcast"):
        jnr.pose_matrices(jnp.zeros((2, 3)), jnp.zeros((3, 4)))
    mesh = textured("UV textures")[0]
    with pytest.raises(ValueError, match=r"factor must have shape \(3,\), or \(12, 3\) per face"):
        jnr.render(tinted(mesh, (1.0, 2.0)))
