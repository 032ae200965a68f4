"""`save` writes all of its files or none, and replaces only files that belong to the mesh."""

import os
import resource
import stat
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jnr

pytest.importorskip("PIL.Image", reason="textures need the io extra")

ENDINGS = [".obj", ".ply", ".glb", ".off", ".stl"]
WITH_IMAGES = {".obj": {"mesh.mtl", "mesh_0.png", "mesh_1.png"}, ".ply": {"mesh.png"}}


def mesh_of(ending, value=0.2):
    """A mesh whose files have more than 10 kB, with images where the format has any."""
    mesh = jnr.shapes.icosphere(3)
    if ending in (".off", ".stl"):
        return mesh._replace(vertices=mesh.vertices * value)
    images = 2 if ending == ".obj" else 1
    texels = [jnp.full((2, 2, 3), value) for _ in range(images)]
    texture = jnr.UVTexture(
        texels[0] if images == 1 else tuple(texels),
        mesh.vertices[:, :2] * value,
        material=None if images == 1 else jnp.arange(len(mesh.faces)) % images,
    )
    return mesh._replace(textures=texture)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def full_disk():
    """Makes every file of more than 10 kB fail."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("is_saved_before", [False, True])
def test_full_disk_leaves_all_files_as_they_were(tmp_path, request, ending, is_saved_before):
    path = tmp_path / f"mesh{ending}"
    if is_saved_before:
        jnr.save(path, mesh_of(ending))
    before = contents(tmp_path)
    assert {f"mesh{ending}", *WITH_IMAGES.get(ending, ())} == before.keys() or not is_saved_before
    request.getfixturevalue("full_disk")
    with pytest.raises(OSError, match=rf"mesh\{ending}"):
        jnr.save(path, mesh_of(ending, 0.4))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("ending", [".obj", ".ply"])
@pytest.mark.parametrize("fails_at", [1, 2, 3, 4])
@pytest.mark.parametrize("is_saved_before", [False, True])
@pytest.mark.parametrize("has_links", [True, False])
def test_error_while_files_are_replaced_leaves_them_as_they_were(
    tmp_path, monkeypatch, ending, fails_at, is_saved_before, has_links
):
    path, calls, replace = tmp_path / f"mesh{ending}", [], Path.replace
    if is_saved_before:
        jnr.save(path, mesh_of(ending))
    before = contents(tmp_path)
    fails_at = min(fails_at, 1 + len(WITH_IMAGES[ending]))

    def failing(self, target):
        calls.append(target)
        if len(calls) == fails_at:
            raise PermissionError(13, "Permission denied", str(target))
        return replace(self, target)

    def no_links(*args, **options):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "replace", failing)
    if not has_links:
        monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(PermissionError, match=rf"mesh\{ending}"):
        jnr.save(path, mesh_of(ending, 0.4))
    assert contents(tmp_path) == before


def test_mesh_is_replaced_after_the_files_that_it_names(tmp_path, monkeypatch):
    order, replace = [], Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: order.append(target.name) or replace(self, target))
    jnr.save(tmp_path / "mesh.obj", mesh_of(".obj"))
    assert order == ["mesh_0.png", "mesh_1.png", "mesh.mtl", "mesh.obj"]
    assert contents(tmp_path).keys() == set(order)


@pytest.mark.parametrize("ending", ENDINGS)
def test_saved_again_all_files_are_new(tmp_path, ending):
    path, other = tmp_path / f"mesh{ending}", tmp_path / "other"
    other.mkdir()
    jnr.save(path, mesh_of(ending))
    before = contents(tmp_path)
    jnr.save(path, mesh_of(ending, 0.4))
    jnr.save(other / path.name, mesh_of(ending, 0.4))
    assert contents(tmp_path) == contents(other)
    changed = {name for name, content in contents(tmp_path).items() if content != before[name]}
    assert changed == before.keys() - {"mesh.mtl"}


@pytest.mark.validation
@pytest.mark.parametrize(("ending", "name"), [(e, name) for e, names in WITH_IMAGES.items() for name in sorted(names)])
@pytest.mark.parametrize("existing", ["nothing", "another mesh", "a mesh that names others"])
def test_file_that_does_not_belong_to_the_mesh_is_not_replaced(tmp_path, ending, name, existing):
    path, own = tmp_path / f"mesh{ending}", tmp_path / name
    if existing != "nothing":
        jnr.save(path, mesh_of(ending)._replace(textures=None))
    if existing == "a mesh that names others":
        old = path.read_bytes()
        names = b"mtllib the mesh.mtl\n# mesh.mtl is mine\n" if ending == ".obj" else b"ply\ncomment my mesh.png\n"
        path.write_bytes(names.replace(b"my mesh", b"mymesh").replace(b"the mesh", b"the_mesh") + old)
    own.write_bytes(b"mine")
    before = contents(tmp_path)
    with pytest.raises(
        FileExistsError, match=rf"^path must not need files that exist and do not belong to it, got '{name}' beside .*"
    ):
        jnr.save(path, mesh_of(ending))
    assert contents(tmp_path) == before
    jnr.save(path, mesh_of(ending), overwrite=True)
    assert own.read_bytes() != b"mine"
    np.testing.assert_array_equal(jnr.load(path).faces, mesh_of(ending).faces)
    # It belongs to the mesh.
    jnr.save(path, mesh_of(ending))


@pytest.mark.validation
@pytest.mark.parametrize("ending", [".obj", ".ply", ".glb"])
def test_mesh_without_images_needs_no_other_file(tmp_path, ending):
    for name in ("mesh.mtl", "mesh.png", "mesh_0.png"):
        (tmp_path / name).write_bytes(b"mine")
    jnr.save(tmp_path / f"mesh{ending}", jnr.shapes.cube())
    assert (
        contents(tmp_path)["mesh.mtl"] == contents(tmp_path)["mesh.png"] == contents(tmp_path)["mesh_0.png"] == b"mine"
    )


@pytest.mark.validation
@pytest.mark.parametrize(("ending", "name"), [(".obj", "mesh.obj"), (".obj", "mesh_1.png"), (".ply", "mesh.png")])
@pytest.mark.parametrize("overwrite", [False, True])
def test_folder_in_the_place_of_a_file_is_an_error_that_writes_nothing(tmp_path, ending, name, overwrite):
    (tmp_path / name).mkdir()
    with pytest.raises(
        IsADirectoryError, match=rf"^path must not need a file in the place of a folder, got '.*{name}'"
    ):
        jnr.save(tmp_path / f"mesh{ending}", mesh_of(ending), overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.validation
def test_missing_folder_is_an_error_that_names_the_path(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^path must lie in an existing folder, got '.*absent/mesh\.ply'\.$"):
        jnr.save(tmp_path / "absent" / "mesh.ply", jnr.shapes.cube())


@pytest.mark.parametrize("name", ["mesh.obj", "mesh.mtl", "mesh_0.png"])
def test_symbolic_link_is_replaced_and_not_written_through(tmp_path, name):
    jnr.save(tmp_path / "mesh.obj", mesh_of(".obj"))
    (tmp_path / name).rename(tmp_path / "target")
    (tmp_path / name).symlink_to(tmp_path / "target")
    before = (tmp_path / "target").read_bytes()
    jnr.save(tmp_path / "mesh.obj", mesh_of(".obj", 0.4))
    assert not (tmp_path / name).is_symlink()
    assert (tmp_path / "target").read_bytes() == before


@pytest.mark.validation
def test_symbolic_link_to_nothing_does_not_belong_to_the_mesh(tmp_path):
    (tmp_path / "mesh.mtl").symlink_to(tmp_path / "absent")
    with pytest.raises(FileExistsError, match=r"got 'mesh\.mtl' beside"):
        jnr.save(tmp_path / "mesh.obj", mesh_of(".obj"))
    assert not (tmp_path / "absent").exists()


def test_permissions_are_those_of_the_old_file_or_the_usual_ones(tmp_path):
    usual = tmp_path / "usual"
    usual.write_bytes(b"")
    jnr.save(tmp_path / "mesh.obj", mesh_of(".obj"))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert set(modes.values()) == {stat.S_IMODE(usual.stat().st_mode)}
    (tmp_path / "mesh.obj").chmod(0o600)
    (tmp_path / "mesh.mtl").chmod(0o664)
    jnr.save(tmp_path / "mesh.obj", mesh_of(".obj", 0.4))
    assert stat.S_IMODE((tmp_path / "mesh.obj").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "mesh.mtl").stat().st_mode) == 0o664


@pytest.mark.validation
def test_file_that_may_not_be_written_is_not_replaced(tmp_path, monkeypatch):
    path = tmp_path / "mesh.ply"
    jnr.save(path, mesh_of(".ply"))
    before = contents(tmp_path)
    # The superuser may write every file.
    monkeypatch.setattr(os, "access", lambda file, mode: Path(file).name != "mesh.ply")
    with pytest.raises(PermissionError, match=r"mesh\.ply"):
        jnr.save(path, mesh_of(".ply", 0.4))
    assert contents(tmp_path) == before


def test_face_colours_that_were_loaded_can_be_saved(tmp_path):
    off = tmp_path / "mesh.off"
    off.write_text("OFF\n4 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2 255 0 0\n3 0 2 3 0 0 255\n")
    mesh = jnr.load(off)
    jnr.save(tmp_path / "mesh.obj", mesh)
    texture = jnr.load(tmp_path / "mesh.obj").textures
    middles = np.asarray(texture.uv)[np.asarray(texture.uv_faces)].mean(axis=1)
    height, width = texture.images.shape[:2]
    row, column = ((1 - middles[:, 1]) * height).astype(int), (middles[:, 0] * width).astype(int)
    np.testing.assert_array_equal(np.asarray(texture.images)[row, column], [[1, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize("ending", [".obj", ".glb"])
@pytest.mark.parametrize("form", ["per channel", "per face"])
def test_saved_texels_are_multiplied_by_the_factor(tmp_path, ending, form):
    mesh = jnr.shapes.icosphere(1)
    factors = jnp.array([[0.2, 0.6, 1.0], [1.0, 0.4, 0.6]])
    factor = factors[0] if form == "per channel" else factors[jnp.arange(80) % 2]
    texels = jnp.arange(12, dtype=jnp.float32).reshape(2, 2, 3) * 20 / 255
    texture = jnr.UVTexture(texels, mesh.vertices[:, :2], factor=factor)
    jnr.save(tmp_path / f"mesh{ending}", mesh._replace(textures=texture))
    loaded = jnr.load(tmp_path / f"mesh{ending}")
    assert isinstance(loaded.textures, jnr.UVTexture)
    images = loaded.textures.images
    images = images if isinstance(images, tuple) else (images,)
    assert len(images) == (1 if form == "per channel" else 2)
    material = np.zeros(80, int) if loaded.textures.material is None else np.asarray(loaded.textures.material)
    for face, row in enumerate(jnp.broadcast_to(factor, (80, 3))):
        np.testing.assert_allclose(images[material[face]], texels * row, atol=0.5 / 255 + 1e-6)  # 8 bits
