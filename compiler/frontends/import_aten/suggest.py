"""The nearest rewrite of an op that has no row: first pattern that matches the op's name."""

from __future__ import annotations

import re

TABLE: tuple[tuple[str, str], ...] = (
    (r"upsample|interpolate|grid_sampler", "resize outside the model, or use a strided or dilated convolution"),
    (r"median|mode|quantile", "use `sort` and pick the place"),
    (r"nonzero|masked_select|unique|item|_local_scalar_dense|Int\.Tensor|Float\.Tensor|Bool\.Tensor",
     "a result whose shape or control flow depends on data cannot be compiled: use `torch.where` with a mask"),
    (r"scatter|index_add|index_copy|put_", "use `torch.where`, `gather`, or a product with a one-hot matrix"),
    (r"lstm|gru|rnn", "call nn.LSTM, nn.GRU or nn.RNN over whole rows, without packed sequences, projections or other cells"),
    (r"fft|stft|complex|view_as_real|polar", "write it with real sines and cosines"),
    (r"conv.*3d|pool.*3d", "use the 1-d or 2-d form"),
    (r"conv_transpose|transposed", "use a convolution followed by `pixel_shuffle`"),
    (r"dropout|bernoulli|rand|normal_|multinomial|exponential",
     "random numbers have no place in inference: call `.eval()`, or guard with `self.training`"),
    (r"linalg_|svd|eig|inverse|cholesky|qr|det|solve|lstsq", "compute the decomposition when the model is made, as a buffer"),
    (r"quantize|dequantize|fake_quant", "give the float32 model; infc quantizes by itself"),
    (r"circular", "use zero padding (`F.pad` with mode constant)"),
    (r"histc|bincount", "compare with the boundaries and sum the result"),
    (r"embedding_bag", "give rows of places, [batch, places], without offsets; or `embedding` followed by sum or mean"),
    (r"cdist|pdist", "use `(a*a).sum(-1)[:, None] + (b*b).sum(-1) - 2 * a @ b.T`"),
    (r"cummax|cummin|logcumsumexp", "use cumsum over logarithms, or a product with a triangular matrix"),
    (r"while_loop|cond|map_impl|scan|Loop|If", "control flow must be decided when the model is traced: use `torch.where`"),
    (r"max_unpool|fractional_max_pool|col2im|im2col", "use a convolution with a fixed kernel"),
    (r"erfinv|lgamma|digamma|polygamma|bessel|i0|zeta|igamma|special_", "approximate it with a polynomial"),
)  # fmt: skip


def suggestion(name: str) -> str:
    """What to write in place of op `name`; the general advice where no pattern fits."""
    for pattern, advice in TABLE:
        if re.search(pattern, name):
            return advice
    return "write it with arithmetic, reductions, matmul, where, gather or reshape"
