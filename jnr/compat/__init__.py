"""Interfaces of other renderers, implemented with jnr."""
