"""The picture of an answer of `scratchvae variance --by`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from scratchvae.estimators import ESTIMATORS
from scratchvae.plots import COLOURS, MARKERS, STYLE, save_figure

__all__ = ["plot_question"]

_SIGNAL = "signal_to_noise"
_GAPS = " Where there is no mark the draws are too few to tell the mean from zero."


def plot_question(record: dict[str, Any], path: Path) -> None:
    """Draw the answer to a question of `scratchvae variance --by`.

    Parameters
    ----------
    record : dict
        What the command writes as JSON.
    path : Path
        Of the PNG file.
    """
    answer = record["answer"]
    rows = answer["rows"]
    series = list(dict.fromkeys(row["estimator"] for row in rows))
    if all(row["point"] == row["estimator"] for row in rows):
        series = [""]  # each has a line of its own: nothing is left for colours to tell
    draw = _draw_curves if answer["numeric"] else _draw_dots
    with mpl.rc_context(STYLE):
        points = len(dict.fromkeys(row["point"] for row in rows))
        height = 4.6 if answer["numeric"] else 1.9 + 0.13 * points * (len(series) + 1)
        figure = Figure(figsize=(10, height), layout="constrained")
        panels = figure.subplots(1, answer["drawn"], squeeze=False)[0]
        shown = list(answer["quantities"])[: answer["drawn"]]
        for axes, quantity in zip(panels, shown, strict=True):
            draw(axes, answer, quantity, series)
        handles, labels = panels[0].get_legend_handles_labels()
        if any(labels):
            figure.legend(
                handles, labels, loc="outside upper center", ncols=min(4, len(labels)), frameon=False
            )
        save_figure(figure, _question_caption(record), path)


def _values(
    rows: list[dict[str, Any]], quantity: str, estimator: str
) -> tuple[list[Any], list[float], list[float]]:
    """Points, values and standard errors of one estimator, or of all; a signal that the noise hides is a gap."""
    chosen = [row for row in rows if estimator in ("", row["estimator"]) and quantity in row]
    errors = [row.get(f"{quantity}_standard_error", 0.0) for row in chosen]
    hidden = [quantity == _SIGNAL and row[quantity] == 0 for row in chosen]
    values = [math.nan if is_hidden else row[quantity] for row, is_hidden in zip(chosen, hidden, strict=True)]
    return [row["point"] for row in chosen], values, errors


def _styles(series: list[str]) -> dict[str, dict[str, str]]:
    """The four estimators that every comparison begins with look the same in all pictures."""
    places = {name: i for i, name in enumerate(ESTIMATORS) if name in series}
    free = [i for i in range(len(COLOURS)) if i not in places.values()]
    others = [name for name in series if name not in places]
    # More than there are colours come round again, with other markers.
    places |= {name: free[i % len(free)] + i // len(free) * len(COLOURS) for i, name in enumerate(others)}
    return {
        name: {
            "color": COLOURS[places[name] % len(COLOURS)],
            "marker": MARKERS[(places[name] + places[name] // len(COLOURS)) % len(MARKERS)],
        }
        for name in series
    }


def _draw_curves(axes: Any, answer: dict[str, Any], quantity: str, series: list[str]) -> None:
    for estimator, style in _styles(series).items():
        points, values, errors = _values(answer["rows"], quantity, estimator)
        axes.errorbar(
            points,
            values,
            yerr=errors,
            **style,
            markersize=5,
            linewidth=1.2,
            capsize=3,
            label=estimator,
        )
    ticks = sorted({row["point"] for row in answer["rows"]})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}" for tick in ticks])
    axes.set(xlabel=answer["points"], ylabel=answer["quantities"][quantity])


def _draw_dots(axes: Any, answer: dict[str, Any], quantity: str, series: list[str]) -> None:
    labels = list(dict.fromkeys(row["point"] for row in answer["rows"]))
    for i, (estimator, style) in enumerate(_styles(series).items()):
        points, values, errors = _values(answer["rows"], quantity, estimator)
        beside = (i - (len(series) - 1) / 2) * 0.8 / len(series)
        axes.errorbar(
            values,
            [labels.index(point) + beside for point in points],
            xerr=errors,
            **style,
            markersize=5,
            linestyle="none",
            capsize=2,
            label=estimator,
        )
    axes.set_xscale("log")
    is_first = axes.get_subplotspec().is_first_col()
    axes.set_yticks(range(len(labels)), labels if is_first else [""] * len(labels))
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlabel(answer["quantities"][quantity])
    if is_first:
        axes.set_ylabel(answer["points"])


def _question_caption(record: dict[str, Any]) -> str:
    settings, model = record["settings"], record["model"]
    asked = record["answer"]["question"]
    lost = any(row.get(_SIGNAL) == 0 for row in record["answer"]["rows"])
    latent_dim = "L" if asked == "latent-dim" else model["latent_dim"]
    sizes = "-".join(map(str, [model["input_dim"], *model["hidden"], latent_dim]))
    minibatch = "" if asked == "batch-size" else f"minibatch of {settings['batch_size']}, "
    trained = f"the run {settings['run']}" if "run" in settings else f"{settings['epochs']} epochs"
    return (
        f"{record['answer']['title']}: {settings['data']}, VAE {sizes} {model['activation']}, {model['likelihood']}, "
        f"{trained}, {minibatch}n = {record['answer']['draws']}, seed {settings['seed']}. Bars: standard error of the "
        f"variance.{_GAPS * lost}\n{record['answer']['note']}"
    )
