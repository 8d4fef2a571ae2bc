"""The command line: its commands by name. Each command is imported when it is used, so that help is printed at once."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any

from cyclopts import App

from sparcell._utils.version import VERSION
from sparcell.errors import SparcellError

app = App(
    name="sparcell",
    help="Sparse latent representations of single cells: train models, compare them, read their latents as gene programs.",
    version=VERSION,
    suppress_keyboard_interrupt=False,
)
app.command(
    "sparcell.cli.commands:study",
    name="study",
    help="Compare the models on raw counts: latent representations, maps, scores, figures and a report.",
)
app.command(
    "sparcell.cli.commands:benchmark",
    name="benchmark",
    help="Compare models, baselines and other packages on the same cells.",
)
app.command(
    "sparcell.cli.commands:fit",
    name="fit",
    help="Train one model; write its latent representation into a copy of the data, and save the model.",
)
app.command("sparcell.cli.commands:embed", name="embed", help="Encode cells with a saved model.")
app.command(
    "sparcell.cli.commands:programs",
    name="programs",
    help="Read the latents of a saved model as gene programs: named, compared over seeds, on one page.",
)


def main() -> None:
    """Run the command line and exit: 0 success, 1 an error explained in one message, 2 wrong options, 130 stopped by Ctrl-C."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("sparcell").setLevel(logging.INFO)
    warnings.showwarning = _print_warning  # type: ignore[assignment]
    try:
        app(sys.argv[1:])
    except SparcellError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as stop:
        print(f"\nStopped. {str(stop) or 'No file is left half written.'}", file=sys.stderr)
        sys.exit(130)


def _print_warning(message: Warning | str, category: type[Warning], *location: Any) -> None:
    if issubclass(category, UserWarning):
        print(f"Warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
