"""What the gradient estimators must come to: exact gradients of expectations, exact variances, plain baselines."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

# --- gradients of expectations ---------------------------------------------------------------------------
# Each integrand has E f(z), z ~ N(mean, exp(log_var)), as a closed form that accepts complex arguments.


class Known(NamedTuple):
    """An integrand of z (..., L) whose expectation is known."""

    value: object  # z (..., L) → (...)
    gradient: object  # z (..., L) → (..., L)
    expectation: object  # mean (L,), log_var (L,) → number


def quadratic(target):
    """Σ (z − target)²."""
    return Known(
        lambda z: ((z - target) ** 2).sum(axis=-1),
        lambda z: 2 * (z - target),
        lambda mean, log_var: ((mean - target) ** 2 + np.exp(log_var)).sum(),
    )


def wave(frequencies, phase):
    """cos(frequencies · z + phase)."""
    frequencies = np.asarray(frequencies)
    return Known(
        lambda z: np.cos(z @ frequencies + phase),
        lambda z: -np.sin(z @ frequencies + phase)[..., None] * frequencies,
        lambda mean, log_var: (
            np.cos((frequencies * mean).sum() + phase)
            * np.exp(-0.5 * (frequencies**2 * np.exp(log_var)).sum())
        ),
    )


def exponential(rates):
    """exp(rates · z)."""
    rates = np.asarray(rates)
    return Known(
        lambda z: np.exp(z @ rates),
        lambda z: np.exp(z @ rates)[..., None] * rates,
        lambda mean, log_var: np.exp((rates * mean).sum() + 0.5 * (rates**2 * np.exp(log_var)).sum()),
    )


def coupled():
    """z₁² z₂ + z₁ z₂³, in which the coordinates do not separate: E z³ = μ³ + 3μσ²."""

    def gradient(z):
        first, second = z[..., 0], z[..., 1]
        return np.stack([2 * first * second + second**3, first**2 + 3 * first * second**2], axis=-1)

    return Known(
        lambda z: z[..., 0] ** 2 * z[..., 1] + z[..., 0] * z[..., 1] ** 3,
        gradient,
        lambda mean, log_var: (
            (mean[0] ** 2 + np.exp(log_var[0])) * mean[1]
            + mean[0] * (mean[1] ** 3 + 3 * mean[1] * np.exp(log_var[1]))
        ),
    )


# --- variances of one sample of the gradient -------------------------------------------------------------
# f = (z − k)², z ~ N(μ, σ²), a = μ − k. As published the second row is with respect to σ; with respect to
# ℓ = log σ² it is σ²/4 times that, dσ/dℓ being σ/2.


def quadratic_variances(mean, deviation, target):
    """{(method, parameter): variance} with the methods of the published table and mean, log_var."""
    a, v = mean - target, deviation**2
    with_respect_to_mean = {
        "score-function": a**4 / v + 14 * a**2 + 15 * v,
        "mean baseline": 8 * a**2 + 10 * v,
        "optimal baseline": 8 * a**2 + 6 * v,
        "pathwise": 4 * v,
        "measure-valued": a**2 * (16 / math.pi - 4),
    }
    with_respect_to_deviation = {
        "score-function": 2 * a**4 / v + 60 * a**2 + 74 * v,
        "mean baseline": 40 * a**2 + 56 * v,
        "optimal baseline": 40 * a**2 + 24 * v,
        "pathwise": 4 * a**2 + 8 * v,
        "measure-valued": 4 * a**2 + 4 * v,
    }
    table = {(method, "mean"): value for method, value in with_respect_to_mean.items()}
    table |= {(method, "log_var"): v / 4 * value for method, value in with_respect_to_deviation.items()}
    return table


def cosine_variances(mean, deviation, frequency):
    """(pathwise, score function) variance with respect to the mean for f = cos kz. (6.8)"""
    k, v = frequency, deviation**2
    squared_gradient = k**2 * math.exp(-(k**2) * v) * math.sin(k * mean) ** 2
    damped = math.exp(-2 * k**2 * v) * math.cos(2 * k * mean)
    pathwise = k**2 / 2 * (1 - damped) - squared_gradient
    score = (1 + (1 - 4 * k**2 * v) * damped) / (2 * v) - squared_gradient
    return pathwise, score


def bell_variances(mean, deviation, rate):
    """(pathwise, score function) variance with respect to the mean for f = exp(−kz²). (6.10)"""
    v = deviation**2

    def tilted(c):
        factor = 1 + 2 * c * v
        return math.exp(-c * mean**2 / factor) / math.sqrt(factor), mean / factor, v / factor

    mass, centre, _ = tilted(rate)
    squared_gradient = (2 * rate * mass * centre) ** 2
    mass, centre, spread = tilted(2 * rate)
    pathwise = 4 * rate**2 * mass * (spread + centre**2) - squared_gradient
    score = mass * (spread + (centre - mean) ** 2) / v**2 - squared_gradient
    return pathwise, score


# --- baselines, as loops ----------------------------------------------------------------------------------


def leave_one_out(values):
    """Each value of a list minus the mean of the others. (7.4)"""
    return [
        value - sum(other for t, other in enumerate(values) if t != s) / (len(values) - 1)
        for s, value in enumerate(values)
    ]


def running_mean(values, decay):
    """Each value of a list minus the weighted mean of those before it, weights decay^age; the first minus 0. (7.7)"""
    centered = []
    for t, value in enumerate(values):
        weights = [decay ** (t - 1 - r) for r in range(t)]
        past = sum(w * v for w, v in zip(weights, values[:t], strict=True)) / sum(weights) if t else 0.0
        centered.append(value - past)
    return centered


# --- the importance-weighted bound ------------------------------------------------------------------------


class Target(NamedTuple):
    """log p(x, z) of a logistic observation: z (..., 1) → (...), and its slope."""

    value: object
    gradient: object


def logistic_target(sharpness=1.3, offset=0.4, count=3):
    """−½z² − count · log(1 + exp(−(sharpness z + offset))): smooth, and no Gaussian."""

    def value(z):
        return (-(z**2) / 2 - count * np.log(1 + np.exp(-(sharpness * z + offset)))).sum(axis=-1)

    def gradient(z):
        return -z + count * sharpness / (1 + np.exp(sharpness * z + offset))

    return Target(value, gradient)


def gaussian_target(mean, deviation):
    """log N(z; mean, deviation²), normalised."""
    return Target(
        lambda z: (
            -(((z - mean) / deviation) ** 2) / 2 - math.log(deviation) - math.log(2 * math.pi) / 2
        ).sum(axis=-1),
        lambda z: -(z - mean) / deviation**2,
    )


def log_mean_weight(log_joint, mean, log_var, noise, beta=1.0):
    """log (1/K) Σ exp(f(z_k) − beta log q(z_k)), from the definition: noise (K, N, 1) → (N,); complex is welcome."""
    deviation = np.exp(log_var / 2)
    density = np.exp(-(noise**2) / 2) / (deviation * np.sqrt(2 * np.pi))
    log_weights = log_joint(mean + deviation * noise) - beta * np.log(density).sum(axis=-1)
    shift = np.real(log_weights).max(axis=0)
    return shift + np.log(np.exp(log_weights - shift).sum(axis=0) / len(noise))
