"""Measures the run time of rendering on a CPU: forward, and forward with gradient.

    python benchmarks/cpu.py [--set shading] [--repeats 30] [--threads 1] [--backend xla] [--memory] [--json cpu.json]

Workloads render silhouettes with the loss sum((alpha - reference)^2) and its gradient with respect to the vertices.
Workloads with "rgb" in their names render vertex colours under jnr's default light, with the same loss of all channels
in the form of `jnr.losses.squared_error`, and include the gradient with respect to the colours. The reference is the
same mesh, turned and stretched. "jnr" has the default gradient, the edge sweep, and "jnr, boundary" the boundary
gradient, with the derivative inside faces. Times are medians after warm-up. Other renderers that can be imported
(pip install "jnr[benchmarks]") run the same workloads, alternating with jnr call by call.

With --set shading, the rows of a workload are kinds of shading and textures (`kinds`), and gradients reach the vertices
and all textures: vertex colours; texels and texture coordinates; texture cubes. "it/unlit" is the ratio to vertex
colours without light on the same mesh. The row of a peer names the row of jnr whose work it does, and "jnr/it" is the
ratio between the two.

"floor" is a lower bound of the time: the bytes that must be moved at the rate of a copy, or the arithmetic at the rate
of a matrix product, whichever takes longer, both measured on the same processors (see `floor_ms`). With --memory each
workload runs once more in its own process, and the peak memory of that whole process is printed.
"""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

WARM_UP = 0.5  # seconds
# jnr's gradients by the names of the rows.
GRADIENTS = {"jnr": "edge_sweep", "jnr, boundary": "boundary"}
# Rows of the shading set: name -> (kind, gradient).
SHADING: dict[str, tuple[str, str | None]] = {
    kind: (kind, "edge_sweep")
    for kind in ("unlit", "flat", "flat, light outside", "smooth", "Phong", "cubes", "UV bilinear", "UV trilinear")
}
SHADING["UV trilinear, gradient=None"] = "UV trilinear", None


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=["silhouettes", "shading"], default="silhouettes", help="of workloads")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, help="number of processors (default: all)")
    parser.add_argument("--backend", choices=["xla", "cpu"], help="default: the C++ kernels where they are built")
    parser.add_argument("--only", default="", help="run only workloads whose names contain this text")
    parser.add_argument("--memory", action="store_true", help="measure peak memory too; Linux only")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--arrays", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


class Workload(NamedTuple):
    """A mesh, how it is rendered, and the rows that are measured with alternating calls."""

    name: str
    mesh: Any
    size: int
    batch: int | None
    rows: dict[str, tuple[str, str | None]]  # of jnr: name -> (kind, gradient)


def workloads(jnr, chosen_set):
    """Yields the workloads of a set."""
    ball = jnr.shapes.icosphere
    teapot = jnr.shapes.teapot(6)

    def work(name, mesh, size, batch=None, kind="silhouette"):
        return Workload(name, mesh, size, batch, {row: (kind, gradient) for row, gradient in GRADIENTS.items()})

    def shading(name, mesh, size, rows=tuple(SHADING)):
        return Workload(name, mesh, size, None, {row: SHADING[row] for row in rows})

    if chosen_set == "shading":
        yield shading("teapot, 256 x 256", teapot, 256, ("unlit", "flat", "flat, light outside"))
        yield shading("5120 faces, 256 x 256", ball(4), 256)
        yield shading("81,920 faces, 256 x 256", ball(6), 256)
        yield shading("327,680 faces, 256 x 256", ball(7), 256)
        yield shading("5120 faces, 1024 x 1024", ball(4), 1024, ("unlit", "flat", "UV bilinear", "UV trilinear"))
        return
    yield work("teapot, 256 x 256", teapot, 256)
    yield work("teapot, rgb, 256 x 256", teapot, 256, kind="rgb")
    yield work("8 x 5120 faces, 64 x 64", ball(4), 64, 8)
    yield work("8 x 5120 faces, 128 x 128", ball(4), 128, 8)
    yield work("320 faces, 256 x 256", ball(2), 256)
    yield work("5120 faces, 256 x 256", ball(4), 256)
    yield work("20,480 faces, 256 x 256", ball(5), 256)
    yield work("81,920 faces, 256 x 256", ball(6), 256)
    yield work("327,680 faces, 256 x 256", ball(7), 256)
    yield work("5120 faces, 512 x 512", ball(4), 512)
    yield work("5120 faces, 1024 x 1024", ball(4), 1024)


class Kind(NamedTuple):
    """What is rendered: textures and an image of them."""

    textures: Callable  # of a mesh and the image size: arrays by name, colours first
    image: Callable  # of vertices, faces, textures and jnr's settings
    parts: tuple[str, ...] = ()  # what the floor counts in addition to a silhouette


def kinds(jnr):
    """Returns every `Kind` by name. Textures are noise; the light is jnr's default."""

    def noise(*shape):
        return np.random.default_rng(0).uniform(size=shape).astype(np.float32)

    def colored(*parts, **options):
        def image(vertices, faces, textures, **settings):
            return jnr.render(vertices, faces, textures["colors"], **options, **settings).rgb

        return Kind(lambda mesh, _: {"colors": noise(*mesh.vertices.shape)}, image, ("weights", "colors", *parts))

    def silhouette(vertices, faces, _, **settings):
        return jnr.render_silhouette(vertices, faces, **settings)[..., None]

    def lit_outside(vertices, faces, textures, **settings):
        options = {"lights": (), "shader": lambda surface: surface.attributes}
        return jnr.render(vertices, faces, attributes=textures["colors"], **options, **settings).rgb

    def mapped(filter):
        def image(vertices, faces, textures, **settings):
            texture = jnr.UVTexture(textures["texels"], textures["uv"], filter=filter)
            return jnr.render(vertices, faces, texture, lights=(), **settings).rgb

        # As many texels as pixels: one per pixel at the centre of the ball, more towards its edge.
        return Kind(
            lambda mesh, size: {"texels": noise(size, size, 3), "uv": np.asarray(mesh.vertices)[:, :2] * 0.5 + 0.5},
            image,
            ("weights", "uv", filter),
        )

    smooth = {"normals": "smooth"}
    unlit, flat = colored(lights=()), colored("flat")
    return {
        "silhouette": Kind(lambda mesh, _: {"colors": np.ones((len(mesh.vertices), 1), np.float32)}, silhouette),
        "rgb": flat._replace(parts=()),
        "unlit": unlit,
        "flat": flat,
        "flat, light outside": Kind(lambda mesh, _: {"colors": noise(*mesh.faces.shape, 3)}, lit_outside, unlit.parts),
        "smooth": colored("smooth", **smooth),
        "Phong": colored("smooth", "specular", shader=jnr.Phong(), **smooth),
        "UV bilinear": mapped("bilinear"),
        "UV trilinear": mapped("trilinear"),
        "cubes": unlit._replace(
            textures=lambda mesh, _: {"colors": noise(len(mesh.faces), 2, 2, 2, 3)}, parts=("weights", "cubes")
        ),
    }


def measure(functions, repeats):
    """Returns the median milliseconds per call of each function.

    Calls alternate between the functions in random order, since a call finds the caches as the last one left them.
    """
    import jax

    shuffled = np.random.default_rng(0).permutation
    start = time.perf_counter()
    while time.perf_counter() - start < WARM_UP * len(functions):
        for function in functions:
            jax.block_until_ready(function())
    times = np.empty((repeats, len(functions)))
    for row in times:
        for k in shuffled(len(functions)):
            start = time.perf_counter()
            jax.block_until_ready(functions[k]())
            row[k] = time.perf_counter() - start
    return 1e3 * np.median(times, axis=0)


def build(jnr, work, row, backend):
    """Returns jitted forward and value-and-gradient functions, their arguments, and the arrays for other renderers."""
    import jax
    import jax.numpy as jnp

    camera = jnr.Camera(jnr.LookAt((1.62, 1.3, 1.77)))  # 2.732 from the origin
    (name, gradient), mesh = work.rows[row], work.mesh
    kind = kinds(jnr)[name]

    def image(vertices, textures):
        settings = {"camera": camera, "image_size": work.size, "backend": backend, "gradient": gradient}
        return kind.image(vertices, mesh.faces, textures, **settings)

    vertices, textures = mesh.vertices, jax.tree.map(jnp.asarray, kind.textures(mesh, work.size))
    if work.batch:
        vertices = jnp.stack([vertices * (0.9 + 0.02 * i) for i in range(work.batch)])
        image = jax.vmap(image, in_axes=(0, None))
    reference = jax.jit(image)(jnp.roll(vertices, 1, axis=-1) * jnp.array([1.1, 0.8, 1.0]), textures)

    def loss(vertices, textures):
        rendered = image(vertices, textures)
        if name == "silhouette":
            return jnp.sum((rendered - reference) ** 2)
        return rendered.size * jnr.losses.squared_error(rendered, reference)

    both = jax.value_and_grad(loss, argnums=0 if name == "silhouette" else (0, 1))
    batched = vertices if work.batch else vertices[None]
    arrays = {
        **textures,
        "vertices": batched,
        "clip": jax.vmap(camera.clip_positions)(batched),
        "faces": mesh.faces,
        "reference": reference.reshape(-1, *reference.shape[-3:]),
    }
    return jax.jit(image), jax.jit(both), (vertices, textures), {k: np.asarray(array) for k, array in arrays.items()}


def rates(threads):
    """Returns bytes per second of 4 MiB copies, one per thread, and operations per second of a matrix product."""
    import jax
    import jax.numpy as jnp

    source, target, square = np.ones(2**20, np.float32), np.ones(2**20, np.float32), jnp.ones((1024, 1024))
    product = jax.jit(lambda x: x @ x)
    copy_ms, product_ms = measure([lambda: np.copyto(target, source), lambda: product(square)], 20)
    return threads * 2 * source.nbytes / copy_ms * 1e3, 2 * 1024**3 / product_ms * 1e3


# What shading and textures with three channels add to a silhouette: bytes, and operations, per vertex, face, pixel and
# texel. A texel is one colour of the texture: of a vertex, a corner, an image or a cube.
COUNTS = {
    "weights": ((0, 0, 36, 0), (0, 0, 10, 0)),
    "colors": ((0, 0, 0, 12), (0, 0, 36, 0)),
    "flat": ((36, 40, 8, 0), (0, 90, 12, 0)),
    "smooth": ((84, 24, 0, 0), (30, 110, 96, 0)),
    "specular": ((24, 0, 0, 0), (0, 0, 150, 0)),
    "uv": ((16, 0, 0, 0), (0, 0, 24, 0)),
    "bilinear": ((0, 0, 0, 12), (0, 0, 92, 0)),
    "trilinear": ((0, 0, 0, 28), (0, 0, 280, 8)),
    "cubes": ((0, 0, 0, 12), (0, 0, 200, 0)),
}


def floor_ms(parts, num_vertices, num_faces, pixels, num_texels, channels, images, bytes_per_s, operations_per_s):
    """Returns a lower bound of forward + backward in milliseconds, if each use of an array touches it once.

    Bytes per vertex: the position is read, the clip position is written and read by rasterizer and sweep, and the same
    in the backward pass. Bytes per face: its indices in rasterizer and sweep. Bytes per pixel: the face index is
    written, and read for the image and along both axes of the sweep; image, reference and cotangent, two of which the
    sweep reads along both axes. Operations: two matrix products per vertex; edges, plane and bounds per face; per pixel
    three edges, one depth, the loss and one step of the sweep. Pixels that crossings sum over and hidden faces are not
    counted.

    `COUNTS` has what `parts` add. Of textures it counts the gradient, which is written as a whole, and not what is
    read, since hidden parts need not be.

    - weights: barycentrics per pixel, written and read in both passes.
    - colors: interpolation, forward and backward.
    - flat: per vertex the position is read in both passes and its gradient written; per face the indices are read in
      both passes, light and cotangent written and read; per pixel the light is read in both passes. Operations: normal,
      cosine and their derivatives per face, the product with the light per pixel.
    - smooth: flat's bytes per vertex, and the sum of normals and its cotangent, written and read; per face the indices
      in both passes. Operations: normals per face and vertex; per pixel interpolation, unit length and cosine.
    - specular: positions are read and their gradient written. Operations per pixel: position, direction of the viewer,
      mirrored light, power.
    - uv: coordinates are read and their gradient written. Operations per pixel: interpolation.
    - bilinear, trilinear: four or eight texels per pixel with the derivatives of their weights; the level per pixel;
      coarser levels (a third of the texels) and their gradients, written and read.
    - cubes: eight texels per pixel with the derivatives of their weights.
    """
    counts = [((104, 24, 16 + 32 * channels, 0), (100, 150, 30 + 10 * channels, 0)), *(COUNTS[part] for part in parts)]
    moved, operations = np.sum(counts, axis=0) @ (num_vertices, num_faces, pixels, num_texels)
    return 1e3 * images * max(moved / bytes_per_s, operations / operations_per_s)


def peak_mib():
    """Returns the peak memory of this process; the resource usage of a child may include its parent's."""
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


def run_in_this_process(chosen):
    """Runs the workload of one renderer three times in this process and prints its peak memory in MiB."""
    if chosen.arrays:
        from cpu_peers import PEERS

        peer, _, kind = chosen.alone.partition(", ")
        with np.load(chosen.arrays) as arrays:
            _, both = PEERS[peer][1][kind](**arrays)
        for _ in range(3):
            both()
    else:
        import jax

        import jnr

        (work,) = (work for work in workloads(jnr, chosen.set) if work.name == chosen.only)
        _, both, arguments, _ = build(jnr, work, chosen.alone, chosen.backend)
        for _ in range(3):
            jax.block_until_ready(both(*arguments))
    print(peak_mib())


def peak_memory(renderer, work, chosen, arrays=None):
    """Returns the peak memory in MiB of a renderer that runs a workload in its own process; peers run on arrays."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--alone", renderer, "--set", chosen.set, "--only", work.name]
        command += ["--backend", chosen.backend] if chosen.backend else []
        if arrays:
            file = Path(folder) / "arrays.npz"
            np.savez(file, **arrays)
            command += ["--arrays", str(file)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


class Row(NamedTuple):
    """What is measured of one renderer and one kind."""

    calls: tuple[Callable, Callable]  # forward, and forward with the gradient
    like: str  # jnr's row of the same work
    memory: Callable  # peak memory in MiB
    own: dict[str, float]  # results of jnr only


def rows_of(jnr, work, chosen, speeds):
    """Returns the rows of a workload by name: jnr's, and those of the other renderers that can be imported."""
    from cpu_peers import PEERS

    shading = chosen.set == "shading"
    rows, peers = {}, {}
    for name, (kind, _) in work.rows.items():
        *functions, arguments, arrays = build(jnr, work, name, chosen.backend)
        compiled, seconds = [], []
        for function in functions:
            start = time.perf_counter()
            compiled.append(function.lower(*arguments).compile())
            seconds.append(time.perf_counter() - start)
        channels, colors = arrays["reference"].shape[-1], next(iter(arguments[1].values()))
        count = len(work.mesh.vertices), len(work.mesh.faces), work.size**2, colors.size // channels
        floor = floor_ms(kinds(jnr)[kind].parts, *count, channels, work.batch or 1, *speeds)
        own = {"compile_s": round(sum(seconds), 2), "compile_both_s": round(seconds[1], 2), "floor_ms": round(floor, 3)}
        forward, both = (lambda f=f, a=arguments: f(*a) for f in compiled)
        like = name if shading else next(iter(work.rows))
        rows[name] = Row((forward, both), like, partial(peak_memory, name, work, chosen), own)
        for peer, (module, makers) in PEERS.items():
            label = f"{peer}, {name}" if shading else peer
            if label not in peers and kind in makers and importlib.util.find_spec(module):
                memory = partial(peak_memory, f"{peer}, {kind}", work, chosen, arrays)
                peers[label] = Row(makers[kind](**arrays), like, memory, {})
    return rows | peers


def main():
    chosen = options()
    if chosen.alone:
        run_in_this_process(chosen)
        return
    if chosen.threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: chosen.threads])
    # Imported after the number of processors is set: XLA reads it once.
    import jax

    import jnr

    threads = len(os.sched_getaffinity(0))
    print(f"jax {jax.__version__}, {platform.processor() or platform.machine()}, {threads} processors")
    speeds = bytes_per_s, operations_per_s = rates(threads)
    print(f"copy {bytes_per_s / 1e9:.0f} GB/s, matrix product {operations_per_s / 1e9:.0f} GFLOP/s")
    results = []
    for work in workloads(jnr, chosen.set):
        if chosen.only not in work.name:
            continue
        rows = rows_of(jnr, work, chosen, speeds)
        times = measure([call for row in rows.values() for call in row.calls], chosen.repeats).reshape(-1, 2)
        forward_ms, both_ms = (dict(zip(rows, column, strict=True)) for column in times.T)
        for name, row in rows.items():
            result = {
                "workload": work.name,
                "renderer": name,
                "threads": threads,
                "forward_ms": round(float(forward_ms[name]), 3),
                "forward_backward_ms": round(float(both_ms[name]), 3),
                "jnr_over_it": round(float(both_ms[row.like] / both_ms[name]), 3),
                **row.own,
            }
            ratio = f"jnr/it {result['jnr_over_it']:5.2f}"
            if "unlit" in rows:
                result["it_over_unlit"] = round(float(both_ms[name] / both_ms["unlit"]), 3)
                ratio = f"it/unlit {result['it_over_unlit']:5.2f}   {ratio}"
            if chosen.memory:
                result["peak_mib"] = round(row.memory())
            results.append(result)
            print(
                f"{work.name:26} {name:{max(map(len, rows))}} forward {forward_ms[name]:8.2f} ms   "
                f"forward+backward {both_ms[name]:8.2f} ms   {ratio}"
                + (
                    f"   floor {row.own['floor_ms']:5.2f} ms   compiled in {row.own['compile_s']:.1f} s"
                    if row.own
                    else ""
                )
                + (f"   peak {result['peak_mib']} MiB" if chosen.memory else ""),
                flush=True,
            )
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
