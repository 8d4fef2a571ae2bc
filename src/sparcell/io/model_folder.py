"""Reading and writing model folders: tensors as safetensors, all else as JSON, replaced atomically. No pickle.

Raise FORMAT whenever names of settings or tensors change, or their meaning does.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparcell.errors import InputError
from sparcell.io import files

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 2
"""Version of the layout of a model folder. Folders of another format are refused."""
TENSORS, DESCRIPTION = "model.safetensors", "model.json"


def check_target(folder: Path) -> None:
    """Raise InputError if the folder holds anything but a model, because saving replaces the whole folder."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; expected a new or empty folder to save to.")
    names = {path.name for path in folder.iterdir()}
    others = sorted(names - {DESCRIPTION, TENSORS, ".DS_Store"})
    if others or (names and DESCRIPTION not in names):
        content = ", ".join((others or sorted(names))[:3])
        raise InputError(
            f"{folder} holds other files than those of a sparcell model ({content}); expected a new or empty folder to save to."
        )


def save(folder: Path, description: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a model folder atomically. An existing model is replaced; any other content raises InputError."""
    from safetensors.torch import save as to_bytes

    check_target(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    content = to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    stored = {"format": FORMAT, "sha256": hashlib.sha256(content).hexdigest(), **description}
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    earlier = temporary.with_name(f"{temporary.name}-earlier")
    try:
        (temporary / TENSORS).write_bytes(content)
        (temporary / DESCRIPTION).write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
        temporary.chmod(0o755)
        if folder.exists():
            folder.replace(earlier)
        temporary.replace(folder)
    except BaseException:
        files.remove(temporary)
        if earlier.exists() and not folder.exists():
            earlier.replace(folder)
        raise
    finally:
        if folder.exists():
            files.remove(earlier)


def is_whole(folder: Path) -> bool:
    """Return whether a folder holds both files of a model."""
    return (folder / DESCRIPTION).is_file() and (folder / TENSORS).is_file()


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the description and the tensors of a model folder.

    Raises InputError if a file is missing or damaged, or if another version of sparcell wrote the folder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    if not is_whole(folder):
        fault = f"{DESCRIPTION} or {TENSORS} is missing" if folder.is_dir() else "no such folder"
        raise InputError(
            f"{folder} is not a sparcell model ({fault}); expected a folder that Model.save or --model-dir wrote."
        )
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        format_number = description["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / DESCRIPTION} is damaged ({error}); expected the JSON that Model.save wrote: train the model again."
        ) from error
    if format_number != FORMAT:
        raise InputError(_wrong_format(folder, description))
    content = (folder / TENSORS).read_bytes()
    if hashlib.sha256(content).hexdigest() != description.get("sha256"):
        raise InputError(
            f"{folder / TENSORS} is damaged: its checksum is not the one in {DESCRIPTION}; copy the folder or train the model again."
        )
    try:
        return description, from_bytes(content)
    except SafetensorError as error:
        raise InputError(
            f"{folder / TENSORS} is damaged ({error}); copy the folder or train the model again."
        ) from error


def _wrong_format(folder: Path, description: dict[str, Any]) -> str:
    """Return the message for a folder of another format. It names the version that wrote the folder, if that is known."""
    versions = description.get("versions")
    version = versions.get("sparcell") if isinstance(versions, dict) else None
    writer = "" if version is None else f" of sparcell {version}"
    return (
        f"{folder} was written by a different version of sparcell (format {description['format']}{writer}, this version "
        f"reads {FORMAT}). Train the model again with this version, or install the version that wrote it."
    )
