"""What the README tells a user to type is run here: Python to the letter, commands on fewer cells and shorter."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import small
from sparcell.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORTER = {
    "study": "--epochs 1 --n-top-genes 300 --models beta-vsc --presets hvg --perplexity 20 --batch-size 64",
    "fit": "--epochs 1 --batch-size 64",
    "embed": "",
    "programs": "",
    "benchmark": "--epochs 1 --batch-size 64 --seeds 1 --n-top-genes 300 --perplexity 20 --baselines pca --peers none",
}


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def lines(start):
    found = [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in found if line.startswith(start)]


def test_the_readme_opens_with_the_two_commands_of_the_makefile():
    assert lines("make") == ["make study", "make test"]
    for line in lines("make"):
        planned = subprocess.run(
            [*shlex.split(line), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert planned.returncode == 0, planned.stderr
        assert planned.stdout.strip()


def test_the_commands_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    adata = small.counts(200)
    adata.obs["cell_type"], adata.obs["donor"] = ["b", "t"] * 100, ["x"] * 90 + ["y"] * 110
    adata.write_h5ad(tmp_path / "counts.h5ad")
    commands = lines("sparcell")
    assert [shlex.split(line)[1] for line in commands] == ["study", "fit", "embed", "programs", "benchmark"]
    for line in commands:
        words = shlex.split(f"{line} {SHORTER[shlex.split(line)[1]]} --quiet")
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stop:
            main.main()
        assert not stop.value.code, line
    assert {"results", "coded.h5ad", "my-model", "embedded.h5ad", "programs", "benchmark"} <= {
        entry.name for entry in tmp_path.iterdir()
    }


def test_the_python_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["codes"].shape == (2638, 32)
    assert names["new"].shape == (100, 2000)
    assert "beta_vsc_gamma" in names["adata"].obsm


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
