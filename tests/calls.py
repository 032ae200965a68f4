"""A small valid call of every public function and class, for tests that try all of them in some mode."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

import jnr
import jnr.applications
import jnr.mujoco
from jnr import gradients, losses, optim, shapes, viz

MESH = jnr.shapes.icosphere(0)
VERTICES, FACES = MESH.vertices, MESH.faces
EDGES, PAIRS = jnr.unique_edges(FACES)
COLORS = jnp.linspace(0, 1, VERTICES.size, dtype=jnp.float32).reshape(VERTICES.shape)
CUBES = jnp.full((len(FACES), 2, 2, 2, 3), 0.5, jnp.float32)
UV = jnr.UVTexture(jnp.full((2, 2, 3), 0.5, jnp.float32), VERTICES[:, :2], filter="trilinear")
CAMERA = jnr.Camera(jnr.LookAt((0.5, 0.6, 2.0)), jnr.Perspective(fov=50.0))
CLIP = CAMERA.clip_positions(VERTICES)
FRAGMENTS = jnr.rasterize(CLIP, FACES, 8)
IMAGE = jnr.interpolate(COLORS, FACES, FRAGMENTS)
MASK = jnp.ones((8, 8), jnp.float32)
SURFACE = jnr.Surface(IMAGE, IMAGE, IMAGE, IMAGE, IMAGE[..., :0], FRAGMENTS, (jnr.PointLight(),))
LIGHTS = (
    jnr.AmbientLight(0.2),
    jnr.DirectionalLight(color=(1.0, 0.5, 0.2)),
    jnr.PointLight(),
    jnr.SphericalHarmonicsLight(jnp.ones(9, jnp.float32)),
)


class Call(NamedTuple):
    """A valid call.

    Attributes:
        function: What is called.
        arguments: Its arguments, by name.
        use: What is done with the result, for a class whose checks come with its first use.
    """

    function: Callable
    arguments: dict[str, Any]
    use: Callable[[Any], Any] = lambda result: result

    def run(self, **changed: Any) -> Any:
        """The result, with some arguments replaced."""
        return self.use(self.function(**self.arguments | changed))


def no_gradient(image, cotangent, clip_positions, faces, fragments):
    """A visibility gradient of one's own."""
    del image, cotangent, faces, fragments
    return jnp.zeros_like(clip_positions)


def seen(pose=None, projection=None, **options):
    """What a camera, a light or a shader is for."""
    camera = jnr.Camera(pose or jnr.LookAt((0.5, 0.6, 2.0)), projection or jnr.Perspective())
    return jnr.render(VERTICES, FACES, camera=camera, image_size=8, **options)


def axes():
    """New axes of Matplotlib."""
    from matplotlib.figure import Figure

    return Figure(figsize=(1, 1)).add_subplot()


def features(images):
    """A network that is small."""
    return images[:, ::4, ::4]


class Eased(NamedTuple):
    """What is drawn is not a result."""


def drawn(result):
    """Nothing instead of a figure, which is no array."""
    del result
    return Eased()


OP = {"clip_positions": CLIP, "faces": FACES, "fragments": FRAGMENTS}
MESH_ARGUMENTS = {"vertices": VERTICES, "faces": FACES}
SILHOUETTE = {**MESH_ARGUMENTS, "camera": CAMERA, "image_size": 8, "antialias": 2, "cull": "back", "backend": None}
POSE = {"eye": (0.5, 0.6, 2.0), "up": (0.0, 1.0, 0.0), "handedness": "right"}
PLANES = {"near": 0.1, "far": 100.0}
OPENCV_K = np.array([[8.0, 0, 4], [0, 8, 4], [0, 0, 1]], np.float32)
CONFIG = {"image_size": 8, "texture_size": 2, "steps": 1, "batch": 1, "antialias": 1}


def _in_jnr() -> Iterator[Any]:
    by_pose, by_projection = (lambda pose: seen(pose)), (lambda projection: seen(projection=projection))
    by_light, by_shader = (lambda light: seen(lights=(light,))), (lambda shader: seen(shader=shader, lights=LIGHTS))
    yield jnr.AmbientLight, {"intensity": 0.5, "color": 1.0}, by_light
    yield jnr.DirectionalLight, {"intensity": 0.5, "color": (1.0, 1.0, 0.5), "direction": (0.0, 1.0, 0.0)}, by_light
    light = {"intensity": 0.5, "color": 1.0, "position": (0.0, 1.0, 2.0), "attenuation": (1.0, 0.1, 0.0)}
    yield jnr.PointLight, light, by_light
    yield jnr.SphericalHarmonicsLight, {"coefficients": jnp.ones((9, 3), jnp.float32)}, by_light
    yield jnr.Lambert, {}, by_shader
    yield jnr.Phong, {"specular": 0.5, "shininess": 8.0}, by_shader
    yield jnr.LookAt, {**POSE, "at": (0.0, 0.0, 0.0)}, by_pose
    yield jnr.LookAlong, {**POSE, "direction": (0.0, 0.0, -1.0)}, by_pose
    yield jnr.Pose, {"matrix": jnr.LookAt((0.0, 0.0, 3.0)).camera_from_world()}, by_pose
    yield jnr.Perspective, {"fov": 60.0, **PLANES}, by_projection
    yield jnr.Orthographic, {"half_height": 1.0, **PLANES}, by_projection
    yield jnr.WeakPerspective, {"scale": 0.5, "shift": (0.0, 0.1), **PLANES}, by_projection
    intrinsics = {"K": OPENCV_K, "image_size": 8, "distortion": (0.1, 0.0, 0.0, 0.0), **PLANES, "pixel_center": 0.5}
    yield jnr.Intrinsics, intrinsics, by_projection
    matrix = {"matrix": jnr.Perspective().clip_from_camera(1.0), "depth_row": (0.0, 0.0, -1.0, 0.0), "far": 100.0}
    yield jnr.Matrix, matrix, by_projection
    yield jnr.Camera, {"pose": CAMERA.pose, "projection": CAMERA.projection}, lambda camera: camera.clip_from_world()
    opencv = {"K": OPENCV_K, "R": np.eye(3, dtype=np.float32), "t": (0.0, 0.0, 3.0), "image_size": 8}
    opencv |= {"distortion": (0.1, 0.0, 0.0, 0.0), **PLANES, "pixel_center": 0.0}
    yield jnr.Camera.from_opencv, opencv, lambda camera: seen(camera.pose, camera.projection)
    opengl = {"view": CAMERA.pose.camera_from_world(), "projection": matrix["matrix"], "far": 100.0}
    yield jnr.Camera.from_opengl, opengl, lambda camera: seen(camera.pose, camera.projection)
    from_matrix = {"clip_from_world": CAMERA.clip_from_world(), "far": 100.0}
    yield jnr.Camera.from_matrix, from_matrix, lambda camera: seen(camera.pose, camera.projection)
    yield jnr.points_from_angles, {"distance": 2.0, "elevation": 30.0, "azimuth": 40.0, "degrees": True}
    rgba = jnp.full((2, 2, 4), 0.5, jnp.float32)
    uv = {"images": rgba, "uv": UV.uv, "uv_faces": FACES, "material": jnp.zeros(len(FACES), jnp.int32)}
    uv |= {"wrap": "border", "filter": "bilinear", "border": 0.5, "sizes": ((2, 2),)}
    uv |= {"alpha": "mask", "alpha_cutoff": 0.5, "factor": jnp.full(4, 0.5, jnp.float32)}
    yield jnr.UVTexture, uv, lambda texture: jnr.render(VERTICES, FACES, texture, image_size=8)
    poses = {"positions": jnp.zeros((2, 3), jnp.float32), "quaternions": jnp.eye(4, dtype=jnp.float32)[:2]}
    yield jnr.pose_matrices, poses
    visible = jnp.ones(2, bool)
    scene = {"meshes": [MESH, MESH._replace(textures=COLORS)], "instances": (1, 0), "colors": COLORS[:2]}
    yield jnr.Scene, scene, lambda scene: scene.place(jnr.pose_matrices(**poses), visible=visible)
    yield jnr.Scene.place, {"self": jnr.Scene(**scene), "poses": jnr.pose_matrices(**poses), "visible": visible}
    yield jnr.colors_to_cubes, {"colors": COLORS, "faces": FACES}
    yield jnr.cubes_to_uv, {"cubes": CUBES, "tile": 2}
    yield jnr.uv_to_cubes, {"texture": UV, "faces": FACES, "size": 2, "num_vertices": len(VERTICES)}
    yield jnr.sample_cubes, {"cubes": CUBES, "fragments": FRAGMENTS, "backend": None}
    yield jnr.sample_uv, {"texture": UV, **OP, "backend": None}
    yield jnr.concatenate, {"meshes": [MESH, MESH]}
    yield jnr.stack, {"meshes": [MESH, MESH]}
    yield jnr.normalize, {"mesh": MESH}
    yield jnr.subdivide, {"mesh": MESH}
    yield jnr.subdivision, {"faces": FACES, "num_vertices": len(VERTICES)}
    yield jnr.unique_edges, {"faces": FACES}
    for function in (jnr.face_areas, jnr.face_normals, jnr.vertex_normals, jnr.volume):
        yield function, MESH_ARGUMENTS
    yield jnr.sample_surface, {"key": jax.random.key(0), **MESH_ARGUMENTS, "count": 4}
    yield jnr.voxel_iou, {"a": np.ones((2, 2, 2), bool), "b": np.ones((2, 2, 2), bool)}
    yield jnr.voxelize, {**MESH_ARGUMENTS, "size": 4, "low": -1.0, "high": 1.0, "rule": "winding"}
    yield jnr.rasterize, {"clip_positions": CLIP, "faces": FACES, "image_size": 8, "cull": "back", "backend": None}
    yield jnr.interpolate, {"attributes": COLORS, "faces": FACES, "fragments": FRAGMENTS, "background": 0.5}
    yield jnr.edge_sweep, {"image": IMAGE, **OP, **options_of_edge_sweep()}
    yield jnr.opendr, {"image": IMAGE, **OP, "boundary": "occlusion"}
    yield jnr.boundary, {"image": IMAGE, **OP, "slopes": np.stack([IMAGE, IMAGE]), "shares": "nearest", "backend": None}
    yield jnr.with_gradient, {"image": IMAGE, **OP, "gradient": no_gradient}
    yield jnr.render_depth, {**SILHOUETTE, "gradient": "boundary"}
    yield jnr.render_silhouette, {**SILHOUETTE, "gradient": "edge_sweep", "eps": 1e-3}
    render = {"textures": COLORS, "lights": LIGHTS, "shader": jnr.Phong(), "normals": "smooth", "attributes": COLORS}
    render |= {"background": (1.0, 0.0, 0.5), "gradient": "edge_sweep", "interior": True, "eps": 1e-3}
    render |= {"instance": np.arange(len(FACES), dtype=np.int32)}
    yield jnr.render, {**SILHOUETTE, **render}


def _in_modules() -> Iterator[Any]:
    yield gradients.EdgeSweep, options_of_edge_sweep()
    yield gradients.OpenDR, {"boundary": "occlusion"}
    yield gradients.Boundary, {"backend": None, "shares": "nearest"}
    iou = {"alpha": MASK, "target": MASK / 2}
    yield losses.silhouette_iou, iou
    yield losses.squared_error, {"image": IMAGE, "target": IMAGE / 2}
    yield losses.total_variation, {"images": IMAGE, "mask": MASK}
    yield losses.chamfer, {"points": VERTICES, "others": VERTICES[::-1] + 0.1, "chunk": 8}
    for function in (losses.laplacian, losses.edge_length, losses.edge_length_variance):
        yield function, {"vertices": VERTICES, "edges": EDGES}
    yield losses.cotangent_laplacian, MESH_ARGUMENTS
    for function in (losses.flatness, losses.normal_consistency):
        yield function, {**MESH_ARGUMENTS, "pairs": PAIRS}
    rates = {"learning_rate": 1e-3, "b1": 0.9, "b2": 0.999, "eps": 1e-8}
    yield optim.zero_skipping_adam, rates, step
    yield optim.scale_rates, {"factors": {"vertices": 0.5}}, step
    yield shapes.box, {"half_sizes": (0.5, 0.4, 0.3), "divisions": (1, 2, 1)}
    tube = {"radius": 0.3, "half_length": 0.5, "rows": 1, "columns": 4, "cap_rows": 2}
    yield shapes.capsule, tube
    yield shapes.convex_hull, {"points": VERTICES}
    yield shapes.cube, {}
    yield shapes.cylinder, tube
    yield shapes.ellipsoid, {"half_axes": (0.5, 0.4, 0.3), "rows": 2, "columns": 3}
    yield shapes.height_field, {"heights": np.eye(3, 4), "half_sizes": (1.0, 0.5), "bottom": -1.0}
    yield shapes.icosphere, {"subdivisions": 0}
    yield shapes.plane, {"rows": 1, "columns": 2}
    yield shapes.teapot, {"divisions": 1}
    yield shapes.torus, {"radius": 0.7, "tube": 0.3, "rows": 3, "columns": 4}
    yield shapes.torus_knot, {"p": 2, "q": 3, "tube": 0.2, "rows": 3, "columns": 8}
    yield shapes.uv_sphere, {"rows": 2, "columns": 3}
    arrows = {**MESH_ARGUMENTS, "camera": CAMERA, "image": IMAGE, "image_size": 8, "longest": 0.1}
    yield viz.descent_arrows, {"loss": jnp.sum, **arrows, "ax": axes()}, drawn
    descents = {**MESH_ARGUMENTS, "camera": CAMERA, "image_size": 4, "gradient": "edge_sweep"}
    yield viz.pixel_descents, {**descents, "brighter": True}
    yield viz.reach_map, {**descents, "ax": axes(), "brightest": 1.0, "every": 2}, drawn
    yield viz.show_image, {"ax": axes(), "image": IMAGE}, drawn
    arrow = {"start": np.zeros((2, 2)), "arrow": np.eye(2), "longest": 1.0, "color": "red"}
    yield viz.draw_arrows, {"ax": axes(), **arrow}, drawn


def _in_applications() -> Iterator[Any]:
    app, given = jnr.applications, {"features": features, "key": jax.random.key(0), "progress": False}
    ready = {"elevation": (0.0, 30.0), "distance": 2.7, "distance_noise": 0.1, "vertices_rate": 0.01}
    ready |= {**CONFIG, "textures_rate": 1.0, "learning_rate": 0.01, "b1": 0.9}
    dreamt = functools.partial(app.deep_dream, MESH, **given)
    styled = functools.partial(app.style_transfer, MESH, IMAGE, **given)
    yield app.DeepDreamConfig, {**ready, "length_weight": 1e-4}, lambda config: dreamt(config=config)
    weights = {"style_weight": 1.0, "content_weight": 1.0, "variation_weight": 1.0, "background": "mean"}
    yield app.StyleTransferConfig, {**ready, **weights}, lambda config: styled(config=config)
    yield app.deep_dream, {"mesh": MESH, **given, "config": app.DeepDreamConfig(**CONFIG)}
    config = app.StyleTransferConfig(**CONFIG)
    yield app.style_transfer, {"mesh": MESH, "style": IMAGE, **given, "config": config}
    yield app.gram_matrix, {"features": IMAGE, "mask": MASK}


def _in_mujoco() -> Iterator[Any]:
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><camera name="side" pos="0 0 4"/><geom type="plane" size="0 0 1"/>'
        '<geom type="capsule" size="0.5 0.5"/><light castshadow="false"/></worldbody></mujoco>'
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    scene = jnr.mujoco.load(model, resolution=(3, 2))
    own, view = {"self": scene, "data": data}, scene.camera(data, "side")
    visible, kind = np.array([True, False]), jnr.mujoco.ModelScene
    yield jnr.mujoco.load, {"model": model, "groups": (0, 1), "resolution": (4, 2)}
    yield kind.poses, {**own, "camera": view}
    yield kind.place, {**own, "camera": view, "visible": visible}
    yield kind.vertex_normals, own
    yield kind.camera, {**own, "camera": "side", "image_size": 8}
    yield kind.lights, {**own, "camera": view}
    yield kind.render, {**own, "camera": "side", "image_size": 8, "visible": visible, "lights": LIGHTS}


def options_of_edge_sweep():
    """The fields of an `EdgeSweep`."""
    published = {"occlusion": False, "silhouettes_only": False}
    return {"eps": 1e-3, "deterministic": False, "backend": None, **published}


def step(optimizer):
    """The update of an optimizer."""
    params = {"vertices": VERTICES}
    return optimizer.update(params, optimizer.init(params), params)[0]


def public_callables() -> dict[str, Any]:
    """Every public function and class by the name under which `CALLS` has it; `jnr.io`'s are among jnr's."""
    found = {name: getattr(jnr, name) for name in jnr.__all__ if callable(getattr(jnr, name))}
    for module in (gradients, losses, optim, shapes, viz, jnr.applications, jnr.mujoco):
        reexports = module in (gradients, jnr.applications, jnr.mujoco)
        for name, value in vars(module).items():
            home = getattr(value, "__module__", None) or ""
            public = callable(value) and not name.startswith("_") and value not in found.values()
            if public and (home.startswith("jnr.") if reexports else home == module.__name__):
                found[f"{module.__name__[4:]}.{name}"] = value
    return found


def _name(function):
    """The first public name of a function, a class or a class's function."""
    outer, _, _ = function.__qualname__.partition(".")
    home = inspect.getattr_static(inspect.getmodule(function), outer)
    return (
        next(name for name, value in public_callables().items() if value is home) + function.__qualname__[len(outer) :]
    )


CALLS = {_name(entry[0]): Call(*entry) for entry in (*_in_jnr(), *_in_modules(), *_in_applications(), *_in_mujoco())}

# Of Python's numbers or of an optional package, so that they run outside of `jit`.
ON_HOST = {name for name in CALLS if name.split(".")[0] in ("shapes", "viz", "applications", "gradients", "mujoco")}
ON_HOST |= {"subdivision", "subdivide", "unique_edges", "optim.zero_skipping_adam", "optim.scale_rates"}


def differentiable(name: str) -> tuple[Callable[[list[jax.Array]], jax.Array], list[jax.Array]]:
    """A call as a scalar function of the floats among its arguments, and these floats."""
    call = CALLS[name]
    leaves, tree = jax.tree.flatten(call.arguments)
    numbers = (float, np.ndarray, jax.Array) if inspect.isclass(call.function) else (np.ndarray, jax.Array)
    paths = [str(path[0]) for path, _ in jax.tree_util.tree_flatten_with_path(call.arguments)[0]]
    chosen = [
        k
        for k, leaf in enumerate(leaves)
        if isinstance(leaf, numbers) and "pixel_center" not in paths[k] and jnp.issubdtype(jnp.result_type(leaf), float)
    ]

    def function(floats):
        changed = list(leaves)
        for k, value in zip(chosen, floats, strict=True):
            changed[k] = value
        results = jax.tree.leaves(call.use(call.function(**jax.tree.unflatten(tree, changed))))
        return jnp.asarray(sum(jnp.sum(x.astype(jnp.float32)) for x in map(jnp.asarray, results)))

    return function, [jnp.asarray(leaves[k]) for k in chosen]
