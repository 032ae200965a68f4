"""Feature maps of convolutional networks, with weights from a local file or random weights.

`style_transfer` and `deep_dream` accept any differentiable function from images to feature maps. This module has two
network architectures, VGG and GoogLeNet. A network is a pytree, so its weights are arguments of compiled functions, not
constants in them. Networks are differentiable by images and weights, in forward and reverse mode.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from jnr import _checks
from jnr._extras import require
from jnr._pytree import pytree

Normalization = Literal["imagenet", "caffe"]

# The layers whose Gram matrices are compared in the Neural Renderer paper.
STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")

_ENDINGS = (".npz", ".safetensors")
# Mean and standard deviation by which RGB colours in [0, 1] are normalized.
_STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255)),
}
# Padding mode of pooling: the last windows may extend beyond the image, as with ceil_mode in PyTorch.
_CEILING = "ceiling"


class Convolution(NamedTuple):
    """Weights of a convolution with bias.

    Attributes:
        kernel: Weights, in the axis order HWIO.
        bias: One value per output channel.
    """

    kernel: Float[Array, "rows columns inputs outputs"]
    bias: Float[Array, " outputs"]

    def __call__(
        self, values: Float[Array, "batch height width inputs"], stride: int = 1
    ) -> Float[Array, "batch rows columns outputs"]:
        """Applies the convolution with zero padding of half the kernel size, then ReLU."""
        padding = [(size // 2, size // 2) for size in self.kernel.shape[:2]]
        values = lax.conv_general_dilated(
            values, self.kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.nn.relu(values + self.bias)


@pytree(static=("layers",))
class VGG:
    """A VGG network: blocks of 3 x 3 convolutions with ReLU, separated by 2 x 2 max pooling.

    Attributes:
        blocks: Convolutions of each block.
        mean: Mean by which images in [0, 1] are normalized.
        deviation: Standard deviation by which images in [0, 1] are normalized.
        layers: Names of the returned layers; `"relu2_1"` is the first convolution of the second block, after ReLU.

    References:
        Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition, ICLR 2015.
    """

    blocks: Sequence[Sequence[Convolution]]
    mean: Float[Array, " 3"]
    deviation: Float[Array, " 3"]
    layers: tuple[str, ...] = STYLE_LAYERS

    def __call__(
        self, images: Float[ArrayLike, "batch height width 3"]
    ) -> dict[str, Float[Array, "batch rows columns _"]]:
        """Returns the feature maps of images in [0, 1], by layer name.

        Raises:
            TypeError: If `images` is not an array of real numbers.
            ValueError: If the shape is wrong or the images are too small for the number of poolings.
        """
        values, feature_maps = _normalized(images, self), {}
        min_size = 2 ** (len(self.blocks) - 1)
        if min(values.shape[1:3]) < min_size:
            raise ValueError(f"images must be at least {min_size} pixels high and wide, got shape {jnp.shape(images)}.")
        for b, block in enumerate(self.blocks, 1):
            if b > 1:
                values = _max_pool(values, 2, 2)
            for c, convolution in enumerate(block, 1):
                values = convolution(values)
                feature_maps[f"relu{b}_{c}"] = values
        return {name: feature_maps[name] for name in self.layers}


def load_vgg(
    path: str | os.PathLike, layers: Sequence[str] = STYLE_LAYERS, *, normalization: Normalization = "imagenet"
) -> VGG:
    """Loads a VGG network (without batch normalization) from a file of weights.

    The file has torchvision's names and shapes: `features.0.weight` of shape (outputs, inputs, 3, 3) and
    `features.0.bias`, then `features.2`, `features.5` and so on. The numbers count ReLU and pooling layers too, which
    determines the blocks. Other entries are ignored. With torchvision, the pretrained network is saved by::

        state = torchvision.models.vgg16(weights="DEFAULT").state_dict()
        numpy.savez("vgg16.npz", **{name: value.numpy() for name, value in state.items()})

    Args:
        path: A .npz file of NumPy, or a .safetensors file.
        layers: Names of the returned layers; convolutions after the last of them are not read.
        normalization: Input that the weights expect. `"imagenet"`: RGB normalized by the mean and standard deviation of
            ImageNet, as for torchvision's weights. `"caffe"`: BGR in [0, 255] minus the mean, as for the weights of the
            original networks; the features are about fifty times as large.

    Raises:
        FileNotFoundError: If the file does not exist.
        ImportError: If safetensors is needed and missing.
        ValueError: If the file is not valid, an entry is missing or has the wrong shape, or a layer does not exist.
    """
    _checks.check_choice(normalization, "normalization", tuple(_STATISTICS))
    with _entries(path) as entries:
        numbers = sorted(int(m[1]) for name in entries.names if (m := re.fullmatch(r"features\.(\d+)\.weight", name)))
        if not numbers or numbers[0] != 0:
            raise entries.error("must hold 'features.0.weight', which is missing")
        positions, block, index = {}, 1, 1
        for before, number in zip([None, *numbers], numbers, strict=False):
            if before is not None:
                if number - before not in (2, 3):
                    raise entries.error(
                        "must hold convolutions two numbers apart, or three with a pooling between, got "
                        f"'features.{before}.weight' followed by 'features.{number}.weight'"
                    )
                block, index = (block, index + 1) if number - before == 2 else (block + 1, 1)
            positions[f"relu{block}_{index}"] = number, block
        layers = _layers(layers, positions)
        blocks: list[list[Convolution]] = []
        inputs = 3
        for name, (number, block) in positions.items():
            kernel = entries.kernel(f"features.{number}.weight", inputs, 3)
            if number == 0 and normalization == "caffe":
                kernel = kernel[:, :, ::-1]
            inputs = kernel.shape[-1]
            if block > len(blocks):
                blocks.append([])
            blocks[-1].append(Convolution(kernel, entries.vector(f"features.{number}.bias", inputs)))
            if name == list(positions)[max(list(positions).index(layer) for layer in layers)]:
                break
    return _vgg(blocks, layers, normalization)


def random_vgg(
    key: jax.Array, widths: Sequence[Sequence[int]] = ((16, 16), (32, 32), (64, 64)), layers: Sequence[str] = ()
) -> VGG:
    """Returns a VGG network with random weights. Its features distinguish textures, but not objects.

    Args:
        key: Key of `jax.random`.
        widths: Output channels of the convolutions of each block.
        layers: Names of the returned layers; empty returns the last convolution of every block.

    Raises:
        ValueError: If a layer does not exist.

    References:
        He, Wang and Hopcroft, A powerful generative model using random weights for the deep image representation, 2016.
    """
    names = [f"relu{b}_{c}" for b, block in enumerate(widths, 1) for c in range(1, len(block) + 1)]
    layers = _layers(layers or [f"relu{b}_{len(block)}" for b, block in enumerate(widths, 1)], names)
    inputs, blocks = 3, []
    for block in widths:
        convolutions = []
        for width in block:
            key, kernel_key = jax.random.split(key)
            # He initialization: keeps the variance of features through ReLU layers.
            kernel = jax.random.normal(kernel_key, (3, 3, inputs, width)) * (2 / (9 * inputs)) ** 0.5
            convolutions.append(Convolution(kernel, jnp.zeros(width)))
            inputs = width
        blocks.append(convolutions)
    return _vgg(blocks, layers, "imagenet")


@pytree(static=("layers",))
class GoogLeNet:
    """GoogLeNet without its classifier.

    Attributes:
        convolutions: Convolutions by torchvision's names, such as `"inception4c.branch2.1"`.
        mean: Mean by which images in [0, 1] are normalized.
        deviation: Standard deviation by which images in [0, 1] are normalized.
        layers: Names of the returned layers, such as `"inception4c"`.

    References:
        Szegedy et al., Going deeper with convolutions, CVPR 2015.
    """

    convolutions: dict[str, Convolution]
    mean: Float[Array, " 3"]
    deviation: Float[Array, " 3"]
    layers: tuple[str, ...] = ("inception4c",)

    def __call__(
        self, images: Float[ArrayLike, "batch height width 3"]
    ) -> dict[str, Float[Array, "batch rows columns _"]]:
        """Returns the feature maps of images in [0, 1], by layer name.

        Raises:
            TypeError: If `images` is not an array of real numbers.
            ValueError: If the shape is wrong.
        """
        network, feature_maps = self.convolutions, {}
        values = network["conv1"](_normalized(images, self), stride=2)
        values = network["conv3"](network["conv2"](_max_pool(values, 3, 2, padding=_CEILING)))
        for level, names in _INCEPTIONS.items():
            size = 2 if level == 5 else 3
            values = _max_pool(values, size, 2, padding=_CEILING)
            for name in names:
                if f"{name}.branch1" not in network:
                    return {layer: feature_maps[layer] for layer in self.layers}
                values = feature_maps[name] = _inception(network, name, values)
        return {layer: feature_maps[layer] for layer in self.layers}


_INCEPTIONS = {
    level: tuple(f"inception{level}{letter}" for letter in letters)
    for level, letters in ((3, "ab"), (4, "abcde"), (5, "ab"))
}
# Convolutions of an inception block: the branch convolution that is the input, and the kernel size.
_BRANCHES = {
    "branch1": (None, 1),
    "branch2.0": (None, 1),
    "branch2.1": ("branch2.0", 3),
    "branch3.0": (None, 1),
    "branch3.1": ("branch3.0", None),  # any size: 3 in torchvision, 5 in the paper
    "branch4.1": (None, 1),
}


def load_googlenet(path: str | os.PathLike, layers: Sequence[str] = ("inception4c",)) -> GoogLeNet:
    """Loads GoogLeNet from a file with torchvision's names and shapes, saved as in `load_vgg`.

    Batch normalization is folded into the convolutions. Images are normalized to [-1, 1], as for torchvision's
    pretrained network.

    Args:
        path: A .npz file of NumPy, or a .safetensors file.
        layers: Names of the returned layers; later blocks are not read.

    Raises:
        FileNotFoundError: If the file does not exist.
        ImportError: If safetensors is needed and missing.
        ValueError: If the file is not valid, an entry is missing or has the wrong shape, or a layer does not exist.
    """
    names = [name for level in _INCEPTIONS.values() for name in level]
    layers = _layers(layers, names)
    with _entries(path) as entries:
        network, inputs = {}, 3
        for name, size in (("conv1", 7), ("conv2", 1), ("conv3", 3)):
            network[name] = entries.normalized(name, inputs, size)
            inputs = network[name].bias.size
        for name in names[: max(map(names.index, layers)) + 1]:
            for branch, (previous, size) in _BRANCHES.items():
                channels = inputs if previous is None else network[f"{name}.{previous}"].bias.size
                network[f"{name}.{branch}"] = entries.normalized(f"{name}.{branch}", channels, size)
            ends = ("branch1", "branch2.1", "branch3.1", "branch4.1")
            inputs = sum(network[f"{name}.{end}"].bias.size for end in ends)
    half = jnp.full(3, 0.5)
    return GoogLeNet(network, half, half, layers)


def _inception(network, name, values):
    branches = [
        network[f"{name}.branch1"](values),
        network[f"{name}.branch2.1"](network[f"{name}.branch2.0"](values)),
        network[f"{name}.branch3.1"](network[f"{name}.branch3.0"](values)),
        network[f"{name}.branch4.1"](_max_pool(values, 3, 1, padding="SAME")),
    ]
    return jnp.concatenate(branches, axis=-1)


def _max_pool(values, size, stride, padding="VALID"):
    if padding == _CEILING:
        # As many windows as cover the image; the last ones are cut off at its border.
        counts = [max(-(-(n - size) // stride), 0) + 1 for n in values.shape[1:3]]
        ends = [max((count - 1) * stride + size - n, 0) for count, n in zip(counts, values.shape[1:3], strict=True)]
        padding = ((0, 0), (0, ends[0]), (0, ends[1]), (0, 0))
    window, steps = (1, size, size, 1), (1, stride, stride, 1)
    return lax.reduce_window(values, -jnp.inf, lax.max, window, steps, padding)


def _normalized(images, network):
    images = _checks.widened(_checks.as_color(images, "images"))
    _checks.check_shape(images, "images", "batch", "height", "width", 3)
    return (images - network.mean) / network.deviation


def _vgg(blocks, layers, normalization):
    mean, deviation = (jnp.array(values, jnp.float32) for values in _STATISTICS[normalization])
    return VGG(tuple(map(tuple, blocks)), mean, deviation, layers)


def _layers(layers, names) -> tuple[str, ...]:
    layers = (layers,) if isinstance(layers, str) else tuple(layers)
    for layer in layers or ("",):
        if layer not in names:
            raise ValueError(f"layers must be chosen from {', '.join(names)}, got {layer!r}.")
    return layers


@contextlib.contextmanager
def _entries(path) -> Iterator[_Entries]:
    """Opens a file whose arrays are read on demand."""
    path = Path(path)
    if path.suffix.lower() not in _ENDINGS:
        raise ValueError(f"path must end in one of {', '.join(_ENDINGS)}, got {str(path)!r}.")
    if not path.is_file():
        raise FileNotFoundError(f"path must be an existing file, got {str(path)!r}.")
    with contextlib.ExitStack() as stack:
        try:
            if path.suffix.lower() == ".npz":
                file = stack.enter_context(np.load(path, allow_pickle=False))
                entries = _Entries(path, set(file.files), file.__getitem__)
            else:
                safetensors = require("safetensors", "safetensors", "Files ending in .safetensors", extra="examples")
                file = stack.enter_context(safetensors.safe_open(path, framework="numpy"))
                entries = _Entries(path, set(file.keys()), file.get_tensor)
        except ImportError:
            raise
        except Exception as error:  # readers raise many types of exceptions on invalid data
            raise ValueError(f"path must be a valid file of weights, got {str(path)!r}: {error}.") from error
        yield entries


class _Entries:
    """Arrays of a file, checked when they are read."""

    def __init__(self, path, names, read):
        self.path, self.names, self.read = path, names, read

    def error(self, what):
        """Returns the exception for an invalid file."""
        return ValueError(f"{self.path.name} {what}.")

    def array(self, name, *shape):
        """Reads a float32 array; None in `shape` stands for any size."""
        if name not in self.names:
            raise self.error(f"must hold {name!r}, which is missing")
        try:
            array = np.asarray(self.read(name))
        except Exception as error:  # as in _entries
            raise self.error(f"must hold {name!r} as an array of numbers, got {error}") from error
        if not np.issubdtype(array.dtype, np.floating):
            raise self.error(f"must hold {name!r} as floating point numbers, got dtype {array.dtype}")
        fits = array.ndim == len(shape) and all(
            expected in (None, size) for expected, size in zip(shape, array.shape, strict=True)
        )
        if not fits:
            sizes = ", ".join("any" if size is None else str(size) for size in shape) + ("," if len(shape) == 1 else "")
            raise self.error(f"must hold {name!r} of shape ({sizes}), got {array.shape}")
        return array.astype(np.float32)

    def kernel(self, name, inputs, size):
        """Reads a square convolution kernel of odd size and returns it as (rows, columns, inputs, outputs)."""
        kernel = self.array(name, None, inputs, size, size)
        if kernel.shape[2] != kernel.shape[3] or kernel.shape[2] % 2 == 0:
            raise self.error(f"must hold {name!r} with a square kernel of odd size, got {kernel.shape}")
        return jnp.asarray(kernel.transpose(2, 3, 1, 0))

    def vector(self, name, size):
        """Reads a vector."""
        return jnp.asarray(self.array(name, size))

    def normalized(self, name, inputs, size):
        """Reads a convolution and folds the batch normalization after it into its weights."""
        kernel = self.kernel(f"{name}.conv.weight", inputs, size)
        outputs = kernel.shape[-1]
        weight, bias, mean, variance = (
            self.vector(f"{name}.bn.{field}", outputs) for field in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / jnp.sqrt(variance + 1e-3)  # torchvision's epsilon for this network
        return Convolution(kernel * scale, bias - mean * scale)
