"""Figure of posterior predictive checks: variance and zeros of the genes, observed and expected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sparcell.pl.colors import FAINT, KEPT, REMOVED
from sparcell.pl.style import new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sparcell.results.criticism import Criticism


@style()
def model_fit(criticism: Criticism) -> Figure:
    """Draw the variance of each gene over its mean, observed and expected, and observed over expected fractions of zeros.

    Genes with a finding (`Criticism.misfits`) are red on the right.

    Examples
    --------
    ::

        sp.pl.model_fit(model.criticize(adata)).savefig("fit.png")
    """
    genes = criticism.genes
    figure = new_figure(8.4, 3.6, layout="constrained")
    left, right = figure.subplots(1, 2)
    dots = {"s": 5, "linewidths": 0, "rasterized": True}
    for name, color in (("expected", FAINT), ("observed", KEPT)):
        mean_g, variance_g = genes[f"mean_{name}"], genes[f"variance_{name}"]
        shown_g = (mean_g > 0) & (variance_g > 0)
        left.scatter(mean_g[shown_g], variance_g[shown_g], color=color, alpha=0.6, label=name, **dots)
    left.set(xscale="log", yscale="log", xlabel="mean of a gene", ylabel="variance")
    left.legend(loc="upper left", markerscale=2)
    found_g = (genes["finding"] != "").to_numpy()
    for mask_g, color, label in ((~found_g, KEPT, "as expected"), (found_g, REMOVED, "with a finding")):
        part = genes[mask_g]
        named = f"{label} ({len(part):,})"
        right.scatter(part["zeros_expected"], part["zeros_observed"], color=color, label=named, **dots)
    right.axline((0, 0), slope=1, color=FAINT, lw=0.7, zorder=0)
    limits = (
        -0.02,
        float(np.clip(genes[["zeros_expected", "zeros_observed"]].to_numpy().max(), 0.1, 1)) + 0.02,
    )
    right.set(xlabel="expected fraction of zeros", ylabel="observed fraction", xlim=limits, ylim=limits)
    right.legend(loc="upper left", markerscale=2)
    return figure
