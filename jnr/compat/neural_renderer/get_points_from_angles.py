"""Points around the origin."""

from __future__ import annotations

from jaxtyping import Array, ArrayLike, Float

import jnr


def get_points_from_angles(
    distance: ArrayLike, elevation: ArrayLike, azimuth: ArrayLike, degrees: bool = True
) -> Float[Array, "*batch 3"]:
    """Returns points around the origin, for `eye`.

    Azimuth 0 is the direction of -z, where the default eye is; elevation is measured from the xz plane upwards. The
    result is always an array, whereas the originals return a tuple for scalars.

    Gradients: reach distance, elevation and azimuth.

    Args:
        distance: Distance from the origin.
        elevation: Angle towards +y.
        azimuth: Angle around the y axis.
        degrees: Whether angles are in degrees, else in radians.
    """
    return jnr.points_from_angles(distance, elevation, azimuth, degrees=degrees, handedness="left")
