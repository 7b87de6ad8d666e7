"""All parameters of a model as views of one contiguous vector."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["Views", "flat_views"]


class Views(dict[str, np.ndarray]):
    """Arrays by name that view one vector: assigning to a name writes into its view, which stays the view it is."""

    def __setitem__(self, name: str, value: np.ndarray) -> None:
        """Copy `value`, of the view's shape or broadcast to it, into the vector."""
        self[name][...] = value


def flat_views(shapes: Mapping[str, tuple[int, ...]], dtype: type) -> tuple[np.ndarray, Views]:
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
    views : Views
        Each in its own shape.
    """
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    vector: np.ndarray = np.zeros(sum(sizes), dtype)
    pieces = np.split(vector, np.cumsum(sizes)[:-1])
    named = zip(shapes.items(), pieces, strict=True)
    return vector, Views({name: piece.reshape(shape) for (name, shape), piece in named})
