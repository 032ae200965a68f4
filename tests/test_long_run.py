"""Checks that long training neither leaks memory nor recompiles, and resumes from a checkpoint bit-identically.

JNR_NIGHTLY=1 runs 20,000 steps.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

STEPS = 20_000 if os.environ.get("JNR_NIGHTLY") else 300
CODE = """
import sys
import jax, jax.numpy as jnp, numpy as np, optax, orbax.checkpoint, jnr

folder, first, last, saves = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "save"
sphere = jnr.shapes.icosphere(2)
edges, _ = jnr.unique_edges(sphere.faces)
target = jnr.shapes.teapot(3)
target = jnr.normalize(target)

def silhouettes(mesh, azimuths):
    def view(azimuth):
        camera = jnr.Camera(jnr.LookAt(jnr.points_from_angles(2.732, 25.0, azimuth)))
        return jnr.render(*mesh[:2], camera=camera, image_size=32).rgba
    return jax.vmap(view)(azimuths)

def loss(vertices, azimuths, target_images):
    image = silhouettes(sphere._replace(vertices=vertices), azimuths)
    return jnp.mean((image - target_images) ** 2) + 10 * jnr.losses.laplacian(vertices, edges)

optimizer = optax.adam(0.005)

@jax.jit
def step(state, key):
    vertices, moments = state
    azimuths = jax.random.uniform(key, (2,), maxval=360.0)
    value, gradient = jax.value_and_grad(loss)(vertices, azimuths, silhouettes(target, azimuths))
    updates, moments = optimizer.update(gradient, moments)
    return (optax.apply_updates(vertices, updates), moments), value

def resident_memory():
    # Memory of this process in MiB
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

state = sphere.vertices * 0.7, optimizer.init(sphere.vertices)
with orbax.checkpoint.StandardCheckpointer() as checkpointer:
    if first:
        state = checkpointer.restore(f"{folder}/at{first}", state)
    before = None
    for i in range(first, last):
        state, value = step(state, jax.random.key(i))
        if i == first + (last - first) // 4:
            value.block_until_ready()
            before = resident_memory()
    value.block_until_ready()
    growth = resident_memory() - before
    if saves:
        checkpointer.save(f"{folder}/at{last}", state)
assert step._cache_size() == 1, step._cache_size()
assert np.isfinite(value)
np.save(f"{folder}/from{first}.npy", state[0])
print(f"steps {last - first}, memory growth {growth:.1f} MiB, loss {value:.4f}")
assert growth < 20, growth
"""


def run(folder, first, last, action):
    command = [sys.executable, "-c", CODE, str(folder), str(first), str(last), action]
    print(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_long_training_has_constant_memory_and_resumes_bit_identically(tmp_path):
    pytest.importorskip("orbax.checkpoint", reason="orbax-checkpoint is not installed")
    run(tmp_path, 0, STEPS, "")
    uninterrupted = np.load(tmp_path / "from0.npy")
    run(tmp_path, 0, STEPS // 2, "save")
    assert not np.array_equal(np.load(tmp_path / "from0.npy"), uninterrupted)
    run(tmp_path, STEPS // 2, STEPS, "")
    np.testing.assert_array_equal(np.load(tmp_path / f"from{STEPS // 2}.npy"), uninterrupted)
