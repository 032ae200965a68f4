"""The materials of a glTF document: base colours, their images, and a record of everything else."""

from __future__ import annotations

import urllib.parse
from typing import Any, NamedTuple

import numpy as np

from jnr.io import _parts
from jnr.io._gltf_document import Document, finite, listed, natural

WRAPS = {10497: "repeat", 33648: "mirror", 33071: "clamp"}
NEAREST = 9728
SPECULAR_GLOSSINESS = "KHR_materials_pbrSpecularGlossiness"
BASISU = "KHR_texture_basisu"
# Keys of a material that are read, or that say nothing of its surface.
READ = {"name", "extras", "extensions", "pbrMetallicRoughness", "alphaMode", "alphaCutoff", "doubleSided"}
READ |= {"baseColorFactor", "baseColorTexture", "diffuseFactor", "diffuseTexture", SPECULAR_GLOSSINESS}
# Values that leave the base colour as it is.
NEUTRAL = {"metallicFactor": 0, "roughnessFactor": 1, "emissiveFactor": [0, 0, 0]}
WHITE = (1.0, 1.0, 1.0, 1.0)


class Transform(NamedTuple):
    """Scale, then rotation by an angle, then offset of texture coordinates."""

    scale: tuple
    angle: float
    offset: tuple

    def __call__(self, uv: np.ndarray) -> np.ndarray:
        """Applies the transform to rows of texture coordinates."""
        rotation = [[np.cos(self.angle), -np.sin(self.angle)], [np.sin(self.angle), np.cos(self.angle)]]
        return uv @ (np.array(self.scale)[:, None] * rotation) + self.offset


class Material(NamedTuple):
    """The base colour of a material; without `factor` and `texture` it is white."""

    factor: tuple | None = None
    texture: int | None = None
    uv_set: int = 0
    transform: Transform | None = None
    alpha: str | None = None
    cutoff: float = 0.5


class Materials:
    """Reads the materials that the scene uses. The default material comes after all others."""

    def __init__(self, document: Document, wrap: str):
        self.document, self.files, self.wrap = document, document.files, wrap
        self.count = len(document.items("materials"))
        if self.count > _parts.MAX_IMAGES:
            raise ValueError(f"it has more than {_parts.MAX_IMAGES} materials")
        # `save` writes images that no face has; `load` restores them.
        self.keeps_unused = document.entries.get("asset", {}).get("generator") == "jnr"
        self.read: dict[int, Material] = {self.count: Material()}
        self.others: set[str] = set()
        self.images: dict[Any, np.ndarray] = {}

    def index(self, primitive: dict) -> int:
        """Returns the material index of a primitive."""
        if "material" not in primitive:
            return self.count
        self.document.item("materials", primitive["material"])
        return primitive["material"]

    def __getitem__(self, index: int) -> Material:
        """Reads a material once, and notes what it has besides a base colour."""
        if index not in self.read:
            entry = self.document.item("materials", index)
            extensions, surface = entry.get("extensions", {}), entry.get("pbrMetallicRoughness", {})
            names = ("baseColorFactor", "baseColorTexture")
            if SPECULAR_GLOSSINESS in extensions:
                surface, names = extensions[SPECULAR_GLOSSINESS], ("diffuseFactor", "diffuseTexture")
            for part in (entry, surface, extensions):
                self.others |= {key for key, value in part.items() if key not in READ and value != NEUTRAL.get(key)}
            self.read[index] = self._material(entry, surface.get(names[0]), surface.get(names[1]), names[0])
        return self.read[index]

    def _material(self, entry, factor, texture, name) -> Material:
        mode = entry.get("alphaMode", "OPAQUE")
        if mode not in ("OPAQUE", "MASK", "BLEND"):
            raise ValueError(f"it has the alphaMode {str(mode)[:80]!r}")
        (cutoff,) = finite([entry.get("alphaCutoff", 0.5)], 1, "alphaCutoff")
        if factor is not None:
            factor = self.clipped(finite(factor, 4, name))
            factor = tuple(factor.tolist())
        material = Material(factor, alpha=None if mode == "OPAQUE" else mode.lower(), cutoff=float(cutoff))
        if texture is None:
            return material
        uv_set, transform = texture.get("texCoord", 0), texture.get("extensions", {}).get("KHR_texture_transform")
        if transform is not None:
            uv_set = transform.get("texCoord", uv_set)
            scale = finite(transform.get("scale", [1, 1]), 2, "scale")
            (angle,) = finite([transform.get("rotation", 0)], 1, "rotation")
            offset = finite(transform.get("offset", [0, 0]), 2, "offset")
            transform = Transform(tuple(scale.tolist()), float(angle), tuple(offset.tolist()))
        return material._replace(texture=natural(texture["index"]), uv_set=natural(uv_set), transform=transform)

    def clipped(self, colors: np.ndarray) -> np.ndarray:
        """Limits colours to [0, 1], as the specification demands."""
        inside = np.clip(colors, 0, 1)
        if not np.array_equal(inside, colors, equal_nan=True):
            self.files.leave_out("parts of colours outside [0, 1] (clipped)")
        return inside

    def record(self) -> None:
        """Records what the used materials have besides a base colour."""
        if self.others:
            self.files.leave_out(f"material properties other than base colour: {listed(self.others)}")

    def pictures(self, used: set[int]) -> tuple[list, list, list | None, list | None]:
        """Returns the image, wrap mode, use of opacity and cutoff of every material.

        The default material is among them if it is used. Images of unused materials are not opened.
        """
        entries = [self._entry(k, used) for k in range(self.count + (self.count in used))]
        images = [self._colored(entry) for entry in entries]
        wraps = [self._wrap(entry) for entry in entries]
        if all(image.shape[-1] == 3 for image in images):
            return images, wraps, None, None
        # Those of opaque materials have an opacity of 1.
        alphas = ["blend" if entry.alpha is None else entry.alpha for entry in entries]
        return _parts.with_equal_channels(images), wraps, alphas, [entry.cutoff for entry in entries]

    def _entry(self, index, used):
        if index in used or self.keeps_unused:
            return self[index]
        return Material()

    def _colored(self, entry):
        """The image of a material times its colour. The sampled numbers are multiplied as they are stored."""
        key = (entry.texture, entry.factor, entry.alpha is None, entry.cutoff > 1)
        if key not in self.images:
            image = np.ones((1, 1, 3), np.float32) if entry.texture is None else self._image(entry.texture)
            self.images[key] = self._multiplied(image, np.array(entry.factor or WHITE), entry)
        return self.images[key]

    def _multiplied(self, image, factor, entry):
        if entry.alpha is None:
            image, factor = image[..., :3], factor[:3]
        elif image.shape[-1] == 3:
            # A mask above 1 hides what is opaque.
            if factor[3] == 1 and (entry.alpha == "blend" or entry.cutoff <= 1):
                factor = factor[:3]
            else:
                image = np.concatenate([image, np.ones_like(image[..., :1])], axis=-1)
        if np.all(factor == 1):
            return image
        self.files.count(image.shape[0] * image.shape[1])
        return image * factor.astype(np.float32)

    def _image(self, index) -> np.ndarray:
        texture = self.document.item("textures", index)
        extensions = texture.get("extensions", {})
        source = texture.get("source", extensions.get("EXT_texture_webp", {}).get("source"))
        if source is None:
            if not extensions or BASISU in self.document.required:
                needs = f" without {BASISU}" if extensions else ""
                raise ValueError(f"it has a texture without an image in a supported format{needs}")
            names = ", ".join(sorted(extensions))
            self.files.leave_out(f"the image of texture {index}, which needs {names} (grey in its place)")
            return _parts.gray()
        return self._decoded(natural(source))

    def _decoded(self, index) -> np.ndarray:
        if index not in self.images:
            entry = self.document.item("images", index)
            if "bufferView" in entry:
                image = self.files.decode(bytes(self.document.view(entry["bufferView"])), f"{index}")
            elif entry["uri"].startswith("data:"):
                image = self.files.decode(self.document.content(entry["uri"]), f"{index}")
            else:
                image = self.files.image(urllib.parse.unquote(entry["uri"]), f"texture {index}")
            self.images[index] = image
        return self.images[index]

    def _wrap(self, entry):
        """A name, or a pair of names if the two directions differ."""
        if entry.texture is None:
            # A 1 x 1 image of a colour is clamped in place of "border", so that no border colour is seen.
            return "clamp" if self.wrap == "border" else self.wrap
        texture = self.document.item("textures", entry.texture)
        sampler = self.document.item("samplers", texture["sampler"]) if "sampler" in texture else {}
        if sampler.get("magFilter") == NEAREST:
            self.files.leave_out("nearest filtering of textures")
        if "wrapS" not in sampler and "wrapT" not in sampler:
            return self.wrap
        across, up = (WRAPS[sampler.get(key, 10497)] for key in ("wrapS", "wrapT"))
        return across if across == up else (across, up)
