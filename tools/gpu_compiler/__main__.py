"""Compiles steps, or programs that were exported from them; see `gpu_compiler.compile_steps`."""

import argparse
import sys
from pathlib import Path

import jax
import numpy as np
from jax import export
from jax.experimental import topologies

HERE = Path(__file__).resolve().parent
# Names of the custom call in versions 0.3 and 0.4 of jax-triton.
CALLS = ("triton_kernel_call", "triton_kernel_call_ffi")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["compile", "load"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--export", nargs="*", default=[])
    options = parser.parse_args()
    if options.command == "compile":
        for name in options.names:
            compile_step(name, options.folder, write=name in options.export)
    else:
        for module in ("triton", "jax_triton"):
            sys.modules[module] = None  # pyright: ignore[reportArgumentType]: makes an import fail
        for name in options.names:
            load(name, (options.folder / f"{name}.exported").read_bytes())


def h100():
    """A sharding on the GPU that is described, which makes jax compile for it."""
    description = (HERE / "h100.txtpb").read_text()
    devices = topologies.get_topology_desc("h100", "cuda", target_config=description, topology="1x1x1").devices
    return jax.sharding.NamedSharding(jax.sharding.Mesh(np.array(devices[:1]), "device"), jax.sharding.PartitionSpec())


def compile_step(name, folder, *, write):
    from gpu_compiler.steps import step
    from jnr.triton_kernels import launch

    function, arguments = step(name)
    with launch.compile_for(90):
        jax.jit(function, in_shardings=h100()).trace(*arguments).lower(lowering_platforms=("cuda",)).compile()
        if write:
            checks = [export.DisabledSafetyCheck.custom_call(call) for call in CALLS]
            exported = export.export(jax.jit(function), platforms=("cuda",), disabled_checks=checks)(*arguments)
            (folder / f"{name}.exported").write_bytes(exported.serialize())


def load(name, serialized):
    exported = export.deserialize(bytearray(serialized))

    def call(*arguments):
        return exported.call(*arguments)

    call.__name__ = name
    arguments = jax.tree.unflatten(exported.in_tree, exported.in_avals)[0]
    jax.jit(call, in_shardings=h100()).trace(*arguments).lower(lowering_platforms=("cuda",)).compile()


if __name__ == "__main__":
    main()
