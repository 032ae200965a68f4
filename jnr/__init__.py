"""Differentiable mesh rendering in JAX."""

from jnr import gradients as gradients, losses as losses, optim as optim, shapes as shapes, viz as viz
from jnr._ops.edge_sweep import edge_sweep as edge_sweep
from jnr._ops.interpolate import interpolate as interpolate
from jnr._ops.opendr import opendr as opendr
from jnr._ops.rasterize import Fragments as Fragments, rasterize as rasterize
from jnr._ops.visibility import with_gradient as with_gradient
from jnr._version import __version__ as __version__
from jnr.camera import (
    Camera as Camera,
    Intrinsics as Intrinsics,
    LookAlong as LookAlong,
    LookAt as LookAt,
    Matrix as Matrix,
    Orthographic as Orthographic,
    Perspective as Perspective,
    Pose as Pose,
    WeakPerspective as WeakPerspective,
    points_from_angles as points_from_angles,
)
from jnr.geometry import (
    Subdivision as Subdivision,
    SurfaceSamples as SurfaceSamples,
    face_areas as face_areas,
    face_normals as face_normals,
    sample_surface as sample_surface,
    subdivision as subdivision,
    unique_edges as unique_edges,
    vertex_normals as vertex_normals,
    volume as volume,
)
from jnr.io import load as load, save as save
from jnr.lights import (
    AmbientLight as AmbientLight,
    Arriving as Arriving,
    DirectionalLight as DirectionalLight,
    PointLight as PointLight,
    SphericalHarmonicsLight as SphericalHarmonicsLight,
)
from jnr.mesh import (
    Mesh as Mesh,
    concatenate as concatenate,
    normalize as normalize,
    stack as stack,
    subdivide as subdivide,
)
from jnr.render import (
    Rendering as Rendering,
    render as render,
    render_depth as render_depth,
    render_silhouette as render_silhouette,
)
from jnr.shading import Lambert as Lambert, Phong as Phong, Surface as Surface
from jnr.textures import (
    UVTexture as UVTexture,
    colors_to_cubes as colors_to_cubes,
    cubes_to_uv as cubes_to_uv,
    sample_cubes as sample_cubes,
    sample_uv as sample_uv,
    uv_to_cubes as uv_to_cubes,
)
from jnr.voxels import voxel_iou as voxel_iou, voxelize as voxelize
