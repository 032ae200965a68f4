"""Neural Renderer's interface, implemented with jnr: `import jnr.compat.neural_renderer as nr`.

This module has the names of the PyTorch port, `jnr.compat.neural_renderer.chainer` those of the Chainer original. "The
originals" are the two. Functions and classes can also be imported from modules of the originals' names, such as
`jnr.compat.neural_renderer.projection`. docs/migration.md lists the differences.
"""

import sys as _sys

from jnr.compat.neural_renderer import optimizers as optimizers
from jnr.compat.neural_renderer.cross import cross as cross
from jnr.compat.neural_renderer.get_points_from_angles import get_points_from_angles as get_points_from_angles
from jnr.compat.neural_renderer.lighting import lighting as lighting
from jnr.compat.neural_renderer.load_obj import load_obj as load_obj
from jnr.compat.neural_renderer.look import look as look
from jnr.compat.neural_renderer.look_at import look_at as look_at
from jnr.compat.neural_renderer.mesh import Mesh as Mesh
from jnr.compat.neural_renderer.optimizers import Adam as Adam
from jnr.compat.neural_renderer.perspective import perspective as perspective
from jnr.compat.neural_renderer.projection import projection as projection
from jnr.compat.neural_renderer.rasterize import (
    Rasterize as Rasterize,
    rasterize as rasterize,
    rasterize_depth as rasterize_depth,
    rasterize_rgbad as rasterize_rgbad,
    rasterize_silhouettes as rasterize_silhouettes,
    use_unsafe_rasterizer as use_unsafe_rasterizer,
)
from jnr.compat.neural_renderer.renderer import Renderer as Renderer
from jnr.compat.neural_renderer.save_obj import save_obj as save_obj
from jnr.compat.neural_renderer.vertices_to_faces import vertices_to_faces as vertices_to_faces

# The version of the originals, both of which have this interface.
__version__ = "1.1.3"

# `nr.projection` is the function and hides the module of that name. So that `nr.projection.projection` exists too, such
# functions have the names of their modules as attributes.
for _value in list(globals().values()):
    if callable(_value) and _value.__module__ == f"{__name__}.{_value.__name__}":
        _module = _sys.modules[_value.__module__]
        vars(_value).update({name: value for name, value in vars(_module).items() if not name.startswith("_")})
