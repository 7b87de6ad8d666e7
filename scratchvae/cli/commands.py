"""What each verb does: one call of the library, a table, a picture, the data beside it.

Each function takes the parsed options and returns whether all is well. Files come first and tables last, so
that a reader of the table who goes away takes nothing with him.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from scratchvae import plots
from scratchvae.cli import tables
from scratchvae.cli.figures import figures
from scratchvae.cli.files import check_json, prepare_out, say_written, write_json, writing
from scratchvae.estimators import ESTIMATORS, make_estimator
from scratchvae.lab.gradcheck import check_gradients
from scratchvae.lab.likelihood import evaluate as evaluate_model
from scratchvae.lab.training_variance import variance_during_training, variance_record
from scratchvae.lab.variance import gradient_variance
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.randomness import NoiseStream, spawn
from scratchvae.training.checkpoint import checkpoint_files, newest_checkpoint
from scratchvae.training.data import Dataset, load_dataset
from scratchvae.training.download import CATALOGUE, dataset_status, fetch
from scratchvae.training.loop import OPTIMIZERS, TrainingDiverged, check_data, fit, minibatch
from scratchvae.training.loop import resume as resume_fit
from scratchvae.training.run_directory import Run, load_run, save_run, versions, write_atomically
from scratchvae.training.saving import Checkpoints, plan_of
from scratchvae.validation import check_choice

__all__ = ["check", "check_json", "data", "evaluate", "figures", "resume", "sample", "train", "variance"]

# Images of at most this many pixels get the small model, long training and small minibatches: the digits.
_SMALL_IMAGE = 64
# Moments at which the variance is measured: the gradient changes fastest at the start.
_MOMENTS = (0, 1, 3, 10, 30, 100, 300, 1000)
# Options that describe a model, and those among all options that only a VAE understands.
_MODEL_OPTIONS = (
    "hidden",
    "latent_dim",
    "activation",
    "likelihood",
    "likelihood_variance",
    "beta",
    "kl",
    "binarize",
)
_VAE_OPTIONS = ("beta", "kl", "estimator", "samples", "kl_warmup")


def variance(options: argparse.Namespace) -> bool:
    """Measure every estimator's gradient variance, as a VAE trains or for a trained run."""
    estimators = options.estimators or tuple(ESTIMATORS)
    for name in estimators:
        make_estimator(name)
    seed = options.seed
    if options.run is None:
        dataset = load_dataset("digits" if options.data is None else options.data)
        vae = VAE(**_model_arguments(options, dataset.train.shape[1]), rng=spawn(seed, 1)[0])
        name = _stem(dataset)
    else:
        _refuse(
            options, (*_MODEL_OPTIONS, "epochs"), "has no effect on a trained run: leave it out, or --run"
        )
        run = load_run(options.run)
        vae = _vae_of(run, options.run)
        dataset = _data_of(run, options)
        name = options.run.resolve().name
    settings = {
        "data": dataset.name,
        "seed": seed,
        "num_samples": options.samples,
        "batch_size": _batch_size(options, vae.input_dim),
    }
    if settings["batch_size"] > len(dataset.train):
        raise ValueError(
            f"--batch-size is {settings['batch_size']}, expected at most the {len(dataset.train)} training "
            f"images of {dataset.name}"
        )
    out = prepare_out(options.out, f"variance-{name}")
    if options.run is None:
        epochs = settings["epochs"] = _epochs(options, dataset)
        moments = variance_during_training(
            vae,
            dataset.train,
            dataset.test,
            moments=[moment for moment in _MOMENTS if moment < epochs] + [epochs],
            estimators=estimators,
            num_samples=options.samples,
            batch_size=settings["batch_size"],
            rng=seed,
        )
    else:
        settings["run"] = str(options.run)
        moments = [_measure(vae, len(run.history), dataset, estimators, settings)]
    settings["num_samples"] = moments[0]["num_samples"]  # whole blocks of what was asked for
    record = {"model": vae.config(), "settings": settings, "moments": moments, "versions": versions()}
    write_json(out / "variance.json", record)
    with writing(out / "variance.png"):
        plots.plot_variance(record, out / "variance.png")
    write_json(options.json, record)
    tables.print_variance(record)
    say_written(out / "variance.png", out / "variance.json")
    return True


def _measure(
    vae: VAE, epoch: int, dataset: Dataset, estimators: tuple[str, ...], settings: dict[str, Any]
) -> dict[str, Any]:
    """One moment's record, of a model as it is."""
    pixel_rng, noise_rng = spawn(settings["seed"], 2)
    train = check_data("train", dataset.train, vae)
    batch = minibatch(train[: settings["batch_size"]], vae, NoiseStream(pixel_rng))
    result = gradient_variance(vae, batch, estimators, settings["num_samples"], noise_rng)
    test = evaluate_model(vae, dataset.test, rng=settings["seed"])
    return {
        "epoch": epoch,
        "num_samples": result.num_samples,
        "test_negative_elbo": test["negative_elbo"],
        "estimators": variance_record(result),
    }


def check(options: argparse.Namespace) -> bool:
    """Check a model's gradients; False if one is wrong."""
    model = _make(options, options.input_dim, options.seed)
    report = check_gradients(
        model,
        batch_size=options.batch_size,
        num_samples=options.samples or 1,
        max_entries=options.entries,
        rng=options.seed,
        progress=True,
    )
    write_json(options.json, tables.check_record(model, report, options.seed) | {"versions": versions()})
    tables.print_check(model, report)
    return report.passed


def train(options: argparse.Namespace) -> bool:
    """Train a model and write a run directory."""
    dataset = load_dataset("digits" if options.data is None else options.data)
    initial_rng, training_rng = spawn(options.seed, 2)
    model = _make(options, dataset.train.shape[1], initial_rng)
    of_fit: dict[str, Any] = {
        "epochs": _epochs(options, dataset),
        "batch_size": _batch_size(options, model.input_dim),
        "learning_rate": options.learning_rate,
        "optimizer": check_choice("--optimizer", options.optimizer, OPTIMIZERS),
        "estimator": options.estimator or "pathwise",
        "num_samples": options.samples,
        "kl_warmup_epochs": options.kl_warmup or 0.0,
    }
    _check_samples(of_fit["estimator"], options.samples)
    settings = {
        "data": dataset.name,
        "image_shape": list(dataset.image_shape),
        "seed": options.seed,
        **of_fit,
    }
    out = prepare_out(options.out, f"{options.model}-{_stem(dataset)}")
    if not options.overwrite:
        _refuse_to_replace(out)
    often = {"steps": options.checkpoint_steps, "minutes": options.checkpoint_minutes}
    checkpoints = Checkpoints(out, **often, overwrite=options.overwrite, notes=settings)
    with _keeping_what_diverged(out, settings, dataset):
        history = fit(
            model,
            dataset.train,
            validation=dataset.test,
            rng=training_rng,
            checkpoints=checkpoints,
            **of_fit,
        )
    return _conclude(out, Run(model, history, settings), dataset, options.json)


def resume(options: argparse.Namespace) -> bool:
    """Go on with a run from its newest checkpoint, and write a run directory as `train` does."""
    out = options.run
    notes = plan_of(newest_checkpoint(out)[0]).notes
    dataset = _dataset_of(notes, options)
    with _keeping_what_diverged(out, notes, dataset):
        run = resume_fit(out, dataset.train, validation=dataset.test, epochs=options.epochs)
    return _conclude(out, run, dataset, options.json)


def _refuse_to_replace(out: Path) -> None:
    if (out / "config.json").exists():
        raise ValueError(f"{out} already holds a run; choose another --out, or add --overwrite to replace it")
    if checkpoint_files(out):
        raise ValueError(
            f"{out} holds a run that has not ended: go on with `scratchvae resume {out}`, choose another --out, or add "
            "--overwrite to begin again"
        )


@contextmanager
def _keeping_what_diverged(out: Path, settings: dict[str, Any], dataset: Dataset) -> Iterator[None]:
    """The last good state of a run that diverged is written, unless that would replace an earlier run."""
    try:
        yield
    except TrainingDiverged as error:
        if (out / "config.json").exists():
            kept = f"the earlier run in {out} stays as it was"
        else:
            settings = settings | {"diverged_at_step": error.step}
            _save(out, Run(error.model, error.history, settings), dataset)
            kept = f"that state is kept in {out}"
        error.args = (f"{error}; {kept}",)
        raise


def _conclude(out: Path, run: Run, dataset: Dataset, json: Path | None) -> bool:
    _save(out, run, dataset)
    record = {"settings": run.settings, "history": run.history.to_records(), "versions": versions()}
    write_json(json, record)
    tables.print_history(run.history)
    say_written(out)
    return True


def _save(out: Path, run: Run, dataset: Dataset) -> None:
    with writing(out):
        save_run(out, *run)
        counts = f"n = {len(dataset.train)} training and {len(dataset.test)} test images"
        caption = f"{dataset.name}, {counts}, seed {run.settings.get('seed')}"
        if len(run.history):
            plots.plot_history(run.history, caption, out / "history.png")


def evaluate(options: argparse.Namespace) -> bool:
    """Evaluate a run on its data's test set, or on other data of the same shape."""
    run = load_run(options.run)
    if options.likelihood_samples:
        _vae_of(run, options.run)
    dataset = _data_of(run, options)
    result = evaluate_model(
        run.model,
        getattr(dataset, options.part),
        num_samples=options.samples,
        likelihood_samples=options.likelihood_samples,
        likelihood_examples=options.likelihood_examples,
        rng=options.seed,
    )
    result = {"data": dataset.name, "part": options.part, **result, "seed": options.seed}
    write_json(options.json, result | {"versions": versions()})
    tables.print_mapping(f"{options.run} on {dataset.name}, {options.part}; nats per image", result)
    return True


def sample(options: argparse.Namespace) -> bool:
    """Draw images from a VAE's prior into a picture and a file of arrays."""
    run = load_run(options.run)
    vae = _vae_of(run, options.run)
    shape = _image_shape(run, options.run)
    name = options.run.resolve().name
    out = prepare_out(options.out, f"samples-{name}")
    images = vae.sample(options.count, options.seed)
    with writing(out):
        write_atomically(out / "samples.npz", lambda file: np.savez(file, images=images.reshape(-1, *shape)))
        caption = f"{name}: means of p(x|z), n = {len(images)} draws of z from N(0, I), seed {options.seed}"
        plots.plot_images(images, shape, caption, out / "samples.png")
    record = {"run": str(options.run), "count": len(images), "seed": options.seed, "versions": versions()}
    write_json(options.json, record)
    say_written(out / "samples.png", out / "samples.npz")
    return True


def data(options: argparse.Namespace) -> bool:
    """List the data sets, or fetch one; False if a file is not the published one."""
    if options.fetch is not None:
        folder = fetch(check_choice("--fetch", options.fetch, CATALOGUE))
        tables.say(f"{options.fetch} is in {folder}")
    statuses = dataset_status()
    write_json(options.json, {"datasets": [vars(status) for status in statuses]})
    tables.print_data(statuses)
    return not any(map(tables.is_damaged, statuses))


def _refuse(options: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """An option that would be ignored in silence is refused."""
    for name in names:
        if getattr(options, name, None) is not None:
            raise ValueError(f"--{name.replace('_', '-')} {why}")


def _model_arguments(options: argparse.Namespace, input_dim: int) -> dict[str, Any]:
    """Arguments of a model's constructor: sizes, and whatever else was given."""
    if options.likelihood != "gaussian":
        _refuse(
            options, ["likelihood_variance"], "belongs to --likelihood gaussian: leave it out, or add that"
        )
    small = input_dim <= _SMALL_IMAGE
    defaults = {"hidden": (64,) if small else (400,), "latent_dim": 8 if small else 20}
    given = {name: value for name in _MODEL_OPTIONS if (value := getattr(options, name)) is not None}
    if options.binarize == "none":
        given["binarize"] = None
    return {"input_dim": input_dim, **defaults, **given}


def _make(options: argparse.Namespace, input_dim: int, rng: np.random.Generator | int) -> VAE | Autoencoder:
    if options.model == "vae":
        return VAE(**_model_arguments(options, input_dim), rng=rng)
    _refuse(options, _VAE_OPTIONS, "is for a VAE: leave it out with --model autoencoder")
    return Autoencoder(**_model_arguments(options, input_dim), rng=rng)


def _check_samples(estimator: str, samples: int | None) -> None:
    fewest = make_estimator(estimator).minimum_samples
    if samples is not None and samples < fewest:
        raise ValueError(
            f"--samples is {samples}, expected at least {fewest}: {estimator} compares the samples of one "
            "image with each other"
        )


def _epochs(options: argparse.Namespace, dataset: Dataset) -> int:
    default = 100 if dataset.train.shape[1] <= _SMALL_IMAGE else 10
    return default if options.epochs is None else int(options.epochs)


def _batch_size(options: argparse.Namespace, input_dim: int) -> int:
    return options.batch_size or (64 if input_dim <= _SMALL_IMAGE else 128)


def _vae_of(run: Run, folder: Path) -> VAE:
    if not isinstance(run.model, VAE):
        message = (
            f"{folder} holds a plain autoencoder, which has no prior and no log p(x); expected a VAE's run"
        )
        raise ValueError(message)  # noqa: TRY004 - a wrong folder, not a wrong type
    return run.model


def _data_of(run: Run, options: argparse.Namespace) -> Dataset:
    """The data that a run was trained on, or other data of as many pixels."""
    dataset = _dataset_of(run.settings, options)
    if dataset.train.shape[1] != run.model.input_dim:
        raise ValueError(
            f"{dataset.name} has {dataset.train.shape[1]} pixels per image, but the run's model expects "
            f"{run.model.input_dim}; choose other --data, or train on these"
        )
    return dataset


def _dataset_of(settings: dict[str, Any], options: argparse.Namespace) -> Dataset:
    """The data of --data, or those that a run's settings name."""
    name = settings.get("data") if options.data is None else options.data
    if not isinstance(name, str):
        message = f"{options.run} does not say what data it was trained on; name it with --data"
        raise ValueError(message)  # noqa: TRY004 - an incomplete file, not a wrong type
    try:
        return load_dataset(name)
    except ValueError as error:
        if options.data is not None:
            raise
        raise ValueError(f"{error}; the run was trained on it, --data names another place") from None


def _image_shape(run: Run, folder: Path) -> tuple[int, ...]:
    """The shape of one image of a run; one row of pixels where the run does not say."""
    pixels = run.model.input_dim
    shape = run.settings.get("image_shape", [1, pixels])
    if not (
        isinstance(shape, list)
        and all(isinstance(size, int) and size > 0 for size in shape)
        and math.prod(shape) == pixels
    ):
        raise ValueError(
            f"{folder / 'config.json'} is damaged: its image_shape is {shape!r}, expected sizes with the "
            f"product {pixels}"
        )
    return tuple(shape)


def _stem(dataset: Dataset) -> str:
    return Path(dataset.name).stem
