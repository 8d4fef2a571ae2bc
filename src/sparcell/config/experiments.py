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
        Path | None,
        'New .h5ad file: the data with the latent representation in obsm["X_MODEL"]. fit needs --out, --model-dir or both.',
    ] = None
    model_dir: Annotated[
        Path | None, "New folder for the trained model, which `embed` and `programs` read."
    ] = None
    checkpoint_dir: Annotated[
        Path | None,
        "Folder for a checkpoint of the training, written every 30 seconds. --resume continues from the checkpoint.",
    ] = None
    resume: Annotated[bool, "Continue from the checkpoint in --checkpoint-dir."] = False
    preset: Annotated[
        str | None,
        "Named settings; further options override single settings. counts: recommended for raw counts. programs: latents that are gene "
        "programs. hvg and study-2019: the two presets that sparcell study compares. No preset selects genes; see n_top_genes.",
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
        "Named settings to train each model with. study-2019: the course study of 2019 that sparcell repeats, on all genes. hvg: "
        "study-2019 with wider layers, on highly variable genes. counts: recommended, negative binomial on highly variable genes. "
        "programs: latents that are gene programs.",
    ] = ("study-2019", "hvg")
    seeds: Annotated[
        int, "Number N of random seeds (0 to N-1). Each model is trained once per preset and seed."
    ] = 1
    counts_layer: Annotated[
        str | None, "Layer that holds the raw counts (raw: those of adata.raw). Default: X."
    ] = None
    labels: Annotated[
        Path | None,
        "CSV file of cell types: barcodes in the first column, labels in the second (or in the column that --labels-key names). Default: "
        "the study clusters the cells and names the clusters by --markers.",
    ] = None
    labels_key: Annotated[
        str | None, "Column of obs (or of the --labels file) that holds the cell types."
    ] = None
    markers: Annotated[
        Path | None,
        "CSV file of marker genes with columns cell_type and gene, which name Louvain clusters. Default: built-in markers of blood cells.",
    ] = None
    perplexity: Annotated[float, "Perplexity of the t-SNE maps."] = 40.0
    n_top_genes: Annotated[
        int, "Number of highly variable genes for PCA and for all presets except study-2019."
    ] = 2000
    min_genes: Annotated[
        int, "Keep cells with more detected genes than this. 0 keeps all but empty cells."
    ] = 200
    max_genes: Annotated[int, "Keep cells with fewer detected genes than this. 0: no limit."] = 2500
    max_pct_mito: Annotated[
        float,
        "Keep cells with a lower percentage of counts in mitochondrial genes (names with MT- or mt-) than this. 100: no limit.",
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
        "Column of obs with the batch of each cell (donor, chemistry, run). Without this column, batch correction is not scored.",
    ] = None
    models: Annotated[
        tuple[str, ...],
        "Models of sparcell: autoencoder, beta-vae, beta-vsc; or none. Preset: counts, or programs with --disentanglement.",
    ] = ("beta-vsc",)
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
        "Also score single latents: the match with cell types, the sparsity, and the reproducibility over seeds. The models of sparcell "
        "then use the preset programs.",
    ] = False
    seeds: Annotated[int, "Number N of random seeds (0 to N-1). Each method runs once per seed."] = 3
    counts_layer: Annotated[
        str | None, "Layer that holds the raw counts (raw: those of adata.raw). Default: X."
    ] = None
    n_top_genes: Annotated[
        int,
        "Number of highly variable genes, ranked within batches if there are any. All methods use the same genes.",
    ] = 2000
    n_components: Annotated[
        int | None,
        "Number of components of PCA, ICA, NMF and Harmony, and of latents of DRVI. With --disentanglement also of sparcell's models. "
        "Default: 30, with --disentanglement 32.",
    ] = None
    external_epochs: Annotated[
        int | None,
        "Epochs of the external models. Default: each package's own number, or 100 if that number would take more than 10 minutes.",
    ] = None
    n_samples: Annotated[int, "Posterior samples per cell that estimate the held-out log likelihood."] = 100
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
        str | None,
        "Column of obs that holds the cell types, to report the cell types in which a program is on.",
    ] = None
    gmt: Annotated[
        tuple[Path, ...],
        "GMT files of gene sets (MSigDB, GO, Reactome). The most enriched set names a program. Default: sets for human blood and pancreas.",
    ] = ()
    n_genes_listed: Annotated[int, "Number of genes listed for each program."] = 50
    n_genes_enrichment: Annotated[
        int, "Number of top genes per program that are tested for enrichment of gene sets."
    ] = 25
    seeds: Annotated[
        int,
        "Number of random seeds over which programs are compared. 5: sparcell trains four more models on INPUT with the same settings.",
    ] = 1
    seed: Annotated[int, "Random seed of the map, and of the choice of cells for effects and plots."] = 0
    unseen: Annotated[
        Literal["error", "average"],
        "Cells of a batch that was not in training. error: stop. average: use the batch proportions of the training data.",
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
