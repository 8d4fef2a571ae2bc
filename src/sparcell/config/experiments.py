"""Settings of the commands, beside those of the models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from sparcell.config.genes import GenesConfig
from sparcell.config.input import CountsConfig, DiskConfig, InputConfig, MemoryConfig, ModelInputConfig
from sparcell.config.validation import (
    convert_paths,
    require,
    require_number,
    require_whole,
)

CHECKPOINT_SECONDS = 30.0
"""Least time between two checkpoints of a training, unless the user sets another one."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How any command runs."""

    overwrite: Annotated[
        bool,
        "Replace an earlier result of sparcell; other files are never replaced.",
    ] = False
    threads: Annotated[int | None, "Number of processor threads. Default: all cores."] = None
    quiet: Annotated[bool, "Show errors only."] = False

    def __post_init__(self) -> None:
        if self.threads is not None:
            require_whole("threads", self.threads, 1)


@dataclass(frozen=True, kw_only=True)
class FitConfig(InputConfig, GenesConfig, DiskConfig):
    """What `sparcell fit` does around the training of a model.

    Examples
    --------
    ::

        sp.FitConfig(preset="programs", n_top_genes=2000)
    """

    preset: Annotated[
        str | None,
        "Named settings; other options override single settings. counts: recommended for raw counts. programs: latents that are gene "
        "programs. hvg, study-2019: the two presets of sparcell study.",
    ] = None
    n_top_genes: Annotated[
        int | None,
        "Train on this many highly variable genes of the raw counts, chosen within batches if there is a batch_key. 2000 is usual. "
        "Default: all genes.",
    ] = None
    out: Annotated[
        Path | None,
        'New .h5ad file or .zarr folder: the data with the latent representation in obsm["X_MODEL"]. fit needs --out, --model-dir or both.',
    ] = None
    model_dir: Annotated[
        Path | None, "New folder for the trained model, which `embed` and `programs` read."
    ] = None
    checkpoint_dir: Annotated[
        Path | None,
        "Folder for a checkpoint of the training, also amid an epoch. --resume continues from the checkpoint.",
    ] = None
    checkpoint_seconds: Annotated[
        float,
        "Least time between two checkpoints, which are written after 200 steps or at the end of an epoch.",
    ] = CHECKPOINT_SECONDS
    resume: Annotated[bool, "Continue from the checkpoint in --checkpoint-dir."] = False

    def __post_init__(self) -> None:
        GenesConfig.__post_init__(self)
        DiskConfig.__post_init__(self)
        if self.n_top_genes is not None:
            require_whole("n_top_genes", self.n_top_genes, 50)
        require_number("checkpoint_seconds", self.checkpoint_seconds, above=0, or_equal=True)


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """Which cells quality control keeps."""

    min_genes: Annotated[
        int | None,
        "Keep cells with more detected genes than this. 0 keeps all but empty cells. Default: 5 MADs (median absolute deviations, a robust "
        "sd) below the median, on a log scale. In a study: 200 for PBMC3k and for the preset study-2019 alone.",
    ] = None
    max_genes: Annotated[
        int | None,
        "Keep cells with fewer detected genes than this. 0: no limit. Default: 5 MADs (median absolute deviations) above the median, on a "
        "log scale. In a study: 2500 for PBMC3k and study-2019.",
    ] = None
    max_pct_mito: Annotated[
        float | None,
        "Keep cells with a lower percentage of counts in mitochondrial genes (names with MT- or mt-). 100: no limit. Default: 3 MADs "
        "(median absolute deviations) above the median, at least 8. In a study: 5 for PBMC3k and study-2019.",
    ] = None

    def __post_init__(self) -> None:
        for name in ("min_genes", "max_genes"):
            if getattr(self, name) is not None:
                require_whole(name, getattr(self, name), 0)
        if self.max_genes and self.min_genes is not None:
            require(
                self.min_genes + 1 < self.max_genes,
                "min_genes",
                self.min_genes,
                f"at least 2 fewer than max_genes, {self.max_genes}",
            )
        if self.max_pct_mito is not None:
            expected = "a number above 0 and up to 100"
            require(0 < self.max_pct_mito <= 100, "max_pct_mito", self.max_pct_mito, expected)


@dataclass(frozen=True, kw_only=True)
class StudyConfig(CountsConfig, GenesConfig, QualityConfig):
    """What a study compares, and how it scores it.

    Examples
    --------
    ::

        config = sp.StudyConfig(models=("beta-vsc",), presets=("hvg",), labels_key="cell_type")
        results = sp.study.run("counts.h5ad", "study", config)
    """

    models: Annotated[tuple[str, ...], "Models to train."] = (
        "autoencoder",
        "beta-vae",
        "beta-vsc",
    )
    presets: Annotated[
        tuple[str, ...],
        "Named settings to train each model with. study-2019: the 2019 course study that sparcell repeats, on all genes. hvg: study-2019 "
        "with wider layers, on variable genes. counts: recommended, negative binomial on variable genes. programs: latents that are "
        "gene programs (only beta-vsc).",
    ] = ("study-2019", "hvg", "programs")
    seeds: Annotated[
        int | None,
        "Number of random seeds. Each model is trained once per seed. Default: 3 if the study then takes under about 4 minutes on two "
        "cores, else 1.",
    ] = None
    labels_key: Annotated[
        str | None, "Column of obs (or of the --labels file) that holds the cell types."
    ] = None
    labels: Annotated[
        Path | None,
        "CSV file of cell types: barcodes in the first column, labels in the second, or in labels_key. Default: clusters of the cells, "
        "named by markers.",
    ] = None
    n_top_genes: Annotated[
        int, "Number of highly variable genes for PCA and for all presets except study-2019."
    ] = 2000
    markers: Annotated[
        Path | None,
        "CSV file of marker genes with columns cell_type and gene, which name Louvain clusters. Default: built-in markers of blood cells.",
    ] = None
    perplexity: Annotated[float, "Perplexity of the t-SNE maps."] = 40.0

    def __post_init__(self) -> None:
        CountsConfig.__post_init__(self)
        GenesConfig.__post_init__(self)
        require(len(self.models) > 0, "models", self.models, "at least one model")
        require(len(self.presets) > 0, "presets", self.presets, "at least one preset")
        if self.seeds is not None:
            require_whole("seeds", self.seeds, 1)
        require_number("perplexity", self.perplexity, above=0)
        require_whole("n_top_genes", self.n_top_genes, 50)
        QualityConfig.__post_init__(self)
        convert_paths(self, "labels", "markers")


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(CountsConfig, GenesConfig):
    """What a benchmark compares, and on what.

    Examples
    --------
    ::

        config = sp.BenchmarkConfig(labels_key="cell_type", batch_key="donor", seeds=1)
        results = sp.benchmark.run("counts.h5ad", "benchmark", config)
    """

    labels_key: Annotated[str | None, "Column of obs that holds the cell types. Required."] = None
    batch_key: Annotated[
        str | None,
        "Column of obs with the batch of each cell (donor, chemistry, run). Without, batch correction is not scored.",
    ] = None
    models: Annotated[
        tuple[str, ...],
        "Models of sparcell: autoencoder, beta-vae, beta-vsc; or none.",
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
        "Also score single latents. sparcell's models then use the preset programs in place of counts.",
    ] = False
    seeds: Annotated[int, "Number of random seeds. Each method runs once per seed."] = 3
    n_top_genes: Annotated[
        int,
        "Number of highly variable genes, which all methods use.",
    ] = 2000
    n_components: Annotated[
        int | None,
        "Number of components of PCA, ICA, NMF and Harmony, and of latents of DRVI. With --disentanglement also of sparcell's models. "
        "Default: 30, with --disentanglement 32.",
    ] = None
    external_epochs: Annotated[
        int | Literal["auto", "full"],
        "Epochs of the external models. full: each package's own number. auto: the same, but at most 20,000 training steps of 128 cells. "
        "A model with fewer epochs than its own carries both numbers in its name.",
    ] = "auto"
    n_samples: Annotated[int, "Posterior samples per cell that estimate the held-out log likelihood."] = 100
    perplexity: Annotated[float, "Perplexity of the t-SNE maps."] = 40.0

    def __post_init__(self) -> None:
        CountsConfig.__post_init__(self)
        GenesConfig.__post_init__(self)
        require_whole("seeds", self.seeds, 1)
        require_whole("n_top_genes", self.n_top_genes, 50)
        if self.n_components is not None:
            require_whole("n_components", self.n_components, 2)
        if self.external_epochs not in ("auto", "full"):
            require_whole("external_epochs", self.external_epochs, 1, or_word="auto")
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
class EmbedConfig(ModelInputConfig, DiskConfig):
    """What `sparcell embed` reads and writes."""

    def __post_init__(self) -> None:
        ModelInputConfig.__post_init__(self)
        DiskConfig.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class ProgramsConfig(ModelInputConfig, MemoryConfig):
    """How the programs of a model are read, named and checked.

    Examples
    --------
    ::

        config = sp.ProgramsConfig(labels_key="cell_type", seeds=3)
        results = sp.programs.run("counts.h5ad", "vsc", "programs", config)
    """

    title: Annotated[str | None, "Title of the page. Default: the name of the input."] = None
    labels_key: Annotated[
        str | None,
        "Column of obs that holds the cell types, to report the cell types in which a program is on.",
    ] = None
    gmt: Annotated[
        tuple[Path, ...],
        "GMT files of gene sets (MSigDB, GO, Reactome) that can name programs. Default: built-in sets of cell types and processes.",
    ] = ()
    n_genes_listed: Annotated[int, "Number of genes listed for each program."] = 50
    n_genes_enrichment: Annotated[
        int,
        "Number of first genes per program, by specific effect, that are tested for shared genes with gene sets.",
    ] = 25
    seeds: Annotated[
        int | Literal["auto"],
        "Number of random seeds over which programs are compared. 5: sparcell trains four more models on INPUT with the same settings. "
        "auto: 5 if that takes under two minutes (by the model's training time), else 1.",
    ] = "auto"
    seed: Annotated[int, "Random seed of the map, and of the choice of cells for effects and plots."] = 0

    def __post_init__(self) -> None:
        require_whole("n_genes_listed", self.n_genes_listed, 1)
        require_whole("n_genes_enrichment", self.n_genes_enrichment, 3)
        require(
            self.n_genes_enrichment <= self.n_genes_listed,
            "n_genes_enrichment",
            self.n_genes_enrichment,
            f"at most n_genes_listed, {self.n_genes_listed}",
        )
        require_whole("seeds", self.seeds, 1, or_word="auto")
        require_whole("seed", self.seed, 0)
        ModelInputConfig.__post_init__(self)
        MemoryConfig.__post_init__(self)
        convert_paths(self, "gmt")
