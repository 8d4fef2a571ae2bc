"""Measure `map_query` and `predict_labels` beside scArches, scANVI and nearest neighbors on principal components.

    python benchmarks/mapping.py DATA.h5ad:BATCH_KEY:REFERENCE_BATCH[,…] … --folder results [--peers] [--left-out 2] [--seeds 3]

The reference is the named batches; the query is all others. Genes are the 2,000 most variable ones of the reference. Each result is stored
in the folder and read from there the next time. obs["cell_type"] holds the types. Suffixes: n cells, k latents, t types.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import anndata as ad
import mapping_peers as peers
import numpy as np
import pandas as pd
from mapping_peers import Mapped
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import f1_score, roc_auc_score

import sparcell as sp
from sparcell.data.normalize import log_normalized

LABELS, N_GENES, MIN_LEFT_OUT = "cell_type", 2000, 30
"""Column of the types; number of genes; cells that a type needs in reference and query to be left out."""
N_BINS = 15
"""Bins of the expected calibration error (Guo et al. 2017)."""


@dataclass(frozen=True)
class Task:
    """A data set, its reference and its query."""

    path: Path
    batch_key: str
    reference_batches: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Task:
        """Return the task of DATA.h5ad:BATCH_KEY:REFERENCE_BATCH[,…]."""
        path, key, batches = text.split(":")
        return cls(Path(path), key, tuple(batches.split(",")))

    @property
    def name(self) -> str:
        """Name of the task: of its files and in the table."""
        return f"{self.path.stem}-{'-'.join(self.reference_batches)}"

    @cached_property
    def cells(self) -> tuple[ad.AnnData, ad.AnnData]:
        """Reference and query, with the genes of the reference."""
        adata = sp.io.read(self.path)
        for key in (self.batch_key, LABELS):
            adata.obs[key] = adata.obs[key].astype(str)
        in_reference_n = adata.obs[self.batch_key].isin(self.reference_batches).to_numpy()
        reference = adata[in_reference_n].copy()
        several = len(self.reference_batches) > 1
        sp.pp.variable_genes(reference, n_top_genes=N_GENES, batch_key=self.batch_key if several else None)
        genes = reference.var_names[reference.var["highly_variable"]]
        return adata[in_reference_n, genes].copy(), adata[~in_reference_n, genes].copy()

    @cached_property
    def principal_nd(self) -> NDArray[np.floating]:
        """Principal components of reference and query, to which scIB compares a representation."""
        cells = ad.concat(self.cells)
        method = PCA(50, svd_solver="arpack", random_state=0)
        return np.asarray(method.fit_transform(log_normalized(cells.X).toarray()))


@dataclass(frozen=True)
class Variant:
    """How sparcell is trained on the reference."""

    name: str
    labels: bool = False
    """Whether training reads the labels (`labels_key`)."""
    n_latent: int = 10
    n_layers: int = 1
    """Hidden layers of the encoder."""
    seed: int = 0

    @property
    def folder_name(self) -> str:
        """Name of its model in the folder; models of earlier runs keep theirs."""
        parts = ["labels"] if self.labels else []
        parts += [f"k{self.n_latent}"] if self.n_latent != 10 else []
        parts += [f"layers{self.n_layers}"] if self.n_layers != 1 else []
        parts += [f"seed{self.seed}"] if self.seed else []
        return "".join(f"-{part}" for part in parts)


def variants(n_seeds: int) -> list[Variant]:
    """Return the ways to train, each with seeds 0 … n_seeds - 1."""
    ways = [
        Variant("sparcell"),
        Variant("sparcell with labels", labels=True),
        Variant("sparcell with labels, 20 latents", labels=True, n_latent=20),
        Variant("sparcell with labels, 20 latents, two layers", labels=True, n_latent=20, n_layers=2),
    ]
    return [replace(way, seed=seed) for way in ways for seed in range(n_seeds)]


def model_of(task: Task, folder: Path, which: str, cells: ad.AnnData, variant: Variant) -> tuple[Any, float]:
    """Return a trained β-VSC and its processor seconds; the folder keeps it."""
    place = folder / f"{task.name}-{which}{variant.folder_name}"
    if not place.exists():
        started = time.process_time()
        labels_key = LABELS if variant.labels else None
        widths = (128,) * variant.n_layers
        settings = sp.BetaVSC(n_latent=variant.n_latent, encoder_widths=widths, seed=variant.seed)
        model = settings.fit(cells, batch_key=task.batch_key, labels_key=labels_key, silent=True)
        seconds = time.process_time() - started
        model.save(place)
        place.with_name(f"{place.name}.seconds").write_text(str(seconds))
    return sp.load(place), float(place.with_name(f"{place.name}.seconds").read_text())


def sparcell_results(task: Task, folder: Path, n_seeds: int) -> dict[str, Callable[[], Mapped]]:
    """Return sparcell's methods: trained on all cells, and mapped with and without training of the new batches."""
    reference, query = task.cells

    def joint() -> Mapped:
        cells = ad.concat([reference, query])
        model, seconds = model_of(task, folder, "joint", cells, Variant("sparcell"))
        return Mapped(model.transform(cells), None, seconds, 0.0)

    def mapped(unseen: str, variant: Variant) -> Mapped:
        model, reference_seconds = model_of(task, folder, "reference", reference, variant)
        started = time.process_time()
        on_query = model.map_query(query, unseen=unseen, silent=True)
        query_nk = on_query.transform(query)
        seconds = time.process_time() - started
        reference_nk = on_query.transform(reference)
        assert np.array_equal(reference_nk, model.transform(reference))
        cells = query.copy()
        if not variant.labels:
            on_query.fit_labels(reference, LABELS)
        on_query.predict_labels(cells)
        probability_nt = cells.obsm[f"{LABELS}_probabilities"].to_numpy()
        return Mapped(np.vstack([reference_nk, query_nk]), probability_nt, seconds, reference_seconds)

    methods: dict[str, Callable[[], Mapped]] = {"sparcell, joint training": joint}
    for variant in variants(n_seeds):
        seed = f", seed {variant.seed}" if variant.seed else ""
        for unseen, name in (("average", "unseen=average"), ("train", "map_query")):
            methods[f"{variant.name}, {name}{seed}"] = partial(mapped, unseen, variant)
    return methods


def peer_results(task: Task, n_seeds: int) -> dict[str, Callable[[], Mapped]]:
    """Return the other methods; scvi-tools' with seeds 0 … n_seeds - 1, which may be none."""
    reference, query = task.cells

    @cache
    def of_scvi_tools(seed: int) -> dict[str, Mapped]:
        return peers.scvi_tools(reference, query, task.batch_key, LABELS, seed)

    methods = {"PCA, nearest neighbors": lambda: peers.pca_neighbors(reference, query, LABELS, 0)}
    for seed in range(n_seeds):
        for name in ("scArches", "scANVI"):
            key = f"{name}, seed {seed}" if seed else name
            methods[key] = partial(lambda name, seed: of_scvi_tools(seed)[name], name, seed)
    return methods


def stored_result(folder: Path, task: Task, name: str, compute: Callable[[], Mapped]) -> Mapped:
    """Return a result from the folder; compute and store it if it is not there."""
    path = folder / f"{task.name}-{name}.npz"
    if not path.exists():
        result = compute()
        empty = np.zeros(0)
        arrays = {"latent_nk": result.latent_nk, "probability_nt": result.probability_nt}
        kept = {key: empty if value is None else value for key, value in arrays.items()}
        np.savez(path, **kept, seconds=[result.seconds, result.reference_seconds])  # type: ignore[arg-type]
    found = np.load(path)
    latent_nk, probability_nt = (
        found[key] if found[key].size else None for key in ("latent_nk", "probability_nt")
    )
    return Mapped(latent_nk, probability_nt, *map(float, found["seconds"]))


def expected_calibration_error(probability_nt: NDArray[np.floating], label_n: NDArray[np.integer]) -> float:
    """Return the mean gap between confidence and accuracy over N_BINS bins of confidence (Guo et al. 2017, eq. 3)."""
    confidence_n, right_n = probability_nt.max(axis=1), probability_nt.argmax(axis=1) == label_n
    bin_n = np.minimum((confidence_n * N_BINS).astype(int), N_BINS - 1)
    gaps = [
        (bin_n == number).mean() * abs(right_n[bin_n == number].mean() - confidence_n[bin_n == number].mean())
        for number in np.unique(bin_n)
    ]
    return float(sum(gaps))


def scores(task: Task, result: Mapped) -> dict[str, str]:
    """Return the columns of the table."""
    reference, query = task.cells
    row = {"s to map": f"{result.seconds:.1f}", "s to train": f"{result.reference_seconds:.0f}"}
    if result.latent_nk is not None:
        cells = ad.concat([reference, query])
        labels_n, batches_n = (cells.obs[key].to_numpy(str) for key in (LABELS, task.batch_key))
        found = sp.metrics.scib_scores(result.latent_nk, labels_n, batches_n, task.principal_nd)
        row |= {name: f"{found[name]:.3f}" for name in ("Total", "Bio conservation", "Batch correction")}
    if result.probability_nt is not None:
        types = np.unique(reference.obs[LABELS].to_numpy(str))
        labels_n = query.obs[LABELS].to_numpy(str)
        known_n = np.isin(labels_n, types)
        label_n, probability_nt = np.searchsorted(types, labels_n[known_n]), result.probability_nt[known_n]
        predicted_n = probability_nt.argmax(axis=1)
        row["macro-F1"] = f"{f1_score(label_n, predicted_n, average='macro', labels=np.unique(label_n)):.3f}"
        row["ECE"] = f"{expected_calibration_error(probability_nt, label_n):.3f}"
    return row


def left_out_rows(task: Task, folder: Path, n_types: int, variant: Variant) -> list[dict[str, str]]:
    """Return how well "unknown" finds each of the largest types, with a model and labels that never saw the type."""
    reference, query = task.cells
    sizes = pd.DataFrame(
        {"reference": reference.obs[LABELS].value_counts(), "query": query.obs[LABELS].value_counts()}
    )
    usable = sizes[(sizes >= MIN_LEFT_OUT).all(axis=1)].sum(axis=1).sort_values(ascending=False)
    rows = []
    for label in usable.index[:n_types]:
        without = reference[reference.obs[LABELS] != label].copy()
        model, _ = model_of(task, folder, f"without-{label}".replace(" ", "_"), without, variant)
        cells, is_left_out_n = query.copy(), (query.obs[LABELS] == label).to_numpy()
        if not variant.labels:
            model.fit_labels(without, LABELS)
        model.predict_labels(cells, unseen="average")
        unknown_n = (cells.obs[f"{LABELS}_predicted"] == "unknown").to_numpy()
        by_distance = roc_auc_score(is_left_out_n, cells.obs[f"{LABELS}_distance"])
        by_probability = roc_auc_score(is_left_out_n, -cells.obs[f"{LABELS}_probability"])
        rows.append(
            {
                "data": task.name,
                "method": variant.name,
                "type left out": str(label),
                "AUROC, distance": f"{by_distance:.3f}",
                "AUROC, 1 - probability": f"{by_probability:.3f}",
                "called unknown": f"{unknown_n[is_left_out_n].mean():.0%}",
                "other cells called unknown": f"{unknown_n[~is_left_out_n].mean():.1%}",
            }
        )
    return rows


def table(rows: list[dict[str, str]]) -> str:
    """Return rows as a Markdown table; a missing value is empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns), *([row.get(name, "") for name in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("tasks", nargs="+", type=Task.parse)
    parser.add_argument("--folder", type=Path, required=True, help="keeps models and results")
    parser.add_argument("--peers", action="store_true", help="also scArches and scANVI (scvi-tools)")
    parser.add_argument(
        "--left-out", type=int, default=0, help="number of types to leave out of the reference"
    )
    parser.add_argument("--seeds", type=int, default=1, help="seeds of each training")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print(f"{os.cpu_count()} cores; {time.strftime('%Y-%m-%d')}")
    rows, left_out = [], []
    for task in options.tasks:
        methods = sparcell_results(task, options.folder, options.seeds) | peer_results(
            task, options.seeds if options.peers else 0
        )
        for name, compute in methods.items():
            result = stored_result(options.folder, task, name, compute)
            rows.append({"data": task.name, "method": name, **scores(task, result)})
            print(rows[-1], flush=True)
        for variant in variants(1):
            left_out += left_out_rows(task, options.folder, options.left_out, variant)
    print(table(rows))
    if left_out:
        print(f"\n{table(left_out)}")


if __name__ == "__main__":
    main()
