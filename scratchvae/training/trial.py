"""One trial of a sweep, in a process of its own: `python -m scratchvae.training.trial FOLDER PLAN SETTING`.

It goes on from its checkpoint, if there is one, and leaves a run directory. It ends when its standard input is
closed, as happens when the process that began it ends in whatever way, and saves its state before.

Exit status 0: there is a run directory; 1: training diverged, as it would again, and `diverged.json` says how; 130:
interrupted and saved; anything else: it is worth another try.
"""

from __future__ import annotations

import _thread
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scratchvae.models.vae import VAE
from scratchvae.randomness import spawn
from scratchvae.training.checkpoint import checkpoint_files
from scratchvae.training.data import Dataset, load_dataset
from scratchvae.training.divergence import TrainingDiverged
from scratchvae.training.loop import fit, resume
from scratchvae.training.run_directory import Run, load_run, save_run, write_atomically
from scratchvae.training.saving import Checkpoints
from scratchvae.training.search import Setting
from scratchvae.training.state import digest

__all__ = ["DIVERGED", "INTERRUPTED", "Plan", "main", "outcome", "split", "train_trial"]

DIVERGED, INTERRUPTED = 1, 130  # exit statuses

# Training images that are held out for validation, where the data have no validation part of their own: one in ten.
_HELD_OUT = 10


class Plan(NamedTuple):
    """What the trials of a sweep have in common."""

    data: str  # what `load_dataset` is given
    digest: str  # SHA-256 of its training images
    epochs: int
    batch_size: int
    seed: int  # decides which images are held out


def split(dataset: Dataset, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training images (N, D) and held-out ones (M, D) to choose hyperparameters by: the test part stays unseen.

    Parameters
    ----------
    dataset : Dataset
        Its validation part is held out if there is one, else a tenth of its training part.
    seed : int
        Decides which tenth.

    Returns
    -------
    train, held_out : ndarray (N, D), (M, D)
    """
    train = dataset.train
    if dataset.validation is not None:
        return train, dataset.validation
    order = spawn(seed, 2)[1].permutation(len(train))
    held_out = np.zeros(len(train), dtype=bool)
    held_out[order[: -(-len(train) // _HELD_OUT)]] = True
    return train[~held_out], train[held_out]


def train_trial(folder: Path, plan: Plan, setting: Setting) -> None:
    """Train one setting from its checkpoint, or from the start, to a run directory.

    Parameters
    ----------
    folder : Path
        Of this trial alone.
    plan : Plan
    setting : Setting

    Raises
    ------
    TrainingDiverged
        What it says is left in `diverged.json`.
    TrainingInterrupted, OSError, ValueError
        As `fit` and `resume`; or if the data are not those of the plan.
    """
    dataset = load_dataset(plan.data)
    if digest(dataset.train) != plan.digest:
        raise ValueError(f"{plan.data} holds other training images than where the sweep was begun")
    train, held_out = split(dataset, plan.seed)
    try:
        run = _trained(folder, plan, setting, train, held_out, dataset.image_shape)
    except TrainingDiverged as error:
        record = json.dumps({"step": error.step, "reason": str(error)}) + "\n"
        write_atomically(folder / "diverged.json", lambda file: file.write(record.encode()))
        _forget_checkpoints(folder)
        raise
    save_run(folder, *run)
    _forget_checkpoints(folder)


def _forget_checkpoints(folder: Path) -> None:
    """Nothing goes on from here."""
    for path in checkpoint_files(folder):
        path.unlink()


def _trained(
    folder: Path,
    plan: Plan,
    setting: Setting,
    train: np.ndarray,
    held_out: np.ndarray,
    image_shape: tuple[int, ...],
) -> Run:
    if checkpoint_files(folder):
        return resume(folder, train, validation=held_out, progress=False)
    # The same streams as `scratchvae train --seed`: of the initial weights, and of all that follows.
    initial_rng, training_rng = spawn(setting.seed, 2)
    vae = VAE(
        train.shape[1],
        hidden=(setting.width,),
        latent_dim=setting.latent_dim,
        beta=setting.beta,
        rng=initial_rng,
    )
    told: dict[str, Any] = {
        "epochs": plan.epochs,
        "batch_size": plan.batch_size,
        "learning_rate": setting.learning_rate,
        "estimator": setting.estimator,
    }
    notes = {"data": plan.data, "image_shape": list(image_shape), "seed": setting.seed, **told}
    notes["held_out"] = {"images": len(held_out), "seed": plan.seed}
    history = fit(
        vae,
        train,
        validation=held_out,
        rng=training_rng,
        checkpoints=Checkpoints(folder, notes=notes),
        progress=False,
        **told,
    )
    return Run(vae, history, notes)


def outcome(folder: Path) -> dict[str, Any] | None:
    """How a trial ended: its state, `done` or `diverged`, with the last epoch's means over the held-out images.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    dict or None
        None if it has not ended.

    Raises
    ------
    ValueError
        If what it left is damaged.
    """
    if (folder / "manifest.json").is_file():
        last = load_run(folder).history.epochs[-1]
        reconstruction, kl = last.validation_reconstruction, last.validation_kl
        assert reconstruction is not None
        assert kl is not None
        values = {"negative_elbo": kl - reconstruction, "reconstruction": reconstruction, "kl": kl}
        return {"state": "done", "validation": values, "seconds": last.seconds}
    path = folder / "diverged.json"
    if not path.is_file():
        return None
    try:
        return {"state": "diverged", "reason": str(json.loads(path.read_bytes())["reason"])}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def main(arguments: Sequence[str]) -> int:
    """Train the trial that the arguments describe: a folder, and a plan and a setting as JSON.

    Returns
    -------
    int
        The exit status.
    """
    # Whoever began this may have told its children to ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    folder, plan, setting = arguments
    try:
        train_trial(Path(folder), Plan(**json.loads(plan)), Setting(**json.loads(setting)))
    except KeyboardInterrupt:
        return INTERRUPTED
    except TrainingDiverged:
        return DIVERGED
    except (ValueError, TypeError, OSError, MemoryError) as error:
        print(" ".join(str(error).split()) or type(error).__name__, file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _end_with_standard_input() -> None:
    """Ctrl-C for the main thread, once nobody holds the other end: it saves after the step under way."""
    while os.read(
        0, 1
    ):  # the descriptor itself: a thread that waits in sys.stdin would hold its lock at the end
        pass
    _thread.interrupt_main()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
