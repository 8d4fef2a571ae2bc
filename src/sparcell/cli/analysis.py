"""The command `analyze`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from sparcell.cli import targets
from sparcell.cli.commands import Inputs, Resume, Star, command_line, start
from sparcell.cli.options import AnalysisOptions, PresetModelOptions, RunOptions, given
from sparcell.config.analysis import AnalysisConfig


def analyze(
    input: Inputs,
    *,
    out: Path,
    analysis: Annotated[AnalysisOptions, Star] = None,
    model: Annotated[PresetModelOptions, Star] = None,
    resume: Resume = False,
    run: Annotated[RunOptions, Star] = None,
) -> None:
    """Analyze raw counts: quality control, latent representation, named clusters, gene programs, conditions, and a report.

    The command writes report.html, analysis.h5ad, tables, figures, the page of gene programs and the trained models into the folder --out.

    Parameters
    ----------
    input
        Raw counts, one file or several; formats as for `study`.
    out
        Folder for the results, new or empty.
    resume
        Continue an interrupted analysis in --out, or repeat one with other clusters or names.
    """
    how, config = start(run), AnalysisConfig(**given(analysis))
    from sparcell.analysis import run as run_analysis
    from sparcell.analysis import show

    with targets.output_folder(out, overwrite=how.overwrite) as folder:
        results = run_analysis(
            *(input, folder, config),
            changes=given(model),
            resume=resume or folder != out,
            silent=how.quiet,
            command=command_line(),
        )
    if not how.quiet:
        show(results)
        print(f"Report: {out / 'report.html'}")
