"""What several threads read and write at once, and calls by address, for numba kernels.

Each read sees all that was written before the write it reads (acquire and release).

Sources: the LLVM Language Reference, "Atomic Memory Ordering Constraints"; Intel's intrinsics guide
for PAUSE.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .simd import I64, has_feature, pointer_to

__all__ = ["call_kernel", "exchange_if", "fetch_add", "load_shared", "pause"]


@intrinsic
def fetch_add(typingctx, address, amount):
    """Add to the int64 at an address and return what it was, all threads one after the other."""

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("add", pointer_to(builder, args[0], I64), args[1], "acq_rel")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def load_shared(typingctx, address):
    """The int64 at an address, which must be a multiple of 8."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(pointer_to(builder, args[0], I64), "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def exchange_if(typingctx, address, expected, value):
    """Write a value where another is expected; whether it was there."""

    def codegen(context, builder, signature, args):
        target = pointer_to(builder, args[0], I64)
        pair = builder.cmpxchg(target, args[1], args[2], "acq_rel", "acquire")
        return builder.extract_value(pair, 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@intrinsic
def pause(typingctx):
    """Leave the core to its other thread for some cycles; nothing on machines other than x86."""

    def codegen(context, builder, signature, args):
        if has_feature(context, "sse2"):
            kind = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def call_kernel(typingctx, kernel, job):
    """Call the compiled kernel at an address with its one argument."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [I64])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen
