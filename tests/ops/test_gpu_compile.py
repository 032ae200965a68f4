"""Whole steps, compiled by XLA's compiler for NVIDIA GPUs; needs no GPU."""

import importlib.metadata
import itertools

import gpu_compiler
import pytest

# Per step: jnr's launches, and the most thunks that XLA may add to them (fusions, copies, loops).
BUDGETS = {
    "silhouette_step": (5, 4),
    "rgb_step": (9, 21),
    "uv_step": (10, 26),
    "boundary_step": (7, 6),
}
# These have every kernel of the rasterizer and of both gradients, and few fusions, which take XLA long to compile.
EXPORTED = ("silhouette_step", "boundary_step")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if missing := gpu_compiler.missing():
        pytest.skip(missing)
    return tmp_path_factory.mktemp("gpu_compiler")


@pytest.fixture(scope="module")
def programs(folder):
    return gpu_compiler.compile_steps([*BUDGETS], folder, export=EXPORTED)


@pytest.fixture(scope="module")
def from_0_4():
    version = importlib.metadata.version("jax-triton")
    if version.startswith("0.3"):
        pytest.skip(f"jax-triton {version} makes calls that XLA can neither assemble nor put into command buffers")


@pytest.mark.parametrize("name", BUDGETS)
def test_step_keeps_its_budget_of_launches(name, programs):
    launches, others = BUDGETS[name]
    program = programs[name]
    assert len(program.launches) == launches
    assert len(program.others) <= others, program.others
    assert len(program.thunks) == len(program.launches) + len(program.others)


@pytest.mark.parametrize("name", BUDGETS)
def test_results_of_a_launch_overlap_neither_operands_nor_each_other(name, programs):
    for launch in programs[name].launches:
        assert launch.operands
        assert launch.results
        for result, other in itertools.product(launch.results, launch.operands):
            assert not result.overlaps(other), launch
        for result, other in itertools.combinations(launch.results, 2):
            assert not result.overlaps(other), launch


@pytest.mark.parametrize("name", BUDGETS)
def test_operands_and_results_of_a_launch_are_aligned_to_16_bytes(name, programs):
    # XLA aligns allocations to more than that. The kernels are compiled for addresses that 16 divides.
    for launch in programs[name].launches:
        assert all(buffer.offset % 16 == 0 for buffer in (*launch.operands, *launch.results)), launch


def test_every_fusion_is_assembled(programs, folder):
    assert gpu_compiler.assembled(folder) >= sum(len(program.others) for program in programs.values())


def test_every_kernel_is_assembled(from_0_4, programs, folder):
    assert gpu_compiler.assembled(folder) >= sum(len(program.thunks) for program in programs.values())


@pytest.mark.parametrize("name", BUDGETS)
def test_step_is_one_command_buffer(name, from_0_4, programs):
    assert programs[name].top_level == ("kCommandBuffer",)


def test_exported_steps_compile_without_triton_to_the_same_launches(from_0_4, programs, folder):
    for name, program in gpu_compiler.compile_exported(EXPORTED, folder).items():
        assert program.top_level == programs[name].top_level
        assert [kind for kind, _ in program.thunks] == [kind for kind, _ in programs[name].thunks]
        assert len(program.launches) == len(programs[name].launches)
