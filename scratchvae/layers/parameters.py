"""All parameters of a model as views of one contiguous vector."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["flat_views"]


def flat_views(
    shapes: Mapping[str, tuple[int, ...]], dtype: type
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A zero vector and, for each name in order, the view of it that has that name's shape.

    One vector means one fused update, one hash, one array to save; the views mean that a layer still sees
    its own weight matrix.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
    dtype : float32 or float64

    Returns
    -------
    vector : ndarray (total size,)
    views : dict of str to ndarray, each in its own shape
    """
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    vector: np.ndarray = np.zeros(sum(sizes), dtype)
    pieces = np.split(vector, np.cumsum(sizes)[:-1])
    views = {name: piece.reshape(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
    return vector, views
