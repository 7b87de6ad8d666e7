"""The training loop: shuffle, binarize, draw noise, compute gradients, update; and say when it goes wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from scratchvae import kernels
from scratchvae.estimators import Estimator, make_estimator
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.objectives.elbo import ELBO
from scratchvae.randomness import NoiseStream, as_generator, spawn
from scratchvae.training.checkpoint import Checkpoint
from scratchvae.training.divergence import TrainingDiverged
from scratchvae.training.history import Epoch, History
from scratchvae.training.minibatch import check_data, minibatch, minibatches
from scratchvae.training.progress import Progress
from scratchvae.training.run_directory import MODELS, Run, make_model
from scratchvae.training.saving import Checkpoints, Saver, resuming, saving
from scratchvae.training.state import OPTIMIZERS, Settings, TrainingState
from scratchvae.validation import check_choice, check_integer, check_number

__all__ = ["OPTIMIZERS", "TrainingDiverged", "average_terms", "fit", "resume"]

# Samples (of any example) that evaluation takes at a time, so that a large set needs little memory.
_EVALUATION_BATCH = 1000


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
    checkpoints: Checkpoints | str | Path | None = None,
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
        of that name with num_samples, all others the ELBO. A name, where there are checkpoints.
    num_samples : int, optional
        Samples of z per example; by default the fewest that the estimator can work with.
    kl_warmup_epochs : float
        The weight of the KL term grows linearly from 0 to beta over so many epochs.
    checkpoints : Checkpoints, str or path, optional
        The folder in which the run is saved as it goes, every five minutes unless `Checkpoints` says otherwise;
        `resume` goes on from there.
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
    TrainingInterrupted
        A KeyboardInterrupt, after Ctrl-C, of a run with checkpoints: the last step is saved.
    OSError
        If a checkpoint cannot be written; the one before is whole.
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
    chosen = make_estimator(estimator)
    samples = chosen.minimum_samples if num_samples is None else num_samples
    settings = Settings(
        epochs=check_integer("epochs", epochs, low=0),
        batch_size=check_integer("batch_size", batch_size),
        learning_rate=check_number("learning_rate", learning_rate, above=0),
        optimizer=check_choice("optimizer", optimizer, OPTIMIZERS),
        estimator=chosen.name,
        num_samples=check_integer("num_samples", samples, low=chosen.minimum_samples),
        kl_warmup_epochs=check_number("kl_warmup_epochs", kl_warmup_epochs, low=0),
    )
    training = _Training(model, x, validation, settings, chosen, rng)
    plan = _plan(checkpoints, model, estimator)
    with nullcontext() if plan is None else saving(plan, training.name) as saver:
        training.run(saver, on_epoch, progress)
    return training.history


def resume(
    folder: str | Path,
    x: np.ndarray,
    *,
    validation: np.ndarray | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    on_epoch: Callable[[int], None] | None = None,
    progress: bool = True,
) -> Run:
    """Go on with a run that `fit` saved, from its newest whole checkpoint.

    Parameters, moments, order of the data and history become, bit for bit, those of a run that was never
    interrupted; `seconds` in the history leave the interruption out.

    Parameters
    ----------
    folder : str or path
        Where `fit` was told to save.
    x : ndarray (N, D)
        The data that the run was begun with.
    validation : ndarray (M, D), optional
        The same, if it was begun with any.
    epochs : int, optional
        In all, if it shall be another number than at the beginning: a run that has ended can train on.
    learning_rate : float, optional
        From now on, if it shall be another: schedules are run stage by stage, and moments are carried on.
    on_epoch : callable, optional
        Called with the number of completed epochs, after each one that ends from now on.
    progress : bool

    Returns
    -------
    Run
        The model, the whole history, and what `fit` was told with the notes of `Checkpoints`.

    Raises
    ------
    ValueError
        If no whole checkpoint is there, if another process writes into the folder, or if the data are others.
    TrainingDiverged, TrainingInterrupted, OSError
        As `fit`.
    """
    with resuming(Path(folder)) as saver:
        assert saver.found is not None
        changes = {"epochs": epochs, "learning_rate": learning_rate}
        training = _Training.from_checkpoint(saver.found, x, validation, changes)
        training.run(saver, on_epoch, progress)
    told, notes = training.settings._asdict(), saver.plan.notes
    missing = {name: value for name, value in told.items() if name not in notes}
    changed = {name: told[name] for name in changes}
    return Run(training.model, training.history, {**notes, **missing, **changed})


def _plan(
    checkpoints: Checkpoints | str | Path | None, model: VAE | Autoencoder, estimator: str | Estimator
) -> Checkpoints | None:
    """Where and when to save, if at all; only what can be made again by its name can be resumed."""
    if checkpoints is None:
        return None
    check_choice("the class of a model that is saved", type(model).__name__, MODELS)
    if not isinstance(estimator, str):
        raise TypeError(
            f"estimator is {estimator!r}, expected its name where there are checkpoints: a resumed run makes it again"
        )
    return checkpoints if isinstance(checkpoints, Checkpoints) else Checkpoints(checkpoints)


class _Training(TrainingState):
    """What changes a `TrainingState`: steps, epochs, and runs of them."""

    @classmethod
    def from_checkpoint(
        cls, found: Checkpoint, x: np.ndarray, validation: np.ndarray | None, changes: dict[str, Any]
    ) -> _Training:
        """The run as it was when the checkpoint was written, once x (N, D) and validation are known to be its own."""
        with _describing(found):
            model = make_model(found.values["model"])
            settings = Settings(**found.values["settings"])
            estimator = make_estimator(settings.estimator)
            expected = dict(found.values["data"])
        if (epochs := changes["epochs"]) is not None:
            settings = settings._replace(epochs=check_integer("epochs", epochs, low=0))
        if (rate := changes["learning_rate"]) is not None:
            settings = settings._replace(learning_rate=check_number("learning_rate", rate, above=0))
        x = check_data("x", x, model)
        validation = None if validation is None else check_data("validation", validation, model)
        training = cls(model, x, validation, settings, estimator, 0)
        for name, digest in training.digests.items():
            if digest != expected.get(name):
                raise ValueError(
                    f"{name} is not what the run in {found.path.parent} was begun with: its SHA-256 is {digest}, "
                    f"expected {expected.get(name)}"
                )
        with _describing(found):
            training.restore(found)
        if training.step > settings.epochs * training.steps_per_epoch:
            raise ValueError(
                f"epochs is {settings.epochs}, expected more: the run in {found.path.parent} has made {training.step} "
                f"steps, {training.steps_per_epoch} an epoch"
            )
        return training

    def run(self, saver: Saver | None, on_epoch: Callable[[int], None] | None, progress: bool) -> None:
        """All epochs that are not yet done, saved at the beginning, whenever it is due, and at the end."""
        if saver is not None and saver.found is None:
            saver.save(*self.snapshot())
        if on_epoch and self.step == 0:
            on_epoch(0)
        total = self.settings.epochs * self.steps_per_epoch
        with Progress("training", total, progress, done=self.step) as bar:
            while len(self.history) < self.settings.epochs:
                self.finish_epoch(saver, bar)
                if on_epoch:
                    on_epoch(len(self.history))
        if saver is not None:
            saver.save(*self.snapshot())

    def finish_epoch(self, saver: Saver | None, bar: Progress) -> None:
        """The steps of the epoch that are not yet done, and its record."""
        epoch = len(self.history) + 1
        done = self.step - len(self.history) * self.steps_per_epoch
        batches = minibatches(self.order.permutation(len(self.x)), self.settings.batch_size)
        for rows in islice(batches, done, None):
            loss = self.take_step(rows)
            bar.advance(f"epoch {epoch}, loss {loss:.2f} nats")
            if saver is not None and saver.due(self.step):
                saver.save(*self.snapshot())
        # no further step looks at the last update
        if epoch == self.settings.epochs and not np.isfinite(self.model.theta).all():
            self.give_up(math.nan, iter(self.model.parameters.items()))
        loss, reconstruction, kl = (self.totals / len(self.x)).tolist()
        record = (self.step, self.kl_weight(), loss, reconstruction, kl, *self.held_out_terms(), self.seconds)
        self.history.epochs.append(Epoch(epoch, *record))
        self.order_before = self.order.bit_generator.state
        self.totals[...] = 0

    def take_step(self, rows: np.ndarray) -> float:
        """Minibatch, gradients, a look at them, update; the loss, in nats per example. rows is (B,)."""
        self.step += 1
        model = self.model
        batch = minibatch(self.x[rows], model, self.pixel_noise)
        before = self.noise.state()
        with _quiet():  # looked for just below
            loss, elbo = model.minibatch_gradients(
                batch,
                noise=self.noise,
                estimator=self.estimator,
                num_samples=self.settings.num_samples,
                beta=self.kl_weight(),
            )
        if not (math.isfinite(loss) and kernels.all_finite(model.gradient)):
            shape = (self.settings.num_samples, len(batch), model.latent_dim)
            replayed = NoiseStream.from_state(before).standard_normal(shape, model.dtype)
            self.give_up(loss, model.forward_tensors(batch, replayed))
        self.good.remember(self.step)
        with _quiet():  # the next step looks
            self.optimizer.update(model.gradient)
        self.totals += len(batch) * np.array([loss, elbo.reconstruction.mean(), elbo.kl.mean()])
        return loss

    def kl_weight(self) -> float:
        """Of the KL term at the step under way."""
        warmup = self.settings.kl_warmup_epochs
        return self.beta * min(1.0, self.step / (warmup * self.steps_per_epoch)) if warmup else self.beta

    def held_out_terms(self) -> tuple[float, float, float] | tuple[None, None, None]:
        """Loss, reconstruction and KL of the validation set, if there is one."""
        if self.validation is None:
            return None, None, None
        objective = getattr(self.estimator, "objective", "elbo")
        # Bounds of different numbers of samples are different bounds; the ELBO is the same for any number.
        samples = self.settings.num_samples if objective == "importance-weighted" else 1
        with _quiet():
            terms = average_terms(self.model, self.validation, self.validation_seed, samples, objective)
        if not math.isfinite(terms[0]):
            noise = NoiseStream(self.validation_seed)
            first = minibatch(self.validation[:_EVALUATION_BATCH], self.model, noise)
            no_noise: np.ndarray = np.zeros((1, len(first), self.model.latent_dim), self.model.dtype)
            self.give_up(terms[0], self.model.forward_tensors(first, no_noise))
        return terms

    def give_up(self, loss: float, tensors: Iterator[tuple[str, np.ndarray]]) -> None:
        """Put the last good parameters back and raise; tensors are of whatever shape (...)."""
        self.good.give_up(loss, self.step, len(self.history) + 1, tensors, self.history)


@contextmanager
def _describing(found: Checkpoint) -> Iterator[None]:
    """What does not fit in a file that is whole, but was made by other means, is an error that names it."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{found.path} does not describe a run: {error}") from None


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
    for rows in minibatches(np.arange(len(x)), max(1, _EVALUATION_BATCH // num_samples)):
        batch = minibatch(x[rows], model, pixel_noise)
        elbo: ELBO = model.minibatch_elbo(batch, noise=noise, num_samples=num_samples, objective=objective)
        totals += [-elbo.value.sum(), elbo.reconstruction.sum(), elbo.kl.sum()]
    loss, reconstruction, kl = (totals / len(x)).tolist()
    return loss, reconstruction, kl
