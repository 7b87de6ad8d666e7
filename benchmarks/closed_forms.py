"""Closed forms and published figures of one-dimensional variances: claimed, exact, sampled; where favourites lose.

    python benchmarks/closed_forms.py

Claimed: a formula, or a figure from a publication. Exact: by quadrature, through the shipped estimators; for the bound
of ten samples by the integrals of `exact_deviations` below. Sampled: by the shipped estimators, with an interval of
INTERVAL standard errors. Writes benchmarks/results/closed_forms.json. About a minute.
"""

from __future__ import annotations

import argparse
import json
import time
from math import pi
from pathlib import Path

import numpy as np
from published_variances import sampled_variances

import scratchvae as sv
from scratchvae.estimators import FunctionIntegrand, LogWeight, make_estimator
from scratchvae.lab.exact_variance import exact_variance
from scratchvae.lab.published import FAMILIES, crossing, variances
from scratchvae.training.run_directory import versions

RESULT = Path(__file__).parent / "results" / "closed_forms.json"
PARAMETERS = ("mean", "deviation")
SETTINGS = [(1.0, 1.0, -3.0), (0.3, 0.2, 0.5), (-2.0, 1.7, 0.0)]  # mean, σ, k
# Of four standard errors one in 16,000 misses, were the sample variances normal.
INTERVAL = 4.0

# (with respect to, estimator, formula in a = μ − k, the same for a² and v = σ²), f = (z − k)².
FORMS = [
    ("mean", "score-function", "a⁴/σ² + 14a² + 15σ²", lambda a2, v: a2**2 / v + 14 * a2 + 15 * v),
    ("mean", "score-function-mean", "8a² + 10σ²", lambda a2, v: 8 * a2 + 10 * v),
    ("mean", "score-function-optimal", "8a² + 6σ²", lambda a2, v: 8 * a2 + 6 * v),
    ("mean", "pathwise", "4σ²", lambda _, v: 4 * v),
    ("mean", "measure-valued", "a²(16/π − 4)", lambda a2, _: a2 * (16 / pi - 4)),
    ("deviation", "score-function", "2a⁴/σ² + 60a² + 74σ²", lambda a2, v: 2 * a2**2 / v + 60 * a2 + 74 * v),
    ("deviation", "score-function-mean", "40a² + 56σ²", lambda a2, v: 40 * a2 + 56 * v),
    ("deviation", "score-function-optimal", "40a² + 24σ²", lambda a2, v: 40 * a2 + 24 * v),
    ("deviation", "pathwise", "4a² + 8σ²", lambda a2, v: 4 * a2 + 8 * v),
    ("deviation", "measure-valued", "4a² + 4σ²", lambda a2, v: 4 * a2 + 4 * v),
]
# (family, k, mean, with respect to, estimator, as published and to so many digits), σ = 1.
PUBLISHED = [
    ("quadratic", 0.0, 2.0, "mean", "score-function", "87"),
    ("quadratic", 0.0, 2.0, "mean", "pathwise", "4"),
    ("bell", 1.0, 1.0, "mean", "score-function", ".1758"),
    ("bell", 1.0, 1.0, "mean", "score-function-optimal", ".0722"),
    ("bell", 1.0, 1.0, "mean", "pathwise", ".2117"),
    ("bell", 1.0, 1.0, "mean", "measure-valued", ".0126"),
    ("bell", 1.0, 1.0, "deviation", "score-function", ".1767"),
    ("bell", 1.0, 1.0, "deviation", "score-function-mean", ".2232"),
    ("cosine", 5.0, 1.0, "mean", "pathwise", "12.5"),
    ("cosine", 5.0, 1.0, "mean", "score-function", ".50"),
]
# Of the setting in which doubly reparameterized gradients lose: target, proposal, samples of the bound,
# σ = log(1 + e^ρ), and the published standard deviations, of the mean of ten estimates, with respect to mean and ρ.
TARGET, PROPOSAL, SAMPLES, ESTIMATES = (2.0, 3.0), (-3.0, 1.0), 10, 10
DEVIATIONS = {
    "importance-weighted-pathwise": (".030", ".077"),
    "importance-weighted-doubly-reparameterized": (".202", ".365"),
}


def moments_of_form(n, rng):
    """The ten closed forms at three settings, and the published figures."""
    rows = []
    for mean, deviation, k in SETTINGS:
        for parameter, estimator, formula, value in FORMS:
            claimed = value((mean - k) ** 2, deviation**2)
            rows.append(
                compared("quadratic", k, mean, deviation, parameter, estimator, n, rng)
                | {"formula": formula, "claimed": claimed}
            )
            rows[-1]["relative_error"] = abs(rows[-1]["exact"] / claimed - 1)
    published = [
        compared(family, k, mean, 1.0, parameter, estimator, n, rng) | {"published": figure}
        for family, k, mean, parameter, estimator, figure in PUBLISHED
    ]
    return rows, published


def compared(family, k, mean, deviation, parameter, estimator, n, rng):
    """Exact and sampled variance of one estimator in one setting."""
    which = PARAMETERS.index(parameter)
    sampled, error = sampled_variances(family, k, estimator, n, rng, mean, deviation)[:, which]
    return {
        "family": family,
        "k": k,
        "mean": mean,
        "sigma": deviation,
        "with_respect_to": parameter,
        "estimator": estimator,
        "exact": float(variances(family, k, estimator, mean, deviation)[which]),
        "sampled": float(sampled),
        "standard_error": float(error),
    }


# --- the bound of several samples ---------------------------------------------------------------------------


def exact_deviations(estimator, target=TARGET, proposal=PROPOSAL, samples=SAMPLES):
    """Exact mean and standard deviation, each (2,), of one estimate with respect to (mean, ρ), without sampling.

    An estimate is Σ_k w_k^p h_k / W^p with W = Σ_j w_j and independent z_k: p = 1 and h = ∂log w/∂z ∂z/∂φ − score
    for the pathwise one (22.6), p = 2 and h = ∂log w/∂z ∂z/∂φ for the doubly reparameterized one (23.3). With
    1/W^m = ∫ t^(m−1) e^(−tW) dt / (m−1)! its moments are integrals over t alone, of products of means over one sample.
    """
    power = 2 if estimator.endswith("doubly-reparameterized") else 1
    (centre, spread), (mean, sigma) = target, proposal
    nodes, weights = np.polynomial.legendre.leggauss(4000)
    noise = 14 * nodes  # the density is 1e-43 there
    density = 14 * weights * np.exp(-(noise**2) / 2) / np.sqrt(2 * np.pi)
    z = mean + sigma * noise
    log_weight = -((z - centre) ** 2) / (2 * spread**2) + noise**2 / 2
    slope = -(z - centre) / spread**2 + noise / sigma
    to_rho = 1 - np.exp(-sigma)  # dσ/dρ
    terms = [slope, to_rho * slope * noise]
    if power == 1:
        terms = [terms[0] - noise / sigma, terms[1] - to_rho * (noise**2 - 1) / sigma]
    # The trapezoid rule over log t, between ends at which nothing is left; t as a multiple of 1 / least weight.
    step = 0.05
    means, squares = np.zeros(2), np.zeros(2)
    for log_t in np.arange(-70, 8, step):
        tw = np.exp(log_t + log_weight - log_weight.min())
        with np.errstate(over="ignore"):
            damped = density * np.exp(-tw)
        nothing = damped.sum()
        held = damped > 0  # beyond, tw may be large, and counts for nothing
        for i, h in enumerate(terms):
            one = (damped[held] * tw[held] ** power * h[held]).sum()
            two = (damped[held] * tw[held] ** (2 * power) * h[held] ** 2).sum()
            # 1/W^m dt becomes t^m d log t / (m − 1)!, with m = p for the mean and 2 p for the square.
            means[i] += step * samples * one * nothing ** (samples - 1)
            pairs = samples * (samples - 1) * one**2 * nothing ** (samples - 2)
            factorial = 6 if power == 2 else 1
            squares[i] += step * (samples * two * nothing ** (samples - 1) + pairs) / factorial
    return means, np.sqrt(squares - means**2)


def sampled_deviations(estimator, n, rng, target=TARGET, proposal=PROPOSAL, samples=SAMPLES):
    """Standard deviations (2,) of n estimates by the shipped estimator, and their standard errors (2,)."""
    (centre, spread), (mean, sigma) = target, proposal
    f = FunctionIntegrand(
        lambda z: -((z[..., 0] - centre) ** 2) / (2 * spread**2), lambda z: -(z - centre) / spread**2
    )
    at = np.array([mean]), np.array([2 * np.log(sigma)])
    # n bounds stand side by side, as the examples of a minibatch do.
    noise = rng.standard_normal((samples, n, 1))
    gradients = make_estimator(estimator).sample_gradients(LogWeight(f, *at), *at, noise)
    to_rho = 2 / sigma * (1 - np.exp(-sigma))  # d log σ² / dρ
    found = np.stack([gradients[0].mean(axis=0)[:, 0], to_rho * gradients[1].mean(axis=0)[:, 0]], axis=1)
    squares = (found - found.mean(axis=0)) ** 2
    deviation = np.sqrt(squares.sum(axis=0) / (n - 1))
    return deviation, squares.std(axis=0, ddof=1) / np.sqrt(n) / (2 * deviation)


def bound_of_ten(n, rng):
    rows = []
    for estimator, published in DEVIATIONS.items():
        means, exact = exact_deviations(estimator)
        sampled, error = sampled_deviations(estimator, n, rng)
        for i, parameter in enumerate(("mean", "rho")):
            rows.append(
                {
                    "with_respect_to": parameter,
                    "estimator": estimator,
                    "published": published[i],
                    "gradient": means[i],
                    # Published are deviations of the mean of ten estimates.
                    "exact": exact[i] / np.sqrt(ESTIMATES),
                    "sampled": sampled[i] / np.sqrt(ESTIMATES),
                    "standard_error": error[i] / np.sqrt(ESTIMATES),
                }
            )
    return rows


# --- where favourites lose ----------------------------------------------------------------------------------


def crossings():
    """Where the favourite and the other are equally loud; on the side that is named the favourite loses."""
    places = {
        "pathwise, exp(−k z²), μ": ("bell", "pathwise", 0.1, 10.0, "mean", 0.89),
        "pathwise, cos k z, μ": ("cosine", "pathwise", 0.5, 5.0, "mean", 1.08),
        "mean baseline, exp(−k z²), σ": ("bell", "score-function-mean", 0.1, 1.0, "deviation", None),
    }
    found = {}
    for name, (family, favourite, low, high, parameter, published) in places.items():
        at = crossing(family, favourite, "score-function", low, high, parameter)
        grid = FAMILIES[family].grid(100)
        found[name] = {
            "loses_for_k_above": at,
            "first_of_100_points": float(grid[grid > at][0]),
            "published": published,
        }
    return found


def losses(n, rng):
    """One setting for each favourite in which it loses, exact and sampled, with the distance in standard errors."""
    rows = []
    for family, k, parameter, favourite, other, where in (
        ("bell", 1.0, "mean", "pathwise", "score-function", "exp(−z²), z ~ N(1, 1), μ"),
        ("cosine", 5.0, "mean", "pathwise", "score-function", "cos 5z, z ~ N(1, 1), μ"),
        ("bell", 1.0, "deviation", "score-function-mean", "score-function", "exp(−z²), z ~ N(1, 1), σ"),
    ):
        pair = [compared(family, k, 1.0, 1.0, parameter, name, n, rng) for name in (favourite, other)]
        rows.append(loss(where, "variance", favourite, other, pair))
    # Sticking the landing for a posterior N(0, 1) and q = N(0.5, 0.5²), narrower than it by more than √2. (15.5)
    mean, sigma = 0.5, 0.5
    known = {
        "sticking-the-landing": (
            lambda z: -(z[:, 0] ** 2) / 2 + (z[:, 0] - mean) ** 2 / (2 * sigma**2),
            lambda z: -z + (z - mean) / sigma**2,
        ),
        # The bound's other derivative: log q's own dependence on its parameters takes the second term's path away.
        "pathwise": (lambda z: -(z[:, 0] ** 2) / 2, lambda z: -z),
    }
    pair = []
    for name, (f, gradient) in known.items():
        d_mean, _ = sv.gradient_samples(f, [mean], [2 * np.log(sigma)], name, n, rng, gradient)
        squares = (d_mean[:, 0] - d_mean.mean()) ** 2
        pair.append(
            {
                "exact": float(exact_variance(f, mean, 2 * np.log(sigma), "pathwise", gradient).variance[0]),
                "sampled": float(squares.sum() / (n - 1)),
                "standard_error": float(squares.std(ddof=1) / np.sqrt(n)),
            }
        )
    rows.append(
        loss("posterior N(0, 1), q = N(0.5, 0.25), μ", "variance", "sticking-the-landing", "pathwise", pair)
    )
    return rows


def loss(where, what, favourite, other, pair):
    """One row: the favourite's and the other's exact and sampled figures."""
    keys = ("exact", "sampled", "standard_error")
    loses, wins = ({key: one[key] for key in keys} for one in pair)
    assert loses["exact"] > wins["exact"], where
    apart = (loses["sampled"] - wins["sampled"]) / np.hypot(loses["standard_error"], wins["standard_error"])
    return {
        "where": where,
        "what": what,
        "loses": {"estimator": favourite} | loses,
        "wins": {"estimator": other} | wins,
        "standard_errors_apart": float(apart),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--samples", type=int, default=1_000_000, help="of each variance (default: 1,000,000)"
    )
    parser.add_argument("--bounds", type=int, default=100_000, help="of ten samples (default: 100,000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.process_time()
    rng = np.random.default_rng(options.seed)
    forms, published = moments_of_form(options.samples, rng)
    print("closed forms: largest relative error", max(row["relative_error"] for row in forms), flush=True)
    bound = bound_of_ten(options.bounds, rng)
    print(json.dumps(bound), flush=True)
    lost = losses(options.samples, rng)
    for parameter in range(2):
        pathwise, doubly = bound[parameter], bound[2 + parameter]
        where = "target N(2, 9), q = N(−3, 1), 10 samples, " + ("μ", "ρ")[parameter]
        what = "standard deviation"
        lost.append(loss(where, what, doubly["estimator"], pathwise["estimator"], (doubly, pathwise)))
    rows = [*forms, *published, *bound]
    inside = [abs(row["sampled"] - row["exact"]) <= INTERVAL * row["standard_error"] for row in rows]
    record = {
        "command": "python benchmarks/closed_forms.py",
        "settings": {
            "samples": options.samples,
            "bounds": options.bounds,
            "seed": options.seed,
            "interval": INTERVAL,
        },
        "coverage": {"inside": int(sum(inside)), "intervals": len(inside)},
        "closed_forms": forms,
        "published": published,
        "bound_of_ten": bound,
        "crossings": crossings(),
        "losses": lost,
        "versions": versions(),
    }
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record["coverage"]), json.dumps(record["crossings"]))
    for row in lost:
        print(json.dumps(row))
    print(f"{time.process_time() - start:.0f} s of CPU")


if __name__ == "__main__":
    main()
