import gc
import importlib.metadata
import os

# Compilation dominates the tests' run time. `XLA_FLAGS= python -m pytest` keeps the optimizations that users have.
FAST_COMPILATION = "--xla_backend_optimization_level=0"
if importlib.metadata.version("jaxlib").startswith("0.10."):
    # Later versions cannot compile loops without fusion emitters.
    FAST_COMPILATION += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", FAST_COMPILATION)

import jax
import pytest

# Tracing creates many long-lived objects; searching them for reference cycles takes 5 % of the run time.
gc.set_threshold(200_000, 50, 100)

# The library promotes dtypes explicitly; with strict promotion an implicit one is an error.
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(autouse=True, scope="module")
def _clear_compilation_caches():
    """Clears JAX's caches: thousands of executables exhaust a process's memory maps on Linux, and XLA then crashes."""
    yield
    jax.clear_caches()


def pytest_collection_modifyitems(items):
    # One worker runs a file. The longest files start first, so that the workers end together.
    longest = ("test_devices.py", "test_examples.py", "test_transforms.py", "test_edge_sweep.py")
    items.sort(key=lambda item: item.path.name not in longest)
