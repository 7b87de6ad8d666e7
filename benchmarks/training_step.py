"""One training step of a VAE: scratchvae against NumPy, PyTorch and JAX, turn by turn in one process.

    python benchmarks/training_step.py

A step takes a minibatch in memory, draws the noise, computes loss and gradients, updates with Adam and reads the
loss back. The minibatch is of digits with black and white pixels, as in training; scratchvae gains by their zeros,
so one setting is measured once more on pixels none of which is zero. How time is taken: see `turns.py`. Writes
benchmarks/results/training_step.json. PyTorch and JAX are optional (`pip install '.[peers]'`); a missing one is
reported as missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from turns import compare

import scratchvae as sv
from scratchvae.estimators import make_estimator
from scratchvae.kernels.reference import adam_update, vae_gradients
from scratchvae.randomness import NoiseStream
from scratchvae.training.run_directory import versions

RESULT = Path(__file__).parent / "results" / "training_step.json"
# (D, hidden sizes, L), activation, B, pixels
SETTINGS = [
    ((784, 400, 20), "relu", 128, "mnist"),
    ((784, 200, 200, 50), "tanh", 20, "mnist"),
    ((64, 64, 8), "relu", 64, "digits"),
    ((784, 512, 32), "relu", 1024, "mnist"),
    ((784, 400, 20), "relu", 128, "no zeros"),
]
TURN_SECONDS = 0.3
LEARNING_RATE = 1e-3


def scratchvae_step(vae, x):
    stream, adam, estimator = NoiseStream(0), sv.Adam(vae.theta, LEARNING_RATE), make_estimator("pathwise")

    def step():
        loss, _ = vae.minibatch_gradients(x, noise=stream, estimator=estimator, num_samples=1, beta=1.0)
        adam.update(vae.gradient)
        return loss

    return step


def numpy_step(vae, x):
    theta, gradient = vae.theta.copy(), np.empty_like(vae.theta)
    first, second, values = np.zeros_like(theta), np.zeros_like(theta), np.empty((2, len(x)))
    sizes = (vae.input_dim, *vae.hidden, vae.latent_dim)
    generator, count = np.random.default_rng(0), 0

    def step():
        nonlocal count
        count += 1
        noise = generator.standard_normal((len(x), vae.latent_dim), np.float32)
        vae_gradients(theta, gradient, sizes, vae.activation.name, None, 1.0, x, noise, values)
        root = np.sqrt(1 - 0.999**count)
        adam_update(
            theta, gradient, first, second, 0.9, 0.999, LEARNING_RATE * root / (1 - 0.9**count), 1e-8 * root
        )
        return -(values[0] - values[1]).mean()

    return step


def torch_step(vae, x, compiled):
    import torch
    from torch.nn import functional

    parameters = {name: torch.tensor(value).requires_grad_() for name, value in vae.parameters.items()}
    activation, depth = getattr(torch, vae.activation.name), len(vae.hidden)
    data = torch.tensor(x)
    optimizer = torch.optim.Adam(parameters.values(), lr=LEARNING_RATE, fused=True)

    def dense(h, layer):
        return torch.addmm(parameters[f"{layer}.bias"], h, parameters[f"{layer}.weight"])

    def objective(data, noise):
        h = data
        for i in range(depth):
            h = activation(dense(h, f"encoder.{i}"))
        mean, log_var = dense(h, "encoder.mean"), dense(h, "encoder.log_var")
        g = mean + torch.exp(0.5 * log_var) * noise
        for i in range(depth):
            g = activation(dense(g, f"decoder.{i}"))
        cross_entropy = functional.binary_cross_entropy_with_logits(
            dense(g, f"decoder.{depth}"), data, reduction="sum"
        )
        kl = 0.5 * (mean**2 + torch.expm1(log_var) - log_var).sum()
        return (cross_entropy + kl) / len(data)

    loss_of = torch.compile(objective) if compiled else objective

    def step():
        noise = torch.randn(len(data), vae.latent_dim)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(data, noise)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def jax_step(vae, x):
    import jax
    from jax import numpy as jnp

    activation = {"relu": jax.nn.relu, "tanh": jnp.tanh}[vae.activation.name]
    depth, data = len(vae.hidden), jnp.asarray(x)

    def objective(p, noise):
        h = data
        for i in range(depth):
            h = activation(h @ p[f"encoder.{i}.weight"] + p[f"encoder.{i}.bias"])
        mean, log_var = (h @ p[f"encoder.{k}.weight"] + p[f"encoder.{k}.bias"] for k in ("mean", "log_var"))
        g = mean + jnp.exp(0.5 * log_var) * noise
        for i in range(depth):
            g = activation(g @ p[f"decoder.{i}.weight"] + p[f"decoder.{i}.bias"])
        logits = g @ p[f"decoder.{depth}.weight"] + p[f"decoder.{depth}.bias"]
        cross_entropy = (jax.nn.softplus(logits) - data * logits).sum()
        kl = 0.5 * (mean**2 + jnp.expm1(log_var) - log_var).sum()
        return (cross_entropy + kl) / len(data)

    def update(state):
        p, m, v, key, count = state
        key, fresh = jax.random.split(key)
        noise = jax.random.normal(fresh, (len(data), vae.latent_dim))
        loss, g = jax.value_and_grad(objective)(p, noise)
        count = count + 1
        m = jax.tree.map(lambda m, g: m + 0.1 * (g - m), m, g)
        v = jax.tree.map(lambda v, g: v + 0.001 * (g * g - v), v, g)
        root = jnp.sqrt(1 - 0.999**count)
        rate = LEARNING_RATE * root / (1 - 0.9**count)
        p = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8 * root), p, m, v)
        return (p, m, v, key, count), loss

    compiled = jax.jit(update, donate_argnums=0)
    p = {name: jnp.array(value) for name, value in vae.parameters.items()}
    state = (
        p,
        jax.tree.map(jnp.zeros_like, p),
        jax.tree.map(jnp.zeros_like, p),
        jax.random.key(0),
        jnp.float32(0),
    )

    def step():
        nonlocal state
        state, loss = compiled(state)
        return float(loss)

    return step


def minibatch(num_pixels, batch_size, pixels):
    """Digits with black and white pixels, or greys without a zero."""
    if pixels == "no zeros":
        return 1 - np.random.default_rng(0).random((batch_size, num_pixels), np.float32)
    return sv.binarize(sv.pixels(sv.load_dataset(pixels).train[:batch_size]), "dynamic", 0)


def contestants(sizes, activation, batch_size, pixels):
    """Name and step of each that is installed, all from the same initial weights and the same data."""
    vae = sv.VAE(sizes[0], sizes[1:-1], sizes[-1], activation=activation, rng=0)
    x = minibatch(sizes[0], batch_size, pixels)
    steps = {"NumPy": numpy_step(vae, x)}
    if importlib.util.find_spec("torch"):
        steps["PyTorch eager, fused Adam"] = torch_step(vae, x, compiled=False)
        steps["PyTorch compiled"] = torch_step(vae, x, compiled=True)
    if importlib.util.find_spec("jax"):
        steps["JAX jit"] = jax_step(vae, x)
    steps["scratchvae"] = scratchvae_step(vae, x)
    return steps


def measure(sizes, activation, batch_size, pixels, rounds):
    steps = contestants(sizes, activation, batch_size, pixels)
    first_losses = {name: step() for name, step in steps.items()}  # shows that all compute the same
    result = compare(steps, rounds, TURN_SECONDS)
    return {
        "sizes": list(sizes),
        "activation": activation,
        "batch_size": batch_size,
        "pixels": pixels,
        "rounds": rounds,
        "milliseconds": {name: round(1e3 * seconds, 4) for name, seconds in result["seconds"].items()},
        "times_scratchvae": result["times_scratchvae"],
        "first_loss": {name: round(float(loss), 2) for name, loss in first_losses.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--only", type=int, help="measure only the setting with this number, and write nothing"
    )
    options = parser.parse_args()
    results = []
    for number, setting in enumerate(SETTINGS):
        if options.only in (None, number):
            results.append(measure(*setting, options.rounds))
            print(json.dumps(results[-1]), flush=True)
    if options.only is None:
        peers = {
            name: version(name) if importlib.util.find_spec(name) else "not installed"
            for name in ("torch", "jax")
        }
        record = {
            "command": "python benchmarks/training_step.py",
            "seed": 0,
            "settings": results,
            "versions": versions() | peers,
        }
        RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
