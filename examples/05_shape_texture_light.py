"""Recovers the shape, the colours and the lighting of a mesh together, from images of it from all sides.

    python examples/05_shape_texture_light.py [mesh.obj]

The cameras are known. The lamp moves with the camera, which makes shading and colours distinguishable. The fit starts
from a grey sphere and a lamp at the camera itself. The result is evaluated on views that were not used for the fit.
"""

import argparse
import time
from pathlib import Path

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import jnr

# Direction towards the lamp in camera axes (right, up, backwards). Its length is the intensity.
LAMP = jnp.array([0.5, 0.35, 0.35])
AMBIENT = jnp.float32(0.3)


def painted(mesh):
    """Returns the mesh within the unit sphere, with soft slanted stripes in two colours on white."""
    mesh = jnr.normalize(mesh)
    vertices = mesh.vertices / jnp.linalg.norm(mesh.vertices, axis=1).max()
    x, y, z = vertices.T[..., None]
    white, red, teal = jnp.array([[0.95, 0.92, 0.85], [0.80, 0.25, 0.20], [0.10, 0.50, 0.50]])
    stripe = jax.nn.sigmoid(8 * jnp.sin(9 * y + 2 * x))
    side = jax.nn.sigmoid(8 * jnp.sin(4 * jnp.arctan2(x, z)))
    return jnr.Mesh(vertices, mesh.faces, stripe * white + (1 - stripe) * (side * red + (1 - side) * teal))


def render(scene, azimuth, elevation, size, antialias=1):
    """Renders colours and silhouette of a scene, which is a mesh, its lamp and its ambient light."""
    mesh, lamp, ambient = scene
    view = jnr.LookAt(jnr.points_from_angles(2.732, elevation, azimuth))
    camera = jnr.Camera(view, jnr.Perspective(fov=44))
    lights = jnr.AmbientLight(ambient), jnr.DirectionalLight(1.0, 1.0, lamp @ view.camera_from_world()[:3, :3])
    size = {"image_size": size, "antialias": antialias}
    # Only the silhouette gets the edge sweep: for colours it would also act at edges inside the mesh and crease it.
    alpha = jnr.render_silhouette(mesh.vertices, mesh.faces, camera=camera, **size)
    rendering = jnr.render(*mesh, camera=camera, lights=lights, normals="smooth", background=1.0, gradient=None, **size)
    return rendering.rgb, alpha


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", nargs="?", type=Path, help="OBJ, PLY, STL, OFF or glTF file (default: the teapot)")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--size", type=int, default=96, help="image height and width in pixels")
    parser.add_argument("--views", type=int, default=24)
    parser.add_argument("--batch", type=int, default=6, help="views per step")
    parser.add_argument("--frames", type=int, default=36, help="frames of the turntable")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    start = time.perf_counter()
    reference = painted(jnr.shapes.teapot(12) if options.mesh is None else jnr.load(options.mesh, textures=False))
    sphere = jnr.shapes.icosphere(4)
    edges, pairs = jnr.unique_edges(sphere.faces)
    params = {
        "vertices": 0.7 * sphere.vertices,
        "colors": jnp.zeros_like(sphere.vertices),
        "lamp": jnp.array([0.0, 0.0, 0.5]),
        "ambient": jnp.float32(0.5),
    }

    def scene(params):
        mesh = jnr.Mesh(params["vertices"], sphere.faces, jax.nn.sigmoid(params["colors"]))
        return mesh, params["lamp"], params["ambient"]

    render_all = jax.jit(jax.vmap(render, in_axes=(None, 0, 0, None)), static_argnums=3)
    azimuths = 360 * 0.618034 * jnp.arange(options.views)
    elevations = jnp.linspace(-40.0, 70.0, options.views)
    truth = reference, LAMP, AMBIENT
    target_rgb, target_alpha = render_all(truth, azimuths, elevations, options.size)

    def loss(params, chosen):
        rgb, alpha = render_all(scene(params), azimuths[chosen], elevations[chosen], options.size)
        shape = jnr.losses.silhouette_iou(alpha, target_alpha[chosen])
        color = jnp.mean(jnp.sum((rgb - target_rgb[chosen]) ** 2, axis=-1))
        smooth = jnr.losses.laplacian(params["vertices"], edges)
        flat = jnr.losses.normal_consistency(params["vertices"], sphere.faces, pairs)
        return 2 * shape + 5 * color + 300 * smooth + flat

    rates = {"vertices": 1.0, "colors": 5.0, "lamp": 1.0, "ambient": 1.0}
    schedule = optax.cosine_decay_schedule(0.01, options.steps, alpha=0.1)
    optimizer = optax.chain(jnr.optim.zero_skipping_adam(schedule), jnr.optim.scale_rates(rates))

    @jax.jit
    def step(params, state, key):
        chosen = jax.random.choice(key, options.views, (options.batch,), replace=False)
        value, grad = jax.value_and_grad(loss)(params, chosen)
        updates, state = optimizer.update(grad, state)
        return optax.apply_updates(params, updates), state, value

    before, state = scene(params), optimizer.init(params)
    progress = tqdm(jax.random.split(jax.random.key(0), options.steps), desc="fitting", mininterval=0.5)
    for i, key in enumerate(progress):
        params, state, value = step(params, state, key)
        if i % 20 == 0:
            progress.set_postfix(loss=f"{value:.3f}")

    held_out = azimuths + 360 * 0.618034 / 2
    true_rgb, true_alpha = render_all(truth, held_out, elevations, options.size)
    rgb, alpha = render_all(scene(params), held_out, elevations, options.size)
    iou = 1 - jnr.losses.silhouette_iou(alpha, true_alpha)
    error = jnp.sum((rgb - true_rgb) ** 2) / (3 * jnp.sum(jnp.maximum(alpha, true_alpha)))
    cosine = jnp.dot(LAMP, params["lamp"]) / (jnp.linalg.norm(LAMP) * jnp.linalg.norm(params["lamp"]))
    print(f"in {options.views} held-out views: mean IoU {iou:.4f}, ", end="")
    print(f"PSNR on the mesh {-10 * jnp.log10(error):.1f} dB")
    print(f"the lamp's direction is off by {jnp.rad2deg(jnp.arccos(cosine)):.1f} degrees")

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "05_shape_texture_light"
    show = jax.jit(lambda scene, azimuth: jnp.uint8(255 * render(scene, azimuth, 25.0, 256, 2)[0].clip(0, 1)))
    row = [show(s, jnp.float32(30)) for s in (before, truth, scene(params))]
    iio.imwrite(path.with_suffix(".png"), np.concatenate(row, axis=1))
    turn = 30 + 360 * np.arange(options.frames, dtype=np.float32) / options.frames
    frames = [np.concatenate([show(s, azimuth) for s in (truth, scene(params))], axis=1) for azimuth in turn]
    iio.imwrite(path.with_suffix(".gif"), np.stack(frames), duration=80, loop=0)
    print(
        f"{time.perf_counter() - start:.0f} s in total; before, target and after in {path}.png, turntable in {path}.gif"
    )


if __name__ == "__main__":
    main()
