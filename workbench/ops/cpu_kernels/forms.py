"""What the kernels must know of a type besides its decoder.

Source: ggml-common.h, the block structures.
"""

# weights in a block, bytes of a block, whether a minimum is taken off
Q8_0 = (32, 34, False)
Q4_0 = (32, 18, False)
Q4_1 = (32, 20, True)
Q5_0 = (32, 22, False)
Q5_1 = (32, 24, True)
IQ4_NL = (32, 18, False)
MXFP4 = (32, 17, False)
Q2_K = (256, 84, True)
Q3_K = (256, 110, False)
Q4_K = (256, 144, True)
Q5_K = (256, 176, True)
Q6_K = (256, 210, False)
IQ4_XS = (256, 136, False)
HALF = (1, 2, False)
