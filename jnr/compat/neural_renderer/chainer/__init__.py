"""Neural Renderer's interface of the Chainer original: `import jnr.compat.neural_renderer.chainer as neural_renderer`.

`Renderer` takes no arguments and its `render` returns RGB alone; `Mesh` takes the name of an OBJ file. Everything else
is that of `jnr.compat.neural_renderer`.
"""

import sys as _sys

from jnr.compat import neural_renderer as _port
from jnr.compat.neural_renderer import (
    Adam as Adam,
    Rasterize as Rasterize,
    __version__ as __version__,
    cross as cross,
    get_points_from_angles as get_points_from_angles,
    lighting as lighting,
    load_obj as load_obj,
    look as look,
    look_at as look_at,
    optimizers as optimizers,
    perspective as perspective,
    rasterize as rasterize,
    rasterize_depth as rasterize_depth,
    rasterize_rgbad as rasterize_rgbad,
    rasterize_silhouettes as rasterize_silhouettes,
    save_obj as save_obj,
    use_unsafe_rasterizer as use_unsafe_rasterizer,
    vertices_to_faces as vertices_to_faces,
)
from jnr.compat.neural_renderer.chainer.mesh import Mesh as Mesh
from jnr.compat.neural_renderer.chainer.renderer import Renderer as Renderer

# The other modules of the Chainer original are those above.
for _name in [name for name in globals() if f"{_port.__name__}.{name}" in _sys.modules]:
    _sys.modules.setdefault(f"{__name__}.{_name}", _sys.modules[f"{_port.__name__}.{_name}"])
