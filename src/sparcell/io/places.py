"""Places to write to: tried before any work, named in one message if they cannot be used, swept of what a killed run left.

A file is first written under a temporary name, which holds the machine and the process that writes it. The next run that writes into the
folder removes such files of processes that no longer run.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sparcell.errors import InputError, OutputError

ZARR_FILES = ("zarr.json", ".zgroup", ".zattrs", ".zmetadata")
"""Files that mark a folder as a part of a zarr store."""
LOCK = ".sparcell-lock"
"""Name of the lock file in the folder of a study or benchmark (`io.locks`)."""
TEMPORARY = re.compile(r"\.?sparcell-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PROBE_BYTES = 4096
"""Bytes that are written on trial: a full disk accepts an empty file."""
MAX_AGE = 24 * 3600.0
"""Seconds after which a temporary file of another machine is taken for abandoned."""


def temporary_name(target: Path | None = None) -> str:
    """Return a new hidden name for a temporary file; it keeps the suffix of `target`, by which many writers choose a format."""
    suffix = "" if target is None else "".join(target.suffixes[-2:])
    return f".sparcell-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}{suffix if len(suffix) < 32 else ''}"


def _machine() -> str:
    name = os.uname().nodename if sys.platform != "win32" else os.environ.get("COMPUTERNAME", "")
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def sweep(folder: Path) -> None:
    """Remove temporary files and folders of runs that were killed. Never fails."""
    with suppress(OSError):
        for entry in list(folder.iterdir()):
            if (found := TEMPORARY.match(entry.name)) and _is_abandoned(entry, found[1], int(found[2])):
                remove(entry)


def _is_abandoned(path: Path, machine: str, process: int) -> bool:
    """Return whether nobody writes a temporary file any more; a run of this machine may take longer than `MAX_AGE`."""
    if machine == _machine() and sys.platform != "win32":
        return not is_running(process)
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > MAX_AGE
    return False


def is_running(process: int) -> bool:
    """Return whether a process of this machine runs; True where the system does not say."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def without_dots(folder: Path) -> Path:
    """Return the folder without "..", which would have no name of its own."""
    return Path(os.path.abspath(folder)) if ".." in folder.parts else folder  # noqa: PTH100


def earlier_place(folder: Path) -> Path:
    """Return where an earlier folder lies while a new one takes its place: hidden, so that no folder of the user has this name."""
    whole = without_dots(folder.absolute())
    return whole.with_name(f".{whole.name}.earlier")


def discard(folder: Path) -> None:
    """Remove a folder under a temporary name, so that nobody meets a half of it, and `sweep` ends what a kill interrupts. Never fails."""
    with suppress(OSError):
        if folder.exists():
            hidden = folder.with_name(temporary_name())
            folder.replace(hidden)
            remove(hidden)


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content, if `path` exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(FileNotFoundError):
        path.unlink()


@contextmanager
def before_work(path: Path) -> Iterator[None]:
    """Turn an OSError into the InputError that names the place and asks for another one."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be written ({_reason(path, error)}); give another path.") from error


def failure(path: Path, error: OSError) -> OutputError:
    """Return the error for a file or folder whose writing failed."""
    remedy = (
        "Make room there, or give a path on another disk."
        if error.errno in FULL
        else "Check the disk, or give another path."
    )
    return OutputError(
        f"{path} could not be written ({_reason(path, error)}). What was there before is unchanged. {remedy}"
    )


def _reason(path: Path, error: OSError) -> str:
    reason = error.strerror or str(error).splitlines()[0]
    if error.errno in FULL:
        with suppress(OSError):
            folder = next(parent for parent in path.absolute().parents if parent.is_dir())
            return f"{reason}; {_size(shutil.disk_usage(folder).free)} free in {folder}"
    return reason


def _size(n_bytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes} bytes"


def check_outside_zarr(path: Path, *, may_be_store: bool = False) -> None:
    """Raise InputError if `path` lies in a zarr store, or is one itself, whose content would no longer be what it was."""
    where = Path(os.path.realpath(path))
    folders = where.parents if may_be_store else (where, *where.parents)
    stores = [folder for folder in folders if any((folder / name).exists() for name in ZARR_FILES)]
    if stores:
        raise InputError(
            f"{path} is inside of the zarr store {stores[-1]}, which holds data; give a path outside of it."
        )


def check_file(path: Path) -> None:
    """Raise InputError unless a file can be written at `path`; its folder must exist. Leaves nothing behind."""
    with before_work(path):
        if is_there(path) and path.is_dir():
            raise InputError(f"{path} is a folder; expected the name of a file to write.")
    check_parent(path)


def check_parent(path: Path) -> None:
    """Raise InputError unless a file or folder called `path` can be made in its folder, which must exist. Leaves nothing behind."""
    with before_work(path):
        if not path.parent.is_dir():
            raise InputError(
                f"There is no folder {path.parent} to write {path.name} into; create the folder first."
            )
        check_outside_zarr(path, may_be_store=True)
        probe(path.parent)
    sweep(path.parent)


def check_folder(folder: Path) -> None:
    """Raise InputError unless files can be written into `folder`, which is made on trial. Leaves nothing behind."""
    with before_work(folder):
        is_there(folder)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file; expected a new or empty folder: give another name.")
        check_outside_zarr(folder)
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe(folder)
        finally:
            for place in missing:
                with suppress(OSError):
                    place.rmdir()
    sweep(folder)


def is_there(path: Path) -> bool:
    """Return whether something is at `path`; unlike Path.exists this raises OSError for a name that is too long or a closed folder."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def probe(folder: Path) -> None:
    """Write a small file into a folder and remove it; raises OSError."""
    path = folder / temporary_name()
    try:
        with path.open("xb") as file:
            file.write(bytes(PROBE_BYTES))
    finally:
        path.unlink(missing_ok=True)


def flush_folder_to_disk(folder: Path) -> None:
    """Wait until a folder and all in it are on the disk."""
    for path in folder.rglob("*"):
        flush_to_disk(path)
    flush_to_disk(folder)


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk, where the system can do that."""
    if path.is_dir() and sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems without fsync
            raise
    finally:
        os.close(handle)
