import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jnr
from jnr import losses


def square(size, row, column, side):
    image = np.zeros((size, size), np.float32)
    image[row : row + side, column : column + side] = 1
    return jnp.asarray(image)


def wobbly_mesh(seed):
    """An icosphere whose vertices are moved at random, in float64."""
    mesh = jnr.shapes.icosphere(1)
    rng = np.random.default_rng(seed)
    return np.asarray(mesh.vertices, np.float64) + rng.normal(0, 0.1, mesh.vertices.shape), mesh.faces


def check(f, *args):
    """Compares both modes with central differences of step 1e-6 in float64, whose error is about 1e-9."""
    check_grads(lambda *a: f(*map(jnp.asarray, a)), args, order=1, modes=("fwd", "rev"), atol=1e-7, rtol=1e-6, eps=1e-6)


# --- silhouette_iou


def test_iou_of_equal_silhouettes_is_zero():
    assert losses.silhouette_iou(square(8, 1, 2, 4), square(8, 1, 2, 4)) == 0


def test_iou_of_disjoint_silhouettes_is_one():
    assert losses.silhouette_iou(square(8, 0, 0, 4), square(8, 4, 4, 4)) == 1


def test_iou_of_overlapping_squares_is_one_minus_shared_over_all():
    # 4 x 4 squares shifted by (1, 2) share 3 x 2 pixels of 16 + 16 - 6.
    loss = losses.silhouette_iou(square(8, 0, 0, 4), square(8, 1, 2, 4))
    assert loss == pytest.approx(1 - 6 / 26, abs=1e-7)  # one float32 rounding


def test_iou_of_partly_covered_pixels_uses_products():
    # 0.5 and 0.25 everywhere: both 0.125, either 0.625.
    loss = losses.silhouette_iou(jnp.full((2, 3), 0.5), jnp.full((2, 3), 0.25))
    assert loss == pytest.approx(0.8, abs=1e-7)


def test_iou_of_empty_silhouettes_and_its_gradient_are_zero():
    empty = jnp.zeros((4, 4))
    loss, (gradient, _) = jax.value_and_grad(losses.silhouette_iou, argnums=(0, 1))(empty, empty)
    assert loss == 0
    np.testing.assert_array_equal(gradient, 0)


def test_iou_of_an_empty_and_a_nonempty_silhouette_is_one():
    assert losses.silhouette_iou(jnp.zeros((8, 8)), square(8, 2, 2, 4)) == 1
    assert losses.silhouette_iou(square(8, 2, 2, 4), jnp.zeros((8, 8))) == 1


def test_iou_of_batch_is_the_mean_of_its_images():
    alpha = jnp.stack([square(8, 0, 0, 4), square(8, 0, 0, 4), jnp.zeros((8, 8))])
    target = jnp.stack([square(8, 1, 2, 4), square(8, 4, 4, 4), jnp.zeros((8, 8))])
    single = [losses.silhouette_iou(a, t) for a, t in zip(alpha, target, strict=True)]
    assert losses.silhouette_iou(alpha, target) == pytest.approx(float(np.mean(single)), abs=1e-7)
    nested = losses.silhouette_iou(alpha[:, None], target[:, None])
    assert nested == losses.silhouette_iou(alpha, target)


def test_iou_takes_integer_masks():
    masks = np.asarray(square(8, 0, 0, 4), np.int32), np.asarray(square(8, 1, 2, 4), np.int32)
    assert losses.silhouette_iou(*masks) == losses.silhouette_iou(square(8, 0, 0, 4), square(8, 1, 2, 4))


def test_iou_gradient_equals_finite_differences():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        check(losses.silhouette_iou, rng.uniform(0, 1, (2, 3, 4)), rng.uniform(0, 1, (2, 3, 4)))


@pytest.mark.validation
@pytest.mark.parametrize(("alpha", "target"), [((4, 4), (4, 5)), ((2, 4, 4), (4, 4)), ((4,), (4,)), ((), ())])
def test_iou_of_different_shapes_is_an_error_that_names_both(alpha, target):
    with pytest.raises(ValueError, match=r"^alpha and target must have the same shape .*, got \(.*\) and \(.*\)\.$"):
        losses.silhouette_iou(jnp.zeros(alpha), jnp.zeros(target))


@pytest.mark.validation
def test_iou_of_complex_numbers_is_an_error_that_names_the_argument():
    with pytest.raises(TypeError, match=r"^target must be real numbers, got dtype complex64\.$"):
        losses.silhouette_iou(jnp.zeros((4, 4)), jnp.zeros((4, 4), jnp.complex64))


# --- squared_error


@pytest.mark.parametrize("shape", [(4, 5, 1), (4, 5, 3), (2, 4, 5, 3), (3, 2, 4, 5, 7)])
def test_squared_error_is_the_mean_of_squared_differences(shape):
    rng = np.random.default_rng(0)
    image, target = rng.normal(size=(2, *shape))
    with jax.enable_x64(True):
        got, gradients = jax.value_and_grad(losses.squared_error, argnums=(0, 1))(jnp.asarray(image), target)
    assert got == pytest.approx(np.mean((image - target) ** 2), rel=1e-14)
    np.testing.assert_allclose(gradients[0], 2 * (image - target) / image.size, rtol=1e-14)
    np.testing.assert_array_equal(gradients[1], -gradients[0])


def test_squared_error_of_a_large_float32_image_is_accurate():
    rng = np.random.default_rng(0)
    image, target = rng.uniform(size=(2, 256, 256, 3)).astype(np.float32)
    expected = np.mean((image.astype(np.float64) - target) ** 2)
    # Sums of 196,608 terms in blocks.
    assert losses.squared_error(image, target) == pytest.approx(expected, rel=1e-5)


def test_squared_error_is_float32_for_narrower_images_and_the_wider_of_two_dtypes():
    image = jnp.full((2, 2, 3), 0.5, jnp.bfloat16)
    assert losses.squared_error(image, 0 * image).dtype == jnp.float32
    with jax.enable_x64(True):
        loss = losses.squared_error(image, np.zeros((2, 2, 3)))
    assert loss.dtype == jnp.float64
    assert float(loss) == 0.25


def test_squared_error_scales_integer_targets_as_colours():
    assert losses.squared_error(jnp.ones((2, 2, 3)), np.full((2, 2, 3), 255, np.uint8)) == 0


def test_squared_error_under_jit_and_vmap_equals_that_of_each_image():
    image, target = np.random.default_rng(0).uniform(size=(2, 3, 4, 5, 3)).astype(np.float32)
    single = [float(losses.squared_error(a, b)) for a, b in zip(image, target, strict=True)]
    np.testing.assert_allclose(jax.jit(jax.vmap(losses.squared_error))(image, target), single, rtol=1e-6)
    shared = jax.vmap(losses.squared_error, in_axes=(0, None))(image, target[0])
    np.testing.assert_allclose(shared[0], single[0], rtol=1e-6)


def test_squared_error_derivatives_equal_finite_differences():
    image, target = np.random.default_rng(0).uniform(size=(2, 3, 4, 3))
    with jax.enable_x64(True):
        check(losses.squared_error, image, target)
        # Quadratic: its Hessian is 2 / size times the identity.
        hessian = jax.hessian(losses.squared_error)(jnp.asarray(image), target).reshape(image.size, -1)
    np.testing.assert_allclose(hessian, 2 / image.size * np.eye(image.size), atol=1e-15)


@pytest.mark.validation
@pytest.mark.parametrize(
    ("image", "target"), [((4, 4, 3), (4, 4, 1)), ((2, 4, 4, 3), (4, 4, 3)), ((4, 4), (4, 4)), ((), ())]
)
def test_squared_error_of_different_shapes_is_an_error_that_names_both(image, target):
    with pytest.raises(ValueError, match=r"^image and target must have the same shape .*, got \(.*\) and \(.*\)\.$"):
        losses.squared_error(jnp.zeros(image), jnp.zeros(target))


@pytest.mark.validation
def test_squared_error_of_an_empty_image_or_of_large_integers_is_an_error():
    with pytest.raises(ValueError, match=r"^image must not be empty, got shape \(0, 4, 3\)\.$"):
        losses.squared_error(jnp.zeros((0, 4, 3)), jnp.zeros((0, 4, 3)))
    with pytest.raises(TypeError, match=r"^target must be colours: "):
        losses.squared_error(jnp.zeros((4, 4, 3)), jnp.zeros((4, 4, 3), jnp.int32))


# --- total_variation


def test_total_variation_sums_squared_steps_to_the_right_and_down():
    image = np.zeros((3, 4, 2), np.float32)
    image[1, 2] = [1, 3]
    # One pixel has four neighbours, each 1 and 9 apart.
    assert losses.total_variation(image) == 40
    image[1, 2], image[0, 0] = 0, [1, 3]
    assert losses.total_variation(image) == 20
    assert losses.total_variation(np.stack([image, 0 * image])) == 10


def test_total_variation_leaves_out_steps_that_touch_the_background():
    rng = np.random.default_rng(0)
    image, mask = rng.uniform(size=(2, 5, 6, 3)), rng.integers(0, 2, (2, 5, 6))
    expected = 0
    for b, r, c in np.ndindex(2, 5, 6):
        for p, q in ((r + 1, c), (r, c + 1)):
            if p < 5 and q < 6 and mask[b, r, c] and mask[b, p, q]:
                expected += np.sum((image[b, r, c] - image[b, p, q]) ** 2) / 2
    got = losses.total_variation(jnp.asarray(image, jnp.float32), mask)
    assert got == pytest.approx(expected, rel=1e-5)  # sums of some 60 terms in float32


# --- chamfer


def test_chamfer_equals_the_full_distance_matrix_for_every_chunk_size():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(23, 3)), rng.normal(size=(50, 3))
    with jax.enable_x64(True):

        def whole(a, b):
            squared = jnp.sum((a[:, None] - b) ** 2, axis=-1)
            return jnp.mean(squared.min(axis=1)) + jnp.mean(squared.min(axis=0))

        expected = jax.jit(jax.value_and_grad(whole, argnums=(0, 1)))(jnp.asarray(a), jnp.asarray(b))
        for chunk in (8, 1024):
            loss = functools.partial(losses.chamfer, chunk=chunk)
            got = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(jnp.asarray(a), jnp.asarray(b))
            jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-15), got, expected)


def test_chamfer_of_a_set_and_itself_in_another_order_is_zero():
    points = jnp.asarray(np.random.default_rng(1).normal(size=(20, 2)) + 1000, jnp.float32)
    assert losses.chamfer(points, points[::-1], chunk=7) == 0


def test_chamfer_of_one_point_adds_both_directions():
    # From the point to the nearer one 1, from the two 1 and 9.
    assert losses.chamfer(jnp.zeros((1, 2)), jnp.array([[1.0, 0], [0, 3]])) == 1 + 5


def test_memory_of_chamfer_does_not_grow_with_the_product_of_the_set_sizes():
    points = jax.ShapeDtypeStruct((20_000, 3), jnp.float32)
    compiled = jax.jit(jax.grad(lambda a, b: losses.chamfer(a, b, chunk=256))).lower(points, points).compile()
    # All pairs would take 1.6 GB; the points themselves take 0.24 MB.
    assert compiled.memory_analysis().temp_size_in_bytes < 16e6


@pytest.mark.validation
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.chamfer(jnp.zeros((0, 3)), jnp.zeros((2, 3))), r"points must not be empty, got shape \(0, 3\)"),
        (lambda: losses.chamfer(jnp.zeros((2, 3)), jnp.zeros((2, 2))), r"others must have shape \(others, 3\), got"),
        (lambda: losses.chamfer(jnp.zeros((2, 3)), jnp.zeros((2, 3)), chunk=0), r"chunk must be at least 1, got 0"),
        (
            lambda: losses.total_variation(jnp.zeros((4, 4))),
            r"images must have shape \(\.\.\., height, width, channels",
        ),
        (
            lambda: losses.total_variation(jnp.zeros((4, 4, 3)), jnp.zeros((4, 3))),
            r"mask must have shape \(4, 4\), got",
        ),
    ],
    ids=["empty", "coordinates", "chunk", "image", "mask"],
)
def test_invalid_images_and_points_are_named_in_the_error(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


# --- unique_edges


def test_edges_of_two_triangles_and_the_pair_that_shares_one():
    edges, pairs = jnr.unique_edges(jnp.array([[2, 0, 1], [2, 1, 3]]))
    np.testing.assert_array_equal(edges, [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]])
    np.testing.assert_array_equal(np.sort(pairs, axis=1), [[0, 1]])
    assert edges.dtype == pairs.dtype == jnp.int32


def test_edges_of_closed_mesh_are_three_halves_of_its_faces_and_pair_them_all():
    mesh = jnr.shapes.torus(rows=5, columns=7)
    edges, pairs = (np.asarray(a) for a in jnr.unique_edges(mesh.faces))
    faces = np.asarray(mesh.faces)
    assert edges.shape == pairs.shape == (len(faces) * 3 // 2, 2)
    assert np.all(edges[:, 0] < edges[:, 1])
    assert len(np.unique(edges, axis=0)) == len(edges)
    assert len(np.unique(np.sort(pairs, axis=1), axis=0)) == len(pairs)
    # Every face is in three pairs, and the two of a pair have two vertices in common.
    np.testing.assert_array_equal(np.bincount(pairs.ravel()), 3)
    for first, second in pairs:
        assert len(set(faces[first]) & set(faces[second])) == 2


def test_edge_of_three_faces_is_listed_once_and_yields_no_pair():
    edges, pairs = jnr.unique_edges(jnp.array([[0, 1, 2], [1, 0, 3], [0, 1, 4]]))
    assert np.asarray(edges).tolist().count([0, 1]) == 1
    assert edges.shape == (7, 2)
    assert pairs.shape == (0, 2)


def test_padding_faces_add_no_edges_and_do_not_shift_face_indices():
    padded = jnp.array([[-1, -1, -1], [2, 0, 1], [-1, -1, -1], [2, 1, 3], [-1, -1, -1]])
    edges, pairs = jnr.unique_edges(padded)
    np.testing.assert_array_equal(edges, jnr.unique_edges(padded[jnp.array([1, 3])])[0])
    np.testing.assert_array_equal(np.sort(pairs, axis=1), [[1, 3]])


@pytest.mark.parametrize("faces", [np.zeros((0, 3), np.int32), np.full((2, 3), -1, np.int32)], ids=["none", "padding"])
def test_edges_of_no_faces_are_empty(faces):
    edges, pairs = jnr.unique_edges(faces)
    assert edges.shape == pairs.shape == (0, 2)
    assert edges.dtype == pairs.dtype == jnp.int32


@pytest.mark.validation
def test_edges_of_traced_faces_are_an_error_that_says_what_to_do():
    with pytest.raises(TypeError, match=r"^faces must be concrete .*outside jit"):
        jax.jit(jnr.unique_edges)(jnp.array([[0, 1, 2]]))


@pytest.mark.validation
@pytest.mark.parametrize(
    ("faces", "error", "message"),
    [
        (np.zeros((2, 4), np.int32), ValueError, r"faces must have shape \(faces, 3\), got \(2, 4\)\."),
        (np.zeros((2, 3), np.float32), TypeError, r"faces must be integers, got dtype float32\."),
        (np.full((2, 3), -2, np.int32), ValueError, r"faces must hold vertex indices .*, got -2 to -2\."),
        ("faces", TypeError, r"faces must be an array of numbers, got str\."),
    ],
    ids=["columns", "dtype", "index", "kind"],
)
def test_edges_of_invalid_faces_are_an_error_that_names_them(faces, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        jnr.unique_edges(faces)


@pytest.mark.validation
def test_unique_edges_of_losses_is_a_deprecated_alias():
    faces = jnr.shapes.cube().faces
    with pytest.warns(DeprecationWarning, match=r"unique_edges is deprecated .*: use jnr\.unique_edges\.$") as caught:
        found = losses.unique_edges(faces)
    assert [warning.filename for warning in caught] == [__file__]
    for array, expected in zip(found, jnr.unique_edges(faces), strict=True):
        np.testing.assert_array_equal(array, expected)


# --- laplacian


def test_laplacian_is_zero_where_every_vertex_is_the_mean_of_its_neighbours():
    # All vertices coincide.
    vertices = jnp.array([[1.0, 2, 3]] * 3)
    assert losses.laplacian(vertices, jnp.array([[0, 1], [1, 2], [0, 2]])) == 0


def test_laplacian_of_square_ring_is_known():
    # Corners of a square of side 2: the mean of a corner's two neighbours is the centre, at squared distance 2.
    vertices = jnp.array([[1.0, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]])
    edges = jnp.array([[0, 1], [1, 2], [2, 3], [0, 3]])
    assert losses.laplacian(vertices, edges) == pytest.approx(2, abs=1e-6)  # float32
    assert losses.laplacian(vertices + 5, edges) == pytest.approx(2, abs=1e-5)
    assert losses.laplacian(vertices * 3, edges) == pytest.approx(18, abs=1e-5)


def test_laplacian_of_a_straight_line_comes_from_its_ends_alone():
    # Each end is 1 from its only neighbour, the middle vertex is the mean of its two: (1 + 0 + 1) / 3.
    vertices = jnp.array([[-1.0, 0, 0], [0, 0, 0], [1, 0, 0]])
    assert losses.laplacian(vertices, jnp.array([[0, 1], [1, 2]])) == pytest.approx(2 / 3, abs=1e-7)


def test_laplacian_ignores_vertices_without_an_edge():
    vertices, faces = wobbly_mesh(1)
    edges, _ = jnr.unique_edges(faces)
    more = jnp.concatenate([jnp.asarray(vertices, jnp.float32), jnp.full((5, 3), 100.0)])
    expected = losses.laplacian(jnp.asarray(vertices, jnp.float32), edges)
    assert losses.laplacian(more, edges) == pytest.approx(float(expected), rel=1e-6)  # order of float32 sums
    np.testing.assert_array_equal(jax.grad(losses.laplacian)(more, edges)[-5:], 0)


def test_laplacian_equals_a_direct_loop():
    vertices, faces = wobbly_mesh(2)
    neighbours = [set() for _ in vertices]
    for a, b, c in np.asarray(faces):
        for vertex, others in ((a, (b, c)), (b, (c, a)), (c, (a, b))):
            neighbours[vertex].update(others)
    offsets = [v - vertices[list(near)].mean(axis=0) for v, near in zip(vertices, neighbours, strict=True)]
    expected = np.mean(np.sum(np.square(offsets), axis=1))
    edges, _ = jnr.unique_edges(faces)
    # float32 coordinates near 1, offsets near 0.3
    assert losses.laplacian(jnp.asarray(vertices, jnp.float32), edges) == pytest.approx(expected, rel=1e-5)


# --- edge_length


def test_edge_length_of_cube_is_the_mean_square_of_sides_and_diagonals():
    mesh = jnr.shapes.cube()
    edges, _ = jnr.unique_edges(mesh.faces)
    # Twelve sides of squared length 1 and six face diagonals of squared length 2.
    assert losses.edge_length(mesh.vertices, edges) == pytest.approx(24 / 18, abs=1e-6)
    assert losses.edge_length(mesh.vertices * 3, edges) == pytest.approx(9 * 24 / 18, abs=1e-5)


# --- cotangent_laplacian


def test_cotangent_laplacian_of_interior_vertices_of_a_plane_is_zero_for_any_triangulation():
    mesh = jnr.shapes.plane(4, 4)
    vertices = np.asarray(mesh.vertices, np.float64)
    inner = np.all(np.abs(vertices[:, :2]) < 0.49, axis=1)
    vertices[inner, :2] += np.random.default_rng(0).uniform(-0.05, 0.05, (inner.sum(), 2))
    with jax.enable_x64(True):
        slope = jax.jit(jax.grad(losses.cotangent_laplacian))
        gradient = np.asarray(slope(jnp.asarray(vertices), mesh.faces))
        deep = int(np.argmin(np.linalg.norm(np.asarray(mesh.vertices), axis=1)))  # has no neighbour on the boundary
        lifted = vertices.copy()
        lifted[deep, 2] += 0.01
        raised = np.asarray(slope(jnp.asarray(lifted), mesh.faces))
        edges, _ = jnr.unique_edges(mesh.faces)
        uniform = np.asarray(jax.jit(jax.grad(losses.laplacian))(jnp.asarray(vertices), edges))
    np.testing.assert_allclose(gradient[deep], 0, atol=1e-14)
    assert np.abs(uniform[deep]).max() > 1e-3
    assert raised[deep, 2] > 1e-4


def test_cotangent_laplacian_equals_a_direct_loop():
    vertices, faces = wobbly_mesh(5)
    sums, weights = np.zeros_like(vertices), np.zeros(len(vertices))
    for face in np.asarray(faces):
        for k in range(3):
            a, b, c = face[k], face[(k + 1) % 3], face[(k + 2) % 3]
            u, v = vertices[b] - vertices[a], vertices[c] - vertices[a]
            cotangent = 1 / np.tan(np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v)))
            for here, there in ((b, c), (c, b)):
                sums[here] += cotangent * vertices[there]
                weights[here] += cotangent
    expected = np.mean(np.sum((vertices - sums / weights[:, None]) ** 2, axis=1))
    padded = jnp.concatenate([faces, jnp.full((2, 3), -1, jnp.int32)])
    more = jnp.concatenate([jnp.asarray(vertices, jnp.float32), jnp.full((3, 3), 9.0)])
    # float32 coordinates near 1, offsets near 0.1
    assert jax.jit(losses.cotangent_laplacian)(more, padded) == pytest.approx(expected, rel=1e-4)


def test_gradient_treats_the_cotangents_as_constants():
    # A vertex in the middle of a regular hexagon, lifted: the weights of its six neighbours are equal.
    angle = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    vertices = jnp.asarray(np.concatenate([[(0, 0, 0.5)], ring]), jnp.float32)
    faces = jnp.array([[0, 1 + k, 1 + (k + 1) % 6] for k in range(6)])
    gradient = jax.jit(jax.grad(losses.cotangent_laplacian))(vertices, faces)
    # Each face has the cotangent `base` at its two rim vertices and `tip` at the middle. A rim vertex weighs the middle
    # by 2 * base and each of its two rim neighbours by tip, so its offset from the weighted mean is -share / 2 in z.
    doubled = np.sqrt(1.25 - 0.25)  # base 1 times height
    base, tip = 0.5 / doubled, (1.25 - 0.5) / doubled
    share = 2 * base / (2 * base + 2 * tip)
    expected = 2 / 7 * (0.5 + 6 * share * share / 2)
    assert gradient[0, 2] == pytest.approx(expected, rel=1e-5)


def test_face_without_an_area_adds_nothing_to_the_cotangent_laplacian():
    mesh = jnr.shapes.cube()
    faces = jnp.concatenate([mesh.faces, jnp.array([[0, 1, 1], [2, 2, 2]])])
    with jax.debug_nans(True):
        value, gradient = jax.jit(jax.value_and_grad(losses.cotangent_laplacian))(mesh.vertices, faces)
    # The weights of the cube are 1 along sides and 0 along diagonals: each vertex is sqrt(3) / 3 from the mean.
    assert value == pytest.approx(1 / 3, rel=1e-6)
    assert np.all(np.isfinite(gradient))


# --- edge_length_variance and flatness


def test_edge_length_variance_of_cube_is_that_of_sides_and_diagonals():
    mesh = jnr.shapes.cube()
    edges, _ = jnr.unique_edges(mesh.faces)
    lengths = [1] * 12 + [np.sqrt(2)] * 6
    variance = jax.jit(losses.edge_length_variance)
    assert variance(mesh.vertices, edges) == pytest.approx(np.var(lengths), rel=1e-5)
    octahedron = jnp.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    same = jnp.array([[i, j] for i in range(6) for j in range(i) if i // 2 != j // 2])
    assert variance(octahedron, same) == pytest.approx(0, abs=1e-12)  # squared float32 rounding errors


def test_zero_length_edges_have_a_finite_gradient():
    vertices = jnp.array([[0.0, 0, 0], [0, 0, 0], [1, 0, 0]])
    with jax.debug_nans(True):
        gradient = jax.jit(jax.grad(losses.edge_length_variance))(vertices, jnp.array([[0, 1], [1, 2]]))
    assert np.all(np.isfinite(gradient))
    assert np.any(gradient != 0)


def test_flatness_is_the_square_of_one_plus_the_cosine_of_the_angle_between_faces():
    faces = jnp.array([[0, 2, 1], [0, 1, 3]])
    _, pairs = jnr.unique_edges(faces)
    flatness = jax.jit(losses.flatness)
    for angle in np.radians([30, 90, 150, 180]):
        vertices = np.array([[0, 0, 0], [0, 1, 0], [1, 0.5, 0], [np.cos(angle), 0.5, np.sin(angle)]], np.float32)
        # float32 unit vectors
        assert flatness(vertices, faces, pairs) == pytest.approx((np.cos(angle) + 1) ** 2, abs=1e-6)


def test_flatness_of_cube_is_the_number_of_its_sides():
    mesh = jnr.shapes.cube()
    _, pairs = jnr.unique_edges(mesh.faces)
    assert jax.jit(losses.flatness)(mesh.vertices, mesh.faces, pairs) == pytest.approx(12, rel=1e-6)


# --- normal_consistency


def test_normal_consistency_of_plane_is_zero():
    mesh = jnr.shapes.plane(2, 3)
    _, pairs = jnr.unique_edges(mesh.faces)
    # Cosines of float32 unit vectors
    assert losses.normal_consistency(mesh.vertices, mesh.faces, pairs) == pytest.approx(0, abs=1e-6)


def test_normal_consistency_of_cube_counts_its_right_angles():
    mesh = jnr.shapes.cube()
    _, pairs = jnr.unique_edges(mesh.faces)
    # Twelve sides between faces at right angles, six diagonals within flat ones.
    assert losses.normal_consistency(mesh.vertices, mesh.faces, pairs) == pytest.approx(12 / 18, abs=1e-6)


def test_normal_consistency_of_oppositely_oriented_faces_is_two():
    vertices = jnp.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    faces = jnp.array([[0, 1, 2], [1, 2, 3]])
    _, pairs = jnr.unique_edges(faces)
    assert losses.normal_consistency(vertices, faces, pairs) == pytest.approx(2, abs=1e-6)


def test_normal_consistency_of_degenerate_face_has_a_finite_gradient():
    vertices = jnp.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]])
    faces = jnp.array([[0, 1, 2], [2, 1, 3]])  # the second has no area
    _, pairs = jnr.unique_edges(faces)
    with jax.debug_nans(True):
        loss, gradient = jax.value_and_grad(losses.normal_consistency)(vertices, faces, pairs)
    assert loss == 1
    assert np.all(np.isfinite(gradient))


def test_normal_consistency_skips_padding_faces():
    mesh = jnr.shapes.cube()
    _, pairs = jnr.unique_edges(mesh.faces)
    padded = jnp.concatenate([mesh.faces, jnp.full((3, 3), -1, jnp.int32)])
    _, padded_pairs = jnr.unique_edges(padded)
    expected = losses.normal_consistency(mesh.vertices, mesh.faces, pairs)
    assert losses.normal_consistency(mesh.vertices, padded, padded_pairs) == expected


# --- all mesh losses

MESH_LOSSES = {
    "laplacian": lambda vertices, faces, edges, pairs: losses.laplacian(vertices, edges),
    "edge_length": lambda vertices, faces, edges, pairs: losses.edge_length(vertices, edges),
    "edge_length_variance": lambda vertices, faces, edges, pairs: losses.edge_length_variance(vertices, edges),
    "normal_consistency": lambda vertices, faces, edges, pairs: losses.normal_consistency(vertices, faces, pairs),
    "flatness": lambda vertices, faces, edges, pairs: losses.flatness(vertices, faces, pairs),
    "cotangent_laplacian": lambda vertices, faces, edges, pairs: losses.cotangent_laplacian(vertices, faces),
}


# The cotangents are constants to its gradient, see test_gradient_treats_the_cotangents_as_constants.
@pytest.mark.parametrize("name", [name for name in MESH_LOSSES if name != "cotangent_laplacian"])
def test_gradient_equals_finite_differences(name):
    vertices, faces = wobbly_mesh(3)
    edges, pairs = jnr.unique_edges(faces)
    with jax.enable_x64(True):
        check(jax.jit(lambda v: MESH_LOSSES[name](v, faces, edges, pairs)), vertices)


@pytest.mark.parametrize("name", MESH_LOSSES)
def test_vmap_over_meshes_equals_a_loop(name):
    faces = wobbly_mesh(0)[1]
    batch = jnp.asarray(np.stack([wobbly_mesh(seed)[0] for seed in range(3)]), jnp.float32)
    edges, pairs = jnr.unique_edges(faces)
    loss = jax.jit(lambda v: MESH_LOSSES[name](v, faces, edges, pairs))
    # The order of float32 sums
    np.testing.assert_allclose(jax.vmap(loss)(batch), [loss(v) for v in batch], rtol=1e-6)


@pytest.mark.parametrize("name", MESH_LOSSES)
def test_loss_of_no_edges_is_zero(name):
    empty = jnp.zeros((0, 2), jnp.int32)
    vertices = jnp.ones((4, 3))
    loss = MESH_LOSSES[name]
    value, gradient = jax.value_and_grad(loss)(vertices, jnp.zeros((0, 3), jnp.int32), empty, empty)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.validation
@pytest.mark.parametrize("name", MESH_LOSSES)
def test_vertices_of_wrong_shape_are_named_in_the_error(name):
    some = jnp.zeros((1, 2), jnp.int32)
    with pytest.raises(ValueError, match=r"^vertices must have shape \(vertices, 3\), got \(4, 2\)\.$"):
        MESH_LOSSES[name](jnp.ones((4, 2)), jnp.zeros((1, 3), jnp.int32), some, some)


@pytest.mark.validation
@pytest.mark.parametrize("loss", [losses.laplacian, losses.edge_length])
@pytest.mark.parametrize(
    ("edges", "error", "message"),
    [
        (np.zeros((3, 3), np.int32), ValueError, r"edges must have shape \(edges, 2\), got \(3, 3\)\."),
        (np.array([[0, 4]]), ValueError, r"edges must hold vertex indices from 0 to 3, got 0 to 4\."),
        (np.array([[-1, 2]]), ValueError, r"edges must hold vertex indices from 0 to 3, got -1 to 2\."),
        (np.zeros((3, 2), np.float32), TypeError, r"edges must be integers, got dtype float32\."),
    ],
    ids=["columns", "too_large", "negative", "dtype"],
)
def test_invalid_edges_are_named_in_the_error(loss, edges, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        loss(jnp.ones((4, 3)), edges)


@pytest.mark.validation
@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        (np.zeros((3, 3), np.int32), ValueError, r"pairs must have shape \(pairs, 2\), got \(3, 3\)\."),
        (np.array([[0, 12]]), ValueError, r"pairs must .*11, got 0 to 12\."),
        (np.array([[-1, 2]]), ValueError, r"pairs must .*11, got -1 to 2\."),
        (np.zeros((3, 2), np.float32), TypeError, r"pairs must be integers, got dtype float32\."),
    ],
    ids=["columns", "too_large", "negative", "dtype"],
)
def test_invalid_pairs_are_named_in_the_error(pairs, error, message):
    mesh = jnr.shapes.cube()
    with pytest.raises(error, match=f"^{message}$"):
        losses.normal_consistency(mesh.vertices, mesh.faces, pairs)


# --- differentiability

IMAGES = np.random.default_rng(7).uniform(0.1, 0.9, (2, 4, 5, 3)).astype(np.float32)
MASK = IMAGES[..., 0]
WOBBLY, FACES = wobbly_mesh(4)
WOBBLY = WOBBLY.astype(np.float32)
EDGES, PAIRS = jnr.unique_edges(FACES)
# By loss and argument, as the docstring of jnr.losses lists them.
DIFFERENTIABLE = {
    "silhouette_iou_alpha": (lambda x: losses.silhouette_iou(x, MASK[::-1]), MASK),
    "silhouette_iou_target": (lambda x: losses.silhouette_iou(MASK[::-1], x), MASK),
    "total_variation_images": (lambda x: losses.total_variation(x, MASK), IMAGES),
    "total_variation_mask": (lambda x: losses.total_variation(IMAGES, x), MASK),
    "chamfer_points": (lambda x: losses.chamfer(x, WOBBLY[::2] + 0.3, chunk=8), WOBBLY),
    "chamfer_others": (lambda x: losses.chamfer(WOBBLY[::2] + 0.3, x, chunk=8), WOBBLY),
    **{name: (lambda x, loss=loss: loss(x, FACES, EDGES, PAIRS), WOBBLY) for name, loss in MESH_LOSSES.items()},
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_forward_and_reverse_mode_and_both_second_orders_agree(name):
    loss, at = DIFFERENTIABLE[name]
    tangent = jnp.asarray(np.random.default_rng(8).normal(size=at.shape), jnp.float32)

    @jax.jit
    def derivatives(x):
        gradient, forward_over_reverse = jax.jvp(jax.grad(loss), (x,), (tangent,))
        reverse_over_reverse = jax.grad(lambda y: jnp.sum(jax.grad(loss)(y) * tangent))(x)
        return gradient, jax.jvp(loss, (x,), (tangent,))[1], forward_over_reverse, reverse_over_reverse

    gradient, slope, *hessians = derivatives(jnp.asarray(at))
    terms = np.asarray(gradient * tangent)
    assert np.abs(gradient).max() > 1e-4
    # Sums of at most 126 float32 terms.
    np.testing.assert_allclose(slope, terms.sum(), atol=1e-5 * np.abs(terms).sum())
    np.testing.assert_allclose(*hessians, atol=1e-5 * np.abs(hessians[0]).max())


@pytest.mark.parametrize("chunk", [1, 2])
def test_nearest_of_equally_near_points_is_the_first(chunk):
    others = jnp.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    gradient = jax.grad(lambda p: jnr.losses.chamfer(p, others, chunk=chunk))(jnp.zeros((1, 3)))
    # Towards the first; the means of the squared distances of both balance.
    np.testing.assert_allclose(gradient, [[-2, 0, 0]], atol=1e-6)
