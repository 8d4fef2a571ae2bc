"""The command line: its commands by name; each is imported when it is used, so that help comes at once."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any

from cyclopts import App

from sparcell import __version__
from sparcell.errors import SparcellError

app = App(
    name="sparcell",
    help="Short, readable latent representations of single cells.",
    version=__version__,
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
    """Run the command line: 0 done, 1 the user's error, told in one message, 2 wrong options, 130 stopped by Ctrl-C."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("sparcell").setLevel(logging.INFO)
    warnings.showwarning = _tell  # type: ignore[assignment]
    try:
        app(sys.argv[1:])
    except SparcellError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as stop:
        print(f"\nStopped. {str(stop) or 'No file is left half written.'}", file=sys.stderr)
        sys.exit(130)


def _tell(message: Warning | str, category: type[Warning], *place: Any) -> None:
    if issubclass(category, UserWarning):
        print(f"Warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
