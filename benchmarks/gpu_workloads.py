"""What benchmarks/gpu.py measures: workloads, their programs, and the results to compare with.

A program takes `(positions, faces, reference)`, so that an exported file holds no mesh. The C++ kernels compute the
results to compare with, from the same clip positions and colours. Neither they nor the Triton kernels contract products
and sums, so that faces must be equal exactly, and gradients up to the order of their sums.
"""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jnr
from jnr._camera import transform
from jnr._ops import cpp

# The exported programs are compiled for compute capability 9.0, an H100 or H200.
CAPABILITY = 90


class Workload(NamedTuple):
    """A mesh in a number of sizes, drawn into square images."""

    name: str
    mesh: Callable[[], Any]
    size: int
    batch: int = 1
    kind: str = "silhouette"

    def file(self, folder: Path, suffix: str) -> Path:
        """The file of this workload in a folder."""
        return folder / f"{self.name.replace(',', '').replace(' ', '_')}.{suffix}"


def icosphere(level):
    return functools.partial(jnr.shapes.icosphere, level)


def turned_cube():
    """A cube whose edges are parallel to no row or column of the image."""
    cube = jnr.shapes.cube()
    turn, _ = np.linalg.qr([[0.8, 0.5, -0.3], [-0.5, 0.7, 0.4], [0.4, -0.2, 0.9]])
    return cube._replace(vertices=np.asarray(cube.vertices @ turn, np.float32))


# In order of importance: what runs last may run out of time.
WORKLOADS = [
    Workload("5120 faces, 1024", icosphere(4), 1024),
    Workload("5120 faces, 256", icosphere(4), 256),
    Workload("64 x 5120 faces, 128", icosphere(4), 128, 64),
    Workload("cube, rgb, 1024", turned_cube, 1024, 1, "rgb"),
    Workload("38,916 faces, 1024", functools.partial(jnr.shapes.uv_sphere, 139, 141), 1024),
    Workload("5120 faces, boundary, 1024", icosphere(4), 1024, 1, "boundary"),
    Workload("5120 faces, 2048", icosphere(4), 2048),
    Workload("teapot, 256", functools.partial(jnr.shapes.teapot, 6), 256),
    Workload("5120 faces, rgb, 1024", icosphere(4), 1024, 1, "rgb"),
    Workload("327,680 faces, 1024", icosphere(7), 1024),
    Workload("5120 faces, 64", icosphere(4), 64),
    Workload("81,920 faces, 1024", icosphere(6), 1024),
    Workload("327,680 faces, 256", icosphere(7), 256),
]
# For the rehearsal without a GPU, and for what must be over in seconds.
TINY = [
    Workload("80 faces, 24", icosphere(1), 24),
    Workload("2 x 20 faces, 16", icosphere(0), 16, 2),
    Workload("cube, rgb, 20", turned_cube, 20, 1, "rgb"),
    Workload("20 faces, boundary, 16", icosphere(0), 16, 1, "boundary"),
]


def programs(workload: Workload, backend: Any) -> dict[str, Callable[..., Any]]:
    """The programs of a workload, each a function of positions, faces and reference, for one item of the batch.

    `forward` and `step` are what users run, from vertices to an image, and to the loss sum((image - reference)^2) with
    its gradient. `check` starts from clip positions and returns the faces with the gradient of the same loss.
    """
    gradient = {"boundary": jnr.gradients.Boundary()}.get(workload.kind, jnr.gradients.EdgeSweep())

    def forward(vertices, faces, reference):
        del reference
        options = {"image_size": workload.size, "gradient": gradient, "backend": backend}
        if workload.kind == "rgb":
            return jnr.render(vertices, faces, _colors(vertices.shape[0]), **options).rgb
        return jnr.render_silhouette(vertices, faces, **options)

    def step(vertices, faces, reference):
        def loss(vertices):
            return jnp.sum((forward(vertices, faces, reference) - reference) ** 2)

        return jax.value_and_grad(loss)(vertices)

    def check(clip, faces, reference):
        fragments = jnr.rasterize(clip, faces, workload.size, backend=backend)
        sweep = jnr.boundary if workload.kind == "boundary" else jnr.edge_sweep
        covered = (fragments.face_index >= 0).astype(jnp.float32)[..., None]
        if workload.kind == "rgb":
            image = covered * _colors(faces.shape[0])[fragments.face_index]
        else:
            image, reference = covered, reference[..., None]

        def loss(clip):
            return jnp.sum((sweep(image, clip, faces, fragments, backend=backend) - reference) ** 2)

        return fragments.face_index, jax.grad(loss)(clip)

    mapped = {"forward": forward, "step": step, "check": check}
    return {name: _named(jax.vmap(function, (0, None, None)), name) for name, function in mapped.items()}


def _named(function, name):
    def program(positions, faces, reference):
        return function(positions, faces, reference)

    program.__name__ = name
    return program


def _colors(count):
    """Colours that neighbours do not share, multiples of 1 / 64."""
    return (jnp.arange(count)[:, None] * jnp.array([37, 11, 23]) % 64).astype(jnp.float32) / 64


class Case(NamedTuple):
    """What the programs of a workload are given, and what a CPU has found for it."""

    vertices: np.ndarray  # (batch, vertices, 3)
    clip: np.ndarray  # (batch, vertices, 4)
    faces: np.ndarray  # (faces, 3)
    reference: np.ndarray  # (height, width), or (height, width, 3)
    face_index: np.ndarray  # (batch, height, width)
    gradient: np.ndarray  # (batch, vertices, 4), of clip
    value: np.ndarray  # (batch,)

    def arguments(self, program: str) -> tuple[np.ndarray, ...]:
        """The arguments of a program."""
        return self.clip if program == "check" else self.vertices, self.faces, self.reference


def write_case(workload: Workload, folder: Path) -> None:
    """Writes the inputs of a workload, and the results of the C++ kernels."""
    mesh, size = workload.mesh(), workload.size
    vertices = np.asarray(mesh.vertices) * np.linspace(0.9, 1.1, workload.batch)[:, None, None].astype(np.float32)
    to_clip = jax.vmap(lambda vertices: transform(jnr.Camera().clip_from_world(1.0), vertices))
    # A disc that is not where the mesh is: each has pixels that the other lacks.
    y, x = np.mgrid[:size, :size] / size - 0.5
    reference = ((x - 0.03) ** 2 / 0.09 + (y + 0.02) ** 2 / 0.05 < 1).astype(np.float32)
    if workload.kind == "rgb":
        reference = reference[..., None] * np.array([0.25, 0.5, 0.75], np.float32)
    given = Case(vertices, np.asarray(to_clip(vertices)), np.asarray(mesh.faces), reference, *[np.zeros(0)] * 3)
    functions = programs(workload, "cpu")
    face_index, gradient = jax.jit(functions["check"])(*given.arguments("check"))
    value, _ = jax.jit(functions["step"])(*given.arguments("step"))
    case = given._replace(face_index=face_index, gradient=gradient, value=value)
    np.savez_compressed(workload.file(folder, "npz"), **case._asdict())


def read_case(workload: Workload, folder: Path) -> Case:
    """Reads what `write_case` has written."""
    with np.load(workload.file(folder, "npz")) as file:
        return Case(**file)


def floor(case: Case) -> tuple[float, float]:
    """Bytes and operations that a silhouette's step cannot do without: each array once, and the terms of the sweeps."""
    batch, height, width = case.face_index.shape
    # Keys are cleared, written and read. Both axes read face indices, colours and cotangents; one axis is transposed.
    num_bytes = batch * (height * width * (24 + 2 * 12 + 2 * 12) + len(case.faces) * (12 + 48 + 2 * 20))
    differs = (case.face_index >= 0) != (case.reference > 0)
    operations = 0.0
    for axis in (1, 2):
        crossings = (np.diff(case.face_index, axis=axis) != 0).sum(axis=axis)
        # On average half of a line's pixels lie beyond a crossing. One sweep starts on each covered side.
        operations += 15 * float((crossings * differs.sum(axis=axis)).sum())
    return float(num_bytes), operations


def export_programs(workload: Workload, case: Case, folder: Path, platform: str) -> None:
    """Writes a workload's programs for another machine: `"cuda"`, or `"cpu"` in a rehearsal."""
    from jax import export

    for name, function in programs(workload, "triton" if platform == "cuda" else "cpu").items():
        arguments = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in case.arguments(name)]
        text = jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
        # JAX does not promise that kernels of others keep working. Here both sides have the same version.
        checks = [export.DisabledSafetyCheck.custom_call(call) for call in set(re.findall(r"custom_call @(\w+)", text))]
        exported = export.export(jax.jit(function), platforms=(platform,), disabled_checks=checks)(*arguments)
        workload.file(folder, f"{name}.exported").write_bytes(exported.serialize())


def load_program(workload: Workload, name: str, folder: Path) -> Callable[..., Any]:
    """A program that `export_programs` has written."""
    from jax import export

    # Registers the custom call of the Triton kernels, which jax-triton does where it is installed.
    from jax._src.lib import gpu_triton  # noqa: F401  # pyright: ignore[reportPrivateImportUsage]

    exported = export.deserialize(bytearray(workload.file(folder, f"{name}.exported").read_bytes()))
    for op, dtype in set(re.findall(r"@jnr_(\w+)_(float32|int32)\b", exported.mlir_module())):
        cpp.target(op, dtype)
    return exported.call
