"""A tiny writer of glTF files, for tests."""

import base64
import io
import json

import numpy as np

TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "f4")
TRIANGLE_UV = np.array([[0, 0], [1, 0], [0, 1]], "f4")
COMPONENTS = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


def encoded(*rows, kind="PNG", mode="RGB"):
    """An image file of rows of colours in [0, 1]."""
    from PIL import Image

    image = Image.fromarray(np.round(np.array(rows) * 255).astype(np.uint8), mode)
    file = io.BytesIO()
    image.save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


class Gltf:
    """A glTF file that grows with the arrays put into it."""

    def __init__(self):
        self.data, self.views, self.accessors = b"", [], []

    def view(self, data):
        self.data += b"\0" * (-len(self.data) % 4)
        self.views.append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)})
        self.data += data
        return len(self.views) - 1

    def array(self, rows, dtype="f4", **more):
        rows = np.asarray(rows, "<" + dtype)
        rows = rows.reshape(len(rows), -1)
        return self.accessor(len(rows), rows.shape[1], dtype, bufferView=self.view(rows.tobytes()), **more)

    def accessor(self, count, width, dtype="f4", **more):
        self.accessors.append({"componentType": COMPONENTS[dtype], "count": count, "type": TYPES[width]} | more)
        return len(self.accessors) - 1

    def triangle(self, *, shift=(0, 0, 0), attributes=None, **more):
        return {"attributes": {"POSITION": self.array(TRIANGLE + np.array(shift)), **(attributes or {})}, **more}

    def with_image(self, image, **more):
        """Entries of a document whose texture 0 is an image."""
        images = [{"bufferView": self.view(image), "mimeType": "image/png"}]
        return {"images": images, "textures": [{"source": 0}], **more}

    def save(self, folder, primitives, *, mesh=None, **document):
        uri = "data:application/octet-stream;base64," + base64.b64encode(self.data).decode()
        whole = {
            "asset": {"version": "2.0"},
            "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": primitives, **(mesh or {})}],
            "accessors": self.accessors,
            "bufferViews": self.views,
            "buffers": [{"byteLength": len(self.data), "uri": uri}],
        }
        (folder / "mesh.gltf").write_text(json.dumps(whole | document))
        return folder / "mesh.gltf"
