"""Writing files atomically, and checking paths before work begins."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sparcell.errors import InputError, OutputError
from sparcell.io import places


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
        If the folder of `path` does not exist or is not writable, if `path` is a folder, or if it lies in a zarr store.
    OutputError
        If the file cannot be written, for example because the disk is full.

    Examples
    --------
    >>> with sp.io.atomic_write("scores.csv") as temporary:
    ...     table.to_csv(temporary)
    """
    target = Path(path)
    places.check_file(
        target
    )  # before the block runs, so that an OSError of the block is not taken for this one
    temporary = target.with_name(places.temporary_name(target))
    try:
        yield temporary
        places.flush_to_disk(temporary)
        os.replace(temporary, target)  # noqa: PTH105 - Path.replace gives a less clear error on Windows
    except BaseException as error:
        places.remove(temporary)  # first, so that the message counts its bytes as free
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            raise places.failure(target, error) from error
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder, which replaces `path` if the block succeeds; an earlier folder is put aside meanwhile.

    If the block fails or is interrupted, the temporary folder is removed and an earlier one stays as it was. If the process is killed
    between the two renames, the earlier folder lies at `places.earlier_place(path)`: who calls this puts it back before the next time.

    Raises
    ------
    OutputError
        If something cannot be written, for example because the disk is full.
    """
    folder, earlier = places.without_dots(path), places.earlier_place(path)
    temporary, is_put_aside = earlier.with_name(places.temporary_name(folder)), False
    try:
        temporary.mkdir(parents=True)
        yield temporary
        places.flush_folder_to_disk(temporary)
        if folder.exists():
            is_put_aside = True
            folder.replace(earlier)
        temporary.replace(folder)
        places.flush_to_disk(folder.parent)
    except BaseException as error:
        places.remove(temporary)  # first, so that the message counts its bytes as free
        if is_put_aside and earlier.exists() and not folder.exists():
            earlier.replace(folder)
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            raise places.failure(folder, error) from error
        raise
    finally:
        if is_put_aside and folder.exists():
            places.discard(earlier)


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
    InputError, OutputError
        See `atomic_write`.

    Examples
    --------
    >>> sp.io.write_text("genes.txt", "\n".join(adata.var_names))
    """
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


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
        If `path` is a file, holds files, lies in a zarr store, or cannot be created or written to.

    Examples
    --------
    >>> folder = sp.io.check_output_folder("results")
    """
    folder = Path(path)
    places.check_folder(folder)
    with places.before_work(folder):
        if folder.is_dir() and not allow_existing:
            names = sorted(
                entry.name for entry in folder.iterdir() if not entry.name.startswith(".sparcell-")
            )
            if names:
                raise InputError(
                    f"The folder {folder} is not empty ({', '.join(names[:3])}{', …' * (len(names) > 3)}); "
                    "expected a new or empty folder, so that no earlier result is overwritten: give another name."
                )
        folder.mkdir(parents=True, exist_ok=True)
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


def as_paths(path: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return one path or several as a list."""
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(one) for one in path]
    if not paths:
        raise InputError("no file is given; expected one path or more.")
    return paths


def title_of(path: str | Path | Sequence[str | Path]) -> str:
    """Return the name of a file, or that of the first of several and how many more there are.

    Examples
    --------
    >>> from sparcell.io.files import title_of
    >>> title_of(["data/donor1.h5ad", "data/donor2.h5ad"])
    'donor1.h5ad and 1 more'
    """
    first, *others = as_paths(path)
    return first.name + (f" and {len(others)} more" if others else "")
