"""The card of a saved model says what the model is, and is never lost once it was edited."""

from __future__ import annotations

import pytest
import yaml

import sparcell as sp
from helpers.simulated import COUNTS, two_batches
from sparcell.errors import InputError


@pytest.fixture(scope="module")
def model():
    cells = two_batches()
    cells.obs["batch"] = cells.obs["batch"].astype(str).replace({cells.obs["batch"].iloc[0]: "a|b\nc"})
    cells.obs["kind"] = ["B", "T"] * (cells.n_obs // 2) + ["B"] * (cells.n_obs % 2)
    fitted = sp.BetaVSC(**{**COUNTS, "likelihood": "nb", "epochs": 2, "validation_fraction": 0.1})
    return fitted.fit(cells, batch_key="batch", silent=True).fit_labels(cells, "kind")


@pytest.fixture
def folder(model, tmp_path):
    model.save(tmp_path / "model")
    return tmp_path / "model"


def rows(text, section):
    """The table of a section: name → value."""
    body = text.split(f"## {section}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("| ")]
    return {line[0]: line[1] for line in lines if len(line) == 2}


def test_the_card_gives_data_training_settings_and_versions(model, folder):
    text = (folder / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["library_name"] == "sparcell"
    assert "beta-vsc" in front["tags"]
    data = rows(text, "Data")
    assert data["cells"] == f"{model.n_cells:,}"
    assert data["genes"].startswith(f"{len(model.schema.genes):,}: {model.schema.genes[0]}")
    assert data["the model explains"] == "raw counts"
    assert data["labels learned (kind)"] == "2: B, T"
    training = rows(text, "Training")
    assert training["epochs"] == str(len(model.history))
    assert (
        training["lowest validation loss"] == f"{model.history['validation_loss'].min():,.2f} nats per cell"
    )
    assert rows(text, "Settings that differ from the defaults")["epochs"] == "2"
    assert rows(text, "Versions")["sparcell"] == sp.__version__


def test_names_cannot_break_the_table(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "a\\|b c" in text


def test_the_model_is_read_without_its_card_and_replaced_with_one(model, folder):
    (folder / "README.md").unlink()
    sp.load(folder).save(folder)
    assert (folder / "README.md").is_file()


@pytest.mark.parametrize("note", ["\nmine\n", "", "no card at all", "\xe9"])
def test_an_edited_card_is_never_replaced(model, folder, note):
    card = folder / "README.md"
    edited = card.read_text(encoding="utf-8") + note if note.startswith("\n") else note
    card.write_text(edited, encoding="utf-8")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match=r"README\.md was edited, and saving here would replace it"):
        model.save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sp.load(folder).settings == model.settings
