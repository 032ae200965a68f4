"""The applications of the Neural Renderer paper: 2D-to-3D style transfer and 3D DeepDream.

They need further packages: `pip install "jnr[examples]"`.
"""

from jnr.applications import features as features
from jnr.applications._fitting import Fit as Fit
from jnr.applications.deep_dream import DeepDreamConfig as DeepDreamConfig, deep_dream as deep_dream
from jnr.applications.style_transfer import (
    StyleTransferConfig as StyleTransferConfig,
    gram_matrix as gram_matrix,
    style_transfer as style_transfer,
)
