"""For test suites: a hand-written gradient is right, or the test fails and says what is wrong."""

from __future__ import annotations

from typing import Any

from scratchvae.lab.gradcheck import GradientReport, check_gradients

__all__ = ["assert_gradients"]


def assert_gradients(target: Any, *arguments: Any, **settings: Any) -> GradientReport:
    """As `scratchvae.check_gradients`, with an AssertionError, which tells everything, if the check fails.

    Parameters
    ----------
    target, *arguments, **settings
        See `scratchvae.check_gradients`.

    Returns
    -------
    GradientReport
        Of a check that passed.
    """
    __tracebackhide__ = True  # pytest ends its traceback in the test itself
    report = check_gradients(target, *arguments, **settings)
    report.raise_if_failed()
    return report
