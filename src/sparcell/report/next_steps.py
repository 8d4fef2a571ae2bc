"""What a reader can do with the results of a page: steps with code that runs beside the files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparcell.pl.tables import score_summary, value_at

if TYPE_CHECKING:
    from sparcell.results.analysis import AnalysisResults
    from sparcell.results.benchmark import BenchmarkResults
    from sparcell.results.programs import ProgramResults
    from sparcell.results.study import StudyResults


@dataclass(frozen=True)
class Step:
    """One thing to do: what, why or how, and code (may be empty)."""

    what: str
    why: str
    code: str = ""


def after_analysis(results: AnalysisResults) -> list[Step]:
    """Return the steps after an analysis."""
    steps = [
        Step(
            "Check the names of the clusters.",
            "Read the markers of each cluster, and look at their genes on the map. Names come from a list of genes, not from an expert.",
        ),
        Step(
            "Go on in scanpy.",
            "analysis.h5ad holds counts, log-normalized values, clusters, cell types, the latent representation and both maps.",
            f'import scanpy as sc\n\nadata = sc.read_h5ad("analysis.h5ad")\nsc.pl.umap(adata, color=["{results.type_column}"])',
        ),
        Step(
            "Use the model on new cells.",
            "The folder model holds the trained model. predict learns the cell types of this analysis and gives them to new cells; embed "
            "writes the latent representation alone. If the model has batches, cells of new donors are first mapped with sparcell map.",
            f"sparcell predict new_cells.h5ad --model-dir model --reference analysis.h5ad --labels-key {results.type_column} "
            "--out predicted.h5ad\n"
            "sparcell embed new_cells.h5ad --model-dir model --out embedded.h5ad",
        ),
    ]
    if results.composition is not None and results.composition_test is None:
        steps.append(
            Step(
                "Add the conditions.",
                "With --condition-key and two or more samples per condition, the shares of cell types are compared over samples.",
            )
        )
    return steps


def after_study(results: StudyResults) -> list[Step]:
    """Return the steps after a study."""
    summary = score_summary(results.scores)
    trained = [row for row in results.rows if row.model is not None and row.name in summary.index]
    row = max(trained, key=lambda row: value_at(summary, row.name, "nmi"), default=None)
    steps = []
    if row is not None:
        steps.append(
            Step(
                "Cluster and draw with a latent representation.",
                "study.h5ad holds the latent representation of each method; scanpy reads it.",
                f"{_read_and_draw('study.h5ad', row.name)}\nsc.tl.leiden(adata)\n"
                'sc.pl.umap(adata, color=["leiden"])',
            )
        )
        steps.append(
            Step(
                "Use a model on new cells.",
                f"models/{row.name} is the model of the first seed.",
                f"sparcell embed new_cells.h5ad --model-dir models/{row.name} --out embedded.h5ad",
            )
        )
    if results.program_pages:
        steps.append(
            Step(
                "Read the gene programs.",
                "The pages are linked under Gene programs. Start with the programs that explain most, and check each name against the "
                "genes and against the cell types in which the program is on.",
            )
        )
    return steps + _more_seeds(results)


def after_programs(results: ProgramResults) -> list[Step]:
    """Return the steps after a page of gene programs."""
    if not len(results.programs):
        return []
    key = str(results.programs["key"].iloc[0])
    top = results.top_genes(key, 12)["gene"].astype(str).tolist()
    steps = [
        Step(
            "Check a name before you use it.",
            "Read the top genes, the map, and the cell types in which the program is on. All three should tell the same story.",
        ),
        Step(
            "Look for the program in other data.",
            "The score of a gene list needs no model. These are the top genes of the first program.",
            f"import scanpy as sc\n\ngenes = {top}\n"
            "known = [gene for gene in genes if gene in adata.var_names]\n"
            f'sc.tl.score_genes(adata, known, score_name="{key[:-1]}")',
        ),
        Step(
            "Compare conditions by sample.",
            "sp.tl.program_conditions tests the mean activity of each sample and cell type. Cells of one sample are not independent.",
        ),
    ]
    if results.matches is None:
        steps.append(
            Step(
                "Train other seeds.",
                "sparcell programs --seeds 5 tells which programs other seeds reproduce. Keep those.",
            )
        )
    return steps


def after_benchmark(results: BenchmarkResults) -> list[Step]:
    """Return the steps after a benchmark."""
    steps = [
        Step(
            "Look at the maps and at single metrics before you choose a method.",
            "A total hides which cells are wrong. A type that you need may be mixed although the mean is high.",
        ),
        Step(
            "Continue with the representation you choose.",
            "benchmark.h5ad holds the latent representation of each method.",
            _read_and_draw("benchmark.h5ad", results.rows[0].name),
        ),
    ]
    return steps + _more_seeds(results)


def _more_seeds(results: StudyResults | BenchmarkResults) -> list[Step]:
    """Return the step to train further seeds, if there are fewer than three."""
    if results.scores["seed"].nunique() >= 3:
        return []
    return [
        Step(
            "Repeat with three or more seeds before you claim an order.",
            "Add --seeds 3 --resume to the command; finished runs are not trained again.",
        )
    ]


def _read_and_draw(file: str, row: str) -> str:
    """Return scanpy's lines from a file of cells to a UMAP of the latent representation of a row."""
    return (
        f'import scanpy as sc\n\nadata = sc.read_h5ad("{file}")\n'
        f'sc.pp.neighbors(adata, use_rep="X_{row.replace("-", "_")}")\nsc.tl.umap(adata)'
    )
