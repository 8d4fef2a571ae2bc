"""Loops over sparse rows, compiled.

Suffixes: n cells, g genes, h hidden units.
"""

from __future__ import annotations

from typing import Any

from sparcell.kernels.float_bits import log1p
from sparcell.kernels.jit import FAST, compiled
from sparcell.kernels.tasks import each, part
from sparcell.kernels.weighed_rows import add_weighed_rows


@compiled()
def turn(sparse: Any, turned: Any) -> None:
    """Lay sparse rows out by their columns; within a column they stay in order."""
    start, stop, column, value = sparse
    new_start, new_stop, row, new_value = turned
    new_stop[:] = 0
    for n in range(start.shape[0]):
        for i in range(start[n], stop[n]):
            new_stop[column[i]] += 1
    total = 0
    for g in range(new_stop.shape[0]):
        new_start[g] = total
        total += new_stop[g]
        new_stop[g] = new_start[g]
    for n in range(start.shape[0]):
        for i in range(start[n], stop[n]):
            at = new_stop[column[i]]
            row[at], new_value[at] = n, value[i]
            new_stop[column[i]] = at + 1


@compiled(fastmath=FAST)
def log_scaled(number: Any, given: Any) -> None:
    """Write log(1 + scale · x) of rows that may lie anywhere, each with its scale, side by side."""
    block, sparse, scale_n, scaled = given
    start, stop, column, value = sparse
    new_start, new_stop, new_column, new_value = scaled
    first, last = part(number, block, scale_n.shape[0])
    for n in range(first, last):
        scale, x, new_x = scale_n[n], value[start[n] : stop[n]], new_value[new_start[n] : new_stop[n]]
        new_column[new_start[n] : new_stop[n]] = column[start[n] : stop[n]]
        for i in range(new_x.shape[0]):
            new_x[i] = log1p(scale * x[i])


@compiled()
def share_log_scaled(team: Any, span: Any, given: Any) -> Any:
    """Share its blocks out."""
    return each(team, span, log_scaled, given)


@compiled(fastmath=FAST)
def rows_times(number: Any, given: Any) -> None:
    """Sparse rows times a matrix: out[n] = Σ value · matrix[column], over the values from `start` to before `stop`."""
    block, sparse, matrix, out_nh = given
    start, stop, column, value = sparse
    first, last = part(number, block, out_nh.shape[0])
    for n in range(first, last):
        out_nh[n] = 0  # while it is in the cache
        add_weighed_rows(out_nh[n], start[n], stop[n], column, value, matrix)


@compiled()
def share_rows_times(team: Any, span: Any, given: Any) -> Any:
    """Share its blocks out."""
    return each(team, span, rows_times, given)


@compiled(fastmath=FAST)
def rows_times_and_turn(number: Any, given: Any) -> None:
    """The same, and as one more task the rows laid out by their columns: the first, for it takes longest."""
    product, turned = given
    if number == 0:
        turn(product[1], turned)
    else:
        rows_times(number - 1, product)


@compiled()
def share_rows_times_and_turn(team: Any, span: Any, given: Any) -> Any:
    """Share its blocks out."""
    return each(team, span, rows_times_and_turn, given)


@compiled(fastmath=FAST)
def subtract(number: Any, given: Any) -> None:
    """Take sparse rows off a dense matrix."""
    block, sparse, out_ng = given
    start, stop, column, value = sparse
    first, last = part(number, block, out_ng.shape[0])
    for n in range(first, last):
        for i in range(start[n], stop[n]):
            out_ng[n, column[i]] -= value[i]


@compiled()
def share_subtract(team: Any, span: Any, given: Any) -> Any:
    """Share its blocks out."""
    return each(team, span, subtract, given)
