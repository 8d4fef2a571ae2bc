"""Loops over sparse rows, compiled.

Suffixes: n cells, g genes, h hidden units.
"""

from __future__ import annotations

from typing import Any

from sparcell.kernels.jit import FAST, compiled


@compiled(fastmath=FAST)
def add_rows_times(first: Any, last: Any, sparse: Any, weight: Any, out_nh: Any) -> None:
    """Add sparse rows times a dense matrix: out[n] += Σ value · weight[column], over the values from `start` to before `stop`.

    Four values at a time, so that a row of the sum is read and written a quarter as often.
    """
    start, stop, column, value = sparse
    for n in range(first, last):
        row, i = out_nh[n], start[n]
        while i + 3 < stop[n]:
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
        while i < stop[n]:
            one, p = weight[column[i]], value[i]
            for h in range(row.shape[0]):
                row[h] += p * one[h]
            i += 1


@compiled()
def starts_of_blocks(first: Any, last: Any, start: Any, column: Any, block: Any, start_bn: Any) -> None:
    """Find where the genes of each block begin in each row, whose columns are in order; one more is the row's end."""
    for n in range(first, last):
        b = 0
        for i in range(start[n], start[n + 1]):
            while column[i] >= b * block:
                start_bn[b, n] = i
                b += 1
        start_bn[b:, n] = start[n + 1]


@compiled(fastmath=FAST)
def add_pulls(first: Any, last: Any, by_gene: Any, head: Any, sums: Any) -> None:
    """Add, over genes, what the expanded square needs besides products with W: Wᵀb and |x|² - 2 x·b."""
    start, stop, cell, value = by_gene
    weight_gh, bias_g = head
    pull_h, of_x_n = sums
    for g in range(first, last):
        row, b = weight_gh[g], bias_g[g]
        for h in range(row.shape[0]):
            pull_h[h] += b * row[h]
        for i in range(start[g], stop[g]):
            x = value[i]
            of_x_n[cell[i]] += x * (x - b - b)


@compiled(fastmath=FAST)
def head_slopes(first: Any, last: Any, by_gene: Any, head: Any, weighed: Any, slopes: Any) -> None:
    """Slopes of the weighed squares in W, given W Σ w hhᵀ of these genes: plus b Σ w hᵀ - xᵀ w h; and the slopes in b.

    Of w it takes each, -w h of each cell, Σ w h and Σ w.
    """
    start, stop, cell, value = by_gene
    weight_gh, bias_g = head
    weight_n, minus_nh, sum_h, total = weighed
    given_gh, slope_gh, slope_g = slopes
    for g in range(first, last):
        row, given_h, slope_h, b = weight_gh[g], given_gh[g - first], slope_gh[g], bias_g[g]
        dot = b * total
        for h in range(row.shape[0]):
            dot += row[h] * sum_h[h]
            slope_h[h] = given_h[h] + b * sum_h[h]
        add_rows_times(g, g + 1, by_gene, minus_nh, slope_gh)
        for i in range(start[g], stop[g]):
            dot -= value[i] * weight_n[cell[i]]
        slope_g[g] = dot


@compiled(fastmath=FAST)
def subtract(first: Any, last: Any, sparse: Any, out_ng: Any) -> None:
    """Take sparse rows off a dense matrix."""
    start, stop, column, value = sparse
    for n in range(first, last):
        for i in range(start[n], stop[n]):
            out_ng[n, column[i]] -= value[i]
