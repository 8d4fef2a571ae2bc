"""A weighed sum of some rows of a matrix, and a row added to some of them: the one row stays in the processor's registers.

In a plain loop it is read from memory for every row, the sum written back too, after a check that it does not lie over that row.

Suffix: h columns of the matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sparcell.kernels.jit import FAST, inlined
from sparcell.kernels.vectors import INT, LANES, REGISTERS, Vectors

WIDE = REGISTERS * LANES


def _over(n_vectors: int, *, into: bool) -> Callable[..., None]:
    """Go over the values with so many vectors of one row: add value · matrix[row] to it, or add value · it `into` matrix[row].

    The span is the first column, the first value and the one after the last.
    """

    def over(context: Any, one_h: Any, span: Any, row: Any, value: Any, matrix: Any) -> Any:
        arrays = one_h, row, value, matrix
        if not all(isinstance(array, types.Array) and array.layout == "C" for array in arrays):
            return None  # numba then says what it was given
        kind, whole = one_h.dtype, types.int64

        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            def array(i: int) -> Any:
                return context.make_array(signature.args[i])(context, builder, given[i])

            def loaded(i: int, at: Any, wanted: Any) -> Any:
                found = builder.load(builder.gep(array(i).data, [at]))
                return context.cast(builder, found, signature.args[i].dtype, wanted)

            vectors = Vectors(context, builder, kind)

            def place(data: Any, at: Any, number: int) -> Any:
                return builder.gep(data, [builder.add(at, ir.Constant(INT, number * LANES))])

            first, start, stop = (
                context.cast(builder, part, of_part, whole)
                for part, of_part in zip(cgutils.unpack_tuple(builder, given[1], 3), span, strict=True)
            )
            data, n_columns = array(4).data, builder.extract_value(array(4).shape, 1)
            places = [place(array(0).data, first, number) for number in range(n_vectors)]
            held = [vectors.sum_from(there) for there in places]
            with cgutils.for_range_slice(builder, start, stop, ir.Constant(INT, 1)) as (i, _):
                at = builder.add(builder.mul(loaded(2, i, whole), n_columns), first)
                x = vectors.spread(loaded(3, i, kind))
                for number, own in enumerate(held):
                    there = place(data, at, number)
                    if into:
                        sum_ = vectors.sum_from(there)
                        vectors.add_product(sum_, x, builder.load(own))
                        vectors.write(sum_, there)
                    else:
                        vectors.add_product(own, x, vectors.load(there))
            if not into:
                for there, sum_ in zip(places, held, strict=True):
                    vectors.write(sum_, there)
            return context.get_dummy_value()

        return types.void(one_h, span, row, value, matrix), generate

    made: Callable[..., None] = intrinsic(over)
    return made


def _by_columns(*, into: bool) -> Callable[..., None]:
    """Go over the columns, as many at a time as there are registers for."""
    wide, vector = _over(REGISTERS, into=into), _over(1, into=into)

    @inlined(fastmath=FAST)
    def by_columns(one_h: Any, start: Any, stop: Any, row: Any, value: Any, matrix: Any) -> None:
        n_columns, h = one_h.shape[0], 0
        while h + WIDE <= n_columns:
            wide(one_h, (h, start, stop), row, value, matrix)
            h += WIDE
        while h + LANES <= n_columns:
            vector(one_h, (h, start, stop), row, value, matrix)
            h += LANES
        if h < n_columns:
            for i in range(start, stop):
                for k in range(h, n_columns):
                    if into:
                        matrix[row[i], k] += value[i] * one_h[k]
                    else:
                        one_h[k] += value[i] * matrix[row[i], k]

    made: Callable[..., None] = by_columns
    return made


add_weighed_rows = _by_columns(into=False)
"""(one, start, stop, row, value, matrix): one += Σ value · matrix[row], over the values from `start` to before `stop`.

All arrays lie in one piece, row by row.
"""
add_to_rows = _by_columns(into=True)
"""The same arguments: matrix[row] += value · one."""
