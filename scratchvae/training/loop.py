"""The training loop: shuffle, binarize, draw noise, compute gradients, update; and say when it goes wrong."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from scratchvae import kernels
from scratchvae.estimators import Estimator, make_estimator
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.objectives.elbo import ELBO
from scratchvae.randomness import NoiseStream, as_generator, spawn
from scratchvae.training.adam import Adam
from scratchvae.training.data import Dataset, binarize, pixels
from scratchvae.training.history import Epoch, History
from scratchvae.training.progress import Progress
from scratchvae.training.sgd import SGD
from scratchvae.validation import check_choice, check_integer, check_number

__all__ = ["OPTIMIZERS", "TrainingDiverged", "average_terms", "check_data", "fit", "minibatch"]

OPTIMIZERS: dict[str, type[Adam | SGD]] = {"adam": Adam, "sgd": SGD}

# Steps between copies of the last good parameters: rare enough to cost nothing beside a hundred updates.
_STEPS_BETWEEN_COPIES = 100
# Samples (of any example) that evaluation takes at a time, so that a large set needs little memory.
_EVALUATION_BATCH = 1000


class TrainingDiverged(ArithmeticError):  # noqa: N818 - reads as what happened
    """The loss or a gradient became non-finite; the model holds the last good parameters.

    Attributes
    ----------
    step : int
        The step that failed, counted from 1; the last one before a validation that failed.
    tensor : str
        The first tensor on the data's way that was not finite.
    history : History
        The epochs completed before.
    """

    def __init__(self, message: str, step: int, tensor: str, history: History) -> None:
        super().__init__(message)
        self.step = step
        self.tensor = tensor
        self.history = history


def fit(
    model: VAE | Autoencoder,
    x: np.ndarray,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    optimizer: str = "adam",
    rng: np.random.Generator | int | None = None,
    validation: np.ndarray | None = None,
    estimator: str | Estimator = "pathwise",
    num_samples: int | None = None,
    kl_warmup_epochs: float = 0,
    on_epoch: Callable[[int], None] | None = None,
    progress: bool = True,
) -> History:
    """Train a model by minibatches.

    Initial weights aside, all randomness comes from `rng` in separate streams: order of the data,
    binarization, noise and validation do not disturb each other.

    Parameters
    ----------
    model : VAE or Autoencoder
    x : ndarray (N, D)
        Floats, or bytes (uint8) that are converted by the minibatch and divided by 255.
    epochs, batch_size : int
        The last minibatch of an epoch may be smaller.
    learning_rate : float
    optimizer : {"adam", "sgd"}
    rng : Generator, int or None
    validation : ndarray (M, D), optional
        Evaluated after every epoch with the model's own beta and binarization, with the same noise each time,
        by the bound that is trained.
    estimator : str or Estimator
        How the encoder's gradient crosses the sample; for a VAE. The importance-weighted ones train the bound
        of that name with num_samples, all others the ELBO.
    num_samples : int, optional
        Samples of z per example; by default the fewest that the estimator can work with.
    kl_warmup_epochs : float
        The weight of the KL term grows linearly from 0 to beta over so many epochs.
    on_epoch : callable, optional
        Called with the number of completed epochs, 0 included.
    progress : bool
        Report on stderr, once two seconds have passed.

    Returns
    -------
    History

    Raises
    ------
    TrainingDiverged
        If the loss, that of validation or a gradient becomes non-finite. The model is left with the last good
        parameters.
    ValueError, TypeError
        If an argument is wrong.
    """
    if not isinstance(model, VAE | Autoencoder):
        raise TypeError(f"model is of type {type(model).__name__}, expected a VAE or an Autoencoder")
    if not isinstance(model, VAE) and (
        estimator != "pathwise" or num_samples not in (None, 1) or kl_warmup_epochs
    ):
        raise ValueError(
            "estimator, num_samples and kl_warmup_epochs are for a VAE, but model is a plain autoencoder"
        )
    x = check_data("x", x, model)
    validation = None if validation is None else check_data("validation", validation, model)
    epochs = check_integer("epochs", epochs, low=0)
    batch_size = check_integer("batch_size", batch_size)
    warmup = check_number("kl_warmup_epochs", kl_warmup_epochs, low=0)
    chosen = make_estimator(estimator)
    samples = chosen.minimum_samples if num_samples is None else num_samples
    samples = check_integer("num_samples", samples, low=chosen.minimum_samples)
    objective = getattr(chosen, "objective", "elbo")
    # Bounds of different numbers of samples are different bounds; the ELBO is the same for any number.
    held_out_samples = samples if objective == "importance-weighted" else 1
    update = OPTIMIZERS[check_choice("optimizer", optimizer, OPTIMIZERS)](model.theta, learning_rate).update
    order_rng, binarize_rng, noise_rng, validation_rng = spawn(as_generator(rng), 4)
    noise, pixel_noise = NoiseStream(noise_rng), NoiseStream(binarize_rng)
    validation_seed = int(validation_rng.integers(2**63))

    history = History()
    steps_per_epoch = math.ceil(len(x) / batch_size)
    good = _LastGood(model)
    beta, step, start = getattr(model, "beta", 0.0), 0, time.monotonic()
    if on_epoch:
        on_epoch(0)
    with Progress("training", epochs * steps_per_epoch, progress) as bar:
        for epoch in range(1, epochs + 1):
            totals = np.zeros(3)  # of loss, reconstruction and kl over the epoch's examples
            for chosen_rows in _minibatches(order_rng.permutation(len(x)), batch_size):
                step += 1
                weight = beta * min(1.0, step / (warmup * steps_per_epoch)) if warmup else beta
                batch = minibatch(x[chosen_rows], model, pixel_noise)
                before = noise.state()
                with _quiet():  # looked for just below
                    loss, elbo = model.minibatch_gradients(
                        batch, noise=noise, estimator=chosen, num_samples=samples, beta=weight
                    )
                if not (math.isfinite(loss) and kernels.all_finite(model.gradient)):
                    shape = (samples, len(batch), model.latent_dim)
                    replayed = NoiseStream.from_state(before).standard_normal(shape, model.dtype)
                    good.give_up(loss, step, epoch, model.forward_tensors(batch, replayed), history)
                good.remember(step)
                with _quiet():  # the next step looks
                    update(model.gradient)
                totals += len(batch) * np.array([loss, elbo.reconstruction.mean(), elbo.kl.mean()])
                bar.advance(f"epoch {epoch}, loss {loss:.2f} nats")
            if (
                epoch == epochs and not np.isfinite(model.theta).all()
            ):  # no further step looks at the last update
                good.give_up(math.nan, step, epoch, iter(model.parameters.items()), history)
            loss, reconstruction, kl = (totals / len(x)).tolist()
            held_out: tuple[float | None, float | None, float | None] = (None, None, None)
            if validation is not None:
                with _quiet():
                    held_out = average_terms(model, validation, validation_seed, held_out_samples, objective)
                if not math.isfinite(held_out[0]):
                    first = minibatch(validation[:_EVALUATION_BATCH], model, NoiseStream(validation_seed))
                    no_noise: np.ndarray = np.zeros((1, len(first), model.latent_dim), model.dtype)
                    good.give_up(held_out[0], step, epoch, model.forward_tensors(first, no_noise), history)
            seconds = time.monotonic() - start
            history.epochs.append(Epoch(epoch, step, weight, loss, reconstruction, kl, *held_out, seconds))
            if on_epoch:
                on_epoch(epoch)
    return history


def _quiet() -> np.errstate:
    """What overflows in training is looked for and reported by name, not warned about."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


def average_terms(
    model: VAE | Autoencoder,
    x: np.ndarray,
    rng: np.random.Generator | int | None,
    num_samples: int = 1,
    objective: str = "elbo",
) -> tuple[float, float, float]:
    """Mean loss, reconstruction and KL over x (N, D), in nats per example, binarized as the model was trained.

    Parameters
    ----------
    model : VAE or Autoencoder
    x : ndarray (N, D)
        Floats or bytes.
    rng : Generator, int or None
    num_samples : int
        Samples of z per example.
    objective : {"elbo", "importance-weighted"}
        Which bound the loss is minus of.

    Returns
    -------
    loss, reconstruction, kl : float
    """
    pixel_noise, noise = (NoiseStream(stream) for stream in spawn(as_generator(rng), 2))
    totals = np.zeros(3)
    for rows in _minibatches(np.arange(len(x)), max(1, _EVALUATION_BATCH // num_samples)):
        batch = minibatch(x[rows], model, pixel_noise)
        elbo: ELBO = model.minibatch_elbo(batch, noise=noise, num_samples=num_samples, objective=objective)
        totals += [-elbo.value.sum(), elbo.reconstruction.sum(), elbo.kl.sum()]
    loss, reconstruction, kl = (totals / len(x)).tolist()
    return loss, reconstruction, kl


def check_data(name: str, x: Any, model: VAE | Autoencoder) -> np.ndarray:
    """x (N, D) as rows of bytes or floats that the model's likelihood can explain, or an error that names it."""
    if isinstance(x, Dataset):
        raise TypeError(
            f"{name} is the data set {x.name!r} as a whole, expected one of its arrays, such as its .train"
        )
    try:
        x = np.asarray(x)
    except ValueError as error:
        raise TypeError(f"{name} is not a rectangular array of numbers: {error}") from None
    if x.ndim < 2 or len(x) == 0:
        hint = "; are these labels instead of images?" if x.ndim == 1 and len(x) else ""
        raise ValueError(
            f"{name} has shape {x.shape}, expected (N, {model.input_dim}) with N at least 1{hint}"
        )
    rows = x.reshape(len(x), -1)
    if x.dtype != np.uint8:
        return model.check_x(rows, name)
    if rows.shape[1] != model.input_dim:
        raise ValueError(f"{name} has shape {x.shape}, expected (N, {model.input_dim})")
    if rows.max() <= 1:
        raise ValueError(
            f"{name} holds bytes no larger than 1, and 255 is white: pass zeros and ones as floats or multiply them "
            "by 255"
        )
    return rows


def minibatch(rows: np.ndarray, model: VAE | Autoencoder, pixel_noise: NoiseStream) -> np.ndarray:
    """A minibatch (B, D) in the model's precision, binarized as the model says."""
    if rows.dtype == np.uint8 and model.binarize == "dynamic":
        return pixel_noise.binarize(rows, model.dtype)
    grey = pixels(rows, model.dtype)
    return grey if model.binarize is None else binarize(grey, model.binarize, pixel_noise)


def _minibatches(rows: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), batch_size):
        yield rows[start : start + batch_size]


class _LastGood:
    """A copy of the parameters from which a finite loss and gradient are known to follow."""

    def __init__(self, model: VAE | Autoencoder) -> None:
        self.model = model
        self.theta = model.theta.copy()
        self.step = 0

    def remember(self, step: int) -> None:
        """Step `step` went well from the current parameters: keep them now and then."""
        if (step - 1) % _STEPS_BETWEEN_COPIES == 0:
            self.theta[...] = self.model.theta
            self.step = step - 1

    def give_up(
        self, loss: float, step: int, epoch: int, tensors: Iterator[tuple[str, np.ndarray]], history: History
    ) -> None:
        """Name the first bad tensor, put the last good parameters back, and raise."""
        with np.errstate(all="ignore"):
            gradients = ((f"the gradient of {name}", value) for name, value in self.model.gradients.items())
            bad = (
                name
                for source in (tensors, gradients)
                for name, value in source
                if not np.isfinite(value).all()
            )
            tensor = next(bad, "the loss")
        self.model.theta[...] = self.theta
        raise TrainingDiverged(
            f"training diverged at step {step} (epoch {epoch}): the loss is {loss:g} and {tensor} is the first "
            f"tensor that is not finite; the model is back at its parameters after step {self.step}; try a smaller "
            "learning rate",
            step,
            tensor,
            history,
        )
