"""Everything that a step of training changes, and the two ways between it and a checkpoint."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from scratchvae.estimators import Estimator
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.randomness import NoiseStream, as_generator, spawn
from scratchvae.training.adam import Adam
from scratchvae.training.checkpoint import Checkpoint
from scratchvae.training.divergence import LastGood
from scratchvae.training.history import History
from scratchvae.training.sgd import SGD

__all__ = ["OPTIMIZERS", "Settings", "TrainingState", "digest"]

OPTIMIZERS: dict[str, type[Adam | SGD]] = {"adam": Adam, "sgd": SGD}


class Settings(NamedTuple):
    """What `fit` was told, as JSON holds it."""

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: str
    estimator: str
    num_samples: int
    kl_warmup_epochs: float


class TrainingState:
    """A run under way.

    Parameters
    ----------
    model : VAE or Autoencoder
    x : ndarray (N, D)
    validation : ndarray (M, D) or None
    settings : Settings
    estimator : Estimator
    rng : Generator, int or None

    Attributes
    ----------
    step : int
        Updates made; with the number of epochs in `history` it tells the position in the epoch under way.
    totals : ndarray (3,)
        Sums of loss, reconstruction and KL over the examples of the epoch under way.
    order : Generator
        Shuffles the data, once an epoch; `order_before` is its state before it shuffled for the epoch under way.
    """

    def __init__(
        self,
        model: VAE | Autoencoder,
        x: np.ndarray,
        validation: np.ndarray | None,
        settings: Settings,
        estimator: Estimator,
        rng: np.random.Generator | int | None,
    ) -> None:
        self.model, self.x, self.validation = model, x, validation
        self.settings, self.estimator = settings, estimator
        self.optimizer = OPTIMIZERS[settings.optimizer](model.theta, settings.learning_rate)
        self.order, binarize_rng, noise_rng, validation_rng = spawn(as_generator(rng), 4)
        self.order_before = self.order.bit_generator.state
        self.noise, self.pixel_noise = NoiseStream(noise_rng), NoiseStream(binarize_rng)
        self.validation_seed = int(validation_rng.integers(2**63))
        self.good = LastGood(model)
        self.history, self.step, self.totals = History(), 0, np.zeros(3)
        self.steps_per_epoch = math.ceil(len(x) / settings.batch_size)
        self.beta = getattr(model, "beta", 0.0)
        self.start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since training began, without the time between an interruption and its resumption."""
        return time.monotonic() - self.start

    @cached_property
    def digests(self) -> dict[str, str | None]:
        """SHA-256 of the data, so that a run goes on with its own."""
        return {
            "x": digest(self.x),
            "validation": None if self.validation is None else digest(self.validation),
        }

    @property
    def name(self) -> str:
        """Eight hexadecimal digits that two runs share only if they do the same, but for the number of epochs."""
        _generator(self.order_before)  # refuses, before the work, what a resumed run could not make
        values, arrays = self.snapshot()
        same = {key: value for key, value in values.items() if key not in ("seconds", "settings")}
        settings = self.settings._replace(epochs=0)._asdict()
        whole = hashlib.sha256(json.dumps([same, settings], default=np.ndarray.tolist).encode())
        whole.update(arrays["theta"].data)
        return whole.hexdigest()[:8]

    def snapshot(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a checkpoint holds: values for JSON, and arrays of shapes (P,), (3,) and the estimator's own."""
        values = {
            "model": self.model.config(),
            "settings": self.settings._asdict(),
            "data": self.digests,
            "step": self.step,
            "optimizer_step": self.optimizer.step,
            "good_step": self.good.step,
            "order": self.order_before,
            "noise": self.noise.state(),
            "pixel_noise": self.pixel_noise.state(),
            "validation_seed": self.validation_seed,
            "seconds": self.seconds,
            "history": self.history.to_records(),
        }
        arrays = {"theta": self.model.theta, "good": self.good.theta, "totals": self.totals}
        arrays |= {f"optimizer.{name}": array for name, array in self._moments().items()}
        arrays |= {f"estimator.{name}": array for name, array in _learned(self.estimator).items()}
        return values, arrays

    def restore(self, found: Checkpoint) -> None:
        """Be again what `snapshot` saw; a ValueError, TypeError or KeyError if the checkpoint is no such thing."""
        values, arrays = found.values, dict(found.arrays)
        self.step, self.optimizer.step = int(values["step"]), int(values["optimizer_step"])
        self.good.step = int(values["good_step"])
        self.order, self.order_before = _generator(values["order"]), values["order"]
        self.noise = NoiseStream.from_state(values["noise"])
        self.pixel_noise = NoiseStream.from_state(values["pixel_noise"])
        self.validation_seed = int(values["validation_seed"])
        self.start = time.monotonic() - float(values["seconds"])
        self.history = History.from_records(values["history"])
        if not 0 <= self.step - len(self.history) * self.steps_per_epoch <= self.steps_per_epoch:
            raise ValueError(f"it has made {self.step} steps in {len(self.history)} epochs and a part of one")
        own = {"theta": self.model.theta, "good": self.good.theta, "totals": self.totals}
        own |= {f"optimizer.{name}": array for name, array in self._moments().items()}
        for name, array in own.items():
            saved = arrays.pop(name)
            if (saved.shape, saved.dtype) != (array.shape, array.dtype):
                raise ValueError(
                    f"its {name} is {saved.dtype} of shape {saved.shape}, expected {array.dtype} of shape {array.shape}"
                )
            array[...] = saved
        if arrays:
            learned = {name.removeprefix("estimator."): array for name, array in arrays.items()}
            self.estimator.load_state(learned)  # type: ignore[attr-defined] # one that learns has it

    def _moments(self) -> dict[str, np.ndarray]:
        """The optimizer's arrays, of the shape (P,) of theta."""
        every = vars(self.optimizer).items()
        return {name: array for name, array in every if isinstance(array, np.ndarray) and name != "theta"}


def _learned(estimator: Estimator) -> dict[str, np.ndarray]:
    return estimator.state() if hasattr(estimator, "state") else {}


def _generator(state: Mapping[str, Any]) -> np.random.Generator:
    """The generator of a saved state; of NumPy's own kinds only, since its name comes from a file."""
    kinds = {kind.__name__: kind for kind in _BIT_GENERATORS}
    if state["bit_generator"] not in kinds:
        raise ValueError(
            f"rng has the bit generator {state['bit_generator']!r}, expected one that a resumed run can make "
            f"again: {', '.join(kinds)}"
        )
    generator = np.random.Generator(kinds[state["bit_generator"]]())
    generator.bit_generator.state = state
    return generator


_BIT_GENERATORS = (
    np.random.PCG64,
    np.random.PCG64DXSM,
    np.random.MT19937,
    np.random.Philox,
    np.random.SFC64,
)


def digest(array: np.ndarray) -> str:
    """SHA-256 of an array of any shape, of its type and its shape."""
    whole = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    whole.update(np.ascontiguousarray(array).reshape(-1).data)
    return whole.hexdigest()
