"""Gradients of visibility, and how to add one.

A gradient is a function of an image, the loss's derivative by it, the positions, faces and fragments, that returns the
derivative by the positions that is to be used::

    def gradient(image, cotangent, clip_positions, faces, fragments): ...

`render(..., gradient=gradient)` uses it, and so does `with_gradient` in a pipeline of one's own. It is written for one
mesh and one image; under `vmap` JAX maps it. `EdgeSweep` and `OpenDR` are two of them, with their options.
"""

from jnr._ops.edge_sweep import EdgeSweep as EdgeSweep
from jnr._ops.opendr import OpenDR as OpenDR
from jnr._ops.visibility import Gradient as Gradient, with_gradient as with_gradient
