"""What README and docs tell a user to type is run here, in the order of each page.

Python of the README runs to the letter; that of docs with few epochs; commands on fewer cells and with few epochs. A block after the
line `<!-- not run: REASON -->` is not run: its names and options must exist all the same.
"""

from __future__ import annotations

import builtins
import dataclasses
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from helpers import small, snippets
from helpers.shell import sparcell
from sparcell.cli.main import app
from sparcell.models.estimator import Estimator

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = [
    page for part in (".", "start", "guide", "howto") for page in sorted((ROOT / "docs" / part).glob("*.md"))
]
PAGES = [README, ROOT / "CONTRIBUTING.md", *DOCS]
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>.+?) -->\n+)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL
)
PROGRAMS = {"sparcell", "make", "pip", "pytest", "torchrun", "git", "python3", "source"}
"""What a shell block may start a line with; lines of the first two are checked."""
SHORTER = {
    "analyze": "--epochs 1 --batch-size 64 --n-top-genes 300",
    "study": "--epochs 1 --n-top-genes 300 --models beta-vsc --presets hvg --perplexity 20 --batch-size 64",
    "fit": "--epochs 1 --batch-size 64",
    "embed": "",
    "programs": "",
    "differential-expression": "",
    "denoise": "",
    "criticize": "",
    "map": "",
    "predict": "",
    "benchmark": "--epochs 1 --batch-size 64 --seeds 1 --n-top-genes 300 --perplexity 20 --baselines pca --external-models none",
}
COMMANDS = tuple(SHORTER)
TORCHRUN = {"--standalone", "--nnodes", "--nproc-per-node", "--max-restarts"}
TORCHRUN |= {"--rdzv-backend", "--rdzv-endpoint", "--rdzv-id"}
SLURM = {"--job-name", "--nodes", "--ntasks-per-node", "--gpus-per-node", "--cpus-per-task", "--signal"}
FOREIGN_OPTIONS = {"--durations", "--peer"} | TORCHRUN | SLURM
"""Options of other programs that a page names."""


def shown(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, language, *, run=None):
    """Texts of the blocks of a language; `run` chooses those that are run, or are not."""
    text = page.read_text(encoding="utf-8")
    return [
        block["text"]
        for block in BLOCK.finditer(text)
        if block["language"] == language and run in (None, block["reason"] is None)
    ]


def lines(page, *, run=None):
    """Lines of the shell blocks, without their comments."""
    every = [
        line.split(" #")[0].strip() for block in blocks(page, "bash", run=run) for line in block.splitlines()
    ]
    return [line for line in every if line]


def commands(page, *, run=None):
    return [line for line in lines(page, run=run) if line.startswith("sparcell ")]


def with_blocks(language, *, run=None):
    """Pages that have such blocks, as parameters of a test."""
    pages = [
        page
        for page in PAGES
        if (commands(page, run=run) if language == "bash" else blocks(page, language, run=run))
    ]
    return pytest.mark.parametrize("page", pages, ids=shown)


each_page = pytest.mark.parametrize("page", PAGES, ids=shown)


@each_page
def test_every_line_for_a_shell_starts_with_a_program_that_is_known(page):
    for line in lines(page):
        assert shlex.split(line)[0] in PROGRAMS, line


def test_the_readme_opens_with_the_two_commands_of_the_makefile():
    assert [line for line in lines(README) if line.startswith("make")] == ["make study", "make test"]


@each_page
def test_what_make_is_told_to_do_has_a_rule(page):
    for line in lines(page):
        if line.startswith("make"):
            planned = subprocess.run(
                [*shlex.split(line), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert planned.returncode == 0, planned.stderr
            assert planned.stdout.strip()


@with_blocks("bash")
def test_every_command_of_a_page_has_options_that_exist(page):
    for line in commands(page):
        app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)


@each_page
def test_every_option_that_a_page_names_exists(page, monkeypatch, capsys):
    for command in COMMANDS:
        sparcell(command, "--help-all", monkeypatch=monkeypatch)
    known = (
        set(re.findall(r"--[a-z][a-z0-9-]*", capsys.readouterr().out))
        | FOREIGN_OPTIONS
        | {"--help", "--help-all", "--install-completion", "--version"}
    )
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", page.read_text(encoding="utf-8")))
    assert named - known == set()


@each_page
def test_every_public_name_that_a_page_gives_exists(page):
    assert snippets.unknown_names(page.read_text(encoding="utf-8")) == []


@with_blocks("python")
def test_every_argument_in_a_page_s_python_exists(page):
    assert [snippets.unknown_arguments(block) for block in blocks(page, "python")] == [[]] * len(
        blocks(page, "python")
    )


def test_the_calls_beside_those_of_scvi_tools_exist():
    text = (ROOT / "docs" / "howto" / "from_scvi_tools.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|[^|]+\|[^|]+\|([^|]+)\|$", text, re.MULTILINE)
    calls = [code for row in rows for code in re.findall(r"`([^`]*\(.*?\)|\w+\.\w+\[.*?\])`", row)]
    assert len(calls) >= 20
    assert [found for call in calls for found in snippets.unknown_arguments(call)] == []


@pytest.mark.slow
@with_blocks("bash", run=True)
def test_the_commands_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    adata = small.counts(200)
    adata.obs["cell_type"], adata.obs["donor"] = ["b", "t"] * 100, ["x"] * 90 + ["y"] * 110
    adata.write_h5ad(tmp_path / "counts.h5ad")
    for line in commands(page, run=True):
        words = shlex.split(f"{line} {SHORTER[shlex.split(line)[1]]} --quiet")
        assert sparcell(*words[1:], monkeypatch=monkeypatch) == 0, line
        for option in ("--out", "--model-dir"):
            if option in words:
                assert (tmp_path / words[words.index(option) + 1]).exists(), line


def test_the_readme_shows_every_command():
    shown = dict.fromkeys(shlex.split(line)[1] for line in commands(README, run=True))
    assert list(shown) == list(COMMANDS)


@pytest.mark.slow
def test_the_python_of_the_readme_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in blocks(README, "python", run=True):
        exec(compile(code, "README.md", "exec"), names)
    assert names["latents"].shape == (2638, 32)
    assert names["new_cells"].shape == (100, 2000)
    assert "beta_vsc_inclusion" in names["adata"].obsm


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:The set_bad function:PendingDeprecationWarning"
)  # scanpy calls matplotlib's set_bad
@pytest.mark.parametrize("page", DOCS, ids=shown)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    """The blocks of a page are one program, as a reader types them; each fit has three epochs."""
    fit = Estimator.fit
    monkeypatch.setattr(
        Estimator,
        "fit",
        lambda self, *data, **given: fit(dataclasses.replace(self, epochs=3), *data, **given),
    )
    monkeypatch.chdir(tmp_path)
    names = {"__builtins__": builtins}
    for block in blocks(page, "python", run=True):
        exec(compile(block, page.name, "exec"), names)
    assert "sp" in names or not blocks(page, "python", run=True)


@each_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target
