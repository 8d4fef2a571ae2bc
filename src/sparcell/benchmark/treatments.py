"""Recognizes batches that are treatments or conditions by their names, so that the benchmark can warn before anyone trusts its total."""

from __future__ import annotations

import re
from collections.abc import Iterable

COLUMN_WORDS = {
    "condition", "conditions", "cytokine", "disease", "dose", "drug", "genotype", "infection",
    "perturbation", "phenotype", "status", "stim", "stimulation", "stimulus", "timepoint", "treated",
    "treatment",
}  # fmt: skip
"""Words in the name of a column of obs that describes what was done to the cells, or the state of their donors."""

VALUE_WORDS = {
    "case", "control", "ctl", "ctrl", "covid", "diseased", "dmso", "healthy", "ifn", "ifnb", "infected",
    "ko", "knockout", "lps", "mock", "mutant", "normal", "placebo", "post", "pre", "resting", "sham", "stim",
    "stimulated", "treated", "tumor", "tumour", "uninfected", "unstim", "unstimulated", "untreated",
    "vehicle", "wildtype", "wt",
}  # fmt: skip
"""Words in the values of such a column. They count only where they tell the values apart."""

MAX_NAMED = 4
"""Most values that the warning names."""


def treatment_warning(column: str, values: Iterable[str]) -> str:
    """Return a warning for batches that look like treatments or conditions; empty for others.

    Parameters
    ----------
    column
        Name of the column of obs.
    values
        The batches, each once.

    Examples
    --------
    >>> from sparcell.benchmark.treatments import treatment_warning
    >>> treatment_warning("donor", ["d1", "d2"])
    ''
    >>> treatment_warning("batch", ["CTRL", "STIM"]).partition(":")[0]
    "The batches in obs['batch'] look like treatments or conditions, not technical batches (CTRL, STIM)"
    """
    names = list(values)
    marks = {frozenset(_words(name) & VALUE_WORDS) for name in names}
    if not _words(column) & COLUMN_WORDS and len(marks) < 2:
        return ""
    shown = ", ".join(names[:MAX_NAMED]) + (", …" if len(names) > MAX_NAMED else "")
    return (
        f"The batches in obs[{column!r}] look like treatments or conditions, not technical batches ({shown}): a method that mixes them "
        "removes biology, and the total and batch correction reward it. Compare bio conservation instead, or name donors or runs as "
        "batch_key (--batch-key)."
    )


def _words(text: str) -> set[str]:
    """Return the lower-case words of a name such as "stimStatus" or "CTRL_rep1", without digits."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return {word.lower() for word in re.findall(r"[^\W\d_]+", apart)}
