"""Results as tables on the terminal."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from scratchvae.lab.gradcheck import (
    COMPLEX_STEP_TOLERANCE,
    FINITE_DIFFERENCE_TOLERANCE,
    GradientReport,
)
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.training.download import DatasetStatus
from scratchvae.training.history import History

__all__ = [
    "check_record",
    "is_damaged",
    "print_check",
    "print_data",
    "print_evaluation",
    "print_history",
    "print_question",
    "print_sweep",
    "print_variance",
    "question_cells",
    "say",
]

# More than any table here has: where stdout is not a terminal, a row is one line.
_UNLIMITED = 10_000
# Rows of a training history to show; the file has them all.
_HISTORY_ROWS = 12


def say(text: str) -> None:
    """Print to stdout. If its reader has gone, as `head` goes, the command still has its files and its status."""
    try:
        print(text, flush=True)
    except OSError as error:
        # What is left in the buffer would fail once more, and with a traceback, when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OSError(f"the standard output cannot be written: {error.strerror}") from None


def _print(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], keys: int = 1, left: Sequence[str] = ()
) -> None:
    """A table under a title; the columns in `left`, and the first, are aligned to the left.

    On a terminal too narrow for it the columns come in several tables, each with the first `keys` columns:
    nothing is ever cut off, as half a number would be another number.
    """
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    width = Console().width if is_terminal else _UNLIMITED
    parts: list[list[int]] = []
    for column in range(keys, len(columns)):
        if parts and _width(_table(columns, rows, [*parts[-1], column], left)) <= width:
            parts[-1].append(column)
        else:
            parts.append([*range(keys), column])
    say("\n\n".join([title, *(_render(_table(columns, rows, part, left)) for part in parts)]) + "\n")


def _table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], chosen: Sequence[int], left: Sequence[str]
) -> Table:
    table = Table(
        box=SIMPLE_HEAD, show_header=any(columns), show_edge=False, pad_edge=False, collapse_padding=True
    )
    for i in chosen:
        is_left = i == 0 or columns[i] in left
        table.add_column(columns[i], justify="left" if is_left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[i] for i in chosen))
    return table


def _console() -> Console:
    """As wide as need be, into memory, and leaving brackets and colons in the cells alone."""
    return Console(file=io.StringIO(), width=_UNLIMITED, markup=False, emoji=False, highlight=False)


def _width(table: Table) -> int:
    console = _console()
    return Measurement.get(console, console.options, table).maximum


def _render(table: Table) -> str:
    console = _console()
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def print_variance(record: Mapping[str, Any]) -> None:
    """One row per moment and estimator: the encoder's total, its ratio to the quietest, and each layer."""
    moments = record["moments"]
    first = next(iter(moments[0]["estimators"].values()))
    layers = [part for part in first if part != "encoder"]
    rows = []
    for moment in moments:
        quietest = min(parts["encoder"]["variance"] for parts in moment["estimators"].values())
        for i, (estimator, parts) in enumerate(moment["estimators"].items()):
            cells = [_with_error(parts[part]) for part in ("encoder", *layers)]
            ratio = f"{parts['encoder']['variance'] / quietest:,.1f}×" if quietest > 0 else "–"
            epoch, bound = (
                (str(moment["epoch"]), f"{moment['test_negative_elbo']:.1f}") if i == 0 else ("", "")
            )
            rows.append([epoch, estimator, cells[0], ratio, bound, *cells[1:]])
    settings = record["settings"]
    title = (
        f"Variance of the encoder's gradient over the sampling noise alone ± standard error: {settings['data']}, "
        f"one minibatch of {settings['batch_size']}, {settings['num_samples']} draws, seed {settings['seed']}"
    )
    columns = ["epoch", "estimator", "encoder", "ratio", "test −ELBO", *layers]
    _print(title, columns, rows, keys=2, left=["estimator"])


def print_question(record: Mapping[str, Any]) -> None:
    """One row per point and estimator."""
    answer, settings = record["answer"], record["settings"]
    title = (
        f"{answer['title']} ± standard error: {settings['data']}, minibatch of {settings['batch_size']}, "
        f"{settings['num_samples']} draws, seed {settings['seed']}"
    )
    columns, rows = question_cells(answer)
    _print(title, columns, rows, keys=2, left=columns[:2])


def question_cells(answer: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The answer to a question as the heads and cells of a table."""
    rows = []
    for row in answer["rows"]:
        cells = [f"{row[name]:.4g}" if name in row else "" for name in answer["quantities"]]
        errors = [row.get(f"{name}_standard_error") for name in answer["quantities"]]
        point = f"{row['point']:g}" if answer["numeric"] else row["point"]
        values = [
            cell if error is None else f"{cell} ± {error:.1g}"
            for cell, error in zip(cells, errors, strict=True)
        ]
        rows.append([point, row["estimator"], *values])
    return [answer["points"], "estimator", *answer["quantities"].values()], rows


def _with_error(part: Mapping[str, float]) -> str:
    return f"{part['variance']:.3g} ± {part['standard_error']:.1g}"


def check_record(model: VAE | Autoencoder, report: GradientReport, seed: int) -> dict[str, Any]:
    """The result of a gradient check as plain values, for JSON."""
    return {
        "model": model.config(),
        "seed": seed,
        "passed": report.passed,
        "loss_error": report.loss_error,
        "same_bits_twice": report.same_bits_twice,
        "problems": list(report.problems),
        "notes": list(report.notes),
        "tolerances": {
            "complex_step": COMPLEX_STEP_TOLERANCE,
            "finite_difference": FINITE_DIFFERENCE_TOLERANCE,
        },
        "tensors": [asdict(tensor) | {"passed": tensor.passed} for tensor in report.tensors],
    }


def print_check(
    model: VAE | Autoencoder,
    report: GradientReport,
    again: str = "scratchvae check",
    *,
    every_value: bool = False,
) -> None:
    """One row per tensor, what is wrong, and the verdict; `again` is the command that made the report.

    With `every_value` the values are told where nothing is wrong, too.
    """
    rows = [
        [
            tensor.name,
            tensor.compared,
            "–" if tensor.complex_step_error is None else f"{tensor.complex_step_error:.1e}",
            f"{tensor.finite_difference_error:.1e}",
            str(tensor.inconclusive),
            tensor.verdict,
        ]
        for tensor in report.tensors
    ]
    columns = ["tensor", "entries", "complex step", "5-point", "inconclusive", "verdict"]
    _print(
        f"Largest error relative to the tensor's largest entry: {model!r}", columns, rows, left=["verdict"]
    )
    for finding in _findings(report, again, every_value=every_value):
        say(f"  {finding}")
    compared = sum(tensor.directions or tensor.checked for tensor in report.tensors)
    kind = "directions" if any(tensor.directions for tensor in report.tensors) else "entries"
    say(
        f"{'passed' if report.passed else 'FAILED'}: {compared:,} {kind}; tolerances "
        f"{COMPLEX_STEP_TOLERANCE:g} (complex step) "
        f"and {FINITE_DIFFERENCE_TOLERANCE:g} (5-point), relative, no absolute one; loss against the oracle's "
        f"{report.loss_error:.1e}; a second run gave {'the same' if report.same_bits_twice else 'OTHER'} bits"
    )


def _findings(report: GradientReport, again: str, *, every_value: bool) -> Iterator[str]:
    """Each mistake, what it looks like, and the command that shows just that."""
    for tensor in report.tensors:
        if tensor.passed:
            if every_value:
                yield tensor.explanation()
            continue
        yield tensor.explanation()
        if tensor.diagnosis:
            yield f"  looks like: {tensor.diagnosis}"
        index = "" if tensor.only_batches else ",".join(map(str, tensor.worst_index))
        yield f"  again: {again} --tensor {tensor.name}{f' --index {index}' if index else ''}"
    yield from (f"problem: {problem}" for problem in report.problems)
    yield from (f"note: {note}" for note in report.notes)


def print_history(history: History) -> None:
    """The first and last epochs, and some between."""
    epochs = history.epochs
    step = max(1, -(-len(epochs) // _HISTORY_ROWS))
    shown = [epoch for i, epoch in enumerate(epochs) if i % step == 0 or i == len(epochs) - 1]
    heads = {
        "loss": "loss",
        "reconstruction": "log p(x|z)",
        "kl": "KL",
        "validation_loss": "test loss",
        "validation_reconstruction": "test log p(x|z)",
        "validation_kl": "test KL",
    }
    # a plain autoencoder has no KL
    fields = [name for name in heads if not name.endswith("kl") or any(history.column(name))]
    rows = [
        [str(e.epoch), *(_number(getattr(e, name)) for name in fields), f"{e.seconds:.1f} s"] for e in shown
    ]
    _print("Training; nats per image", ["epoch", *(heads[name] for name in fields), "time"], rows)


def print_evaluation(title: str, result: Mapping[str, Any]) -> None:
    """One row per figure; then the bounds up to log p(x), and a warning, where they were asked for."""
    apart = ("bounds", "warning")
    figures = {name: value for name, value in result.items() if name not in apart}
    _print(title, ["", ""], [[name.replace("_", " "), _number(value)] for name, value in figures.items()])
    if "bounds" in result:
        rungs = result["bounds"]
        names = {rungs[-1]["samples"]: "log p(x)", 1: "ELBO"}
        rows = [
            [
                names.get(rung["samples"], f"IWAE-{rung['samples']}"),
                str(rung["samples"]),
                f"{rung['bound']:.3f}",
                "–" if rung["standard_error"] is None else f"{rung['standard_error']:.3f}",
            ]
            for rung in rungs
        ]
        heading = (
            f"From bound to log p(x), on the same {result['log_likelihood_examples']} images and samples"
        )
        _print(heading, ["", "samples", "nats", "± over images"], rows)
    if result.get("warning"):
        say(f"Warning: {result['warning']}")


def print_sweep(record: Mapping[str, Any]) -> None:
    """One row per setting, the best first; then what went wrong, and where the best one is."""
    plan, rows = record["plan"], []
    for row in record["settings"]:
        terms = row["validation"]
        signs = {"negative_elbo": 1, "reconstruction": -1, "kl": 1}
        values = [_mean_with_error(terms[name], sign) if terms else "–" for name, sign in signs.items()]
        hyperparameters = [f"{row[name]:g}" for name in ("beta", "latent_dim", "width", "learning_rate")]
        rows.append([*hyperparameters, row["estimator"], *values, f"{row['done']} of {row['seeds']}"])
    epochs = f"{plan['epochs']} epoch{'s' * (plan['epochs'] != 1)}"
    title = (
        f"Sweep: {plan['data']}, {plan['train_images']} images to train on, {epochs}; nats per image, means over "
        f"{plan['held_out_images']} held-out images, and ± standard error over seeds where there are several"
    )
    columns = ["beta", "latent", "width", "rate", "estimator", "−ELBO", "−log p(x|z)", "KL", "seeds done"]
    _print(title, columns, rows, left=["estimator"])
    for trial in record["trials"]:
        if trial["state"] != "done":
            say(f"{trial['name']} {trial['state'].replace('diverged', 'failed')}: {trial['reason']}")
        elif trial["mishaps"]:
            say(f"{trial['name']} is done, but on the way it {', '.join(trial['mishaps'])}")


def _mean_with_error(term: Mapping[str, float | None], sign: int) -> str:
    error = term["standard_error"]
    return f"{sign * (term['mean'] or 0.0):.2f}" + ("" if error is None else f" ± {error:.2f}")


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def print_data(statuses: Sequence[DatasetStatus]) -> None:
    """One row per data set, then what is wrong with those that are here in part."""
    rows = []
    for status in statuses:
        counts = " + ".join(f"{count:,}" for count in status.examples.values())
        state = "here, verified" if status.verified else "damaged" if is_damaged(status) else "not here"
        pixels = "×".join(map(str, status.image_shape))
        rows.append([status.name, counts, pixels, state, status.licence, status.folder])
    columns = ["name", "images", "pixels", "state", "licence", "folder"]
    _print("Data sets", columns, rows, left=columns)
    for status in statuses:
        if is_damaged(status):
            say(f"{status.name}: {status.problem}")
        elif not status.verified:
            partly = f"{status.problem}; " if Path(status.folder).is_dir() else ""
            say(f"{status.name}: {partly}get it with `scratchvae data --fetch {status.name}`")


def is_damaged(status: DatasetStatus) -> bool:
    """Whether a file of the data set is here and is not the published one."""
    return not status.verified and not status.problem.startswith("missing")
