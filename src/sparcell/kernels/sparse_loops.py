"""Loops over sparse rows, compiled.

Suffixes: n cells, g genes, h hidden units.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sparcell.kernels.float_bits import log1p
from sparcell.kernels.jit import FAST, compiled, inlined
from sparcell.kernels.tasks import each, part
from sparcell.kernels.weighed_rows import add_to_rows, add_weighed_rows


@inlined()
def first_from(column: Any, start: Any, stop: Any, least: Any) -> Any:
    """Place of the first of the columns from `start` to before `stop`, which are in order, that is at least `least`."""
    while start < stop:
        middle = (start + stop) // 2
        if column[middle] < least:
            start = middle + 1
        else:
            stop = middle
    return start


@inlined(fastmath=FAST)
def log_scaled(number: Any, given: Any) -> None:
    """Write log(1 + scale · x) of rows that may lie anywhere, each with its scale, side by side."""
    block, sparse, scale_n, scaled = given
    start, stop, column, value = sparse
    new_start, new_stop, new_column, new_value = scaled
    first, last = part(number, block, scale_n.shape[0])
    for n in range(first, last):
        scale, x, new_x = scale_n[n], value[start[n] : stop[n]], new_value[new_start[n] : new_stop[n]]
        gene, new_gene = column[start[n] : stop[n]], new_column[new_start[n] : new_stop[n]]
        for i in range(new_x.shape[0]):
            new_gene[i] = gene[i]
            new_x[i] = log1p(scale * x[i])


@compiled()
def share_log_scaled(team: Any, span: Any, given: Any) -> Any:
    """Share its blocks out."""
    return each(team, span, log_scaled, given)


@inlined(fastmath=FAST)
def rows_times(number: Any, given: Any) -> None:
    """Sparse rows times a matrix: out[n] = Σ value · matrix[column], over the values from `start` to before `stop`.

    Some columns after the others, for all rows of the block: what they have in common is read while it is in the cache.
    """
    block, near, sparse, matrix, out_nh = given
    start, stop, column, value = sparse
    first, last = part(number, block, out_nh.shape[0])
    out_nh[first:last] = 0
    begin_n = start[first:last].copy()
    for until in range(near, matrix.shape[0] + near, near):
        for n in range(first, last):
            begin = begin_n[n - first]
            end = first_from(column, begin, stop[n], until)
            add_weighed_rows(out_nh[n], begin, end, column, value, matrix)
            begin_n[n - first] = end


@compiled()
def share_rows_times(team: Any, span: Any, given: Any) -> Any:
    """Share its blocks out."""
    return each(team, span, rows_times, given)


@inlined(fastmath=FAST)
def columns_times(number: Any, given: Any) -> None:
    """Columns of sparse rows times a matrix, for a block of them: out[g] = Σ value · matrix[n], over the values in column g.

    Row by row, whose columns are in order: what is added to lies in the cache, and no value is laid out anew.
    """
    block, sparse, matrix, out_gh = given
    start, stop, column, value = sparse
    first, last = part(number, block, out_gh.shape[0])
    out_gh[first:last] = 0
    for n in range(start.shape[0]):
        begin = first_from(column, start[n], stop[n], first)
        add_to_rows(matrix[n], begin, first_from(column, begin, stop[n], last), column, value, out_gh)


@compiled()
def share_columns_times(team: Any, span: Any, given: Any) -> Any:
    """Share its blocks out."""
    return each(team, span, columns_times, given)


@inlined(fastmath=FAST)
def take_off(row: Any, column: Any, value: Any) -> None:
    """Take values off a dense row, each in its column."""
    for i in range(column.shape[0]):
        row[np.uint64(column[i])] -= value[i]


@inlined(fastmath=FAST)
def subtract(number: Any, given: Any) -> None:
    """Take sparse rows off a dense matrix."""
    block, sparse, out_ng = given
    start, stop, column, value = sparse
    first, last = part(number, block, out_ng.shape[0])
    for n in range(first, last):
        take_off(out_ng[n], column[start[n] : stop[n]], value[start[n] : stop[n]])


@compiled()
def share_subtract(team: Any, span: Any, given: Any) -> Any:
    """Share its blocks out."""
    return each(team, span, subtract, given)
