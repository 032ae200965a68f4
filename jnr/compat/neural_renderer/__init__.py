"""Neural Renderer's interface, implemented with jnr: `import jnr.compat.neural_renderer as nr`.

This module has the names of the PyTorch port, `jnr.compat.neural_renderer.chainer` those of the Chainer original. "The
originals" are the two. docs/migration.md lists the differences.
"""

from jnr.compat.neural_renderer import optimizers as optimizers
from jnr.compat.neural_renderer._functions import (
    cross as cross,
    get_points_from_angles as get_points_from_angles,
    lighting as lighting,
    look as look,
    look_at as look_at,
    perspective as perspective,
    projection as projection,
    vertices_to_faces as vertices_to_faces,
)
from jnr.compat.neural_renderer._mesh import Mesh as Mesh, load_obj as load_obj, save_obj as save_obj
from jnr.compat.neural_renderer._rasterize import (
    rasterize as rasterize,
    rasterize_depth as rasterize_depth,
    rasterize_rgbad as rasterize_rgbad,
    rasterize_silhouettes as rasterize_silhouettes,
    use_unsafe_rasterizer as use_unsafe_rasterizer,
)
from jnr.compat.neural_renderer._renderer import Renderer as Renderer
