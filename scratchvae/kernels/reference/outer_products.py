"""Sums of outer products and of their squares, which never form one. Derived in `derivations/11-variance.md`."""

from __future__ import annotations

import numpy as np

__all__ = ["add_mean_and_squares", "add_outer_products", "add_shifted_rows"]


def add_outer_products(a: np.ndarray, d: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """first += aᵀ d and second += (a ∘ a)ᵀ (d ∘ d): over rows, the sums of a_i d_j and of (a_i d_j)². (11.3)

    Parameters
    ----------
    a : ndarray (R, fan_in)
    d : ndarray (R, fan_out)
    first, second : ndarray (fan_in, fan_out)
        Added to.
    """
    first += a.T @ d
    second += (a * a).T @ (d * d)


def add_shifted_rows(d: np.ndarray, shift: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """Add the rows of d less a shift to first, and their squares to second: a = 1, and little cancels. (11.3)

    Parameters
    ----------
    d : ndarray (R, fan_out)
    shift : ndarray (fan_out,)
        A value in the middle of those of d.
    first, second : ndarray (fan_out,)
        Added to.
    """
    shifted = d - shift
    first += shifted.sum(axis=0)
    second += (shifted * shifted).sum(axis=0)


def add_mean_and_squares(
    first: np.ndarray, second: np.ndarray, rows: int, mean: np.ndarray, squares: np.ndarray
) -> None:
    """mean += first / rows and squares += second − first² / rows: the squared deviations from that mean. (11.3)

    Parameters
    ----------
    first, second : ndarray (...)
        Sums of so many numbers and of their squares.
    rows : int
    mean, squares : ndarray (...) of float64
        Added to.
    """
    average = first / np.float64(rows)
    mean += average
    squares += second - rows * average**2
