"""The boundary between faces of one surface."""

import jax.numpy as jnp
import numpy as np
import pytest
from scenes import KERNELS

import jnr
from jnr._ops.boundary import boundary_crossings_p, crossing_motion_bwd_p


@pytest.mark.parametrize("turned", [0, 1, 2])
@pytest.mark.parametrize("backend", ["xla", *KERNELS])
def test_edge_between_coplanar_faces_moves_with_its_corners(backend, turned):
    size = 8
    clip = jnp.array([[-1.2, -1.3, 0, 1], [1.3, -1.1, 0, 1], [-1.1, 1.4, 0, 1], [1.2, 1.2, 0, 1]])
    faces = jnp.roll(jnp.array([[0, 1, 2], [1, 3, 2]]), turned, axis=1)
    face_index = jnr.rasterize(clip, faces, size, backend="xla").face_index
    mesh = clip[None], faces[None], face_index[None]
    differ = jnp.stack([face_index != jnp.roll(face_index, -1, axis) for axis in (1, 0)])
    differ = differ.at[0, :, -1].set(False).at[1, -1].set(False)
    crossings = boundary_crossings_p.bind(*mesh, differ[None], backend=backend)
    np.testing.assert_array_equal(crossings[0, ..., 0] >= 0, differ)
    force = differ[None].astype(jnp.float32)
    grad = crossing_motion_bwd_p.bind(force, crossings, *mesh, sums=1, backend=backend)[0]
    np.testing.assert_array_equal(grad[jnp.array([0, 3])], np.zeros((2, 4)))
    # Where both corners move by 2 / size, every crossing moves by a pixel.
    expected = [jnp.sum(differ[0]) * size / 2, -jnp.sum(differ[1]) * size / 2]
    np.testing.assert_allclose(grad[:, :2].sum(axis=0), expected, rtol=1e-5)
