"""Every kernel variant, compiled to machine code for several GPU architectures; needs no GPU."""

import re
import subprocess

import pytest

triton = pytest.importorskip("triton", reason="triton is not installed")

from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from jnr.triton_kernels import barycentrics, boundary, edge_sweep, gather, rasterize

POINTERS = {
    "image_ptr": "*fp32", "cotangent_ptr": "*fp32", "depth_limit_ptr": "*fp32", "clip_ptr": "*fp32",
    "grad_ptr": "*fp32",
    "values_ptr": "*fp32", "weights_ptr": "*fp32", "sums_ptr": "*fp32", "index_ptr": "*i32",
    "table_ptr": "*fp32", "out_ptr": "*fp32",
    "active_ptr": "*i8", "state_ptr": "*i32", "edge_ptr": "*i32", "depths_ptr": "*fp32", "crossings_ptr": "*i32",
    "faces_ptr": "*i32", "face_index_ptr": "*i32", "largest_ptr": "*i32", "box_ptr": "*i32", "chunks_ptr": "*i32",
    "counts_ptr": "*i32", "first_pixel_ptr": "*i32", "last_pixel_ptr": "*i32", "rank_ptr": "*i32",
    "active_pixels_ptr": "*fp32", "smallest_limit_ptr": "*fp32",
    "pair_ends_ptr": "*u32", "chunk_ends_ptr": "*u32", "keys_ptr": "*u32", "eps": "fp32", "fixed_point_scale": "fp32",
}  # fmt: skip
SUMS = {"add": "*fp32", "find_largest": "*i32", "add_fixed_point": "*u32"}
MESH = {"TILE": rasterize.TILE, "BLOCK_FACES": rasterize.BLOCK_FACES, "PAIRS": rasterize.PAIRS}
LINES = {"PADDING": edge_sweep.PADDING, "STRETCH": edge_sweep.STRETCH}
SWEEP = {**LINES, "LANES": edge_sweep.LANES, "GROUP_COST": edge_sweep.GROUP_COST, "UNROLL": edge_sweep.UNROLL}
# Kernel, warps, constants, and the most registers per thread and bytes of shared memory. A multiprocessor has 65,536
# registers, which suffice for 28 warps of the sweep, 24 of the depth test, and more of the others.
VARIANTS = [
    *((rasterize.rasterize_setup_kernel, 4, {**MESH, "CULL": cull}, 64, 1024) for cull in (0, 1)),
    (rasterize.rasterize_offsets_kernel, 4, {"BLOCK": rasterize.BLOCK_OFFSETS}, 72, 8192),
    *((rasterize.rasterize_fwd_kernel, 1, {**MESH, "CULL": cull}, 64, 0) for cull in (0, 1)),
    *(
        (
            edge_sweep.edge_sweep_lists_kernel,
            edge_sweep.WARPS,
            {
                **LINES,
                "CHANNELS": channels,
                "ENTRY": edge_sweep._entry_size(channels),
                "OCCLUSION": occlusion,
                "BLOCK": edge_sweep.BLOCK,
            },
            72,
            64,
        )
        for channels, occlusion in ((1, 0), (3, 0), (4, 1), (9, 0))
    ),
    *(
        (
            edge_sweep.edge_sweep_bwd_kernel,
            edge_sweep.WARPS,
            {
                **SWEEP,
                "CHANNELS": channels,
                "ENTRY": edge_sweep._entry_size(channels),
                "MODE": mode,
                "OCCLUSION": options,
                "SILHOUETTES_ONLY": options,
                "SHARES": shares,
            },
            72 if channels <= edge_sweep.LISTED_CHANNELS else 96,
            0,
        )
        for channels, mode, options, shares in (
            *((1, "add", 0, 4), (3, "add", 0, 4), (4, "add", 0, 1), (9, "add", 0, 2), (4, "add", 1, 4)),
            *((1, "find_largest", 0, 4), (3, "add_fixed_point", 0, 4), (3, "add_fixed_point", 1, 4)),
        )
    ),
    *(
        (
            gather.scatter_add_kernel,
            1,
            {"CHANNELS": channels, "TERMS": terms, "GROUP": group, "WEIGHTED": weighted, "BLOCK": gather.BLOCK},
            64,
            0,
        )
        # Barycentrics; attributes per corner; many features per vertex.
        for channels, terms, group, weighted in ((3, 1, 1, 0), (3, 1, 3, 1), (64, 3, 1, 1))
    ),
    *(
        (kernel, 1, {"BLOCK": boundary.BLOCK}, registers, 0)
        for kernel, registers in (
            (boundary.nearer_surface_kernel, 64),
            (boundary.furthest_edge_kernel, 64),
            (boundary.choose_crossing_kernel, 64),
            (boundary.crossing_motion_bwd_kernel, 64),
        )
    ),
    (barycentrics.barycentrics_kernel, 1, {"BLOCK": barycentrics.BLOCK}, 64, 0),
    (gather.gather_kernel, 1, {"CHANNELS": 3, "BLOCK": gather.BLOCK}, 64, 0),
    *(
        (kernel, 1, {"CHANNELS": channels, "TERMS": terms, "GROUP": group, "BLOCK": gather.BLOCK}, 64, 0)
        for kernel in (gather.weighted_gather_kernel, gather.row_dot_kernel)
        for channels, terms, group in ((3, 1, 3), (4, 8, 1))
    ),
]
SHOWN = ("CULL", "CHANNELS", "MODE", "OCCLUSION", "SHARES", "TERMS", "GROUP")
NAMES = ["-".join([v[0].fn.__name__, *(f"{name}{v[2][name]}" for name in SHOWN if name in v[2])]) for v in VARIANTS]


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize(("kernel", "warps", "constants", "registers", "shared"), VARIANTS, ids=NAMES)
def test_kernel_fits_its_budget(kernel, warps, constants, registers, shared, capability, tmp_path, empty_cache):
    signature = {name: "constexpr" if name in constants else POINTERS.get(name, "i32") for name in kernel.arg_names}
    if "MODE" in constants:
        signature["grad_ptr"] = SUMS[constants["MODE"]]
    # XLA aligns its buffers to at least 16 bytes.
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names) if name.endswith("_ptr")}
    compiled = triton.compile(
        ASTSource(kernel, signature, constexprs=constants, attrs=aligned),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": warps, "num_stages": 1, "enable_fp_fusion": False},
    )
    assert compiled.metadata.shared <= shared
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(compiled.asm["cubin"])
    tool = triton.knobs.nvidia.cuobjdump.path
    usage = subprocess.run([tool, "-res-usage", cubin], capture_output=True, text=True, check=True).stdout
    (used,) = re.findall(r"REG:(\d+)", usage)
    assert int(used) <= registers
    code = subprocess.run([tool, "-sass", cubin], capture_output=True, text=True, check=True).stdout
    assert not re.findall(r"\b(?:STL|LDL)\b", code)  # register spills
