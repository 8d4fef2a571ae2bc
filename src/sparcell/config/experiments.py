"""Settings of the commands: what `sparcell fit`, `study`, `benchmark` and `programs` do around the models.

Written as the models' own settings are, in `config`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from sparcell.config.settings import require, require_choice, require_number, require_whole


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """What `sparcell fit` does around a model's own `fit`."""

    out: Annotated[Path | None, 'New .h5ad: the data with the codes in obsm["X_MODEL"].'] = None
    save: Annotated[Path | None, "Folder for the trained model, to encode other cells with later."] = None
    resume: Annotated[
        Path | None,
        "Folder to note the state of the training in; the same command goes on from there if it was stopped.",
    ] = None
    preset: Annotated[
        str | None,
        "Settings to begin from, which the options below change: counts (recommended for raw counts), programs (latents to be read one by "
        "one), hvg or seed (the study's).",
    ] = None
    n_top_genes: Annotated[
        int | None,
        "Train on so many variable genes, chosen from the raw counts (in each batch, with --batch-key); 2000 is usual. All genes, or those "
        "of --genes, when not given.",
    ] = None

    def __post_init__(self) -> None:
        if self.n_top_genes is not None:
            require_whole("n_top_genes", self.n_top_genes, 50)


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """What a study compares and how it scores it. The defaults are the seed study's, on the data's own cell types."""

    models: Annotated[tuple[str, ...], "Models to train: autoencoder, beta-vae, beta-vsc."] = (
        "autoencoder",
        "beta-vae",
        "beta-vsc",
    )
    presets: Annotated[
        tuple[str, ...],
        "Settings to train each model with: seed (the 2019 study to the letter: all genes), hvg (variable genes, linear code), "
        "counts (raw counts of the variable genes), programs (latents to be read one by one).",
    ] = ("seed", "hvg")
    seeds: Annotated[int, "Number of seeds, 0 … N-1: each trains every model anew."] = 1
    counts_layer: Annotated[
        str | None, "Layer that holds the raw counts (raw: those of adata.raw); X when not given."
    ] = None
    labels: Annotated[
        Path | None,
        "CSV of cell types: barcodes first, then one column of labels (or the one --labels-key names).",
    ] = None
    labels_key: Annotated[
        str | None, "Column of obs (or of the --labels file) that holds the cell types."
    ] = None
    markers: Annotated[
        Path | None, "CSV of markers (cell_type,gene) that names the clusters; blood markers when not given."
    ] = None
    perplexity: Annotated[float, "Perplexity of the t-SNE maps."] = 40.0
    n_top_genes: Annotated[int, "Number of variable genes."] = 2000
    min_genes: Annotated[int, "Keep cells with more genes than this; 0 keeps all but empty ones."] = 200
    max_genes: Annotated[int, "Keep cells with fewer genes than this; 0 lifts the limit."] = 2500
    max_pct_mito: Annotated[
        float, "Keep cells with less than this per cent of mitochondrial counts; 100 lifts the limit."
    ] = 5.0

    def __post_init__(self) -> None:
        require(len(self.models) > 0, "models", self.models, "at least one model")
        require(len(self.presets) > 0, "presets", self.presets, "at least one preset")
        require_whole("seeds", self.seeds, 1)
        require_number("perplexity", self.perplexity, above=0)
        require_whole("n_top_genes", self.n_top_genes, 50)
        require_whole("min_genes", self.min_genes, 0)
        require_whole("max_genes", self.max_genes, 0)
        if self.max_genes:
            require(
                self.min_genes + 1 < self.max_genes,
                "min_genes",
                self.min_genes,
                f"at least 2 fewer than max_genes, {self.max_genes}",
            )
        require(
            0 < self.max_pct_mito <= 100, "max_pct_mito", self.max_pct_mito, "a number above 0 and up to 100"
        )


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What a benchmark compares, and on what."""

    labels_key: Annotated[
        str | None, "Column of obs that holds the cell types, against which codes are scored."
    ] = None
    batch_key: Annotated[
        str | None,
        "Column of obs with the batch of each cell (donor, chemistry, run); without it nothing is said of batches.",
    ] = None
    models: Annotated[
        tuple[str, ...],
        "Models of sparcell to train: autoencoder, beta-vae, beta-vsc; none for none of them.",
    ] = ("beta-vsc",)
    baselines: Annotated[
        tuple[str, ...] | None,
        "Methods that are not trained on counts: pca, ica, nmf, harmony; none for none of them. When not given: pca ica harmony, and nmf "
        "with --disentangle.",
    ] = None
    peers: Annotated[
        tuple[str, ...] | None,
        "Other packages' models of counts: scvi, drvi; none for none of them. When not given: scvi, and drvi with --disentangle.",
    ] = None
    disentangle: Annotated[
        bool,
        "Also score how well cell types are read off single latents, how sparse codes are and whether latents are found again with other "
        "seeds; sparcell's models then have their settings for readable codes.",
    ] = False
    seeds: Annotated[int, "Number of seeds, 0 … N-1: each runs every method anew."] = 3
    counts_layer: Annotated[
        str | None, "Layer that holds the raw counts (raw: those of adata.raw); X when not given."
    ] = None
    n_top_genes: Annotated[
        int, "Number of variable genes, chosen in each batch; every method sees these."
    ] = 2000
    n_components: Annotated[
        int | None,
        "Number of components of PCA, ICA, NMF and Harmony, and of latents of DRVI; with --disentangle also of sparcell's models. When not "
        "given 30, with --disentangle 32.",
    ] = None
    peer_epochs: Annotated[
        int | None,
        "Epochs of the peers; when not given those of the peer's own rule, or 100 where these would take more than 10 minutes.",
    ] = None
    n_samples: Annotated[int, "Draws of the code for the likelihood of a held-out cell."] = 100
    perplexity: Annotated[float, "Perplexity of the t-SNE maps."] = 40.0

    def __post_init__(self) -> None:
        require_whole("seeds", self.seeds, 1)
        require_whole("n_top_genes", self.n_top_genes, 50)
        if self.n_components is not None:
            require_whole("n_components", self.n_components, 2)
        if self.peer_epochs is not None:
            require_whole("peer_epochs", self.peer_epochs, 1)
        require_whole("n_samples", self.n_samples, 1)
        require_number("perplexity", self.perplexity, above=0)

    @property
    def baselines_used(self) -> tuple[str, ...]:
        """Baselines that were asked for, or the usual ones."""
        usual = ("pca", "ica", "nmf", "harmony") if self.disentangle else ("pca", "ica", "harmony")
        return usual if self.baselines is None else self.baselines

    @property
    def peers_used(self) -> tuple[str, ...]:
        """Peers that were asked for, or the usual ones."""
        usual = ("scvi", "drvi") if self.disentangle else ("scvi",)
        return usual if self.peers is None else self.peers

    @property
    def components(self) -> int:
        """Number of components that was asked for, or the usual one."""
        usual = 32 if self.disentangle else 30
        return usual if self.n_components is None else self.n_components


@dataclass(frozen=True, kw_only=True)
class ProgramsConfig:
    """How the programs of a model are read, named and checked."""

    labels_key: Annotated[
        str | None, "Column of obs that holds the cell types, to tell in which a program is on."
    ] = None
    gmt: Annotated[
        tuple[Path, ...],
        "Gene sets to name programs after, in the GMT format (MSigDB, GO, Reactome); when not given, the built-in ones for human blood "
        "and pancreas.",
    ] = ()
    n_top: Annotated[int, "Genes listed for each program."] = 50
    n_named: Annotated[int, "The first so many genes of a program are tested against the gene sets."] = 25
    seeds: Annotated[
        int,
        "Seeds to look for each program in: the model's own, and the others trained on INPUT with its settings.",
    ] = 1
    seed: Annotated[int, "Draws the cells that are decoded and shown, and begins the map."] = 0
    unseen: Annotated[
        Literal["error", "average"],
        "Cells of batches that the model has not seen: an error, or encode them as of an average batch.",
    ] = "error"

    def __post_init__(self) -> None:
        require_whole("n_top", self.n_top, 1)
        require_whole("n_named", self.n_named, 2)
        require(self.n_named <= self.n_top, "n_named", self.n_named, f"at most n_top, {self.n_top}")
        require_whole("seeds", self.seeds, 1)
        require_whole("seed", self.seed, 0)
        require_choice(ProgramsConfig, "unseen", self.unseen)
