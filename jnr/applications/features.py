"""Feature maps of convolution networks, with weights from a local file or drawn at random.

`style_transfer` and `deep_dream` take any function from images to feature maps; these are two networks to begin with.
A network is a pytree, so that its weights are arguments of what is compiled and not part of it.
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
from jaxtyping import Array, Float

from jnr import _checks
from jnr._extras import require
from jnr._pytree import pytree

Normalization = Literal["imagenet", "caffe"]

# The layers whose Gram matrices the paper compares.
STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")

_ENDINGS = (".npz", ".safetensors")
# Subtracted from and divided into colours in [0, 1], red first.
_STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255)),
}
_CEILING = "ceiling"


class Convolution(NamedTuple):
    """Weights of a convolution.

    Attributes:
        kernel: Weights, with the axes in JAX's order for images.
        bias: One a channel.
    """

    kernel: Float[Array, "rows columns inputs outputs"]
    bias: Float[Array, " outputs"]

    def __call__(self, values, stride=1):
        """Convolved with zeros around, as far as half the kernel, and rectified."""
        around = [(size // 2, size // 2) for size in self.kernel.shape[:2]]
        values = lax.conv_general_dilated(
            values, self.kernel, (stride, stride), around, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.nn.relu(values + self.bias)


@pytree(static=("layers",))
class VGG:
    """A stack of 3 x 3 convolutions, each rectified, with a halving by the greatest of 2 x 2 between its blocks.

    Attributes:
        blocks: Convolutions of each block.
        mean: Subtracted from the colours of images in [0, 1].
        deviation: What they are divided by then.
        layers: What it returns: `"relu2_1"` is the first convolution of the second block, after it is rectified.
    """

    blocks: Sequence[Sequence[Convolution]]
    mean: Float[Array, 3]
    deviation: Float[Array, 3]
    layers: tuple[str, ...] = STYLE_LAYERS

    def __call__(self, images: Float[Array, "batch height width 3"]) -> dict[str, Float[Array, "batch rows columns _"]]:
        """Feature maps of images in [0, 1], by the names of their layers.

        Raises:
            ValueError: If the images are too small to be halved so often.
        """
        values, found = _normalized(images, self), {}
        least = 2 ** (len(self.blocks) - 1)
        if min(values.shape[1:3]) < least:
            raise ValueError(f"images must be at least {least} pixels each way, got shape {images.shape}.")
        for b, block in enumerate(self.blocks, 1):
            if b > 1:
                values = _greatest(values, 2, 2)
            for c, convolution in enumerate(block, 1):
                values = convolution(values)
                found[f"relu{b}_{c}"] = values
        return {name: found[name] for name in self.layers}


def load_vgg(
    path: str | os.PathLike, layers: Sequence[str] = STYLE_LAYERS, *, normalization: Normalization = "imagenet"
) -> VGG:
    """Reads a VGG network (without batch normalization) from a file of weights.

    The file has torchvision's names and shapes: `features.0.weight` of shape (outputs, inputs, 3, 3) and
    `features.0.bias`, then 2, 5 and so on: the numbers count rectifiers and poolings too, so they tell where blocks
    end. Other entries are not read. To make one of the pretrained network, where torchvision is installed::

        state = torchvision.models.vgg16(weights="DEFAULT").state_dict()
        numpy.savez("vgg16.npz", **{name: value.numpy() for name, value in state.items()})

    Args:
        path: An .npz file of NumPy, or a .safetensors file.
        layers: What the network returns; convolutions after the last of them are not read.
        normalization: What the weights expect: `"imagenet"` mean and deviation, as torchvision's do, or `"caffe"`
            for weights of the original networks: blue first, from 0 to 255 less their mean, whose features are some
            fifty times as large.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If safetensors is missing and needed.
        ValueError: If the file cannot be read, an entry is missing or of the wrong shape, or has no such layer.
    """
    _checks.check_choice(normalization, "normalization", tuple(_STATISTICS))
    with _entries(path) as entries:
        numbers = sorted(int(m[1]) for name in entries.names if (m := re.fullmatch(r"features\.(\d+)\.weight", name)))
        if not numbers or numbers[0] != 0:
            raise entries.error("must hold 'features.0.weight', which is missing")
        places, block, index = {}, 1, 1
        for before, number in zip([None, *numbers], numbers, strict=False):
            if before is not None:
                if number - before not in (2, 3):
                    raise entries.error(
                        "must hold convolutions two numbers apart, or three with a pooling between, got "
                        f"'features.{before}.weight' and then 'features.{number}.weight'"
                    )
                block, index = (block, index + 1) if number - before == 2 else (block + 1, 1)
            places[f"relu{block}_{index}"] = number, block
        layers = _layers(layers, places)
        blocks: list[list[Convolution]] = []
        inputs = 3
        for name, (number, block) in places.items():
            kernel = entries.kernel(f"features.{number}.weight", inputs, 3)
            if number == 0 and normalization == "caffe":
                kernel = kernel[:, :, ::-1]
            inputs = kernel.shape[-1]
            if block > len(blocks):
                blocks.append([])
            blocks[-1].append(Convolution(kernel, entries.vector(f"features.{number}.bias", inputs)))
            if name == list(places)[max(list(places).index(layer) for layer in layers)]:
                break
    return _vgg(blocks, layers, normalization)


def random_vgg(
    key: jax.Array, widths: Sequence[Sequence[int]] = ((16, 16), (32, 32), (64, 64)), layers: Sequence[str] = ()
) -> VGG:
    """A network whose filters are drawn at random: enough to tell textures from one another, not objects.

    Args:
        key: Of `jax.random`.
        widths: Channels of the convolutions of each block.
        layers: What it returns; the last convolution of every block where there are none.

    References:
        He, Wang and Hopcroft, A powerful generative model using random weights for the deep image representation, 2016.
    """
    names = [f"relu{b}_{c}" for b, block in enumerate(widths, 1) for c in range(1, len(block) + 1)]
    layers = _layers(layers or [f"relu{b}_{len(block)}" for b, block in enumerate(widths, 1)], names)
    inputs, blocks = 3, []
    for block in widths:
        convolutions = []
        for width in block:
            key, own = jax.random.split(key)
            # Keeps the size of features through rectifiers.
            kernel = jax.random.normal(own, (3, 3, inputs, width)) * (2 / (9 * inputs)) ** 0.5
            convolutions.append(Convolution(kernel, jnp.zeros(width)))
            inputs = width
        blocks.append(convolutions)
    return _vgg(blocks, layers, "imagenet")


@pytree(static=("layers",))
class GoogLeNet:
    """GoogLeNet up to its inception blocks.

    Attributes:
        convolutions: By torchvision's names; those of an inception block are "inception4c.branch2.1" and so on.
        mean: Subtracted from the colours of images in [0, 1].
        deviation: What they are divided by then.
        layers: What it returns, such as `"inception4c"`.

    References:
        Szegedy et al., Going deeper with convolutions, CVPR 2015.
    """

    convolutions: dict[str, Convolution]
    mean: Float[Array, 3]
    deviation: Float[Array, 3]
    layers: tuple[str, ...] = ("inception4c",)

    def __call__(self, images: Float[Array, "batch height width 3"]) -> dict[str, Float[Array, "batch rows columns _"]]:
        """Feature maps of images in [0, 1], by the names of their layers."""
        network, found = self.convolutions, {}
        values = network["conv1"](_normalized(images, self), stride=2)
        values = network["conv3"](network["conv2"](_greatest(values, 3, 2, padding=_CEILING)))
        for level, names in _INCEPTIONS.items():
            size = 2 if level == 5 else 3
            values = _greatest(values, size, 2, padding=_CEILING)
            for name in names:
                if f"{name}.branch1" not in network:
                    return {layer: found[layer] for layer in self.layers}
                values = found[name] = _inception(network, name, values)
        return {layer: found[layer] for layer in self.layers}


_INCEPTIONS = {
    level: tuple(f"inception{level}{letter}" for letter in letters)
    for level, letters in ((3, "ab"), (4, "abcde"), (5, "ab"))
}
_BRANCHES = {
    "branch1": (None, 1),
    "branch2.0": (None, 1),
    "branch2.1": ("branch2.0", 3),
    "branch3.0": (None, 1),
    "branch3.1": ("branch3.0", None),  # 3 in torchvision, 5 in the paper
    "branch4.1": (None, 1),
}


def load_googlenet(path: str | os.PathLike, layers: Sequence[str] = ("inception4c",)) -> GoogLeNet:
    """Reads GoogLeNet from a file with torchvision's names and shapes, made as `load_vgg` says.

    Batch normalization is put into the convolutions. Images are brought to the range from -1 to 1, as for torchvision's
    pretrained network.

    Args:
        path: An .npz file of NumPy, or a .safetensors file.
        layers: What the network returns; later blocks are not read.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If safetensors is missing and needed.
        ValueError: If the file cannot be read, an entry is missing or of the wrong shape, or there is no such layer.
    """
    names = [name for level in _INCEPTIONS.values() for name in level]
    layers = _layers(layers, names)
    with _entries(path) as entries:
        network, inputs = {}, 3
        for name, size in (("conv1", 7), ("conv2", 1), ("conv3", 3)):
            network[name] = entries.normalized(name, inputs, size)
            inputs = network[name].bias.size
        for name in names[: max(map(names.index, layers)) + 1]:
            for branch, (before, size) in _BRANCHES.items():
                own = inputs if before is None else network[f"{name}.{before}"].bias.size
                network[f"{name}.{branch}"] = entries.normalized(f"{name}.{branch}", own, size)
            ends = ("branch1", "branch2.1", "branch3.1", "branch4.1")
            inputs = sum(network[f"{name}.{end}"].bias.size for end in ends)
    half = jnp.full(3, 0.5)
    return GoogLeNet(network, half, half, layers)


def _inception(network, name, values):
    branches = [
        network[f"{name}.branch1"](values),
        network[f"{name}.branch2.1"](network[f"{name}.branch2.0"](values)),
        network[f"{name}.branch3.1"](network[f"{name}.branch3.0"](values)),
        network[f"{name}.branch4.1"](_greatest(values, 3, 1, padding="SAME")),
    ]
    return jnp.concatenate(branches, axis=-1)


def _greatest(values, size, stride, padding="VALID"):
    if padding == _CEILING:
        # As many windows as begin within the image, the last ones cut off.
        counts = [max(-(-(n - size) // stride), 0) + 1 for n in values.shape[1:3]]
        ends = [max((count - 1) * stride + size - n, 0) for count, n in zip(counts, values.shape[1:3], strict=True)]
        padding = ((0, 0), (0, ends[0]), (0, ends[1]), (0, 0))
    window, steps = (1, size, size, 1), (1, stride, stride, 1)
    return lax.reduce_window(values, -jnp.inf, lax.max, window, steps, padding)


def _normalized(images, network):
    images = _checks.as_compute(images, "images")
    _checks.check_shape(images, "images", "batch", "height", "width", 3)
    return (images - network.mean) / network.deviation


def _vgg(blocks, layers, normalization):
    mean, deviation = (jnp.array(values, jnp.float32) for values in _STATISTICS[normalization])
    return VGG(tuple(map(tuple, blocks)), mean, deviation, layers)


def _layers(layers, names) -> tuple[str, ...]:
    layers = (layers,) if isinstance(layers, str) else tuple(layers)
    for layer in layers or ("",):
        if layer not in names:
            raise ValueError(f"layers must be some of {', '.join(names)}, got {layer!r}.")
    return layers


@contextlib.contextmanager
def _entries(path) -> Iterator[_Entries]:
    """The arrays of a file, read one by one."""
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
                safetensors = require("safetensors", "safetensors", "Files of that kind", extra="examples")
                file = stack.enter_context(safetensors.safe_open(path, framework="numpy"))
                entries = _Entries(path, set(file.keys()), file.get_tensor)
        except ImportError:
            raise
        except Exception as error:  # readers meet whatever a broken file holds
            raise ValueError(f"path must be a whole file of weights, got {str(path)!r}: {error}.") from error
        yield entries


class _Entries:
    """Arrays of a file, checked as they are read."""

    def __init__(self, path, names, read):
        self.path, self.names, self.read = path, names, read

    def error(self, what):
        return ValueError(f"{self.path.name} {what}.")

    def array(self, name, *shape):
        """An array of float32; None in the shape stands for any size."""
        if name not in self.names:
            raise self.error(f"must hold {name!r}, which is missing")
        try:
            array = np.asarray(self.read(name))
        except Exception as error:  # as above
            raise self.error(f"must hold {name!r} as an array of numbers, got {error}") from error
        if not np.issubdtype(array.dtype, np.floating):
            raise self.error(f"must hold {name!r} as floating point numbers, got dtype {array.dtype}")
        fits = array.ndim == len(shape) and all(
            want in (None, got) for want, got in zip(shape, array.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if want is None else str(want) for want in shape) + (
                "," if len(shape) == 1 else ""
            )
            raise self.error(f"must hold {name!r} of shape ({wanted}), got {array.shape}")
        return array.astype(np.float32)

    def kernel(self, name, inputs, size):
        """Weights of a convolution (rows, columns, inputs, outputs) with an odd square window."""
        kernel = self.array(name, None, inputs, size, size)
        if kernel.shape[2] != kernel.shape[3] or kernel.shape[2] % 2 == 0:
            raise self.error(f"must hold {name!r} with an odd square window, got {kernel.shape}")
        return jnp.asarray(kernel.transpose(2, 3, 1, 0))

    def vector(self, name, size):
        return jnp.asarray(self.array(name, size))

    def normalized(self, name, inputs, size):
        """A convolution with the batch normalization behind it."""
        kernel = self.kernel(f"{name}.conv.weight", inputs, size)
        outputs = kernel.shape[-1]
        weight, bias, mean, variance = (
            self.vector(f"{name}.bn.{field}", outputs) for field in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / jnp.sqrt(variance + 1e-3)  # torchvision's epsilon for this network
        return Convolution(kernel * scale, bias - mean * scale)
