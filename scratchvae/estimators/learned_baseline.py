"""The score function with a baseline that a small network learns from the example.

Derived in `derivations/21-learned_baseline.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from scratchvae import kernels
from scratchvae.densities.gaussian import gaussian_sample_forward, gaussian_score
from scratchvae.estimators.integrand import Integrand
from scratchvae.layers.activations import make_activation
from scratchvae.layers.initialization import glorot_uniform
from scratchvae.layers.parameters import Views, flat_views
from scratchvae.layers.stack import Layer, LayerCache, stack_backward, stack_forward
from scratchvae.randomness import as_generator
from scratchvae.validation import check_array, check_integer, check_number

__all__ = ["LearnedBaseline", "SquaredErrorCache", "squared_error_backward", "squared_error_forward"]

# Adam's own, as in `scratchvae.training.adam`.
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


class SquaredErrorCache(NamedTuple):
    """What the backward pass of the squared error needs."""

    excess: np.ndarray  # (B,), the prediction less the mean of its targets


def squared_error_forward(prediction: np.ndarray, target: np.ndarray) -> tuple[float, SquaredErrorCache]:
    """loss = ½ mean over S and B of (prediction − target)². (21.3)

    Parameters
    ----------
    prediction : ndarray (B,)
    target : ndarray (S, B)

    Returns
    -------
    loss : float
    cache : SquaredErrorCache
    """
    loss = 0.5 * float(((prediction - target) ** 2).mean())
    return loss, SquaredErrorCache(prediction - target.mean(axis=0))


def squared_error_backward(dloss: float, cache: SquaredErrorCache) -> np.ndarray:
    """Vector–Jacobian product of `squared_error_forward` with respect to the prediction, (B,). (21.4)"""
    # loss = ½ mean over S and B of (prediction − target)²    d / d prediction = (prediction − mean target) / B
    return dloss / cache.excess.size * cache.excess  # (21.4)


class LearnedBaseline:
    """The score function less what a network expects f to be for this example. (21.1) (21.2)

    The network, features → hidden tanh units → one number, learns by regression on the values of f that it has
    seen: one step of Adam on (21.3) for each call. All samples of a call get the prediction of what was
    learned before it, so that no sample is in its own baseline. Before anything was learned the baseline is
    zero.

    The features are what the integrand says of each example, `integrand.features` (B, F); for an integrand
    that says nothing they are mean and log_var.

    Parameters
    ----------
    hidden : int
        Units; Mnih and Gregor's hundred.
    learning_rate : float
    decay : float in [0, 1)
        Of the running mean and variance of f, in whose units the network predicts; as for `RunningMean`.
    rng : Generator, int or None
        Source of the network's initial weights.

    Attributes
    ----------
    theta, gradient : ndarray (P,)
        The network's weights, and the regression loss's gradient at the last call. The first call tells how
        many features there are.
    calls : int
        How often it has learned.

    References
    ----------
    Mnih and Gregor, "Neural Variational Inference and Learning in Belief Networks" (2014).
    """

    name = "score-function-learned-baseline"
    needs_gradient = False
    minimum_samples = 1

    def __init__(
        self,
        hidden: int = 100,
        learning_rate: float = 1e-3,
        decay: float = 0.95,
        rng: np.random.Generator | int | None = 0,
    ) -> None:
        self.hidden = check_integer("hidden", hidden)
        self.learning_rate = check_number("learning_rate", learning_rate, above=0)
        self.decay = check_number("decay", decay, low=0, high=1 - 1e-9)
        self._rng = as_generator(rng)
        self.calls = 0
        self._running = np.zeros(2)  # of f and f², not yet corrected for their start at zero
        self._make_network(0, np.float64)

    def sample_gradients(
        self, integrand: Integrand, mean: np.ndarray, log_var: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Per-sample gradients of E f(z) with respect to mean and log_var; learns afterwards. (21.1)

        Parameters
        ----------
        integrand : Integrand
            Is evaluated at the S samples, never differentiated.
        mean, log_var : ndarray (B, L) or (L,)
        noise : ndarray (S, B, L) or (S, L), standard normal

        Returns
        -------
        dmean, dlog_var : ndarray, the shape of noise

        Raises
        ------
        ValueError
            If the features are not as many as those that were learned from.
        """
        z, _ = gaussian_sample_forward(mean, log_var, noise)
        value = integrand.value(z)
        prediction, caches = self._predict(self._features(integrand, mean, log_var, noise.dtype))
        baseline = self._level + self._scale * prediction
        # The multiplier is a constant: nothing is differentiated through it, nor through the baseline.
        multiplier = (value - baseline.reshape(mean.shape[:-1]))[..., None].astype(noise.dtype)
        self._learn(prediction, value.reshape(-1, len(prediction)), caches)
        score_mean, score_log_var = gaussian_score(noise, log_var)
        return multiplier * score_mean, multiplier * score_log_var

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The baseline (B,) for features (B, F), as it stands. (21.2)"""
        dtype = self.theta.dtype
        return self._level + self._scale * self._predict(check_array("features", features, dtype=dtype))[0]

    def state(self) -> dict[str, np.ndarray]:
        """All that it has learned: arrays of shape (P,), (2,) and (), which `load_state` takes back."""
        return {
            "theta": self.theta.copy(),
            "first_moment": self._first_moment.copy(),
            "second_moment": self._second_moment.copy(),
            "running": self._running.copy(),
            "calls": np.asarray(self.calls),
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from where `state` was called.

        Parameters
        ----------
        state : mapping of str to ndarray
            Shapes (P,), (2,) and (), for as many hidden units as this one has.

        Raises
        ------
        ValueError
            If an entry is missing or has another shape.
        """
        if missing := sorted(self.state().keys() - state.keys()):
            raise ValueError(
                f"state lacks {', '.join(missing)}, expected what LearnedBaseline.state() returned"
            )
        theta = check_array("state['theta']", state["theta"])
        inputs, rest = divmod(theta.size - (2 * self.hidden + 1), self.hidden)
        if rest or inputs < 0:
            raise ValueError(
                f"state['theta'] has {theta.size} entries, expected those of a network with {self.hidden} hidden "
                "units: make the baseline with as many as it was saved with"
            )
        moments = [
            check_array(f"state[{name!r}]", state[name], shape=theta.shape, dtype=theta.dtype)
            for name in ("first_moment", "second_moment")
        ]
        running = check_array("state['running']", state["running"], shape=(2,), dtype=np.float64)
        calls = check_integer("state['calls']", int(state["calls"]), low=0)
        self._make_network(inputs, theta.dtype.type)
        self.theta[...], self._first_moment[...], self._second_moment[...] = theta, *moments
        self._running[...], self.calls = running, calls

    def __getstate__(self) -> dict[str, Any]:
        """The options and what it has learned: what a copy needs to have views of its own."""
        options = {"hidden": self.hidden, "learning_rate": self.learning_rate, "decay": self.decay}
        return {"options": {**options, "rng": self._rng}, "learned": self.state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state["options"])  # type: ignore[misc]
        self.load_state(state["learned"])

    def _make_network(self, inputs: int, dtype: type) -> None:
        shapes: dict[str, tuple[int, ...]] = {
            "0.weight": (inputs, self.hidden),
            "0.bias": (self.hidden,),
            "1.weight": (self.hidden, 1),
            "1.bias": (1,),
        }
        self.theta, self._parameters = flat_views(shapes, dtype)
        self.gradient, self._gradients = flat_views(shapes, dtype)
        self._first_moment, self._second_moment = np.zeros_like(self.theta), np.zeros_like(self.theta)

    def _features(self, integrand: Any, mean: np.ndarray, log_var: np.ndarray, dtype: Any) -> np.ndarray:
        """What the baseline may know of each example: (B, F), nothing that depends on a sample."""
        features = getattr(integrand, "features", None)
        if features is None:
            features = np.concatenate([mean, log_var], axis=-1)
        features = features.reshape(-1, features.shape[-1]).astype(dtype, copy=False)
        if not len(self._parameters["0.weight"]):
            self._make_network(features.shape[1], features.dtype.type)
            # The output layer stays zero, so that the first predictions are the running mean.
            self._parameters["0.weight"] = glorot_uniform(features.shape[1], self.hidden, self._rng)
        return features

    def _predict(self, features: np.ndarray) -> tuple[np.ndarray, list[LayerCache]]:
        """The network's output (B,), in running standard deviations from the running mean."""
        learned = len(self._parameters["0.weight"])
        if features.shape[-1] != learned:
            raise ValueError(
                f"features has shape {features.shape}, expected (B, {learned}): the baseline has learned from so many"
            )
        output, caches = stack_forward(features, _layers(self._parameters))
        return output[:, 0].astype(np.float64), caches

    @property
    def _level(self) -> float:
        """The running mean of f; zero before anything was seen."""
        return float(self._running[0]) / self._weight

    @property
    def _scale(self) -> float:
        """The running standard deviation of f; one where nothing varied."""
        variance = float(self._running[1]) / self._weight - self._level**2
        return math.sqrt(variance) if variance > 0 else 1.0

    @property
    def _weight(self) -> float:
        """What the weights of the running moments add up to, as in (7.7)."""
        return 1 - self.decay**self.calls if self.calls else 1.0

    def _learn(self, prediction: np.ndarray, value: np.ndarray, caches: list[LayerCache]) -> None:
        """Take values (S, B) into the moments, then one step of regression towards them. (21.3) (21.4)"""
        moments = np.array([value.mean(), (value**2).mean()])
        self._running += (1 - self.decay) * (moments - self._running)
        self.calls += 1
        # In the new units, so that even the first targets are of size one.
        target = (value - self._level) / self._scale
        _, cache = squared_error_forward(prediction, target)
        dprediction = squared_error_backward(1.0, cache)
        # output = stack_forward(features, layers)                                           (1.9)
        doutput = dprediction[:, None].astype(self.theta.dtype)
        _, gradients = stack_backward(doutput, caches, need_dx=False)
        for i, (dweight, dbias) in enumerate(gradients):
            self._gradients[f"{i}.weight"], self._gradients[f"{i}.bias"] = dweight, dbias
        root_correction = math.sqrt(1 - _BETA2**self.calls)  # (8.5)
        kernels.adam_update(
            self.theta,
            self.gradient,
            self._first_moment,
            self._second_moment,
            _BETA1,
            _BETA2,
            self.learning_rate * root_correction / (1 - _BETA1**self.calls),
            _EPSILON * root_correction,
        )


def _layers(parameters: Views) -> list[Layer]:
    return [
        Layer(parameters[f"{i}.weight"], parameters[f"{i}.bias"], make_activation(name))
        for i, name in enumerate(("tanh", "identity"))
    ]
