"""The twin in PyTorch of one entry of `importance_weighted.py`: VAE, k = 1, dynamically binarized MNIST.

    SCRATCHVAE_DATA_DIR=... python benchmarks/importance_weighted.py vae-1 --epochs 121
    SCRATCHVAE_DATA_DIR=... python benchmarks/importance_weighted_twin.py --epochs 121

The same network from the same initial weights, the same data, schedule and optimizer, as one writes it with PyTorch:
its layers, its automatic differentiation, its Adam. Order of the data, pixels and noise are random numbers of its own.

1. Before training: from the same weights, pixels and noise, loss, gradient and ten steps of Adam agree.
2. After it: log p(x) of the twin, its parameters copied into a scratchvae model, is estimated by the code that
   estimated that of ours, from the same pixels and noise, so that the difference is paired.
3. That this code is right: PyTorch estimates log p(x) of the first images itself, from noise of its own.

Writes the difference of −log p(x), ours less the twin's, into benchmarks/results/importance_weighted.json. Exit
status 1 if it is more than 0.3 nats, or if 1 or 3 fails. The state is saved after every epoch: the same command goes
on after an interruption. Needs `pip install '.[peers]'`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from importance_weighted import (
    BATCH_SIZE,
    EPOCHS,
    RATES,
    SAMPLES_OF_LOG_LIKELIHOOD,
    PublishedAdam,
    evaluation,
    folder_of,
    make_model,
    results,
    say,
    values_file,
    write,
)
from torch import nn
from torch.distributions import Bernoulli, Normal
from torch.nn.functional import binary_cross_entropy_with_logits

import scratchvae as sv
from scratchvae.randomness import NoiseStream
from scratchvae.training.minibatch import minibatch
from scratchvae.training.run_directory import versions, write_atomically

ENTRY = "vae-1"
ALLOWED = 0.3  # nats between ours and the twin's
# Between two orders of float32 sums. After ten steps the errors have passed through Adam's quotient.
ALLOWED_OF_GRADIENT, ALLOWED_OF_STEPS = 1e-5, 1e-3
CHECKED_IMAGES, ALLOWED_STANDARD_ERRORS = 100, 4


class Twin(nn.Module):
    """784-200-200-50 and back."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh())
        self.mean, self.log_var = nn.Linear(200, 50), nn.Linear(200, 50)
        self.decoder = nn.Sequential(
            nn.Linear(50, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 784)
        )

    def posterior(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.encoder(x)
        return self.mean(hidden), self.log_var(hidden)

    def loss(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """−ELBO, in nats per image."""
        mean, log_var = self.posterior(x)
        logits = self.decoder(mean + torch.exp(log_var / 2) * noise)
        cross_entropy = binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
        kl = (mean**2 + log_var.exp() - 1 - log_var).sum(-1) / 2
        return (cross_entropy + kl).mean()

    def log_likelihood(self, x: torch.Tensor, num_samples: int, generator: torch.Generator) -> torch.Tensor:
        """log p(x) of one image (784,) by importance sampling, from densities that PyTorch knows."""
        mean, log_var = self.posterior(x)
        q, prior = Normal(mean, torch.exp(log_var / 2)), Normal(0.0, 1.0)
        z = q.mean + q.stddev * torch.randn(num_samples, 50, generator=generator)
        log_p = Bernoulli(logits=self.decoder(z)).log_prob(x).sum(-1) + prior.log_prob(z).sum(-1)
        return torch.logsumexp(log_p - q.log_prob(z).sum(-1), 0) - math.log(num_samples)

    def tensors(self, vae: sv.VAE) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter by its name in the scratchvae model, where layers stand in the same order."""
        linear = [layer for layer in self.modules() if isinstance(layer, nn.Linear)]
        mine = [tensor for layer in linear for tensor in (layer.weight, layer.bias)]
        return zip(vae.parameters, mine, strict=True)


def copy_to_twin(vae: sv.VAE, twin: Twin) -> None:
    with torch.no_grad():
        for name, tensor in twin.tensors(vae):
            tensor.copy_(torch.from_numpy(vae.parameters[name].T))  # a torch weight is (fan_out, fan_in)


def copy_to_model(twin: Twin, vae: sv.VAE) -> None:
    vae.load_parameters({name: tensor.detach().numpy().T for name, tensor in twin.tensors(vae)})


def make_optimizer(twin: Twin) -> torch.optim.Adam:
    return torch.optim.Adam(twin.parameters(), lr=RATES[0], eps=1e-4, fused=True)


def agreement(vae: sv.VAE, twin: Twin, x: np.ndarray) -> dict[str, float]:
    """Largest differences from equal weights, relative to the largest entry of what is compared; changes both."""
    stream, start = NoiseStream(0), vae.theta.copy()
    ours, theirs = PublishedAdam(vae.theta, RATES[0]), make_optimizer(twin)
    found = {"loss": 0.0, "gradient": 0.0}
    for step in range(10):
        pixels = minibatch(x[step * BATCH_SIZE : (step + 1) * BATCH_SIZE], vae, stream)
        noise = stream.standard_normal((BATCH_SIZE, vae.latent_dim), np.float32)
        loss, gradients = vae.loss_and_gradients(pixels, noise)
        theirs.zero_grad()
        their_loss = twin.loss(torch.from_numpy(pixels), torch.from_numpy(noise))
        their_loss.backward()
        if step == 0:
            found["loss"] = abs(loss / their_loss.item() - 1)
            found["gradient"] = max(
                np.abs(gradients[name] - tensor.grad.numpy().T).max() / np.abs(gradients[name]).max()
                for name, tensor in twin.tensors(vae)
            )
        ours.update(vae.gradient)
        theirs.step()
    moved = vae.theta - start
    copy_to_model(twin, vae)
    found["ten_steps"] = np.abs(vae.theta - start - moved).max() / np.abs(moved).max()
    return {name: float(value) for name, value in found.items()}


def train(twin: Twin, x: np.ndarray, epochs: int, seed: int, path: Path) -> dict:
    """Train, from the saved state if there is any; returns what it took."""
    generator, optimizer = torch.Generator().manual_seed(seed + 1), make_optimizer(twin)
    done, seconds, loss = 0, 0.0, math.nan
    if path.exists():
        state = torch.load(path, weights_only=True)
        twin.load_state_dict(state["twin"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        done, seconds, loss = state["done"], state["seconds"], state["loss"]
        say(f"{path}: going on after {done} epochs")
    if done > epochs:
        raise SystemExit(f"{path} has made {done} epochs, {epochs} were asked for: choose another --folder")
    rates, data = np.repeat(RATES, EPOCHS), torch.tensor(x)
    for epoch in range(done, epochs):
        start = time.process_time()
        loss = train_epoch(twin, optimizer, float(rates[epoch]), data, generator)
        seconds += time.process_time() - start
        state = {"done": epoch + 1, "seconds": seconds, "loss": loss, "generator": generator.get_state()}
        state |= {"twin": twin.state_dict(), "optimizer": optimizer.state_dict()}
        write_atomically(path, lambda file, state=state: torch.save(state, file))
        left = seconds / (epoch + 1) * (epochs - epoch - 1)
        say(f"epoch {epoch + 1} of {epochs}: loss {loss:.2f} nats, {left:.0f} s of processor time left")
    return {"processor_seconds": round(seconds, 1), "train_loss": loss}


def train_epoch(
    twin: Twin, optimizer: torch.optim.Adam, rate: float, x: torch.Tensor, generator: torch.Generator
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = rate
    total = 0.0
    for rows in torch.randperm(len(x), generator=generator).split(BATCH_SIZE):
        pixels = torch.bernoulli(x[rows].float() / 255, generator=generator)
        loss = twin.loss(pixels, torch.randn(len(rows), 50, generator=generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    return total / len(x)


@torch.no_grad()
def check_of_likelihood(twin: Twin, images: np.ndarray, values: np.ndarray, seed: int) -> dict:
    """PyTorch's own estimates beside those of the same images (B, 784) by scratchvae, values (B,)."""
    generator = torch.Generator().manual_seed(seed + 5)
    own = [
        twin.log_likelihood(x, SAMPLES_OF_LOG_LIKELIHOOD, generator).item() for x in torch.from_numpy(images)
    ]
    difference = np.array(own) - values  # of −log p(x), ours less PyTorch's
    # The noise of each image is independent, and both estimates have the same expectation.
    return {"images": len(images), "estimate": float(np.mean(own)), **mean_and_error(difference)}


def mean_and_error(difference: np.ndarray) -> dict[str, float]:
    error = difference.std(ddof=1) / math.sqrt(len(difference))
    return {"difference": float(difference.mean()), "standard_error": float(error)}


def complaints(record: dict) -> list[str]:
    """What is not as it has to be."""
    agreed, checked = record["agreement"], record["check_of_likelihood"]
    bad = []
    if not max(agreed["loss"], agreed["gradient"]) <= ALLOWED_OF_GRADIENT:
        bad.append(f"from the same weights loss and gradient differ: {agreed}")
    if not agreed["ten_steps"] <= ALLOWED_OF_STEPS:
        bad.append(f"ten steps lead elsewhere: {agreed}")
    if not abs(checked["difference"]) <= ALLOWED_STANDARD_ERRORS * checked["standard_error"]:
        bad.append(f"PyTorch's own estimate of log p(x) is another: {checked}")
    if not abs(record["ours_less_twin"]["difference"]) <= ALLOWED:
        bad.append(f"ours and the twin are more than {ALLOWED} nats apart: {record['ours_less_twin']}")
    return bad


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=sum(EPOCHS), help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/importance-weighted"), help="of checkpoints, and of ours"
    )
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("SCRATCHVAE_NUM_THREADS", torch.get_num_threads())))
    folder = folder_of("mnist", ENTRY, options)
    ours = values_file(folder, options.epochs)
    if not ours.exists():
        parser.error(f"{ours} is missing: run importance_weighted.py {ENTRY} --epochs {options.epochs} first")
    dataset, vae, twin = sv.load_dataset("mnist"), make_model(options.seed, static=False), Twin()
    copy_to_twin(vae, twin)
    agreed = agreement(vae, twin, dataset.train)
    say(f"largest relative differences: {agreed}")
    copy_to_twin(make_model(options.seed, static=False), twin)
    try:
        took = train(twin, dataset.train, options.epochs, options.seed, folder / "twin.pt")
    except KeyboardInterrupt:
        say("interrupted; the same command goes on after the last whole epoch")
        return 130
    copy_to_model(twin, vae)
    our_values = np.load(ours)
    found, values, images = evaluation(vae, dataset.test, len(our_values), options.seed)
    checked = images[:CHECKED_IMAGES]
    record = {
        "entry": ENTRY,
        "epochs": options.epochs,
        "seed": options.seed,
        **took,
        "agreement": agreed,
        "evaluation": found,
        "check_of_likelihood": check_of_likelihood(twin, checked, values[: len(checked)], options.seed),
        "ours_less_twin": {"images": len(values), **mean_and_error(values - our_values)},
        "threads": torch.get_num_threads(),
        "versions": versions() | {"torch": torch.__version__},
    }
    write(results() | {"twin": record})
    print(json.dumps(record), flush=True)
    for complaint in (bad := complaints(record)):
        say(complaint)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
