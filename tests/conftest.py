import jax

# Every promotion in the library is spelt out; a forgotten one is an error here.
jax.config.update("jax_numpy_dtype_promotion", "strict")
