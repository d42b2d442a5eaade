"""Atomic counters and prefetching, which numba lacks; plain Python where the compiler is off."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from assocmem.core.jit import JIT_DISABLED


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Address of arguments[0][arguments[1]]."""
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    return builder.gep(data, [arguments[1]])


def _add_code(typing: Any, array: Any, place: Any, amount: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", _address(context, builder, signature, arguments), arguments[2], "seq_cst")

    return types.int64(array, types.intp, types.int64), generate


def _fetch_code(typing: Any, array: Any, place: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, integer = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, integer, integer, integer])
        )
        address = builder.bitcast(_address(context, builder, signature, arguments), byte)
        read, keep_in_every_cache, data = integer(0), integer(3), integer(1)
        builder.call(function, [address, read, keep_in_every_cache, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


def _add_plainly(array: NDArray[np.int64], place: int, amount: int) -> int:
    before = int(array[place])
    array[place] += amount
    return before


def _fetch_plainly(array: NDArray[Any], place: int) -> None:
    return


# array[place] += amount as one indivisible step, which returns the number before.
atomic_add: Any = _add_plainly if JIT_DISABLED else intrinsic(_add_code)

# Begin to bring array[place] into the first cache.
prefetch: Any = _fetch_plainly if JIT_DISABLED else intrinsic(_fetch_code)
