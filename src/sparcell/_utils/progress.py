"""Progress of long work: a bar on a terminal, plain lines in a log, nothing when silent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

LOG_PARTS = 10
"""Lines a log gets for one piece of work."""


@contextmanager
def bar(title: str, total: int, *, silent: bool = False, done: int = 0) -> Iterator[Callable[[str], None]]:
    """Show the progress of `total` steps on stderr; the body calls what it is given once a step, with a short text (the current loss)."""
    from rich.console import Console

    console = Console(stderr=True)
    if silent:
        yield lambda text: None
    elif console.is_terminal:
        with _columns(console) as shown:
            task = shown.add_task(title, total=total, completed=done, text="")
            yield lambda text: shown.update(task, advance=1, text=text)
    else:
        yield _lines(title, total, console, done)


def _columns(console: Console) -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
        console=console,
    )


def _lines(title: str, total: int, console: Console, before: int) -> Callable[[str], None]:
    """Print every tenth of the work as a plain line."""
    started, done, every = time.monotonic(), before, max(1, total // LOG_PARTS)

    def advance(text: str) -> None:
        nonlocal done
        done += 1
        if done % every == 0 or done == total:
            spent = time.monotonic() - started
            left = spent / (done - before) * (total - done)
            line = (
                f"{title}: {done}/{total}, {spent:.0f} s spent, {left:.0f} s left{', ' if text else ''}{text}"
            )
            console.print(line, soft_wrap=True, highlight=False, markup=False)

    return advance
