"""Blocks of the KV cache's types as float32, one after another: one compiled entry a type.

source: address of the first block; count: numbers; out: address of room for count float32, rounded
up to a whole number of 256.

Source: our own. Leaves out: F16 and float32, which attention reads as they lie.
"""

from .decode import (
    decode_iq4_nl,
    decode_q4_0,
    decode_q4_1,
    decode_q5_0,
    decode_q5_1,
    decode_q8_0,
)
from .entry import entry
from .forms import HALF, IQ4_NL, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0
from .simd import load_bf16_16, stack_memory
from .tiles import expand_bf16, expand_blocks


@entry
def bf16(source, count, out):
    expand_bf16(load_bf16_16, HALF, source, count, out, 0)


@entry
def q8_0(source, count, out):
    expand_blocks(decode_q8_0, Q8_0, source, count, out, stack_memory())


@entry
def q5_1(source, count, out):
    expand_blocks(decode_q5_1, Q5_1, source, count, out, stack_memory())


@entry
def q5_0(source, count, out):
    expand_blocks(decode_q5_0, Q5_0, source, count, out, stack_memory())


@entry
def q4_1(source, count, out):
    expand_blocks(decode_q4_1, Q4_1, source, count, out, stack_memory())


@entry
def q4_0(source, count, out):
    expand_blocks(decode_q4_0, Q4_0, source, count, out, stack_memory())


@entry
def iq4_nl(source, count, out):
    expand_blocks(decode_iq4_nl, IQ4_NL, source, count, out, stack_memory())
