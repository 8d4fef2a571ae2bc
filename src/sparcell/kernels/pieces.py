"""Dense products by pieces that stay in the processor's registers until they are whole, for loops that do more with each.

A library's product would have its result written and read again, copies what lies the other way round, and of WᵀW makes both halves.
Suffixes: k rows that are summed over, a rows and c columns of the product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sparcell.kernels.jit import FAST, inlined
from sparcell.kernels.vectors import INT, LANES, REGISTERS, Vectors

TALL, BROAD = (8, 2) if REGISTERS == 8 else (4, 1)
"""Rows and vectors of a piece, which leave registers for its factors."""
WIDE = BROAD * LANES


def _add_piece(context: Any, out: Any, corner: Any, left: Any, right: Any, place: Any, span: Any) -> Any:
    """Add Σ left[k, a] · right[k, c] to `TALL` rows and `WIDE` columns of out from a corner on; place is the first a and c, span all k.

    Columns of out and right lie side by side; left may lie either way.
    """
    arrays = out, left, right
    if not all(isinstance(array, types.Array) for array in arrays) or (out.layout, right.layout) != (
        "C",
        "C",
    ):
        return None  # numba then says what it was given
    two = types.UniTuple(types.int64, 2)

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        to, one, other = (
            context.make_array(signature.args[i])(context, builder, given[i]) for i in (0, 2, 3)
        )
        corner, place, (first, last) = (cgutils.unpack_tuple(builder, given[i], 2) for i in (1, 4, 5))
        vectors = Vectors(context, builder, out.dtype)

        def shifted(at: Any, by: int) -> Any:
            return builder.add(at, ir.Constant(INT, by))

        def where(array: Any, row: Any, column: Any) -> Any:
            steps = cgutils.unpack_tuple(builder, array.strides, 2)
            at = builder.add(builder.mul(row, steps[0]), builder.mul(column, steps[1]))
            found = builder.gep(builder.bitcast(array.data, ir.IntType(8).as_pointer()), [at])
            return builder.bitcast(found, array.data.type)

        places = [
            [
                where(to, shifted(corner[0], row), shifted(corner[1], number * LANES))
                for number in range(BROAD)
            ]
            for row in range(TALL)
        ]
        sums = [[vectors.sum_from(there) for there in of_row] for of_row in places]
        with cgutils.for_range_slice(builder, first, last, ir.Constant(INT, 1)) as (k, _):
            of_k = [
                vectors.load(where(other, k, shifted(place[1], number * LANES))) for number in range(BROAD)
            ]
            for row, of_row in enumerate(sums):
                x = vectors.spread(builder.load(where(one, k, shifted(place[0], row))))
                for y, sum_ in zip(of_k, of_row, strict=True):
                    vectors.add_product(sum_, x, y)
        for there_of_row, of_row in zip(places, sums, strict=True):
            for there, sum_ in zip(there_of_row, of_row, strict=True):
                vectors.write(sum_, there)
        return context.get_dummy_value()

    return types.void(out, two, left, right, two, two), generate


add_piece: Callable[..., None] = intrinsic(_add_piece)


@inlined(fastmath=FAST)
def add_product(out_ac: Any, left_ka: Any, right_kc: Any, rows: Any, span: Any, lower: Any) -> None:
    """out[a] += Σ left[k, a] · right[k] for rows from rows[0] to before rows[1], over k from span[0] to before span[1].

    Rows of right may be longer than those of out. With `lower` only pieces on the diagonal and below it; of those some reach above, where
    not all is there then.
    """
    n_columns, until = out_ac.shape[1], rows[1]
    if n_columns < WIDE or until < TALL:
        for a in range(rows[0], until):
            for k in range(span[0], span[1]):
                x = left_ka[k, a]
                for c in range(a + 1 if lower else n_columns):
                    out_ac[a, c] += x * right_kc[k, c]
        return
    edge = np.empty((TALL, WIDE), out_ac.dtype)
    for c in range(0, n_columns, WIDE):
        for a in range(c if lower else rows[0], until, TALL):
            first_a, first_c = min(a, until - TALL), min(c, n_columns - WIDE)
            if first_a == a and first_c == c:
                add_piece(out_ac, (a, c), left_ka, right_kc, (a, c), span)
            else:  # the last piece reaches back over the one before
                edge[:] = 0
                add_piece(edge, (0, 0), left_ka, right_kc, (first_a, first_c), span)
                for i in range(a - first_a, TALL):
                    for j in range(c - first_c, WIDE):
                        out_ac[first_a + i, first_c + j] += edge[i, j]
