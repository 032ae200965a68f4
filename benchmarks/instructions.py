"""Counts the instructions that the warps of the Triton kernels execute, on an emulated GPU.

    python benchmarks/instructions.py [--level 4] [--size 128]

No GPU is needed. The workload is a sphere of 20 * 4^level faces with the loss sum((alpha - reference)^2), where the
reference is the silhouette shifted by three pixels, and the gradient with respect to three colours per face corner. The
kernels of the boundary follow those of the edge sweep, for the same silhouette. The floor is the time that a GPU takes
to issue the instructions without any stall.
"""

# pyright: reportMissingImports=false
import argparse
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import jax.numpy as jnp
import ptx_emulator

import jnr
from jnr._camera import transform
from jnr.triton_kernels import boundary, edge_sweep, gather, rasterize

# H100 and H200: multiprocessors * instructions issued per multiprocessor and cycle * cycles per second.
ISSUES_PER_SECOND = 132 * 4 * 1.755e9


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--level", type=int, default=4, help="subdivision level of the icosphere")
    parser.add_argument("--size", type=int, default=128, help="height and width of the image")
    options = parser.parse_args()
    mesh = jnr.shapes.icosphere(options.level)
    clip = transform(jnr.Camera().clip_from_world(1.0), mesh.vertices)[None]
    rasterize.PROGRAMS = 64  # few program instances, because idle ones are emulated too
    with ptx_emulator.emulated_gpu() as launches:
        size = {"height": options.size, "width": options.size}
        face_index = rasterize.rasterize(clip, mesh.faces[None], **size, cull=None)
        alpha = (face_index >= 0).astype(jnp.float32)[..., None]
        cotangent = 2 * (alpha - jnp.roll(alpha, 3, axis=2))
        edge_sweep.edge_sweep_bwd(alpha, cotangent, clip, mesh.faces[None], face_index, jnp.zeros((1, 0, 0)), eps=1e-3)
        mesh_and_index = clip, mesh.faces[None], face_index
        active = jnp.stack([alpha[..., 0] != jnp.roll(alpha[..., 0], -1, axis) for axis in (2, 1)], axis=1)
        crossings = boundary.boundary_crossings(*mesh_and_index, active)
        boundary.crossing_motion_bwd(active.astype(jnp.float32), crossings, *mesh_and_index, sums=1)
        colors = jnp.ones((1, options.size**2, 3))
        gather.weighted_scatter_add(colors, colors, face_index.reshape(1, -1, 1), rows=3 * mesh.faces.shape[0], sums=1)
    print(
        f"{mesh.faces.shape[0]} faces, {options.size} x {options.size}, {float((face_index >= 0).mean()):.0%} covered"
    )
    print("| kernel | instructions | floor, us | most frequent |\n|---|---|---|---|")
    for launch, executed in launches:
        total = executed.total()
        frequent = ", ".join(f"{name} {count / total:.0%}" for name, count in _short(executed).most_common(5))
        print(f"| {launch.name} | {total:,} | {1e6 * total / ISSUES_PER_SECOND:.2f} | {frequent} |")


def _short(executed):
    names = Counter()
    for name, count in executed.items():
        names[name.split(".")[0]] += count
    return names


if __name__ == "__main__":
    main()
