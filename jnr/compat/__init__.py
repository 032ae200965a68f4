"""Other renderers' interfaces on top of jnr."""
