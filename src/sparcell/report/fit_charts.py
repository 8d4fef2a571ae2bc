"""Charts and table of posterior predictive checks for a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell.pl.colors import FAINT, KEPT, REMOVED
from sparcell.report.charts import AXIS, layout, plain

if TYPE_CHECKING:
    import pandas as pd

    from sparcell.report.charts import Chart
    from sparcell.results.criticism import Criticism

N_GENES = 10
"""Genes in the table of the page."""


def mean_variance(criticism: Criticism) -> Chart:
    """Return the variance of each gene over its mean, observed and expected."""
    data = []
    for name, color in (("expected", FAINT), ("observed", KEPT)):
        shown = criticism.genes[
            (criticism.genes[f"mean_{name}"] > 0) & (criticism.genes[f"variance_{name}"] > 0)
        ]
        data.append(_dots(shown, f"mean_{name}", f"variance_{name}", name, color))
    axis = AXIS | {"type": "log", "dtick": 1}
    return {"data": data, "layout": _layout(axis, ("mean of a gene", "variance"))}


def zeros(criticism: Criticism) -> Chart:
    """Return the observed over the expected fraction of zeros of each gene; genes with a finding are red."""
    genes = criticism.genes
    found_g = genes["finding"] != ""
    data = [
        _dots(part, "zeros_expected", "zeros_observed", name, color)
        for part, name, color in (
            (genes[~found_g], "as expected", KEPT),
            (genes[found_g], "with a finding", REMOVED),
        )
    ]
    line = {"type": "line", "x0": 0, "y0": 0, "x1": 1, "y1": 1, "line": {"color": FAINT, "width": 1}}
    titles = ("expected fraction of zeros", "observed fraction of zeros")
    return {"data": data, "layout": _layout(AXIS, titles) | {"shapes": [line]}}


def _dots(genes: pd.DataFrame, x: str, y: str, name: str, color: str) -> Chart:
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": _short(genes[x]), "y": _short(genes[y]),
        "text": [plain(gene) for gene in genes["gene"]], "marker": {"color": color, "size": 4, "opacity": 0.6},
        "hovertemplate": f"%{{text}}, {name}: %{{x}}, %{{y}}<extra></extra>",
    }  # fmt: skip


def _short(values: pd.Series) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def _layout(axis: Chart, titles: tuple[str, str]) -> Chart:
    x, y = (axis | {"title": {"text": title, "standoff": 4}} for title in titles)
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"size": 11}}
    return layout(height=320, showlegend=True, xaxis=x, yaxis=y, legend=legend)


def worst_genes(criticism: Criticism) -> list[dict[str, Any]]:
    """Return the genes that fit worst as lines of the page's table."""
    return [
        {
            "gene": row["gene"],
            "finding": row["finding"],
            **{key: _number(row[key]) for key in ("mean_observed", "mean_expected")},
            **{key: _number(row[key]) for key in ("variance_observed", "variance_expected")},
            **{key: f"{row[key]:.1%}" for key in ("zeros_observed", "zeros_expected", "coverage_90")},
        }
        for _, row in criticism.worst(N_GENES).iterrows()
    ]


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) and abs(value) < 1000 else f"{value:,.0f}"
