"""Progress of long work: lines in a log, one changing line in a notebook, nothing if silent."""

from __future__ import annotations

import pytest
import rich.console

from sparcell._utils import progress


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
    assert [line.split(",")[0] for line in lines] == [f"training: epoch {n}/12" for n in range(1, 13)]
    assert {len(line) for line in lines} == {progress.LINE_WIDTH}


@pytest.mark.parametrize("in_notebook", [False, True])
def test_silent_work_writes_nothing(in_notebook, capsys, monkeypatch):
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: in_notebook)
    work(5, silent=True)
    assert capsys.readouterr() == ("", "")
