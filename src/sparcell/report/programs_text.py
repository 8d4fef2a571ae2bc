"""Sentences about the gene programs of a model: pure functions, no HTML. Every number in the text is computed here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparcell.report.text import Paragraph, capitalize, join_words, pluralize

if TYPE_CHECKING:
    from sparcell.results.programs import ProgramResults

CLEAR_AUC = 0.95
"""A program separates a cell type from the other cells from this AUC on."""


def conclusions(results: ProgramResults) -> list[Paragraph]:
    """Return the paragraphs of the summary, in reading order; a paragraph without a sentence is left out."""
    paragraphs = [
        Paragraph("Programs", tuple(active_sentences(results))),
        Paragraph("Prediction", tuple(prediction_sentences(results))),
        Paragraph("Names", tuple(name_sentences(results))),
        Paragraph("Cell types", tuple(cell_type_sentences(results))),
        Paragraph("Other seeds", tuple(seed_sentences(results))),
        Paragraph("On and off", tuple(on_sentences(results))),
    ]
    return [paragraph for paragraph in paragraphs if paragraph.sentences]


def active_sentences(results: ProgramResults) -> list[str]:
    """Return sentences about the number of active latents and of programs that matter."""
    n_major = int(results.major.sum())
    n_programs, n_latents = len(results.programs), results.programs["latent"].nunique()
    sentences = [
        f"{results.n_active} of {results.n_latent} latents {_be(results.n_active)} active in these "
        f"{results.n_cells:,} cells.",
        f"{capitalize(pluralize(n_major, 'program'))} {'explains' if n_major == 1 else 'explain'} 1% or more of what all latents "
        "together explain.",
    ]
    if n_programs > n_latents:
        sentences.append(
            f"Values above 0 and values below 0 are separate programs, so there are {pluralize(n_programs, 'program')}."
        )
    if not n_programs:
        sentences.append(
            "There are no programs to show. Train with a smaller beta or for longer to get active latents."
        )
    elif np.isfinite(results.programs["fraction_explained"]).any():
        sentences.append(joint_sentence(results))
    return sentences


def joint_sentence(results: ProgramResults) -> str:
    """Return a sentence on what the first latents explain together; shares of single programs do not add up."""
    latents = results.programs["latent"].drop_duplicates().head(3)
    last = results.programs[results.programs["latent"].isin(latents)].iloc[-1]
    share = format_fraction(last["cumulative_explained"])
    if len(latents) == 1:
        return f"The first latent explains {share}."
    return f"The first {len(latents)} latents, set to 0 together, explain {share}."


def prediction_sentences(results: ProgramResults) -> list[str]:
    """Return sentences about the predicted number of active latents, beside the actual number."""
    if results.n_active_predicted is None:
        reason = "counts" if results.counts else "a model without a prior"
        return [
            f"The number of active latents can be predicted for Gaussian expression only, not for {reason}."
        ]
    n_predicted = results.n_active_predicted
    is_sample = 0 < results.n_cells_predicted < results.n_cells
    origin = f" in {results.n_cells_predicted:,} random cells" if is_sample else ""
    sentences = [
        f"The eigenvalues of the data's covariance{origin} predict {pluralize(n_predicted, 'active latent')}; "
        f"{results.n_active} {_be(results.n_active)} active."
    ]
    if not results.prediction_exact:
        sentences.append(
            "The theory covers a linear decoder with Gaussian latents, so the prediction is only a guide for this model."
        )
    return sentences


def name_sentences(results: ProgramResults) -> list[str]:
    """Return sentences about the number of programs with a name."""
    n_named, n_programs = int(results.named.sum()), len(results.programs)
    if not n_programs:
        return []
    if not results.sets_source and not n_named:
        return ["No gene of the built-in sets is among the model's genes, so programs have no names."]
    from_labels = int((results.programs["source"] == "cell type").sum())
    sentences = [f"{capitalize(pluralize(n_named, 'program'))} of {n_programs} {_have(n_named)} a name."]
    if from_labels:
        programs = pluralize(from_labels, "program is", "programs are")
        sentences.append(f"{capitalize(programs)} named after the cell types in which they are on.")
    if results.sets_source:
        sentences += [
            f"A gene set names a program if it shares three genes or more with the program's {results.n_genes_enrichment} most specific "
            "genes, more than chance explains (adjusted p at most 0.01), and if these genes are expressed where the program is on.",
            f"The test used {results.sets_source}.",
        ]
    n_unnamed = int((results.major & ~results.named).sum())
    if n_unnamed:
        programs = pluralize(n_unnamed, "program that explains", "programs that explain")
        sentences.append(
            f"{capitalize(programs)} 1% or more {_have(n_unnamed)} no name; other gene sets may give one."
        )
    return sentences


def cell_type_sentences(results: ProgramResults) -> list[str]:
    """Return sentences about the cell types that a program separates from all other cells."""
    if results.label_fractions is None or not len(results.programs):
        return []
    best = results.programs.groupby("label", sort=False)["label_auc"].max()
    clear = [str(label) for label, auc in best.items() if auc >= CLEAR_AUC]
    others = [str(label) for label in results.label_fractions.columns if str(label) not in clear]
    if not clear:
        return [f"No cell type has a program with AUC ≥ {CLEAR_AUC:.2f}."]
    verb = "has" if len(clear) == 1 else "each have"
    sentences = [f"{join_words(clear, 12)} {verb} a program with AUC ≥ {CLEAR_AUC:.2f}."]
    if others:
        sentences.append(f"Cell types without such a program: {join_words(others, 12)}.")
    return sentences


def seed_sentences(results: ProgramResults) -> list[str]:
    """Return sentences about the number of programs that other seeds reproduce."""
    stable = results.stable
    if stable is None or results.matches is None:
        seconds = results.seconds_for_seeds
        time = f" (about {max(round(seconds / 60), 1)} min of training)" if seconds else ""
        return [
            "The programs come from one seed.",
            f"Run sparcell programs --seeds 5{time} to see which programs other seeds reproduce.",
        ]
    if not len(stable):
        return []
    n_seeds, major = results.matches.shape[1] + 1, results.major
    sentences = [
        f"{stable.sum()} of {len(stable)} programs are stable: at least four fifths of {n_seeds} seeds have them.",
        f"{int((stable & major).sum())} of the {int(major.sum())} programs that explain 1% or more are stable.",
        f"A seed reproduces a program if the gene effects of the program and of its match correlate by {results.min_match:g} or more.",
    ]
    if not stable.all():
        sentences.append(
            "Programs that are not stable are marked. Such a program is one of several possible descriptions of the cells."
        )
    return sentences


def on_sentences(results: ProgramResults) -> list[str]:
    """Return sentences about the meaning of a program that is on in a cell."""
    if results.spikes:
        return [
            "A program is on in a cell if its posterior inclusion probability is ½ or more. Maps show other cells in gray."
        ]
    return [
        f"{results.model} has no spikes, so its latents are never off.",
        "A program counts as on in a cell if its latent is at least as far from 0 as the root mean square over the cells.",
        "The shape of the latent's distribution sets the fraction of cells that are on; the model does not learn this fraction.",
    ]


def lead(results: ProgramResults) -> str:
    """Return the page in one sentence."""
    n_major = int(results.major.sum())
    names = join_words(list(dict.fromkeys(results.programs.loc[results.major & results.named, "name"])), 8)
    verb = "explains" if n_major == 1 else "explain"
    clauses = (
        f"{results.n_active} of {results.n_latent} latents {_be(results.n_active)} active, and "
        f"{pluralize(n_major, 'program')} {verb} 1% or more"
    )
    return f"{clauses}, among them {names}." if names else f"{clauses}."


def program_sentences(results: ProgramResults, program: pd.Series) -> list[str]:
    """Return the description of one program, a row of `ProgramResults.programs`."""
    sentences = [f"The program is on in {program['fraction_cells_on']:.1%} of the cells."]
    if np.isfinite(program["fraction_explained"]):
        fraction = format_fraction(program["fraction_explained"])
        sentences.append(f"The program explains {fraction} of what all latents together explain.")
    if "label" in program:
        sentences.append(
            f"The label {program['label']} stands out most (AUC {program['label_auc']:.3f}); the program is on in "
            f"{program['label_fraction_on']:.0%} of its cells, which have {program['label_share']:.0%} of the program's activity."
        )
    if program["set"]:
        sentences.append(
            f"Best gene set: {program['set']} ({', '.join(program['set_genes'])}; p = {format_rate(program['p_adjusted'])})."
        )
        if program["source"] == "gene set" and not str(program["name"]).startswith(program["set"]):
            sentences.append(
                "The name is the wider type, because the program is on in nearly all of its cells."
            )
        if program["second_name"]:
            rate = format_rate(program["second_p"])
            sentences.append(f"Second gene set: {program['second_name']} (p = {rate}).")
    elif results.sets_source:
        sentences.append("No gene set fits both its genes and the cells in which it is on.")
    if results.stable is not None:
        verdict = "stable" if program["stable"] else "not stable"
        sentences.append(
            f"{program['n_reproduced']} of {program['n_others']} other seeds reproduce the program (median match "
            f"{program['median_match']:.2f}); it is {verdict}."
        )
    return sentences


def format_fraction(value: float) -> str:
    """Return a fraction in percent, with one decimal below 10 %."""
    if not np.isfinite(value):
        return "–"
    if abs(value) < 0.0005:
        return "0.0%"  # without a sign
    return f"{value:.0%}" if value >= 0.095 else f"{value:.1%}"


def format_rate(value: float) -> str:
    """Return a p-value as text: 0.040 or 3·10⁻¹²."""
    if not np.isfinite(value):
        return "–"
    if value >= 0.001:
        return f"{value:.3f}"
    digit, exponent = f"{max(value, 1e-300):.0e}".split("e")
    return f"{digit}·10{_superscript(int(exponent))}"


def _superscript(number: int) -> str:
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _be(n: int) -> str:
    return "is" if n == 1 else "are"


def _have(n: int) -> str:
    return "has" if n == 1 else "have"
