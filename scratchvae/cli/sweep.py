"""`scratchvae sweep`: one call of the library, a table, a picture, the data beside it."""

from __future__ import annotations

import argparse
from typing import Any

from scratchvae import plots
from scratchvae.cli import tables
from scratchvae.cli.defaults import batch_size_of, default_sizes, epochs_of, stem
from scratchvae.cli.files import prepare_out, say_written, write_json, writing
from scratchvae.training.data import load_dataset
from scratchvae.training.search import Range
from scratchvae.training.sweep import sweep as sweep_settings

__all__ = ["sweep"]

# The options that span the space, by the hyperparameter that they hold values of.
_AXES = {
    "beta": "betas",
    "latent_dim": "latent_dims",
    "width": "widths",
    "learning_rate": "learning_rates",
    "estimator": "estimators",
    "seed": "seeds",
}


def sweep(options: argparse.Namespace) -> bool:
    """Train every setting of a space and compare them; False if a trial had to be given up, or none is done."""
    data = "digits" if options.data is None else options.data
    dataset = load_dataset(data)
    for option in _AXES.values():
        if isinstance(getattr(options, option), dict) and options.random is None:
            raise ValueError(
                f"--{option.replace('_', '-')} is a range, from which a random search draws: add --random N, or name "
                "values with commas between"
            )
    out = prepare_out(options.out, f"sweep-{stem(dataset)}")
    record = sweep_settings(
        data,
        _space(options, dataset.train.shape[1]),
        out,
        epochs=epochs_of(options, dataset),
        batch_size=batch_size_of(options, dataset.train.shape[1]),
        draws=options.random,
        seed=options.seed,
        workers=options.workers,
        scheduler=options.scheduler,
        retries=options.retries,
    )
    write_json(out / "sweep.json", record)
    with writing(out / "sweep.png"):
        plots.plot_sweep(record, out / "sweep.png")
    write_json(options.json, record)
    tables.print_sweep(record)
    say_written(out / "sweep.png", out / "sweep.json")
    states = {trial["state"] for trial in record["trials"]}
    return "done" in states and "gave up" not in states


def _space(options: argparse.Namespace, input_dim: int) -> dict[str, Any]:
    """Values or a range of every hyperparameter, with the sizes that `train` takes for these images."""
    sizes = default_sizes(input_dim)
    space: dict[str, Any] = {"width": sizes["hidden"], "latent_dim": (sizes["latent_dim"],)}
    for axis, option in _AXES.items():
        given = getattr(options, option)
        if given is not None:
            space[axis] = Range(**given) if isinstance(given, dict) else given
    return space
