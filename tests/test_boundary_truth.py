"""The boundary gradient against the derivative of the area-integrated picture, see `area_truth`."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from area_truth import (
    CHANNELS,
    Grid,
    Scene,
    filtered,
    found_derivatives,
    moved_grids,
    pixel_speeds,
    relative_errors,
    true_derivatives,
)

import jnr

SIZE, SAMPLES = 48, 12
NIGHTLY = os.environ.get("JNR_NIGHTLY") == "1"
PROJECTIONS = {
    "perspective": jnr.Perspective(near=0.5, far=6.0),
    "parallel": jnr.Orthographic(1.5, near=0.5, far=6.0),
}
CAMERAS = {
    name: np.asarray(jnr.Camera(projection=projection).clip_from_world(), np.float64)
    for name, projection in PROJECTIONS.items()
}
PIXELS = moved_grids(SIZE, 128 if NIGHTLY else 32)
DENSE = Grid(SIZE, SIZE * SAMPLES, SIZE)
# Meshes are padded to one of two sizes, and so share their compiled programs.
COARSE, FINE = (48, 80), (2562, 5120)


def rotation(x, y, z):
    """Turns about the axes, in this order."""
    turn = np.eye(3)
    for axis, angle in enumerate((x, y, z)):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[j, i], step[i, j] = np.sin(angle), -np.sin(angle)
        turn = step @ turn
    return turn


def separate(*polygons):
    """Vertices and faces of triangles or quadrangles that share nothing."""
    corners = len(polygons[0])
    fan = np.array([[0, k + 1, k + 2] for k in range(corners - 2)])
    return np.concatenate(polygons), np.concatenate([fan + corners * k for k in range(len(polygons))])


def one_color_each(parts, corners, seed):
    """Colours `(parts * corners, 3)`, the same within a part."""
    return np.repeat(np.random.default_rng(seed).uniform(size=(parts, 3)), corners, axis=0)


def uneven(number, seed):
    """Colours `(number, 3)` that vary within faces."""
    return np.random.default_rng(seed).uniform(size=(number, 3))


def smooth(points):
    """Colours that vary slowly in space."""
    return 0.5 + 0.4 * np.sin(points @ rotation(0.4, 0.9, 0.2) * 2)


def padded(mesh, size):
    """A mesh with unused vertices and padding faces."""
    vertices, faces, colors = mesh
    rows = size[0] - len(vertices)
    return (
        np.pad(np.asarray(vertices, np.float64), ((0, rows), (0, 0))),
        np.pad(np.asarray(faces, np.int32), ((0, size[1] - len(faces)), (0, 0)), constant_values=-1),
        np.pad(np.asarray(colors, np.float32), ((0, rows), (0, 0))),
    )


TILT = rotation(0.3, 0.2, 0.4)
TRIANGLE = np.array([[-0.8, -0.6, 0.0], [0.9, -0.3, 0.0], [-0.1, 0.85, 0.0]])
SQUARE = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])


def coarse_meshes():
    """Vertices, faces and colours of scenes of few faces, by name."""
    yield "triangle", *separate(TRIANGLE @ TILT.T), one_color_each(1, 3, 0)
    yield "shaded triangle", *separate(TRIANGLE @ TILT.T), uneven(3, 1)
    occluding = separate(TRIANGLE @ TILT.T, TRIANGLE @ rotation(0.4, 0.1, 1.2).T * 0.7 + [0.35, 0.2, 0.7])
    yield "occluding", *occluding, one_color_each(2, 3, 2)
    yield "shaded occluding", *occluding, uneven(6, 3)
    crossing = separate(TRIANGLE @ rotation(0.0, 0.7, 0.2).T, TRIANGLE @ rotation(0.3, -0.6, 1.3).T)
    yield "crossing", *crossing, one_color_each(2, 3, 4)
    yield "shaded crossing", *crossing, uneven(6, 5)
    plates = separate(SQUARE @ rotation(0.5, 0.4, 0.3).T * 0.55, SQUARE @ rotation(-0.3, -0.8, 1.1).T * 0.6)
    yield "crossing plates", *plates, one_color_each(2, 4, 6)
    cube = jnr.shapes.cube()
    corners, sides = np.asarray(cube.vertices, np.float64) @ TILT.T * 1.2, np.asarray(cube.faces)
    yield "cube", corners, sides, uneven(8, 7)
    yield "cube of six colours", corners[sides.ravel()], np.arange(36).reshape(-1, 3), one_color_each(6, 6, 8)
    ball = jnr.shapes.icosphere(1)
    yield "ball", np.asarray(ball.vertices) @ TILT.T * 0.9, np.asarray(ball.faces), smooth(np.asarray(ball.vertices))
    over = SQUARE @ rotation(0.2, 0.3, 0.5).T * [1.1, 2.0, 1.0] * 1.2
    yield "over the border", *separate(over), one_color_each(1, 4, 11)
    # A floor below the camera that ends behind it, and a wall that the near plane cuts. No edge is parallel to a row.
    roll, square = rotation(0, 0, 0.17).T, SQUARE @ rotation(0.2, 0.3, 0.4).T
    floor = np.array([[-1.5, -0.7, 5.0], [1.2, -0.7, 5.0], [1.0, -0.5, -1.0], [-0.8, -0.4, -1.0]])
    yield "behind the camera", *separate(floor @ roll, square * 0.4 + [0.1, -0.2, 0.3]), one_color_each(2, 4, 12)
    wall = np.array([[0.4, -0.8, 2.6], [0.5, -0.8, -1.0], [0.5, 0.7, -1.0], [0.4, 0.7, 2.6]])
    yield "near plane", *separate(wall @ roll, square * 0.4 - [0.4, 0.0, 0.2]), one_color_each(2, 4, 13)


def fine_meshes():
    """Scenes whose faces are smaller than a pixel."""
    sphere = jnr.shapes.icosphere(4)
    vertices = np.asarray(sphere.vertices, np.float64) @ TILT.T * [0.95, 0.7, 0.8]
    yield "fine ball", vertices, np.asarray(sphere.faces), smooth(vertices)
    small = jnr.shapes.icosphere(3)
    points, faces = np.asarray(small.vertices, np.float64), np.asarray(small.faces)
    both = np.concatenate([faces, faces + len(points)])
    for name, shift in (("fine occluding", [0.25, 0.2, 0.9]), ("fine crossing", [0.5, 0.2, 0.1])):
        yield (
            name,
            np.concatenate([points * 0.7 - [0.2, 0.1, 0.0], points @ TILT.T * 0.6 + shift]),
            both,
            one_color_each(2, len(points), 14),
        )
    teapot = jnr.normalize(jnr.shapes.teapot())
    vertices = np.asarray(teapot.vertices, np.float64) @ TILT.T
    yield "fine teapot", vertices, np.asarray(teapot.faces), smooth(vertices)


MESHES = {name: padded(mesh, COARSE) for name, *mesh in coarse_meshes()}
MESHES |= {name: padded(mesh, FINE) for name, *mesh in fine_meshes()}
# Their corners are no vertices of the surface, or too small to move one alone.
WHOLE = ("cube of six colours", "fine ball", "fine occluding", "fine crossing", "fine teapot")
AT_THE_BORDER = ("over the border", "behind the camera", "near plane")


def motions(vertices, single):
    """Motions of all vertices, and of single ones along random directions, by name."""
    by_name = {}
    for i, axis in enumerate("xyz"):
        by_name[f"translation {axis}"] = np.broadcast_to(np.eye(3)[i], vertices.shape)
        by_name[f"rotation {axis}"] = np.cross(np.eye(3)[i], vertices)
        by_name[f"scale {axis}"] = vertices * np.eye(3)[i]
    by_name["scale"] = vertices
    random = np.random.default_rng(15)
    for vertex in single:
        by_name[f"vertex {vertex}"] = np.zeros_like(vertices)
        by_name[f"vertex {vertex}"][vertex] = random.normal(size=3)
    return by_name


def weights_of_channels(seed=3):
    """Coefficients of weights that are positive and vary by as much as their mean."""
    random = np.random.default_rng(seed)
    coefficients = random.uniform(-0.6, 0.6, (5, 4))
    coefficients[:, 0] = 1
    return coefficients * random.uniform(0.5, 1.0, (5, 1))


def errors(name, camera, lit=False):
    """Errors of each output by kind of motion: `{(output, kind): array}`."""
    vertices, faces, colors = MESHES[name]
    scene = Scene(vertices, faces, colors, CAMERAS[camera], lit=lit)
    used = np.unique(faces[faces[:, 0] >= 0])
    single = [] if name in WHOLE else used[:: -(-len(used) // 8)]
    by_name = motions(vertices, single)
    directions = np.array(list(by_name.values()))
    speeds = pixel_speeds(scene, directions, SIZE)
    directions = directions / np.where(speeds > 0, speeds, 1)[:, None, None]
    coefficients = weights_of_channels()
    truth_weights, *weights = (
        grid.bilinear(coefficients) * (grid.fading() if name in AT_THE_BORDER else 1) for grid in (DENSE, *PIXELS)
    )
    truth = true_derivatives(scene, directions, truth_weights, DENSE)
    kinds = np.array([key.split()[0] for key in by_name])
    found = {}
    for output, channels in CHANNELS.items():
        expected = truth[:, channels].sum(axis=1)
        mean = found_derivatives(scene, directions, weights, PIXELS, output).mean(axis=0)
        error = relative_errors(mean, expected, 0.1 * np.abs(expected).max())
        found |= {(output, kind): error[kinds == kind] for kind in dict.fromkeys(kinds)}
    return found


# Mean and largest error of any output along motions of a kind. Corners narrower than a pixel, and pixels in which three
# surfaces meet, cost most: they have two boundaries between a pair of pixels, of which one is seen.
LIMITS = {
    "triangle": (0.02, 0.07),
    "shaded triangle": (0.02, 0.07),
    "occluding": (0.06, 0.10),
    "shaded occluding": (0.06, 0.10),
    "crossing": (0.10, 0.25),
    "shaded crossing": (0.10, 0.25),
    "crossing plates": (0.18, 0.32),
    "cube": (0.04, 0.10),
    "cube of six colours": (0.05, 0.13),
    "ball": (0.07, 0.18),
    "over the border": (0.04, 0.08),
    "behind the camera": (0.10, 0.25),
    "near plane": (0.04, 0.06),
    "fine ball": (0.06, 0.13),
    "fine occluding": (0.04, 0.08),
    "fine crossing": (0.05, 0.10),
    "fine teapot": (0.10, 0.25),
}
CASES = [
    (name, camera, False)
    for name in MESHES
    for camera in CAMERAS
    if not (camera == "parallel" and name in ("behind the camera", "near plane"))
    and (NIGHTLY or not name.startswith("fine") or (name, camera) == ("fine ball", "parallel"))
]
CASES.append(("cube", "perspective", True))


@pytest.mark.parametrize(("name", "camera", "lit"), CASES)
def test_gradient_is_the_derivative_of_the_area_integrated_picture(name, camera, lit):
    found = errors(name, camera, lit)
    for (output, kind), error in found.items():
        print(f"{name} | {camera}{' lit' * lit} | {output} | {kind} | {error.mean():.1%} | {error.max():.1%}")
    mean, largest = LIMITS[name]
    assert {key: error for key, error in found.items() if error.mean() > mean or error.max() > largest} == {}


@pytest.mark.parametrize("through", ["render_silhouette", "boundary"])
def test_a_triangle_s_mean_over_positions_of_the_grid_is_the_derivative_of_its_area(through):
    size, faces = 64, jnp.array([[0, 1, 2]])
    corners = np.array([[8.3, 11.7], [55.1, 20.9], [21.4, 57.2]])  # column and row, in pixels from the upper left
    shifts = np.array([[grid.column, grid.row] for grid in moved_grids(size, 128)])

    def covered(corners):
        ndc = (corners * (2 / size) - 1) * jnp.array([1.0, -1.0])
        vertices = jnp.concatenate([ndc, jnp.zeros((3, 1))], axis=1)
        if through == "boundary":
            clip_positions = jnp.concatenate([vertices, jnp.ones((3, 1))], axis=1)
            fragments = jnr.rasterize(clip_positions, faces, size)
            image = (fragments.face_index >= 0).astype(jnp.float32)[..., None]
            return jnp.sum(jnr.boundary(image, clip_positions, faces, fragments))
        camera = jnr.Camera.from_matrix(jnp.eye(4))
        return jnp.sum(jnr.render_silhouette(vertices, faces, camera=camera, image_size=size, gradient="boundary"))

    found = jax.jit(jax.vmap(jax.grad(covered)))(jnp.asarray(corners - shifts[:, None], jnp.float32)).mean(axis=0)
    after, before = np.roll(corners, -1, axis=0), np.roll(corners, 1, axis=0)
    # Half the cross product of two sides: counter-clockwise with rows that grow downwards is a negative area.
    truth = np.stack([after[:, 1] - before[:, 1], before[:, 0] - after[:, 0]], axis=1) / 2
    np.testing.assert_allclose(found, truth, rtol=0.005, atol=0.005 * np.abs(truth).max() / 4)


@pytest.mark.parametrize("axis", [0, 1], ids=["down", "right"])
def test_weights_independent_from_pixel_to_pixel_are_seen_through_a_box(axis):
    # One pixel wide if the nearest pixel gets a change, two if both share it.
    vertices, faces, colors = MESHES["triangle"]
    scene = Scene(vertices, faces, colors, CAMERAS["parallel"])
    direction = np.broadcast_to(np.eye(3)[1 - axis], vertices.shape)[None] * 3 / SIZE
    weights = np.random.default_rng(16).uniform(-1, 1, (SIZE, SIZE, 5))
    grids = moved_grids(SIZE, 128)

    def truth(pixels):
        fine, dense = filtered(weights, 2 * SAMPLES, axis, pixels), Grid(SIZE, 2 * SIZE * SAMPLES, SIZE)
        return true_derivatives(scene, direction, fine, dense, step=0.125)[:, CHANNELS["rgb"]].sum()

    def found(shares):
        parts = [grids[k : k + len(PIXELS)] for k in range(0, len(grids), len(PIXELS))]
        gradient = jnr.gradients.Boundary(shares=shares)
        options = {"output": "rgb", "gradient": gradient}
        derivatives = [found_derivatives(scene, direction, [weights] * len(p), p, **options)[:, 0] for p in parts]
        return np.concatenate(derivatives)

    of_one, of_two = truth(1), truth(2)
    # The spread over positions of the grid measures what random weights leave of the derivative.
    equal, nearest = found("equal"), found("nearest")
    assert abs(equal.mean() - of_two) < 0.1 * equal.std()
    assert abs(nearest.mean() - of_one) < 0.1 * nearest.std()
    assert abs(of_one - of_two) > 0.2 * max(equal.std(), nearest.std())
