import os

# Nearly all of the tests' time is compilation. XLA_FLAGS= in front of pytest runs them optimized, as users run jnr.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax

# Every promotion in the library is spelt out; a forgotten one is an error here.
jax.config.update("jax_numpy_dtype_promotion", "strict")
