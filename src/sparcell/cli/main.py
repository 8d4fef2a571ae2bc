"""The command line. The commands import heavy libraries when they run, so that help is printed at once."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any

from cyclopts import App

from sparcell._utils import launched, signals
from sparcell._utils.version import VERSION
from sparcell.cli import analysis, commands, expression, groups, new_cells
from sparcell.errors import SparcellError

app = App(
    name="sparcell",
    help="Sparse latent representations of single cells: train models, compare them, read their latents as gene programs.",
    version=VERSION,
    suppress_keyboard_interrupt=False,
    group_arguments=groups.BASIC,
    group_parameters=groups.BASIC,
)
COMMANDS: dict[str, Callable[..., None]] = {
    "analyze": analysis.analyze,
    "study": commands.study,
    "benchmark": commands.benchmark,
    "fit": commands.fit,
    "embed": commands.embed,
    "map": new_cells.map_query,
    "predict": new_cells.predict,
    "programs": commands.programs,
    "differential-expression": expression.differential_expression,
    "denoise": expression.denoise,
    "criticize": expression.criticize,
}
TRAINING = ("analyze", "study", "benchmark", "fit")
"""Commands with the options of models and training."""
for name, command in COMMANDS.items():
    more = ", also those of models and training." if name in TRAINING else "."
    app.command(
        command, name=name, help_epilogue=f"sparcell {name} {groups.HELP_ALL} lists all options{more}"
    )
app.register_install_completion_command(help="Complete commands and options in this shell.")


def main() -> None:
    """Run the command line and exit: 0 success, 1 an error explained in one message, 2 wrong options, 130 Ctrl-C, 143 SIGTERM."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("sparcell").setLevel(logging.INFO)
    warnings.showwarning = _print_warning  # type: ignore[assignment]
    try:
        with signals.sigterm_interrupts():
            app(groups.words_for_help(sys.argv[1:]))
    except SparcellError as error:
        which = "" if launched.rank() == 0 else f" in rank {launched.rank()}"
        print(f"Error{which}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as stop:
        if launched.rank() == 0:
            print(f"\nStopped. {str(stop) or 'No file is left half written.'}", file=sys.stderr)
        sys.exit(143 if isinstance(stop, signals.Terminated) else 130)


def _print_warning(message: Warning | str, category: type[Warning], *location: Any) -> None:
    if issubclass(category, UserWarning):
        print(f"Warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
