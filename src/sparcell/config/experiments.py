"""Settings of the commands `fit`, `study`, `benchmark` and `programs`, beside those of the models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from sparcell.config.validation import require, require_choice, require_number, require_whole


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """What `sparcell fit` does around the training of a model."""

    out: Annotated[
        Path | None, 'New .h5ad file: the data with the latent representation in obsm["X_MODEL"].'
    ] = None
    model_dir: Annotated[
        Path | None, "New folder for the trained model, which `embed` and `programs` read."
    ] = None
    checkpoint_dir: Annotated[
        Path | None,
        "Folder for checkpoints, written every 30 seconds. With --resume, training continues from there.",
    ] = None
    resume: Annotated[bool, "Continue from the checkpoint in --checkpoint-dir."] = False
    preset: Annotated[
        str | None,
        "Settings to start from; further options override them. counts: recommended for raw counts. programs: latents that are gene "
        "programs. hvg and study-2019: the two that study compares.",
    ] = None
    n_top_genes: Annotated[
        int | None,
        "Train on this many highly variable genes, chosen from the raw counts (within batches if --batch-key is given); 2000 is usual. "
        "Default: all genes, or those of --genes-key.",
    ] = None

    def __post_init__(self) -> None:
        if self.n_top_genes is not None:
            require_whole("n_top_genes", self.n_top_genes, 50)


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """What a study compares, and how it scores it."""

    models: Annotated[tuple[str, ...], "Models to train: autoencoder, beta-vae, beta-vsc."] = (
        "autoencoder",
        "beta-vae",
        "beta-vsc",
    )
    presets: Annotated[
        tuple[str, ...],
        "Settings to train each model with. study-2019: the 2019 course study, all genes. hvg: highly variable genes, linear latents. "
        "counts: raw counts of the highly variable genes. programs: latents that are gene programs.",
    ] = ("study-2019", "hvg")
    seeds: Annotated[int, "Number of random seeds (0 to N-1); each model is trained once per seed."] = 1
    counts_layer: Annotated[
        str | None, "Layer that holds the raw counts (raw: those of adata.raw). Default: X."
    ] = None
    labels: Annotated[
        Path | None,
        "CSV file of cell types: barcodes in the first column, labels in the second (or in the column that --labels-key names).",
    ] = None
    labels_key: Annotated[
        str | None, "Column of obs (or of the --labels file) that holds the cell types."
    ] = None
    markers: Annotated[
        Path | None,
        "CSV file with columns cell_type and gene, used to name clusters. Default: built-in markers of blood cells.",
    ] = None
    perplexity: Annotated[float, "Perplexity of the t-SNE maps."] = 40.0
    n_top_genes: Annotated[int, "Number of highly variable genes."] = 2000
    min_genes: Annotated[int, "Keep cells with more genes than this. 0 keeps all but empty cells."] = 200
    max_genes: Annotated[int, "Keep cells with fewer genes than this. 0: no limit."] = 2500
    max_pct_mito: Annotated[
        float, "Keep cells with a lower percentage of mitochondrial counts than this. 100: no limit."
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

    labels_key: Annotated[str | None, "Column of obs that holds the cell types. Required."] = None
    batch_key: Annotated[
        str | None,
        "Column of obs with the batch of each cell (donor, chemistry, run). Without it, batch correction is not scored.",
    ] = None
    models: Annotated[tuple[str, ...], "Models of sparcell: autoencoder, beta-vae, beta-vsc; or none."] = (
        "beta-vsc",
    )
    baselines: Annotated[
        tuple[str, ...] | None,
        "Baselines: pca, ica, nmf, harmony; or none. Default: pca ica harmony, and nmf with --disentanglement.",
    ] = None
    external_models: Annotated[
        tuple[str, ...] | None,
        "Count models of other packages: scvi, drvi; or none. Default: scvi, and drvi with --disentanglement.",
    ] = None
    disentanglement: Annotated[
        bool,
        "Also score whether single latents match cell types, how sparse the latents are, and whether other seeds reproduce them. The "
        "models of sparcell then use the preset programs.",
    ] = False
    seeds: Annotated[int, "Number of random seeds (0 to N-1); each method runs once per seed."] = 3
    counts_layer: Annotated[
        str | None, "Layer that holds the raw counts (raw: those of adata.raw). Default: X."
    ] = None
    n_top_genes: Annotated[
        int, "Number of highly variable genes, chosen within batches; all methods use the same genes."
    ] = 2000
    n_components: Annotated[
        int | None,
        "Components of PCA, ICA, NMF and Harmony, and latents of DRVI; with --disentanglement also latents of sparcell's models. Default: "
        "30, with --disentanglement 32.",
    ] = None
    external_epochs: Annotated[
        int | None,
        "Epochs of the external models. Default: the package's own rule, or 100 if those would take more than 10 minutes.",
    ] = None
    n_samples: Annotated[int, "Draws of the latents per cell for the held-out log likelihood."] = 100
    perplexity: Annotated[float, "Perplexity of the t-SNE maps."] = 40.0

    def __post_init__(self) -> None:
        require_whole("seeds", self.seeds, 1)
        require_whole("n_top_genes", self.n_top_genes, 50)
        if self.n_components is not None:
            require_whole("n_components", self.n_components, 2)
        if self.external_epochs is not None:
            require_whole("external_epochs", self.external_epochs, 1)
        require_whole("n_samples", self.n_samples, 1)
        require_number("perplexity", self.perplexity, above=0)

    @property
    def baselines_used(self) -> tuple[str, ...]:
        """The baselines that were asked for, or the default ones."""
        default = ("pca", "ica", "nmf", "harmony") if self.disentanglement else ("pca", "ica", "harmony")
        return default if self.baselines is None else self.baselines

    @property
    def external_models_used(self) -> tuple[str, ...]:
        """The external models that were asked for, or the default ones."""
        default = ("scvi", "drvi") if self.disentanglement else ("scvi",)
        return default if self.external_models is None else self.external_models

    @property
    def components(self) -> int:
        """The number of components that was asked for, or the default one."""
        default = 32 if self.disentanglement else 30
        return default if self.n_components is None else self.n_components


@dataclass(frozen=True, kw_only=True)
class ProgramsConfig:
    """How the programs of a model are read, named and checked."""

    labels_key: Annotated[
        str | None, "Column of obs that holds the cell types, to report in which types a program is on."
    ] = None
    gmt: Annotated[
        tuple[Path, ...],
        "GMT files of gene sets (MSigDB, GO, Reactome) to name programs after. Default: built-in sets for human blood and pancreas.",
    ] = ()
    n_genes_listed: Annotated[int, "Number of genes listed for each program."] = 50
    n_genes_enrichment: Annotated[int, "Number of top genes per program used for enrichment."] = 25
    seeds: Annotated[
        int,
        "Number of random seeds to look for each program in: the model's own, and others trained on INPUT with the model's settings.",
    ] = 1
    seed: Annotated[int, "Random seed of the cells that are decoded and shown, and of the map."] = 0
    unseen: Annotated[
        Literal["error", "average"],
        "What to do with cells of a batch that the model has not seen. error: stop. average: encode them as an average batch.",
    ] = "error"

    def __post_init__(self) -> None:
        require_whole("n_genes_listed", self.n_genes_listed, 1)
        require_whole("n_genes_enrichment", self.n_genes_enrichment, 2)
        require(
            self.n_genes_enrichment <= self.n_genes_listed,
            "n_genes_enrichment",
            self.n_genes_enrichment,
            f"at most n_genes_listed, {self.n_genes_listed}",
        )
        require_whole("seeds", self.seeds, 1)
        require_whole("seed", self.seed, 0)
        require_choice(ProgramsConfig, "unseen", self.unseen)
