"""Checks of expression matrices: kind of values, shape, finite numbers. Every value is read, never a sample.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import sparse

from sparcell.data.values import Matrix, blocks, extreme, nonzero_per_cell, quoted, tabular, whole
from sparcell.errors import InputError, format_settings

if TYPE_CHECKING:
    pass

MatrixKind = Literal["counts", "log-normalized", "scaled", "other"]

MAX_LOGGED = 20.0
"""Largest value of log-normalized expression: log2(1 + 1e6), from log2 counts per million, is 19.9."""

SUM_TOLERANCE = 1e-3
"""Cells whose totals differ by a smaller fraction were scaled to one total."""

MAX_WHOLE_FRACTION = 0.25
"""Logged values are rarely whole. With a larger fraction of whole values above 0, the matrix holds counts, some with decimals."""

MAX_COUNT = 1e7
"""No cell has more molecules of one gene: a human cell holds below a million messenger RNAs in all."""

MIN_DROPLETS = 100
"""Number of barcodes from which on a matrix that is mostly empty is taken for that of all droplets."""

MIN_VALUES = 1000
"""Number of values above 0 from which on the most frequent value is not a matter of chance."""

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
    n_values, n_whole, low, high = 0, 0, 0.0, 0.0
    for block in blocks(x_ng):
        if block.size == 0:
            continue
        block_min, block_max = float(block.min()), float(block.max())
        if not (np.isfinite(block_min) and np.isfinite(block_max)):
            return "other"
        low, high = min(low, block_min), max(high, block_max)
        n_values += int(np.count_nonzero(block))
        n_whole += int(np.count_nonzero(block[whole(block)]))
    if low < 0:
        return "scaled"
    if n_whole == n_values:
        return "counts"
    if high > MAX_LOGGED or _one_total(x_ng) is not None:
        return "other"
    return "log-normalized" if n_whole <= MAX_WHOLE_FRACTION * n_values or _log2_of_counts(x_ng) else "other"


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
    kind = infer_matrix_kind(x_ng)
    if kind == expected:
        if kind == "counts" and (largest := extreme(x_ng, low=False)) > MAX_COUNT:
            raise InputError(
                f"{where} holds whole numbers up to {largest:.3g}; expected counts of molecules, which are at most {MAX_COUNT:.0e}: "
                "check the column or file that the value comes from."
            )
        most_frequent = _most_frequent_count(x_ng) if kind == "counts" else 1
        if most_frequent != 1:
            message = (
                f"{where} holds few different whole numbers, mostly 0, and more often {most_frequent} than 1, as rounded logged "
                f"values do. If the values are logged, {_give_counts(setting, None)}."
            )
            warnings.warn(message, UserWarning, stacklevel=2)
        return
    if kind == "other" and any(block.size and not np.isfinite(block).all() for block in blocks(x_ng)):
        raise InputError(f"{where} holds NaN or infinite values; expected {_DESCRIPTION[expected]}.")
    description, cause = _describe(x_ng, kind)
    raise InputError(
        f"{where} holds {description} (from {extreme(x_ng, low=True):g} to {extreme(x_ng, low=False):g}); "
        f"expected {_DESCRIPTION[expected]}: {_remedy(expected, cause, _give_counts(setting, find_counts, call))}."
    )


def _describe(x_ng: Matrix, kind: MatrixKind) -> tuple[str, str]:
    """Return a description of a matrix of the wrong kind, and one word for the cause, which chooses the remedy."""
    if kind == "scaled":
        negative = [(int((block < 0).sum()), bool(whole(block).all())) for block in blocks(x_ng)]
        if all(is_whole for _, is_whole in negative):
            n_negative = sum(number for number, _ in negative)
            return f"whole numbers, {n_negative} of them below 0", "negative"
    if kind == "other":
        total = _one_total(x_ng)
        if total is not None:
            per_million = ", counts per million" if abs(total / 1e6 - 1) < 0.01 else ""
            return (
                f"values normalized to a total of {total:g} in each cell{per_million}, not logged",
                "normalized",
            )
        if _multiples(x_ng):
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
    _check_finite(x_ng, where, gene_names, cell_names)
    if not allow_empty_cells:
        _check_no_empty_cells(x_ng, where, cell_names)


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


def _check_finite(x_ng: Matrix, where: str, genes: Sequence[str] | None, cells: Sequence[str] | None) -> None:
    matrix = tabular(x_ng)
    n_bad, start, first = 0, 0, -1
    for block in blocks(matrix):
        if block.dtype.kind == "f":
            bad = ~np.isfinite(block)
            if first < 0 and bad.any():
                first = start + int(bad.argmax())
            n_bad += int(bad.sum())
        start += block.size
    if first < 0:
        return
    if sparse.issparse(matrix):
        entries = matrix.tocoo()  # keeps the order of the data vector
        row, column, value = int(entries.row[first]), int(entries.col[first]), float(entries.data[first])
    else:
        row, column = divmod(first, int(matrix.shape[1]))
        value = float(matrix[row, column])
    raise InputError(
        f"{where} holds {n_bad} missing or infinite value(s), the first {value} in cell "
        f"{quoted(cells, row)}, gene {quoted(genes, column)}; expected finite numbers: "
        "put 0 where nothing was counted, or remove those cells or genes."
    )


def _check_no_empty_cells(x_ng: Matrix, where: str, cells: Sequence[str] | None) -> None:
    empty_n = nonzero_per_cell(x_ng) == 0
    n_empty = int(empty_n.sum())
    if len(empty_n) >= MIN_DROPLETS and 2 * n_empty >= len(empty_n):
        raise InputError(
            f"{where} has {n_empty} of {len(empty_n)} barcodes without a count. This looks like the unfiltered matrix of all droplets; "
            "give the filtered one, such as filtered_feature_bc_matrix.h5."
        )
    if n_empty:
        first = quoted(cells, int(empty_n.argmax()))
        raise InputError(
            f"{where} has {n_empty} cell(s) without a single count, the first {first}; expected at least one "
            "count in each: remove such cells. In Python: sp.pp.quality_control(adata) or "
            "scanpy.pp.filter_cells(adata, min_counts=1). In a shell: sparcell study removes them and writes study.h5ad."
        )


def _one_total(x_ng: Matrix) -> float | None:
    """Return the total that all cells with any value have, as after normalization without logarithm; None if totals differ."""
    totals_n = np.asarray(tabular(x_ng).sum(axis=1), dtype=np.float64).ravel()
    totals_n = totals_n[totals_n > 0]
    # Totals of two cells may agree by chance, those of three do not.
    equal = len(totals_n) >= 3 and float(np.ptp(totals_n)) <= SUM_TOLERANCE * float(totals_n.max())
    return float(np.median(totals_n)) if equal else None


def _multiples(x_ng: Matrix) -> bool:
    """Return whether in 90 % of the cells all values are multiples of the smallest one, as in counts divided by a size factor."""
    rows = sparse.csr_matrix(tabular(x_ng))
    rows.eliminate_zeros()
    several = [row for row in np.split(rows.data, rows.indptr[1:-1]) if len(row) > 1]
    scaled = sum(bool(whole(row.astype(np.float64) / row.min()).all()) for row in several)
    return len(several) > 0 and scaled >= 0.9 * len(several)


def _log2_of_counts(x_ng: Matrix) -> bool:
    """Return whether all values are log2(1 + count); many such values are whole."""
    return all(bool(whole(np.exp2(block.astype(np.float64)) - 1).all()) for block in blocks(x_ng))


def _most_frequent_count(x_ng: Matrix) -> int:
    """Return the most frequent count above 0; 1 if values are few, above 20 or mostly not 0.

    Among counts that are mostly 0, 1 is the most frequent. Rounded logged values have another.
    """
    frequency = np.zeros(int(MAX_LOGGED) + 1, dtype=np.int64)
    for block in blocks(x_ng):
        if block.size and float(block.max()) > MAX_LOGGED:
            return 1
        frequency += np.bincount(np.rint(block).astype(np.int64).ravel(), minlength=len(frequency))
    n_values = int(frequency[1:].sum())
    if n_values < MIN_VALUES or 2 * n_values > int(x_ng.shape[0]) * int(x_ng.shape[1]):
        return 1
    return int(frequency[1:].argmax()) + 1
