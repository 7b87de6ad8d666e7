"""What each verb does: one call of the library, a table, a picture, the data beside it.

Each function takes the parsed options and returns whether all is well. Files come first and tables last, so
that a reader of the table who goes away takes nothing with him.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from scratchvae import plots
from scratchvae.cli import tables
from scratchvae.cli.defaults import batch_size_of, epochs_of, stem
from scratchvae.cli.figures import figures
from scratchvae.cli.files import check_json, prepare_out, say_written, write_json, writing
from scratchvae.cli.options import (
    MODEL_OPTIONS,
    check_samples,
    data_of,
    dataset_of,
    image_shape,
    make,
    model_arguments,
    refuse,
    vae_of,
)
from scratchvae.cli.question_plot import plot_question
from scratchvae.cli.report import write_report
from scratchvae.cli.sweep import sweep
from scratchvae.estimators import ESTIMATORS, make_estimator
from scratchvae.lab.gradcheck import check_gradients
from scratchvae.lab.likelihood import evaluate as evaluate_model
from scratchvae.lab.training_variance import variance_during_training, variance_record
from scratchvae.lab.variance import gradient_variance
from scratchvae.lab.variance_answers import Subject
from scratchvae.lab.variance_questions import ask
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.randomness import NoiseStream, spawn
from scratchvae.training.checkpoint import checkpoint_files, newest_checkpoint
from scratchvae.training.data import Dataset, load_dataset
from scratchvae.training.download import CATALOGUE, dataset_status, fetch
from scratchvae.training.loop import OPTIMIZERS, TrainingDiverged, fit
from scratchvae.training.loop import resume as resume_fit
from scratchvae.training.minibatch import check_data, minibatch
from scratchvae.training.run_directory import Run, load_run, save_run, versions, write_atomically
from scratchvae.training.saving import Checkpoints, plan_of
from scratchvae.validation import check_choice

__all__ = [
    "check",
    "check_json",
    "data",
    "evaluate",
    "figures",
    "resume",
    "sample",
    "sweep",
    "train",
    "variance",
]

# Moments at which the variance is measured: the gradient changes fastest at the start.
_MOMENTS = (0, 1, 3, 10, 30, 100, 300, 1000)
# What `check` takes where nothing is said.
_CHECK_DEFAULTS = {"model": "vae", "input_dim": 64, "batch_size": 4}


def variance(options: argparse.Namespace) -> bool:
    """Measure every estimator's gradient variance, as a VAE trains or for a trained run."""
    if options.full:
        return write_report(options, variance)
    estimators = options.estimators or tuple(ESTIMATORS)
    for name in estimators:
        make_estimator(name)
    seed = options.seed
    if options.run is None:
        dataset = load_dataset("digits" if options.data is None else options.data)
        vae = VAE(**model_arguments(options, dataset.train.shape[1]), rng=spawn(seed, 1)[0])
        name = stem(dataset)
    else:
        refuse(options, (*MODEL_OPTIONS, "epochs"), "has no effect on a trained run: leave it out, or --run")
        run = load_run(options.run)
        vae = vae_of(run, options.run)
        dataset = data_of(run, options)
        name = options.run.resolve().name
    settings = {
        "data": dataset.name,
        "seed": seed,
        "num_samples": options.samples,
        "batch_size": batch_size_of(options, vae.input_dim),
    }
    if settings["batch_size"] > len(dataset.train):
        raise ValueError(
            f"--batch-size is {settings['batch_size']}, expected at most the {len(dataset.train)} training "
            f"images of {dataset.name}"
        )
    out = prepare_out(options.out, f"variance-{name}" + f"-by-{options.by}" * (options.by is not None))
    if options.by is not None:
        settings["epochs" if options.run is None else "run"] = (
            epochs_of(options, dataset) if options.run is None else str(options.run)
        )
        return _answer(options, vae, dataset, settings, out)
    if options.run is None:
        epochs = settings["epochs"] = epochs_of(options, dataset)
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


def _answer(
    options: argparse.Namespace, vae: VAE, dataset: Dataset, settings: dict[str, Any], out: Path
) -> bool:
    """Answer a question about a trained model, or one that is trained for it."""
    epochs = settings.get("epochs", 0)
    if epochs:
        fit(
            vae,
            dataset.train,
            epochs=epochs,
            batch_size=settings["batch_size"],
            rng=spawn(options.seed, 2)[1],
        )
    sizes = (settings["num_samples"], settings["batch_size"])
    subject = Subject(vae, dataset.train, *sizes, epochs=epochs, seed=options.seed)
    record = {
        "model": vae.config(),
        "settings": settings,
        "answer": ask(options.by, subject, options.estimators),
    }
    record["versions"] = versions()
    picture, numbers = out / f"{options.by}.png", out / f"{options.by}.json"
    with writing(picture):
        plot_question(record, picture)
    write_json(numbers, record)
    write_json(options.json, record)
    tables.print_question(record)
    say_written(picture, numbers)
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
    if options.index is not None and options.tensor is None:
        raise ValueError("--index came without --tensor: name the tensor that the entry is in")
    if options.directions is not None and (options.entries is not None or options.index is not None):
        raise ValueError(
            "--directions came with --entries or --index, which ask for single entries: choose one of them"
        )
    model = make(options, options.input_dim, options.seed)
    out = None if options.out is None else prepare_out(options.out, "")
    report = check_gradients(
        model,
        batch_size=options.batch_size,
        num_samples=options.samples or 1,
        max_entries=options.entries,
        directions=options.directions,
        tensor=options.tensor,
        index=options.index,
        rng=options.seed,
        progress=True,
    )
    record = tables.check_record(model, report, options.seed) | {"versions": versions()}
    errors: dict[str, Any] = dict(report.errors)
    if out is not None:
        write_json(out / "check.json", record)
        with writing(out):
            write_atomically(out / "check.npz", lambda file: np.savez(file, **errors))
            directions = any(tensor.directions for tensor in report.tensors)
            caption = _check_caption(options, model, directions=directions)
            plots.plot_check(errors, caption, out / "check.png", directions=directions)
    write_json(options.json, record)
    tables.print_check(model, report, _again(options), every_value=options.index is not None)
    if out is not None:
        say_written(out / "check.png", out / "check.npz", out / "check.json")
    return report.passed


def _check_caption(options: argparse.Namespace, model: VAE | Autoencoder, *, directions: bool) -> str:
    sizes = "-".join(map(str, [model.input_dim, *model.hidden, model.latent_dim]))
    measured = (
        "along random directions, over the gradient's length along them"
        if directions
        else "of each entry, over the largest of its tensor, the complex step for the oracle"
    )
    return (
        f"{type(model).__name__} {sizes} {model.activation.name}, {model.likelihood.name}, {options.batch_size} "
        f"examples, seed {options.seed}: |analytic − oracle| {measured}."
    )


def _again(options: argparse.Namespace) -> str:
    """The command that checks the same model on the same data, in as few words as it takes."""
    words = ["scratchvae check"]
    for name in ("model", "input_dim", *MODEL_OPTIONS, "batch_size", "samples"):
        value = getattr(options, name)
        if name == "hidden" and value is not None:
            value = ",".join(map(str, value)) or "none"
        if value is not None and value != _CHECK_DEFAULTS.get(name):
            words.append(f"--{name.replace('_', '-')} {value}")
    return " ".join([*words, f"--seed {options.seed}"])


def train(options: argparse.Namespace) -> bool:
    """Train a model and write a run directory."""
    dataset = load_dataset("digits" if options.data is None else options.data)
    initial_rng, training_rng = spawn(options.seed, 2)
    model = make(options, dataset.train.shape[1], initial_rng)
    of_fit: dict[str, Any] = {
        "epochs": epochs_of(options, dataset),
        "batch_size": batch_size_of(options, model.input_dim),
        "learning_rate": options.learning_rate,
        "optimizer": check_choice("--optimizer", options.optimizer, OPTIMIZERS),
        "estimator": options.estimator or "pathwise",
        "num_samples": options.samples,
        "kl_warmup_epochs": options.kl_warmup or 0.0,
    }
    check_samples(of_fit["estimator"], options.samples)
    settings = {
        "data": dataset.name,
        "image_shape": list(dataset.image_shape),
        "seed": options.seed,
        **of_fit,
    }
    out = prepare_out(options.out, f"{options.model}-{stem(dataset)}")
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
    dataset = dataset_of(notes, options)
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
        vae_of(run, options.run)
    dataset = data_of(run, options)
    result = evaluate_model(
        run.model,
        getattr(dataset, options.part),
        num_samples=options.samples,
        likelihood_samples=options.likelihood_samples,
        likelihood_examples=options.likelihood_examples,
        rng=options.seed,
        progress=True,
    )
    result = {"data": dataset.name, "part": options.part, **result, "seed": options.seed}
    write_json(options.json, result | {"versions": versions()})
    tables.print_evaluation(f"{options.run} on {dataset.name}, {options.part}; nats per image", result)
    return True


def sample(options: argparse.Namespace) -> bool:
    """Draw images from a VAE's prior into a picture and a file of arrays."""
    run = load_run(options.run)
    vae = vae_of(run, options.run)
    shape = image_shape(run, options.run)
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
