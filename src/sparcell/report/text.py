"""Words and numbers of the pages: lists, counts, differences between methods, values of settings. Pure functions, no HTML."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparcell.pl.tables import format_seconds, value_at

if TYPE_CHECKING:
    import pandas as pd

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Paragraph:
    """A heading and the sentences under it."""

    heading: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """Difference between the means of two methods, and its spread over seeds."""

    difference: float
    spread: float
    """Root of the summed variances over seeds; NaN where a method has a single seed."""

    @property
    def clear(self) -> bool:
        """Whether the difference exceeds the spread; never with one seed."""
        return self.difference > self.spread

    def clause(self, spread: str = "") -> str:
        """Return what the spread says about the difference, as the end of a sentence; "" with one seed, which a page says once.

        `spread` is the spread as text, default 3 decimals.
        """
        if math.isnan(self.spread):
            return ""
        text = spread or f"{self.spread:.3f}"
        if self.clear:
            return f"; this exceeds the spread over seeds ({text})"
        return f"; this is within the spread over seeds ({text}), so the order is open"


def difference_of(summary: pd.DataFrame, first: str, second: str, metric: str = "nmi") -> Difference:
    """Return how far the mean of one method lies above that of another; `summary` has columns `<metric>` and `<metric>_sd`."""
    difference = value_at(summary, first, metric) - value_at(summary, second, metric)
    sds = [value_at(summary, name, f"{metric}_sd") for name in (first, second)]
    return Difference(difference, math.sqrt(sds[0] ** 2 + sds[1] ** 2))


def pluralize(n: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun: "one latent", "no latents", "12 cells"."""
    word = noun if n == 1 else plural or f"{noun}s"
    return f"{_NUMBERS[n] if n < len(_NUMBERS) else format(n, ',')} {word}"


def join_words(words: Sequence[str], limit: int = 8) -> str:
    """Join words as in a sentence: "a", "a and b", "a, b and c", "a, b and 7 more"; by semicolons if a part has a comma."""
    shown = list(words[:limit])
    comma = "; " if any(", " in word for word in shown) else ", "
    if len(words) > limit:
        shown.append(f"{len(words) - limit} more")
    if len(shown) < 2:
        return "".join(shown)
    return f"{comma.join(shown[:-1])}{'; ' if comma == '; ' else ' '}and {shown[-1]}"


def capitalize(sentence: str) -> str:
    """Return a sentence with a capital first letter; a Greek first letter is kept."""
    return sentence[:1].upper() + sentence[1:] if sentence[:1].isascii() else sentence


def non_breaking(text: str) -> str:
    """Keep "0.7 ± 0.1", "β-VAE" and "3 min 05 s" each on one line."""
    text = re.sub(r" (?=±)|(?<=±) |(?<=\d) (?=(min|s|h)\b)|(?<=min) (?=\d)|(?<=\bh) (?=\d)", "\u00a0", text)
    return re.sub(r"(?<=β)-(?=\w)", "-\u2060", text)


MEANING_OF_NONE = {
    "genes_key": "all genes",
    "batch_key": "no batches",
    "layer": "X",
    "min_genes": "not set",
    "max_genes": "not set",
    "max_pct_mito": "not set",
}
"""Setting → what it means if the setting is None."""


def format_value(value: object, key: str = "") -> str:
    """Return a setting or an entry of the provenance as text; `key` is its name."""
    if value is None and key in MEANING_OF_NONE:
        return MEANING_OF_NONE[key]
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {format_value(part, str(name))}" for name, part in value.items())
    if isinstance(value, list | tuple | set):
        return ", ".join(format_value(part) for part in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if key == "seconds" and isinstance(value, int | float):
        return format_seconds(float(value))
    if isinstance(value, int):
        return f"{value:,}" if key.startswith("n_") else str(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def named_values(values: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the entries of a provenance as pairs of texts: the name in words, and the value."""
    return [(str(key).replace("_", " "), format_value(value, str(key))) for key, value in values.items()]


def sample_sentence(provenance: Mapping[str, object]) -> str:
    """Return which cells of the input a page is about, where they are not all of them."""
    return (
        f"This page is about {provenance['sampled']} from all over the input. Rare cell types may be missing."
    )
