import importlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnr.applications._fitting import as_argument
from jnr.applications.features import load_googlenet, load_vgg, random_vgg

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def tiny_vgg(seed=0):
    """Weights of two convolutions, a pooling and a third convolution, by torchvision's names."""
    rng = np.random.default_rng(seed)
    weights = {}
    for number, (inputs, outputs) in {0: (3, 4), 2: (4, 5), 5: (5, 6)}.items():
        weights[f"features.{number}.weight"] = rng.normal(0, 0.3, (outputs, inputs, 3, 3)).astype(np.float32)
        weights[f"features.{number}.bias"] = rng.normal(0, 0.1, outputs).astype(np.float32)
    weights["classifier.0.weight"] = np.zeros((2, 2), np.float32)
    return weights


def convolved(image, kernel, stride=1):
    """Convolves an image (channels, height, width) with a kernel (outputs, inputs, size, size), pixel by pixel."""
    size = kernel.shape[-1]
    around = np.pad(image, ((0, 0), (size // 2,) * 2, (size // 2,) * 2))
    rows, columns = (-(-n // stride) for n in image.shape[1:])
    out = np.zeros((len(kernel), rows, columns))
    for r, c in np.ndindex(rows, columns):
        patch = around[:, r * stride : r * stride + size, c * stride : c * stride + size]
        out[:, r, c] = np.tensordot(kernel, patch, 3)
    return out


def max_pool(image, size, stride, around=0):
    """Max pooling; the last windows are cut off at the border of the image."""
    image = np.pad(image, ((0, 0), (around,) * 2, (around,) * 2), constant_values=-np.inf)
    rows, columns = (-(-(n - size) // stride) + 1 for n in image.shape[1:])
    out = np.zeros((len(image), rows, columns))
    for r, c in np.ndindex(rows, columns):
        out[:, r, c] = image[:, r * stride : r * stride + size, c * stride : c * stride + size].max(axis=(1, 2))
    return out


def vgg(image, weights):
    """Feature maps of `tiny_vgg` for a normalized image (channels, height, width)."""
    maps, values = {}, image
    for name, number in (("relu1_1", 0), ("relu1_2", 2), ("relu2_1", 5)):
        if name == "relu2_1":
            rows, columns = (n // 2 * 2 for n in values.shape[1:])
            values = max_pool(values[:, :rows, :columns], 2, 2)
        bias = weights[f"features.{number}.bias"][:, None, None]
        values = np.maximum(convolved(values, weights[f"features.{number}.weight"]) + bias, 0)
        maps[name] = values.transpose(1, 2, 0)
    return maps


IMAGES = np.random.default_rng(9).uniform(size=(2, 6, 9, 3)).astype(np.float32)


@jax.jit
def map_batch(network, images):
    return network(images)


# --- VGG


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_loaded_vgg_equals_a_direct_loop(tmp_path, ending):
    weights, path = tiny_vgg(), tmp_path / f"vgg{ending}"
    if ending == ".npz":
        np.savez(path, **weights)
    else:
        pytest.importorskip("safetensors.numpy").save_file(weights, path)
    network = load_vgg(path, ("relu1_2", "relu2_1"))
    maps = map_batch(network, IMAGES)
    assert sorted(maps) == ["relu1_2", "relu2_1"]
    for k, image in enumerate((IMAGES - MEAN) / DEVIATION):
        for name, expected in vgg(image.transpose(2, 0, 1), weights).items():
            if name in maps:
                np.testing.assert_allclose(maps[name][k], expected, rtol=1e-4, atol=1e-4)  # sums of 45 terms, float32


def test_caffe_normalization_is_bgr_in_0_to_255_minus_the_mean(tmp_path):
    weights = tiny_vgg()
    np.savez(tmp_path / "vgg.npz", **weights)
    network = load_vgg(tmp_path / "vgg.npz", ("relu2_1",), normalization="caffe")
    image = IMAGES[0, ..., ::-1] * 255 - np.array([103.939, 116.779, 123.68])
    expected = vgg(image.transpose(2, 0, 1), weights)["relu2_1"]
    assert expected.max() > 50
    np.testing.assert_allclose(map_batch(network, IMAGES)["relu2_1"][0], expected, rtol=1e-4, atol=1e-2)


def test_weights_after_the_last_layer_are_not_read(tmp_path):
    weights = tiny_vgg()
    weights["features.5.weight"] = np.zeros((1, 1), np.float32)
    np.savez(tmp_path / "vgg.npz", **weights)
    assert [len(block) for block in load_vgg(tmp_path / "vgg.npz", "relu1_1").blocks] == [1]


@pytest.mark.validation
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.2.bias": None}, r"vgg\.npz must hold 'features\.2\.bias', which is missing\."),
        ({"features.0.weight": None}, r"vgg\.npz must hold 'features\.0\.weight', which is missing\."),
        (
            {"features.2.weight": np.zeros((5, 3, 3, 3), np.float32)},
            r"vgg\.npz must hold 'features\.2\.weight' of shape \(any, 4, 3, 3\), got \(5, 3, 3, 3\)\.",
        ),
        (
            {"features.2.bias": np.zeros((4,), np.float32)},
            r"vgg\.npz must hold 'features\.2\.bias' of shape \(5,\), got \(4,\)\.",
        ),
        (
            {"features.2.bias": np.zeros(5, int)},
            r"vgg\.npz must hold 'features\.2\.bias' as floating point numbers, got",
        ),
        (
            {"features.9.weight": np.zeros((5, 3, 3, 3), np.float32)},
            r"vgg\.npz must hold convolutions two numbers apart, .* got 'features\.5\.weight' followed by 'features\.9",
        ),
        ({"features.0.bias": np.array([{}])}, r"vgg\.npz must hold 'features\.0\.bias' as an array of numbers, got"),
    ],
    ids=["bias", "first", "inputs", "size", "dtype", "numbers", "pickle"],
)
def test_missing_or_invalid_entry_is_named_in_the_error(tmp_path, change, message):
    weights = {name: array for name, array in {**tiny_vgg(), **change}.items() if array is not None}
    np.savez(tmp_path / "vgg.npz", **weights)
    with pytest.raises(ValueError, match=f"^{message}"):
        load_vgg(tmp_path / "vgg.npz", ("relu2_1",))


@pytest.mark.validation
def test_invalid_file_or_layer_is_an_error(tmp_path):
    np.savez(tmp_path / "vgg.npz", **tiny_vgg())
    with pytest.raises(ValueError, match=r"^layers must be chosen from relu1_1, relu1_2, relu2_1, got 'relu4_3'\.$"):
        load_vgg(tmp_path / "vgg.npz", ("relu1_1", "relu4_3"))
    with pytest.raises(ValueError, match=r"^layers must be chosen from .*, got ''\.$"):
        load_vgg(tmp_path / "vgg.npz", ())
    with pytest.raises(ValueError, match=r"^path must end in one of \.npz, \.safetensors, got '.*vgg\.pth'\.$"):
        load_vgg(tmp_path / "vgg.pth")
    with pytest.raises(FileNotFoundError, match=r"^path must be an existing file, got"):
        load_vgg(tmp_path / "none.npz")
    with pytest.raises(ValueError, match=r"^normalization must be one of 'imagenet', 'caffe', got 'torch'\.$"):
        load_vgg(tmp_path / "vgg.npz", normalization="torch")  # pyright: ignore[reportArgumentType]: wrong on purpose
    for name in ("broken.npz", "broken.safetensors"):
        if name.endswith("npz") or importlib.util.find_spec("safetensors"):
            (tmp_path / name).write_bytes(b"PK no weights at all")
            with pytest.raises(ValueError, match=r"^path must be a valid file of weights, got"):
                load_vgg(tmp_path / name)
    with pytest.raises(
        ValueError, match=r"^images must be at least 4 pixels high and wide, got shape \(1, 3, 8, 3\)\.$"
    ):
        random_vgg(jax.random.key(0))(jnp.zeros((1, 3, 8, 3)))


def test_missing_safetensors_is_an_error_that_says_how_to_install_it(tmp_path, monkeypatch):
    (tmp_path / "vgg.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r'need safetensors\. Install it with: pip install "jnr\[examples\]"$'):
        load_vgg(tmp_path / "vgg.safetensors")


# --- GoogLeNet


INCEPTIONS = [f"inception{block}" for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")]


def tiny_googlenet(names=INCEPTIONS[:2]):
    """Weights of the named blocks with few channels, by torchvision's names."""
    rng = np.random.default_rng(1)
    weights = {}

    def add(name, inputs, outputs, size):
        weights[f"{name}.conv.weight"] = rng.normal(0, 1 / np.sqrt(inputs * size), (outputs, inputs, size, size))
        for field in ("weight", "bias", "running_mean"):
            weights[f"{name}.bn.{field}"] = rng.normal(0, 0.5, outputs) + (field == "weight")
        weights[f"{name}.bn.running_var"] = rng.uniform(0.5, 2, outputs)

    add("conv1", 3, 4, 7)
    add("conv2", 4, 3, 1)
    add("conv3", 3, 5, 3)
    inputs = 5
    for block in names:
        add(f"{block}.branch1", inputs, 2, 1)
        add(f"{block}.branch2.0", inputs, 3, 1)
        add(f"{block}.branch2.1", 3, 4, 3)
        add(f"{block}.branch3.0", inputs, 2, 1)
        add(f"{block}.branch3.1", 2, 3, 3)
        add(f"{block}.branch4.1", inputs, 1, 1)
        inputs = 2 + 4 + 3 + 1
    return {name: array.astype(np.float32) for name, array in weights.items()}


@pytest.mark.parametrize(("names", "size"), [(INCEPTIONS[:2], (21, 30)), (INCEPTIONS, (40, 50))], ids=["3b", "5b"])
def test_loaded_googlenet_equals_a_direct_loop(tmp_path, names, size):
    weights = tiny_googlenet(names)
    np.savez(tmp_path / "net.npz", **weights)
    network = load_googlenet(tmp_path / "net.npz", names[::-1])
    images = np.random.default_rng(2).uniform(size=(1, *size, 3)).astype(np.float32)
    got = map_batch(network, images)

    def layer(name, values, stride=1):
        values = convolved(values, weights[f"{name}.conv.weight"], stride)
        weight, bias, mean, variance = (
            weights[f"{name}.bn.{field}"][:, None, None] for field in ("weight", "bias", "running_mean", "running_var")
        )
        return np.maximum((values - mean) / np.sqrt(variance + 1e-3) * weight + bias, 0)

    values = layer("conv1", images[0].transpose(2, 0, 1) * 2 - 1, 2)
    values = layer("conv3", layer("conv2", max_pool(values, 3, 2)))
    for name in names:
        if name.endswith("a"):
            values = max_pool(values, 2 if "5" in name else 3, 2)
        branches = [
            layer(f"{name}.branch1", values),
            layer(f"{name}.branch2.1", layer(f"{name}.branch2.0", values)),
            layer(f"{name}.branch3.1", layer(f"{name}.branch3.0", values)),
            layer(f"{name}.branch4.1", max_pool(values, 3, 1, around=1)),
        ]
        values = np.concatenate(branches)
        # About ten layers of float32 sums.
        np.testing.assert_allclose(got[name][0], values.transpose(1, 2, 0), rtol=1e-3, atol=1e-4)
    assert sorted(got) == names
    assert values.std() > 0.1


@pytest.mark.validation
def test_missing_or_invalid_entry_of_googlenet_is_named_in_the_error(tmp_path):
    np.savez(tmp_path / "net.npz", **tiny_googlenet())
    with pytest.raises(
        ValueError, match=r"^net\.npz must hold 'inception4a\.branch1\.conv\.weight', which is missing\.$"
    ):
        load_googlenet(tmp_path / "net.npz")
    with pytest.raises(ValueError, match=r"^layers must be chosen from inception3a, .*, got 'fc'\.$"):
        load_googlenet(tmp_path / "net.npz", "fc")
    even = {"inception3a.branch3.1.conv.weight": np.zeros((3, 2, 2, 2), np.float32)}
    np.savez(tmp_path / "net.npz", **tiny_googlenet() | even)  # pyright: ignore[reportArgumentType]: unpacked
    with pytest.raises(
        ValueError,
        match=r"^net\.npz must hold 'inception3a\.branch3.*' with a square kernel of odd size, got \(3, 2, 2, 2\)\.$",
    ):
        load_googlenet(tmp_path / "net.npz", "inception3a")


# --- networks without a file


def test_features_of_a_random_network_keep_their_magnitude():
    images = np.random.default_rng(0).uniform(size=(1, 32, 32, 3))
    maps = map_batch(random_vgg(jax.random.key(0)), images.astype(np.float32))
    assert [m.shape for m in maps.values()] == [(1, 32, 32, 16), (1, 16, 16, 32), (1, 8, 8, 64)]
    for found in maps.values():
        assert 0.1 < float(jnp.sqrt(jnp.mean(found * found))) < 5


def test_networks_are_arguments_and_other_functions_static_under_jit():
    network = random_vgg(jax.random.key(0), ((2,),))
    assert as_argument(network) is network
    function = as_argument(lambda images: images)
    assert jax.tree.leaves(function) == []
    assert function(3) == 3


def test_applications_are_not_imported_with_jnr():
    code = "import sys, jnr; print([name for name in sys.modules if name.startswith('jnr.applications')])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
