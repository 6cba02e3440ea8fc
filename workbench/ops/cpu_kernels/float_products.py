"""Products of packed rows with float32 activations: one compiled entry a type.

`job` is the address of what `team.arguments` reads.

Source: our own.
"""

from .blocks64 import times_rows
from .decode import (
    decode_iq4_nl,
    decode_iq4_xs,
    decode_mxfp4,
    decode_q2_k,
    decode_q3_k,
    decode_q4_1,
    decode_q5_0,
    decode_q5_1,
    decode_q5_k,
    decode_q8_0,
)
from .entry import kernel
from .float_rows import X_BYTES, row_q4_0, row_q4_k, row_q6_k
from .forms import (
    IQ4_NL,
    IQ4_XS,
    MXFP4,
    Q2_K,
    Q3_K,
    Q4_1,
    Q5_0,
    Q5_1,
    Q5_K,
    Q8_0,
)
from .half_products import times_bf16, times_f16
from .products import times_floats


@kernel
def q8_0(job):
    times_floats(decode_q8_0, Q8_0, job)


@kernel
def q4_0(job):
    times_rows(row_q4_0, X_BYTES, job)


@kernel
def q4_1(job):
    times_floats(decode_q4_1, Q4_1, job)


@kernel
def q5_0(job):
    times_floats(decode_q5_0, Q5_0, job)


@kernel
def q5_1(job):
    times_floats(decode_q5_1, Q5_1, job)


@kernel
def iq4_nl(job):
    times_floats(decode_iq4_nl, IQ4_NL, job)


@kernel
def mxfp4(job):
    times_floats(decode_mxfp4, MXFP4, job)


@kernel
def q2_k(job):
    times_floats(decode_q2_k, Q2_K, job)


@kernel
def q3_k(job):
    times_floats(decode_q3_k, Q3_K, job)


@kernel
def q4_k(job):
    times_rows(row_q4_k, X_BYTES, job)


@kernel
def q5_k(job):
    times_floats(decode_q5_k, Q5_K, job)


@kernel
def q6_k(job):
    times_rows(row_q6_k, X_BYTES, job)


@kernel
def iq4_xs(job):
    times_floats(decode_iq4_xs, IQ4_XS, job)


@kernel
def f16(job):
    times_f16(job)


@kernel
def bf16(job):
    times_bf16(job)
