"""Files that are either whole or not there: written aside under another name, then renamed."""

from __future__ import annotations

import difflib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sparcell.errors import InputError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; it takes the place of `path` if the block succeeds.

    The temporary name keeps the ending (".png", ".npz"), by which many writers choose a format, and begins
    with a dot. On any failure, Ctrl-C included, it is removed and what stood at `path` before is untouched.

    Parameters
    ----------
    path
        Where the file shall be.

    Yields
    ------
    The path to write to; a block that writes nothing there is an error.

    Raises
    ------
    InputError
        If the folder is not there or cannot be written to, or a folder stands at `path`.
    """
    target = Path(path)
    aside = target.with_name(f".{secrets.token_hex(4)}-{target.name}")
    try:
        if target.is_dir():
            raise InputError(f"{target} is a folder; expected the name of a file to write.")
        if not target.parent.is_dir():
            raise InputError(
                f"There is no folder {target.parent} to write {target.name} into; make it first."
            )
        # Tried before any work is done for it; an error of the caller's own inside the block stays its own.
        with aside.open("xb"):
            pass
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}); give another place.") from error
    try:
        aside.unlink()
        yield aside
        os.replace(aside, target)  # noqa: PTH105 - Path.replace says the same with a worse error on Windows
    except BaseException:
        remove(aside)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8, line ends as given) aside and rename it; errors as `write_aside`."""
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="")


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(FileNotFoundError):
        path.unlink()


def check_output_folder(path: str | Path, allow_existing: bool = False) -> Path:
    """Make sure that results can be written to a folder, before any work is done; make it if it is not there.

    Parameters
    ----------
    path
        The folder.
    allow_existing
        Whether files may already be in it.

    Returns
    -------
    The folder, which exists now.

    Raises
    ------
    InputError
        If it is a file, is not empty, or cannot be made or written to.
    """
    folder = Path(path)
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(
                f"{folder} is a file; expected a folder to write results into: give another name."
            )
        if folder.is_dir() and not allow_existing and any(folder.iterdir()):
            found = sorted(entry.name for entry in folder.iterdir())
            raise InputError(
                f"The folder {folder} is not empty ({', '.join(found[:3])}{', …' * (len(found) > 3)}); "
                "expected a new or empty one, so that no earlier result is overwritten: give another name."
            )
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{secrets.token_hex(4)}"
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder} cannot be written to ({error.strerror}); give another folder.") from error
    return folder


def existing_path(path: str | Path, what: str) -> Path:
    """Give the path if something is there.

    Raises
    ------
    InputError
        Else, with the nearest name in its folder.
    """
    wanted = Path(path)
    try:
        if wanted.exists():
            return wanted
        folder = wanted.parent
        names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else None
    except (OSError, ValueError) as error:  # not readable, or a name that no file can have
        raise InputError(f"{wanted} cannot be opened ({error}); expected {what}.") from error
    if names is None:
        raise InputError(f"There is no folder {folder}, so no {wanted.name} in it; expected {what}.")
    close = difflib.get_close_matches(wanted.name, names, n=1, cutoff=0.5)
    hint = f"did you mean {str(folder / close[0])!r}?" if close else "check the spelling and the folder."
    raise InputError(f"There is no {wanted}; expected {what}: {hint}")
