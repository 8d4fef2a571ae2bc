"""Figure of one model's training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparcell.pl.colors import FAINT
from sparcell.pl.style import new_figure, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LOSS, VALIDATION, KL = "#2a6f9b", "#d1752c", "#5a8a3c"


@style()
def history_curves(history: pd.DataFrame, title: str = "") -> Figure:
    """Draw the loss and the validation loss of each epoch, and the KL beside them.

    Parameters
    ----------
    history
        `Model.history`, one row per epoch.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    ::

        sp.pl.history_curves(model.history)
    """
    has_kl = bool(history["kl"].abs().max() > 0)
    figure = new_figure(7.6 if has_kl else 4.2, 3.1, layout="constrained")
    panels = figure.subplots(1, 1 + has_kl, squeeze=False)[0]
    panels[0].plot(history["epoch"], history["loss"], color=LOSS, lw=1.6, label="training")
    if history["validation_loss"].notna().any():
        panels[0].plot(
            history["epoch"], history["validation_loss"], color=VALIDATION, lw=1.6, label="validation cells"
        )
        panels[0].legend(loc="upper right")
    panels[0].set(xlabel="epoch", ylabel="loss, nats per cell")
    if has_kl:
        panels[1].plot(history["epoch"], history["kl"], color=KL, lw=1.6)
        panels[1].set(xlabel="epoch", ylabel="KL, nats per cell")
    for axes in panels:
        axes.xaxis.get_major_locator().set_params(integer=True)
    if title:
        figure.suptitle(title, fontsize=9, x=0.01, ha="left", color=FAINT)
    return figure
