"""Places that a command writes to: checked before any work. With --overwrite an earlier result is replaced at the end.

Only what sparcell wrote is ever replaced: a folder whose every file is in the list that sparcell left in it, a model folder, or an
.h5ad file or zarr folder that carries sparcell's mark.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparcell.errors import InputError

log = logging.getLogger("sparcell")

FILES = ".sparcell-files.json"
"""List of the files that sparcell wrote into a folder: path in the folder → size in bytes."""

IGNORED = (FILES, ".DS_Store", ".sparcell-lock")


def check_output_file(out: Path, input: list[Path], *, overwrite: bool) -> None:
    """Raise InputError, before any work, if a result cannot be written or would replace something that sparcell did not write."""
    from sparcell.io import files, result_files

    kind = result_files.format_of(out, "--out")
    files.check_output_folder(out.parent, allow_existing=True)
    kind.check(out)
    for path in input:
        if out.exists() and path.exists() and out.samefile(path):
            raise InputError(
                f"--out is the input, {path}; expected another name, so that the input stays as it is."
            )
    if out.exists() and not overwrite:
        raise InputError(
            f"--out is {out}, which exists; expected a new name, so that nothing is overwritten. Add --overwrite to replace a file "
            "that sparcell wrote."
        )
    if out.exists() and not kind.is_marked(out):
        raise InputError(
            f"{out} was not written by sparcell, or was written again by another program since; --overwrite replaces only files of "
            "sparcell. Give another name, or remove the file."
        )


def check_model_folder(folder: Path, *, overwrite: bool) -> None:
    """Raise InputError, before any work, if a model cannot be saved in a folder, or would replace another one without --overwrite."""
    from sparcell.io import model_folder

    model_folder.check_target(folder)
    if model_folder.is_whole(folder) and not overwrite:
        raise InputError(
            f"{folder} holds a model; expected a new folder. Add --overwrite to replace the model."
        )


@contextmanager
def output_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield the folder to write results into, and list in it the files that were written.

    With `overwrite`, and an earlier result in `out`, that is a new folder beside it, which takes the place of the earlier one if the block
    succeeds. If the block fails or is interrupted, the earlier result is as it was. Finished runs in the new folder are kept for the same
    command; any other content of it is removed first.

    Raises
    ------
    InputError
        If `out` holds a file that sparcell did not write, or with `overwrite` if it is the current folder.
    """
    from sparcell.io import places

    _recover(out)
    folder = out
    if overwrite and out.is_dir() and any(entry.name not in IGNORED for entry in out.iterdir()):
        if Path.cwd().is_relative_to(out.resolve()):
            raise InputError(
                f"--out is {out}, which is or holds the current folder and would be replaced as a whole; expected another folder: call the "
                "command from outside of it, and give its name."
            )
        check_written_by_sparcell(out)
        folder = out.with_name(f"{out.name}.new")
        if folder.exists():
            check_written_by_sparcell(folder)
        if not (folder / "runs").is_dir():
            places.remove(folder)
    others = {} if not folder.is_dir() else _sizes(folder)
    others = {name: size for name, size in others.items() if name not in _listed(folder)}
    try:
        yield folder
    except KeyboardInterrupt as stop:
        if folder == out:
            raise
        raise type(stop)(f"{out} is as it was. Run the same command again to continue.") from None
    finally:
        _list_files(folder, others)
    if folder != out:
        check_written_by_sparcell(out)  # a file may have been added meanwhile
        earlier = places.earlier_place(out)
        out.rename(earlier)
        folder.rename(out)
        places.remove(earlier)


def _recover(out: Path) -> None:
    """Put back the earlier result if a process was killed between the two renames that replace it; remove it if it was replaced."""
    from sparcell.io import places

    earlier = places.earlier_place(out)
    if not earlier.is_dir():
        return
    check_written_by_sparcell(earlier)
    if out.exists():
        places.remove(earlier)
    else:
        earlier.rename(out)


def check_written_by_sparcell(folder: Path) -> None:
    """Raise InputError, which names a file, if a folder holds a file that sparcell did not write or that changed since."""
    listed = _listed(folder)
    changed = [name for name, size in _sizes(folder).items() if listed.get(name) != size]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise InputError(
            f"{folder} holds {changed[0]}{more}, which sparcell did not write or which changed since; --overwrite replaces only files of "
            "sparcell. Move these files, or give another --out."
        )


def _sizes(folder: Path) -> dict[str, int]:
    """Return the size of each file in a folder and below, by its path in the folder."""
    return {
        path.relative_to(folder).as_posix(): path.lstat().st_size
        for path in sorted(folder.rglob("*"))
        if path.name not in IGNORED and (path.is_symlink() or not path.is_dir())
    }


def _listed(folder: Path) -> dict[str, int]:
    try:
        return dict(json.loads((folder / FILES).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _list_files(folder: Path, others: dict[str, int]) -> None:
    """Write the list of the files of sparcell: all but `others`, which were there before."""
    from sparcell.io import files

    if folder.is_dir():
        written = {name: size for name, size in _sizes(folder).items() if name not in others}
        if written:
            files.write_text(folder / FILES, json.dumps(written, indent=1) + "\n")
