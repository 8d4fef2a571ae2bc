"""Reading text tables (CSV, TSV and similar, also gzipped). Errors name the row and the column.

Suffixes: r rows, c columns. `genes_in_rows` decides which of the two are genes.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import re
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.errors import InputError

if TYPE_CHECKING:
    from sparcell.data.blocks import Matrix

Orientation = Literal["auto", "cells-by-genes", "genes-by-cells"]

PARSER_ERRORS = (ValueError, OSError, EOFError, zlib.error, csv.Error, OverflowError)
"""What pandas, gzip and csv raise for damaged text. Their parser and decoding errors are ValueErrors."""

CHUNK_VALUES = 1 << 22
"""Approximate number of values read at a time, so that memory holds the counts and not the text."""

BARCODE_PATTERN = re.compile(r"(?:^|[^A-Za-z])[ACGTN]{8,}(?:[-._]\w+)*$")
"""10x or Drop-seq barcodes, with prefix or suffix: AAACATACAACCAC-1, ctrl_AAACATTGAGCTAC.1."""

GENE_PATTERN = re.compile(
    r"^(?:ENS[A-Z]*G\d{6,}(?:\.\d+)?|MT-\w+|RP[SL]\d+[A-Z]?|LINC\d+|\w+RIK|GM\d+|HLA-\w+|ACTB|GAPDH|MALAT1|B2M|CD\d+[A-Z]?"
    r"|EEF1A1|TMSB4X|FTH1|FTL|CALM1|HSP90AB1|UBC|VIM)$",
    re.IGNORECASE,
)
"""Names of human and mouse genes that no cell has. Any count matrix holds some of them."""

GENE_HEADERS = {
    "gene",
    "genes",
    "symbol",
    "gene_symbol",
    "gene_name",
    "gene_id",
    "geneid",
    "feature",
    "features",
}
CELL_HEADERS = {"cell", "cells", "barcode", "barcodes", "cell_id", "cellid", "cell_barcode", "index_cell"}
"""Headers, in lower case, of the first column if it holds gene names or cell names."""

MAX_FLOAT32 = float(np.finfo(np.float32).max)


MIN_NUMBERED_NAMES = 20
"""More different numbers than this are names: a row of so many counts repeats some."""


@dataclass(frozen=True)
class NumberTable:
    """A table of numbers, with names of rows and columns."""

    values_rc: Matrix
    """CSR float32."""
    rows: list[str]
    columns: list[str]
    corner: str
    """Header of the first column, which holds the row names; "" if there is none."""


def read_strings(path: Path) -> pd.DataFrame:
    """Return a table as strings and missing values, with the header as column names, which may repeat.

    Raises InputError if the file is empty or damaged, or if rows differ in length.
    """
    try:
        with _open(path) as handle:
            header, separator = _header(handle, path)
            frame = pd.read_csv(handle, sep=separator, header=None, dtype=str, skipinitialspace=True)
    except pd.errors.EmptyDataError as error:
        raise InputError(f"{path} has a header and no rows; expected one row for each cell.") from error
    except PARSER_ERRORS as error:
        raise _unreadable(path, error) from error
    frame.columns = pd.Index(_fit_header(header, frame.shape[1], path), dtype=object)
    return frame


def read_numbers(path: Path) -> NumberTable:
    """Return a table of numbers that has a header and a first column of names.

    Raises InputError if the file is empty or damaged, has no names, rows differ in length, or a value is not a finite
    number. The message names the row, the column and the value.
    """
    blocks: list[Matrix] = []
    rows: list[str] = []
    columns: list[str] = []
    corner = ""
    try:
        with _open(path) as handle:
            header, separator = _header(handle, path)
            _require_names(header, path)
            chunks = pd.read_csv(
                handle,
                sep=separator,
                header=None,
                converters={0: str},  # a gene may be called NA
                low_memory=False,
                skipinitialspace=True,
                chunksize=max(1, CHUNK_VALUES // len(header)),
            )
            for chunk in chunks:
                if not blocks:
                    corner, *columns = _fit_header(header, chunk.shape[1], path)
                names = [str(name) for name in chunk.iloc[:, 0]]
                blocks.append(_numbers(chunk.iloc[:, 1:], names, columns, path))
                rows.extend(names)
    except pd.errors.EmptyDataError as error:
        raise InputError(f"{path} has a header and no rows; expected a matrix of cells and genes.") from error
    except InputError:
        raise
    except PARSER_ERRORS as error:
        raise _unreadable(path, error) from error
    if not blocks:
        raise InputError(f"{path} has a header and no rows; expected a matrix of cells and genes.")
    _check_row_names(rows, path)
    return NumberTable(sparse.vstack(blocks, format="csr"), rows, columns, corner)


def genes_in_rows(table: NumberTable, orientation: Orientation) -> tuple[bool, str]:
    """Return whether the rows of a table are genes, and the reason in words.

    The first rule that applies decides: the orientation if it is not "auto"; the side with names like barcodes holds
    cells; the side with names of human or mouse genes holds genes; the header of the first column; the longer side
    holds genes; rows of a square table are cells.
    """
    if orientation != "auto":
        return orientation == "genes-by-cells", f"orientation is {orientation!r}"
    barcodes = (
        _matching_fraction(BARCODE_PATTERN, table.rows),
        _matching_fraction(BARCODE_PATTERN, table.columns),
    )
    if max(barcodes) >= 0.5 and min(barcodes) < 0.5:
        return barcodes[1] > barcodes[0], "barcodes " + (
            "in the header" if barcodes[1] >= 0.5 else "in the rows"
        )
    genes = _matching_fraction(GENE_PATTERN, table.rows), _matching_fraction(GENE_PATTERN, table.columns)
    if max(genes) > 0 and min(genes) == 0:
        return genes[0] > 0, "gene names " + ("in the rows" if genes[0] > 0 else "in the header")
    corner = table.corner.strip().lower()
    if corner in GENE_HEADERS | CELL_HEADERS:
        return corner in GENE_HEADERS, f"the first column is called {table.corner!r}"
    if len(table.rows) == len(table.columns):
        return False, "names do not show which side is genes, and the table is square"
    return len(table.rows) > len(table.columns), "the longer side is genes"


def _matching_fraction(pattern: re.Pattern[str], names: Sequence[str]) -> float:
    return sum(bool(pattern.search(name)) for name in names) / max(1, len(names))


def _open(path: Path) -> TextIO:
    with path.open("rb") as raw:
        is_gzip = raw.read(2) == b"\x1f\x8b"
    if is_gzip:
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open("r", encoding="utf-8-sig", newline="")


def _header(handle: TextIO, path: Path) -> tuple[list[str], str]:
    """Return the fields of the first line that is not blank, and the separator: the most frequent candidate in that line."""
    line = ""
    while not line.strip():
        line = handle.readline()
        if not line:
            raise InputError(f"{path} is empty; expected a header, then one row for each cell or gene.")
    by_suffix = "\t" if {".tsv", ".txt", ".tab"} & {suffix.lower() for suffix in path.suffixes} else ","
    separator = max((by_suffix, ",", "\t", ";"), key=line.count)
    if line.count(separator) == 0 and len(line.split()) > 1:
        return [field.strip('"') for field in line.split()], r"\s+"
    return next(csv.reader([line.rstrip("\r\n")], delimiter=separator)), separator


def _require_names(header: list[str], path: Path) -> None:
    """Raise InputError if the header is a row of counts; warn if it may be one."""
    names = header[1:] or header
    if not all(_is_number(name) for name in names):
        return
    shown = ", ".join(header[:4])
    if len(set(names)) < len(names):
        raise InputError(
            f"{path} begins with a row of numbers ({shown}, …); expected a header of names, "
            "and a name at the beginning of each row."
        )
    if not _may_be_names(names):
        warnings.warn(
            f"{path}: the header looks like data ({shown}, …) and is read as names. If the table has no header, add one.",
            UserWarning,
            stacklevel=4,
        )


def _check_row_names(rows: list[str], path: Path) -> None:
    """Warn if the first column looks like data: numbers that repeat or have decimals."""
    if not all(_is_number(name) for name in rows) or _may_be_names(rows):
        return
    warnings.warn(
        f"{path}: the first column looks like data ({', '.join(rows[:4])}, …) and is read as names. If the rows have no names, add a "
        "first column with them.",
        UserWarning,
        stacklevel=4,
    )


def _may_be_names(numbers: Sequence[str]) -> bool:
    """Return whether numbers can be names: different whole numbers, consecutive (as pandas writes) or many (as Entrez gene IDs)."""
    values = [float(number) for number in numbers]
    if len(set(values)) < len(values) or not all(value.is_integer() for value in values):
        return False
    consecutive = all(b - a == 1 for a, b in itertools.pairwise(values))
    return consecutive or (len(values) > MIN_NUMBERED_NAMES and min(values) >= 1)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _fit_header(header: list[str], n_columns: int, path: Path) -> list[str]:
    """Return the header with one name for each column. R's write.table leaves out the header of the first column."""
    if len(header) == n_columns - 1:
        header = ["", *header]
    if len(header) != n_columns:
        raise InputError(
            f"{path} has {len(header)} names in its header and {n_columns} fields in its first row; expected "
            "equal numbers, or one name less: check the separator."
        )
    return header


def _numbers(chunk: pd.DataFrame, rows: list[str], columns: list[str], path: Path) -> Matrix:
    if not columns:
        raise InputError(
            f"{path} has only one column; expected names and numbers separated by comma, tab or semicolon."
        )
    text_columns = [i for i, dtype in enumerate(chunk.dtypes) if dtype.kind not in "iuf"]
    if text_columns:
        chunk = chunk.copy()
    for i in text_columns:
        text = chunk.iloc[:, i].astype(object)
        numbers = pd.to_numeric(
            text.map(str), errors="coerce"
        )  # str first, because to_numeric takes True for 1
        bad_r = (numbers.isna() & text.notna()).to_numpy()
        if bad_r.any():
            row = int(bad_r.argmax())
            raise InputError(
                f"{path} has text among the numbers: {str(text.iloc[row])[:40]!r} in row {rows[row]!r}, "
                f"column {columns[i]!r}; expected only numbers: keep labels and comments in a separate file."
            )
        chunk.isetitem(i, numbers.to_numpy())
    values_rc = chunk.to_numpy(dtype=np.float64)
    bad_rc = ~(np.abs(values_rc) <= MAX_FLOAT32)
    if bad_rc.any():
        row, column = (int(i) for i in np.argwhere(bad_rc)[0])
        value = values_rc[row, column]
        what = "no value" if np.isnan(value) else f"the value {value:g}"
        raise InputError(
            f"{path} has {what} in row {rows[row]!r}, column {columns[column]!r}; expected a finite number "
            "for each name in the header: write 0 where nothing was counted."
        )
    return sparse.csr_matrix(values_rc, dtype=np.float32)


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    ragged = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
    if ragged:
        n_before, line, n_fields = (int(number) for number in ragged.groups())
        return InputError(
            f"{path} has {n_fields} fields in row {line} after the header and {n_before} in the rows before; "
            "expected the same number in each row."
        )
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"{path} cannot be read as a table ({reason}); expected a CSV or TSV file in UTF-8.")
