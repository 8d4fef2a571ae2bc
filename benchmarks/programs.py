"""The names of gene programs on some data sets, and how often random programs get a name.

    python benchmarks/programs.py pbmc3k.h5ad:cell_type kang.h5ad:cell_type:condition … --out programs-table.md [--null 400]

Each data set is FILE:LABELS_KEY[:BATCH_KEY], with raw counts in X. A model with the preset `programs` is trained on 2,000 highly variable
genes. The table lists every program with its name with labels and without labels, its ten genes with the largest effects, and the labels
in which the program is on. A random program has genes drawn as the programs hold them, and the effects and cells of a real program.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

import sparcell as sp
from sparcell.tl.program_enrichment import specific_effects
from sparcell.tl.programs import CellSample, Programs

N_GENES, MAX_P = 2000, 0.01


@dataclass(frozen=True)
class DataSet:
    """A file with its columns of labels and batches."""

    path: Path
    labels_key: str
    batch_key: str | None

    @classmethod
    def parse(cls, text: str) -> DataSet:
        """Return the data set of FILE:LABELS_KEY[:BATCH_KEY]."""
        path, labels_key, *batch = text.split(":")
        return cls(Path(path), labels_key, batch[0] if batch else None)

    def programs(self, models: Path | None) -> Programs:
        """Return the programs of a model that is trained here, or read from `models`/<name of the file>."""
        adata = sp.io.read(self.path)
        adata.layers["counts"] = adata.X
        folder = None if models is None else models / self.path.stem
        if folder is not None and folder.exists():
            return sp.load(folder).programs(adata, labels_key=self.labels_key)
        sp.pp.variable_genes(adata, n_top_genes=N_GENES, batch_key=self.batch_key)
        model = sp.BetaVSC.for_programs().fit(
            adata, layer="counts", genes_key="highly_variable", batch_key=self.batch_key
        )
        if folder is not None:
            model.save(folder)
        return model.programs(adata, labels_key=self.labels_key)


def without_labels(programs: Programs) -> Programs:
    """Return the programs as they are without labels."""
    return replace(programs, label_fractions=None, label_shares=None)


def name_table(programs: Programs) -> str:
    """Return one Markdown row per program."""
    with_labels = sp.tl.name_programs(programs)["name"]
    names = sp.tl.name_programs(without_labels(programs))["name"]
    lines = [
        "| program | name with labels | name without labels | ten genes | on in (% of cells) | judgement |",
        "|---|---|---|---|---|---|",
    ]
    ranked, fractions_pl = programs.ranked_genes, programs.label_fractions
    assert fractions_pl is not None
    for row in programs.summary.itertuples():
        key = f"{row.program}{row.direction}"
        fractions = pd.Series(fractions_pl.loc[key]).nlargest(3)
        on = ", ".join(f"{label} {fraction:.0%}" for label, fraction in fractions.items() if fraction >= 0.05)
        genes = " ".join(ranked[key][:10])
        cells = f"{row.fraction_cells_on:.0%} of all: {on}"
        lines.append(f"| {row.latent} | {with_labels[key]} | {names[key]} | {genes} | {cells} | |")
    return "\n".join(lines)


def add_random_program(programs: Programs, weight_g: np.ndarray, rng: np.random.Generator) -> Programs:
    """Return the programs with one more: genes drawn by weight, effects and cells of a real program."""
    effect_gp = programs.effects.clip(lower=0).to_numpy()
    source = int(rng.integers(effect_gp.shape[1]))
    order = np.argsort(np.log(rng.exponential(size=len(weight_g))) - np.log(np.maximum(weight_g, 1e-300)))
    effect_g = np.zeros(len(weight_g))
    effect_g[order] = np.sort(effect_gp[:, source])[::-1]
    cells = programs.cells
    assert cells is not None
    return Programs(
        pd.concat([programs.summary, programs.summary.iloc[[source]]], ignore_index=True),
        programs.genes,
        programs.effects.assign(random=effect_g),
        None,
        None,
        CellSample(cells.expression_ng, np.column_stack([cells.on_np, cells.on_np[:, source]])),
    )


def null_row(programs: Programs, n_draws: int) -> dict[str, str]:
    """Return how many random programs a set passes the test for, and how many get a name, by the weights of the genes."""
    effect_gp = programs.effects.clip(lower=0)
    specific_gp = specific_effects(programs.effects)
    assert programs.cells is not None
    x_ng = programs.cells.expression_ng
    mean_g = np.asarray(x_ng.mean(axis=0)).ravel()
    weights = {
        "effects": effect_gp.sum(axis=1).to_numpy(),
        "specific effects": (specific_gp / specific_gp.sum()).sum(axis=1).to_numpy(),
        "variance": np.asarray(x_ng.multiply(x_ng).mean(axis=0)).ravel() - mean_g**2,
        "uniform": np.ones(len(effect_gp)),
    }
    sets, rng, row = sp.tl.builtin_gene_sets(), np.random.default_rng(0), {}
    for kind, weight_g in weights.items():
        n_sets = n_named = 0
        for _ in range(n_draws):
            extended = add_random_program(programs, weight_g, rng)
            tests = sp.tl.enrich_programs(extended, sets, keys=["random"])
            if (tests["p_adjusted"] <= MAX_P).any():
                n_sets += 1
                n_named += sp.tl.name_programs(extended, sets, tests=tests).loc["random", "source"] != ""
        row[kind] = f"{n_sets / n_draws:.1%}, {n_named / n_draws:.1%}"
    named = sp.tl.name_programs(without_labels(programs))["source"] != ""
    return row | {"real programs named": f"{named.sum()} of {len(named)}"}


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", type=DataSet.parse)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", type=Path, help="folder that keeps the trained models")
    parser.add_argument("--null", type=int, default=0, help="random programs per data set and weight")
    options = parser.parse_args()
    parts, rows = [], {}
    for data in options.data:
        programs = data.programs(options.models)
        parts.append(f"## {data.path.stem}\n\n{name_table(programs)}\n")
        if options.null:
            rows[data.path.stem] = null_row(programs, options.null)
        text = "\n".join(parts)
        if rows:
            header = ["data", *next(iter(rows.values()))]
            lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
            lines += ["| " + " | ".join([name, *row.values()]) + " |" for name, row in rows.items()]
            text += "\n## Random programs\n\n" + "\n".join(lines) + "\n"
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
