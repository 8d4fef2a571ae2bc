"""Writing files atomically, and checking paths before work begins."""

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
    """Yield a temporary path in the same folder, which replaces `path` if the block succeeds.

    The temporary name begins with a dot and keeps the suffix (".png", ".npz"), because many writers choose a format
    by suffix. If the block fails or is interrupted, the temporary file is removed and an earlier file at `path`
    stays as it was.

    Parameters
    ----------
    path
        Path of the new file.

    Yields
    ------
    The temporary path. The block must write a file there.

    Raises
    ------
    InputError
        If the folder of `path` does not exist or is not writable, or if `path` is a folder.

    Examples
    --------
    >>> with sp.io.atomic_write("scores.csv") as temporary:
    ...     table.to_csv(temporary)
    """
    target = Path(path)
    temporary = target.with_name(f".{secrets.token_hex(4)}-{target.name}")
    try:
        if target.is_dir():
            raise InputError(f"{target} is a folder; expected the name of a file to write.")
        if not target.parent.is_dir():
            raise InputError(
                f"There is no folder {target.parent} to write {target.name} into; create the folder first."
            )
        # Tried before the block runs, so that an OSError of the block itself is not taken for this one.
        with temporary.open("xb"):
            pass
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}); give another path.") from error
    try:
        temporary.unlink()
        yield temporary
        os.replace(temporary, target)  # noqa: PTH105 - Path.replace gives a less clear error on Windows
    except BaseException:
        remove(temporary)
        raise


def write_text(path: str | Path, text: str) -> None:
    r"""Write a text file atomically, in UTF-8, with line ends as they are in `text`.

    Parameters
    ----------
    path
        Path of the file. An existing file is replaced.
    text
        Content of the file.

    Raises
    ------
    InputError
        See `atomic_write`.

    Examples
    --------
    >>> sp.io.write_text("genes.txt", "\n".join(adata.var_names))
    """
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content, if `path` exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(FileNotFoundError):
        path.unlink()


def check_output_folder(path: str | Path, allow_existing: bool = False) -> Path:
    """Create a folder for results if needed, and return its path once files can be written there.

    Called before any work, so that a long run does not fail when its results are written.

    Parameters
    ----------
    path
        The folder.
    allow_existing
        Whether the folder may already hold files.

    Returns
    -------
    The path of the existing, writable folder.

    Raises
    ------
    InputError
        If `path` is a file, holds files, or cannot be created or written to.

    Examples
    --------
    >>> folder = sp.io.check_output_folder("results")
    """
    folder = Path(path)
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(
                f"{folder} is a file; expected a folder to write results into: give another name."
            )
        if folder.is_dir() and not allow_existing and any(folder.iterdir()):
            names = sorted(entry.name for entry in folder.iterdir())
            raise InputError(
                f"The folder {folder} is not empty ({', '.join(names[:3])}{', …' * (len(names) > 3)}); "
                "expected a new or empty folder, so that no earlier result is overwritten: give another name."
            )
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{secrets.token_hex(4)}"
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder} cannot be written to ({error.strerror}); give another folder.") from error
    return folder


def existing_path(path: str | Path, what: str) -> Path:
    """Return `path` as a Path if it exists; otherwise raise InputError with the most similar name in its folder.

    `what` is what the path was expected to hold, for the message.
    """
    target = Path(path)
    try:
        if target.exists():
            return target
        folder = target.parent
        names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else None
    except (OSError, ValueError) as error:  # no permission, or a name that no file can have
        raise InputError(f"{target} cannot be opened ({error}); expected {what}.") from error
    if names is None:
        raise InputError(f"There is no folder {folder}, so no {target.name} in it; expected {what}.")
    close = difflib.get_close_matches(target.name, names, n=1, cutoff=0.5)
    hint = f"did you mean {str(folder / close[0])!r}?" if close else "check the spelling and the folder."
    raise InputError(f"There is no {target}; expected {what}: {hint}")
