"""Sticking the landing: the path derivative of a bound. Derived in `derivations/15-sticking_the_landing.md`."""

from __future__ import annotations

from scratchvae.estimators.pathwise import Pathwise

__all__ = ["StickingTheLanding"]


class StickingTheLanding(Pathwise):
    """Pathwise, without the direct dependence of f on mean and log_var, whose expectation is zero. (15.1)

    The sampled KL is such an f: log q(z) depends on mean and log_var through z and by itself. Where q is the
    exact posterior the path derivative is zero in every sample (15.2); where q is much narrower it is the
    louder one (15.5). For an f that depends on z alone, and for the analytic KL, it is pathwise itself.
    """

    name = "sticking-the-landing"
    path_only = True  # whoever knows of a direct part leaves it out
