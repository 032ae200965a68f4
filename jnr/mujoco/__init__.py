"""Scenes of MuJoCo models, rendered from the states of MuJoCo and MJX.

Needs further packages: `pip install "jnr[mujoco]"`.
"""

from jnr.mujoco._scene import ModelScene as ModelScene, load as load
