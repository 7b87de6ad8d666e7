"""One block of draws through a VAE and back: the moments of its gradient, and no gradient of a single draw.

Derived in `derivations/11-variance.md`, like the module `variance`, which adds the blocks up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from scratchvae import kernels
from scratchvae.densities.gaussian import gaussian_sample_forward
from scratchvae.estimators import Estimator, make_estimator
from scratchvae.estimators.antithetic import Antithetic
from scratchvae.lab.decoder_pass import DecoderPass, LayerSums
from scratchvae.lab.variance_terms import make_integrand
from scratchvae.layers.stack import LayerCache
from scratchvae.models.decoder_integrand import DecoderIntegrand, sample_gradients
from scratchvae.models.vae import VAE
from scratchvae.objectives.elbo import sampled_kl_backward, sampled_kl_forward
from scratchvae.objectives.importance_weighted import importance_weighted_elbo
from scratchvae.validation import check_integer

__all__ = ["BlockMoments", "DecoderMoments", "Group", "MinibatchPasses", "Samples"]

# Rows (draws × examples) that pass through the decoder at a time, which bounds the memory.
_ROWS = 8192
# Samples of one example that pass through the decoder at a time: few enough for what lies between to stay in the cache.
_SAMPLES_AT_ONCE = 1024
# The measure-valued estimators evaluate at three points for each sample at once.
_POINTS_ELSEWHERE = 3


class Group(NamedTuple):
    """An estimator and how many samples of one example it takes for one estimate."""

    estimator: Estimator
    samples: int

    @classmethod
    def of(cls, name: str, samples_per_estimate: int) -> Group:
        """The named estimator with its own number of samples, or `samples_per_estimate` where it may choose."""
        estimator = make_estimator(name)
        is_paired = isinstance(estimator, Antithetic)
        if not hasattr(estimator, "objective") and estimator.minimum_samples == 1 + is_paired:
            return cls(estimator, 1 + is_paired)
        samples = check_integer("samples_per_estimate", samples_per_estimate, low=estimator.minimum_samples)
        if is_paired and samples % 2:
            raise ValueError(
                f"samples_per_estimate is {samples}, expected an even number: {name} takes samples in pairs"
            )
        return cls(estimator, samples)

    @property
    def objective(self) -> str:
        """Which bound it differentiates."""
        return getattr(self.estimator, "objective", "elbo")

    @property
    def is_coupled(self) -> bool:
        """Whether the samples of one estimate depend on each other in the decoder's gradient too."""
        return isinstance(self.estimator, Antithetic) or self.objective != "elbo"

    @property
    def learns(self) -> bool:
        """Whether its gradients depend on what it has seen before."""
        state = getattr(self.estimator, "state", dict)
        return bool(state())

    @property
    def looks_elsewhere(self) -> bool:
        """Whether it wants more of the decoder than values and gradients at the samples."""
        return self.is_coupled or getattr(self.estimator, "looks_elsewhere", False)


class DecoderMoments(NamedTuple):
    """Variances, per sample, and means of the decoder's gradient, by parameter."""

    variances: dict[str, np.ndarray]
    means: dict[str, np.ndarray]

    @classmethod
    def zeros(cls, vae: VAE) -> DecoderMoments:
        """Nothing added up yet."""
        shapes = {name: p.shape for name, p in vae.parameters.items() if name.startswith("decoder")}
        variances, means = ({name: np.zeros(shape) for name, shape in shapes.items()} for _ in range(2))
        return cls(variances, means)

    def add(self, layers: Sequence[LayerSums]) -> None:
        """Add the means of one example's samples, and the sums of their squared deviations. (11.2)"""
        for i, sums in enumerate(layers):
            weight, bias = f"decoder.{i}.weight", f"decoder.{i}.bias"
            sums.add_weight(self.means[weight], self.variances[weight])
            sums.add_bias(self.means[bias], self.variances[bias])

    def scale(self, factor: float, samples: int) -> None:
        """Make variances of what was added up; all gradients are to be multiplied by a factor. (11.3)"""
        for mean in self.means.values():
            np.multiply(mean, factor, out=mean)
        for squares in self.variances.values():
            np.maximum(squares, 0, out=squares)
            np.multiply(squares, factor**2 / (samples - 1), out=squares)


class Samples(NamedTuple):
    """One block of draws: what the estimators need of the decoder, and the decoder's own moments."""

    noise: np.ndarray  # (S, B, L)
    integrand: _Remembered
    decoder: DecoderMoments


class BlockMoments(NamedTuple):
    """What one block of draws says of one estimator."""

    variances: dict[str, np.ndarray]  # by parameter, per sample
    decoder_means: dict[str, np.ndarray]
    dmean: np.ndarray  # (B, L), the estimates' mean
    dlog_var: np.ndarray  # (B, L)
    squares: np.ndarray  # (E,), of each estimate of the encoder's gradient; their mean is its variance (11.8)


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


class MinibatchPasses:
    """The encoder's one forward pass, and the ways of a block of noise through the model and back.

    Parameters
    ----------
    vae : VAE
    x : ndarray (B, D)
    term : str
        Of the loss, as `gradient_variance` knows them.
    """

    def __init__(self, vae: VAE, x: np.ndarray, term: str = "loss") -> None:
        self.vae = vae
        self.x = x
        self.term = term
        self.mean, self.log_var, self.cache = vae.encoder_forward(x)
        self._pass = DecoderPass(vae, _SAMPLES_AT_ONCE)
        self._sums = [LayerSums(layer) for layer in vae.decoder_layers]

    def decoder(self, noise: np.ndarray) -> Samples:
        """Pass noise (S, B, L) through the decoder and back, one example after the other. (11.2) (11.3)"""
        z, _ = gaussian_sample_forward(self.mean, self.log_var, noise)
        moments = DecoderMoments.zeros(self.vae)
        value, gradient, direct = np.zeros(z.shape[:-1]), np.zeros_like(z), None
        if self.term != "kl":  # which the decoder owes nothing
            for example in range(len(self.x)):
                value[:, example], gradient[:, example] = self._there_and_back(example, z[:, example])
                moments.add(self._sums)
            moments.scale(-1 / len(self.x), len(noise))
        if self.vae.kl == "sampled" and self.term != "reconstruction":
            # f = … − beta (log q(z; mean, log_var) − log p(z))                               (5.7)
            kl, cache = sampled_kl_forward(z, self.mean, self.log_var)
            dz, dmean, dlog_var = sampled_kl_backward(np.full(kl.shape, -self.vae.beta), cache)
            value, gradient, direct = value - self.vae.beta * kl, gradient + dz, (dmean, dlog_var)
        return Samples(noise, _Remembered(z, value, gradient, direct, self.x), moments)

    def _there_and_back(self, example: int, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log p(x|z) (S,) and its gradient (S, L) at samples z (S, L); the decoder's gradients are left in `_sums`."""
        for sums in self._sums:
            sums.clear()
        found = []
        for begin in range(0, len(z), _SAMPLES_AT_ONCE):
            some = np.ascontiguousarray(z[begin : begin + _SAMPLES_AT_ONCE])
            found.append(self._pass(self.x[example : example + 1], some))
            for sums, inputs, delta in zip(self._sums, self._pass.inputs, self._pass.deltas, strict=True):
                sums.add(inputs, delta)
        value, gradient = zip(*found, strict=True)
        return np.concatenate(value), np.concatenate(gradient)

    def posterior_gradients(
        self, samples: Samples, group: Group
    ) -> tuple[np.ndarray, np.ndarray, DecoderMoments]:
        """Gradients with respect to mean and log_var, one for each estimate, (E, B, L); and the decoder's moments."""
        noise = samples.noise
        # A bound of one sample is a group too; without groups all draws are samples, one after the other.
        is_grouped = group.samples > 1 or group.is_coupled
        if is_grouped:
            noise = noise.reshape(group.samples, -1, *noise.shape[1:])
        if group.looks_elsewhere:
            dmean, dlog_var, moments = self._with_own_passes(noise, group)
        else:
            dmean, dlog_var = sample_gradients(
                samples.integrand, group.estimator, self.mean, self.log_var, noise
            )
            moments = samples.decoder
        if is_grouped:
            dmean, dlog_var = dmean.mean(axis=0), dlog_var.mean(axis=0)
        return dmean, dlog_var, moments if group.is_coupled else samples.decoder

    def _with_own_passes(
        self, noise: np.ndarray, group: Group
    ) -> tuple[np.ndarray, np.ndarray, DecoderMoments]:
        """As `posterior_gradients`, per sample of noise ([K,] S / K, B, L), by a decoder of the estimator's own."""
        moments = DecoderMoments.zeros(self.vae)
        parts = []
        for rows in self._chunks(noise[..., 0, 0].size * _POINTS_ELSEWHERE):
            integrand = self._integrand(rows, group.objective)
            parts.append(
                sample_gradients(
                    integrand, group.estimator, self.mean[rows], self.log_var[rows], noise[..., rows, :]
                )
            )
            if group.is_coupled:
                weights = None
                if group.objective == "importance-weighted":
                    # loss = −log mean exp over K: each sample counts by its share             (22.5)
                    assert integrand.kl is not None
                    _, _, shares = importance_weighted_elbo(
                        integrand.reconstruction, integrand.kl, self.vae.beta
                    )
                    weights = group.samples * shares
                shape = (*noise.shape[:2], len(integrand.x))
                self._add_decoder_moments(integrand, shape, weights, moments)
        dmean, dlog_var = (np.concatenate([part[i] for part in parts], axis=-2) for i in range(2))
        return dmean, dlog_var, moments

    def _integrand(self, rows: slice, objective: str) -> DecoderIntegrand:
        return make_integrand(
            self.vae, self.x[rows], self.mean[rows], self.log_var[rows], objective, self.term
        )

    def _chunks(self, points: int) -> Iterator[slice]:
        """Slices of examples small enough that points × examples is at most _ROWS."""
        size = max(1, _ROWS // points)
        yield from (slice(start, start + size) for start in range(0, len(self.x), size))

    def _add_decoder_moments(
        self,
        integrand: DecoderIntegrand,
        shape: tuple[int, int, int],
        weights: np.ndarray | None,
        moments: DecoderMoments,
    ) -> None:
        """Add a chunk of examples, samples (K, E, b), to the moments of the decoder's gradient. (11.2) (11.3) (11.9)

        Each of the E estimates is the mean over K samples that may depend on each other.
        """
        k, estimates, examples = shape
        delta_of_output = integrand.output_gradient(weights) * (-1 / len(self.x))
        for name, inputs, delta in _deltas("decoder", delta_of_output, integrand.decoder_caches):
            a, d = inputs.reshape(k, estimates * examples, -1), delta.reshape(k, estimates * examples, -1)
            second = _second_moment(a, d)
            per_example = inputs.reshape(-1, examples, a.shape[-1]), delta.reshape(-1, examples, d.shape[-1])
            for example in range(examples):
                one_a, one_d = (np.ascontiguousarray(array[:, example]) for array in per_example)
                mean = kernels.matmul_transposed_left(one_a, one_d).astype(np.float64) / (k * estimates)
                moments.means[f"{name}.weight"] += mean
                second -= estimates * mean**2
            of_bias = d[0] if k == 1 else d.mean(axis=0)
            of_bias = of_bias.reshape(estimates, examples, -1)
            moments.variances[f"{name}.weight"] += np.maximum(second, 0) * (k / (estimates - 1))
            moments.variances[f"{name}.bias"] += k * of_bias.var(axis=0, ddof=1, dtype=np.float64).sum(axis=0)
            moments.means[f"{name}.bias"] += of_bias.mean(axis=0, dtype=np.float64).sum(axis=0)

    def measure(self, samples: Samples, group: Group) -> BlockMoments:
        """Moments of the gradient, per sample, over one block of draws. (11.4) (11.8) (11.12)"""
        dmean, dlog_var, decoder = self.posterior_gradients(samples, group)
        estimates = len(dmean)
        scale = group.samples / (estimates - 1)
        mean, squares = np.empty((len(self.x), 2 * self.mean.shape[1])), np.zeros(estimates)
        spreads = [np.empty((len(self.x), jacobian.shape[2])) for _, _, jacobian in self._encoder_jacobians]
        for b, metric in enumerate(self._metrics):
            gradients = np.concatenate([dmean[:, b], dlog_var[:, b]], axis=1, dtype=np.float64)
            mean[b] = gradients.mean(axis=0)
            centred = gradients - mean[b]
            squares += (kernels.matmul(centred, metric) * centred).sum(axis=1)
            covariance = scale * kernels.matmul_transposed_left(centred, centred)
            for spread, (_, _, jacobian) in zip(spreads, self._encoder_jacobians, strict=True):
                spread[b] = (jacobian[b] * kernels.matmul(covariance, jacobian[b])).sum(axis=0)
        variances = {}
        for spread, (name, squared_inputs, _) in zip(spreads, self._encoder_jacobians, strict=True):
            variances[f"{name}.weight"] = kernels.matmul_transposed_left(
                squared_inputs, np.maximum(spread, 0)
            )
            variances[f"{name}.bias"] = np.maximum(spread, 0).sum(axis=0)
        dmean, dlog_var = np.split(mean, 2, axis=1)
        squares *= scale * estimates
        return BlockMoments({**decoder.variances, **variances}, decoder.means, dmean, dlog_var, squares)

    @cached_property
    def _encoder_jacobians(self) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """(layer, its input squared (B, fan_in), the derivative of its delta (B, 2 L, fan_out)), float64. (11.12)

        By the gradients with respect to mean and log_var: each of those in turn is one, and all others are zero.
        """
        latents = self.mean.shape[1]
        one_by_one: np.ndarray = np.eye(2 * latents, dtype=self.vae.dtype)[:, None]
        units = np.broadcast_to(one_by_one, (2 * latents, len(self.x), 2 * latents))
        return [
            (name, inputs.astype(np.float64) ** 2, delta.swapaxes(0, 1).astype(np.float64, order="C"))
            for name, inputs, delta in self._encoder_deltas(units[..., :latents], units[..., latents:])
        ]

    @cached_property
    def _metrics(self) -> np.ndarray:
        """J Jᵀ of each example, (B, 2 L, 2 L), weighted by the squares of each layer's inputs and added up. (11.12)"""
        metrics = np.zeros((len(self.x), *2 * (2 * self.mean.shape[1],)))
        for _, squared_inputs, jacobian in self._encoder_jacobians:
            # Weights and bias: Σ over i and j of (a_i δ_j)², and of δ_j²                    (11.8)
            for b, loudness in enumerate(1 + squared_inputs.sum(axis=1)):
                metrics[b] += loudness * kernels.matmul_transposed_right(jacobian[b], jacobian[b])
        return metrics

    def _encoder_deltas(
        self, dmean: np.ndarray, dlog_var: np.ndarray
    ) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """(layer, its input (B, fan_in), the gradient (S, B, fan_out) of its output), from the heads to the data."""
        scale = np.asarray(-1 / len(self.x), dmean.dtype)
        dmean, dlog_var = scale * dmean, scale * dlog_var
        yield "encoder.mean", self.cache.mean.x, dmean
        yield "encoder.log_var", self.cache.log_var.x, dlog_var
        if not self.cache.hidden:
            return
        flat_dmean, flat_dlog_var = (d.reshape(-1, d.shape[-1]) for d in (dmean, dlog_var))
        dhidden = kernels.matmul_transposed_right(flat_dmean, self.cache.mean.weight)
        dhidden += kernels.matmul_transposed_right(flat_dlog_var, self.cache.log_var.weight)
        draws = len(dmean)
        caches = [_repeated(cache, draws) for cache in self.cache.hidden]
        for (name, _, delta), cache in zip(
            _deltas("encoder", dhidden, caches), self.cache.hidden[::-1], strict=True
        ):
            yield name, cache.dense.x, delta.reshape(draws, -1, delta.shape[-1])


def _second_moment(inputs: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Σ over rows of (mean over K of inputs × delta)², entry by entry, of (K, R, fan_in) and (K, R, fan_out). (11.9)"""
    k = len(inputs)
    total = np.zeros((inputs.shape[-1], delta.shape[-1]))
    for i in range(k):
        for j in range(i, k):
            product = kernels.matmul_transposed_left(inputs[i] * inputs[j], delta[i] * delta[j])
            total += (1 if i == j else 2) * product.astype(np.float64)
    return total / k**2


def _deltas(
    prefix: str, dy: np.ndarray, caches: Sequence[LayerCache]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(layer, its input, the gradient of its output before the activation), from the last layer to the first."""
    for i, cache in reversed(list(enumerate(caches))):
        delta = cache.activation.backward(dy, cache.y)  # (2.1)
        yield f"{prefix}.{i}", cache.dense.x, delta
        if i:
            dy = kernels.matmul_transposed_right(delta, cache.dense.weight)  # (1.2)


def _repeated(cache: LayerCache, draws: int) -> LayerCache:
    """A layer's output for `draws` copies of the examples: the encoder does not see the noise."""
    return cache._replace(y=np.tile(cache.y, (draws, 1)))
