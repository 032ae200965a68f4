"""Visibility gradients, and how to add one.

A visibility gradient is a function that returns the cotangent of the positions for the cotangent of an image::

    def gradient(image, cotangent, clip_positions, faces, fragments): ...

`render(..., gradient=gradient)` uses it, and so does `with_gradient` in a pipeline of your own. It is written for one
mesh and one image; `vmap` maps it. jnr provides `EdgeSweep`, `OpenDR` and `Boundary`, with their options.
"""

from jnr._ops.boundary import Boundary as Boundary
from jnr._ops.edge_sweep import EdgeSweep as EdgeSweep
from jnr._ops.opendr import OpenDR as OpenDR
from jnr._ops.visibility import Gradient as Gradient, with_gradient as with_gradient
