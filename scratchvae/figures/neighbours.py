"""The nearest known images: how far an image is from the data, and what class its neighbours have."""

from __future__ import annotations

import numpy as np

__all__ = ["Neighbours"]

# Neighbours that vote on a class.
_VOTERS = 10
# Images whose distances to all known ones are held in memory at a time.
_QUERIES = 500


class Neighbours:
    """Known images with their classes.

    Parameters
    ----------
    images : ndarray (N, D)
    labels : ndarray (N,)
        From 0 to 9.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels
        self.voters = min(_VOTERS, len(images))
        self._squares = (images.astype(np.float64) ** 2).sum(axis=1)

    def look(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance (B,) of x (B, D) to the nearest known image, and the shares (B, 10) of the votes by class."""
        distances, shares = np.empty(len(x)), np.zeros((len(x), 10))
        for start in range(0, len(x), _QUERIES):
            rows = x[start : start + _QUERIES]
            # |a − b|² = |a|² − 2 ab + |b|², for one matrix product instead of all differences
            squared = self._squares - 2 * (rows @ self.images.T)
            nearest = np.argpartition(squared, self.voters - 1, axis=1)[:, : self.voters]
            for i, row in enumerate(rows):
                known = self.images[nearest[i]]
                distances[start + i] = np.sqrt(((known - row) ** 2).sum(axis=1).min())
                np.add.at(shares[start + i], self.labels[nearest[i]], 1 / self.voters)
        return distances, shares

    def classify(self, x: np.ndarray) -> np.ndarray:
        """The class (B,) that most of the nearest neighbours of x (B, D) have."""
        return self.look(x)[1].argmax(axis=1)
