"""A hint inside kernels that memory will be read soon: rows picked from a large array are not waited for one
after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmssl_dist.kernels.compiling import before_compiling

ROWS_AHEAD = 8  # enough to hide a read from memory, few enough for the first of the processor's caches


def prefetch(array: np.ndarray, index: Any) -> None:
    """Start loading the line of memory that ``array[index]`` lies in; without any other effect."""


@before_compiling
def _register() -> None:
    from llvmlite import ir
    from numba.core import types
    from numba.extending import intrinsic, overload

    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    hint = ir.FunctionType(ir.VoidType(), [byte, number, number, number])

    def instruction(_typing: Any, array: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            address = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
            read, keep, of_data = (ir.Constant(number, value) for value in (0, 3, 1))
            function = builder.module.declare_intrinsic("llvm.prefetch", [byte], hint)
            builder.call(function, [address, read, keep, of_data])
            return context.get_dummy_value()

        return types.void(array, index), generate

    compiled_instruction: Any = intrinsic(instruction)

    @overload(prefetch)
    def _overloaded(array: Any, index: Any) -> Any:
        def compiled(array: Any, index: Any) -> None:
            compiled_instruction(array, index)

        return compiled
