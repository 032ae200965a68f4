"""Other CPU renderers for benchmarks/cpu.py and benchmarks/tasks.py; each needs its own package.

Every function of `PEERS` takes NumPy arrays: clip positions `(batch, vertices, 4)`, faces `(faces, 3)`, vertex colours
`(vertices, channels)` (ones for silhouettes), and reference images `(batch, height, width, channels)`. It returns two
functions without arguments: forward, and forward with the gradient of sum((image - reference)^2) with respect to the
image positions of the vertices and the colours.
"""

# pyright: reportMissingImports=false
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np


def deodr(clip, faces, colors, reference):
    """Rasterizer that antialiases silhouettes by edge overdraw; its gradient reaches one pixel from each edge.

    It uses one thread and renders images one after the other. Its time includes finding silhouette edges, but neither
    projection nor lighting.
    """
    from deodr.triangulated_mesh import TriMeshAdjacencies

    height, width = reference.shape[1:3]
    faces = faces.astype(np.uint32)
    adjacencies = TriMeshAdjacencies(faces, nb_vertices=clip.shape[1])
    w = clip[..., 3].astype(np.float64)
    pixels = np.stack([(clip[..., 0] / w + 1) * width / 2 - 0.5, (1 - clip[..., 1] / w) * height / 2 - 0.5], axis=-1)

    def scene(item):
        edges = adjacencies.edge_on_silhouette(pixels[item])
        return _deodr_scene(faces, pixels[item], w[item], colors, edges, height, width)

    def forward():
        return [scene(item).render()[0] for item in range(len(clip))]

    def both():
        gradients = []
        for item in range(len(clip)):
            rendered = scene(item)
            image, _ = rendered.render()
            rendered.clear_gradients()
            rendered.render_backward(2 * (image - reference[item]))
            gradients.append((rendered.ij_b, rendered.colors_b))
        return gradients

    return forward, both


def _deodr_scene(faces, pixels, depths, colors, edges, height, width):
    """DEODR's scene without textures on a black background; `edges` says per face which are silhouettes."""
    from deodr.differentiable_renderer import Scene2D

    return Scene2D(
        faces=faces,
        faces_uv=faces,
        ij=pixels,
        depths=depths,
        textured=np.zeros(len(faces), bool),
        uv=np.zeros((len(pixels), 2)),
        shade=np.zeros(len(pixels)),
        colors=colors.astype(np.float64),
        shaded=np.zeros(len(faces), bool),
        edgeflags=edges,
        height=height,
        width=width,
        nb_colors=colors.shape[-1],
        texture=np.zeros((0, 0)),
        background_color=np.zeros(colors.shape[-1]),
        backface_culling=True,
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


# Name -> (module that must be importable, function)
PEERS = {"DEODR": ("deodr", deodr)}
