"""Loops of the expanded square of a Gaussian, compiled: what it needs besides the code, and its slopes in the head.

Suffixes: n cells, g genes, h hidden units, b blocks of genes.
"""

from __future__ import annotations

from typing import Any

from sparcell.kernels.jit import FAST, compiled, inlined
from sparcell.kernels.pieces import add_product
from sparcell.kernels.sparse_loops import first_from
from sparcell.kernels.tasks import each, part
from sparcell.kernels.weighed_rows import add_to_rows

NEAR = 64
"""Rows of W that stay in a core's first cache while all is done with them."""


@inlined(fastmath=FAST)
def without_code(number: Any, given: Any) -> None:
    """WᵀW (its lower half) and Wᵀb of a block of genes; and as one more task, the first, |x|² - 2 x·b of all cells."""
    block, cells, head, of_x_n, sums = given
    weight_gh, bias_g = head
    if number == 0:
        start, stop, column, value = cells
        for n in range(of_x_n.shape[0]):
            x, gene, total = value[start[n] : stop[n]], column[start[n] : stop[n]], of_x_n.dtype.type(0)
            for i in range(x.shape[0]):
                b = bias_g[gene[i]]
                total += x[i] * (x[i] - b - b)
            of_x_n[n] = total
        return
    first, last = part(number - 1, block, bias_g.shape[0])
    gram_hh, pull_h = sums[0][number - 1], sums[1][number - 1]
    gram_hh[:] = 0
    pull_h[:] = 0
    for near in range(first, last, NEAR):
        until = min(near + NEAR, last)
        add_product(gram_hh, weight_gh, weight_gh, (0, pull_h.shape[0]), (near, until), True)
        for g in range(near, until):
            b = bias_g[g]
            for h in range(pull_h.shape[0]):
                pull_h[h] += b * weight_gh[g, h]


@compiled()
def share_without_code(team: Any, span: Any, given: Any) -> Any:
    """Share its blocks out."""
    return each(team, span, without_code, given)


@inlined(fastmath=FAST)
def head_slopes(number: Any, given: Any) -> None:
    """Slopes of the weighed squares in W, for a block of genes: W Σ w hhᵀ + b Σ w hᵀ - xᵀ w h; and the slopes in b.

    Of the weights w and the code h it takes Σ w hhᵀ, whose rows may be longer than they need, -w h of each cell, Σ w h, each w, and Σ w.
    """
    block, cells, head, weighed, slopes = given
    start, stop, column, value = cells
    weight_gh, bias_g = head
    squares_hh, minus_nh, sum_h, weight_n, of_all = weighed
    slope_gh, slope_g = slopes
    total = of_all[()]
    first, last = part(number, block, bias_g.shape[0])
    for near in range(first, last, NEAR):
        until = min(near + NEAR, last)
        for g in range(near, until):
            row, slope_h, b = weight_gh[g], slope_gh[g], bias_g[g]
            dot = b * total
            for h in range(row.shape[0]):
                dot += row[h] * sum_h[h]
                slope_h[h] = b * sum_h[h]
            slope_g[g] = dot
        add_product(slope_gh, weight_gh.T, squares_hh, (near, until), (0, squares_hh.shape[0]), False)
    for n in range(start.shape[0]):
        begin = first_from(column, start[n], stop[n], first)
        end = first_from(column, begin, stop[n], last)
        add_to_rows(minus_nh[n], begin, end, column, value, slope_gh)
        for i in range(begin, end):
            slope_g[column[i]] -= value[i] * weight_n[n]


@compiled()
def share_head_slopes(team: Any, span: Any, given: Any) -> Any:
    """Share its blocks out."""
    return each(team, span, head_slopes, given)
