"""Other GPU renderers for benchmarks/gpu.py, which render silhouettes; each needs PyTorch and its own package.

Every function takes clip positions `(batch, vertices, 4)`, faces `(faces, 3)` and the reference silhouette
`(height, width)` as NumPy arrays. It returns the median milliseconds of `forward` and of `both`, which includes the
gradient of sum((alpha - reference)^2) with respect to the clip positions (Neural Renderer: its screen positions).
"""

# pyright: reportMissingImports=false
import statistics


def nvdiffrast(clip, faces, reference):
    """Rasterize, interpolate, antialias; the gradient reaches one pixel from each silhouette edge."""
    import nvdiffrast.torch as dr
    import torch

    context = dr.RasterizeCudaContext()
    clip, faces, reference = _cuda(clip, faces, reference)
    faces = faces.int()
    size = list(reference.shape)
    ones = torch.ones_like(clip[:1, :, :1])
    # The hash depends on the faces alone. A call without it builds it again.
    topology = dr.antialias_construct_topology_hash(faces)

    def render(clip):
        fragments, _ = dr.rasterize(context, clip, faces, resolution=size)
        alpha, _ = dr.interpolate(ones, fragments, faces)
        return dr.antialias(alpha, fragments, clip, faces, topology_hash=topology)[..., 0]

    return _time(render, clip, reference.flip(0))


def drtk(clip, faces, reference):
    """Rasterize, render, edge gradient; the gradient reaches one pixel from each edge."""
    import drtk as peer
    import torch

    clip, faces, reference = _cuda(clip, faces, reference)
    faces = faces.int()
    height, width = reference.shape

    def render(clip):
        w = clip[..., 3:]
        pixels = (clip[..., :2] / w * torch.tensor([1, -1], device=clip.device) + 1) * torch.tensor(
            [width / 2, height / 2], device=clip.device
        ) - 0.5
        v = torch.cat([pixels, w], dim=-1)
        index = peer.rasterize(v, faces, height=height, width=width)
        _, barycentric = peer.render(v, faces, index)
        alpha = (index >= 0).float()[:, None]
        return peer.edge_grad_estimator(v_pix=v, vi=faces, bary_img=barycentric, img=alpha, index_img=index)[:, 0]

    return _time(render, clip, reference)


def neural_renderer(clip, faces, reference):
    """The PyTorch port with both windings, as with its `fill_back`, and without antialiasing."""
    import neural_renderer as peer
    import torch

    clip, faces, reference = _cuda(clip, faces, reference)
    faces = torch.cat([faces, faces.flip(1)])[None].expand(clip.shape[0], -1, -1).contiguous().int()
    screen = torch.cat([clip[..., :2] / clip[..., 3:], clip[..., 3:]], dim=-1)

    def render(screen):
        triangles = peer.vertices_to_faces(screen, faces)
        return peer.rasterize_silhouettes(triangles, reference.shape[0], anti_aliasing=False)

    return _time(render, screen, reference)


# Name -> (module that must be importable, function)
PEERS = {
    "nvdiffrast": ("nvdiffrast", nvdiffrast),
    "DRTK": ("drtk", drtk),
    "Neural Renderer (PyTorch)": ("neural_renderer", neural_renderer),
}


def _cuda(*arrays):
    import torch

    return [torch.from_numpy(array.copy()).cuda() for array in arrays]


def _time(render, positions, reference, repeats=20, inner=10):
    import torch

    def both():
        leaf = positions.detach().requires_grad_()
        ((render(leaf) - reference) ** 2).sum().backward()
        return leaf.grad

    def forward():
        with torch.no_grad():
            return render(positions)

    medians = {}
    for name, function in (("forward", forward), ("both", both)):
        for _ in range(3):
            function()
        times = []
        for _ in range(repeats):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(inner):
                function()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end) / inner)
        medians[name] = statistics.median(times)
    return medians
