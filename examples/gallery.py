"""Renders the images of docs/gallery.md, one per feature of the renderer."""

import argparse
from pathlib import Path

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np

import jnr

TEAPOT = jnr.shapes.teapot(10)
BALL = jnr.shapes.icosphere(4)
SIDE = jnr.Camera(jnr.LookAt((1.2, 0.9, 2.2)), jnr.Perspective(54.0))
COLORS = jnp.clip(TEAPOT.vertices * jnp.array([0.5, 1.0, 0.5]) + 0.5, 0, 1)


def checker(columns, rows):
    """Returns a checkerboard of two colours with 8 x 8 texels per field."""
    field = (np.add.outer(np.arange(rows), np.arange(columns)) % 2)[..., None]
    board = np.where(field, [0.95, 0.9, 0.8], [0.75, 0.25, 0.15])
    return jnp.asarray(board.repeat(8, axis=0).repeat(8, axis=1), jnp.float32)


def floor(**options):
    """Returns a checkerboard floor that extends to the horizon, with its render options."""
    vertices = jnp.array([[-20.0, 0, 2], [20, 0, 2], [20, 0, -60], [-20, 0, -60]])
    uv = vertices[:, ::2] / 8
    camera = jnr.Camera(jnr.LookAlong((0, 1, 2), (0, -0.25, -1)), jnr.Perspective(50.0))
    texture = jnr.UVTexture(checker(8, 8), uv, **options)
    return jnr.Mesh(vertices, jnp.array([[0, 1, 2], [0, 2, 3]]), texture), {"camera": camera, "lights": ()}


def wrapped(wrap):
    """Returns a plane with an image in its middle and the wrap mode's continuation around it."""
    plane = jnr.shapes.plane()
    image = checker(3, 3).at[:8, :8].set(jnp.array([0.1, 0.4, 0.7]))
    texture = jnr.UVTexture(image, plane.vertices[:, :2] * 3 + 0.5, wrap=wrap, border=(0.2, 0.5, 0.3))
    camera = jnr.Camera(jnr.LookAt((0, 0, 2.0)), jnr.Orthographic(0.5))
    return plane._replace(textures=texture), {"camera": camera, "lights": ()}


def globe():
    """Returns a sphere with a map on it. Texture coordinates are per corner, which closes the seam."""
    ball = jnr.shapes.uv_sphere(24, 48)
    corners = np.asarray(ball.vertices)[np.asarray(ball.faces)]
    longitude = np.arctan2(corners[..., 0], corners[..., 2]) / (2 * np.pi) + 0.5
    longitude += (longitude.max(axis=1, keepdims=True) - longitude > 0.5) * 1.0
    latitude = np.arcsin(np.clip(corners[..., 1], -1, 1)) / np.pi + 0.5
    uv = np.stack([longitude, latitude], axis=-1).reshape(-1, 2)
    faces = jnp.arange(len(uv)).reshape(-1, 3)
    return ball._replace(
        textures=jnr.UVTexture(checker(16, 8), jnp.asarray(uv, jnp.float32), faces, filter="trilinear")
    )


def scene():
    """Returns three meshes concatenated into one."""
    parts = [jnr.shapes.cube(), jnr.shapes.icosphere(2), jnr.shapes.torus()]
    colors = [(0.8, 0.3, 0.2), (0.3, 0.6, 0.3), (0.2, 0.4, 0.8)]
    return jnr.concatenate(
        [
            jnr.Mesh(
                m.vertices * 0.4 + jnp.array([0.75 * k - 0.8, 0, 0]),
                m.faces,
                jnp.tile(jnp.array(c), (len(m.vertices), 1)),
            )
            for k, (m, c) in enumerate(zip(parts, colors, strict=True))
        ]
    )


def contours(surface):
    """Shades with lines of equal height, darker where the surface turns away: an example of a custom shader."""
    lines = jnp.sin(40 * surface.attributes) > 0.6
    facing = jnp.sum(surface.normal * surface.viewer, axis=-1, keepdims=True)
    return jnp.where(lines, jnp.array([0.1, 0.2, 0.5]), jnp.array([0.95, 0.9, 0.75])) * facing


def fisheye():
    """Returns a checkerboard wall seen through a lens that bends straight lines."""
    wall = jnr.shapes.plane(24, 24)
    texture = jnr.UVTexture(checker(8, 8), wall.vertices[:, :2] + 0.5)
    matrix = jnp.array([[110.0, 0, 95.5], [0, 110, 95.5], [0, 0, 1]])
    turn = jnp.diag(jnp.array([1.0, -1, -1]))
    camera = jnr.Camera.from_opencv(matrix, turn, (0, 0, 0.62), (192, 192), distortion=(-0.25, 0.03, 0, 0))
    return wall._replace(textures=texture), {"camera": camera, "lights": ()}


POINT = (jnr.AmbientLight(0.15), jnr.PointLight(0.9, (1.0, 0.85, 0.6), (1.5, 1.5, 1.5)))
SKY = jnp.zeros((9, 3)).at[0].set(jnp.array([1.6, 1.7, 1.9])).at[1].set(jnp.array([0.7, 0.8, 1.1]))
SKY = SKY.at[3].set(jnp.array([0.6, 0.2, -0.2]))
CUBES = jnp.asarray(np.random.default_rng(0).uniform(0.2, 1, (80, 4, 4, 4, 3)), jnp.float32)
GRADIENT = jnp.linspace(0, 1, 192)[:, None, None] * jnp.array([0.9, 0.5, 0.3]) * jnp.ones((1, 192, 1))

# Name -> function that returns a mesh and options of `render`.
SCENES = {
    "flat": lambda: (TEAPOT, {}),
    "smooth": lambda: (TEAPOT, {"normals": "smooth"}),
    "vertex_colors": lambda: (TEAPOT._replace(textures=COLORS), {"normals": "smooth"}),
    "texture_cubes": lambda: (jnr.shapes.icosphere(1)._replace(textures=CUBES), {}),
    "uv_texture": lambda: (globe(), {"normals": "smooth"}),
    "point_light": lambda: (BALL, {"normals": "smooth", "lights": POINT}),
    "harmonics": lambda: (BALL, {"normals": "smooth", "lights": (jnr.SphericalHarmonicsLight(SKY),)}),
    "phong": lambda: (
        TEAPOT._replace(textures=jnp.full_like(TEAPOT.vertices, 0.6)),
        {"normals": "smooth", "lights": POINT, "shader": jnr.Phong(0.7, 40.0)},
    ),
    "shader": lambda: (TEAPOT, {"normals": "smooth", "shader": contours, "attributes": TEAPOT.vertices[:, 1:2]}),
    "nearest": lambda: floor(filter="nearest"),
    "bilinear": lambda: floor(filter="bilinear"),
    "trilinear": lambda: floor(filter="trilinear"),
    **{wrap: lambda wrap=wrap: wrapped(wrap) for wrap in ("repeat", "mirror", "clamp", "border")},
    "orthographic": lambda: (TEAPOT, {"camera": jnr.Camera(SIDE.pose, jnr.Orthographic(1.0)), "normals": "smooth"}),
    "distortion": fisheye,
    "background_image": lambda: (TEAPOT, {"normals": "smooth", "background": GRADIENT}),
    "scene": lambda: (scene(), {"normals": "smooth"}),
    "culled": lambda: (jnr.shapes.torus(), {"cull": "front"}),
}


def render_scene(name):
    """Returns one rendering with the gallery's defaults."""
    mesh, options = SCENES[name]()
    options = {"camera": SIDE, "image_size": 192, "background": 1.0, "antialias": 3, **options}
    return jnr.render(*mesh, **options)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("docs/images/gallery"))
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    images = {name: render_scene(name).rgb for name in SCENES}
    buffers = render_scene("smooth")
    images["normals"] = buffers.normals / 2 + 0.5
    images["depth"] = jnp.clip((3.4 - buffers.depth) / 1.5, 0, 1)[..., None].repeat(3, axis=-1)
    images["silhouette"] = buffers.alpha[..., None].repeat(3, axis=-1)
    images["transparent"] = jnr.render(*TEAPOT, camera=SIDE, image_size=192, background=None, antialias=3).rgba
    batch = jnr.stack([jnr.shapes.cube(), jnr.shapes.torus(), jnr.shapes.torus_knot()])
    several = jax.vmap(lambda mesh: jnr.render(*mesh, camera=SIDE, image_size=192, background=1.0, antialias=2).rgb)
    images["batch"] = jnp.concatenate(list(several(batch)), axis=1)
    for name, image in images.items():
        iio.imwrite(folder / f"{name}.png", np.round(np.clip(image, 0, 1) * 255).astype(np.uint8))
    print(f"{len(images)} images in {folder}")


if __name__ == "__main__":
    main()
