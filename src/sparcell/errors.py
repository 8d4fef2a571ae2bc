"""Errors for the user: each message says what was found, what was expected, and what to type instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SparcellError(Exception):
    """Base of all errors of this package. The command line prints the message without a traceback.

    Examples
    --------
    ::

        try:
            model = sp.load("vsc")
        except sp.SparcellError as error:
            print(error)
    """


class InputError(SparcellError, ValueError):
    """Data or a setting does not fit. Raised before anything is changed.

    Examples
    --------
    ::

        try:
            model = sp.BetaVSC().fit(adata, batch_key="donor")
        except sp.InputError as error:
            print(error)  # what was found, what was expected, what to type
    """


class OutputError(SparcellError, OSError):
    """A file or folder could not be written, for example because the disk is full. Files under final names are whole.

    Examples
    --------
    ::

        try:
            model.save("vsc")
        except sp.OutputError as error:
            print(error)  # which place, and why
    """


class TrainingError(SparcellError, RuntimeError):
    """Training cannot continue because the loss is not finite.

    Examples
    --------
    ::

        try:
            model = sp.BetaVSC(learning_rate=0.5).fit(adata)
        except sp.TrainingError as error:
            print(error)  # names the genes and cells with the largest values
    """


class MissingLabelsWarning(UserWarning):
    """Some cells have no label."""


class NoProgramsWarning(UserWarning):
    """No latent is active and on, so there are no gene programs."""


def format_settings(**settings: object) -> str:
    """Return settings as they are typed in Python and in a shell: layer='counts' (in a shell: --layer counts)."""
    python = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    options = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}")
        for name, value in settings.items()
    ]
    return f"{python} (in a shell: {' '.join(options)})"


def did_you_mean(word: object, choices: Iterable[object], limit: int = 8) -> str:
    """Return the end of a message about an unknown name: the most similar choice, or the first `limit` choices.

    A name that is no text, such as a cluster typed as 0, is compared as text.
    """
    names = [str(choice) for choice in choices]
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    if not names:
        return "there are none."
    more = ", …" if len(names) > limit else ""
    return f"there are: {', '.join(names[:limit])}{more}."
