"""Is an estimator unbiased? A test of the mean of its samples whose error rates hold for any tails.

No mean is taken as normal, and biases in different coordinates cannot cancel.
Derived in `derivations/20-sampling_test.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from scratchvae.validation import check_array, check_number

__all__ = ["BiasReport", "check_unbiased", "draws_needed"]

_ROWS = 2**15  # of draws at a time, so that there is no second array as large as theirs
_TINY = 1e-200  # smallest variance: less of it is rounding, and what is divided by its root would overflow
_FAR = 1e150  # deviations: the square must not overflow


@dataclass(frozen=True)
class BiasReport:
    """The result of `check_unbiased`; every array has the shape of one draw, (...).

    Attributes
    ----------
    draws : int
        N.
    expected, mean : ndarray
        The claim, and the plain average of the draws, for the eye: it is not what decides.
    detectable_bias : ndarray
        The smallest bias of each coordinate that goes unseen with a probability of at most `miss`. (20.8)
    evidence : ndarray
        Against the claim, for each coordinate, in nats. (20.3)
    false_failure, miss : float
        As asked for.
    variance_given : bool
        Whether the rates are guaranteed; without a bound on the variance they rest on an estimate of it.
    """

    draws: int
    expected: np.ndarray = field(repr=False)
    mean: np.ndarray = field(repr=False)
    detectable_bias: np.ndarray = field(repr=False)
    evidence: np.ndarray = field(repr=False)
    false_failure: float
    miss: float
    variance_given: bool

    @property
    def biased(self) -> np.ndarray:
        """Which coordinates, (...), have more evidence against them than chance allows. (20.4)"""
        return np.asarray(self.evidence >= _evidence_for(self.false_failure, self.evidence.size))

    @property
    def passed(self) -> bool:
        """No coordinate is biased as far as can be seen."""
        return not self.biased.any()

    @property
    def p_value(self) -> float:
        """A bound on the chance that an unbiased estimator shows as much evidence in any coordinate. (20.4)"""
        return min(1.0, 2 * self.evidence.size * math.exp(-float(self.evidence.max())))

    @property
    def worst_index(self) -> tuple[int, ...]:
        """The coordinate with the most evidence against it."""
        return tuple(int(i) for i in np.unravel_index(int(self.evidence.argmax()), self.evidence.shape))

    def __str__(self) -> str:
        index = self.worst_index
        verdict = "no bias seen" if self.passed else "biased"
        premise = "" if self.variance_given else ", if the variance is what these draws make of it"
        return (
            f"{verdict}: at {index} the mean of {self.draws:,} draws is {self.mean[index]:.6g}, expected "
            f"{self.expected[index]:.6g} (p ≤ {self.p_value:.2g}{premise}); a bias of "
            f"{self.detectable_bias[index]:.3g} there is missed with a probability of at most {self.miss:.2g}"
        )


def check_unbiased(
    draws: np.ndarray,
    expected: np.ndarray,
    variance: np.ndarray | None = None,
    *,
    false_failure: float = 1e-6,
    miss: float = 1e-6,
) -> BiasReport:
    """Test whether independent draws of an estimator have the expected mean, in every coordinate.

    It fails an unbiased estimator with a probability of at most `false_failure`, over all coordinates together and
    whatever the distribution of the draws, as long as `variance` bounds theirs. (20.4)

    Parameters
    ----------
    draws : ndarray (N, ...)
        One estimate in each row, rows independent of each other. Where an estimator compares the samples of one
        call, or remembers earlier ones, the mean of a whole call is one draw.
    expected : ndarray (...)
        The exact mean; zeros, if the draws are differences between two estimators on independent noise.
    variance : ndarray (...), optional
        Of one draw, or something larger. By default it is estimated from these draws, and then the rates hold only
        as far as that estimate does: for heavy tails it is often too small.
    false_failure : float
        In (0, 1).
    miss : float
        The probability, in (0, 1), with which a bias of the size that the report calls detectable may go unseen.

    Returns
    -------
    BiasReport

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit, a value is not finite, or there are too few draws for any bias to be seen.

    Examples
    --------
    >>> import numpy as np, scratchvae as sv
    >>> mean, log_var = np.array([0.5]), np.zeros(1)
    >>> d_mean, d_log_var = sv.gradient_samples(lambda z: z[:, 0] ** 2, mean, log_var, num_samples=20_000, rng=0)
    >>> print(sv.check_unbiased(d_mean, [1.0], [18.5625]).passed)  # E z² has the derivative 2 · 0.5
    True
    """
    draws = np.asarray(draws)
    shape = draws.shape[1:]
    draws = check_array("draws", draws, shape=("N", *shape), dtype=np.float64)
    expected = check_array("expected", expected, shape=shape, dtype=np.float64)
    nats = _nats(false_failure, miss, expected.size)
    if len(draws) <= 2 * nats:
        raise ValueError(
            f"draws has {len(draws)} rows, expected more than {2 * nats:.0f} for false_failure={false_failure:g} "
            f"and miss={miss:g}: draws_needed(...) says how many a bias of given size takes"
        )
    if variance is None:
        square = ((draws - expected) ** 2).mean(axis=0)
        bound = np.where(square == 0, 1.0, square)  # draws that are all as expected speak for any variance
    else:
        bound = check_array("variance", variance, shape=shape, dtype=np.float64, low=_TINY)
    deviation = np.sqrt(bound)
    size = 2 * math.sqrt(nats / (len(draws) - 2 * nats))  # (20.8)
    rate = size / (2 + size**2)  # (20.6)
    total = np.zeros(shape)
    for start in range(0, len(draws), _ROWS):
        total += _influence(rate * (draws[start : start + _ROWS] - expected) / deviation).sum(axis=0)
    evidence = np.asarray(np.abs(total) - len(draws) * rate**2 / 2)  # (20.3)
    return BiasReport(
        len(draws),
        expected,
        np.asarray(draws.mean(axis=0)),
        np.asarray(size * deviation),
        evidence,
        false_failure,
        miss,
        variance is not None,
    )


def draws_needed(
    variance: np.ndarray, bias: np.ndarray, *, false_failure: float = 1e-6, miss: float = 1e-6
) -> int:
    """How many draws `check_unbiased` needs to see a bias of given size in any one coordinate. (20.7)

    Parameters
    ----------
    variance, bias : ndarray (...)
        Of one draw, or a bound on it; and the size, of either sign, of what is to be seen in each coordinate.
    false_failure, miss : float
        As for `check_unbiased`.

    Returns
    -------
    int

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit, or a variance or a bias is not positive.
    """
    variance = check_array("variance", variance, dtype=np.float64, low=_TINY)
    bias = np.abs(check_array("bias", bias, shape=variance.shape, dtype=np.float64))
    bias = check_array("bias", bias, low=_TINY)
    largest = float((np.sqrt(variance) / bias).max()) ** 2
    return math.floor(_nats(false_failure, miss, variance.size) * (4 * largest + 2)) + 1


def _influence(x: np.ndarray) -> np.ndarray:
    """ψ(x): like x near zero, like 2 log |x| far away, so that no single draw decides. (20.1)"""
    size = np.minimum(np.abs(x), _FAR)
    return np.copysign(np.log1p(size + 0.5 * size**2), x)


def _evidence_for(false_failure: float, coordinates: int) -> float:
    """Nats beyond which a coordinate fails: two signs, each coordinate its share. (20.4)"""
    return math.log(2 * coordinates / false_failure)


def _nats(false_failure: float, miss: float, coordinates: int) -> float:
    """L, the nats that a detectable bias has to give: for the verdict, and not to be missed. (20.7)"""
    false_failure = check_number("false_failure", false_failure, above=0.0, high=1.0)
    miss = check_number("miss", miss, above=0.0, high=1.0)
    return _evidence_for(false_failure, coordinates) + math.log(1 / miss)
