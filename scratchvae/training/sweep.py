"""A sweep: many trials, several at a time, on this machine or on a Dask cluster, whatever becomes of each.

Every trial is a process of its own with one thread, and a run directory of its own, so that one that is killed takes
nothing with it. What has ended is kept, and what has not goes on from its checkpoint: the same call continues.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from pathlib import Path
from typing import Any

import numpy as np

from scratchvae.models.vae import VAE
from scratchvae.randomness import spawn
from scratchvae.training.data import load_dataset
from scratchvae.training.download import CATALOGUE
from scratchvae.training.places import Place, here, mishaps, on_cluster, run_trial
from scratchvae.training.progress import Progress
from scratchvae.training.run_directory import versions, write_atomically
from scratchvae.training.saving import locked, tell
from scratchvae.training.search import Range, Setting, Space, grid, random_search
from scratchvae.training.state import digest
from scratchvae.training.trial import Plan, outcome, split
from scratchvae.validation import check_integer

__all__ = ["summary", "sweep"]

_GRACE = 60.0  # seconds in which trials that are told to stop finish a step and save


def sweep(
    data: str,
    space: Space,
    folder: str | Path,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    draws: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    scheduler: str | None = None,
    retries: int = 2,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a VAE for every setting of a grid or of a random search, and compare them on held-out images.

    The validation part of the data, or a tenth of its training images where there is none, is held out to compare
    settings by; no trial sees the test images. A trial's numbers depend on its setting and on `seed`, and not on how
    many run at a time, in which order, where, or how often they were killed.

    A trial has one thread, unless the environment variable SCRATCHVAE_NUM_THREADS says otherwise.

    Parameters
    ----------
    data : str
        What `load_dataset` takes: a name or a path.
    space : mapping of str to sequence or Range
        Values of beta, latent_dim, width, learning_rate, estimator and seed; see `grid` and `random_search`.
    folder : str or path
        Each trial gets a run directory in it. What has ended there is not trained again.
    epochs, batch_size : int
    draws : int, optional
        Draw so many settings at random; by default all combinations are tried.
    seed : int
        Decides what is drawn and which images are held out. The initial weights and the noise of a trial come from
        the seed of its setting.
    workers : int, optional
        Trials at a time on this machine; by default as many as this process may use processors.
    scheduler : str, optional
        The address of a Dask cluster's scheduler: trials run there, as many at a time as it has threads. Its workers
        need scratchvae and must see `folder`.
    retries : int
        A trial that is killed or fails, other than by diverging, is begun again so many times.
    progress : bool
        Report on stderr.

    Returns
    -------
    dict
        For JSON: the plan, the space, one record per trial with its state (done, diverged or gave up), a `summary` of
        each setting over its seeds, and versions. All but `seconds` and `mishaps` is the same each time.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, the folder belongs to a sweep of another plan, or the cluster cannot do it.
    KeyboardInterrupt
        After Ctrl-C, when the trials under way have saved their state.
    OSError
        If the folder cannot be written.
    """
    check_integer("seed", seed, low=0)
    settings = grid(space) if draws is None else random_search(space, draws, spawn(seed, 2)[0])
    plan, images = _plan(data, epochs, batch_size, seed)
    _try_estimators(settings)
    check_integer("retries", retries, low=0)
    if scheduler is not None and workers is not None:
        raise ValueError(
            f"workers is {workers}, but the cluster at {scheduler} has its own: leave one of the two out"
        )
    if workers is not None:
        check_integer("workers", workers)
    folder = Path(folder).resolve()
    with locked(folder):
        _keep_plan(folder, plan)
        with here(workers) if scheduler is None else on_cluster(scheduler, folder) as place:
            trials = _Sweep(folder, plan, settings, place, retries, progress).run()
    return {
        "plan": plan._asdict() | images,
        "search": {"draws": draws, "space": {name: _plain(axis) for name, axis in space.items()}},
        "trials": trials,
        "settings": summary(trials),
        "versions": versions(),
    }


def _plain(axis: Sequence[Any] | Range) -> Any:
    return axis._asdict() if isinstance(axis, Range) else list(axis)


def summary(trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the seeds of each setting, the best first, and those that no seed brought to an end last.

    Parameters
    ----------
    trials : sequence of dict
        As in the record of a sweep.

    Returns
    -------
    list of dict
        The hyperparameters but the seed; how many seeds are done, and of how many; and of negative_elbo,
        reconstruction and kl, in nats per held-out image, mean and standard_error, which one seed alone does not have.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for trial in trials:
        key = tuple(value for name, value in trial["setting"].items() if name != "seed")
        groups.setdefault(key, []).append(trial)
    rows = []
    for group in groups.values():
        done = [trial["validation"] for trial in group if trial["state"] == "done"]
        setting = {name: value for name, value in group[0]["setting"].items() if name != "seed"}
        terms = {name: _mean([values[name] for values in done]) for name in (done[0] if done else ())}
        rows.append({**setting, "done": len(done), "seeds": len(group), "validation": terms})
    return sorted(rows, key=lambda row: row["validation"]["negative_elbo"]["mean"] if row["done"] else np.inf)


def _mean(values: list[float]) -> dict[str, float | None]:
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "standard_error": error}


def _plan(data: str, epochs: int, batch_size: int, seed: int) -> tuple[Plan, dict[str, int]]:
    """What the trials share, and how many images there are to train and to compare."""
    dataset = load_dataset(data)
    train, held_out = split(dataset, seed)
    if not len(train):
        raise ValueError(
            f"{data} has {len(dataset.train)} training images, expected at least two: one is held out"
        )
    plan = Plan(
        data=data if data in CATALOGUE else str(Path(data).resolve()),
        digest=digest(dataset.train),
        epochs=check_integer("epochs", epochs),
        batch_size=check_integer("batch_size", batch_size),
        seed=seed,
    )
    return plan, {"train_images": len(train), "held_out_images": len(held_out)}


def _try_estimators(settings: Sequence[Setting]) -> None:
    """One step each on a VAE of one number: some cannot train a VAE, and say why."""
    for name in dict.fromkeys(setting.estimator for setting in settings):
        vae = VAE(1, hidden=(), latent_dim=1, rng=0)
        vae.loss_and_gradients(np.zeros((1, 1)), rng=0, estimator=name, num_samples=2)


def _keep_plan(folder: Path, plan: Plan) -> None:
    """Written once; a sweep with another plan does not go into the same folder."""
    path = folder / "plan.json"
    if not path.exists():
        text = json.dumps(plan._asdict(), indent=2) + "\n"
        write_atomically(path, lambda file: file.write(text.encode()))
        return
    try:
        before = dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}): choose another folder, or delete this one") from None
    for name, value in plan._asdict().items():
        if before.get(name) != value:
            raise ValueError(
                f"{folder} holds a sweep whose {name} is {before.get(name)!r}, not {value!r}: choose another folder"
            )


class _Sweep:
    """Trials under way."""

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        settings: Sequence[Setting],
        place: Place,
        retries: int,
        progress: bool,
    ) -> None:
        self.folder, self.plan, self.settings, self.place = folder, plan, settings, place
        self.retries, self.progress = retries, progress
        self.gave_up: dict[Setting, str] = {}
        # Mishaps that were told, in this call or an earlier one.
        self.told = {setting: len(mishaps(folder / setting.name)) for setting in settings}
        self.outcomes: dict[Setting, dict[str, Any]] = {}

    def run(self) -> list[dict[str, Any]]:
        """All trials that have not ended before; the records of all."""
        waiting = [setting for setting in self.settings if not self.has_ended(setting)]
        if waiting:
            done = len(self.settings) - len(waiting)
            self.say(f"{len(self.settings)} trials, {done} of them done before; {self.place.words}")
            with Progress("sweep", len(self.settings), self.progress, done=done) as bar:
                try:
                    self.run_all(waiting, bar)
                except BaseException as error:
                    self.place.stop.set()
                    if isinstance(error, KeyboardInterrupt):
                        raise KeyboardInterrupt(self.how_to_go_on()) from None
                    raise
        return [self.record(setting) for setting in self.settings]

    def run_all(self, waiting: Sequence[Setting], bar: Progress) -> None:
        """Until each has ended or failed too often."""
        failures = dict.fromkeys(waiting, 0)
        running = {self.submit(setting): setting for setting in waiting}
        try:
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    setting = running.pop(future)
                    problem = _problem(future)
                    if self.has_ended(setting):
                        for mishap in mishaps(self.folder / setting.name)[self.told[setting] :]:
                            self.say(f"{setting.name} {mishap}, and was begun again from its last checkpoint")
                        bar.advance(self.words(setting))
                        continue
                    problem = problem or "ended without a run directory that can be seen from here"
                    failures[setting] += 1
                    self.told[setting] += 1
                    if failures[setting] <= self.retries:
                        self.say(f"{setting.name} {problem}; it is begun again from its last checkpoint")
                        running[self.submit(setting)] = setting
                    else:
                        self.gave_up[setting] = f"{problem}, in each of {failures[setting]} attempts"
                        self.say(f"{setting.name} {self.gave_up[setting]}; the others go on")
                        bar.advance(self.words(setting))
        except KeyboardInterrupt:
            self.place.stop.set()
            wait(running, timeout=_GRACE)
            for setting in running.values():
                self.has_ended(setting)
            raise

    def submit(self, setting: Setting) -> Future[str | None]:
        """To whatever worker is free next."""
        arguments = (str(self.folder / setting.name), tuple(self.plan), tuple(setting), self.place.stop)
        return self.place.executor.submit(run_trial, *arguments)

    def has_ended(self, setting: Setting) -> bool:
        """Whether the trial is done or diverged; one that left something damaged has not."""
        try:
            found = outcome(self.folder / setting.name)
        except ValueError as error:
            self.say(f"{error}; it is trained again")
            return False
        if found is not None:
            self.outcomes[setting] = found
        return found is not None

    def record(self, setting: Setting) -> dict[str, Any]:
        """What became of a trial."""
        folder = self.folder / setting.name
        ended = self.outcomes.get(setting) or {"state": "gave up", "reason": self.gave_up[setting]}
        return {"name": setting.name, "setting": setting._asdict(), **ended, "mishaps": mishaps(folder)}

    def words(self, setting: Setting) -> str:
        ended = self.outcomes.get(setting, {"state": "gave up"})
        value = (
            f"{ended['validation']['negative_elbo']:.2f} nats" if ended["state"] == "done" else ended["state"]
        )
        return f"{setting.name}: {value}"

    def how_to_go_on(self) -> str:
        count = f"{len(self.outcomes)} of {len(self.settings)} trials have ended"
        kept = f"{count} and are kept in {self.folder}, those under way are saved"
        return f"interrupted; {kept}: go on with the same command"

    def say(self, sentence: str) -> None:
        if self.progress:
            tell(sentence)


def _problem(future: Future[str | None]) -> str | None:
    """Why a trial did not end, as whoever ran it tells; or how that one was lost."""
    try:
        error = future.exception()
    except CancelledError:
        return "was cancelled by the cluster"
    return future.result() if error is None else f"was lost with its worker ({' '.join(str(error).split())})"
