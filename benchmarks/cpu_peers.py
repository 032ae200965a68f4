"""Other CPU renderers for benchmarks/cpu.py and benchmarks/tasks.py; each needs its own package.

Every function of `PEERS` takes NumPy arrays by name: positions `vertices` `(batch, vertices, 3)` and `clip`
`(batch, vertices, 4)`, `faces` `(faces, 3)`, `reference` images `(batch, height, width, channels)`, and textures:
`colors` per vertex `(vertices, channels)` (ones for silhouettes) or per corner `(faces, 3, channels)`, or `texels`
`(rows, columns, channels)` and `uv` `(vertices, 2)`. It returns two functions without arguments: forward, and forward
with the gradient of sum((image - reference)^2) with respect to the image positions of the vertices and the textures.
"""

# pyright: reportMissingImports=false
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

# jnr's default light.
AMBIENT, DIRECTIONAL, DIRECTION = 0.4, 0.6, (0.4243, 0.5657, 0.7071)


def deodr(*, clip, faces, colors, reference, **_):
    """Rasterizer that antialiases silhouettes by edge overdraw; its gradient reaches one pixel from each edge.

    It uses one thread and renders images one after the other. Its time includes finding silhouette edges, but neither
    projection nor lighting.
    """
    from deodr.triangulated_mesh import TriMeshAdjacencies

    faces = faces.astype(np.uint32)
    adjacencies = TriMeshAdjacencies(faces, nb_vertices=clip.shape[1])
    size = reference.shape[1:3]
    pixels, w = _deodr_pixels(clip, *size)

    def scene(item):
        edges = adjacencies.edge_on_silhouette(pixels[item])
        return _deodr_scene(faces, pixels[item], w[item], colors, edges, *size)

    return _deodr_passes(scene, reference, lambda _, rendered: (rendered.ij_b, rendered.colors_b))


def deodr_uv(*, clip, faces, texels, uv, reference, **_):
    """DEODR's bilinear texture with the gradient to texels and texture coordinates.

    Coordinates are interpolated without perspective, with which DEODR has no gradient. Its gradient to a texel is that
    of the last pixel that reads it: DEODR does not sum them.
    """
    rows, columns = texels.shape[:2]
    texture = {
        "texture": texels.astype(np.float64),
        "uv": np.stack([uv[:, 0] * columns - 0.5, (1 - uv[:, 1]) * rows - 0.5], axis=-1).astype(np.float64),
        "textured": np.ones(len(faces), bool),
        "shaded": np.ones(len(faces), bool),
        "shade": np.ones(len(uv)),
    }
    topology, size = _Topology(faces), reference.shape[1:3]
    pixels, w = _deodr_pixels(clip, *size)
    black = np.zeros((len(uv), texels.shape[-1]))

    def scene(item):
        edges = topology.adjacencies.edge_on_silhouette(pixels[item])
        return _deodr_scene(topology.faces, pixels[item], w[item], black, edges, *size, **texture)

    return _deodr_passes(scene, reference, lambda _, rendered: (rendered.ij_b, rendered.texture_b, rendered.uv_b))


def deodr_corners(*, clip, faces, colors, reference, **_):
    """DEODR with a colour per corner: every corner is a vertex, and the gradients to positions are summed."""
    scene, to_vertices = _deodr_split(clip, faces, reference)
    colors = colors.astype(np.float64)

    def gradients(_, rendered):
        return to_vertices @ rendered.ij_b, rendered.colors_b.reshape(colors.shape)

    return _deodr_passes(lambda item: scene(item, colors), reference, gradients)


def deodr_flat(*, clip, faces, vertices, colors, reference, **_):
    """DEODR with vertex colours under jnr's default light, one normal per face.

    Its time includes the light and its gradient to vertices and colours, in NumPy.
    """
    scene, to_vertices = _deodr_split(clip, faces, reference)
    vertices, colors, direction = vertices.astype(np.float64), colors.astype(np.float64), np.array(DIRECTION)

    def light(item):
        corner = vertices[item][faces]
        first, second = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
        product = np.cross(first, second)
        length = np.sqrt(np.einsum("fi,fi->f", product, product))
        normal = product / length[:, None]
        return AMBIENT + DIRECTIONAL * np.maximum(normal @ direction, 0), (first, second, length, normal)

    def lit_scene(item):
        return scene(item, colors[faces] * light(item)[0][:, None, None])

    def gradients(item, rendered):
        received, (first, second, length, normal) = light(item)
        corners_b = rendered.colors_b.reshape(*faces.shape, -1)
        light_b = np.einsum("fkc,fkc->f", corners_b, colors[faces])
        normal_b = (DIRECTIONAL * light_b * (received > AMBIENT))[:, None] * direction
        product_b = (normal_b - normal * np.einsum("fi,fi->f", normal, normal_b)[:, None]) / length[:, None]
        first_b, second_b = np.cross(second, product_b), np.cross(product_b, first)
        vertices_b = to_vertices @ np.stack([-first_b - second_b, first_b, second_b], axis=1).reshape(-1, 3)
        colors_b = to_vertices @ (corners_b * received[:, None, None]).reshape(-1, colors.shape[-1])
        return to_vertices @ rendered.ij_b, vertices_b, colors_b

    return _deodr_passes(lit_scene, reference, gradients)


def _deodr_passes(scene, reference, gradients):
    """Forward, and forward with gradients, of the images of `scene(item)`."""

    def forward():
        return [scene(item).render()[0] for item in range(len(reference))]

    def both():
        results = []
        for item in range(len(reference)):
            rendered = scene(item)
            image, _ = rendered.render()
            rendered.clear_gradients()
            rendered.render_backward(2 * (image - reference[item]))
            results.append(gradients(item, rendered))
        return results

    return forward, both


def _deodr_split(clip, faces, reference):
    """The scene of an item with colours per corner, and the matrix that sums corners at their vertices."""
    from scipy.sparse import csr_matrix

    topology, size = _Topology(faces), reference.shape[1]
    pixels, w = _deodr_pixels(clip, size, size)
    entries = np.ones(faces.size), (faces.ravel(), np.arange(faces.size))
    to_vertices = csr_matrix(entries, shape=(clip.shape[1], faces.size))
    return (lambda item, colors: topology.scene(pixels[item], w[item], colors, size)), to_vertices


def _deodr_pixels(clip, height, width):
    """Image positions and depths."""
    w = clip[..., 3].astype(np.float64)
    return np.stack([(clip[..., 0] / w + 1) * width / 2 - 0.5, (1 - clip[..., 1] / w) * height / 2 - 0.5], axis=-1), w


def _deodr_scene(faces, pixels, depths, colors, edges, height, width, **texture):
    """DEODR's scene on a black background; `edges` says per face which are silhouettes, `texture` what is not zero."""
    from deodr.differentiable_renderer import Scene2D

    untextured = {
        "textured": np.zeros(len(faces), bool),
        "uv": np.zeros((len(pixels), 2)),
        "shade": np.zeros(len(pixels)),
        "shaded": np.zeros(len(faces), bool),
        "texture": np.zeros((0, 0)),
    }
    return Scene2D(
        faces=faces,
        faces_uv=faces,
        ij=pixels,
        depths=depths,
        colors=colors.astype(np.float64),
        edgeflags=edges,
        height=height,
        width=width,
        nb_colors=colors.shape[-1],
        background_color=np.zeros(colors.shape[-1]),
        backface_culling=True,
        **(untextured | texture),
    )


def deodr_image(clip, colors, *, faces, size):
    """Returns DEODR's image `(size, size, channels)` for JAX's transformations; a vmap calls DEODR image by image.

    `colors` are those of the faces' corners, `(faces, 3, channels)`. Back faces are culled. Gradients: reach `clip`
    and `colors`.
    """
    x, y, _, w = clip.T
    pixels = jnp.stack([(x / w + 1) * size / 2 - 0.5, (1 - y / w) * size / 2 - 0.5], axis=-1)
    return _deodr_image(_Topology(faces), size, pixels, w, colors)


class _Topology:
    """Faces, and the adjacencies that find silhouette edges."""

    def __init__(self, faces):
        from deodr.triangulated_mesh import TriMeshAdjacencies

        self.faces = np.asarray(faces, np.uint32)
        self.adjacencies = TriMeshAdjacencies(self.faces)

    def scene(self, pixels, depths, colors, size):
        """The scene of one image. A vertex has one colour in DEODR, so every corner is a vertex."""
        edges = self.adjacencies.edge_on_silhouette(pixels)
        corners = self.faces.ravel()
        split = np.arange(self.faces.size, dtype=np.uint32).reshape(-1, 3)
        return _deodr_scene(
            split, pixels[corners], depths[corners], colors.reshape(len(corners), -1), edges, size, size
        )


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _deodr_image(topology, size, pixels, depths, colors):
    def image(pixels, depths, colors):
        return topology.scene(pixels, depths, colors, size).render()[0]

    shape = jax.ShapeDtypeStruct((size, size, colors.shape[-1]), colors.dtype)
    return _callback(image, shape, pixels, depths, colors)


def _deodr_forward(topology, size, *operands):
    return _deodr_image(topology, size, *operands), operands


def _deodr_backward(topology, size, operands, cotangent):
    def gradients(pixels, depths, colors, cotangent):
        scene = topology.scene(pixels, depths, colors, size)
        scene.render()
        scene.clear_gradients()
        scene.render_backward(cotangent)
        grad = np.zeros_like(pixels)
        np.add.at(grad, topology.faces.ravel(), scene.ij_b)
        return grad, scene.colors_b.reshape(colors.shape)

    pixels, depths, colors = operands
    shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (pixels, colors))
    grad, grad_colors = _callback(gradients, shapes, *operands, cotangent)
    return grad, jnp.zeros_like(depths), grad_colors


_deodr_image.defvjp(_deodr_forward, _deodr_backward)


def _callback(function, shapes, *operands):
    """Calls a function of float64 NumPy arrays, once per item of a batch."""
    ranks = [operand.ndim for operand in operands]

    def batch(*operands):
        arrays = [np.asarray(operand, np.float64) for operand in operands]
        leading = np.broadcast_shapes(*(a.shape[: a.ndim - rank] for a, rank in zip(arrays, ranks, strict=True)))
        flat = [
            np.broadcast_to(a, leading + a.shape[a.ndim - rank :]).reshape(-1, *a.shape[a.ndim - rank :])
            for a, rank in zip(arrays, ranks, strict=True)
        ]
        results = [function(*items) for items in zip(*flat, strict=True)]

        def joined(shape, *items):
            return np.stack(items).reshape(*leading, *shape.shape).astype(shape.dtype)

        return jax.tree.map(joined, shapes, *results)

    return jax.pure_callback(batch, shapes, *operands, vmap_method="broadcast_all")


# Name -> (module that must be importable, functions by the kind of benchmarks/cpu.py whose work they do). "rgb" has no
# light in DEODR.
PEERS = {
    "DEODR": (
        "deodr",
        {
            "silhouette": deodr,
            "rgb": deodr,
            "unlit": deodr,
            "flat": deodr_flat,
            "flat, light outside": deodr_corners,
            "UV bilinear": deodr_uv,
        },
    )
}
