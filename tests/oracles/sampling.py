"""One sampling test for all estimators: how many samples it takes, and whether their mean is off by more than chance.

The mean over samples is compared entry by entry with the exact gradient, in units of the exact standard error.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import norm

# Of a healthy estimator, one failure in 10⁸ runs over all entries together, the mean being taken as normal.
FALSE_FAILURE = 1e-8
# Of an estimator whose gradient is 6 % wrong in any one entry, at most one escape in 10⁶ runs.
BIAS = 0.06
MISS = 1e-6


def _threshold(entries):
    return norm.isf(FALSE_FAILURE / entries / 2)


def needed_samples(exact, variances):
    """The fewest independent samples at which BIAS in the least favourable entry is missed with probability MISS."""
    exact, variances = np.ravel(exact), np.ravel(variances)
    ratio = np.sqrt(variances) / (BIAS * np.abs(exact))
    return math.ceil((ratio.max() * (_threshold(exact.size) + norm.isf(MISS))) ** 2)


def looks_biased(means, exact, variances, samples):
    """Is any entry of the means further from the exact gradient than chance allows?"""
    means, exact, variances = np.ravel(means), np.ravel(exact), np.ravel(variances)
    return bool((np.abs(means - exact) > _threshold(exact.size) * np.sqrt(variances / samples)).any())


def assert_sampled_mean_is_exact(means, exact, variances, samples):
    """Fail if the means look biased, or if a planted bias of either sign in any entry would not."""
    means, exact = np.ravel(means).astype(float), np.ravel(exact)
    assert samples >= needed_samples(exact, variances)
    assert not looks_biased(means, exact, variances, samples)
    for entry in range(exact.size):
        for sign in (-1, 1):
            planted = means.copy()
            planted[entry] += sign * BIAS * exact[entry]
            assert looks_biased(planted, exact, variances, samples)
