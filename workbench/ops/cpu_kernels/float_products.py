"""Products of packed rows with float32 activations: one compiled entry a type.

The arguments are those of `products.times_floats` after its first two.

Source: our own.
"""

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
    decode_q6_k,
    decode_q8_0,
)
from .entry import entry
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
    Q6_K,
    Q8_0,
)
from .half_products import times_bf16, times_f16
from .nibble_products import row_q4_0, row_q4_k, times_nibbles
from .products import times_floats


@entry
def q8_0(*args):
    times_floats(decode_q8_0, Q8_0, *args)


@entry
def q4_0(*args):
    times_nibbles(row_q4_0, *args)


@entry
def q4_1(*args):
    times_floats(decode_q4_1, Q4_1, *args)


@entry
def q5_0(*args):
    times_floats(decode_q5_0, Q5_0, *args)


@entry
def q5_1(*args):
    times_floats(decode_q5_1, Q5_1, *args)


@entry
def iq4_nl(*args):
    times_floats(decode_iq4_nl, IQ4_NL, *args)


@entry
def mxfp4(*args):
    times_floats(decode_mxfp4, MXFP4, *args)


@entry
def q2_k(*args):
    times_floats(decode_q2_k, Q2_K, *args)


@entry
def q3_k(*args):
    times_floats(decode_q3_k, Q3_K, *args)


@entry
def q4_k(*args):
    times_nibbles(row_q4_k, *args)


@entry
def q5_k(*args):
    times_floats(decode_q5_k, Q5_K, *args)


@entry
def q6_k(*args):
    times_floats(decode_q6_k, Q6_K, *args)


@entry
def iq4_xs(*args):
    times_floats(decode_iq4_xs, IQ4_XS, *args)


@entry
def f16(*args):
    times_f16(*args)


@entry
def bf16(*args):
    times_bf16(*args)
