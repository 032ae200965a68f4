import pytest

pytest.importorskip("triton", reason="the kernels need triton, which is not installed")
