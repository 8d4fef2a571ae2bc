"""Tasks of a compiled loop, shared out over OpenMP's threads without the interpreter: to wake one for it takes as long as a small task.

A launcher stands beside each task, so that what the compiler keeps of it on disk is renewed with the task's file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sparcell.kernels.awake import BYTES, INT, have_done
from sparcell.kernels.jit import inlined

WORKER = ir.FunctionType(ir.VoidType(), [BYTES])
PARALLEL = ir.FunctionType(ir.VoidType(), [WORKER.as_pointer(), BYTES, ir.IntType(32), ir.IntType(32)])


def _each(context: Any, team: Any, span: Any, task: Any, given: Any) -> Any:
    """Call `task(number, given)` for each number from span[0] to before span[1]; whoever is free takes the next.

    The team is the address of GOMP_parallel, how many threads there are, and what they look at if they are kept awake (`awake.board`);
    with one, or no address, this one does all. Returns whether every task came to its end: errors within them are not passed on.
    """
    wanted = task.get_call_type(context, (types.int64, given), {})
    done = task.dispatcher.get_compile_result(wanted)
    two, three = (types.UniTuple(types.int64, n) for n in (2, 3))

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        parallel, n_threads, board = cgutils.unpack_tuple(builder, args[0], 3)
        first, last = cgutils.unpack_tuple(builder, args[1], 2)
        context.add_linking_libs([done.library])
        # what all threads see: the next number, the one after the last, tasks that failed, what is given
        kind = ir.LiteralStructType([INT, INT, INT, args[3].type])
        shared = cgutils.alloca_once(builder, kind)
        for number, value in enumerate((first, last, ir.Constant(INT, 0), args[3])):
            builder.store(value, cgutils.gep_inbounds(builder, shared, 0, number))

        module = builder.module
        worker = ir.Function(module, WORKER, module.get_unique_name("sparcell_worker"))
        worker.linkage = "internal"
        inner = ir.IRBuilder(worker.append_basic_block("entry"))
        seen = inner.bitcast(worker.args[0], kind.as_pointer())
        values = inner.load(cgutils.gep_inbounds(inner, seen, 0, 3))
        stop = inner.load(cgutils.gep_inbounds(inner, seen, 0, 1))
        take, do, end = (worker.append_basic_block(name) for name in ("take", "do", "end"))
        inner.branch(take)
        inner.position_at_end(take)
        one = ir.Constant(INT, 1)
        number = inner.atomic_rmw("add", cgutils.gep_inbounds(inner, seen, 0, 0), one, "monotonic")
        inner.cbranch(inner.icmp_signed("<", number, stop), do, end)
        inner.position_at_end(do)
        status, _ = context.call_internal_no_propagate(inner, done.fndesc, wanted, (number, values))
        failed = inner.zext(status.is_error, INT)
        inner.atomic_rmw("add", cgutils.gep_inbounds(inner, seen, 0, 2), failed, "monotonic")
        inner.branch(take)
        inner.position_at_end(end)
        inner.ret_void()

        data, n_threads = builder.bitcast(shared, BYTES), builder.trunc(n_threads, ir.IntType(32))
        several = builder.and_(
            builder.icmp_signed("!=", parallel, ir.Constant(INT, 0)),
            builder.icmp_signed(">", n_threads, ir.Constant(ir.IntType(32), 1)),
        )
        with builder.if_else(several) as (yes, no):
            with yes, builder.if_else(builder.icmp_signed("!=", board, INT(0))) as (awake, asleep):
                with awake:
                    have_done(builder, board, worker, data)
                with asleep:
                    begin = builder.inttoptr(parallel, PARALLEL.as_pointer())
                    builder.call(begin, [worker, data, n_threads, ir.Constant(ir.IntType(32), 0)])
            with no:
                builder.call(worker, [data])
        failures = builder.load(cgutils.gep_inbounds(builder, shared, 0, 2))
        return builder.icmp_signed("==", failures, ir.Constant(INT, 0))

    return types.boolean(three, two, task, given), generate


each: Callable[..., bool] = intrinsic(_each)


@inlined()
def part(number: Any, block: Any, n: Any) -> Any:
    """Where a block of 0 … n - 1 begins, and where it ends."""
    return number * block, min((number + 1) * block, n)
