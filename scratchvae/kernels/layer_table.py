"""Where each layer of a VAE stands in its flat parameter vector."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np

__all__ = ["layer_table"]


@lru_cache(maxsize=64)
def layer_table(sizes: tuple[int, ...]) -> np.ndarray:
    """Where each layer's parameters begin in the flat vector.

    Parameters
    ----------
    sizes : tuple of int
        D, the encoder's hidden sizes, L. The decoder's hidden sizes are the same reversed.

    Returns
    -------
    ndarray (N, 4) of int64
        Start of the weight, start of the bias, fan_in, fan_out; in the order of `VAE.parameters`: the
        encoder's hidden layers, mean, log_var, the decoder's layers.
    """
    encoder = list(pairwise(sizes))
    shapes = [*encoder, encoder[-1], *pairwise(sizes[::-1])]
    rows, start = [], 0
    for fan_in, fan_out in shapes:
        rows.append((start, start + fan_in * fan_out, fan_in, fan_out))
        start += (fan_in + 1) * fan_out
    return np.array(rows, np.int64)
