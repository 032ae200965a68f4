"""Measures how time and memory scale with faces, pixels and batch, up to the largest supported workloads.

    python benchmarks/scaling.py [--repeats 15] [--out build/scaling]

The workloads render silhouettes of icospheres as in benchmarks/cpu.py, forward and forward with gradient. Each runs in
its own process, and the plot shows its peak memory minus that of the smallest workload. In the last series faces become
finer with the pixels, have random colours and are compared with noise: every pixel is active and every edge sweeps,
which is the worst case. The script writes scaling.json and scaling.png and prints the exponents of growth, fitted to
the last three points of each series.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

# Series -> (level of the icosphere, image size, batch) per workload
SERIES = {
    "faces": [(level, 256, 1) for level in (2, 3, 4, 5, 6, 7, 8)],
    "pixels": [(4, size, 1) for size in (64, 128, 256, 512, 1024, 2048, 4096)],
    "batch": [(2, 64, batch) for batch in (1, 4, 16, 64, 256, 1024)],
    "pixels and faces": [(level, 16 * 2**level, 1) for level in (3, 4, 5, 6)],
}
SIZES = {
    "faces": lambda level, size, batch: 20 * 4**level,
    "pixels": lambda level, size, batch: size**2,
    "batch": lambda level, size, batch: batch,
    "pixels and faces": lambda level, size, batch: size**2,
}
TITLES = ("icosphere, 256 x 256", "5120 faces, one image", "320 faces, 64 x 64, vmap", "random colours against noise")


def run(case, in_colour, repeats):
    """Measures one workload in this process; prints milliseconds, compile time in seconds and peak memory in MiB."""
    import jax
    import jax.numpy as jnp
    from cpu import measure, peak_mib

    import jnr

    level, size, batch = case
    mesh = jnr.shapes.icosphere(level)
    camera = jnr.Camera(jnr.LookAt((1.62, 1.3, 1.77)))

    colors = jax.random.uniform(jax.random.key(0), mesh.vertices.shape)

    def image(vertices):
        if in_colour:
            return jnr.render(vertices, mesh.faces, colors, lights=(), camera=camera, image_size=size).rgb
        return jnr.render_silhouette(vertices, mesh.faces, camera=camera, image_size=size)

    vertices = mesh.vertices * jnp.linspace(0.8, 1.1, batch)[:, None, None]
    if in_colour:
        reference = jax.random.uniform(jax.random.key(1), (size, size, 3))
    else:
        reference = jax.jit(image)(mesh.vertices * jnp.array([1.1, 0.8, 1.0]))

    def loss(vertices):
        return jnp.sum((jax.vmap(image)(vertices) - reference) ** 2)

    start = time.perf_counter()
    forward = jax.jit(jax.vmap(image)).lower(vertices).compile()
    both = jax.jit(jax.value_and_grad(loss)).lower(vertices).compile()
    compile_s = time.perf_counter() - start
    _, gradient = both(vertices)
    assert bool(jnp.isfinite(gradient).all())
    assert bool((gradient != 0).any())
    forward_ms, both_ms = (float(measure([lambda f=f: f(vertices)], repeats)[0]) for f in (forward, both))
    print(json.dumps({"forward_ms": forward_ms, "both_ms": both_ms, "compile_s": compile_s, "peak_mib": peak_mib()}))


def exponent(sizes, values):
    return float(np.polyfit(np.log(sizes[-3:]), np.log(values[-3:]), 1)[0])


def plot(results, path):
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, len(SERIES), figsize=(14, 6), sharex="col", layout="constrained")
    for (above, below), (series, cases) in zip(panels.T, results.items(), strict=True):
        sizes = [case[series] for case in cases]
        for name, label, style in (("forward_ms", "forward", "o-"), ("both_ms", "forward + backward", "s-")):
            above.loglog(sizes, [case[name] for case in cases], style, label=label)
        smallest = min(case["peak_mib"] for case in cases)
        below.loglog(sizes[1:], [max(case["peak_mib"] - smallest, 0.1) for case in cases][1:], "^-", color="tab:green")
        below.set_xlabel(series)
        for panel in (above, below):
            panel.grid(visible=True, which="major", alpha=0.3)
    panels[0, 0].set_ylabel("milliseconds")
    panels[1, 0].set_ylabel("MiB beyond the smallest")
    for panel, title in zip(panels[0], TITLES, strict=True):
        panel.set_title(title)
    panels[0, 0].legend()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("build/scaling"))
    parser.add_argument("--case", type=int, nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--colour", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        run(options.case, options.colour, options.repeats)
        return
    results = {}
    for series, cases in SERIES.items():
        results[series] = []
        for case in cases:
            command = [sys.executable, __file__, "--repeats", str(options.repeats), "--case", *map(str, case)]
            command += ["--colour"] * (series == "pixels and faces")
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            results[series].append({series: SIZES[series](*case), **json.loads(output.splitlines()[-1])})
            print(series, {name: round(value, 2) for name, value in results[series][-1].items()}, flush=True)
        sizes = [case[series] for case in results[series]]
        for name in ("forward_ms", "both_ms"):
            print(
                f"{series}: {name} grows with exponent {exponent(sizes, [case[name] for case in results[series]]):.2f}"
            )
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "scaling.json").write_text(json.dumps(results, indent=1))
    plot(results, options.out / "scaling.png")


if __name__ == "__main__":
    main()
