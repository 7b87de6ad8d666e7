"""The score function gradient (REINFORCE) and its baselines. Derived in `derivations/07-score_function.md`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from scratchvae.densities.gaussian import gaussian_sample_forward, gaussian_score
from scratchvae.estimators.integrand import Integrand
from scratchvae.validation import check_number

__all__ = ["RunningMean", "ScoreFunction", "leave_one_out", "no_baseline"]


class ScoreFunction:
    """∇ E f(z) = E[(f(z) − baseline) ∇ log q(z)]: needs no derivative of f, and that is its whole point. (7.1)

    Parameters
    ----------
    name : str
    center : callable
        values of f (S, ...) to values minus their baseline (S, ...); the baseline of a sample must not
        depend on that sample, or the gradient is biased (7.3) (7.5).
    minimum_samples : int
        The fewest samples that `center` can work with.
    """

    needs_gradient = False

    def __init__(
        self, name: str, center: Callable[[np.ndarray], np.ndarray], minimum_samples: int = 1
    ) -> None:
        self.name = name
        self.center = center
        self.minimum_samples = minimum_samples

    def sample_gradients(
        self, integrand: Integrand, mean: np.ndarray, log_var: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Per-sample gradients of E f(z) with respect to mean and log_var. (7.1)

        Parameters
        ----------
        integrand : Integrand
            Is evaluated at the S samples, never differentiated.
        mean, log_var : ndarray (B, L) or (L,)
        noise : ndarray (S, B, L) or (S, L), standard normal

        Returns
        -------
        dmean, dlog_var : ndarray, the shape of noise
        """
        z, _ = gaussian_sample_forward(mean, log_var, noise)
        # The multiplier is a constant: nothing is differentiated through it.
        multiplier = self.center(integrand.value(z))[..., None].astype(noise.dtype)
        score_mean, score_log_var = gaussian_score(noise, log_var)
        return multiplier * score_mean, multiplier * score_log_var

    def state(self) -> dict[str, np.ndarray]:
        """What the baseline has learned, arrays of shape (), which `load_state` takes back; nothing if it does not."""
        return self.center.state() if isinstance(self.center, RunningMean) else {}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Know again what `state` returned, arrays of shape ()."""
        if isinstance(self.center, RunningMean):
            self.center.load_state(state)


def no_baseline(value: np.ndarray) -> np.ndarray:
    """The values (S, ...) as they are: plain REINFORCE. (7.1)"""
    return value


def leave_one_out(value: np.ndarray) -> np.ndarray:
    """Values (S, ...) minus the mean of the other S − 1 samples of the same example. (7.4)

    Written as S / (S − 1) times the centred value (7.9). The mean over all S, the sample's own value
    included, would shrink the gradient by exactly 1 − 1/S (7.5).
    """
    num_samples = len(value)
    return (value - value.mean(axis=0)) * (num_samples / (num_samples - 1))


class RunningMean:
    """Values minus an exponential moving average of earlier ones. (7.7)

    The first axis is time: sample s sees the average of earlier calls and of samples before s, never of
    itself, so the gradient stays unbiased (7.3). Other axes are averaged over. Before anything was seen
    the baseline is zero.

    Parameters
    ----------
    decay : float in [0, 1)
        0.95 averages over about the last 20 values: short enough to follow a model in training, long
        enough for the baseline's own variance to fall to a fortieth of the values' (7.19).
    """

    def __init__(self, decay: float = 0.95) -> None:
        self.decay = check_number("decay", decay, low=0, high=1 - 1e-9)
        self.moment = 0.0
        self.count = 0

    @property
    def baseline(self) -> float:
        """The bias-corrected average of all that was seen. (7.7)"""
        return self.moment / (1 - self.decay**self.count) if self.count else 0.0

    def __call__(self, value: np.ndarray) -> np.ndarray:
        """Subtract the baseline from each sample of values (S, ...), then learn from it."""
        baselines = np.empty(len(value))
        for s, mean in enumerate(value.reshape(len(value), -1).mean(axis=1).tolist()):
            baselines[s] = self.baseline
            self.moment = self.decay * self.moment + (1 - self.decay) * mean
            self.count += 1
        return value - baselines.reshape(-1, *[1] * (value.ndim - 1))

    def state(self) -> dict[str, np.ndarray]:
        """All that it has learned: arrays of shape (), which `load_state` takes back."""
        return {"moment": np.asarray(self.moment), "count": np.asarray(self.count)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Know again what `state` returned, arrays of shape (); a KeyError if one is missing."""
        self.moment, self.count = float(state["moment"]), int(state["count"])
