"""Differentiable mesh rendering in JAX."""

from jnr import gradients, io, losses, optim, shapes, viz
from jnr._camera import (
    Camera,
    Intrinsics,
    LookAlong,
    LookAt,
    Matrix,
    Orthographic,
    Perspective,
    Pose,
    WeakPerspective,
    points_from_angles,
)
from jnr._geometry import (
    Subdivision,
    SurfaceSamples,
    face_areas,
    face_normals,
    sample_surface,
    subdivision,
    unique_edges,
    vertex_normals,
    volume,
)
from jnr._lights import AmbientLight, Arriving, DirectionalLight, Light, PointLight, SphericalHarmonicsLight
from jnr._mesh import Mesh, concatenate, normalize, stack, subdivide
from jnr._ops.boundary import boundary
from jnr._ops.edge_sweep import edge_sweep
from jnr._ops.interpolate import interpolate
from jnr._ops.opendr import opendr
from jnr._ops.rasterize import Fragments, rasterize
from jnr._ops.visibility import with_gradient
from jnr._render import Rendering, render, render_depth, render_masks, render_silhouette
from jnr._scene import PlacedScene, Scene, pose_matrices
from jnr._shading import Lambert, Phong, Shader, Surface
from jnr._textures import UVTexture, colors_to_cubes, cubes_to_uv, sample_cubes, sample_uv, uv_to_cubes
from jnr._tracking import Flow, render_flow, visible_vertices
from jnr._version import __version__
from jnr._voxels import voxel_iou, voxelize
from jnr.io import load, save

__all__ = [
    "AmbientLight",
    "Arriving",
    "Camera",
    "DirectionalLight",
    "Flow",
    "Fragments",
    "Intrinsics",
    "Lambert",
    "Light",
    "LookAlong",
    "LookAt",
    "Matrix",
    "Mesh",
    "Orthographic",
    "Perspective",
    "Phong",
    "PlacedScene",
    "PointLight",
    "Pose",
    "Rendering",
    "Scene",
    "Shader",
    "SphericalHarmonicsLight",
    "Subdivision",
    "Surface",
    "SurfaceSamples",
    "UVTexture",
    "WeakPerspective",
    "__version__",
    "boundary",
    "colors_to_cubes",
    "concatenate",
    "cubes_to_uv",
    "edge_sweep",
    "face_areas",
    "face_normals",
    "gradients",
    "interpolate",
    "io",
    "load",
    "losses",
    "normalize",
    "opendr",
    "optim",
    "points_from_angles",
    "pose_matrices",
    "rasterize",
    "render",
    "render_depth",
    "render_flow",
    "render_masks",
    "render_silhouette",
    "sample_cubes",
    "sample_surface",
    "sample_uv",
    "save",
    "shapes",
    "stack",
    "subdivide",
    "subdivision",
    "unique_edges",
    "uv_to_cubes",
    "vertex_normals",
    "visible_vertices",
    "viz",
    "volume",
    "voxel_iou",
    "voxelize",
    "with_gradient",
]


def __dir__() -> list[str]:
    return __all__
