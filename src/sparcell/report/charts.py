"""What all interactive charts share: plain plotly figures, dicts that become JSON, built without importing plotly."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell.pl.colors import INK

if TYPE_CHECKING:
    from sparcell.results.study import Floats

    Chart = dict[str, Any]

AXIS: Chart = {"automargin": True, "gridcolor": "#e8ecf0", "zeroline": False, "fixedrange": True}
"""A numeric axis without zoom."""
_FONT = {
    "family": "-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif",
    "size": 12,
    "color": INK,
}


def plain(text: object) -> str:
    """Return a name as plain text for plotly, which would render HTML and TeX between dollar signs."""
    return html.escape(str(text), quote=False).replace("$", "&#36;")


def layout(**more: object) -> Chart:
    """Return the layout that all charts share, updated with the entries of one chart."""
    base: Chart = {
        "font": _FONT,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "dragmode": False,
    }
    return base | more


def list_axis(
    places: Sequence[int] | None = None, names: Sequence[str] | None = None, **more: object
) -> Chart:
    """Return an axis of names, without lines and without zoom."""
    axis: Chart = {"fixedrange": True, "showgrid": False, "zeroline": False, "showline": False,
                   "ticks": "outside", "ticklen": 6, "tickcolor": "rgba(0,0,0,0)"}  # fmt: skip
    if places is not None:
        axis |= {"tickvals": list(places), "ticktext": list(names or [])}
    return axis | more


def rounded(values: Floats, decimals: int = 2) -> list[float | None]:
    """Return rounded numbers for JSON; None for NaN and infinity."""
    return [None if not np.isfinite(value) else round(float(value), decimals) for value in values]


def wrapped(title: str) -> str:
    """Return a title broken at its comma, which leaves room for the chart on a narrow screen."""
    return plain(title).replace(", ", ",<br>", 1)
