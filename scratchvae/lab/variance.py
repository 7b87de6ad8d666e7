"""The variance of a VAE's gradient over the sampling noise, for every parameter, under each estimator.

Everything upstream of (mean, log_var) is one linear backward pass, and the examples of a minibatch have
independent noise. So the variance of a dense weight's gradient needs no gradient of that weight: one sample's
gradient is an outer product, input times delta, and its second moment is the product of their squares.
Derived in `derivations/11-variance.md`; what happens to one block of draws is in `variance_blocks.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from scratchvae.densities.gaussian import gaussian_kl_backward, gaussian_kl_forward
from scratchvae.estimators import ESTIMATORS
from scratchvae.lab.variance_blocks import BlockMoments, Group, MinibatchPasses
from scratchvae.lab.variance_terms import TERMS
from scratchvae.models.vae import VAE, check_vae
from scratchvae.randomness import as_generator, standard_normal
from scratchvae.validation import check_array, check_choice, check_integer

__all__ = ["GradientVariance", "Tail", "gradient_variance"]

# Draws are split into this many blocks; the spread of the blocks' variances is the standard error. Twenty
# know a standard error to about a sixth of itself, and cost a twentieth of the degrees of freedom at most.
_BLOCKS = 20
# The longest block: what is done once for each is then little beside its draws, and an estimator that passes the
# decoder itself, as measure-valued gradients do, needs less than half a gigabyte for 784 pixels and 400 hidden units.
_LONGEST_BLOCK = 3072


class Tail(NamedTuple):
    """How heavy the tail of an estimator's gradient is, and so how far to trust its measured variance. (11.8)"""

    kurtosis: float  # E q² / (E q)², q the squared distance of one estimate from the mean
    effective_draws: (
        float  # estimates / kurtosis: as many would know the variance as well if all q were alike
    )
    largest_share: float  # of the loudest single estimate in the variance
    standard_error: float  # of `total(estimator, "encoder")`, from the kurtosis


@dataclass(frozen=True)
class GradientVariance:
    """Mean and variance over the sampling noise, of the gradient of the loss on one fixed minibatch.

    Attributes
    ----------
    estimators : tuple of str
    num_samples : int
        Draws of the noise.
    mean, variance : dict of dict of ndarray
        [estimator][parameter], in the parameter's shape. The variance is that of a gradient with one sample
        per example; of an estimator whose K samples belong together, K times that of their mean, the same
        price in samples. (11.6)
    mean_standard_error, variance_standard_error : dict of dict of ndarray
        Their standard errors. Gradients of the score function are heavy-tailed: the fewer draws, the more
        likely it is that both the variance and its standard error are too small. `tail` tells how far to
        trust them.
    samples : dict of int
        K of each estimator.
    """

    estimators: tuple[str, ...]
    num_samples: int
    mean: dict[str, dict[str, np.ndarray]] = field(repr=False)
    variance: dict[str, dict[str, np.ndarray]] = field(repr=False)
    mean_standard_error: dict[str, dict[str, np.ndarray]] = field(repr=False)
    variance_standard_error: dict[str, dict[str, np.ndarray]] = field(repr=False)
    samples: dict[str, int] = field(repr=False)
    _block_totals: dict[str, dict[str, np.ndarray]] = field(repr=False)  # [estimator][parameter] (blocks,)
    _squares: dict[str, np.ndarray] = field(repr=False)  # [estimator] (E,)

    def total(self, estimator: str, part: str = "") -> float:
        """The trace: variances summed over all parameters whose name starts with `part`, such as `encoder`."""
        return float(self.block_totals(estimator, part).mean())

    def total_standard_error(self, estimator: str, part: str = "") -> float:
        """The standard error of `total`, from the spread of the blocks. (11.7)"""
        blocks = self.block_totals(estimator, part)
        return float(blocks.std(ddof=1) / np.sqrt(len(blocks)))

    def squared_mean(self, estimator: str, part: str = "") -> float:
        """‖E g‖² over the same parameters, without what the mean's own noise adds to it; may be below zero. (11.10)"""
        mean = sum(float((m**2).sum()) for n, m in self.mean[estimator].items() if n.startswith(part))
        return mean - self.total(estimator, part) / self.num_samples

    def signal_to_noise(self, estimator: str, part: str = "") -> float:
        """‖E g‖ / √total: the signal-to-noise ratio of a gradient with one sample per example. (11.10)

        Zero where the draws are too few to tell the mean from zero; infinite where there is no noise.
        """
        signal, noise = max(self.squared_mean(estimator, part), 0.0), self.total(estimator, part)
        return math.sqrt(signal / noise) if noise > 0 else math.inf

    def tail(self, estimator: str) -> Tail:
        """How far to trust the variance of the encoder's gradient. (11.8)

        If `largest_share` is more than a few per cent, or `effective_draws` no more than a few dozen, single
        draws decide the result, and both it and its standard errors are likely to be too small.
        """
        squares = self._squares[estimator]
        count, total = len(squares), float(squares.sum())
        kurtosis = count * float((squares**2).sum()) / total**2 if total > 0 else 1.0
        share = float(squares.max()) / total if total > 0 else 0.0
        error = total / count * math.sqrt(max(kurtosis - 1, 0) / count)
        return Tail(kurtosis, count / kurtosis, share, error)

    def block_totals(self, estimator: str, part: str = "") -> np.ndarray:
        """Each block's total, (blocks,): what the standard error is made of, and that of a difference can be."""
        totals = [total for name, total in self._block_totals[estimator].items() if name.startswith(part)]
        if not totals:
            raise ValueError(
                f"part is {part!r}, expected the beginning of a parameter's name such as 'encoder'"
            )
        return np.sum(totals, axis=0)


def gradient_variance(
    vae: VAE,
    x: np.ndarray,
    estimators: Sequence[str] = ("pathwise", "score-function"),
    num_samples: int = 1000,
    rng: np.random.Generator | int | None = 0,
    *,
    samples_per_estimate: int = 10,
    term: str = "loss",
) -> GradientVariance:
    """Measure the variance of the loss's gradient over the sampling noise alone, for a fixed minibatch.

    All estimators see the same noise. The decoder's gradient is that at independent samples and the same for
    all, except under antithetic pairs, and for the importance-weighted bound, which is another loss: there it
    is measured with the samples of one estimate coupled as they are. (11.9)

    Parameters
    ----------
    vae : VAE
    x : ndarray (B, D)
        One minibatch, binarized if the model wants binary data; it stays the same throughout.
    estimators : sequence of str
        Names in `scratchvae.estimators.ESTIMATORS` or `FURTHER_ESTIMATORS`.
    num_samples : int
        Draws of the noise, rounded down to whole blocks; at least 40 times the samples of one estimate.
    rng : Generator, int or None
    samples_per_estimate : int
        K, for an estimator that compares samples with each other, such as leave-one-out, and of the
        importance-weighted bound.
    term : {"loss", "reconstruction", "kl"}
        What the gradient is of: the whole loss, or one of its two terms. The analytic KL has no noise.

    Returns
    -------
    GradientVariance

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong.
    """
    x = check_vae(vae).check_x(x)
    check_array("vae.theta", vae.theta)
    check_choice("term", term, TERMS)
    names = tuple(dict.fromkeys([estimators] if isinstance(estimators, str) else estimators))
    if not names:
        raise ValueError(
            f"estimators is {estimators!r}, expected at least one name of: {', '.join(ESTIMATORS)}"
        )
    groups = {name: Group.of(name, samples_per_estimate) for name in names}
    whole_groups = math.lcm(*(group.samples for group in groups.values()))
    num_samples = check_integer("num_samples", num_samples, low=2 * _BLOCKS * whole_groups)
    generator = as_generator(rng)
    # Whole groups, and two of them at least: one estimate has no spread.
    block_size = min(num_samples // _BLOCKS, max(_LONGEST_BLOCK, 2 * whole_groups))
    block_size -= block_size % whole_groups
    num_blocks = num_samples // block_size

    passes = MinibatchPasses(vae, x, term)
    shape = (block_size, *passes.mean.shape)
    _settle(groups, passes, standard_normal(generator, shape, vae.dtype))
    sums = {name: _Sums(vae, num_blocks) for name in names}
    for block in range(num_blocks):
        samples = passes.decoder(standard_normal(generator, shape, vae.dtype))
        for name, group in groups.items():
            sums[name].add(block, passes.measure(samples, group))
    results = {
        name: sums[name].finish(passes, group.objective, num_blocks * block_size)
        for name, group in groups.items()
    }
    mean, variance, mean_error, variance_error = (
        {n: result[i] for n, result in results.items()} for i in range(4)
    )
    return GradientVariance(
        names,
        num_blocks * block_size,
        mean,
        variance,
        mean_error,
        variance_error,
        {name: group.samples for name, group in groups.items()},
        {name: s.totals for name, s in sums.items()},
        {name: np.concatenate(s.squares) for name, s in sums.items()},
    )


class _Sums:
    """Running sums over blocks for one estimator."""

    def __init__(self, vae: VAE, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.first = {name: np.zeros(p.shape) for name, p in vae.parameters.items()}
        self.square = {name: np.zeros(p.shape) for name, p in vae.parameters.items()}
        self.decoder_mean = {
            name: np.zeros(p.shape) for name, p in vae.parameters.items() if name.startswith("decoder")
        }
        self.totals = {name: np.zeros(num_blocks) for name in vae.parameters}
        self.squares: list[np.ndarray] = []
        self.dmean: np.ndarray = np.zeros(())
        self.dlog_var: np.ndarray = np.zeros(())

    def add(self, block: int, moments: BlockMoments) -> None:
        for name, variance in moments.variances.items():
            self.first[name] += variance
            self.square[name] += variance**2
            self.totals[name][block] = variance.sum()
        for name, mean in moments.decoder_means.items():
            self.decoder_mean[name] += mean
        self.squares.append(moments.squares)
        self.dmean = self.dmean + moments.dmean
        self.dlog_var = self.dlog_var + moments.dlog_var

    def finish(
        self, passes: MinibatchPasses, objective: str, num_samples: int
    ) -> tuple[dict[str, np.ndarray], ...]:
        """(mean, variance, mean's standard error, variance's standard error), each by parameter name."""
        k = self.num_blocks
        variance = {name: total / k for name, total in self.first.items()}
        spread = {name: np.maximum(self.square[name] / k - variance[name] ** 2, 0) for name in variance}
        mean = _encoder_mean(passes, self.dmean / k, self.dlog_var / k, objective)
        mean.update({name: total / k for name, total in self.decoder_mean.items()})
        mean = {name: mean[name] for name in variance}
        mean_error = {name: np.sqrt(v / num_samples) for name, v in variance.items()}
        variance_error = {name: np.sqrt(s / (k - 1)) for name, s in spread.items()}
        return mean, variance, mean_error, variance_error


def _encoder_mean(
    passes: MinibatchPasses, dmean: np.ndarray, dlog_var: np.ndarray, objective: str
) -> dict[str, np.ndarray]:
    """The encoder's mean gradient: its backward pass is linear, so that of the mean is the mean of them all. (11.5)"""
    vae = passes.vae
    dmean, dlog_var = -dmean / len(passes.x), -dlog_var / len(passes.x)
    if vae.kl == "analytic" and objective == "elbo" and passes.term != "reconstruction":
        _, kl_cache = gaussian_kl_forward(passes.mean, passes.log_var)
        from_kl = gaussian_kl_backward(np.full(len(passes.x), vae.beta / len(passes.x)), kl_cache)
        dmean, dlog_var = dmean + from_kl[0], dlog_var + from_kl[1]
    kept = vae.gradient.copy()
    vae.encoder_backward(dmean.astype(vae.dtype), dlog_var.astype(vae.dtype), passes.cache)
    mean = {name: g.astype(np.float64) for name, g in vae.gradients.items() if name.startswith("encoder")}
    vae.gradient[...] = kept
    return mean


def _settle(groups: dict[str, Group], passes: MinibatchPasses, noise: np.ndarray) -> None:
    """Let estimators that learn, such as a running mean, see a block that is not measured."""
    learners = [group for group in groups.values() if group.learns]
    if learners:
        samples = passes.decoder(noise)
        for group in learners:
            passes.posterior_gradients(samples, group)
