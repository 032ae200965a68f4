"""Draws a shaded mesh."""

import imageio.v3 as iio
import numpy as np

import jnr

mesh = jnr.shapes.teapot()
camera = jnr.Camera(jnr.LookAt(eye=(1.0, 1.2, 2.2)), jnr.Perspective(fov=45))
picture = jnr.render(mesh.vertices, mesh.faces, camera=camera, antialias=2, background=1.0)
iio.imwrite("teapot.png", np.uint8(picture.rgb.clip(0, 1) * 255))
