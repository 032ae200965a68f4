"""Other CPU renderers for benchmarks/cpu.py; each needs its own package.

Every function takes NumPy arrays: clip positions `(batch, vertices, 4)`, faces `(faces, 3)`, vertex colours
`(vertices, channels)` (ones for silhouettes), and reference images `(batch, height, width, channels)`. It returns two
functions without arguments: forward, and forward with the gradient of sum((image - reference)^2) with respect to the
image positions of the vertices and the colours.
"""

# pyright: reportMissingImports=false
import numpy as np


def deodr(clip, faces, colors, reference):
    """Rasterizer that antialiases silhouettes by edge overdraw; its gradient reaches one pixel from each edge.

    It uses one thread and renders images one after the other. Its time includes finding silhouette edges, but neither
    projection nor lighting.
    """
    from deodr.differentiable_renderer import Scene2D
    from deodr.triangulated_mesh import TriMeshAdjacencies

    height, width, channels = reference.shape[1:]
    faces = faces.astype(np.uint32)
    num_vertices, num_faces = clip.shape[1], len(faces)
    adjacencies = TriMeshAdjacencies(faces, nb_vertices=num_vertices)
    w = clip[..., 3].astype(np.float64)
    pixels = np.stack([(clip[..., 0] / w + 1) * width / 2 - 0.5, (1 - clip[..., 1] / w) * height / 2 - 0.5], axis=-1)

    def scene(item):
        return Scene2D(
            faces=faces,
            faces_uv=faces,
            ij=pixels[item],
            depths=w[item],
            textured=np.zeros(num_faces, bool),
            uv=np.zeros((num_vertices, 2)),
            shade=np.zeros(num_vertices),
            colors=colors.astype(np.float64),
            shaded=np.zeros(num_faces, bool),
            edgeflags=adjacencies.edge_on_silhouette(pixels[item]),
            height=height,
            width=width,
            nb_colors=channels,
            texture=np.zeros((0, 0)),
            background_color=np.zeros(channels),
            backface_culling=True,
        )

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


# Name -> (module that must be importable, function)
PEERS = {"DEODR": ("deodr", deodr)}
