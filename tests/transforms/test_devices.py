"""A batch over several devices; they are made of the CPU in a process of its own."""

import os
import subprocess
import sys

import pytest

CODE = """
import jax, jax.numpy as jnp, numpy as np, jnr

sphere = jnr.shapes.icosphere(1)
vertices = sphere.vertices * jnp.linspace(0.8, 1.1, 8)[:, None, None]
targets = jnp.asarray(np.random.default_rng(0).uniform(size=(8, 20, 20)), jnp.float32)

def loss(vertices, target):
    image = jnr.render(vertices, sphere.faces, image_size=20)
    return jnp.mean((image.alpha - target) ** 2) + jnp.mean(image.rgb**2) + 1e-3 * jnp.mean(image.depth)

step = jax.vmap(jax.value_and_grad(loss))
expected = jax.jit(step)(vertices, targets)
mesh = jax.sharding.Mesh(np.array(jax.devices()), "batch")
spec = jax.sharding.PartitionSpec("batch")
sharded = jax.jit(jax.shard_map(step, mesh=mesh, in_specs=spec, out_specs=spec, check_vma={check_vma}))
found = sharded(vertices, targets)
assert len(mesh.devices) == 4
assert all(out.sharding.spec == spec for out in found)
assert "all-gather" not in sharded.lower(vertices, targets).compile().as_text()
for value, want in zip(found, expected):
    np.testing.assert_allclose(value, want, rtol=1e-5, atol=1e-5 * float(jnp.abs(want).max()))
"""


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map_keeps_the_batch_on_its_devices(check_vma):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    command = [sys.executable, "-c", CODE.format(check_vma=check_vma)]
    subprocess.run(command, check=True, env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"})
