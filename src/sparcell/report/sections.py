"""Tables that several pages share: labels, settings, composition, heat maps and markers as values for the templates.

Suffixes: l labels, b batches, c clusters, g genes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparcell.pl.charts import QC_TITLES
from sparcell.pl.conditions import MAX_FDR, effect_tables, shortened
from sparcell.pl.tables import cluster_order, contingency, match_clusters
from sparcell.report.maps import label_groups
from sparcell.report.text import format_value

if TYPE_CHECKING:
    from sparcell.results.expression import GeneExpression
    from sparcell.results.study import Floats, MethodResult

NO_SETTING = "–"
"""Stands for a setting that a method does not have."""
MAX_DOT = 20.0
"""Diameter of a dot of the marker plot at 100 % of cells, in pixels."""
N_PROGRAM_LINES = 15
"""Comparisons of programs that the page lists, those with the smallest p; program_changes.csv has all."""
MAX_COMPOSITION = 60
"""Most batches of which a page shows the composition."""


def legend(labels: pd.Categorical) -> list[dict[str, str]]:
    """Return name, color and number of cells of each label."""
    codes = np.asarray(labels.codes)
    return [
        {"name": name, "color": color, "count": f"{int((codes == code).sum()):,}"}
        for code, name, color in label_groups(labels)
    ]


def settings_table(results: Sequence[MethodResult]) -> dict[str, Any]:
    """Return the table of settings: one column for each row with settings; first the settings that differ, then the equal ones."""
    rows = [row for row in results if row.settings]
    keys = list(dict.fromkeys(key for row in rows for key in row.settings))
    differing: list[dict[str, Any]] = []
    equal: list[tuple[str, str]] = []
    for key in keys:
        values = [_setting(row.settings, key) for row in rows]
        different = set(values) - {NO_SETTING}
        if len(different) > 1:
            differing.append({"key": key.replace("_", " "), "values_": values})
        else:
            equal.append((key.replace("_", " "), different.pop()))
    return {
        "titles": [row.title for row in rows],
        "differing": differing,
        "equal": equal,
    }


def _setting(settings: Mapping[str, object], key: str) -> str:
    """Return a setting as text; a maximum number of steps is not used if the number of epochs is given."""
    if key == "max_steps" and isinstance(settings.get("epochs"), int):
        return "not used"
    return format_value(settings[key], key) if key in settings else NO_SETTING


def composition(labels: pd.Categorical, batches: pd.Categorical | None) -> dict[str, Any] | None:
    """Return the percentage of each batch's labeled cells that has each label; None without batches, or with too many."""
    if batches is None or not 1 < len(batches.categories) <= MAX_COMPOSITION:
        return None
    table_lb = pd.crosstab(np.asarray(labels.astype(str)), np.asarray(batches.astype(str)))
    missing = np.asarray(labels.codes) < 0
    names = [
        str(name)
        for name in labels.categories
        if (np.asarray(labels.astype(str))[~missing] == str(name)).any()
    ]
    columns = [str(name) for name in batches.categories if str(name) in table_lb]
    count_lb = table_lb.loc[names, columns].to_numpy()
    fraction_lb = count_lb / np.maximum(count_lb.sum(axis=0), 1)
    return heat_table(fraction_lb, names, columns, corner="% of cells") | {
        "totals": [f"{total:,}" for total in count_lb.sum(axis=0)]
    }


def confusion(row: MethodResult, labels: pd.Categorical) -> dict[str, Any]:
    """Return the percentage of each label's cells in each cluster, with clusters sorted by their matched labels."""
    table_lc = contingency(labels, row.kmeans_n)
    order = cluster_order(match_clusters(table_lc))
    fraction_lc = table_lc[:, order] / np.maximum(table_lc.sum(axis=1), 1)[:, None]
    names = [str(name) for name in labels.categories]
    return heat_table(fraction_lc, names, [str(cluster) for cluster in order], corner="% of cells in cluster")


def heat_table(
    fraction: Floats, names: Sequence[str], columns: Sequence[str], *, corner: str
) -> dict[str, Any]:
    """Return a table of fractions, shown in percent on a shade of the fraction; a fraction of 0 has no number."""
    return {
        "corner": corner,
        "columns": list(columns),
        "lines": [
            {
                "name": name,
                "cells": [
                    {
                        "shade": f"{min(max(value, 0.0), 1.0):.3f}",
                        "text": f"{100 * value:.0f}" if value >= 0.005 else "<1" if value > 0 else "",
                        "value": f"{value:.4f}",
                    }
                    for value in np.nan_to_num(line)
                ],
            }
            for name, line in zip(names, np.asarray(fraction, dtype=float), strict=True)
        ],
    }


def program_changes(table: pd.DataFrame | None) -> dict[str, Any] | None:
    """Return effects of programs between conditions, cell types × programs, and the lines of all that were called; None without a table."""
    if table is None:
        return None
    effects, p_values, largest = effect_tables(table)
    titles = dict(zip(table["program"], table["name"], strict=True))
    lines = [
        {
            "name": str(kind),
            "cells": [_signed_cell(*pair, largest) for pair in zip(effect_p, p_p, strict=True)],
        }
        for kind, effect_p, p_p in zip(effects.index, effects.to_numpy(), p_values.to_numpy(), strict=True)
    ]
    called = [
        {
            "cell_type": row["cell_type"],
            "program": row["name"],
            "means": [f"{row['mean_reference']:.3g}", f"{row['mean_group']:.3g}"],
            "effect": f"{row['effect']:+.2f}",
            "samples": f"{row['n_reference']}, {row['n_group']}",
            "p": f"{row['p']:.2g}",
            "p_adjusted": f"{row['p_adjusted']:.2g}",
        }
        for _, row in table.head(N_PROGRAM_LINES).iterrows()
    ]
    return {
        "columns": [shortened(str(titles[key])) for key in effects],
        "lines": lines,
        "called": called,
        "n_tests": f"{len(table):,}",
        "test": table.attrs["test"],
        "conditions": [table["reference"].iloc[0], table["group"].iloc[0]],
    }


def _signed_cell(effect: float, p_adjusted: float, largest: float) -> dict[str, str]:
    """Return a cell of the heat map: its shade and side, its text, and its title."""
    if not np.isfinite(effect):
        return {"shade": "0", "side": "", "text": "", "value": "", "title": "not compared"}
    return {
        "shade": f"{min(abs(effect) / largest, 1.0):.3f}",
        "side": "up" if effect > 0 else "down",
        "text": f"{effect:+.1f}" + ("*" if p_adjusted < MAX_FDR else ""),
        "value": f"{effect:.4f}",
        "title": f"effect {effect:+.2f}, adjusted p {p_adjusted:.2g}",
    }


def gene_groups(expression: GeneExpression | None) -> list[tuple[str, list[str]]]:
    """Return the genes that the maps can show, grouped by the label whose markers they are; one group without a name if there are none."""
    if expression is None:
        return []
    groups: dict[str, list[str]] = {}
    for label, gene in expression.markers:
        groups.setdefault(label, []).append(gene)
    rest = [gene for gene in expression.genes if gene not in {gene for _, gene in expression.markers}]
    return [*groups.items(), *([("", sorted(rest, key=str.lower))] if rest else [])]


def marker_plot(expression: GeneExpression | None, labels: pd.Categorical) -> dict[str, Any] | None:
    """Return the dot plot of the markers: size is the fraction of cells with the gene, shade the mean expression within the gene.

    None if the results hold no markers.
    """
    if expression is None or not expression.markers:
        return None
    place = {gene: g for g, gene in enumerate(expression.genes)}
    codes_n = np.asarray(labels.codes)
    kinds = [code for code in range(len(labels.categories)) if (codes_n == code).any()]
    own: Mapping[str, str] = {gene: label for label, gene in expression.markers}
    columns = [place[gene] for gene in own]
    mean_lg = np.array([expression.values_ng[codes_n == code][:, columns].mean(axis=0) for code in kinds])
    on_lg = np.array([(expression.values_ng[codes_n == code][:, columns] > 0).mean(axis=0) for code in kinds])
    shade_lg = mean_lg / np.maximum(mean_lg.max(axis=0, initial=0.0), 1e-9)
    lines = []
    for line, code in enumerate(kinds):
        name = str(labels.categories[code])
        cells = [
            {
                "size": f"{MAX_DOT * np.sqrt(on_lg[line, g]):.1f}",
                "shade": f"{shade_lg[line, g]:.2f}",
                "own": label == name,
                "title": f"{gene} in {name}: {on_lg[line, g]:.0%} of cells, mean {mean_lg[line, g]:.2f}",
                "value": f"{mean_lg[line, g]:.4f}",
            }
            for g, (gene, label) in enumerate(own.items())
        ]
        lines.append({"name": name, "cells": cells})
    return {"columns": list(own), "lines": lines, "unit": expression.unit}


def qc_columns(qc: pd.DataFrame) -> list[str]:
    """Return the columns of quality control to draw; mitochondrial counts only if there are any."""
    if qc.empty:
        return []
    return [name for name in QC_TITLES if name in qc.columns and (name != "pct_mito" or qc[name].any())]
