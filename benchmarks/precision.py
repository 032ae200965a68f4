"""Measures the errors of images and gradients in lower precisions relative to float64.

    python benchmarks/precision.py [--views 20] [--size 256] [--backend xla]

Meshes with vertex colours and two lights are seen from random directions. Each cell is the median over the views, with
the maximum in parentheses. Images are compared at pixels where both see the same face; colours are between 0 and 1. The
error of a gradient is the norm of the difference over the norm of the float64 gradient.
"""

import argparse
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jnr

MESHES = {"teapot, 2464 faces": jnr.shapes.teapot(6), "sphere, 20,480 faces": jnr.shapes.icosphere(5)}
PRECISIONS = {
    "float32": (jnp.float32, jnp.float32),
    "float16 vertices and colours": (jnp.float16, jnp.float16),
    "bfloat16 vertices and colours": (jnp.bfloat16, jnp.bfloat16),
    "bfloat16 colours": (jnp.float32, jnp.bfloat16),
}


class Result(NamedTuple):
    """Images and gradients of one view."""

    face_index: jax.Array
    barycentric: jax.Array
    depth: jax.Array
    rgb: jax.Array
    by_silhouette: jax.Array
    by_depth: jax.Array
    by_color: jax.Array


@partial(jax.jit, static_argnames=("size", "backend"))
def render_view(vertices, faces, colors, eye, target, size, backend):
    """Returns images and gradients of one view. The camera has the precision of the vertices, at least float32."""
    compute = jnp.promote_types(vertices.dtype, jnp.float32)
    fov, near, far = (jnp.asarray(x, compute) for x in (60, 0.1, 100))
    up = jnp.array([0, 1, 0], compute)
    camera = jnr.Camera(jnr.LookAt(eye.astype(compute), jnp.zeros(3, compute), up), jnr.Perspective(fov, near, far))
    options = {"camera": camera, "image_size": size, "backend": backend}

    def silhouette(vertices):
        return jnr.losses.silhouette_iou(jnr.render_silhouette(vertices, faces, **options), target.astype(compute))

    def shaded(moving):
        vertices, colors = moving
        color = jnp.asarray(1, compute)
        light = jnr.AmbientLight(color / 2, color), jnr.DirectionalLight(color / 2, color, jnp.ones(3, compute))
        rendering = jnr.render(vertices, faces, colors, lights=light, **options)
        return jnp.mean(rendering.depth), jnp.mean(rendering.rgb.astype(compute) ** 2), rendering

    clip = camera.clip_positions(vertices.astype(compute), 1.0)
    fragments = jnr.rasterize(clip, faces, size, backend=backend)
    return Result(
        fragments.face_index,
        fragments.barycentric,
        fragments.clip_w,
        shaded((vertices, colors))[2].rgb,
        jax.grad(silhouette)(vertices),
        jax.grad(lambda v: shaded((v, colors))[0])(vertices),
        jax.grad(lambda c: shaded((vertices, c))[1])(colors),
    )


def compare(result, exact):
    """Returns the values of the table's rows for one view."""
    result, exact = ([np.asarray(a, np.float64) for a in r] for r in (result, exact))
    covered = (result[0] >= 0) | (exact[0] >= 0)
    same = (exact[0] >= 0) & (result[0] == exact[0])
    barycentric, depth, rgb = (np.abs(result[k] - exact[k])[same] for k in (1, 2, 3))
    depth /= exact[2][same]
    rows = {"pixels with a different face": np.mean((result[0] != exact[0])[covered])}
    for name, error in (("barycentrics", barycentric), ("depth, relative", depth), ("rgb", rgb)):
        rows[f"{name}, mean"], rows[f"{name}, maximum"] = error.mean(), error.max()
    for k, name in enumerate(("vertices, silhouette", "vertices, depth", "colours"), start=4):
        rows[f"gradient to {name}"] = np.linalg.norm(result[k] - exact[k]) / np.linalg.norm(exact[k])
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=20)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument(
        "--backend", choices=["xla", "cpu", "triton"], help="backend of the lower precisions (default: None)"
    )
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print(
        f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {options.views} views, {options.size} x {options.size}"
    )
    for name, mesh in MESHES.items():
        rng = np.random.default_rng(0)
        tables = {precision: [] for precision in PRECISIONS}
        # All precisions round the same float32 values.
        vertices = np.asarray(mesh.vertices, np.float32)
        colors = rng.uniform(size=vertices.shape).astype(np.float32)
        for _ in range(options.views):
            eye = rng.normal(size=3)
            eye = (2.5 * eye / np.linalg.norm(eye)).astype(np.float32)
            target = rng.random((options.size, options.size)) < 0.5
            view = jnp.asarray(eye), jnp.asarray(target)
            wide = [jnp.asarray(a, jnp.float64) for a in (vertices, colors)]
            exact = render_view(wide[0], mesh.faces, wide[1], *view, options.size, None)
            for precision, (of_vertices, of_colors) in PRECISIONS.items():
                narrow = jnp.asarray(vertices).astype(of_vertices), jnp.asarray(colors).astype(of_colors)
                result = render_view(narrow[0], mesh.faces, narrow[1], *view, options.size, options.backend)
                tables[precision].append(compare(result, exact))
        print(f"\n| {name} | " + " | ".join(tables) + " |\n|---|" + "---|" * len(tables))
        for row in tables["float32"][0]:
            values = [[view[row] for view in views] for views in tables.values()]
            print(f"| {row} | " + " | ".join(f"{np.median(v):.1e} ({np.max(v):.1e})" for v in values) + " |")


if __name__ == "__main__":
    main()
