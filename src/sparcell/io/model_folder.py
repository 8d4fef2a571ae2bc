"""Models on disk: tensors as safetensors, everything else as JSON; written aside and renamed. No pickle."""

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
TENSORS, DESCRIPTION = "model.safetensors", "model.json"


def check_target(folder: Path) -> None:
    """Refuse a place that holds anything else than a model: saving replaces the folder as a whole."""
    if not folder.exists():
        return
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else {"a file"}
    others = sorted(found - {DESCRIPTION, TENSORS, ".DS_Store"})
    if others or (found and DESCRIPTION not in found):
        what = ", ".join((others or sorted(found))[:3])
        raise InputError(
            f"{folder} exists and is not a sparcell model alone (it holds {what}); expected a new or empty folder to save to."
        )


def save(folder: Path, description: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a model folder, complete or not at all. An existing model there is replaced; anything else is not touched."""
    from safetensors.torch import save as to_bytes

    check_target(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    content = to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    described = {"format": FORMAT, "sha256": hashlib.sha256(content).hexdigest(), **description}
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    earlier = aside.with_name(f"{aside.name}-earlier")
    try:
        (aside / TENSORS).write_bytes(content)
        (aside / DESCRIPTION).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        aside.chmod(0o755)
        if folder.exists():
            folder.replace(earlier)
        aside.replace(folder)
    except BaseException:
        files.remove(aside)
        if earlier.exists() and not folder.exists():
            earlier.replace(folder)
        raise
    finally:
        if folder.exists():
            files.remove(earlier)


def is_whole(folder: Path) -> bool:
    """Tell whether a folder holds both files of a model."""
    return (folder / DESCRIPTION).is_file() and (folder / TENSORS).is_file()


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a model folder back: its description and its tensors. Raises InputError where it is not whole."""
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    if not is_whole(folder):
        found = "no such folder" if not folder.is_dir() else f"{DESCRIPTION} or {TENSORS} is missing in it"
        raise InputError(f"{folder} is not a sparcell model ({found}); expected a folder that `save` wrote.")
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        written = description["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / DESCRIPTION} is damaged ({error}); expected the JSON that `save` wrote."
        ) from error
    if written != FORMAT:
        raise InputError(
            f"{folder} has model format {written}; this version reads format {FORMAT}: install a matching sparcell."
        )
    content = (folder / TENSORS).read_bytes()
    if hashlib.sha256(content).hexdigest() != description.get("sha256"):
        raise InputError(
            f"{folder / TENSORS} is damaged: its checksum is not the one in {DESCRIPTION}; copy or train it again."
        )
    try:
        return description, from_bytes(content)
    except SafetensorError as error:
        raise InputError(f"{folder / TENSORS} is damaged ({error}); copy or train it again.") from error
