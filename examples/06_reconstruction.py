"""Learns to make a mesh from one picture, from silhouettes alone.

    python examples/06_reconstruction.py

Six classes of objects are made by rule, with random proportions: 200 of each are for training, 20 others for the test.
A small network moves the vertices of a sphere, the two sides of x = 0 alike. Its loss is that of section 5.1 of Neural
3D Mesh Renderer: the IoU of silhouettes from two views, that of the picture and another, and smoothness. It is not told
the view: it makes the mesh in the object's own frame, whichever way the object is turned in the picture. Pictures are
taken from 12 sides, 30 degrees above; the other silhouettes also from 12 sides level with the object.

What counts is the IoU of 32 x 32 x 32 voxels in that frame. Two baselines answer the same pictures in the same frame,
and are told the view: the nearest of six templates, the object of middling proportions of each class; and the nearest
of all objects of the training set. Nearest is the one whose picture from that view differs least, in squares of grey
and coverage.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from tqdm import tqdm

import jnr

VIEWS = 24
SPHERE = jnr.shapes.icosphere(3)
EDGES, PAIRS = jnr.losses.unique_edges(SPHERE.faces)
MIRROR = jnp.array([-1.0, 1.0, 1.0])
# Which vertex is the mirror image of each.
OPPOSITE = jnp.argmin(jnp.sum((SPHERE.vertices[:, None] * MIRROR - SPHERE.vertices) ** 2, axis=-1), axis=1)
CUBE, BALL, TUBE = jnr.shapes.cube(), jnr.shapes.uv_sphere(8, 12), jnr.shapes.uv_sphere(13, 16)


# --- Objects: every number of the argument lies between 0 and 1


def box(low, high):
    low, high = jnp.array(low), jnp.array(high)
    return CUBE._replace(vertices=CUBE.vertices * (high - low) + (low + high) / 2)


def ellipsoid(center, radii):
    return BALL._replace(vertices=BALL.vertices * jnp.array(radii) + jnp.array(center))


def turned(radii, heights):
    """A solid of revolution about the y axis, with caps; as many radii as `TUBE` has rings."""
    ring, caps = TUBE.vertices[:-2].reshape(len(radii), -1, 3), TUBE.vertices[-2:]
    ring = ring / jnp.linalg.norm(ring[..., ::2], axis=-1, keepdims=True) * radii[:, None, None]
    ring = ring.at[..., 1].set(heights[:, None])
    caps = caps.at[:, 1].set(heights[jnp.array([0, -1])])
    return TUBE._replace(vertices=jnp.concatenate([ring.reshape(-1, 3), caps]))


def vase(u):
    knots = 0.12 + 0.4 * u[:6]
    radii = jnp.interp(jnp.linspace(0, 5, 12), jnp.arange(6.0), knots)
    return [turned(radii, jnp.linspace(0.5, -0.5, 12) * (0.8 + 0.8 * u[6]))]


def lamp(u):
    """A shade on a pole on a foot."""
    top, bottom, pole, foot = 0.1 + 0.2 * u[0], 0.2 + 0.3 * u[1], 0.05 + 0.06 * u[2], 0.15 + 0.25 * u[3]
    shade, thick = -0.25 - 0.3 * u[4], -0.92 + 0.1 * u[5]
    radii = jnp.stack([top, top, bottom, bottom, pole, pole, pole, pole, foot, foot, foot, foot])
    heights = jnp.stack([0.0, 0.0, shade, shade, shade, -0.55, -0.7, thick, thick, thick, -1.0, -1.0])
    return [turned(radii, heights)]


def legs(x, z, thick, low, high):
    at = [(sx * (x - thick), sz * (z - thick)) for sx in (-1, 1) for sz in (-1, 1)]
    return [box((a - thick, low, b - thick), (a + thick, high, b + thick)) for a, b in at]


def table(u):
    x, z, thick, height = 0.35 + 0.35 * u[0], 0.25 + 0.25 * u[1], 0.06 + 0.1 * u[2], 0.35 + 0.6 * u[3]
    return [box((-x, -thick, -z), (x, 0, z)), *legs(x, z, 0.05 + 0.06 * u[4], -height, 0.0)]


def chair(u):
    x, z, seat, back = 0.25 + 0.2 * u[0], 0.25 + 0.15 * u[1], 0.08 + 0.1 * u[2], 0.3 + 0.5 * u[3]
    thick, leg = 0.06 + 0.08 * u[4], 0.2 + 0.35 * u[5]
    parts = [box((-x, -seat, -z), (x, 0, z)), box((-x, -seat, -z), (x, back, -z + 2 * thick))]
    return parts + legs(x, z, 0.05 + 0.04 * u[6], -leg, 0.0)


def car(u):
    x, z, low, high = 0.3 + 0.15 * u[0], 0.6 + 0.3 * u[1], 0.16 + 0.14 * u[2], 0.12 + 0.2 * u[3]
    back, front = -z * (0.5 + 0.5 * u[4]), z * (0.55 - 0.5 * u[5])
    return [box((-x, -low, -z), (x, low, z)), box((-0.85 * x, 0, back), (0.85 * x, low + high, front))]


def airplane(u):
    body, span, chord, thick = 0.12 + 0.08 * u[0], 0.45 + 0.45 * u[1], 0.14 + 0.16 * u[2], 0.07 + 0.04 * u[6]
    at, sweep, tail = 0.25 - 0.3 * u[3], 0.4 * u[4], 0.25 + 0.2 * u[5]
    wings = box((-span, -thick, at - chord), (span, thick, at + chord))
    swept = wings.vertices.at[:, 2].add(-sweep * jnp.abs(wings.vertices[:, 0]))
    fins = [box((-0.06, 0, -0.8), (0.06, tail, -0.5)), box((-tail, -0.06, -0.8), (tail, 0.06, -0.5))]
    return [ellipsoid((0, 0, 0), (body, body, 0.8)), wings._replace(vertices=swept), *fins]


CLASSES = (airplane, car, chair, lamp, table, vase)


def make(kind, u):
    """An object of a class, its longest side 1 and then stretched."""
    mesh = jnr.normalize(jnr.concatenate(kind(u)))
    return mesh._replace(vertices=mesh.vertices * (0.3 + 0.2 * u[7:]))


def random_numbers(key, count):
    """What `objects` makes `count` of each class from."""
    return jax.vmap(lambda key: jax.random.uniform(key, (count, 10)))(jax.random.split(key, len(CLASSES)))


def objects(u):
    """One object for each row of u `(classes, count, 10)`, class after class, in one batch."""
    made = jax.jit(lambda u: [jax.vmap(partial(make, kind))(own) for kind, own in zip(CLASSES, u, strict=True)])(u)
    return jnr.stack([jnr.Mesh(*own) for mesh in made for own in zip(*map(np.asarray, mesh[:2]), strict=True)])


# --- Pictures


def camera(view):
    """Even views from 30 degrees above, odd ones level, which show how far down an object reaches."""
    eye = jnr.points_from_angles(2.732, jnp.where(view % 2 == 0, 30.0, 0.0), view * 360.0 / VIEWS)
    return jnr.Camera(jnr.LookAt(eye), jnr.Perspective(fov=28.0))


@partial(jax.jit, static_argnames="size")
def photographs(meshes, size):
    """Grey and alpha of each mesh from each view, as bytes `(meshes, views, size, size, 2)`."""

    def photograph(mesh, view):
        picture = jnr.render(mesh.vertices, mesh.faces, camera=camera(view), image_size=size)
        return jnp.uint8(jnp.stack([picture.rgb[..., 0], picture.alpha], axis=-1) * 255)

    return lax.map(lambda mesh: jax.vmap(photograph, in_axes=(None, 0))(mesh, jnp.arange(VIEWS)), meshes)


# --- Network


def init(key, size):
    """Weights and biases: three convolutions, three full layers."""
    shapes = [(4, 4, 2, 48), (3, 3, 48, 96), (3, 3, 96, 128), (128 * (size // 16) ** 2, 512), (512, 512)]
    shapes += [(512, SPHERE.vertices.size)]
    keys = jax.random.split(key, len(shapes))
    return [
        (jax.random.normal(k, shape) * np.sqrt(2 / np.prod(shape[:-1])), jnp.zeros(shape[-1]))
        for k, shape in zip(keys, shapes, strict=True)
    ]


@jax.jit
def predict(params, pictures):
    """Vertices for each picture of a batch, `(batch, vertices, 3)`."""
    x = jnp.float32(pictures) / 255 - 0.5
    *hidden, (last, bias) = params
    for (weight, own_bias), stride in zip(hidden, (4, 2, 2, None, None), strict=True):
        if stride is None:
            x = x.reshape(len(x), -1) @ weight
        else:
            layout = ("NHWC", "HWIO", "NHWC")
            x = lax.conv_general_dilated(x, weight, (stride, stride), "SAME", dimension_numbers=layout)
        x = jax.nn.leaky_relu(x + own_bias)
    offset = (x @ (0.1 * last) + bias).reshape(-1, *SPHERE.vertices.shape)
    offset = (offset + offset[:, OPPOSITE] * MIRROR) / 2
    # Within the box from -0.6 to 0.6, a sphere of radius 0.35 where nothing is added.
    return 0.6 * jnp.tanh(jnp.arctanh(SPHERE.vertices * 0.35 / 0.6) + offset)


def loss(params, picture, views, wanted):
    """For a batch of pictures, two views of each, `(batch, 2)`, and the silhouettes from there."""

    def silhouette(vertices, view):
        return jnr.render_silhouette(vertices, SPHERE.faces, camera=camera(view), image_size=wanted.shape[-2:])

    def regularity(vertices):
        flat = jnr.losses.normal_consistency(vertices, SPHERE.faces, PAIRS)
        return 60 * jnr.losses.laplacian(vertices, EDGES) + 0.05 * flat

    vertices = predict(params, picture)
    alpha = jax.vmap(jax.vmap(silhouette, in_axes=(None, 0)))(vertices, views)
    return jnr.losses.silhouette_iou(alpha, wanted) + jnp.mean(jax.vmap(regularity)(vertices))


def train(photos, steps, batch):
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, steps, alpha=0.02))

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, key, photos):
        which, picture, other = jax.random.split(key, 3)
        which = jax.random.randint(which, (batch, 1), 0, len(photos))
        views = [
            2 * jax.random.randint(picture, (batch,), 0, VIEWS // 2),
            jax.random.randint(other, (batch,), 0, VIEWS),
        ]
        views = jnp.stack(views, axis=1)
        chosen = photos[which, views]
        wanted = jnp.float32(chosen[..., 1]) / 255
        value, grad = jax.value_and_grad(loss)(params, chosen[:, 0], views, wanted)
        updates, state = optimizer.update(grad, state)
        return optax.apply_updates(params, updates), state, value

    params = init(jax.random.key(1), photos.shape[2])
    state = optimizer.init(params)
    progress = tqdm(jax.random.split(jax.random.key(2), steps), desc="training", mininterval=0.5)
    for i, key in enumerate(progress):
        params, state, value = step(params, state, key, photos)
        if i % 50 == 0:
            progress.set_postfix(loss=f"{value:.3f}")
    return params


# --- Test


def nearest(given, views, bank):
    """Index of the object of `bank` whose picture from each given view is nearest to the given picture."""
    distances = (
        np.sum((np.float32(bank[:, view]) - np.float32(picture)) ** 2, axis=(1, 2, 3))
        for picture, view in zip(given, views, strict=True)
    )
    return np.array([np.argmin(distance) for distance in distances])


@jax.jit
def voxels(meshes):
    return lax.map(lambda mesh: jnr.voxelize(mesh.vertices, mesh.faces, low=-0.6, high=0.6), meshes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--size", type=int, default=64, help="pixels each way, a multiple of 16")
    parser.add_argument("--objects", type=int, default=200, help="of each class for training")
    parser.add_argument("--tests", type=int, default=20, help="of each class for the test")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=3, help="of the test's objects and views")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    start = time.perf_counter()

    known = objects(random_numbers(jax.random.key(0), options.objects))
    photos = photographs(known, options.size)
    params = train(photos, options.steps, options.batch)
    print(f"{time.perf_counter() - start:.0f} s for the objects and {options.steps} steps")

    seeds = jax.random.key(options.seed), jax.random.key(options.seed + 1)
    tests = objects(random_numbers(seeds[0], options.tests))
    views = 2 * jax.random.randint(seeds[1], (len(tests.vertices),), 0, VIEWS // 2)
    given = photographs(tests, options.size)[jnp.arange(len(views)), views]
    made = jnr.Mesh(predict(params, given), jnp.tile(SPHERE.faces, (len(views), 1, 1)))
    answers = {"network": made}
    middling = objects(jnp.full((len(CLASSES), 1, 10), 0.5))
    banks = {"nearest template": (middling, photographs(middling, options.size)), "nearest of all": (known, photos)}
    for name, (meshes, bank) in banks.items():
        chosen = nearest(np.asarray(given), np.asarray(views), np.asarray(bank))
        answers[name] = jnr.Mesh(meshes.vertices[chosen], meshes.faces[chosen])
    truth = voxels(tests)
    iou = {name: np.asarray(jax.vmap(jnr.voxel_iou)(voxels(meshes), truth)) for name, meshes in answers.items()}

    print("| voxel IoU | " + " | ".join(kind.__name__ for kind in CLASSES) + " | mean |")
    print("|" + "---|" * (len(CLASSES) + 2))
    for name, values in iou.items():
        of_class = values.reshape(len(CLASSES), -1).mean(axis=1)
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in [*of_class, values.mean()]) + " |")
    gain = {name: iou["network"].mean() - values.mean() for name, values in iou.items()}
    print(f"network: {gain['nearest template']:+.3f} to the nearest template, {gain['nearest of all']:+.3f} to all")

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "06_reconstruction.png"
    iio.imwrite(path, grid(given, views, made, tests, iou["network"]))
    print(f"{time.perf_counter() - start:.0f} s in all; {path} has for each class the test of median IoU: the picture,")
    print("mesh and truth from its view, and both from another")


def grid(given, views, made, truth, iou):
    """Two classes a row."""

    @jax.jit
    def shaded(mesh, view):
        picture = jnr.render(
            mesh.vertices, mesh.faces, camera=camera(view), image_size=128, antialias=2, background=1.0
        )
        return picture.rgb

    rows = []
    for values in np.split(np.arange(len(views)), len(CLASSES)):
        k = values[np.argsort(iou[values])[len(values) // 2]]
        picture = jnp.float32(given[k]) / 255
        picture = jnp.tile(picture[..., :1] + 1 - picture[..., 1:], (1, 1, 3))
        meshes = [jax.tree.map(lambda x, k=k: x[k], mesh) for mesh in (made, truth)]
        row = [jax.image.resize(picture, (128, 128, 3), "nearest")]
        row += [shaded(mesh, view) for view in (views[k], views[k] + 8) for mesh in meshes]
        rows.append(np.concatenate(row, axis=1))
    pairs = [np.concatenate(rows[i : i + 2], axis=1) for i in range(0, len(rows), 2)]
    return np.uint8(np.clip(np.concatenate(pairs), 0, 1) * 255)


if __name__ == "__main__":
    main()
