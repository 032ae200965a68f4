"""Recovers a camera's position from a silhouette, starting far away on another side of the mesh.

    python examples/04_camera_pose.py [mesh.obj]

Task, start, optimiser and stopping criterion are those of Neural Renderer's example 4, in its left-handed coordinates.
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


def overlay(target, current):
    """Returns one image of both silhouettes: target only in blue, current only in orange, both in grey."""
    blue, orange, grey = np.array([[0.25, 0.45, 0.80], [0.95, 0.60, 0.20], [0.45, 0.45, 0.45]])
    target, current = np.asarray(target)[..., None], np.asarray(current)[..., None]
    both, neither = target * current, (1 - target) * (1 - current)
    return np.uint8(255 * (neither + both * grey + target * (1 - current) * blue + current * (1 - target) * orange))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", nargs="?", type=Path, help="OBJ, PLY, STL, OFF or glTF file (default: the teapot)")
    parser.add_argument("--steps", type=int, default=1000, help="maximum number of steps")
    parser.add_argument("--until", type=float, default=70.0, help="loss at which the optimisation stops")
    parser.add_argument("--size", type=int, default=256, help="image height and width in pixels")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    start = time.perf_counter()
    mesh = jnr.normalize(jnr.shapes.teapot() if options.mesh is None else jnr.load(options.mesh, textures=False))

    def silhouette(eye):
        camera = jnr.Camera(jnr.LookAt(eye, handedness="left"), jnr.Perspective(fov=60))
        return jnr.render_silhouette(mesh.vertices, mesh.faces, camera=camera, image_size=options.size, antialias=2)

    def loss(eye):
        alpha = silhouette(eye)
        return jnp.sum((alpha - target) ** 2), alpha

    true_eye = jnr.points_from_angles(2.732, 30.0, -15.0, handedness="left")
    target = silhouette(true_eye)
    optimizer = optax.adam(0.1)

    @jax.jit
    def step(eye, state):
        (value, alpha), grad = jax.value_and_grad(loss, has_aux=True)(eye)
        updates, state = optimizer.update(grad, state)
        return optax.apply_updates(eye, updates), state, value, alpha

    eye = jnp.array([6.0, 10.0, -14.0])
    state = optimizer.init(eye)
    overlays = []
    with tqdm(total=options.steps, desc="fitting", mininterval=0.5) as progress:
        for _ in range(options.steps + 1):
            rendered_from = eye
            eye, state, value, alpha = step(eye, state)
            overlays.append(overlay(target, alpha))
            progress.set_postfix(loss=f"{value:.0f}", refresh=False)
            if value < options.until:
                break
            progress.update()

    distance = jnp.linalg.norm(rendered_from - true_eye)
    print(f"loss {value:.1f} after {len(overlays) - 1} steps; the eye is {distance:.3f} from its true position")

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "04_camera_pose"
    shown = [overlays[i] for i in np.linspace(0, len(overlays) - 1, 4).astype(int)]
    iio.imwrite(path.with_suffix(".png"), np.concatenate(shown, axis=1))
    frames = overlays[:: max(1, len(overlays) // 60)] + 10 * [overlays[-1]]
    iio.imwrite(path.with_suffix(".gif"), np.stack(frames), duration=80, loop=0)
    print(f"{time.perf_counter() - start:.0f} s in total; the path of the optimisation in {path}.png and .gif")


if __name__ == "__main__":
    main()
