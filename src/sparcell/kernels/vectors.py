"""Instructions over vectors of numbers, for loops whose sums are to stay in the processor's registers."""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils

LANES = 16
"""Numbers of a vector; processors with shorter ones take several."""
REGISTERS = 8 if binding.get_host_cpu_features().get("avx512f") else 4
"""Vectors of a sum: as many as there are registers for."""

INT, SHORT = ir.IntType(64), ir.IntType(32)
FUSED = ("contract",)


class Vectors:
    """Vectors of numbers of a kind, in code that a builder writes."""

    def __init__(self, context: Any, builder: Any, kind: Any) -> None:
        self.builder, self.type = builder, ir.VectorType(context.get_value_type(kind), LANES)
        self.width = context.get_abi_sizeof(self.type.element)
        """Bytes of a number: vectors lie where their first number does."""

    def load(self, place: Any) -> Any:
        """Read the vector that begins with the number at a place."""
        found = self.builder.load(self.builder.bitcast(place, self.type.as_pointer()))
        found.align = self.width
        return found

    def sum_from(self, place: Any) -> Any:
        """Begin a sum with what stands at a place; the compiler makes a register of it."""
        return cgutils.alloca_once_value(self.builder, self.load(place))

    def spread(self, number: Any) -> Any:
        """Make a vector of one number."""
        first = self.builder.insert_element(
            ir.Constant(self.type, ir.Undefined), number, ir.Constant(SHORT, 0)
        )
        return self.builder.shuffle_vector(
            first, first, ir.Constant(ir.VectorType(SHORT, LANES), [0] * LANES)
        )

    def add_product(self, sum_: Any, x: Any, y: Any) -> None:
        """Add x · y to a sum, rounded once where the processor can."""
        more = self.builder.fmul(x, y, flags=FUSED)
        self.builder.store(self.builder.fadd(self.builder.load(sum_), more, flags=FUSED), sum_)

    def write(self, sum_: Any, place: Any) -> None:
        """Write a sum to a place."""
        there = self.builder.bitcast(place, self.type.as_pointer())
        self.builder.store(self.builder.load(sum_), there).align = self.width
