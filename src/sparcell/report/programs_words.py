"""From a catalogue of programs to sentences: pure functions, no HTML. Every number in the text is computed here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparcell.report.study_words import Paragraph, capital, listed, several

if TYPE_CHECKING:
    from sparcell.results.programs import ProgramResults

CLEAR_AUC = 0.95
"""From this on a program is said to tell a cell type from the rest."""


def conclusions(found: ProgramResults) -> list[Paragraph]:
    """All that is to be said, in the order it is read; passages with nothing to say are left out."""
    passages = [
        Paragraph("Programs", tuple(counted(found))),
        Paragraph("Expected before", tuple(expected(found))),
        Paragraph("Names", tuple(names(found))),
        Paragraph("Cell types", tuple(types(found))),
        Paragraph("Other seeds", tuple(seeds(found))),
        Paragraph("When one is on", tuple(on(found))),
    ]
    return [passage for passage in passages if passage.sentences]


def counted(found: ProgramResults) -> list[str]:
    """How many latents live and how many of them matter."""
    n_large = found.programs.loc[found.large, "latent"].nunique()
    n_sides, n_latents = len(found.programs), found.programs["latent"].nunique()
    told = [
        f"Of {several(found.n_latent, 'latent')}, an upper bound, {found.n_active} {_are(found.n_active)} live in these {found.n_cells:,} "
        f"cells; {n_large} of them explain a hundredth or more of what the code explains."
    ]
    if n_sides > n_latents:
        told.append(
            f"They make {several(n_sides, 'program')}, because codes above and below 0 are told apart."
        )
    if not n_sides:
        told.append("So there are no programs to show: train with a smaller beta, or longer.")
    elif np.isfinite(found.programs["explained"]).any():
        total = found.programs["explained"].head(3).sum()
        told.append(f"The first {min(n_sides, 3)} explain {total:.0%} together.")
    return told


def expected(found: ProgramResults) -> list[str]:
    """What the theory said beforehand, beside what happened."""
    if found.n_expected is None:
        reason = "counts" if found.counts else "a code without a prior"
        return [
            f"How many latents will live can be told beforehand for Gaussian expression only, not for {reason}."
        ]
    guide = (
        ""
        if found.exact
        else " The theory is that of a linear decoder with Gaussian latents, so here the number is no more than a guide."
    )
    return [
        f"From the eigenvalues of the data's covariance, {several(found.n_expected, 'latent')} "
        f"{_were(found.n_expected)} to be expected to live; {found.n_active} {_do(found.n_active)}.{guide}"
    ]


def names(found: ProgramResults) -> list[str]:
    """How many programs the gene sets name."""
    if not found.sets_source:
        return ["No gene of the built-in sets is among the model's genes, so programs have no names."]
    n_named, n_programs = int((found.programs["name"] != "").sum()), len(found.programs)
    if not n_programs:
        return []
    told = [
        f"{capital(several(n_named, 'program'))} of {n_programs} {'has' if n_named == 1 else 'have'} a name: a set that holds more of the "
        f"{found.n_genes_enrichment} first genes than chance would give (FDR at most 5 %). Tested were {found.sets_source}."
    ]
    n_unnamed = int((found.large & (found.programs["name"] == "").to_numpy()).sum())
    if n_unnamed:
        told.append(
            f"Of those that explain a hundredth or more, {n_unnamed} {_are(n_unnamed)} without a name: other gene sets may know them."
        )
    return told


def types(found: ProgramResults) -> list[str]:
    """Which cell types a program tells from all other cells."""
    if found.shares is None or not len(found.programs):
        return []
    best = found.programs.groupby("label", sort=False)["label_auc"].max()
    clear = [str(label) for label, auc in best.items() if auc >= CLEAR_AUC]
    missing = [str(label) for label in found.shares.columns if str(label) not in clear]
    told = f"A program of its own, with an AUC of {CLEAR_AUC:.2f} or more, {'have' if len(clear) != 1 else 'has'} {listed(clear, 12)}"
    told = told + "." if clear else f"No cell type has a program with an AUC of {CLEAR_AUC:.2f} or more."
    return [told, f"None that clear: {listed(missing, 12)}."] if missing and clear else [told]


def seeds(found: ProgramResults) -> list[str]:
    """How many programs other seeds find too."""
    stable = found.stable
    if stable is None or found.matches is None:
        return [
            "One seed was looked at: sparcell programs --seeds 5 says which programs are found again from others."
        ]
    if not len(stable):
        return []
    n_seeds, large = found.matches.shape[1] + 1, found.large
    told = [
        f"{stable.sum()} of {len(stable)} programs are stable: at least four fifths of {n_seeds} seeds have them. Of those that explain a "
        f"hundredth or more, {int((stable & large).sum())} of {int(large.sum())} are.",
        f"A program is found again where the correlation of gene effects with its match, one to one, is {found.least_match:g} or more.",
    ]
    if not stable.all():
        told.append(
            "Those that are not stable are marked; take them for one way among several to tell the rest."
        )
    return told


def on(found: ProgramResults) -> list[str]:
    """What it means that a program is on in a cell."""
    if found.spikes:
        return [
            "A program is on in a cell where its inclusion probability γ is ½ or more; on maps it is grey elsewhere."
        ]
    return [
        f"{found.model} has no spikes, so nothing is ever off: a program counts as on where its code is as far from 0 as its "
        "root mean square over the cells, or further. That share is set by the shape of the code, not learned."
    ]


def lead(found: ProgramResults) -> str:
    """The page in one sentence."""
    n_large = int(found.large.sum())
    named = found.programs.loc[found.large & (found.programs["name"] != "").to_numpy(), "name"]
    known = listed(list(dict.fromkeys(named)), 8)
    verb = "explains" if n_large == 1 else "explain"
    parts = [
        f"{found.n_active} of at most {found.n_latent} latents are live, {several(n_large, 'program')} {verb} a hundredth or more"
    ]
    if known:
        parts.append(f"among them {known}")
    return ", ".join(parts) + "."


def about(found: ProgramResults, row: pd.Series) -> list[str]:
    """A program in words."""
    told = [
        f"On in {row['share_on']:.1%} of the cells; explains {share(row['explained'])} of what the code explains."
    ]
    if "label" in row:
        told.append(
            f"Stands out most in {row['label']} (AUC {row['label_auc']:.3f}); on in {row['label_share']:.0%} of these cells."
        )
    if row["name"]:
        also = f", and of what is left as {row['also']} (FDR {rate(row['also_fdr'])})" if row["also"] else ""
        told.append(f"Named {row['name']} (FDR {rate(row['fdr'])}){also}.")
    elif found.sets_source:
        told.append("No gene set stands out among its first genes.")
    if found.stable is not None:
        word = "stable" if row["stable"] else "not stable"
        told.append(
            f"Found again in {row['n_found']} of {row['n_others']} other seeds, median match {row['median_match']:.2f}: {word}."
        )
    return told


def share(value: float) -> str:
    """A share in per cent, with the digits that it needs."""
    if not np.isfinite(value):
        return "–"
    return f"{value:.0%}" if value >= 0.095 else f"{value:.1%}"


def rate(value: float) -> str:
    """A false discovery rate as it is read."""
    if not np.isfinite(value):
        return "–"
    if value >= 0.001:
        return f"{value:.3f}"
    digit, exponent = f"{max(value, 1e-300):.0e}".split("e")
    return f"{digit}·10{_power(int(exponent))}"


def _power(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _were(n: int) -> str:
    return "was" if n == 1 else "were"


def _do(n: int) -> str:
    return "does" if n == 1 else "do"
