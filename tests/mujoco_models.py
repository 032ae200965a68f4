"""MuJoCo models, and what MuJoCo's own renderer shows of them.

`tests/data/mujoco` holds geom ids, depths and colours from MuJoCo 4.0.0 with OSMesa (Debian's libosmesa6), which this
file writes if it is run: `MUJOCO_GL=osmesa python tests/mujoco_models.py`.
"""

from pathlib import Path
from typing import NamedTuple

import mujoco
import numpy as np
import pytest

FOLDER = Path(__file__).parent / "data" / "mujoco"

# Ambient light alone, so that colours are those of geoms and textures.
UNLIT = '<visual><headlight ambient="1 1 1" diffuse="0 0 0" specular="0 0 0"/></visual>'

SHAPES = f"""
<mujoco>
  {UNLIT}
  <asset>
    <texture name="checker" type="2d" builtin="checker" rgb1="0.9 0.2 0.1" rgb2="0.1 0.3 0.8" width="32" height="32"/>
    <texture name="slope" type="2d" builtin="gradient" rgb1="1 1 0" rgb2="0 0 0.4" width="32" height="32"
             mark="edge" markrgb="1 1 1"/>
    <texture name="sides" type="cube" builtin="gradient" rgb1="0 1 0.2" rgb2="0.5 0 0.5" width="32" height="192"
             mark="cross" markrgb="1 1 1"/>
    <material name="floor" texture="checker" texrepeat="5 3"/>
    <material name="slope" texture="slope" texrepeat="2 1" rgba="1 0.8 1 1"/>
    <material name="uniform" texture="checker" texrepeat="4 4" texuniform="true"/>
    <material name="sides" texture="sides"/>
    <material name="stretched" texture="sides" texuniform="true" rgba="0.7 0.7 0.7 1"/>
    <material name="plain" rgba="0.2 0.9 0.9 1"/>
  </asset>
  <worldbody>
    <camera name="side" pos="0.3 -2.6 1.8" xyaxes="1 0.1 0 -0.06 0.6 1" fovy="50"/>
    <geom type="plane" size="1.5 1.2 0.1" material="floor"/>
    <geom type="box" size="0.2 0.2 0.2" pos="0 0 0.3" group="3"/>
    <geom type="box" size="0.2 0.2 0.2" pos="0 0 0.3" rgba="1 1 1 0"/>
    <body pos="-0.8 0.2 0.5">
      <joint type="ball"/>
      <geom type="sphere" size="0.3" material="slope"/>
      <geom type="capsule" size="0.08 0.25" pos="0.5 0 0" euler="30 20 0" material="uniform"/>
      <geom type="ellipsoid" size="0.25 0.1 0.15" pos="0 -0.6 -0.1" euler="0 30 60" material="sides"/>
    </body>
    <body pos="0.5 0.2 0.5">
      <joint type="ball"/>
      <geom type="cylinder" size="0.15 0.25" pos="-0.2 -0.3 0" euler="50 0 20" material="slope"/>
      <geom type="box" size="0.2 0.1 0.3" pos="0.2 0 0" euler="0 0 30" material="slope"/>
      <geom type="box" size="0.1 0.1 0.1" pos="0.2 -0.5 -0.1" euler="20 30 30" material="sides"/>
      <geom type="capsule" size="0.1 0.2" pos="0.5 -0.4 0.1" euler="80 30 0" material="stretched"/>
      <geom type="cylinder" size="0.2 0.03" pos="0 0.4 0.2" euler="70 0 0" material="plain"/>
      <geom type="cylinder" size="0.15 0.1" pos="0.55 0.3 0.2" euler="20 30 0" material="stretched"/>
      <geom type="ellipsoid" size="0.1 0.1 0.2" pos="0.1 0 0.5" material="plain" rgba="0.9 0.5 0 1"/>
    </body>
  </worldbody>
</mujoco>
"""

# A concave mesh with texture coordinates, and an arrowhead without.
MESHES = f"""
<mujoco>
  {UNLIT}
  <asset>
    <texture name="slope" type="2d" builtin="gradient" rgb1="1 1 0" rgb2="0 0 0.4" width="32" height="32"
             mark="edge" markrgb="1 1 1"/>
    <texture name="sides" type="cube" builtin="gradient" rgb1="0 1 0.2" rgb2="0.5 0 0.5" width="32" height="192"/>
    <material name="slope" texture="slope" texrepeat="3 2"/>
    <material name="sides" texture="sides"/>
    <mesh name="vee" vertex="0 0 0  1 0 0  1 0.3 0  0.3 0.3 0  0.3 1 0  0 1 0  0 0 0.4  1 0 0.4  1 0.3 0.4  0.3 0.3 0.4
        0.3 1 0.4  0 1 0.4" texcoord="0 0  1 0  1 0.3  0.3 0.3  0.3 1  0 1  0.1 0  1 0.1  0.9 0.3  0.2 0.3  0.3 0.8
        0 0.9" face="0 3 1  1 3 2  0 5 3  3 5 4  6 7 9  7 8 9  6 9 11  9 10 11  0 1 7  0 7 6  1 2 8  1 8 7  2 3 9  2 9 8
        3 4 10  3 10 9  4 5 11  4 11 10  5 0 6  5 6 11" inertia="legacy"/>
    <mesh name="head" scale="0.4 0.4 0.4" vertex="0 0 1  1 1 -1  -1 1 -1  -1 -1 -1  1 -1 -1  0 0 -0.5"
        face="0 1 2  0 2 3  0 3 4  0 4 1  5 2 1  5 3 2  5 4 3  5 1 4" inertia="legacy"/>
    <hfield name="hills" nrow="5" ncol="7" size="1.6 1.2 0.4 0.1" elevation="0 0 0 0.2 0 0 0  0 1 0.3 0 0 0.2 0
        0 0.4 0 0 0.5 0.9 0  0.2 0 0 0.3 0 0.4 0  0 0 0.6 0 0 0 0.8"/>
  </asset>
  <worldbody>
    <camera name="side" pos="0.3 -3.2 2.2" xyaxes="1 0.1 0 -0.06 0.6 1" fovy="45"/>
    <geom type="hfield" hfield="hills" material="slope"/>
    <body pos="-0.5 0 0.8">
      <joint type="ball"/>
      <geom type="mesh" mesh="vee" euler="20 -30 10" material="slope"/>
      <geom type="mesh" mesh="head" pos="0.9 -0.2 0.3" euler="100 0 30" material="slope"/>
      <geom type="mesh" mesh="head" pos="1.4 0.5 0.2" euler="0 20 30" material="sides"/>
      <geom type="mesh" mesh="vee" pos="0 0.8 0.3" rgba="0.8 0.5 0.3 1"/>
    </body>
  </worldbody>
</mujoco>
"""

CAMERAS = """
<mujoco>
  <visual>
    <global azimuth="60" elevation="-20" fovy="40"/>
    <headlight ambient="0.2 0.25 0.2" diffuse="0.3 0.2 0.2" specular="0 0 0"/>
    <map znear="0.02" zfar="20"/>
  </visual>
  <statistic center="0.2 0 0.3" extent="2"/>
  <default><geom material="matt"/></default>
  <asset>
    <texture type="skybox" builtin="gradient" rgb1="0.3 0.5 0.9" rgb2="0.9 0.9 0.4" width="64" height="384"/>
    <texture name="checker" type="2d" builtin="checker" rgb1="0.6 0.6 0.6" rgb2="0.2 0.3 0.3" width="32" height="32"/>
    <material name="floor" texture="checker" texrepeat="1.5 1" specular="0"/>
    <material name="matt" rgba="0.8 0.7 0.6 1" specular="0"/>
  </asset>
  <worldbody>
    <light type="directional" dir="0.5 0.3 -1" diffuse="0.4 0.4 0.5" specular="0 0 0" castshadow="false"/>
    <light type="spot" mode="targetbody" target="pendulum" pos="1 -1 2" diffuse="0.6 0.5 0.3" ambient="0.05 0 0"
           specular="0 0 0" castshadow="false" cutoff="40" exponent="3" attenuation="0.5 0.1 0.1"/>
    <camera name="fixed" pos="0.5 -2.5 1" xyaxes="1 0.2 0 0 0.3 1" fovy="35"/>
    <camera name="target" mode="targetbody" target="pendulum" pos="1.5 1.5 1.2"/>
    <camera name="intrinsic" pos="0.2 -2 0.8" xyaxes="1 0.1 0.1 0 0.3 1" resolution="80 64" focalpixel="90 70"
            principalpixel="6 -9" sensorsize="0.008 0.0064"/>
    <camera name="parallel" projection="orthographic" fovy="2.2" pos="-1 -3 1.5" xyaxes="1 -0.3 0 0.1 0.4 1"/>
    <geom type="plane" size="0 0 0.1" material="floor"/>
    <body name="pendulum" pos="0 0 1">
      <joint axis="0 1 0"/>
      <geom type="capsule" size="0.06" fromto="0 0 0 0.2 0.1 -0.6"/>
      <geom type="sphere" size="0.2" pos="0.25 0.1 -0.7"/>
      <camera name="moving" pos="0.2 0.1 -0.6" xyaxes="0 -1 0 0 0 1" fovy="80"/>
    </body>
    <geom type="box" size="0.2 0.3 0.25" pos="-0.6 0.5 0.25" rgba="0.2 0.5 0.7 1"/>
    <geom type="cylinder" size="0.2 0.1" pos="0.7 -0.5 0.1"/>
  </worldbody>
</mujoco>
"""


class Case(NamedTuple):
    """A model, where it is from, and the camera that sees it."""

    name: str
    source: str
    camera: int | str
    image_size: tuple[int, int] = (64, 80)


OWN = [
    Case("shapes", SHAPES, "side"),
    Case("meshes", MESHES, "side"),
    *(
        Case(f"cameras_{name}", CAMERAS, -1 if name == "free" else name)
        for name in ("fixed", "target", "intrinsic", "parallel", "moving", "free")
    ),
]
# Relative to `mujoco.mjx`.
PACKAGED = [
    Case("humanoid", "test_data/humanoid/humanoid.xml", -1),
    Case("shadow_hand", "test_data/shadow_hand/scene_right.xml", -1),
    Case("convex", "test_data/convex.xml", -1),
    Case("pendula", "test_data/pendula.xml", -1),
    Case("ray", "test_data/ray.xml", -1),
]


def load(source: str) -> mujoco.MjModel:
    """The compiled model; skips the test if the package does not have it."""
    if source.lstrip().startswith("<"):
        return mujoco.MjModel.from_xml_string(source)
    from mujoco import mjx

    path = Path(mjx.__file__).parent / source
    if not path.is_file():
        pytest.skip(f"the installed mujoco-mjx has no {source}")
    return mujoco.MjModel.from_xml_path(str(path))


def state(model: mujoco.MjModel, qpos: np.ndarray) -> mujoco.MjData:
    """The state at joint positions."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_forward(model, data)
    return data


def golden(case: Case) -> tuple[mujoco.MjModel, mujoco.MjData, dict[str, np.ndarray]]:
    """The model, its state, and ids, depths and colours from MuJoCo's renderer."""
    model = load(case.source)
    with np.load(FOLDER / f"{case.name}.npz") as file:
        arrays = dict(file)
    same = len(arrays["qpos"]) == model.nq and arrays["geom_xpos"].shape == (model.ngeom, 3)
    data = state(model, arrays["qpos"]) if same else None
    if data is None or not np.allclose(data.geom_xpos, arrays["geom_xpos"], atol=1e-6):
        pytest.skip(f"the installed mujoco-mjx has another {case.source}")
    return model, data, arrays


def _qpos(model):
    """Joint positions near the start, with every hinge and ball turned."""
    rng, qpos = np.random.default_rng(0), model.qpos0.copy()
    for kind, first in zip(model.jnt_type, model.jnt_qposadr, strict=True):
        if kind == mujoco.mjtJoint.mjJNT_BALL:
            qpos[first : first + 4] += rng.uniform(-0.1, 0.1, 4)
        elif kind == mujoco.mjtJoint.mjJNT_HINGE:
            qpos[first] += rng.uniform(-0.3, 0.3)
    return qpos


def _rendered(model, data, case):
    """Geom ids, -1 where there is none, depths and colours."""
    height, width = case.image_size
    option = mujoco.MjvOption()
    for groups in (option.sitegroup, option.tendongroup, option.skingroup, option.flexgroup):
        groups[:] = 0
    with mujoco.Renderer(model, height, width) as renderer:
        renderer.update_scene(data, case.camera, option)
        # What jnr leaves out.
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_HAZE] = False
        colors = renderer.render()
        renderer.enable_depth_rendering()
        depth = renderer.render()
        renderer.enable_segmentation_rendering()
        ids, kinds = np.moveaxis(renderer.render(), -1, 0)
    return np.where(kinds == mujoco.mjtObj.mjOBJ_GEOM, ids, -1), depth, colors


def main() -> None:
    """Writes the golden data."""
    FOLDER.mkdir(exist_ok=True)
    for case in (*OWN, *PACKAGED):
        model = load(case.source)
        data = state(model, _qpos(model))
        ids, depth, colors = _rendered(model, data, case)
        arrays = {"qpos": data.qpos, "geom_xpos": data.geom_xpos, "ids": ids.astype(np.int16), "depth": depth}
        if case in OWN:
            arrays["rgb"] = colors
        np.savez_compressed(FOLDER / f"{case.name}.npz", **arrays)


if __name__ == "__main__":
    main()
