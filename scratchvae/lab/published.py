"""Settings of published comparisons, their exact curves, and the map of which estimator is quietest where.

z ~ N(mean, σ²) in one dimension; variances of one sample with respect to mean and to σ, as they are published.

Mohamed, Rosca, Figurnov, Mnih, "Monte Carlo gradient estimation in machine learning", JMLR 21(132), 2020,
Figures 2 and 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from scratchvae.lab.exact_variance import exact_variance
from scratchvae.validation import check_array, check_choice, check_integer, check_number

__all__ = [
    "FAMILIES",
    "Curves",
    "Family",
    "ReversalMap",
    "crossing",
    "published_curves",
    "reversal_map",
    "variances",
]

PARAMETERS = ("mean", "deviation")
COMPARED = (
    "score-function",
    "score-function-mean",
    "score-function-optimal",
    "pathwise",
    "measure-valued",
)
# Evaluations of f for the gradient with respect to one parameter of one coordinate; one where not listed.
_EVALUATIONS = {"measure-valued": 2, "measure-valued-uncoupled": 2}


class Family(NamedTuple):
    """f(z; k) with its first two derivatives, elementwise, and the values of k that were published."""

    formula: str
    value: Callable[[np.ndarray, float], np.ndarray]
    gradient: Callable[[np.ndarray, float], np.ndarray]
    curvature: Callable[[np.ndarray, float], np.ndarray]
    low: float
    high: float
    ratios: bool  # whether k was varied in equal ratios; otherwise in equal steps

    def grid(self, points: int) -> np.ndarray:
        """Values (points,) of k over the published range."""
        return (np.geomspace if self.ratios else np.linspace)(self.low, self.high, points)


FAMILIES = {
    "quadratic": Family(
        "(z − k)²",
        lambda z, k: (z - k) ** 2,
        lambda z, k: 2 * (z - k),
        lambda z, k: np.full_like(z, 2.0),
        -3.0,
        3.0,
        ratios=False,
    ),
    "bell": Family(
        "exp(−k z²)",
        lambda z, k: np.exp(-k * z**2),
        lambda z, k: -2 * k * z * np.exp(-k * z**2),
        lambda z, k: (4 * k**2 * z**2 - 2 * k) * np.exp(-k * z**2),
        0.1,
        10.0,
        ratios=True,
    ),
    "cosine": Family(
        "cos k z",
        lambda z, k: np.cos(k * z),
        lambda z, k: -k * np.sin(k * z),
        lambda z, k: -(k**2) * np.cos(k * z),
        0.5,
        5.0,
        ratios=True,
    ),
}


def variances(family: str, k: float, estimator: str, mean: float = 1.0, deviation: float = 1.0) -> np.ndarray:
    """Exact variances (2,) of one sample of an estimator with respect to mean and σ. (16.1) (16.4)

    Parameters
    ----------
    family : str
        A key of `FAMILIES`.
    k : float
        The family's parameter.
    estimator : str
        One of `EXACT_ESTIMATORS`.
    mean, deviation : float
        Of z; deviation is greater than 0.
    """
    chosen = FAMILIES[check_choice("family", family, FAMILIES)]
    k, deviation = check_number("k", k), check_number("deviation", deviation, above=0)
    found = exact_variance(
        lambda z: chosen.value(z[:, 0], k),
        mean,
        2 * float(np.log(deviation)),
        estimator,
        lambda z: chosen.gradient(z, k),
        lambda z: chosen.curvature(z, k),
    )
    return found.variance * [1.0, 4 / deviation**2]


class Curves(NamedTuple):
    """Exact variances over k."""

    k: np.ndarray  # (N,)
    variance: dict[str, np.ndarray]  # by estimator, (2, N): with respect to mean and σ


def published_curves(
    points: int = 100, estimators: Sequence[str] = COMPARED, families: Sequence[str] = tuple(FAMILIES)
) -> dict[str, Curves]:
    """The curves of the published Figures 2 and 3, z ~ N(1, 1), by family: exact, at `points` values of k.

    Parameters
    ----------
    points : int
    estimators : sequence of str
        Of `EXACT_ESTIMATORS`.
    families : sequence of str
        Of `FAMILIES`.

    Returns
    -------
    dict of str to Curves
    """
    points = check_integer("points", points)
    curves = {}
    for family in families:
        k = FAMILIES[check_choice("families", family, FAMILIES)].grid(points)
        curves[family] = Curves(
            k,
            {name: np.stack([variances(family, x, name) for x in k.tolist()], axis=1) for name in estimators},
        )
    return curves


def crossing(
    family: str,
    one: str,
    other: str,
    low: float,
    high: float,
    parameter: str = "mean",
    mean: float = 1.0,
    deviation: float = 1.0,
) -> float:
    """The k between low and high at which two estimators are equally loud, by bisection.

    Parameters
    ----------
    family : str
        A key of `FAMILIES`.
    one, other : str
        Of `EXACT_ESTIMATORS`.
    low, high : float
        Where k is looked for; which of the two is the quieter must differ between them.
    parameter : str
        `mean` or `deviation`.
    mean, deviation : float
        Of z.

    Raises
    ------
    ValueError
        If the same estimator is the quieter at both ends.
    """
    which = PARAMETERS.index(check_choice("parameter", parameter, PARAMETERS))

    def louder(k: float) -> bool:
        both = (variances(family, k, name, mean, deviation)[which] for name in (one, other))
        return bool(next(both) > next(both))

    low, high = check_number("low", low), check_number("high", high, above=low)
    at_low = louder(low)
    if louder(high) == at_low:
        quieter = other if at_low else one
        raise ValueError(
            f"{quieter} is the quieter at both low={low:g} and high={high:g}, expected a crossing"
        )
    while high - low > 1e-12 * max(abs(low), abs(high)):
        middle = 0.5 * (low + high)
        if louder(middle) == at_low:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


class ReversalMap(NamedTuple):
    """Exact variances over k and σ, and which estimator is quietest where."""

    k: np.ndarray  # (K,)
    deviation: np.ndarray  # (D,)
    estimators: tuple[str, ...]
    variance: np.ndarray  # (estimators, K, D), of one sample

    def quietest(self, *, per_evaluation: bool = False) -> np.ndarray:
        """Indices (K, D) of the quietest of `estimators`; ties within a millionth go to the one named first.

        Parameters
        ----------
        per_evaluation : bool
            Multiply each variance by the evaluations of f that one sample costs: two for the measure-valued
            ones, one for the others. A derivative of f is not charged.
        """
        costs = [_EVALUATIONS.get(name, 1) if per_evaluation else 1 for name in self.estimators]
        charged = np.array(costs)[:, None, None] * self.variance
        return (charged <= (1 + 1e-6) * charged.min(axis=0)).argmax(axis=0)


def reversal_map(
    family: str,
    k: np.ndarray,
    deviation: np.ndarray,
    parameter: str = "mean",
    estimators: Sequence[str] = COMPARED,
    mean: float = 1.0,
) -> ReversalMap:
    """The exact variances of several estimators over k and σ. (16.1)

    Parameters
    ----------
    family : str
        A key of `FAMILIES`.
    k : array_like (K,)
    deviation : array_like (D,)
        Values of σ, greater than 0.
    parameter : str
        `mean` or `deviation`.
    estimators : sequence of str
        Of `EXACT_ESTIMATORS`.
    mean : float
        Of z.

    Returns
    -------
    ReversalMap
    """
    which = PARAMETERS.index(check_choice("parameter", parameter, PARAMETERS))
    k, deviation = check_array("k", k, shape=("K",)), check_array("deviation", deviation, shape=("D",))
    found = np.empty((len(estimators), len(k), len(deviation)))
    for e, name in enumerate(estimators):
        for i, x in enumerate(k.tolist()):
            for j, y in enumerate(deviation.tolist()):
                found[e, i, j] = variances(family, x, name, mean, y)[which]
    return ReversalMap(k, deviation, tuple(estimators), found)
