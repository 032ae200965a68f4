"""MuJoCo models: geom ids, depths and colours as from MuJoCo's own renderer, and states of MJX."""

import dataclasses
import functools
import subprocess
import sys
import types
import warnings

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco import mjx
from mujoco_models import CAMERAS, OWN, PACKAGED, Case, golden, load, state
from programs import equations

import jnr
import jnr.mujoco

# What the scene reads of a state.
FIELDS = ("geom_xpos", "geom_xmat", "cam_xpos", "cam_xmat", "xpos", "xmat", "subtree_com")

SLIDER = """
<mujoco>
  <worldbody>
    <camera name="above" pos="0 0 5" fovy="30"/>
    <geom type="plane" size="3 3 0.1"/>
    <body pos="0 0 1">
      <joint name="x" type="slide" axis="1 0 0"/>
      <joint name="z" type="slide" axis="0 0 1"/>
      <geom type="box" size="0.6 0.5 0.2" rgba="0.9 0.4 0.2 1"/>
    </body>
  </worldbody>
</mujoco>
"""


@functools.cache
def quiet(source):
    """The scene of a model, without warnings, at a coarse resolution."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return jnr.mujoco.load(load(source) if isinstance(source, str) else source, resolution=(8, 4))


def floats(data):
    """A state's arrays, which may be passed to a compiled function."""
    names = (*FIELDS, "light_xpos", "light_xdir")
    return {name: jnp.asarray(np.asarray(getattr(data, name)), jnp.float32) for name in names}


def xml(body, **parts):
    """A model of geoms in the world."""
    return mujoco.MjModel.from_xml_string(
        f"<mujoco>{parts.get('head', '')}<asset>{parts.get('asset', '')}</asset><worldbody>{body}</worldbody>"
        f"{parts.get('tail', '')}</mujoco>"
    )


def near_boundary(ids):
    """Pixels with a neighbour of another id."""
    height, width = ids.shape
    padded = np.pad(ids, 1, mode="edge")
    around = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.any([own != ids for own in around], axis=0)


@pytest.mark.parametrize("case", [*OWN, *PACKAGED], ids=lambda case: case.name)
def test_ids_depths_and_colors_are_those_of_mujocos_renderer(case: Case, record_property):
    model, data, expected = golden(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scene = jnr.mujoco.load(model)

    @jax.jit
    def render(scene, arrays):
        seen = scene.render(types.SimpleNamespace(**arrays), case.camera, image_size=case.image_size)
        return seen.instance, seen.depth, seen.rgb if case in OWN else None

    ids, depth, rgb = jax.tree.map(np.asarray, render(scene, floats(data)))
    boundary = near_boundary(ids) | near_boundary(expected["ids"])
    same = ids == expected["ids"]
    record_property("same_ids", float(same.mean()))
    assert same.mean() >= 0.995
    assert np.all(same | boundary)
    surface = ~boundary & (ids >= 0)
    assert np.sum(surface) > 50
    assert np.abs(depth - expected["depth"])[surface].max() < 1e-3
    if rgb is not None:
        # MuJoCo averages four samples and lights vertices; textures are filtered differently.
        difference = np.abs(np.clip(rgb, 0, 1) - expected["rgb"] / 255)[surface]
        record_property("rgb_difference", float(difference.mean()))
        assert difference.mean() < 0.03
        assert np.mean(difference > 0.2) < 0.03


def test_states_of_mjx_and_mujoco_give_the_same_picture():
    model = load(SLIDER)
    scene, data = quiet(SLIDER), state(model, np.array([0.3, 0.2]))

    @jax.jit
    def computed(qpos):
        on_device = mjx.put_model(model)
        start = mjx.make_data(on_device).replace(qpos=qpos)
        return mjx.camlight(on_device, mjx.kinematics(on_device, start))

    with jax.numpy_dtype_promotion("standard"):
        own = computed(jnp.array([0.3, 0.2]))
    expected, found = (scene.render(one, "above", image_size=16) for one in (data, own))
    np.testing.assert_array_equal(found.instance, expected.instance)
    np.testing.assert_allclose(found.rgb, expected.rgb, atol=1e-3)


def test_derivatives_with_respect_to_joints_are_those_of_depth_and_silhouette():
    model = load(SLIDER)
    scene = jnr.mujoco.load(model)
    with jax.numpy_dtype_promotion("standard"):
        on_device = mjx.put_model(model)
        start = mjx.make_data(on_device)

    def seen(qpos):
        with jax.numpy_dtype_promotion("standard"):
            data = mjx.camlight(on_device, mjx.kinematics(on_device, start.replace(qpos=qpos)))
        rendering = scene.render(data, "above", image_size=16, lights=(), gradient="boundary")
        return rendering.depth, rendering.rgb[..., 0]

    differentiate = jax.jit(lambda tangent: jax.jvp(seen, (jnp.zeros(2),), (tangent,)))
    (depth, _), (rising, _) = differentiate(jnp.array([0.0, 1.0]))
    _, (_, moving) = differentiate(jnp.array([1.0, 0.0]))
    is_top = np.isclose(depth, 5 - 1.2, atol=1e-4)
    inside = is_top & ~near_boundary(is_top.astype(int))
    assert 0 < inside.sum() < inside.size
    np.testing.assert_allclose(rising[inside], -1, atol=1e-4)
    # To the right the covered area stays, and its first moment grows by the area: 0.9 against 0.5 of the floor.
    columns = np.arange(16) - 7.5
    per_unit = 16 / (2 * np.tan(np.deg2rad(15)) * 3.8)
    assert np.sum(moving) == pytest.approx(0, abs=1e-3)
    assert np.sum(moving * columns) == pytest.approx(0.4 * 1.2 * 1.0 * per_unit**3, rel=0.1)


def test_batch_of_states_and_cameras_is_one_call_of_the_rasterizer():
    model = load(CAMERAS)
    scene, data = quiet(CAMERAS), floats(state(model, np.zeros(1)))
    batch = jax.tree.map(lambda x: jnp.stack([x] * 3), data)

    def environments(batch, cameras):
        def view(data, camera):
            return scene.render(types.SimpleNamespace(**data), camera, image_size=16)[:3]

        return jax.vmap(jax.vmap(view, (None, 0)), (0, None))(batch, cameras)

    jaxpr = jax.make_jaxpr(environments)(batch, jnp.arange(model.ncam))
    names = [equation.primitive.name for equation in equations(jaxpr.jaxpr)]
    assert names.count("jnr_rasterize") == 1
    assert [a.shape for a in jaxpr.out_avals] == [(3, 5, 16, 16, 3), (3, 5, 16, 16), (3, 5, 16, 16)]


@pytest.mark.parametrize("name", ["fixed", "intrinsic", "parallel", "moving"])
def test_camera_of_a_traced_index_is_that_of_the_name(name):
    model = load(CAMERAS)
    scene, data = quiet(CAMERAS), state(model, np.full(1, 0.2))
    index = scene.cameras.names.index(name)
    points = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    traced, known = (scene.camera(data, i, image_size=(20, 30)) for i in (jnp.asarray(index), name))
    np.testing.assert_allclose(traced.clip_positions(points, 1.5), known.clip_positions(points, 1.5), atol=2e-5)
    np.testing.assert_allclose(traced.depth(points), known.depth(points), atol=1e-6)
    assert jax.tree.all(jax.tree.map(np.array_equal, scene.camera(data, index, image_size=(20, 30)), known))


def test_free_and_tracking_cameras_are_those_of_mujoco():
    model = load(CAMERAS)
    scene, data = quiet(CAMERAS), state(model, np.full(1, 0.2))
    camera, visible = mujoco.MjvCamera(), mujoco.MjvScene(model, 10)
    mujoco.mjv_defaultFreeCamera(model, camera)
    views = [(-1, camera)]
    for kind in ("FREE", "TRACKING", "FIXED"):
        own = mujoco.MjvCamera()
        own.type, own.lookat[:] = getattr(mujoco.mjtCamera, f"mjCAMERA_{kind}"), (0.1, -0.2, 0.4)
        own.distance, own.azimuth, own.elevation = 1.3, 200, -50
        own.trackbodyid, own.fixedcamid = 1, 0
        views.append((own, own))
    for given, own in views:
        mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, own, mujoco.mjtCatBit.mjCAT_ALL.value, visible)
        seen = mujoco.mjv_averageCamera(*visible.camera)
        pose = np.asarray(scene.camera(data, given).pose.camera_from_world())
        np.testing.assert_allclose(pose[:3, :3] @ seen.pos + pose[:3, 3], 0, atol=1e-5)
        np.testing.assert_allclose(pose[:3, :3], [np.cross(seen.forward, seen.up), seen.up, -seen.forward], atol=1e-5)


MODES = """
<mujoco>
  <worldbody>
    <body name="aim" pos="1 2 0.3"><freejoint/><geom size="0.1"/></body>
    <body pos="0 0 1" euler="10 -40 60">
      <joint type="ball"/>
      <geom size="0.1 0.2" type="capsule" pos="0.2 0 0"/>
      <body pos="0.4 0 0"><joint axis="0 1 0"/><geom size="0.1"/></body>
      <light pos="0.1 0.2 0.3" dir="0 0.6 -0.8" castshadow="false"/>
      <light mode="track" pos="0.3 0 0" dir="0 1 -1" castshadow="false" type="directional"/>
      <light mode="trackcom" pos="0 0.3 0" castshadow="false"/>
      <light mode="targetbody" target="aim" castshadow="false"/>
      <light active="false" pos="9 9 9" castshadow="false"/>
      <light mode="targetbodycom" target="aim" castshadow="false" pos="0 0 1"/>
    </body>
  </worldbody>
</mujoco>
"""


def test_lights_that_mjx_leaves_out_are_where_mujoco_has_them():
    model = load(MODES)
    qpos = model.qpos0 + np.random.default_rng(3).uniform(-0.3, 0.3, model.nq)
    data, scene = state(model, qpos), jnr.mujoco.load(model)
    camera = scene.camera(data)
    expected = scene.lights(data, camera)
    found = scene.lights(mjx.put_data(model, data), camera)
    assert [type(light).__name__ for light in found] == [
        *("AmbientLight", "DirectionalLight", "SpotLight", "DirectionalLight", "SpotLight", "SpotLight", "SpotLight")
    ]
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), found, expected)
    np.testing.assert_allclose(found[2].light.position, data.light_xpos[0], atol=1e-5)
    np.testing.assert_allclose(found[3].direction, -data.light_xdir[1], atol=1e-5)
    np.testing.assert_allclose(found[-1].direction, data.light_xdir[5], atol=1e-5)


def test_spot_light_is_opengls():
    light = jnr.PointLight(1.0, (0.5, 1.0, 1.0), (0.0, 0.0, 2.0), (1.0, 0.0, 0.25))
    (spot,) = jax.tree.leaves(
        quiet(MODES).lights(state(load(MODES), load(MODES).qpos0), quiet(MODES).camera(None))[2:3],
        is_leaf=lambda x: type(x).__name__ == "SpotLight",
    )
    spot = dataclasses.replace(spot, light=light, direction=(0.0, 0.0, -1.0), cutoff=45.0, exponent=3.0)
    positions = jnp.array([[0.0, 0, 0], [1, 0, 0], [2.1, 0, 0]])
    color, _ = spot.arriving(positions, jnp.array([[0.0, 0, 1]] * 3))
    cosine = 2 / np.sqrt(5)
    np.testing.assert_allclose(color[:, 1], [0.5, cosine**3 / (1 + 0.25 * 5), 0], rtol=1e-5)
    np.testing.assert_allclose(color[:, 0], 0.5 * color[:, 1], rtol=1e-6)


def test_model_without_lights_has_mujocos_ambient_light():
    dark = xml('<geom size="1"/>', head='<visual><headlight active="0"/></visual>')
    scene, data = jnr.mujoco.load(dark), state(dark, dark.qpos0)
    rendering = scene.render(data, image_size=9)
    np.testing.assert_allclose(rendering.rgb[4, 4], 0.3 * 0.5, rtol=1e-6)


def test_color_of_a_geom_wins_over_that_of_its_material_unless_it_is_the_default():
    asset = '<material name="m" rgba="0.1 0.2 0.3 1"/>'
    both = xml(
        '<geom size="1" material="m"/><geom size="1" material="m" rgba="0.9 0.8 0.7 1"/><geom size="1"/>', asset=asset
    )
    colors = jnp.asarray(jnr.mujoco.load(both).scene.colors)
    np.testing.assert_allclose(colors, [(0.1, 0.2, 0.3), (0.9, 0.8, 0.7), (0.5, 0.5, 0.5)], rtol=1e-6)


def test_geoms_of_other_groups_and_without_opacity_keep_their_ids_and_have_no_faces():
    model = xml(
        '<geom size="1" rgba="1 1 1 0"/><geom type="box" size="1 1 1" group="3"/><geom type="capsule" size="0.8 0.5"/>'
    )
    data = state(model, model.qpos0)
    default, collision = jnr.mujoco.load(model), jnr.mujoco.load(model, groups=(3,))
    assert set(np.asarray(default.place(data).instance)) == {2}
    assert set(np.asarray(collision.place(data).instance)) == {1}
    assert len(jnr.mujoco.load(model, groups=()).place(data).mesh.faces) == 0
    shown, hidden = (
        np.asarray(default.render(data, image_size=16, lights=(), visible=np.array([True, True, own])).instance)
        for own in (True, False)
    )
    assert set(shown.ravel()) == {-1, 2}
    assert np.all(hidden == -1)


def test_geoms_share_the_shapes_that_differ_in_scale():
    model = xml(
        '<geom size="1"/><geom size="2"/><geom type="ellipsoid" size="1 2 3"/><geom type="box" size="1 2 3"/>'
        '<geom type="box" size="2 2 2"/><geom type="capsule" size="1 2"/><geom type="capsule" size="2 4"/>'
        '<geom type="capsule" size="1 3"/><geom type="cylinder" size="1 2"/><geom type="cylinder" size="3 1"/>'
    )
    scene = jnr.mujoco.load(model)
    assert scene.scene.instances == (0, 0, 0, 1, 1, 2, 2, 3, 4, 4)
    mesh, instance = scene.place(state(model, model.qpos0))
    for geom in range(model.ngeom):
        seen = np.asarray(mesh.vertices)[np.asarray(mesh.faces)[np.asarray(instance) == geom]].reshape(-1, 3)
        box = model.geom_aabb[geom]
        # The outermost slices lie on the axes.
        np.testing.assert_allclose(seen.max(axis=0), box[:3] + box[3:], rtol=1e-5)


def test_infinite_plane_follows_the_camera_by_whole_steps_and_its_texture_stays():
    model = load(CAMERAS)
    scene, data = quiet(CAMERAS), state(model, np.zeros(1))
    step = np.asarray(scene.steps[0])
    np.testing.assert_allclose(step, [4 / 1.5, 4])
    far = 3000 * step[0]
    cameras = [
        jnr.Camera(jnr.LookAt((x, 0.3, 5.0), (x, 3.0, 0.0), (0.0, 0.0, 1.0)), jnr.Perspective(50.0, 0.1, 20.0))
        for x in (0.0, far)
    ]
    here, there = (scene.render(data, camera, image_size=24, lights=()) for camera in cameras)
    np.testing.assert_array_equal(there.instance, 0)
    is_floor = np.asarray(here.instance) == 0
    assert is_floor.sum() > 300
    # float32 places at 8000 units.
    assert np.mean(np.abs(here.rgb - there.rgb)[is_floor] > 0.05) < 0.02
    away = scene.poses(data, jnr.Camera(jnr.LookAt((0.6 * step[0], 0.4 * step[1], 1.0))))
    np.testing.assert_allclose(away[0, :3, 3], [step[0], 0, 0], atol=1e-6)


def test_last_of_coincident_surfaces_is_seen():
    model = xml('<geom type="box" size="1 1 1"/><geom type="box" size="1 1 1" rgba="1 0 0 1"/>')
    ids = np.asarray(jnr.mujoco.load(model).render(state(model, model.qpos0), image_size=16, lights=()).instance)
    assert set(ids.ravel()) == {-1, 1}


def test_plane_is_seen_from_below_and_boxes_not_from_within():
    model = xml('<geom type="plane" size="0 0 1"/><geom type="box" size="1 1 1" pos="0 0 -2"/>')
    camera = jnr.Camera(
        jnr.LookAt((0.0, 0.1, -2.0), (0.0, 0.0, 0.0), (0.0, 1.0, 0.0)), jnr.Perspective(60.0, 0.01, 9.0)
    )
    seen = jnr.mujoco.load(model).render(state(model, model.qpos0), camera, image_size=16, lights=())
    np.testing.assert_array_equal(seen.instance, 0)


def test_sides_of_a_box_have_the_images_of_a_cube_in_opengls_order():
    asset = '<texture name="t" type="cube" builtin="gradient" width="4" height="24"/><material name="m" texture="t"/>'
    model = xml('<geom type="box" size="1 2 3" material="m"/>', asset=asset)
    scene = jnr.mujoco.load(model)
    mesh, _ = scene.place(state(model, model.qpos0))
    center = np.asarray(mesh.vertices)[np.asarray(mesh.faces)].mean(axis=1) / (1, 2, 3)
    axis = np.argmax(np.abs(center), axis=1)
    is_low = np.take_along_axis(center, axis[:, None], axis=1)[:, 0] < 0
    np.testing.assert_array_equal(np.asarray(scene.textures.material) - 1, 2 * axis + is_low)


def test_scene_is_a_pytree_whose_colors_can_be_mapped():
    model = load(SLIDER)
    scene, data = jnr.mujoco.load(model), floats(state(model, np.zeros(2)))

    def red(scene, colors):
        scene = dataclasses.replace(scene, scene=dataclasses.replace(scene.scene, colors=colors))
        return scene.render(types.SimpleNamespace(**data), "above", image_size=8, lights=()).rgb

    start = jnp.asarray(scene.scene.colors)
    colors = jnp.stack([start, 0.5 * start])
    images = jax.jit(jax.vmap(red, (None, 0)))(scene, colors)
    np.testing.assert_allclose(images[1], 0.5 * images[0], rtol=1e-6)
    assert images[0].max() == pytest.approx(0.9)


def test_image_has_the_cameras_resolution_or_that_of_mujocos_renderer():
    model = load(CAMERAS)
    scene, data = quiet(CAMERAS), state(model, np.zeros(1))
    for camera, size in (("intrinsic", (64, 80)), ("fixed", (240, 320)), (-1, (240, 320))):
        shapes = jax.eval_shape(lambda camera=camera: scene.render(data, camera))
        assert shapes.depth.shape == size
    assert scene.camera(data, "intrinsic").projection.image_size == (64, 80)


LEFT_OUT = {
    "sites here": '<site name="here"/>',
    "transparency of geoms glass, 1": '<geom name="glass" size="1" rgba="1 1 1 0.5"/><geom size="2" rgba="1 1 1 0.2"/>',
    "emission of materials lamp": '<geom size="1" material="lamp"/>',
    "reflectance of materials mirror": '<geom size="1" material="mirror"/>',
    "shadows of lights sun": '<light name="sun"/>',
    "image lights 0": '<light type="image" texture="sky" castshadow="false"/>',
    "haze": '<geom type="plane" size="0 0 1"/>',
    "tendons rope": "",
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_what_is_left_out_is_named_in_one_warning(what):
    asset = (
        '<material name="lamp" emission="0.5"/><material name="mirror" reflectance="0.5"/>'
        '<texture name="sky" type="skybox" builtin="gradient" width="8" height="48"/>'
    )
    rope = '<tendon><spatial name="rope"><site site="a"/><site site="b"/></spatial></tendon>' if "rope" in what else ""
    sites = '<site name="a" group="4"/><site name="b" pos="1 0 0" group="4"/>'
    model = xml(LEFT_OUT[what] + '<geom size="1" group="2"/>' + sites, asset=asset, tail=rope)
    with pytest.warns(UserWarning, match=what) as found:
        jnr.mujoco.load(model)
    assert len(found) == 1
    assert ";" not in str(found[0].message)


def test_skybox_is_seen_where_there_is_no_geom():
    sky = '<texture type="skybox" builtin="flat" rgb1="0.2 0.4 0.6" rgb2="0.7 0.1 0.3" width="8" height="8"/>'
    model = xml('<geom size="1"/>', asset=sky)
    scene, data = jnr.mujoco.load(model), state(model, model.qpos0)
    rendering = scene.render(data, image_size=16, lights=(), normals="flat")
    # The free camera looks down by 45 degrees, where a side of the cube meets its bottom.
    expected = np.where(np.arange(16)[:, None, None] < 8, [0.2, 0.4, 0.6], [0.7, 0.1, 0.3])
    is_sky = np.asarray(rendering.instance) < 0
    expected = np.broadcast_to(expected, (16, 16, 3))[is_sky]
    np.testing.assert_allclose(rendering.rgb[is_sky], expected, atol=2e-3)


@pytest.mark.validation
def test_wrong_arguments_are_named():
    model = load(CAMERAS)
    scene, data = quiet(CAMERAS), state(model, np.zeros(1))
    with pytest.raises(ValueError, match="camera must be the name of one of the model's cameras"):
        scene.render(data, "nowhere")
    with pytest.raises(ValueError, match="camera"):
        scene.render(data, 5)
    with pytest.raises(TypeError, match="camera must be an index, a name"):
        scene.render(data, [1, 2])
    with pytest.raises(TypeError, match="camera must be one index"):
        scene.camera(data, jnp.zeros(2, jnp.int32))
    with pytest.raises(TypeError, match="data must have geom_xpos"):
        scene.render(model)
    with pytest.raises(ValueError, match=r"data must have geom_xpos .* Use jax.vmap"):
        scene.poses(types.SimpleNamespace(**jax.tree.map(lambda x: x[None], floats(data))))
    data.geom_xpos[0] = np.nan
    with pytest.raises(ValueError, match="geom_xpos"):
        scene.poses(data)
    with pytest.raises(TypeError, match=r"model must be a mujoco.MjModel"):
        jnr.mujoco.load("humanoid.xml")
    with pytest.raises(ValueError, match="at least one geom"):
        jnr.mujoco.load(mujoco.MjModel.from_xml_string("<mujoco/>"))
    with pytest.raises(TypeError, match="resolution"):
        jnr.mujoco.load(model, resolution=(8,))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="groups"):
        jnr.mujoco.load(model, groups=(7,))


def test_mujoco_is_not_imported_with_jnr_and_named_where_it_is_missing():
    code = (
        "import sys; sys.modules['mujoco'] = None\nimport jnr\nprint('jnr.mujoco' in sys.modules)\n"
        "try:\n    import jnr.mujoco\nexcept ImportError as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [
        "False", 'MuJoCo models need mujoco. Install it with: pip install "jnr[mujoco]"'
    ]  # fmt: skip
