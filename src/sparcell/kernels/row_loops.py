"""One compiled pass over rows as a file stores them: chosen genes, rounded or scaled values, sorted columns.

It takes the place of four passes of scipy and numpy. Threads run it at the same time. Suffixes: m rows, g stored columns.
"""

from __future__ import annotations

import numpy as np

from sparcell.kernels.jit import cached_jit

LEFT_OUT, NO_GENE = -1, -2
"""Positions of stored columns that are not written. The values of NO_GENE are also left out of a row's total."""
OUTSIDE = -1
"""Returned if a column is not below the number of stored columns."""


@cached_jit()
def map_rows(column, value, bound_m, position_g, units, out_column, out_value, bound_out_m):
    """Write the values of rows at their new columns; return how many were written, or OUTSIDE.

    Row m is column[bound_m[m, 0] : bound_m[m, 1]]. Its values are written behind those of row m - 1, and their first and last place to
    bound_out_m[m]. Columns ascend within a row, each once: values of one column are added up. Values of 0 are left out.

    Parameters
    ----------
    column, value
        Stored values, (number of values,).
    bound_m
        First and last value of each row, (m, 2).
    position_g
        New column of each stored column; LEFT_OUT or NO_GENE.
    units
        Whether values are rounded; the total that a row is scaled to, 0 to leave values as they are; the number of new columns.
    out_column, out_value
        int32 and float32, at least as many as the rows have values.
    bound_out_m
        int64, (m, 2).
    """
    is_rounded, target, n_columns = units
    n_stored = np.uint64(len(position_g))
    dense = np.zeros(0, np.float32)
    at = 0
    for row in range(len(bound_m)):
        first, last = bound_m[row, 0], bound_m[row, 1]
        total = np.float64(0)
        if target > 0:
            for k in range(first, last):
                stored = np.uint64(column[k])
                if stored < n_stored and position_g[stored] != NO_GENE:
                    total += np.float32(value[k])
        scale = target / total if total > 0 else 0.0
        begin, before, ascends = at, -1, True
        for k in range(first, last):
            stored = np.uint64(column[k])
            if stored >= n_stored:
                return OUTSIDE
            new = position_g[stored]
            entry = np.float32(value[k])
            if is_rounded:
                entry = np.rint(entry)
            if target > 0:
                entry = np.float32(scale * np.float64(entry))
            if new < 0 or entry == 0:
                continue
            ascends &= new > before
            before = new
            out_column[at], out_value[at] = new, entry
            at += 1
        if not ascends:
            if len(dense) == 0:
                dense = np.zeros(n_columns, np.float32)
            for k in range(begin, at):
                dense[out_column[k]] += out_value[k]
            at = begin
            for new in range(n_columns):
                if dense[new] != 0:
                    out_column[at], out_value[at] = new, dense[new]
                    at += 1
                    dense[new] = 0
        bound_out_m[row, 0], bound_out_m[row, 1] = begin, at
    return at
