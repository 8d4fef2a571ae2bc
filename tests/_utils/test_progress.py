"""Progress of long work: lines in a log, one changing line in a notebook, nothing if silent."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import rich.console

import sparcell as sp
from sparcell._utils import progress
from sparcell.kernels.jit import CompileNotice

log = logging.getLogger("sparcell")


def work(total, **options):
    with progress.bar("training", total, unit="epoch", **options) as advance:
        for step in range(total):
            advance(f"loss {total - step}")


def test_a_log_gets_a_line_after_each_tenth_of_the_work(capsys):
    work(40)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert [line.split(",")[0] for line in lines] == [f"training: epoch {4 * n}/40" for n in range(1, 11)]
    assert lines[-1].endswith("0 s left, loss 1")


def test_a_notebook_gets_one_line_that_is_written_over(capsys, monkeypatch):
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    work(12)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    first, *lines = err.removesuffix("\n").split("\r")
    assert first == ""
    assert [line.split(",")[0].strip() for line in lines] == [f"training: epoch {n}/12" for n in range(13)]
    assert {len(line) for line in lines} == {progress.LINE_WIDTH}


@pytest.mark.parametrize("in_notebook", [False, True])
def test_silent_work_writes_nothing(in_notebook, capsys, monkeypatch):
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: in_notebook)
    work(5, silent=True)
    assert capsys.readouterr() == ("", "")


def compile_a_loop():
    """Tell the listener of compilations what numba tells it."""
    function = SimpleNamespace(__module__="sparcell.kernels.counts")
    CompileNotice().on_start(SimpleNamespace(data={"dispatcher": SimpleNamespace(py_func=function)}))


@pytest.mark.parametrize("in_notebook", [False, True])
def test_a_training_says_that_loops_are_compiled_where_logging_hides_messages(
    in_notebook, capsys, monkeypatch
):
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: in_notebook)
    with progress.bar("training", 1, unit="epoch") as advance:
        compile_a_loop()
        shown = capsys.readouterr().err
        advance("")
    assert shown.splitlines()[-1].strip().endswith("stored for later runs")
    assert shown.endswith("\n")
    with progress.bar("training", 1, silent=True):
        compile_a_loop()
    assert "compiling" not in capsys.readouterr().err


def test_messages_are_shown_once_and_warnings_reach_the_handlers(capsys, caplog):
    with progress.messages(), progress.messages():
        log.info("normalizing %d cells", 3)
        log.warning("few cells")
    assert capsys.readouterr().err == "normalizing 3 cells\n"
    assert caplog.messages == ["few cells"]
    log.info("later")
    assert capsys.readouterr().err == ""
    assert (log.level, log.filters) == (logging.NOTSET, [])


def test_an_error_in_the_block_ends_the_messages():
    with pytest.raises(ValueError, match="stop"), progress.messages():
        raise ValueError("stop")
    assert (log.level, log.filters) == (logging.NOTSET, [])


def test_who_configures_logging_decides_alone(capsys, caplog):
    with caplog.at_level("WARNING", logger="sparcell"), progress.messages():
        log.info("hidden")
    with caplog.at_level("INFO"), progress.messages():
        log.info("to the handlers")
    assert capsys.readouterr().err == ""
    assert caplog.messages == ["to the handlers"]


def test_silent_work_hides_the_messages_of_its_steps(capsys):
    with progress.messages(silent=True), progress.messages():
        log.info("a step")
    assert capsys.readouterr() == ("", "")
    assert log.level == logging.NOTSET


@pytest.mark.parametrize("silent", [False, True])
def test_fit_shows_its_messages_unless_it_is_silent(silent, capsys):
    adata = sp.datasets.simulate_programs(n_programs=3, n_cells=120, n_genes=50)
    adata.var["feature_types"] = ["Gene Expression"] * 49 + ["Antibody Capture"]
    sp.BetaVAE(epochs=1, batch_size=64).fit(adata, silent=silent)
    shown = capsys.readouterr().err
    assert ("Antibody Capture" in shown) != silent
    assert ("epoch 1/1" in shown) != silent
