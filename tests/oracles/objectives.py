"""The loss and the divergence, written as loops from their definitions; complex arguments are welcome."""

from __future__ import annotations

import numpy as np


def negative_elbo(reconstruction, kl, beta):
    """One number: minus the mean over examples of (mean over samples of log p(x|z) − beta · KL). (5.4)

    reconstruction (S, B); kl (B,), or (S, B) if it is sampled.
    """
    num_samples, num_examples = reconstruction.shape
    total = 0.0
    for b in range(num_examples):
        likelihood = sum(reconstruction[s, b] for s in range(num_samples)) / num_samples
        divergence = kl[b] if kl.ndim == 1 else sum(kl[s, b] for s in range(num_samples)) / num_samples
        total = total - (likelihood - beta * divergence)
    return np.asarray(total / num_examples)


def log_normal(value, mean, variance):
    """log N(value; mean, variance), entry by entry, from the density's definition. (4.1)"""
    return -0.5 * np.log(2 * np.pi * variance) - (value - mean) ** 2 / (2 * variance)


def sampled_divergence(z, mean, log_var):
    """log q(z) − log p(z), (S, B), of z (S, B, L). (5.6)"""
    return (log_normal(z, mean, np.exp(log_var)) - log_normal(z, 0.0, np.ones(()))).sum(axis=-1)


def sampled_divergence_of_noise(mean, log_var, noise):
    """The same at z = mean + σ noise: a function of mean and log_var in two ways. (5.8)"""
    return sampled_divergence(mean + np.exp(log_var / 2) * noise, mean, log_var)


def divergence(mean, log_var):
    """KL(N(mean, exp(log_var)) ‖ N(0, I)), (B,). (4.7)"""
    return ((mean**2 + np.exp(log_var) - 1 - log_var) / 2).sum(axis=-1)
