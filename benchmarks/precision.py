"""Measures how far pictures and gradients of lower precision are from those of float64.

    python benchmarks/precision.py [--views 20] [--size 256] [--backend xla]

Meshes seen from random directions, with coloured vertices and two lights. Printed is the median of the views, and in
brackets the worst. Images are compared where both show the same face, colours being between 0 and 1. Gradients: norm of
the difference over the norm of float64's.
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
    """Of one view."""

    face_index: jax.Array
    barycentric: jax.Array
    depth: jax.Array
    rgb: jax.Array
    by_silhouette: jax.Array
    by_depth: jax.Array
    by_color: jax.Array


@partial(jax.jit, static_argnames=("size", "backend"))
def draw(vertices, faces, colors, eye, target, size, backend):
    """Picture and gradients of one view; the camera has the vertices' precision, float32 at least."""
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
        picture = jnr.render(vertices, faces, colors, lights=light, **options)
        return jnp.mean(picture.depth), jnp.mean(picture.rgb.astype(compute) ** 2), picture

    clip = camera.clip_positions(vertices.astype(compute), 1.0)
    fragments = jnr.rasterize(clip, faces, size, backend=backend)
    return Result(
        fragments.face_index,
        fragments.barycentric,
        fragments.depth,
        shaded((vertices, colors))[2].rgb,
        jax.grad(silhouette)(vertices),
        jax.grad(lambda v: shaded((v, colors))[0])(vertices),
        jax.grad(lambda c: shaded((vertices, c))[1])(colors),
    )


def compare(result, exact):
    """The rows of the table for one view."""
    result, exact = ([np.asarray(a, np.float64) for a in r] for r in (result, exact))
    covered = (result[0] >= 0) | (exact[0] >= 0)
    same = (exact[0] >= 0) & (result[0] == exact[0])
    barycentric, depth, rgb = (np.abs(result[k] - exact[k])[same] for k in (1, 2, 3))
    depth /= exact[2][same]
    rows = {"pixels with another face": np.mean((result[0] != exact[0])[covered])}
    for name, error in (("barycentrics", barycentric), ("depth, relative", depth), ("rgb", rgb)):
        rows[f"{name}, mean"], rows[f"{name}, largest"] = error.mean(), error.max()
    for k, name in enumerate(("vertices, silhouette", "vertices, depth", "colours"), start=4):
        rows[f"gradient to {name}"] = np.linalg.norm(result[k] - exact[k]) / np.linalg.norm(exact[k])
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=20)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--backend", choices=["xla", "cpu", "triton"], help="of the lower precisions; default: None")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print(
        f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {options.views} views, {options.size} x {options.size}"
    )
    for name, mesh in MESHES.items():
        rng = np.random.default_rng(0)
        tables = {precision: [] for precision in PRECISIONS}
        # The same numbers in all precisions, as far as these can hold them.
        vertices = np.asarray(mesh.vertices, np.float32)
        colors = rng.uniform(size=vertices.shape).astype(np.float32)
        for _ in range(options.views):
            eye = rng.normal(size=3)
            eye = (2.5 * eye / np.linalg.norm(eye)).astype(np.float32)
            target = rng.random((options.size, options.size)) < 0.5
            view = jnp.asarray(eye), jnp.asarray(target)
            wide = [jnp.asarray(a, jnp.float64) for a in (vertices, colors)]
            exact = draw(wide[0], mesh.faces, wide[1], *view, options.size, None)
            for precision, (of_vertices, of_colors) in PRECISIONS.items():
                narrow = jnp.asarray(vertices).astype(of_vertices), jnp.asarray(colors).astype(of_colors)
                result = draw(narrow[0], mesh.faces, narrow[1], *view, options.size, options.backend)
                tables[precision].append(compare(result, exact))
        print(f"\n| {name} | " + " | ".join(tables) + " |\n|---|" + "---|" * len(tables))
        for row in tables["float32"][0]:
            values = [[view[row] for view in views] for views in tables.values()]
            print(f"| {row} | " + " | ".join(f"{np.median(v):.1e} ({np.max(v):.1e})" for v in values) + " |")


if __name__ == "__main__":
    main()
