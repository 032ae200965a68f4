"""Writes a mesh file and the files that it names: all of them, or none."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from pathlib import Path

# Part of an existing mesh file in which the files that it names are looked for, in bytes.
HEAD = 2**20


def replace_all(path: Path, files: dict[Path, bytes], *, overwrite: bool) -> None:
    """Writes `files`, of which the mesh file `path` is the last; on an error all files are as they were.

    Raises:
        FileExistsError: If a file that is not `path` exists, the existing `path` does not name it, and `overwrite` is
            False.
        OSError: If a file cannot be written.
    """
    _check(path, files, overwrite=overwrite)
    new, old, replaced = {}, {}, []
    try:
        for target, data in files.items():
            new[target] = _beside(target)
            _write(target, new[target], data)
        if len(files) > 1:
            for target in filter(os.path.lexists, files):
                old[target] = _beside(target)
                _keep(target, old[target])
        for target in files:
            new[target].replace(target)
            replaced.append(target)
    except BaseException as error:
        for target in replaced:
            if target in old:
                old[target].replace(target)
            else:
                target.unlink()
        if isinstance(error, OSError) and error.errno is not None:
            # The name of a temporary file says nothing to a user.
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    finally:
        for temporary in (*new.values(), *old.values()):
            temporary.unlink(missing_ok=True)


def _check(path, files, *, overwrite):
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path must lie in an existing folder, got {str(path)!r}.")
    for target in files:
        if target.is_dir():
            raise IsADirectoryError(f"path must not need a file in the place of a folder, got {str(target)!r}.")
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    foreign = [] if overwrite else _foreign(path, files)
    if foreign:
        raise FileExistsError(
            f"path must not need files that exist and do not belong to it, got {', '.join(map(repr, foreign))} beside "
            f"{str(path)!r}: overwrite=True replaces them."
        )


def _foreign(path, files):
    """Names of the files that exist and that neither the existing mesh file nor its material library names."""
    lines, foreign = _head(path), []
    for target in reversed(files):  # the material library before the images
        if target == path or not os.path.lexists(target):
            continue
        if any(line.rstrip().endswith(b" " + os.fsencode(target.name)) for line in lines):
            lines = lines + _head(target)
        else:
            foreign.append(target.name)
    return foreign


def _head(path):
    if not path.is_file():
        return []
    with path.open("rb") as file:
        return file.read(HEAD).split(b"\n")


def _beside(target):
    return target.with_name(f".jnr-{secrets.token_hex(8)}")


def _write(target, new, data):
    with new.open("xb") as file:
        file.write(data)
    if target.is_file() and not target.is_symlink():
        new.chmod(stat.S_IMODE(target.stat().st_mode))


def _keep(target, old):
    """Links an existing file under the name `old` too, or copies it."""
    try:
        os.link(target, old, follow_symlinks=False)
    except OSError:  # a file system without links
        shutil.copy2(target, old, follow_symlinks=False)
