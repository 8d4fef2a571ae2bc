"""Checks of expression matrices: kind of values, shape, finite numbers. Every value is read, never a sample.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from sparcell.data.facts import MatrixKind, facts_of, first_rows, is_whole
from sparcell.errors import InputError, format_settings

if TYPE_CHECKING:
    from sparcell.data.blocks import Matrix
    from sparcell.data.facts import MatrixFacts

MAX_COUNT = 1e7
"""No cell has more molecules of one gene: a human cell holds below a million messenger RNAs in all."""

MIN_DROPLETS = 100
"""Number of barcodes from which on a matrix that is mostly empty is taken for that of all droplets."""

_DESCRIPTION: dict[MatrixKind, str] = {
    "counts": "counts (whole numbers ≥ 0)",
    "log-normalized": "log-normalized values",
    "scaled": "values below 0, as in scaled (z-scored) data",
    "other": "values with decimals, not logged",
}
_ROUND = "if these are counts with decimals (ambient RNA removed, expected counts), round them: adata.X = numpy.rint(adata.X)"


def infer_matrix_kind(x_ng: Matrix) -> MatrixKind:
    """Return the kind of expression values that a matrix holds.

    Parameters
    ----------
    x_ng
        Cells × genes, dense or any scipy sparse format, finite and numeric (see `check_matrix`).

    Returns
    -------
    "counts"
        All values are whole numbers ≥ 0. Float32 rounding after a logarithm and back is allowed for. A matrix of
        zeros holds counts.
    "log-normalized"
        All values are ≥ 0 and at most `MAX_LOGGED`, few are whole, and cell totals differ.
    "scaled"
        Some value is below 0.
    "other"
        All else: normalized values that are not logged (large values, or one total for all cells), and counts of
        which some have decimals. A matrix with NaN or infinite values is also "other".
    """
    return facts_of(x_ng).kind


def require_kind(
    x_ng: Matrix,
    expected: MatrixKind,
    where: str,
    *,
    setting: str | None = "layer",
    find_counts: Callable[[], list[str]] | None = None,
    call: str = "{}",
) -> None:
    """Raise unless the matrix holds the expected kind of values.

    Warns if counts are expected and the matrix holds whole numbers that look like rounded logged values.

    Parameters
    ----------
    x_ng
        Cells × genes, dense or sparse.
    expected
        The kind that a step needs, as `infer_matrix_kind` names it.
    where
        Name of the matrix in messages: "X" or "layers['counts']".
    setting
        Name of the setting that chooses another layer, for the message. None for a step that reads X only.
    find_counts
        Returns the names of the layers that hold counts, such as "raw". Called only for the message.
    call
        Call that the setting belongs to, as in "model.for_data(adata, {})", for the message.

    Raises
    ------
    InputError
        The message names the kind that the matrix holds, the expected kind, and what to type.
    """
    facts = facts_of(x_ng)
    kind = facts.kind
    if kind == expected:
        if kind == "counts":
            _check_counts(facts, where, setting)
        return
    if facts.n_bad:
        raise InputError(f"{where} holds NaN or infinite values; expected {_DESCRIPTION[expected]}.")
    description, cause = _describe(x_ng, facts)
    raise InputError(
        f"{where} holds {description} (from {facts.low:g} to {facts.high:g}); "
        f"expected {_DESCRIPTION[expected]}: {_remedy(expected, cause, _give_counts(setting, find_counts, call))}."
    )


def _check_counts(facts: MatrixFacts, where: str, setting: str | None) -> None:
    """Raise for numbers that no cell has of one gene; warn if the most frequent count is not 1."""
    if facts.high > MAX_COUNT:
        raise InputError(
            f"{where} holds whole numbers up to {facts.high:.3g}; expected counts of molecules, which are at most {MAX_COUNT:.0e}: "
            "check the column or file that the value comes from."
        )
    most_frequent = facts.most_frequent_count
    if most_frequent != 1:
        message = (
            f"{where} holds few different whole numbers, mostly 0, and more often {most_frequent} than 1, as rounded logged "
            f"values do. If the values are logged, {_give_counts(setting, None)}."
        )
        warnings.warn(message, UserWarning, stacklevel=3)


def _describe(x_ng: Matrix, facts: MatrixFacts) -> tuple[str, str]:
    """Return a description of a matrix of the wrong kind, and one word for the cause, which chooses the remedy."""
    kind = facts.kind
    if kind == "scaled" and facts.n_whole == facts.n_values:
        return f"whole numbers, {facts.n_negative} of them below 0", "negative"
    if kind == "other":
        total = facts.one_total
        if total is not None:
            per_million = ", counts per million" if abs(total / 1e6 - 1) < 0.01 else ""
            return (
                f"values normalized to a total of {total:g} in each cell{per_million}, not logged",
                "normalized",
            )
        if _multiples(first_rows(x_ng)):
            return "normalized values, not logged (in each cell multiples of one number)", "normalized"
    return _DESCRIPTION[kind], kind


def _remedy(expected: MatrixKind, cause: str, give: str) -> str:
    """Return what to type, in Python and in a shell; `give` says how to give counts."""
    if expected == "counts":
        negative = (
            "counts cannot be below 0, so something was subtracted, or negative values mark missing ones"
        )
        return {"other": f"{give}; {_ROUND}", "negative": f"{negative}: {give}"}.get(cause, give)
    if expected == "log-normalized":
        or_counts = f"or {give}, which are then log-normalized"
        return {
            "counts": f"log-normalize the counts with {format_settings(log_normalize=True)}",
            "scaled": f"name the layer that holds the values before scaling, {or_counts}",
            "negative": f"name the layer that holds the values before the subtraction, {or_counts}",
            "normalized": f"take the logarithm, in Python scanpy.pp.log1p(adata), {or_counts}",
        }.get(cause, f"{give}, which are then log-normalized; {_ROUND}")
    return "give another layer, or compute this one with scanpy.pp"


def _give_counts(setting: str | None, find_counts: Callable[[], list[str]] | None, call: str = "{}") -> str:
    """Return how to give the raw counts: from where they are, or from where they usually are."""
    found = [] if find_counts is None else find_counts()
    if setting is None:
        if found == ["raw"]:
            return "take the raw counts, which raw holds: adata = adata.raw.to_adata()"
        name = found[0] if found else "counts"
        return f"put the raw counts into X, as in adata.X = adata.layers[{name!r}]"
    if found:
        python = call.format(f"{setting}={found[0]!r}")
        return f"give the raw counts, which {' and '.join(found)} holds: {python} (in a shell: --{setting.replace('_', '-')} {found[0]})"
    if find_counts is not None:
        return "give the raw counts, which neither X nor a layer nor raw holds: read the file that has them, or put them into X"
    return f"give the raw counts: put them into X or name their layer, as in {format_settings(**{setting: 'counts'})}"


def check_matrix(
    x_ng: Matrix,
    where: str,
    *,
    gene_names: Sequence[str] | None = None,
    cell_names: Sequence[str] | None = None,
    allow_empty_cells: bool = True,
) -> None:
    """Raise unless the matrix is two-dimensional, has cells and genes, and holds only finite numbers.

    Genes without a count are always allowed, because a model may know more genes than these cells express.
    Cells without a count are allowed before quality control. For a model they are an error, because a library
    size of 0 cannot be divided by.

    Parameters
    ----------
    x_ng
        Cells × genes, dense or any scipy sparse format.
    where
        Name of the matrix in messages: "X", "layers['counts']" or a file name.
    gene_names, cell_names
        Lengths g and n. Messages then name the first bad gene and cell, otherwise their numbers.
    allow_empty_cells
        False for the matrix of a model.

    Raises
    ------
    InputError
        The message names the fault, the first cell and gene that have the fault, and the number of bad values.
    """
    shape = getattr(x_ng, "shape", None)
    if shape is None or len(shape) != 2:
        fault = f"has {len(shape)} dimensions" if shape is not None else f"is a {type(x_ng).__name__}"
        raise InputError(f"{where} {fault}; expected a matrix of cells × genes.")
    n_cells, n_genes = int(shape[0]), int(shape[1])
    if n_cells == 0 or n_genes == 0:
        raise InputError(
            f"{where} is empty: {n_cells} cells × {n_genes} genes; expected at least one of each."
        )
    if np.dtype(x_ng.dtype).kind not in "biuf":
        raise InputError(f"{where} holds values of type {x_ng.dtype}; expected real numbers.")
    check_structure(x_ng, where)
    facts = facts_of(x_ng)
    if facts.first_bad is not None:
        row, column, value = facts.first_bad
        raise InputError(
            f"{where} holds {facts.n_bad} missing or infinite value(s), the first {value} in cell "
            f"{_quoted(cell_names, row)}, gene {_quoted(gene_names, column)}; expected finite numbers: "
            "put 0 where nothing was counted, or remove those cells or genes."
        )
    if not allow_empty_cells:
        _check_no_empty_cells(facts, where, cell_names)


def check_structure(x_ng: Matrix, where: str) -> None:
    """Raise for damaged index arrays, which would make scipy's compiled code read outside of its arrays."""
    if sparse.issparse(x_ng) and x_ng.format in ("csr", "csc"):
        try:
            x_ng.check_format(full_check=True)
        except ValueError as error:
            raise InputError(
                f"{where} is a damaged sparse matrix ({error}); expected indices within {x_ng.shape[0]} cells × "
                f"{x_ng.shape[1]} genes: read or compute the matrix again."
            ) from error


def _check_no_empty_cells(facts: MatrixFacts, where: str, cells: Sequence[str] | None) -> None:
    empty_n = facts.non_zero_n == 0
    n_empty = int(empty_n.sum())
    if len(empty_n) >= MIN_DROPLETS and 2 * n_empty >= len(empty_n):
        raise InputError(
            f"{where} has {n_empty} of {len(empty_n)} barcodes without a count. This looks like the unfiltered matrix of all droplets; "
            "give the filtered one, such as filtered_feature_bc_matrix.h5."
        )
    if n_empty:
        first = _quoted(cells, int(empty_n.argmax()))
        raise InputError(
            f"{where} has {n_empty} cell(s) without a single count, the first {first}; expected at least one "
            "count in each: remove such cells. In Python: sp.pp.quality_control(adata) or "
            "scanpy.pp.filter_cells(adata, min_counts=1). In a shell: sparcell study removes them and writes study.h5ad."
        )


def _multiples(x_ng: sparse.csr_matrix) -> bool:
    """Return whether in 90 % of the cells all values are multiples of the smallest one, as in counts divided by a size factor."""
    rows = x_ng.copy()
    rows.eliminate_zeros()
    several = [row for row in np.split(rows.data, rows.indptr[1:-1]) if len(row) > 1]
    scaled = sum(bool(is_whole(row.astype(np.float64) / row.min()).all()) for row in several)
    return len(several) > 0 and scaled >= 0.9 * len(several)


def _quoted(names: Sequence[str] | None, index: int) -> str:
    return repr(str(names[index])) if names is not None else f"number {index + 1}"
