"""The examples run with the real tools, where these are installed; packaging files agree with pyproject.toml."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import sparcell as sp

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "igraph": "python-igraph"}


def pins():
    """Package → version of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ;")[0].split("==") for line in lines if "==" in line)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("snakemake") is None, reason="snakemake is not installed")
def test_the_snakemake_workflow_runs_and_has_nothing_left_to_do(tmp_path):
    shutil.copytree(ROOT / "examples" / "snakemake", tmp_path, dirs_exist_ok=True)
    (tmp_path / "data").mkdir()
    for seed, name in enumerate(("first", "second")):
        sp.datasets.simulate_programs(n_cells=300, seed=seed).write_h5ad(tmp_path / "data" / f"{name}.h5ad")
    command = ["snakemake", "--cores", "2", "--configfile", "config.yaml", "--config", "epochs=3"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path}
    first = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert first.returncode == 0, first.stderr[-3000:]
    assert (tmp_path / "results" / "programs" / "programs.html").is_file()
    assert {path.name for path in (tmp_path / "results" / "embedded").iterdir()} == {
        "first.h5ad",
        "second.h5ad",
    }
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "Nothing to be done" in again.stderr + again.stdout


def test_the_conda_recipe_lists_the_dependencies_of_the_package():
    text = (ROOT / "packaging" / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    recipe = yaml.safe_load(text)
    assert recipe["context"]["version"] == PROJECT["version"]
    listed = {line.split()[0]: line.split()[1] for line in recipe["requirements"]["run"]}
    needed = dict(re.fullmatch(r"([\w-]+)(>=[\d.]+)", one).groups() for one in PROJECT["dependencies"])
    expected = {CONDA_NAMES.get(name, name): version for name, version in needed.items()}
    assert listed == {**expected, "python": PROJECT["requires-python"]}


def test_pre_commit_runs_the_pinned_ruff():
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert repo["rev"] == f"v{pins()['ruff']}"


def test_the_pinned_versions_are_allowed_and_those_of_the_container():
    from packaging.version import Version

    for one in PROJECT["dependencies"]:
        name, lowest = re.fullmatch(r"([\w-]+)>=([\d.]+)", one).groups()
        pinned = {key.lower(): version for key, version in pins().items()}[name.lower()]
        assert Version(pinned) >= Version(lowest), name
    assert "grep '^torch==' constraints.txt" in (ROOT / "packaging" / "Dockerfile").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_workflows_name_targets_of_the_makefile(path):
    content = path.read_text(encoding="utf-8")
    assert yaml.safe_load(content)
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"make ([\w-]+)", content)) <= targets
