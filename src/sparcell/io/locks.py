"""Locks of folders, so that two runs never write into one. The system releases a lock when its process ends, however it ends."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sparcell.errors import InputError
from sparcell.io import places

INFO_BYTES = 1000
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
"""What file systems answer that know no locks; runs there are not kept apart."""


@contextmanager
def lock(path: Path, folder: Path) -> Iterator[None]:
    """Hold the lock file `path` of a folder; remove it at the end.

    Raises InputError if another run holds it; the message names that run's process, machine and start.
    """
    handle = _acquire(path, folder)
    try:
        yield
    finally:
        if sys.platform != "win32":  # Windows removes no open file
            path.unlink(missing_ok=True)
        os.close(handle)
        if sys.platform == "win32":
            with suppress(OSError):
                path.unlink()


def _acquire(path: Path, folder: Path) -> int:
    while True:
        with places.before_work(folder):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            _take(handle)
        except BlockingIOError as error:
            holder = _holder(handle)
            os.close(handle)
            raise InputError(
                f"{folder} is in use by another run ({holder}), and two runs in one folder would overwrite each other. Wait until "
                "that run has ended, or give another folder."
            ) from error
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                os.close(handle)
                raise
        if _is_at(handle, path):
            break
        os.close(handle)  # the holder removed the file between the two calls
    described = {
        "process": os.getpid(),
        "machine": socket.gethostname(),
        "since": datetime.now(UTC).astimezone().isoformat(sep=" ", timespec="seconds"),
    }
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(described).encode())
    return handle


if sys.platform == "win32":

    def _take(handle: int) -> None:
        import msvcrt

        os.lseek(handle, INFO_BYTES, os.SEEK_SET)  # a byte behind the text, which others may then read
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error
        finally:
            os.lseek(handle, 0, os.SEEK_SET)

else:

    def _take(handle: int) -> None:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def _holder(handle: int) -> str:
    try:
        described = json.loads(os.read(handle, INFO_BYTES))
        return f"process {described['process']} on {described['machine']}, since {described['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "its lock file does not name it"
