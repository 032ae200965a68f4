"""Properties of the edge sweep's gradient, and its values recorded from Neural Renderer."""

import golden
import numpy as np
import pytest
import triangles

import jnr


def edge_sweep_of(case):
    return jnr.gradients.EdgeSweep(eps=float(case["nr_eps"]))


@pytest.fixture(scope="module")
def triangle():
    return triangles.small_triangle(edge_sweep_of)


def test_edge_sweep_is_not_zero_outside_the_face_and_also_moves_vertices_vertically(triangle):
    brighter = triangle["gradients"][1]
    case = triangle["case"]
    x, y = case["vertices_px"].T
    row, column = np.indices(triangle["inside"].shape)
    in_reach = ((row > y.min()) & (row < y.max())) | ((column > x.min()) & (column < x.max()))
    outside = ~triangle["inside"] & in_reach
    assert np.all(np.abs(brighter[outside]).max(axis=(-2, -1)) > 0)
    assert np.abs(brighter[outside][..., 1]).max() > 0


def test_edge_sweep_is_not_zero_more_than_two_pixels_inside(triangle):
    darker = triangle["gradients"][0]
    far = triangle["inside"] & (triangle["distance"] > 2)
    assert np.all(np.abs(darker[far]).max(axis=(-2, -1)) > 0)


def test_edge_sweep_is_zero_for_brightening_pixels_that_are_already_bright(triangle):
    np.testing.assert_array_equal(triangle["gradients"][1][triangle["inside"]], 0)


def test_edge_sweep_is_zero_for_darkening_pixels_that_are_already_dark(triangle):
    np.testing.assert_array_equal(triangle["gradients"][0][~triangle["inside"]], 0)


def test_edge_sweep_moves_vertices_towards_a_pixel_that_should_be_bright(triangle):
    brighter = triangle["gradients"][1]
    inside_columns = np.flatnonzero(triangle["inside"].any(axis=0))
    right = np.zeros_like(triangle["inside"])
    right[:, inside_columns.max() + 1 :] = True
    # Descent moves vertices to the right.
    assert np.all(brighter[right][..., 0] <= 0)
    assert np.any(brighter[right][..., 0] < 0)


@pytest.mark.parametrize("name", triangles.NAMES)
def test_edge_sweep_of_each_single_pixel_equals_the_recorded_one(name):
    case = golden.load(name)
    clip, size = triangles.clip_and_size(case)
    found, alpha = triangles.single_pixel_gradients(clip, size, edge_sweep_of(case))
    np.testing.assert_array_equal(alpha, case["nr_alpha"])
    for gradients, direction in zip(found, ("darker", "brighter"), strict=True):
        # README.md of the golden data, section 6: rounding errors change the original's results by up to 6.1e-4.
        assert golden.relative_l2(gradients, case[f"nr_grad_{direction}"]) < 2e-3
        np.testing.assert_array_equal(gradients == 0, case[f"nr_grad_{direction}"] == 0)
