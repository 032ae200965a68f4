"""Differentiable mesh rendering in JAX."""

from jnr import gradients as gradients, losses as losses, shapes as shapes, viz as viz
from jnr._ops.edge_sweep import edge_sweep as edge_sweep
from jnr._ops.interpolate import interpolate as interpolate
from jnr._ops.opendr import opendr as opendr
from jnr._ops.rasterize import Fragments as Fragments, rasterize as rasterize
from jnr._ops.visibility import with_gradient as with_gradient
from jnr._version import __version__ as __version__
from jnr.camera import (
    Camera as Camera,
    LookAlong as LookAlong,
    LookAt as LookAt,
    Orthographic as Orthographic,
    Perspective as Perspective,
)
from jnr.io import load as load, save as save
from jnr.mesh import Mesh as Mesh
from jnr.render import (
    Rendering as Rendering,
    render as render,
    render_depth as render_depth,
    render_silhouette as render_silhouette,
)
from jnr.shading import AmbientLight as AmbientLight, DirectionalLight as DirectionalLight
