"""Reading and writing model folders: tensors as safetensors, all else as JSON, a card as Markdown; replaced atomically. No pickle.

Raise FORMAT whenever names of settings or tensors change, or their meaning does.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparcell.errors import InputError
from sparcell.io import files, places

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 2
"""Version of the layout of a model folder. Folders of another format are refused."""
TENSORS, DESCRIPTION, CARD = "model.safetensors", "model.json", "README.md"
FIRST_LINE = b'{\n "format": '
"""Begin of every description."""
SEAL = b"<!-- Written by sparcell. Checksum, which tells whether this page was edited: "


def check_target(folder: Path) -> None:
    """Raise InputError if a model cannot be saved here, or if the folder holds anything but a model, which saving would replace.

    Changes nothing.
    """
    places.check_folder(folder)
    earlier = places.earlier_place(folder)
    folder = places.without_dots(folder)
    with places.before_work(folder):
        places.is_there(earlier)  # the longest name that is used
        if earlier.parent.is_dir():
            places.probe(earlier.parent)
        if not folder.exists():
            return
        names = {path.name for path in folder.iterdir()}
    others = sorted(names - {DESCRIPTION, TENSORS, CARD, ".DS_Store"})
    if (
        not others
        and DESCRIPTION in names
        and CARD not in names
        and not _is_description(folder / DESCRIPTION)
    ):
        others = [f"{DESCRIPTION} of another program"]
    if others or (names and DESCRIPTION not in names):
        content = ", ".join((others or sorted(names))[:3])
        raise InputError(
            f"{folder} holds other files than those of a sparcell model ({content}); expected a new or empty folder to save to."
        )
    if CARD in names and _card_was_edited(folder / CARD):
        raise InputError(
            f"{folder / CARD} was edited, and saving here would replace it; expected another folder, or one without this file: move it."
        )


def recover(folder: Path) -> None:
    """Put back a model that a killed process had put aside to replace it, and remove what else such a process left."""
    earlier = places.earlier_place(folder)
    folder = places.without_dots(folder)
    with suppress(OSError):
        if _holds_model(earlier) and not folder.exists():
            earlier.replace(folder)
        if folder.exists():
            places.discard(earlier)
    places.sweep(earlier.parent)


def lock_file(folder: Path) -> Path:
    """Return the file that is locked while a run writes checkpoints into a folder."""
    whole = places.without_dots(folder.absolute())
    return whole.with_name(f".{whole.name}.lock")


def _is_description(path: Path) -> bool:
    """Return whether sparcell wrote a description, which may be cut off."""
    text = path.read_bytes()
    try:
        description = json.loads(text)
    except (ValueError, RecursionError):
        return text.startswith(FIRST_LINE) or FIRST_LINE.startswith(text)
    return isinstance(description, dict) and {"format", "sha256"} <= set(description)


def _card_was_edited(path: Path) -> bool:
    """Return whether a card is not one that was written with a model: its last line holds the checksum of the lines above."""
    content = path.read_bytes()
    text, _, seal = content.rpartition(SEAL)
    return seal.decode(errors="replace").strip() != f"{_sha256(text)} -->"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def save(folder: Path, description: dict[str, Any], tensors: dict[str, Tensor], card: str = "") -> None:
    """Write a model folder atomically, with a card unless that is empty. An existing model is replaced.

    Raises InputError if the folder holds anything else than a model, or a card that was edited.

    Raises OutputError if writing fails, for example because the disk is full; an earlier model then stays.
    """
    from safetensors.torch import save as to_bytes

    check_target(folder)
    recover(folder)
    content = to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    contents = {TENSORS: content}
    stored = {"format": FORMAT, "sha256": _sha256(content), **description}
    if card:
        text = card.encode() + b"\n"
        contents[CARD] = text + SEAL + f"{_sha256(text)} -->\n".encode()
    contents[DESCRIPTION] = (json.dumps(stored, indent=1) + "\n").encode()
    with files.atomic_folder(folder) as temporary:
        for name, written in contents.items():
            (temporary / name).write_bytes(written)


def _where(folder: Path) -> Path:
    """Return the folder, or the earlier model if a process was killed while it replaced that."""
    earlier = places.earlier_place(folder)
    return earlier if _holds_model(earlier) and not _holds_model(folder) else folder


def _holds_model(folder: Path) -> bool:
    return (folder / DESCRIPTION).is_file() and (folder / TENSORS).is_file()


def is_whole(folder: Path) -> bool:
    """Return whether a folder holds both files of a model."""
    return _holds_model(_where(folder))


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the description and the tensors of a model folder.

    Raises InputError if a file is missing or damaged, or if another version of sparcell wrote the folder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    text, content = _read(folder)
    try:
        description = json.loads(text.decode("utf-8"))
        format_number = description["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{folder / DESCRIPTION} is damaged ({error}); expected the JSON that Model.save wrote: train the model again."
        ) from error
    if format_number != FORMAT:
        raise InputError(_wrong_format(folder, description))
    if _sha256(content) != description.get("sha256"):
        raise InputError(
            f"{folder / TENSORS} is damaged: its checksum is not the one in {DESCRIPTION}; copy the folder or train the model again."
        )
    try:
        return description, from_bytes(content)
    except SafetensorError as error:
        raise InputError(
            f"{folder / TENSORS} is damaged ({error}); copy the folder or train the model again."
        ) from error


def _read(folder: Path) -> tuple[bytes, bytes]:
    """Return the content of both files."""
    try:
        where = _where(folder)
        if _holds_model(where):
            return (where / DESCRIPTION).read_bytes(), (where / TENSORS).read_bytes()
        fault = f"{DESCRIPTION} or {TENSORS} is missing" if folder.is_dir() else "no such folder"
    except OSError as error:
        fault = error.strerror or str(error)
    raise InputError(
        f"{folder} is not a sparcell model ({fault}); expected a folder that Model.save or --model-dir wrote."
    )


def _wrong_format(folder: Path, description: dict[str, Any]) -> str:
    """Return the message for a folder of another format. It names the version that wrote the folder, if that is known."""
    versions = description.get("versions")
    version = versions.get("sparcell") if isinstance(versions, dict) else None
    writer = "" if version is None else f" of sparcell {version}"
    return (
        f"{folder} was written by a different version of sparcell (format {description['format']}{writer}, this version "
        f"reads {FORMAT}). Train the model again with this version, or install the version that wrote it."
    )
