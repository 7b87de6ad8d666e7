"""What each verb does: one call of the library, a table, a picture, the data beside it.

Each function takes the parsed options and returns whether all is well.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scratchvae import plots
from scratchvae.cli import tables
from scratchvae.estimators import ESTIMATORS, make_estimator
from scratchvae.lab.gradcheck import check_gradients
from scratchvae.lab.likelihood import evaluate as evaluate_model
from scratchvae.lab.training_variance import variance_during_training, variance_record
from scratchvae.lab.variance import gradient_variance
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.randomness import NoiseStream, spawn
from scratchvae.training.data import Dataset, load_dataset
from scratchvae.training.download import dataset_status, fetch
from scratchvae.training.loop import check_data, fit, minibatch
from scratchvae.training.run_directory import Run, load_run, save_run, versions, write_atomically
from scratchvae.validation import check_integer

__all__ = ["check", "data", "evaluate", "sample", "train", "variance"]

# Images of at most this many pixels get the small model, long training and small minibatches: the digits.
_SMALL_IMAGE = 64
# Moments at which the variance is measured: the gradient changes fastest at the start.
_MOMENTS = (0, 1, 3, 10, 30, 100, 300, 1000)


def variance(options: argparse.Namespace) -> bool:
    """Measure every estimator's gradient variance, as a VAE trains or for a trained run."""
    estimators = options.estimators or tuple(ESTIMATORS)
    for name in estimators:
        make_estimator(name)
    seed = check_integer("--seed", options.seed, low=0)
    if options.run is None:
        dataset = load_dataset(options.data or "digits")
        vae = VAE(**_model_arguments(options, dataset.train.shape[1]), rng=spawn(seed, 1)[0])
    else:
        run = load_run(options.run)
        vae = _vae_of(run, options.run)
        dataset = _data_of(run, options.data)
    batch_size = options.batch_size or (64 if vae.input_dim <= _SMALL_IMAGE else 128)
    out = _prepare_out(options.out, f"variance-{_stem(dataset)}")
    settings = {"data": dataset.name, "seed": seed, "num_samples": options.samples, "batch_size": batch_size}
    if options.run is None:
        epochs = _epochs(options, dataset)
        settings["epochs"] = epochs
        moments = variance_during_training(
            vae,
            dataset.train,
            dataset.test,
            moments=[moment for moment in _MOMENTS if moment < epochs] + [epochs],
            estimators=estimators,
            num_samples=options.samples,
            batch_size=batch_size,
            rng=seed,
        )
    else:
        settings["run"] = str(options.run)
        moments = [_measure(vae, len(run.history), dataset, estimators, settings)]
    record = {"model": vae.config(), "settings": settings, "moments": moments, "versions": versions()}
    tables.print_variance(record)
    _write_json(out / "variance.json", record)
    plots.plot_variance(record, out / "variance.png")
    _write_json(options.json, record)
    _say_written(out / "variance.png", out / "variance.json")
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
        "test_negative_elbo": test["negative_elbo"],
        "estimators": variance_record(result),
    }


def check(options: argparse.Namespace) -> bool:
    """Check a model's gradients; False if one is wrong."""
    arguments = _model_arguments(options, check_integer("--input-dim", options.input_dim))
    model = _make(options.model, arguments, seed=check_integer("--seed", options.seed, low=0))
    report = check_gradients(
        model,
        batch_size=options.batch_size,
        num_samples=options.samples,
        max_entries=options.entries,
        rng=options.seed,
        progress=True,
    )
    tables.print_check(model, report)
    _write_json(options.json, tables.check_record(model, report, options.seed) | {"versions": versions()})
    return report.passed


def train(options: argparse.Namespace) -> bool:
    """Train a model and write a run directory."""
    dataset = load_dataset(options.data or "digits")
    seed = check_integer("--seed", options.seed, low=0)
    initial_rng, training_rng = spawn(seed, 2)
    model = _make(options.model, _model_arguments(options, dataset.train.shape[1]), initial_rng)
    settings: dict[str, Any] = {
        "data": dataset.name,
        "image_shape": list(dataset.image_shape),
        "seed": seed,
        "epochs": _epochs(options, dataset),
        "batch_size": options.batch_size or (64 if model.input_dim <= _SMALL_IMAGE else 128),
        "learning_rate": options.learning_rate,
        "optimizer": options.optimizer,
        "estimator": options.estimator,
        "num_samples": options.samples,
        "kl_warmup_epochs": options.kl_warmup,
    }
    out = _prepare_out(options.out, f"{options.model}-{_stem(dataset)}")
    if (out / "config.json").exists() and not options.overwrite:
        raise ValueError(f"{out} already holds a run; choose another --out, or add --overwrite to replace it")
    of_fit = {key: value for key, value in settings.items() if key not in ("data", "image_shape", "seed")}
    history = fit(model, dataset.train, validation=dataset.test, rng=training_rng, **of_fit)
    save_run(out, model, history, settings)
    n = len(dataset.train)
    plots.plot_history(
        history,
        f"{dataset.name}, n = {n} training and {len(dataset.test)} test images, seed {seed}",
        out / "history.png",
    )
    tables.print_history(history)
    _write_json(options.json, {"settings": settings, "history": history.to_records(), "versions": versions()})
    _say_written(out)
    return True


def evaluate(options: argparse.Namespace) -> bool:
    """Evaluate a run on its data's test set, or on other data of the same shape."""
    run = load_run(options.run)
    dataset = _data_of(run, options.data)
    result = evaluate_model(
        run.model,
        getattr(dataset, options.part),
        num_samples=options.samples,
        likelihood_samples=options.likelihood_samples,
        likelihood_examples=options.likelihood_examples,
        rng=check_integer("--seed", options.seed, low=0),
    )
    result = {"data": dataset.name, "part": options.part, **result, "seed": options.seed}
    tables.print_mapping(f"{options.run} on {dataset.name}, {options.part}; nats per image", result)
    _write_json(options.json, result | {"versions": versions()})
    return True


def sample(options: argparse.Namespace) -> bool:
    """Draw images from a VAE's prior into a picture and a file of arrays."""
    run = load_run(options.run)
    vae = _vae_of(run, options.run)
    seed = check_integer("--seed", options.seed, low=0)
    images = vae.sample(check_integer("--count", options.count), seed)
    out = _prepare_out(options.out, f"samples-{options.run.name}")
    shape = tuple(run.settings.get("image_shape", (1, vae.input_dim)))
    write_atomically(out / "samples.npz", lambda file: np.savez(file, images=images.reshape(-1, *shape)))
    caption = f"{options.run.name}: means of p(x|z), n = {len(images)} draws of z from N(0, I), seed {seed}"
    plots.plot_images(images, shape, caption, out / "samples.png")
    _write_json(
        options.json, {"run": str(options.run), "count": len(images), "seed": seed, "versions": versions()}
    )
    _say_written(out / "samples.png", out / "samples.npz")
    return True


def data(options: argparse.Namespace) -> bool:
    """List the data sets, or fetch one."""
    if options.fetch is not None:
        print(f"{options.fetch} is in {fetch(options.fetch)}")
    statuses = dataset_status()
    tables.print_data(statuses)
    _write_json(options.json, {"datasets": [vars(status) for status in statuses]})
    return True


def _model_arguments(options: argparse.Namespace, input_dim: int) -> dict[str, Any]:
    small = input_dim <= _SMALL_IMAGE
    return {
        "input_dim": input_dim,
        "hidden": ((64,) if small else (400,)) if options.hidden is None else options.hidden,
        "latent_dim": options.latent_dim or (8 if small else 20),
        "activation": options.activation,
        "likelihood": options.likelihood,
        "likelihood_variance": options.likelihood_variance,
        "beta": options.beta,
        "kl": options.kl,
        "binarize": None if options.binarize == "none" else options.binarize,
    }


def _make(kind: str, arguments: Mapping[str, Any], seed: np.random.Generator | int) -> VAE | Autoencoder:
    if kind == "vae":
        return VAE(**arguments, rng=seed)
    return Autoencoder(
        **{key: value for key, value in arguments.items() if key not in ("beta", "kl")}, rng=seed
    )


def _epochs(options: argparse.Namespace, dataset: Dataset) -> int:
    small = dataset.train.shape[1] <= _SMALL_IMAGE
    return check_integer(
        "--epochs", (100 if small else 10) if options.epochs is None else options.epochs, low=0
    )


def _vae_of(run: Run, folder: Path) -> VAE:
    if not isinstance(run.model, VAE):
        message = f"{folder} holds a plain autoencoder, which has no prior and no noise; expected a VAE's run"
        raise ValueError(message)  # noqa: TRY004 - a wrong folder, not a wrong type
    return run.model


def _data_of(run: Run, name: str | None) -> Dataset:
    """The data that a run was trained on, or other data of as many pixels."""
    dataset = load_dataset(name or run.settings.get("data", "digits"))
    if dataset.train.shape[1] != run.model.input_dim:
        raise ValueError(
            f"{dataset.name} has {dataset.train.shape[1]} pixels per image, but the run's model expects "
            f"{run.model.input_dim}"
        )
    return dataset


def _stem(dataset: Dataset) -> str:
    return Path(dataset.name).stem


def _prepare_out(out: Path | None, default: str) -> Path:
    """The folder to write into, made before any work is spent."""
    folder = out or Path("runs") / default
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_json(path: Path | None, value: Any) -> None:
    if path is not None:
        text = json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"
        write_atomically(path, lambda file: file.write(text.encode()))


def _say_written(*paths: Path) -> None:
    print("wrote " + " and ".join(map(str, paths)), file=sys.stderr)
