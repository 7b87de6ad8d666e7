"""Expectations over standard normal noise without a random number: three ways, none of which knows scratchvae.

Gauss–Hermite nodes stand in for noise where code is to be run on them; symbolic integration and integration
at 50 digits check equations.
"""

from __future__ import annotations

import functools
import itertools
import math

import mpmath
import numpy as np
import sympy


@functools.cache
def gauss_hermite(count):
    """Nodes and weights (count,) with Σ weights · f(nodes) = E f(ε), exact for polynomials below degree 2 count."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    weights = weights / np.sqrt(2 * np.pi)
    nodes.flags.writeable = weights.flags.writeable = False
    return nodes, weights


@functools.cache
def gauss_hermite_product(count, dimensions):
    """Nodes (count^dimensions, dimensions) and weights (count^dimensions,) for independent ε₁ … ε_dimensions."""
    nodes, weights = gauss_hermite(count)
    points = np.array(list(itertools.product(nodes, repeat=dimensions)))
    products = np.array(
        [np.prod(combination) for combination in itertools.product(weights, repeat=dimensions)]
    )
    points.flags.writeable = products.flags.writeable = False
    return points, products


def weighted_mean(weights, values):
    """Σ weights · values over the first axis of values."""
    return np.tensordot(weights, values, axes=(0, 0))


@functools.cache
def _symbolic_moment(power):
    noise = sympy.Symbol("noise", real=True)
    density = sympy.exp(-(noise**2) / 2) / sympy.sqrt(2 * sympy.pi)
    return sympy.simplify(sympy.integrate(noise**power * density, (noise, -sympy.oo, sympy.oo)))


def symbolic_expectation(expression, *noises):
    """E of a polynomial in independent standard normal symbols, each moment integrated by SymPy."""
    for noise in noises:
        polynomial = sympy.Poly(sympy.expand(expression), noise)
        expression = sum(
            coefficient * _symbolic_moment(power) for (power,), coefficient in polynomial.terms()
        )
    return sympy.expand(expression)


def symbolic_variance(expression, *noises):
    """Variance of a polynomial in independent standard normal symbols."""
    return sympy.expand(
        symbolic_expectation(expression**2, *noises) - symbolic_expectation(expression, *noises) ** 2
    )


def precise_expectation(function, mean=0, deviation=1, breaks=()):
    """E f(z), z ~ N(mean, deviation²), in mpmath's working precision; beyond 17 deviations there is nothing left.

    `breaks` are points where f jumps or has a kink.
    """
    mean, deviation = mpmath.mpf(mean), mpmath.mpf(deviation)

    def integrand(z):
        return function(z) * mpmath.npdf(z, mean, deviation)

    points = [mean + deviation * mpmath.mpf(step) for step in np.linspace(-17, 17, 18).tolist()]
    return mpmath.quad(integrand, sorted([*points, *map(mpmath.mpf, breaks)]), method="gauss-legendre")


def _panels(edges, count):
    """Gauss–Legendre with `count` points in each interval between two edges: nodes and weights."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    half = np.diff(edges) / 2
    centre = (np.asarray(edges)[1:] + np.asarray(edges)[:-1]) / 2
    return (centre[:, None] + half[:, None] * nodes).ravel(), (half[:, None] * weights).ravel()


@functools.cache
def chi_rule(degrees, count=24):
    """Nodes and weights for E f(√(ε₁² + … + ε_degrees²)), f analytic; beyond 14 there is nothing left."""
    nodes, weights = _panels(np.linspace(0, 14, 8), count)
    density = nodes ** (degrees - 1) * np.exp(-(nodes**2) / 2)
    return nodes, weights * density / (2 ** (degrees / 2 - 1) * math.gamma(degrees / 2))


@functools.cache
def cosine_rule(count=24):
    """Nodes and weights for E f(u), u uniform on (−1, 1), where f may have a kink or a jump at zero."""
    nodes, weights = _panels([-1, 0, 1], count)
    return nodes, weights / 2


def grid(*rules):
    """The product of rules (nodes, weights): a list of arrays of nodes, one for each rule, and their weights."""
    nodes = np.meshgrid(*(rule[0] for rule in rules), indexing="ij")
    weights = functools.reduce(np.multiply.outer, (rule[1] for rule in rules))
    return [axis.ravel() for axis in nodes], weights.ravel()
