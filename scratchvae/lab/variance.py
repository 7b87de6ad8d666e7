"""The variance of a VAE's gradient over the sampling noise, for every parameter, under each estimator.

Everything upstream of (mean, log_var) is one linear backward pass, and the examples of a minibatch have
independent noise. So the variance of a dense weight's gradient needs no gradient of that weight: one sample's
gradient is an outer product, input times delta, and its second moment is the product of their squares.
Derived in `derivations/11-variance.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from scratchvae import kernels
from scratchvae.densities.gaussian import gaussian_kl_backward, gaussian_kl_forward, gaussian_sample_forward
from scratchvae.estimators import ESTIMATORS, Estimator, make_estimator
from scratchvae.layers.stack import LayerCache
from scratchvae.models.decoder_integrand import DecoderIntegrand, sample_gradients
from scratchvae.models.vae import VAE, check_vae
from scratchvae.randomness import as_generator, standard_normal
from scratchvae.validation import check_array, check_integer

__all__ = ["GradientVariance", "gradient_variance"]

# Draws are split into this many blocks; the spread of the blocks' variances is the standard error. Twenty
# know a standard error to about a sixth of itself, and cost a twentieth of the degrees of freedom at most.
_BLOCKS = 20
# Rows (draws × examples) that pass through the decoder at a time, which bounds the memory.
_ROWS = 8192
# The longest block, so that one example's draws always fit into _ROWS.
_LONGEST_BLOCK = 1024


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
        per example; of an estimator that compares K samples with each other, K times that of their mean,
        the same price in decoder evaluations.
    mean_standard_error, variance_standard_error : dict of dict of ndarray
        Their standard errors. Gradients of the score function are heavy-tailed: the fewer draws, the more
        likely it is that both the variance and its standard error are too small.
    """

    estimators: tuple[str, ...]
    num_samples: int
    mean: dict[str, dict[str, np.ndarray]] = field(repr=False)
    variance: dict[str, dict[str, np.ndarray]] = field(repr=False)
    mean_standard_error: dict[str, dict[str, np.ndarray]] = field(repr=False)
    variance_standard_error: dict[str, dict[str, np.ndarray]] = field(repr=False)
    _block_totals: dict[str, dict[str, np.ndarray]] = field(repr=False)  # [estimator][parameter] (blocks,)

    def total(self, estimator: str, part: str = "") -> float:
        """The trace: variances summed over all parameters whose name starts with `part`, such as `encoder`."""
        return float(self._blocks(estimator, part).mean())

    def total_standard_error(self, estimator: str, part: str = "") -> float:
        """The standard error of `total`, from the spread of the blocks."""
        blocks = self._blocks(estimator, part)
        return float(blocks.std(ddof=1) / np.sqrt(len(blocks)))

    def _blocks(self, estimator: str, part: str) -> np.ndarray:
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
) -> GradientVariance:
    """Measure the variance of the loss's gradient over the sampling noise alone, for a fixed minibatch.

    All estimators see the same noise. The decoder's gradient does not depend on the estimator.

    Parameters
    ----------
    vae : VAE
    x : ndarray (B, D)
        One minibatch, binarized if the model wants binary data; it stays the same throughout.
    estimators : sequence of str
        Names in `scratchvae.estimators.ESTIMATORS`.
    num_samples : int
        Draws of the noise, rounded down to whole blocks; at least 40 times the samples of one estimate.
    rng : Generator, int or None
    samples_per_estimate : int
        K, for an estimator that compares samples with each other, such as leave-one-out.

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
    names = tuple(dict.fromkeys([estimators] if isinstance(estimators, str) else estimators))
    if not names:
        raise ValueError(
            f"estimators is {estimators!r}, expected at least one name of: {', '.join(ESTIMATORS)}"
        )
    groups = {name: _Group.of(name, samples_per_estimate) for name in names}
    largest_group = max(group.samples for group in groups.values())
    num_samples = check_integer("num_samples", num_samples, low=2 * _BLOCKS * largest_group)
    generator = as_generator(rng)
    # Whole groups, and two of them at least: one estimate has no spread.
    block_size = min(num_samples // _BLOCKS, max(_LONGEST_BLOCK, 2 * largest_group))
    block_size -= block_size % largest_group
    num_blocks = num_samples // block_size

    passes = _MinibatchPasses(vae, x)
    _settle(groups, passes, standard_normal(generator, (block_size, *passes.mean.shape), vae.dtype))
    sums = {name: _Sums(vae, num_blocks) for name in names}
    for block in range(num_blocks):
        noise = standard_normal(generator, (block_size, *passes.mean.shape), vae.dtype)
        samples = passes.decoder(noise)
        for name, group in groups.items():
            variances = {**samples.decoder_variances, **passes.encoder_variances(samples, group, sums[name])}
            sums[name].add(block, variances, samples.decoder_means)
    results = {name: sums[name].finish(passes, num_blocks * block_size) for name in names}
    mean, variance, mean_error, variance_error = (
        {n: result[i] for n, result in results.items()} for i in range(4)
    )
    totals = {name: s.totals for name, s in sums.items()}
    return GradientVariance(
        names, num_blocks * block_size, mean, variance, mean_error, variance_error, totals
    )


class _Group(NamedTuple):
    """An estimator and how many samples of one example it takes for one estimate."""

    estimator: Estimator
    samples: int

    @classmethod
    def of(cls, name: str, samples_per_estimate: int) -> _Group:
        estimator = make_estimator(name)
        elsewhere = "evaluates f at points of its own" if getattr(estimator, "looks_elsewhere", False) else ""
        if why := "follows another bound than the others" if hasattr(estimator, "objective") else elsewhere:
            raise ValueError(
                f"estimators has {name!r}, which {why}, expected names of estimators that look at the samples only: "
                "measure it with scratchvae.gradient_samples"
            )
        if estimator.minimum_samples == 1:
            return cls(estimator, 1)
        return cls(
            estimator,
            check_integer("samples_per_estimate", samples_per_estimate, low=estimator.minimum_samples),
        )


class _Samples(NamedTuple):
    """One block of draws: what the estimators need of the decoder, and the decoder's own variances."""

    noise: np.ndarray  # (S, B, L)
    integrand: _Remembered
    decoder_variances: dict[str, np.ndarray]
    decoder_means: dict[str, np.ndarray]


class _Remembered:
    """f and ∇f at the samples of one block, which every estimator of the block asks for."""

    def __init__(
        self,
        z: np.ndarray,
        value: np.ndarray,
        gradient: np.ndarray,
        direct: tuple[np.ndarray, np.ndarray] | None,
        features: np.ndarray,
    ):
        self.z = z
        self.features = features
        self._value = value
        self._gradient = gradient
        self._direct = direct
        self.evaluations = self.differentiations = 0

    def value(self, z: np.ndarray) -> np.ndarray:
        """f at z (S, ..., L), which must be the remembered samples in whatever shape."""
        assert np.array_equal(z.reshape(self.z.shape), self.z)
        return self._value.reshape(z.shape[:-1])

    def value_and_gradient(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f and ∇f at z (S, ..., L)."""
        return self.value(z), self._gradient.reshape(z.shape)

    def direct_gradients(self) -> tuple[np.ndarray, np.ndarray] | None:
        """As `DecoderIntegrand.direct_gradients`."""
        return self._direct


class _MinibatchPasses:
    """The encoder's one forward pass, and the ways of a block of noise through the model and back."""

    def __init__(self, vae: VAE, x: np.ndarray) -> None:
        self.vae = vae
        self.x = x
        self.mean, self.log_var, self.cache = vae.encoder_forward(x)

    def _chunks(self, draws: int) -> Iterator[slice]:
        """Slices of examples small enough that draws × examples is at most _ROWS."""
        size = max(1, _ROWS // draws)
        yield from (slice(start, start + size) for start in range(0, len(self.x), size))

    def decoder(self, noise: np.ndarray) -> _Samples:
        """Pass noise (S, B, L) through the decoder and back; examples in chunks, to bound the memory."""
        z, _ = gaussian_sample_forward(self.mean, self.log_var, noise)
        shapes = self.vae.parameters
        variances = {name: np.zeros(p.shape) for name, p in shapes.items() if name.startswith("decoder")}
        means = {name: np.zeros_like(v) for name, v in variances.items()}
        values, gradients, directs = [], [], []
        for rows in self._chunks(len(noise)):
            integrand = self.vae.integrand(self.x[rows], self.mean[rows], self.log_var[rows], self.vae.beta)
            value, gradient = integrand.value_and_gradient(z[:, rows])
            values.append(value)
            gradients.append(gradient)
            directs.append(integrand.direct_gradients())
            self._add_decoder_moments(integrand, z[:, rows].shape[:2], variances, means)
        value, gradient = np.concatenate(values, axis=1), np.concatenate(gradients, axis=1)
        direct = None
        if directs[0] is not None:
            direct = tuple(np.concatenate([d[i] for d in directs], axis=1) for i in range(2))  # type: ignore[index]
        remembered = _Remembered(z, value, gradient, direct, self.x)  # type: ignore[arg-type]
        return _Samples(noise, remembered, variances, means)

    def _add_decoder_moments(
        self,
        integrand: DecoderIntegrand,
        shape: tuple[int, int],
        variances: dict[str, np.ndarray],
        means: dict[str, np.ndarray],
    ) -> None:
        """Add a chunk of examples (S, b) to the variances and means of the decoder's gradient. (11.2) (11.3)"""
        draws = shape[0]
        scale = -1 / len(self.x)
        for name, inputs, delta in _deltas(
            "decoder", integrand.output_gradient() * scale, integrand.decoder_caches
        ):
            second = kernels.matmul_transposed_left(inputs**2, delta**2).astype(np.float64)
            per_draw = inputs.reshape(*shape, -1), delta.reshape(*shape, -1)
            for example in range(shape[1]):
                a, d = (np.ascontiguousarray(array[:, example]) for array in per_draw)
                mean = kernels.matmul_transposed_left(a, d).astype(np.float64) / draws
                means[f"{name}.weight"] += mean
                second -= draws * mean**2
            variances[f"{name}.weight"] += np.maximum(second, 0) / (draws - 1)
            variances[f"{name}.bias"] += per_draw[1].var(axis=0, ddof=1, dtype=np.float64).sum(axis=0)
            means[f"{name}.bias"] += per_draw[1].mean(axis=0, dtype=np.float64).sum(axis=0)

    def encoder_variances(self, samples: _Samples, group: _Group, sums: _Sums) -> dict[str, np.ndarray]:
        """Variances of the encoder's gradient over one block of draws. (11.4)"""
        dmean, dlog_var = _posterior_gradients(samples, group, self.mean, self.log_var)
        sums.dmean = sums.dmean + dmean.mean(axis=0)
        sums.dlog_var = sums.dlog_var + dlog_var.mean(axis=0)
        variances = {
            name: np.zeros(p.shape) for name, p in self.vae.parameters.items() if name.startswith("encoder")
        }
        for rows in self._chunks(len(dmean)):
            for name, inputs, delta in self._encoder_deltas(rows, dmean[:, rows], dlog_var[:, rows]):
                spread = delta.var(axis=0, ddof=1, dtype=np.float64) * group.samples
                variances[f"{name}.weight"] += (inputs.astype(np.float64) ** 2).T @ spread
                variances[f"{name}.bias"] += spread.sum(axis=0)
        return variances

    def _encoder_deltas(
        self, rows: slice, dmean: np.ndarray, dlog_var: np.ndarray
    ) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """(layer, its input (b, fan_in), the gradient (S, b, fan_out) of its output), from the heads to the data."""
        scale = np.asarray(-1 / len(self.x), dmean.dtype)
        dmean, dlog_var = scale * dmean, scale * dlog_var
        yield "encoder.mean", self.cache.mean.x[rows], dmean
        yield "encoder.log_var", self.cache.log_var.x[rows], dlog_var
        if not self.cache.hidden:
            return
        flat_dmean, flat_dlog_var = (d.reshape(-1, d.shape[-1]) for d in (dmean, dlog_var))
        dhidden = kernels.matmul_transposed_right(flat_dmean, self.cache.mean.weight)
        dhidden += kernels.matmul_transposed_right(flat_dlog_var, self.cache.log_var.weight)
        draws = len(dmean)
        caches = [_repeated(cache, rows, draws) for cache in self.cache.hidden]
        for (name, _, delta), cache in zip(
            _deltas("encoder", dhidden, caches), self.cache.hidden[::-1], strict=True
        ):
            yield name, cache.dense.x[rows], delta.reshape(draws, -1, delta.shape[-1])


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
        self.dmean: np.ndarray = np.zeros(())
        self.dlog_var: np.ndarray = np.zeros(())

    def add(self, block: int, variances: dict[str, np.ndarray], decoder_means: dict[str, np.ndarray]) -> None:
        for name, variance in variances.items():
            self.first[name] += variance
            self.square[name] += variance**2
            self.totals[name][block] = variance.sum()
        for name, mean in decoder_means.items():
            self.decoder_mean[name] += mean

    def finish(self, passes: _MinibatchPasses, num_samples: int) -> tuple[dict[str, np.ndarray], ...]:
        """(mean, variance, mean's standard error, variance's standard error), each by parameter name."""
        k = self.num_blocks
        variance = {name: total / k for name, total in self.first.items()}
        spread = {name: np.maximum(self.square[name] / k - variance[name] ** 2, 0) for name in variance}
        mean = {**_encoder_mean(passes, self.dmean / k, self.dlog_var / k)}
        mean.update({name: total / k for name, total in self.decoder_mean.items()})
        mean = {name: mean[name] for name in variance}
        mean_error = {name: np.sqrt(v / num_samples) for name, v in variance.items()}
        variance_error = {name: np.sqrt(s / (k - 1)) for name, s in spread.items()}
        return mean, variance, mean_error, variance_error


def _encoder_mean(passes: _MinibatchPasses, dmean: np.ndarray, dlog_var: np.ndarray) -> dict[str, np.ndarray]:
    """The encoder's mean gradient: its backward pass is linear, so that of the mean is the mean of them all."""
    vae = passes.vae
    dmean, dlog_var = -dmean / len(passes.x), -dlog_var / len(passes.x)
    if vae.kl == "analytic":
        _, kl_cache = gaussian_kl_forward(passes.mean, passes.log_var)
        from_kl = gaussian_kl_backward(np.full(len(passes.x), vae.beta / len(passes.x)), kl_cache)
        dmean, dlog_var = dmean + from_kl[0], dlog_var + from_kl[1]
    kept = vae.gradient.copy()
    vae.encoder_backward(dmean.astype(vae.dtype), dlog_var.astype(vae.dtype), passes.cache)
    mean = {name: g.astype(np.float64) for name, g in vae.gradients.items() if name.startswith("encoder")}
    vae.gradient[...] = kept
    return mean


def _settle(groups: dict[str, _Group], passes: _MinibatchPasses, noise: np.ndarray) -> None:
    """Let estimators that learn, such as a running mean, see a block that is not measured."""
    samples = passes.decoder(noise)
    for group in groups.values():
        _posterior_gradients(samples, group, passes.mean, passes.log_var)


def _posterior_gradients(
    samples: _Samples, group: _Group, mean: np.ndarray, log_var: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of E f with respect to mean and log_var, one for each estimate: (S / K, B, L)."""
    k = group.samples
    estimates = len(samples.noise) // k
    shape = (k, estimates, *samples.noise.shape[1:])
    dmean, dlog_var = sample_gradients(
        samples.integrand,
        group.estimator,
        mean,
        log_var,
        samples.noise.reshape(shape) if k > 1 else samples.noise,
    )
    return (dmean.mean(axis=0), dlog_var.mean(axis=0)) if k > 1 else (dmean, dlog_var)


def _deltas(
    prefix: str, dy: np.ndarray, caches: Sequence[LayerCache]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(layer, its input, the gradient of its output before the activation), from the last layer to the first."""
    for i, cache in reversed(list(enumerate(caches))):
        delta = cache.activation.backward(dy, cache.y)  # (2.1)
        yield f"{prefix}.{i}", cache.dense.x, delta
        if i:
            dy = kernels.matmul_transposed_right(delta, cache.dense.weight)  # (1.2)


def _repeated(cache: LayerCache, rows: slice, draws: int) -> LayerCache:
    """A layer's output for `draws` copies of the examples: the encoder does not see the noise."""
    y = np.broadcast_to(cache.y[rows], (draws, *cache.y[rows].shape)).reshape(-1, cache.y.shape[-1])
    return cache._replace(y=y)
