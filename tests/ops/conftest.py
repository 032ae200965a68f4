import pytest
from scenes import skip_unless_launched_from_jax


@pytest.fixture
def launches(monkeypatch):
    """Emulates a GPU and yields the list of kernels launched on it so far, launched as jaxlib would launch them."""
    pytest.importorskip("jnr.triton_kernels.launch", reason="triton is not installed", exc_type=ImportError)
    skip_unless_launched_from_jax()
    import ptx_emulator

    from jnr.triton_kernels import rasterize

    # Fewer programs than blocks of work, so that each loops.
    monkeypatch.setattr(rasterize, "PROGRAMS", 3)
    with ptx_emulator.emulated_gpu() as launches:
        yield launches
