"""Products of packed rows with many tokens: one compiled entry a type.

`job` is the address of what `team.arguments` reads.

Source: our own.
"""

from .decode import (
    decode_iq4_nl,
    decode_iq4_xs,
    decode_mxfp4,
    decode_q2_k,
    decode_q3_k,
    decode_q4_0,
    decode_q4_1,
    decode_q4_k,
    decode_q5_0,
    decode_q5_1,
    decode_q5_k,
    decode_q6_k,
    decode_q8_0,
)
from .entry import kernel
from .forms import (
    HALF,
    IQ4_NL,
    IQ4_XS,
    MXFP4,
    Q2_K,
    Q3_K,
    Q4_0,
    Q4_1,
    Q4_K,
    Q5_0,
    Q5_1,
    Q5_K,
    Q6_K,
    Q8_0,
)
from .simd import load_bf16_16, load_f16_16
from .tiles import expand_bf16, expand_blocks, expand_f16, times_tiles


@kernel
def q8_0(job):
    times_tiles(expand_blocks, decode_q8_0, Q8_0, job)


@kernel
def q4_0(job):
    times_tiles(expand_blocks, decode_q4_0, Q4_0, job)


@kernel
def q4_1(job):
    times_tiles(expand_blocks, decode_q4_1, Q4_1, job)


@kernel
def q5_0(job):
    times_tiles(expand_blocks, decode_q5_0, Q5_0, job)


@kernel
def q5_1(job):
    times_tiles(expand_blocks, decode_q5_1, Q5_1, job)


@kernel
def iq4_nl(job):
    times_tiles(expand_blocks, decode_iq4_nl, IQ4_NL, job)


@kernel
def mxfp4(job):
    times_tiles(expand_blocks, decode_mxfp4, MXFP4, job)


@kernel
def q2_k(job):
    times_tiles(expand_blocks, decode_q2_k, Q2_K, job)


@kernel
def q3_k(job):
    times_tiles(expand_blocks, decode_q3_k, Q3_K, job)


@kernel
def q4_k(job):
    times_tiles(expand_blocks, decode_q4_k, Q4_K, job)


@kernel
def q5_k(job):
    times_tiles(expand_blocks, decode_q5_k, Q5_K, job)


@kernel
def q6_k(job):
    times_tiles(expand_blocks, decode_q6_k, Q6_K, job)


@kernel
def iq4_xs(job):
    times_tiles(expand_blocks, decode_iq4_xs, IQ4_XS, job)


@kernel
def f16(job):
    times_tiles(expand_f16, load_f16_16, HALF, job)


@kernel
def bf16(job):
    times_tiles(expand_bf16, load_bf16_16, HALF, job)
