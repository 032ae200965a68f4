"""Which implementation of an op runs."""

from typing import Literal, get_args

Backend = Literal["xla", "triton", "interpret"]


def check_backend(backend: str | None) -> None:
    """Raises if `backend` is no backend's name, or one that cannot run here."""
    if backend is not None and backend not in get_args(Backend):
        raise ValueError(f"backend must be None or one of {', '.join(get_args(Backend))}, got {backend!r}.")
    if backend in ("triton", "interpret"):
        raise NotImplementedError(
            f"backend={backend!r} needs the Triton kernels, which this version of jnr does not have yet. "
            'Use backend="xla" or None; both run on every device XLA supports.'
        )
