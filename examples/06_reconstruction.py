"""Trains a network that reconstructs a mesh from a single image, supervised by silhouettes only.

    python examples/06_reconstruction.py

The objects belong to six procedural classes with random proportions: 200 of each class for training, 20 others for the
test. A small network moves the vertices of a sphere, symmetrically about the plane x = 0. Its loss is that of section
5.1 of Neural 3D Mesh Renderer: the IoU of silhouettes from two views (that of the input image and another) plus
smoothness. The network does not know the view. It predicts the mesh in the object's own frame, however the object is
turned in the image. Input images are rendered from 12 azimuths at elevation 30 degrees; the second silhouette may also
be from one of 12 azimuths at elevation 0.

The measure is the IoU of 32 x 32 x 32 voxels in the object's frame. Two baselines get the same images and, in addition,
the view: the nearest of six templates (one object of average proportions per class) and the nearest object of the
training set. The nearest object is the one whose rendering from that view has the smallest squared difference in grey
level and coverage.
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
EDGES, PAIRS = jnr.unique_edges(SPHERE.faces)
MIRROR = jnp.array([-1.0, 1.0, 1.0])
# Index of each vertex's mirror image.
OPPOSITE = jnp.argmin(jnp.sum((SPHERE.vertices[:, None] * MIRROR - SPHERE.vertices) ** 2, axis=-1), axis=1)
CUBE, BALL, TUBE = jnr.shapes.cube(), jnr.shapes.uv_sphere(8, 12), jnr.shapes.uv_sphere(13, 16)


# The functions below build objects from parameters between 0 and 1.


def box(low, high):
    low, high = jnp.array(low), jnp.array(high)
    return CUBE._replace(vertices=CUBE.vertices * (high - low) + (low + high) / 2)


def ellipsoid(center, radii):
    return BALL._replace(vertices=BALL.vertices * jnp.array(radii) + jnp.array(center))


def solid_of_revolution(radii, heights):
    """Returns a capped solid of revolution about the y axis, with one radius and one height per ring of `TUBE`."""
    ring, caps = TUBE.vertices[:-2].reshape(len(radii), -1, 3), TUBE.vertices[-2:]
    ring = ring / jnp.linalg.norm(ring[..., ::2], axis=-1, keepdims=True) * radii[:, None, None]
    ring = ring.at[..., 1].set(heights[:, None])
    caps = caps.at[:, 1].set(heights[jnp.array([0, -1])])
    return TUBE._replace(vertices=jnp.concatenate([ring.reshape(-1, 3), caps]))


def vase(u):
    knots = 0.12 + 0.4 * u[:6]
    radii = jnp.interp(jnp.linspace(0, 5, 12), jnp.arange(6.0), knots)
    return [solid_of_revolution(radii, jnp.linspace(0.5, -0.5, 12) * (0.8 + 0.8 * u[6]))]


def lamp(u):
    """Returns a lamp: a shade, a pole and a foot."""
    top, bottom, pole, foot = 0.1 + 0.2 * u[0], 0.2 + 0.3 * u[1], 0.05 + 0.06 * u[2], 0.15 + 0.25 * u[3]
    shade, thick = -0.25 - 0.3 * u[4], -0.92 + 0.1 * u[5]
    radii = jnp.stack([top, top, bottom, bottom, pole, pole, pole, pole, foot, foot, foot, foot])
    heights = jnp.stack([0.0, 0.0, shade, shade, shade, -0.55, -0.7, thick, thick, thick, -1.0, -1.0])
    return [solid_of_revolution(radii, heights)]


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


def make_object(kind, u):
    """Returns an object of a class, scaled to a longest side of 1 and then stretched."""
    mesh = jnr.normalize(jnr.concatenate(kind(u)))
    return mesh._replace(vertices=mesh.vertices * (0.3 + 0.2 * u[7:]))


def random_parameters(key, count):
    """Returns random parameters of `count` objects per class, `(classes, count, 10)`."""
    return jax.vmap(lambda key: jax.random.uniform(key, (count, 10)))(jax.random.split(key, len(CLASSES)))


def objects(u):
    """Returns a batch of one object per row of u `(classes, count, 10)`, ordered by class."""
    meshes = jax.jit(
        lambda u: [jax.vmap(partial(make_object, kind))(own) for kind, own in zip(CLASSES, u, strict=True)]
    )(u)
    return jnr.stack([jnr.Mesh(*own) for mesh in meshes for own in zip(*map(np.asarray, mesh[:2]), strict=True)])


def camera(view):
    """Returns the camera of a view: even views at elevation 30, odd ones at 0, which show an object's lower end."""
    eye = jnr.points_from_angles(2.732, jnp.where(view % 2 == 0, 30.0, 0.0), view * 360.0 / VIEWS)
    return jnr.Camera(jnr.LookAt(eye), jnr.Perspective(fov=28.0))


@partial(jax.jit, static_argnames="size")
def render_views(meshes, size):
    """Returns grey level and alpha of each mesh from each view, as bytes `(meshes, views, size, size, 2)`."""

    def render_view(mesh, view):
        rendering = jnr.render(mesh.vertices, mesh.faces, camera=camera(view), image_size=size)
        return jnp.uint8(jnp.stack([rendering.rgb[..., 0], rendering.alpha], axis=-1) * 255)

    return lax.map(lambda mesh: jax.vmap(render_view, in_axes=(None, 0))(mesh, jnp.arange(VIEWS)), meshes)


def init(key, size):
    """Returns initial weights and biases of three convolutions and three fully connected layers."""
    shapes = [(4, 4, 2, 48), (3, 3, 48, 96), (3, 3, 96, 128), (128 * (size // 16) ** 2, 512), (512, 512)]
    shapes += [(512, SPHERE.vertices.size)]
    keys = jax.random.split(key, len(shapes))
    return [
        (jax.random.normal(k, shape) * np.sqrt(2 / np.prod(shape[:-1])), jnp.zeros(shape[-1]))
        for k, shape in zip(keys, shapes, strict=True)
    ]


@jax.jit
def predict(params, images):
    """Returns predicted vertices for a batch of images, `(batch, vertices, 3)`."""
    x = jnp.float32(images) / 255 - 0.5
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
    # tanh keeps vertices within -0.6 to 0.6. A zero offset gives a sphere of radius 0.35.
    return 0.6 * jnp.tanh(jnp.arctanh(SPHERE.vertices * 0.35 / 0.6) + offset)


def loss(params, image, views, target):
    """Returns the loss of a batch of images, given two views `(batch, 2)` of each and the silhouettes from these."""

    def silhouette(vertices, view):
        return jnr.render_silhouette(vertices, SPHERE.faces, camera=camera(view), image_size=target.shape[-2:])

    def regularity(vertices):
        flat = jnr.losses.normal_consistency(vertices, SPHERE.faces, PAIRS)
        return 60 * jnr.losses.laplacian(vertices, EDGES) + 0.05 * flat

    vertices = predict(params, image)
    alpha = jax.vmap(jax.vmap(silhouette, in_axes=(None, 0)))(vertices, views)
    return jnr.losses.silhouette_iou(alpha, target) + jnp.mean(jax.vmap(regularity)(vertices))


def train(images, steps, batch):
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, steps, alpha=0.02))

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, key, images):
        which, own, other = jax.random.split(key, 3)
        which = jax.random.randint(which, (batch, 1), 0, len(images))
        views = [
            2 * jax.random.randint(own, (batch,), 0, VIEWS // 2),
            jax.random.randint(other, (batch,), 0, VIEWS),
        ]
        views = jnp.stack(views, axis=1)
        chosen = images[which, views]
        target = jnp.float32(chosen[..., 1]) / 255
        value, grad = jax.value_and_grad(loss)(params, chosen[:, 0], views, target)
        updates, state = optimizer.update(grad, state)
        return optax.apply_updates(params, updates), state, value

    params = init(jax.random.key(1), images.shape[2])
    state = optimizer.init(params)
    progress = tqdm(jax.random.split(jax.random.key(2), steps), desc="training", mininterval=0.5)
    for i, key in enumerate(progress):
        params, state, value = step(params, state, key, images)
        if i % 50 == 0:
            progress.set_postfix(loss=f"{value:.3f}")
    return params


def nearest(inputs, views, bank):
    """Returns, for each input, the index of the object in `bank` whose rendering from the same view is nearest."""
    distances = (
        np.sum((np.float32(bank[:, view]) - np.float32(image)) ** 2, axis=(1, 2, 3))
        for image, view in zip(inputs, views, strict=True)
    )
    return np.array([np.argmin(distance) for distance in distances])


@jax.jit
def voxels(meshes):
    return lax.map(lambda mesh: jnr.voxelize(mesh.vertices, mesh.faces, low=-0.6, high=0.6), meshes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--size", type=int, default=64, help="image height and width in pixels, a multiple of 16")
    parser.add_argument("--objects", type=int, default=200, help="number per class for training")
    parser.add_argument("--tests", type=int, default=20, help="number per class for the test")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=3, help="seed of the test's objects and views")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    start = time.perf_counter()

    training = objects(random_parameters(jax.random.key(0), options.objects))
    images = render_views(training, options.size)
    params = train(images, options.steps, options.batch)
    print(f"{time.perf_counter() - start:.0f} s for rendering the data and {options.steps} training steps")

    seeds = jax.random.key(options.seed), jax.random.key(options.seed + 1)
    tests = objects(random_parameters(seeds[0], options.tests))
    views = 2 * jax.random.randint(seeds[1], (len(tests.vertices),), 0, VIEWS // 2)
    inputs = render_views(tests, options.size)[jnp.arange(len(views)), views]
    predicted = jnr.Mesh(predict(params, inputs), jnp.tile(SPHERE.faces, (len(views), 1, 1)))
    results = {"network": predicted}
    average = objects(jnp.full((len(CLASSES), 1, 10), 0.5))
    banks = {
        "nearest template": (average, render_views(average, options.size)),
        "nearest training object": (training, images),
    }
    for name, (meshes, bank) in banks.items():
        chosen = nearest(np.asarray(inputs), np.asarray(views), np.asarray(bank))
        results[name] = jnr.Mesh(meshes.vertices[chosen], meshes.faces[chosen])
    truth = voxels(tests)
    iou = {name: np.asarray(jax.vmap(jnr.voxel_iou)(voxels(meshes), truth)) for name, meshes in results.items()}

    print("| voxel IoU | " + " | ".join(kind.__name__ for kind in CLASSES) + " | mean |")
    print("|" + "---|" * (len(CLASSES) + 2))
    for name, values in iou.items():
        of_class = values.reshape(len(CLASSES), -1).mean(axis=1)
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in [*of_class, values.mean()]) + " |")
    gain = {name: iou["network"].mean() - values.mean() for name, values in iou.items()}
    print("mean gain of the network over the ", end="")
    print(", over the ".join(f"{name}: {gain[name]:+.3f}" for name in banks))

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "06_reconstruction.png"
    iio.imwrite(path, grid(inputs, views, predicted, tests, iou["network"]))
    print(f"{time.perf_counter() - start:.0f} s in total; {path} shows the test of median IoU per class: input image,")
    print("prediction and truth from its view, prediction and truth from another view")


def grid(inputs, views, predicted, truth, iou):
    """Returns one image with two classes per row."""

    @jax.jit
    def shaded(mesh, view):
        return jnr.render(
            mesh.vertices, mesh.faces, camera=camera(view), image_size=128, antialias=2, background=1.0
        ).rgb

    rows = []
    for values in np.split(np.arange(len(views)), len(CLASSES)):
        k = values[np.argsort(iou[values])[len(values) // 2]]
        image = jnp.float32(inputs[k]) / 255
        image = jnp.tile(image[..., :1] + 1 - image[..., 1:], (1, 1, 3))
        meshes = [jax.tree.map(lambda x, k=k: x[k], mesh) for mesh in (predicted, truth)]
        row = [jax.image.resize(image, (128, 128, 3), "nearest")]
        row += [shaded(mesh, view) for view in (views[k], views[k] + 8) for mesh in meshes]
        rows.append(np.concatenate(row, axis=1))
    pairs = [np.concatenate(rows[i : i + 2], axis=1) for i in range(0, len(rows), 2)]
    return np.uint8(np.clip(np.concatenate(pairs), 0, 1) * 255)


if __name__ == "__main__":
    main()
