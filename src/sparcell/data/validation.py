"""Is this matrix what a step needs? Arrays in, verdicts out; every value is looked at, never a sample.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from scipy import sparse

from sparcell.errors import InputError, as_typed

if TYPE_CHECKING:
    from numpy.typing import NDArray

Matrix: TypeAlias = Any
"""A numpy array or any scipy sparse matrix or array (scipy ships no types)."""

MatrixKind = Literal["counts", "log-normalized", "scaled", "other"]

LOG_CEILING = 20.0
"""No logged expression lies above: log2(1 + 1e6), the largest value of log2 counts per million, is 19.9."""

SUM_TOLERANCE = 1e-3
"""Relative spread of the cell totals under which the cells were plainly scaled to one total."""

BLOCK_VALUES = 1 << 22
"""Dense matrices are read this many values at a time: the checks need no second copy of the matrix."""

ROUNDING, MOST_OFF = 1e-4, 0.1
"""How far a count may lie from its whole number, relative and at most: float32 counts that went through a logarithm and back do."""

MANY_WHOLE = 0.25
"""Logged values are whole by chance only: with a larger share of whole ones among those above 0, they are counts, some with decimals."""

ENOUGH_VALUES = 1000
"""From so many values above 0 on, a commonest one that is not 1 is no chance."""

_DESCRIPTION: dict[MatrixKind, str] = {
    "counts": "counts (whole numbers ≥ 0)",
    "log-normalized": "log-normalised values",
    "scaled": "values below 0, as scaled (z-scored) data have",
    "other": "values with decimals, not logged",
}
_ROUND = "if these are counts with decimals (ambient RNA removed, expected counts), round them, adata.X = numpy.rint(adata.X)"


def infer_matrix_kind(x_ng: Matrix) -> MatrixKind:
    """Tell what kind of expression values a matrix holds.

    Parameters
    ----------
    x_ng
        Cells × genes, dense or any scipy sparse format, finite and numeric (see `check_matrix`).

    Returns
    -------
    "counts"
        All values are whole numbers ≥ 0 (so also a matrix of zeros), but for the rounding that a logarithm and
        back leaves in float32.
    "log-normalized"
        ≥ 0, with decimals, none above `LOG_CEILING`, cell totals that differ, few whole numbers.
    "scaled"
        Some value is below 0.
    "other"
        The rest: normalised but not logged (large values, or all cells with one total), counts of which some
        have decimals. A matrix with NaN or infinite values is also "other".
    """
    n_values, n_whole, low, high = 0, 0, 0.0, 0.0
    for block in _blocks(x_ng):
        if block.size == 0:
            continue
        least, most = float(block.min()), float(block.max())
        if not (np.isfinite(least) and np.isfinite(most)):
            return "other"
        low, high = min(low, least), max(high, most)
        n_values += int(np.count_nonzero(block))
        n_whole += int(np.count_nonzero(block[_whole(block)]))
    if low < 0:
        return "scaled"
    if n_whole == n_values:
        return "counts"
    if high > LOG_CEILING or _one_total(x_ng) is not None:
        return "other"
    return "log-normalized" if n_whole <= MANY_WHOLE * n_values or _log2_of_counts(x_ng) else "other"


def require_kind(x_ng: Matrix, expected: MatrixKind, where: str, *, setting: str = "layer") -> None:
    """Raise unless the matrix holds the expected kind of values.

    Warns where counts are expected and found, but look like logged values that were rounded.

    Parameters
    ----------
    x_ng
        Cells × genes, dense or sparse.
    expected
        The kind a step needs, as `matrix_kind` names it.
    where
        How the user calls the matrix: "X" or "layers['counts']".
    setting
        The setting by which the user can name another layer.

    Raises
    ------
    InputError
        With the kind found, the kind expected and the remedy.
    """
    found = infer_matrix_kind(x_ng)
    if found == expected:
        common = _commonest_of_few(x_ng) if found == "counts" else 1
        if common != 1:
            message = (
                f"{where} holds few different whole numbers, most of them 0, and after that {common} is commoner than 1: they look "
                f"like logged values that were rounded. If they are, {_give_counts(setting)}."
            )
            warnings.warn(message, UserWarning, stacklevel=2)
        return
    if found == "other" and any(block.size and not np.isfinite(block).all() for block in _blocks(x_ng)):
        raise InputError(f"{where} holds NaN or infinite values; expected {_DESCRIPTION[expected]}.")
    description, cause = _described(x_ng, found)
    raise InputError(
        f"{where} holds {description} (from {_extreme(x_ng, low=True):g} to {_extreme(x_ng, low=False):g}); "
        f"expected {_DESCRIPTION[expected]}: {_remedy(expected, cause, setting)}."
    )


def _described(x_ng: Matrix, found: MatrixKind) -> tuple[str, str]:
    """Say what a matrix of the wrong kind holds, and in one word what is wrong with it."""
    if found == "scaled":
        negative = [(int((block < 0).sum()), bool(_whole(block).all())) for block in _blocks(x_ng)]
        if all(whole for _, whole in negative):
            n_below = sum(number for number, _ in negative)
            return f"whole numbers of which {n_below} lie below 0", "negative"
    if found == "other":
        total = _one_total(x_ng)
        if total is not None:
            known = ", counts per million" if abs(total / 1e6 - 1) < 0.01 else ""
            return f"values normalised to a total of {total:g} in each cell{known}, not logged", "normalised"
        if _multiples(x_ng):
            return "normalised values, not logged (in each cell multiples of one number)", "normalised"
    return _DESCRIPTION[found], found


def _remedy(expected: MatrixKind, cause: str, setting: str) -> str:
    """Say what to type, in Python and in a shell."""
    give = _give_counts(setting)
    if expected == "counts":
        below = "counts cannot be below 0, so something was subtracted from them or marks missing values"
        return {"other": f"{give}; {_ROUND}", "negative": f"{below}: {give}"}.get(cause, give)
    if expected == "log-normalized":
        from_counts = f"or {give}, which are then normalised"
        return {
            "counts": f"have them normalised with {as_typed(log_normalize=True)}",
            "scaled": f"name the layer that holds the values before scaling, {from_counts}",
            "negative": f"name the layer that holds the values before something was subtracted, {from_counts}",
            "normalised": f"take the logarithm, in Python scanpy.pp.log1p(adata), {from_counts}",
        }.get(cause, f"{give}, which are then normalised; {_ROUND}")
    return "give another layer, or make it with scanpy.pp"


def _give_counts(setting: str) -> str:
    return (
        f"give the raw counts: put them into X or name their layer, as in {as_typed(**{setting: 'counts'})}"
    )


def check_matrix(
    x_ng: Matrix,
    where: str,
    *,
    gene_names: Sequence[str] | None = None,
    cell_names: Sequence[str] | None = None,
    allow_empty_cells: bool = True,
) -> None:
    """Raise unless the matrix is two-dimensional, has cells and genes, and holds finite numbers only.

    Genes without a count are always allowed: a model's gene list may be wider than the data at hand.
    Cells without a count are allowed before quality control and are an error for a model: they have no
    library size.

    Parameters
    ----------
    x_ng
        Cells × genes, dense or any scipy sparse format.
    where
        How the user calls the matrix: "X", "layers['counts']" or a file name.
    gene_names, cell_names
        Lengths g and n: used to name the first offender; without them its number is given.
    allow_empty_cells
        False for a matrix that goes to a model.

    Raises
    ------
    InputError
        Naming what is wrong, the first gene and cell where it is, and how many values are.
    """
    shape = getattr(x_ng, "shape", None)
    if shape is None or len(shape) != 2:
        found = f"has {len(shape)} dimensions" if shape is not None else f"is a {type(x_ng).__name__}"
        raise InputError(f"{where} {found}; expected a matrix of cells × genes.")
    n_cells, n_genes = int(shape[0]), int(shape[1])
    if n_cells == 0 or n_genes == 0:
        raise InputError(
            f"{where} is empty: {n_cells} cells × {n_genes} genes; expected at least one of each."
        )
    if np.dtype(x_ng.dtype).kind not in "biuf":
        raise InputError(f"{where} holds values of type {x_ng.dtype}; expected real numbers.")
    _check_structure(x_ng, where)
    _check_finite(x_ng, where, gene_names, cell_names)
    if not allow_empty_cells:
        _check_no_empty_cells(x_ng, where, cell_names)


def _check_structure(x_ng: Matrix, where: str) -> None:
    """Damaged index arrays make scipy's compiled code read outside of them: never compute on such a matrix."""
    if sparse.issparse(x_ng) and x_ng.format in ("csr", "csc"):
        try:
            x_ng.check_format(full_check=True)
        except ValueError as error:
            raise InputError(
                f"{where} is a damaged sparse matrix ({error}); expected indices within {x_ng.shape[0]} cells × "
                f"{x_ng.shape[1]} genes: read or make it again."
            ) from error


def _check_finite(x_ng: Matrix, where: str, genes: Sequence[str] | None, cells: Sequence[str] | None) -> None:
    matrix = _tabular(x_ng)
    n_bad, start, first = 0, 0, -1
    for block in _blocks(matrix):
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
        f"{_name(cells, row)}, gene {_name(genes, column)}; expected finite numbers: "
        "put 0 where nothing was counted, or leave those cells or genes out."
    )


def _check_no_empty_cells(x_ng: Matrix, where: str, cells: Sequence[str] | None) -> None:
    empty_n = _nonzero_per_cell(x_ng) == 0
    n_empty = int(empty_n.sum())
    if n_empty:
        first = _name(cells, int(empty_n.argmax()))
        raise InputError(
            f"{where} has {n_empty} cell(s) without a single count, the first {first}; expected at least one "
            "count in each: leave such cells out, in Python with sp.pp.quality_control(adata) or "
            "scanpy.pp.filter_cells(adata, min_counts=1); in a shell, sparcell study does and writes study.h5ad."
        )


def _nonzero_per_cell(x_ng: Matrix) -> NDArray[np.int64]:
    matrix = _tabular(x_ng)
    if sparse.issparse(matrix):
        rows = matrix.tocoo()
        return np.bincount(rows.row[rows.data != 0], minlength=matrix.shape[0])
    return np.concatenate([np.count_nonzero(block, axis=1) for block in _blocks(matrix)])


def _whole(block: NDArray[Any]) -> NDArray[np.bool_]:
    """Which values are whole numbers, up to rounding; nothing but 0 counts as 0."""
    if block.dtype.kind in "biu":
        return np.ones(block.shape, dtype=bool)
    near = np.rint(block)
    whole: NDArray[np.bool_] = block == near
    if not whole.all():
        whole = np.abs(block - near) <= np.minimum(ROUNDING * np.abs(near), MOST_OFF)
    return whole


def _one_total(x_ng: Matrix) -> float | None:
    """Give the total that all cells with any value have, as after normalisation without logarithm; None where they differ."""
    totals_n = np.asarray(_tabular(x_ng).sum(axis=1), dtype=np.float64).ravel()
    totals_n = totals_n[totals_n > 0]
    # Two cells may agree by chance; three with the same decimals do not.
    alike = len(totals_n) >= 3 and float(np.ptp(totals_n)) <= SUM_TOLERANCE * float(totals_n.max())
    return float(np.median(totals_n)) if alike else None


def _multiples(x_ng: Matrix) -> bool:
    """Whether in nine of ten cells all values are whole multiples of the smallest: counts divided by a size of the cell."""
    rows = sparse.csr_matrix(_tabular(x_ng))
    rows.eliminate_zeros()
    several = [row for row in np.split(rows.data, rows.indptr[1:-1]) if len(row) > 1]
    scaled = sum(bool(_whole(row.astype(np.float64) / row.min()).all()) for row in several)
    return len(several) > 0 and scaled >= 0.9 * len(several)


def _log2_of_counts(x_ng: Matrix) -> bool:
    """Whether the values are log2(1 + count): many of those are whole."""
    return all(bool(_whole(np.exp2(block.astype(np.float64)) - 1).all()) for block in _blocks(x_ng))


def _commonest_of_few(x_ng: Matrix) -> int:
    """Give the commonest count above 0: 1 among counts that are mostly 0, unless they are logged values that were rounded."""
    number_of = np.zeros(int(LOG_CEILING) + 1, dtype=np.int64)
    for block in _blocks(x_ng):
        if block.size and float(block.max()) > LOG_CEILING:
            return 1
        number_of += np.bincount(np.rint(block).astype(np.int64).ravel(), minlength=len(number_of))
    n_values = int(number_of[1:].sum())
    if n_values < ENOUGH_VALUES or 2 * n_values > int(x_ng.shape[0]) * int(x_ng.shape[1]):
        return 1
    return int(number_of[1:].argmax()) + 1


def _extreme(x_ng: Matrix, *, low: bool) -> float:
    values = [float(block.min() if low else block.max()) for block in _blocks(x_ng) if block.size]
    if sparse.issparse(x_ng) or not values:
        values.append(0.0)
    return min(values) if low else max(values)


def _tabular(x_ng: Matrix) -> Matrix:
    """Give an array, or a CSR/CSC matrix in which each position stands once (repeated ones add up)."""
    if not sparse.issparse(x_ng):
        return np.asarray(x_ng)
    matrix = x_ng if x_ng.format in ("csr", "csc") else x_ng.tocsr()
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    return matrix


def _blocks(x_ng: Matrix) -> Iterator[NDArray[Any]]:
    """Walk over the stored values: row blocks of an array, or the data vector of a sparse matrix."""
    matrix = _tabular(x_ng)
    if sparse.issparse(matrix):
        for start in range(0, len(matrix.data), BLOCK_VALUES):
            yield matrix.data[start : start + BLOCK_VALUES]
        return
    step = max(1, BLOCK_VALUES // max(1, matrix.shape[1]))
    for start in range(0, matrix.shape[0], step):
        yield matrix[start : start + step]


def _name(names: Sequence[str] | None, index: int) -> str:
    return repr(str(names[index])) if names is not None else f"number {index + 1}"
