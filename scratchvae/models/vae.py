"""The variational autoencoder: x → encoder → (mean, log_var) → z → decoder → p(x|z), and the same way back.

Derived in `derivations/05-elbo.md`; how the gradient crosses the random sample is in `06-pathwise.md` and
`07-score_function.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from scratchvae import kernels
from scratchvae.densities.gaussian import (
    gaussian_kl_backward,
    gaussian_kl_forward,
    gaussian_sample_forward,
)
from scratchvae.estimators import Estimator, make_estimator
from scratchvae.estimators.pathwise import Pathwise
from scratchvae.layers.dense import DenseCache, dense_backward, dense_forward
from scratchvae.layers.stack import LayerCache, stack_backward, stack_forward
from scratchvae.models.decoder_integrand import DecoderIntegrand, sample_gradients
from scratchvae.models.model import Model
from scratchvae.objectives.elbo import ELBO, elbo_backward, elbo_forward
from scratchvae.objectives.importance_weighted import OBJECTIVES, importance_weighted_elbo
from scratchvae.randomness import NoiseStream, as_generator, standard_normal
from scratchvae.validation import check_array, check_choice, check_integer, check_number

__all__ = ["VAE", "EncoderCache", "check_vae"]


class EncoderCache(NamedTuple):
    """What the encoder's backward pass needs."""

    hidden: list[LayerCache]
    mean: DenseCache
    log_var: DenseCache


class VAE(Model):
    """A variational autoencoder with a diagonal Gaussian posterior and a standard normal prior.

    Parameters
    ----------
    input_dim : int
        D, the number of pixels.
    hidden : sequence of int
        Sizes of the encoder's hidden layers; the decoder's are the same reversed; () is a linear model.
    latent_dim : int
        L.
    activation : str
        identity, relu, leaky_relu, tanh, sigmoid or softplus.
    likelihood : {"bernoulli", "gaussian"}
        Cross-entropy from logits, or L2 with a variance.
    likelihood_variance : float
        Of the Gaussian likelihood, per pixel.
    beta : float
        Weight of the KL term.
    kl : {"analytic", "sampled"}
        The closed form (4.7), or log q(z|x) − log p(z) at the samples (5.6).
    binarize : {"auto", "dynamic", "threshold", None}
        How grey pixels become data in training and evaluation; auto is dynamic for a Bernoulli likelihood
        and None for a Gaussian one. The methods of this class take x as it is.
    initialization : {"glorot", "he"}
        Of the weights: Glorot's (1.7) everywhere, or He's (1.8) before relu and leaky_relu.
    dtype : float32 or float64
    rng : Generator, int or None
        Source of the initial weights.

    Raises
    ------
    ValueError, TypeError
        One sentence that names the argument.

    References
    ----------
    Kingma and Welling, "Auto-Encoding Variational Bayes" (2014).
    """

    heads = ("mean", "log_var")

    def __init__(
        self,
        input_dim: int,
        hidden: Sequence[int] = (400,),
        latent_dim: int = 20,
        activation: str = "relu",
        likelihood: str = "bernoulli",
        likelihood_variance: float = 1.0,
        beta: float = 1.0,
        kl: str = "analytic",
        binarize: str | None = "auto",
        initialization: str = "glorot",
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        super().__init__(
            input_dim,
            hidden,
            latent_dim,
            activation,
            likelihood,
            likelihood_variance,
            binarize,
            initialization,
            dtype,
            rng,
        )
        self.beta = check_number("beta", beta, low=0)
        self.kl = check_choice("kl", kl, ("analytic", "sampled"))

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as a run directory keeps them."""
        return {**super().config(), "beta": self.beta, "kl": self.kl}

    # ---------------------------------------------------------------- the way through the model

    def encode(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Parameters of the posterior q(z|x): mean and log_var, each (B, L), of x (B, D)."""
        mean, log_var, _ = self.encoder_forward(self.check_x(x))
        return mean, log_var

    def code(self, x: np.ndarray) -> np.ndarray:
        """The posterior mean (B, L) of z for x (B, D): what stands for x in reconstruction and interpolation."""
        return self.encode(x)[0]

    def sample(self, num_samples: int, rng: np.random.Generator | int | None = None) -> np.ndarray:
        """Means (num_samples, D) of p(x|z) at draws of z from the prior N(0, I)."""
        shape = (check_integer("num_samples", num_samples), self.latent_dim)
        return self.likelihood.mean(self.decode(standard_normal(rng, shape, self.dtype)))

    # ---------------------------------------------------------------- the objective

    def elbo(
        self,
        x: np.ndarray,
        noise: np.ndarray | None = None,
        rng: np.random.Generator | int | None = None,
        num_samples: int = 1,
        objective: str = "elbo",
    ) -> ELBO:
        """The bound per example, in nats: value, reconstruction and kl, each (B,). (5.1) (22.5)

        Parameters
        ----------
        x : ndarray (B, D)
        noise : ndarray (B, L) or (S, B, L), optional
            Standard normal; drawn from rng, num_samples of it per example, if not given.
        rng : Generator, int or None
        num_samples : int
            S, where noise is drawn.
        objective : {"elbo", "importance-weighted"}

        Returns
        -------
        ELBO
            value = reconstruction − beta kl; or log mean exp of that over S, with the sampled kl.
        """
        x = self.check_x(x)
        noise = self._noise(noise, rng, len(x), num_samples)
        return self._elbo(x, noise, check_choice("objective", objective, OBJECTIVES))

    def loss(
        self,
        x: np.ndarray,
        noise: np.ndarray | None = None,
        rng: np.random.Generator | int | None = None,
        num_samples: int = 1,
        objective: str = "elbo",
    ) -> float:
        """−mean over B of the bound that `elbo` gives, in nats per example; x (B, D). (5.4) (22.5)"""
        return -float(self.elbo(x, noise, rng, num_samples, objective).value.mean())

    def _elbo(self, x: np.ndarray, noise: np.ndarray, objective: str) -> ELBO:
        mean, log_var, _ = self.encoder_forward(x)
        z, _ = gaussian_sample_forward(mean, log_var, noise)
        integrand = self.integrand(x, mean, log_var, self.beta, objective)
        integrand.value(z)
        kl = gaussian_kl_forward(mean, log_var)[0] if integrand.kl is None else integrand.kl
        bound = importance_weighted_elbo if objective == "importance-weighted" else elbo_forward
        return bound(integrand.reconstruction, kl, self.beta)[1]

    def loss_and_gradients(
        self,
        x: np.ndarray,
        noise: np.ndarray | None = None,
        rng: np.random.Generator | int | None = None,
        estimator: str | Estimator = "pathwise",
        num_samples: int = 1,
    ) -> tuple[float, dict[str, np.ndarray]]:
        """The loss and its gradients with respect to every parameter.

        The decoder's gradients are the same for every estimator of one objective; the encoder's pass through it.
        The importance-weighted estimators are for the bound of that name, all others for the ELBO. (5.5) (22.5)

        Parameters
        ----------
        x : ndarray (B, D)
        noise : ndarray (B, L) or (S, B, L), optional
            Standard normal; drawn from rng if not given.
        rng : Generator, int or None
        estimator : str or Estimator
            A name in `scratchvae.estimators.ESTIMATORS` or `FURTHER_ESTIMATORS`.
        num_samples : int
            S, where noise is drawn.

        Returns
        -------
        loss : float
            In nats per example.
        gradients : dict of str to ndarray
            Copies, shaped as `parameters`; also left in `gradient`.
        """
        x = self.check_x(x)
        noise = self._noise(noise, rng, len(x), num_samples)
        loss, _ = self._loss_and_gradients(x, noise, make_estimator(estimator), self.beta)
        return loss, {name: gradient.copy() for name, gradient in self.gradients.items()}

    def gradients_by_layers(
        self, x: np.ndarray, noise: np.ndarray, dloss: float = 1.0
    ) -> dict[str, np.ndarray]:
        """Pathwise gradients computed room by room, also where `loss_and_gradients` takes the fused kernel.

        Parameters
        ----------
        x : ndarray (B, D)
        noise : ndarray (B, L) or (S, B, L)
        dloss : float
            The loss's cotangent: the gradients are those of dloss times the loss.

        Returns
        -------
        dict of str to ndarray
            Copies, shaped as `parameters`; with dloss = 1 equal to those of `loss_and_gradients` but for rounding.
        """
        x = self.check_x(x)
        noise = self._noise(noise, None, len(x), 1)
        self._loss_and_gradients_by_layers(x, noise, Pathwise(), self.beta, dloss)
        return {name: gradient.copy() for name, gradient in self.gradients.items()}

    def minibatch_gradients(
        self, x: np.ndarray, noise: NoiseStream, estimator: Estimator, num_samples: int, beta: float
    ) -> tuple[float, ELBO]:
        """The training loop's step: as `loss_and_gradients`, but x (B, D) was checked when training began.

        Parameters
        ----------
        x : ndarray (B, D)
        noise : NoiseStream
        estimator : Estimator
        num_samples : int
        beta : float
            Weight of the KL term at this step of a warm-up.
        """
        shape = (num_samples, len(x), self.latent_dim)
        return self._loss_and_gradients(x, noise.standard_normal(shape, self.dtype), estimator, beta)

    def minibatch_elbo(
        self, x: np.ndarray, noise: NoiseStream, num_samples: int, objective: str = "elbo"
    ) -> ELBO:
        """The evaluation's step: as `elbo`, but x (B, D) was checked when evaluation began."""
        shape = (num_samples, len(x), self.latent_dim)
        return self._elbo(x, noise.standard_normal(shape, self.dtype), objective)

    def _loss_and_gradients(
        self, x: np.ndarray, noise: np.ndarray, estimator: Estimator, beta: float
    ) -> tuple[float, ELBO]:
        if len(noise) < estimator.minimum_samples:
            raise ValueError(
                f"num_samples is {len(noise)}, expected at least {estimator.minimum_samples}: "
                f"{estimator.name} compares the samples of one example with each other"
            )
        if type(estimator) is Pathwise and len(noise) == 1 and self.kl == "analytic":
            return self._loss_and_gradients_at_once(x, noise[0], beta)
        return self._loss_and_gradients_by_layers(x, noise, estimator, beta)

    def _loss_and_gradients_by_layers(
        self, x: np.ndarray, noise: np.ndarray, estimator: Estimator, beta: float, dloss: float = 1.0
    ) -> tuple[float, ELBO]:
        """The way there and back, room by room, for any estimator."""
        mean, log_var, encoder_cache = self.encoder_forward(x)
        objective = getattr(estimator, "objective", "elbo")
        integrand = self.integrand(x, mean, log_var, beta, objective)
        sample_dmean, sample_dlog_var = sample_gradients(integrand, estimator, mean, log_var, noise)
        analytic_kl, kl_cache = gaussian_kl_forward(mean, log_var)
        kl = analytic_kl if integrand.kl is None else integrand.kl
        loss, elbo, elbo_cache = elbo_forward(integrand.reconstruction, kl, beta)

        # loss = −mean over B of mean over S of (reconstruction − beta kl)                   (5.5)
        dreconstruction, dkl = elbo_backward(dloss, elbo_cache)
        # reconstruction = log p(x | z)       the decoder's own gradient, the same for every estimator
        if objective == "importance-weighted":
            # loss = −mean over B of log mean exp over S: each sample counts by its share    (22.5)
            loss, elbo, shares = importance_weighted_elbo(integrand.reconstruction, kl, beta)
            self._store("decoder", integrand.decoder_gradients(shares), scale=-dloss / len(x))
        else:
            self._store("decoder", integrand.decoder_gradients(), scale=float(dreconstruction[0, 0]))
        # E f(z)                              the estimator's gradient of it, averaged over samples
        weight: np.ndarray = dreconstruction[..., None].astype(self.dtype)
        dmean, dlog_var = (weight * sample_dmean).sum(axis=0), (weight * sample_dlog_var).sum(axis=0)
        if integrand.kl is None:
            # kl = KL(q(z|x) ‖ N(0, I))                                                      (4.8)
            from_kl = gaussian_kl_backward(dkl, kl_cache)
            dmean, dlog_var = dmean + from_kl[0], dlog_var + from_kl[1]
        self.encoder_backward(dmean, dlog_var, encoder_cache)
        return loss, elbo

    def _loss_and_gradients_at_once(
        self, x: np.ndarray, noise: np.ndarray, beta: float
    ) -> tuple[float, ELBO]:
        """The same in one kernel, for one pathwise sample and the closed-form KL: nearly all of all training."""
        values = np.empty((2, len(x)))
        kernels.vae_gradients(
            self.theta,
            self.gradient,
            (self.input_dim, *self.hidden, self.latent_dim),
            self.activation.name,
            None if self.likelihood.name == "bernoulli" else self.likelihood_variance,
            beta,
            x,
            noise,
            values,
        )
        loss, elbo, _ = elbo_forward(values[:1], values[1], beta)
        return loss, elbo

    # ---------------------------------------------------------------- its parts

    def encoder_forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, EncoderCache]:
        """mean and log_var (B, L) of x (B, D), and the cache. (1.1) (1.9)"""
        hidden, hidden_caches = stack_forward(x, self.encoder_layers)
        mean_head, log_var_head = self.layer("encoder.mean"), self.layer("encoder.log_var")
        mean, mean_cache = dense_forward(hidden, mean_head.weight, mean_head.bias)
        log_var, log_var_cache = dense_forward(hidden, log_var_head.weight, log_var_head.bias)
        return mean, log_var, EncoderCache(hidden_caches, mean_cache, log_var_cache)

    def encoder_backward(self, dmean: np.ndarray, dlog_var: np.ndarray, cache: EncoderCache) -> None:
        """Write the encoder's gradients for dmean and dlog_var (B, L) into `gradient`. (1.2) (1.3) (1.4) (1.9)"""
        need_dx = bool(cache.hidden)
        # log_var = hidden @ weight + bias
        dhidden_log_var, dweight, dbias = dense_backward(dlog_var, cache.log_var, need_dx=need_dx)
        self._store_layer("encoder.log_var", dweight, dbias)
        # mean = hidden @ weight + bias
        dhidden_mean, dweight, dbias = dense_backward(dmean, cache.mean, need_dx=need_dx)
        self._store_layer("encoder.mean", dweight, dbias)
        if need_dx:
            # hidden went into both heads: the two gradients add
            _, gradients = stack_backward(dhidden_mean + dhidden_log_var, cache.hidden, need_dx=False)
            self._store("encoder", gradients)

    def forward_tensors(self, x: np.ndarray, noise: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Every tensor on the way of x (B, D) and noise (S, B, L) to the loss, in order, for finding a bad one."""
        yield from self.parameters.items()
        mean, log_var, cache = self.encoder_forward(x)
        yield from ((f"the output of encoder.{i}", layer.y) for i, layer in enumerate(cache.hidden))
        yield from (("mean", mean), ("log_var", log_var))
        z, _ = gaussian_sample_forward(mean, log_var, noise)
        yield "z", z
        _, caches = stack_forward(z.reshape(-1, self.latent_dim), self.decoder_layers)
        yield from ((f"the output of decoder.{i}", layer.y) for i, layer in enumerate(caches))
        yield "kl", gaussian_kl_forward(mean, log_var)[0]

    def integrand(
        self, x: np.ndarray, mean: np.ndarray, log_var: np.ndarray, beta: float, objective: str = "elbo"
    ) -> DecoderIntegrand:
        """log p(x|z) as a function of z (S, B, L), minus beta times the sampled KL if that is chosen, or needed.

        x is (B, D), mean and log_var are (B, L). A weight of importance needs it. (22.1)
        """
        sampled = self.kl == "sampled" or objective == "importance-weighted"
        posterior = (mean, log_var) if sampled else None
        return DecoderIntegrand(self.decoder_layers, self.likelihood, x, posterior, beta)

    def _noise(self, noise: Any, rng: Any, num_examples: int, num_samples: int) -> np.ndarray:
        """Noise of shape (S, B, L), checked or drawn."""
        shape = (check_integer("num_samples", num_samples), num_examples, self.latent_dim)
        if noise is None:
            return standard_normal(as_generator(rng), shape, self.dtype)
        checked = check_array("noise", noise, dtype=self.dtype)
        if checked.ndim == 3:
            checked = check_array("noise", checked, shape=("S", *shape[1:]))
        else:
            checked = check_array("noise", checked, shape=shape[1:])[None]
        if num_samples not in (1, len(checked)):
            raise ValueError(
                f"num_samples is {num_samples} but noise holds {len(checked)} samples; pass only one of them"
            )
        return checked


def check_vae(vae: Any) -> VAE:
    """`vae` itself, or a TypeError that says what came instead."""
    if not isinstance(vae, VAE):
        raise TypeError(
            f"vae is of type {type(vae).__name__}, expected a VAE, for it takes a posterior and a prior"
        )
    return vae
