"""Batches sharded over several devices, which subprocesses simulate on the CPU."""

import os
import socket
import subprocess
import sys

import pytest

from jnr import _backend

SCENE = """
import re
import jax, jax.numpy as jnp, numpy as np, jnr
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

def collectives(compiled):
    return re.findall(r"= .*? (all-[a-z]+|collective-[a-z]+|reduce-scatter)(?:-start)?[(]", compiled.as_text())

def check(found, expected):
    for value, reference in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-5, atol=1e-5 * float(jnp.abs(reference).max()))

sphere = jnr.shapes.icosphere(1)
vertices = sphere.vertices * jnp.linspace(0.8, 1.1, 8)[:, None, None]
targets = jnp.asarray(np.random.default_rng(0).uniform(size=(8, 20, 20)), jnp.float32)

def loss(vertices, target, backend=None):
    image = jnr.render(vertices, sphere.faces, image_size=20, backend=backend)
    return jnp.mean((image.alpha - target) ** 2) + jnp.mean(image.rgb**2) + 1e-3 * jnp.mean(image.depth)

step = jax.vmap(jax.value_and_grad(loss))
"""

SHARD_MAP = """
expected = jax.jit(step)(vertices, targets)
mesh = jax.sharding.Mesh(np.array(jax.devices()), "batch")
spec = P("batch")
sharded = jax.jit(jax.shard_map(step, mesh=mesh, in_specs=spec, out_specs=spec, check_vma={check_vma}))
compiled = sharded.lower(vertices, targets).compile()
found = compiled(*jax.device_put((vertices, targets), NamedSharding(mesh, spec)))
assert len(mesh.devices) == 4
assert all(out.sharding.spec == spec for out in found)
assert not collectives(compiled)
check(found, expected)
"""

JIT = """
from functools import partial
backend = {backend!r}
step = jax.vmap(jax.value_and_grad(partial(loss, backend=backend)))
expected = jax.jit(step)(vertices, targets)
mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
split, replicated = NamedSharding(mesh, P("batch")), NamedSharding(mesh, P())
compiled = jax.jit(step).lower(*jax.device_put((vertices, targets), split)).compile()
found = compiled(*jax.device_put((vertices, targets), split))
assert len(jax.devices()) == 8
assert all(out.sharding.spec == P("batch") for out in found)
assert not collectives(compiled)
check(found, expected)
"""

INTERPRETED = """
def silhouette_loss(vertices, target, backend=None):
    image = jnr.render_silhouette(vertices, mesh.faces, image_size=8, backend=backend)
    return jnp.mean((image - target) ** 2)

mesh, targets = jnr.shapes.icosphere(0), targets[:4, :8, :8]
vertices = mesh.vertices * jnp.linspace(0.8, 1.1, 4)[:, None, None]
step = jax.vmap(jax.value_and_grad(silhouette_loss), in_axes=(0, 0, None))
split = NamedSharding(jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,)), P("batch"))
found = jax.jit(step, static_argnums=2)(*jax.device_put((vertices, targets), split), "interpret")
check(found, step(vertices, targets, None))
"""

JIT_OF_VIEWS = """
def mean_loss(vertices, azimuths, targets):
    def view_loss(azimuth, target):
        camera = jnr.Camera(jnr.LookAt(jnr.points_from_angles(2.5, 20.0, azimuth)))
        return jnp.mean((jnr.render_silhouette(vertices, sphere.faces, camera=camera, image_size=20) - target) ** 2)
    return jnp.mean(jax.vmap(view_loss)(azimuths, targets))

mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
split, replicated = NamedSharding(mesh, P("batch")), NamedSharding(mesh, P())
azimuths = jnp.linspace(0.0, 300.0, 8)
step = jax.jit(jax.value_and_grad(mean_loss))
expected = step(sphere.vertices, azimuths, targets)
arguments = jax.device_put(sphere.vertices, replicated), *jax.device_put((azimuths, targets), split)
compiled = step.lower(*arguments).compile()
found = compiled(*arguments)
assert set(collectives(compiled)) == {"all-reduce"}
assert float(jnp.abs(expected[1]).max()) > 0
check(found, expected)
"""

EXPLICIT = """
from functools import partial
step = jax.vmap(jax.value_and_grad(partial(loss, backend={backend!r})))
expected = jax.jit(step)(vertices, targets)
mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Explicit,))
jax.set_mesh(mesh)
arguments = jax.device_put((vertices, targets), NamedSharding(mesh, P("batch")))
try:
    jax.jit(step)(*arguments)
except NotImplementedError as error:
    assert "jax.sharding.auto_axes(" in str(error), error
else:
    raise AssertionError("no error")
compiled = jax.jit(jax.sharding.auto_axes(step, out_sharding=P("batch"))).lower(*arguments).compile()
assert not collectives(compiled)
found = compiled(*arguments)
assert all(out.sharding.spec[0] == "batch" for out in found)
check(found, expected)
"""

# This must precede any other use of JAX.
NAMED = """
from functools import partial
camera = jnr.Camera()
clip = jax.vmap(camera.clip_positions)(vertices)
fragments = jax.vmap(lambda c: jnr.rasterize(c, sphere.faces, 12))(clip)
colors = jnp.asarray(np.random.default_rng(1).uniform(size=(2, len(sphere.vertices), 3)), jnp.float32)
interpolate = partial(jnr.interpolate, backend="cpu")
mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
split, whole = NamedSharding(mesh, P("batch")), NamedSharding(mesh, P())

def own(c, f):
    return jnp.sum(interpolate(c, sphere.faces, f) ** 2)

def shared(c, fragments):
    return jnp.sum(jax.vmap(lambda f: interpolate(c, sphere.faces, f))(fragments) ** 2)

nested = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), fragments)
many = jax.tree.map(lambda x: jnp.tile(x, (8, *(1 for _ in x.shape[1:]))).reshape(8, 8, *x.shape[1:]), fragments)
eight = jnp.tile(colors[:1], (8, 1, 1)) * jnp.linspace(0.5, 1, 8)[:, None, None]
for function, arguments, places, allowed in (
    (jax.vmap(jax.value_and_grad(own)), (eight, fragments), (split, split), set()),
    (jax.value_and_grad(shared), (colors[0], fragments), (whole, split), {"all-reduce"}),
    # Two sums of four items each on eight devices, and eight sums of eight.
    (jax.vmap(jax.value_and_grad(shared)), (colors, nested), (whole, whole), set()),
    (jax.vmap(jax.value_and_grad(shared)), (eight, many), (split, split), set()),
):
    expected = jax.jit(function)(*arguments)
    arguments = [jax.device_put(x, place) for x, place in zip(arguments, places)]
    compiled = jax.jit(function).lower(*arguments).compile()
    text = compiled.as_text()
    assert "jnr_weighted_gather_float32" in text and "scatter_add_float32" in text
    assert set(collectives(compiled)) <= allowed, collectives(compiled)
    check(compiled(*arguments), expected)
"""

JOIN = """
import sys, jax
port, process = sys.argv[1:]
jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(process))
"""

PROCESSES = """
expected = jax.jit(step)(vertices, targets)
mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
split = NamedSharding(mesh, P("batch"))
own = slice(4 * int(process), 4 * int(process) + 4)
arguments = [jax.make_array_from_process_local_data(split, np.asarray(x[own]), x.shape) for x in (vertices, targets)]
assert len(jax.devices()) == 4 and len(jax.local_devices()) == 2
mean = jax.jit(lambda *x: (jnp.mean(step(*x)[0]), step(*x)[1]), out_shardings=(NamedSharding(mesh, P()), split))
value, gradient = mean(*arguments)
check(value, jnp.mean(expected[0]))
for shard in gradient.addressable_shards:
    check(shard.data, expected[1][shard.index])
print("compared", len(gradient.addressable_shards))
"""


# With fused multiply-adds, XLA contracts different products in programs of different shapes, and the edge sweep's
# 1/distance amplifies a last-digit difference to 1e-4. AVX has none, so shards round as the whole batch does.
NO_FUSED_MULTIPLY_ADD = "--xla_cpu_max_isa=AVX"


def environment(devices):
    flags = (
        f"{os.environ.get('XLA_FLAGS', '')} {NO_FUSED_MULTIPLY_ADD} --xla_force_host_platform_device_count={devices}"
    )
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def run(code, devices):
    subprocess.run([sys.executable, "-c", SCENE + code], check=True, env=environment(devices))


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map_needs_no_communication(check_vma):
    run(SHARD_MAP.format(check_vma=check_vma), devices=4)


@pytest.mark.parametrize("backend", [None, "xla"])
def test_jit_of_a_sharded_batch_needs_no_communication(backend):
    run(JIT.format(backend=backend), devices=8)


@pytest.mark.skipif(not _backend._installed("triton"), reason="triton is not installed")
def test_interpreted_kernels_accept_a_sharded_batch():
    run(INTERPRETED, devices=4)


def test_jit_of_sharded_views_communicates_only_the_shared_gradient():
    run(JIT_OF_VIEWS, devices=8)


@pytest.mark.parametrize("backend", [None, "xla"])
def test_explicit_axes_are_an_error_that_names_auto_axes(backend):
    run(EXPLICIT.format(backend=backend), devices=8)


def test_two_processes_share_a_batch():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", JOIN + SCENE + PROCESSES, str(port)]
    processes = [
        subprocess.Popen([*command, str(k)], env=environment(2), stdout=subprocess.PIPE, text=True) for k in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0]
    assert all("compared 2" in output for output in outputs)


@pytest.mark.skipif(not _backend.has_cpu_kernels(), reason="jnr was installed without a C++ compiler")
def test_a_named_backend_runs_on_a_batch_over_several_devices():
    run(NAMED, devices=8)
