"""Progress of long work: a bar on a terminal, one changing line in a notebook, lines in a log, nothing if silent."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

log = logging.getLogger("sparcell")

N_LOG_LINES = 10
"""Lines that are printed for one piece of work where stderr is not a terminal."""

LINE_WIDTH = 110
"""Characters of the line in a notebook: a shorter line is filled up, so that nothing of the one before is left."""


@contextmanager
def bar(
    title: str, total: int, *, unit: str = "", silent: bool = False, done: int = 0
) -> Iterator[Callable[[str], None]]:
    """Show the progress of `total` steps on stderr, of which `done` are done; `unit` says what is counted: "epoch".

    Yields a function that the body calls once after each step, with a short text such as the current loss. Messages of the body are shown
    too: see `messages`.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if silent:
        yield lambda text: None
    elif console.is_terminal:
        with _columns(console) as progress, messages():
            task = progress.add_task(
                f"{title}: {unit}" if unit else title, total=total, completed=done, text=""
            )
            yield lambda text: progress.update(task, advance=1, text=text)
    else:
        heading = f"{title}: {unit}" if unit else f"{title}:"
        write = _rewrite if console.is_jupyter else _write_to(console)
        every = 1 if console.is_jupyter else max(1, total // N_LOG_LINES)
        if console.is_jupyter:
            write(f"{heading} {done}/{total}")
        with messages():
            yield _lines(heading, total, done, every, write)
        if console.is_jupyter:
            sys.stderr.write("\n")


@contextmanager
def messages(*, silent: bool = False) -> Iterator[None]:
    """Show messages of sparcell below the level of a warning on stderr, where logging would hide them, as in a notebook or a script.

    Whoever configures logging decides alone: nothing changes if the logger "sparcell" has a level, or shows such messages already.
    With `silent` they stay hidden, also in blocks inside that would show them.
    """
    if log.level != logging.NOTSET or log.isEnabledFor(logging.INFO):
        yield
        return
    if silent:
        log.setLevel(logging.WARNING)
        try:
            yield
        finally:
            log.setLevel(logging.NOTSET)
        return
    from rich.console import Console

    write = _rewrite_and_end if Console(stderr=True).is_jupyter else _write_line

    def show(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            return True  # to the handlers
        write(record.getMessage())
        return False

    log.addFilter(show)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(logging.NOTSET)
        log.removeFilter(show)


def _write_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _rewrite_and_end(line: str) -> None:
    """Write a line over the one before, and begin a new one."""
    _rewrite(line)
    sys.stderr.write("\n")


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


def _write_to(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(line, soft_wrap=True, highlight=False, markup=False)


def _rewrite(line: str) -> None:
    """Write a line over the one before. In a notebook rich would leave a table of HTML for each line."""
    sys.stderr.write(f"\r{line:<{LINE_WIDTH}}")
    sys.stderr.flush()


def _lines(
    title: str, total: int, n_before: int, every: int, write: Callable[[str], None]
) -> Callable[[str], None]:
    """Return a function that counts steps, and writes a line after each `every` steps and at the end."""
    start, done = time.monotonic(), n_before

    def advance(text: str) -> None:
        nonlocal done
        done += 1
        if done % every == 0 or done == total:
            elapsed = time.monotonic() - start
            remaining = elapsed / (done - n_before) * (total - done)
            line = f"{title} {done}/{total}, {elapsed:.0f} s elapsed, {remaining:.0f} s left"
            write(f"{line}{', ' if text else ''}{text}")

    return advance


def resources_text(n_cells: int, seconds: float, *, read_before: float | None = None) -> str:
    """Return cells per second, gigabytes read from files since `read_before`, and the memory of this process, as far as they are known.

    `read_before` is what `gigabytes_read` returned; None for data in memory.
    """
    parts = [f"{n_cells / seconds:,.0f} cells/s"] if seconds > 0 else []
    read, memory = gigabytes_read(), gigabytes_in_memory()
    if read_before is not None and read is not None:
        parts.append(f"{read - read_before:.1f} GB read")
    if memory is not None:
        parts.append(f"{memory:.1f} GB memory")
    return ", ".join(parts)


def gigabytes_read() -> float | None:
    """Return what this process has read from files, in GB; None where the system does not tell."""
    return _field("/proc/self/io", "rchar:", 1e9)


def gigabytes_in_memory() -> float | None:
    """Return the memory of this process in GB; None where the system does not tell."""
    return _field("/proc/self/status", "VmRSS:", 1e6)


def _field(path: str, name: str, unit: float) -> float | None:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((float(line.split()[1]) / unit for line in lines if line.startswith(name)), None)
