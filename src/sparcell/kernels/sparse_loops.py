"""Loops over sparse rows, compiled.

Suffixes: n cells, g genes, h hidden units.
"""

from __future__ import annotations

from typing import Any

from sparcell.kernels.jit import FAST, compiled


@compiled(fastmath=FAST)
def add_rows_times(
    first: Any, last: Any, start: Any, column: Any, value: Any, weight: Any, out_nh: Any
) -> None:
    """Add sparse rows times a dense matrix: out[n] += Σ value · weight[column].

    Four values at a time, so that a row of the sum is read and written a quarter as often.
    """
    for n in range(first, last):
        row, i = out_nh[n], start[n]
        while i + 3 < start[n + 1]:
            one, two, three, four = (
                weight[column[i]],
                weight[column[i + 1]],
                weight[column[i + 2]],
                weight[column[i + 3]],
            )
            p, q, r, s = value[i], value[i + 1], value[i + 2], value[i + 3]
            for h in range(row.shape[0]):
                row[h] += p * one[h] + q * two[h] + r * three[h] + s * four[h]
            i += 4
        while i < start[n + 1]:
            one, p = weight[column[i]], value[i]
            for h in range(row.shape[0]):
                row[h] += p * one[h]
            i += 1


@compiled(fastmath=FAST)
def row_dots(first: Any, last: Any, start: Any, column: Any, value: Any, weight: Any, out_n: Any) -> None:
    """Multiply sparse rows by a vector: Σ value · weight[column]."""
    for n in range(first, last):
        dot = weight.dtype.type(0)
        for i in range(start[n], start[n + 1]):
            dot += value[i] * weight[column[i]]
        out_n[n] = dot


@compiled(fastmath=FAST)
def row_squares(first: Any, last: Any, start: Any, value: Any, out_n: Any) -> None:
    """Σ value² of sparse rows."""
    for n in range(first, last):
        square = out_n.dtype.type(0)
        for i in range(start[n], start[n + 1]):
            square += value[i] * value[i]
        out_n[n] = square


@compiled(fastmath=FAST)
def subtract(first: Any, last: Any, start: Any, column: Any, value: Any, out_ng: Any) -> None:
    """Take sparse rows off a dense matrix."""
    for n in range(first, last):
        for i in range(start[n], start[n + 1]):
            out_ng[n, column[i]] -= value[i]
