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
    """Add sparse rows times a dense matrix: out[n] += Σ value · weight[column]."""
    for n in range(first, last):
        row = out_nh[n]
        for i in range(start[n], start[n + 1]):
            other, x = weight[column[i]], value[i]
            for h in range(row.shape[0]):
                row[h] += x * other[h]


@compiled(fastmath=FAST)
def row_sums(start: Any, column: Any, value: Any, bias_g: Any, out_n2: Any) -> None:
    """Σ value · bias[column] and Σ value² of each sparse row."""
    for n in range(out_n2.shape[0]):
        dot, square = bias_g.dtype.type(0), bias_g.dtype.type(0)
        for i in range(start[n], start[n + 1]):
            dot += value[i] * bias_g[column[i]]
            square += value[i] * value[i]
        out_n2[n, 0] = dot
        out_n2[n, 1] = square


@compiled(fastmath=FAST)
def subtract(first: Any, last: Any, start: Any, column: Any, value: Any, out_ng: Any) -> None:
    """Take sparse rows off a dense matrix."""
    for n in range(first, last):
        for i in range(start[n], start[n + 1]):
            out_ng[n, column[i]] -= value[i]
