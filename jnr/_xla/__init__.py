"""The ops in plain JAX: what runs on a CPU and every other XLA device, and what the kernels must equal."""
