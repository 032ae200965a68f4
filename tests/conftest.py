import gc
import importlib.metadata
import os

# Nearly all of the tests' time is compilation. XLA_FLAGS= in front of pytest runs them optimized, as users run jnr.
QUICK = "--xla_backend_optimization_level=0"
if importlib.metadata.version("jaxlib").startswith("0.10."):
    # Later versions have no other way to compile loops.
    QUICK += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", QUICK)

import jax
import pytest

# Tracing makes many objects that live long; looking through them for rings takes a twentieth of the time.
gc.set_threshold(200_000, 50, 100)

# Every promotion in the library is spelt out; a forgotten one is an error here.
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_are_dropped():
    """Thousands of programs in one process take all the memory maps that Linux allows it; XLA then crashes."""
    yield
    jax.clear_caches()
