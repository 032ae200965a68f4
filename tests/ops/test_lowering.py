"""A training step lowered for CUDA; needs no GPU."""

import re
import types

import jax
import jax.numpy as jnp
import pytest
from jax import export
from scenes import skip_unless_launched_from_jax

import jnr

launch = pytest.importorskip("jnr.triton_kernels.launch", reason="triton is not installed", exc_type=ImportError)

from jnr.triton_kernels import edge_sweep, gather

CUSTOM_CALLS = ("triton_kernel_call", "triton_kernel_call_ffi")


@pytest.fixture(autouse=True)
def working_versions():
    skip_unless_launched_from_jax()


def step(backend=None):
    mesh = jnr.shapes.icosphere(0)

    def loss(vertices):
        return jnp.sum((jnr.render_silhouette(vertices, mesh.faces, image_size=24, backend=backend) - 0.5) ** 2)

    return jax.jit(jax.vmap(jax.value_and_grad(loss)))


def batch(size):
    return jnp.zeros((size, 12, 3))


def lowered(function, *args):
    with launch.compile_for(90):
        return function.trace(*args).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("backend", [None, "triton"])
@pytest.mark.parametrize("size", [1, 7])
def test_step_has_three_launches_forward_and_two_backward_for_every_batch_size(backend, size):
    text = lowered(step(backend), batch(size))
    assert len(re.findall("custom_call @(?:triton_kernel_call)", text)) == 5


def test_masks_of_many_instances_have_the_launches_of_a_silhouette():
    mesh = jnr.shapes.icosphere(0)

    def loss(vertices):
        masks = jnr.render_masks(vertices, mesh.faces, instance=jnp.arange(20), count=20, image_size=24)
        return jnp.sum((masks - 0.5) ** 2)

    text = lowered(jax.jit(jax.vmap(jax.grad(loss))), batch(3))
    assert len(re.findall("custom_call @triton_kernel_call", text)) == 5


def boundary_gradient(clip, faces):
    fragments = jnr.rasterize(clip, faces, 24)
    alpha = (fragments.face_index >= 0).astype(jnp.float32)[..., None]
    return jax.grad(lambda clip: jnp.sum((jnr.boundary(alpha, clip, faces, fragments) - 0.5) ** 2))(clip)


@pytest.mark.parametrize("size", [1, 5])
def test_gradient_of_the_boundary_has_four_launches_and_no_loop_for_every_batch_size(size):
    faces = jnr.shapes.icosphere(0).faces
    text = lowered(jax.jit(jax.vmap(lambda clip: boundary_gradient(clip, faces))), jnp.zeros((size, 12, 4)))
    assert len(re.findall("custom_call @triton_kernel_call", text)) == 3 + 4
    assert "stablehlo.while" not in text


def test_deterministic_backward_pass_has_three_launches_for_every_batch_size():
    mesh = jnr.shapes.icosphere(0)
    gradient = jnr.gradients.EdgeSweep(deterministic=True)

    def loss(vertices):
        return jnp.sum((jnr.render_silhouette(vertices, mesh.faces, image_size=24, gradient=gradient) - 0.5) ** 2)

    text = lowered(jax.jit(jax.vmap(jax.grad(loss))), batch(5))
    assert len(re.findall("custom_call @(?:triton_kernel_call)", text)) == 6


def test_scatter_adds_of_a_textured_step_are_launches_for_every_batch_size():
    mesh = jnr.shapes.icosphere(0)

    def loss(vertices, texels):
        image = jnr.render(vertices, mesh.faces, texels, image_size=24)
        return jnp.sum((image.rgb - 0.5) ** 2) + jnp.sum(image.depth)

    step = jax.jit(jax.vmap(jax.grad(loss, (0, 1))))
    texts = [lowered(step, batch(size), jnp.zeros((size, 20, 2, 2, 2, 3))) for size in (1, 6)]
    # Six scatter-adds: texels, barycentrics, light, normals, depth at corners, depth at vertices.
    assert [len(re.findall("custom_call @triton_kernel_call", text)) for text in texts] == [3 + 2 + 6] * 2
    assert not any("stablehlo.scatter" in text for text in texts)


def test_forward_pass_has_three_launches():
    mesh = jnr.shapes.icosphere(0)
    text = lowered(jax.jit(lambda v: jnr.render(v, mesh.faces, image_size=24).rgb), mesh.vertices)
    assert len(re.findall("custom_call @(?:triton_kernel_call)", text)) == 3


def test_step_can_be_exported():
    checks = [export.DisabledSafetyCheck.custom_call(name) for name in CUSTOM_CALLS]
    with launch.compile_for(90):
        exported = export.export(step(), platforms=("cuda",), disabled_checks=checks)(batch(2))
    assert exported.platforms == ("cuda",)
    assert [out.shape for out in exported.out_avals] == [(2,), (2, 12, 3)]


def test_float64_positions_fall_back_to_plain_jax_unless_triton_is_named():
    with jax.enable_x64(True):
        vertices = jnp.zeros((2, 12, 3), jnp.float64)
        assert "triton_kernel_call" not in lowered(step(), vertices)
        with pytest.raises(NotImplementedError, match="float32"):
            lowered(step("triton"), vertices)


def test_lowering_without_a_gpu_is_an_error_that_names_compile_for(monkeypatch):
    with_gpus(monkeypatch)
    with pytest.raises(NotImplementedError, match=r"it has none.*compile_for"):
        step().trace(batch(1)).lower(lowering_platforms=("cuda",))


def test_gpus_of_different_compute_capabilities_are_an_error(monkeypatch):
    with_gpus(monkeypatch, "9.0", "8.0")
    with pytest.raises(NotImplementedError, match=r"this machine has 8\.0 and 9\.0"):
        step().trace(batch(3)).lower(lowering_platforms=("cuda",))


def test_kernels_are_compiled_for_the_gpus_of_the_machine(monkeypatch):
    with_gpus(monkeypatch, "8.0", "8.0")
    text = step().trace(batch(4)).lower(lowering_platforms=("cuda",)).as_text()
    assert text == step_for(80, batch(4))
    assert text != step_for(90, batch(4))


def with_gpus(monkeypatch, *capabilities):
    """Replaces the local devices that the launch functions find."""
    devices = [types.SimpleNamespace(compute_capability=capability) for capability in capabilities]
    monkeypatch.setattr(launch.jax, "local_devices", lambda backend: devices)


def step_for(capability, vertices):
    with launch.compile_for(capability):
        return step().trace(vertices).lower(lowering_platforms=("cuda",)).as_text()


def test_shard_map_launches_on_the_shard_of_each_device():
    mesh = jax.sharding.Mesh(jax.devices("cpu")[:1], "batch")
    spec = jax.sharding.PartitionSpec("batch")
    sharded = jax.jit(jax.shard_map(step(), mesh=mesh, in_specs=spec, out_specs=spec))
    assert lowered(sharded, batch(2)).count("custom_call @triton_kernel_call") == 5


@pytest.mark.parametrize("flag", ["deterministic_ops", "exclude_nondeterministic_ops"])
def test_xla_flag_for_determinism_applies_to_the_kernels(flag, monkeypatch):
    clip, faces = jnp.zeros((1, 3, 4)), jnp.zeros((1, 1, 3), jnp.int32)
    image, face_index = jnp.zeros((1, 4, 4, 2)), jnp.zeros((1, 4, 4), jnp.int32)
    launched = []

    def call(*_, results, **__):
        launched.append(results)
        return [jnp.zeros(result.shape, result.dtype) for result in results]

    monkeypatch.setattr(launch, "call", call)

    def launches(flags):
        monkeypatch.setenv("XLA_FLAGS", flags)
        launched.clear()
        edge_sweep.edge_sweep_bwd(image, image, clip, faces, face_index, jnp.zeros((1, 0, 0)), eps=1e-3)
        sweeps = len(launched)
        gather.scatter_add(image[:, 0], face_index[:, 0], rows=3, sums=1)
        gather.weighted_scatter_add(image[:, 0], image[:, 0, :, :1], face_index[:, 0, :, None], rows=3, sums=1)
        return sweeps, len(launched) - sweeps

    assert launches("") == (2, 2)
    assert launches(f"--xla_gpu_{flag}=false") == (2, 2)
    # The fixed-point sweep takes one more launch, and XLA computes the scatter-adds.
    assert launches(f"--xla_gpu_autotune_level=0 --xla_gpu_{flag}=true") == (3, 0)


# What jaxlib 0.10 does: its options were read after it had parsed the flags.
FLAGS = [
    ("", False),
    ("--xla_gpu_deterministic_ops", True),
    ("--xla_gpu_deterministic_ops=1", True),
    ("--xla_gpu_deterministic_ops=True", True),
    ("--xla_gpu_deterministic_ops='true'", True),
    ("--xla_gpu_autotune_level=4\n--xla_gpu_exclude_nondeterministic_ops=1", True),
    ("--xla_gpu_deterministic_ops=0", False),
    ("--xla_gpu_deterministic_ops=true --xla_gpu_deterministic_ops=false", False),
    ("--xla_gpu_deterministic_ops=false --xla_gpu_deterministic_ops", True),
    ("--xla_dump_to=--xla_gpu_deterministic_ops=true", False),
]


@pytest.mark.parametrize(("flags", "expected"), FLAGS)
def test_flag_for_determinism_is_read_as_xla_reads_it(flags, expected, monkeypatch, tmp_path):
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert launch.is_deterministic() == expected
    file = tmp_path / "flags.txt"
    file.write_text(flags)
    monkeypatch.setenv("XLA_FLAGS", str(file))
    assert launch.is_deterministic() == expected
    monkeypatch.setenv("XLA_FLAGS", str(tmp_path / "missing.txt"))
    assert not launch.is_deterministic()
