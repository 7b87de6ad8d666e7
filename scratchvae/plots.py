"""Pictures of results, each with its caption and, beside it, the data that it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from scratchvae.training.history import History
from scratchvae.training.run_directory import write_atomically

__all__ = ["plot_history", "plot_images", "plot_variance"]

# Okabe and Ito's colours, which colour-blind readers tell apart; markers repeat the distinction for print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "font.size": 9,
}
_CAPTION_SIZE = 8


def _save(figure: Figure, caption: str, path: Path) -> None:
    figure.supxlabel(caption, x=0.01, ha="left", fontsize=_CAPTION_SIZE, color="#333333")
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=150))


def plot_variance(record: dict[str, Any], path: Path) -> None:
    """Draw the result of `scratchvae variance`: the total over training, and by layer at the last moment.

    Parameters
    ----------
    record : dict
        What the command writes as JSON.
    path : Path
        Of the PNG file.
    """
    moments = record["moments"]
    estimators = list(moments[0]["estimators"])
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9.5, 4.4), layout="constrained")
        over_time, by_layer = figure.subplots(1, 2)
        for i, estimator in enumerate(estimators):
            _draw_over_training(over_time, moments, estimator, i)
            _draw_by_layer(by_layer, moments[-1]["estimators"][estimator], estimator, i, len(estimators))
        over_time.set_xscale("symlog", linthresh=1)
        epochs = [moment["epoch"] for moment in moments]
        over_time.set_xticks(epochs, [str(epoch) for epoch in epochs])
        over_time.minorticks_off()
        over_time.set(xlabel="epochs of training", title="The whole encoder, over training")
        last = "before training" if epochs[-1] == 0 else f"after epoch {epochs[-1]}"
        by_layer.set(xlabel="layer, weights and biases together", title=f"By layer, {last}")
        for axes in (over_time, by_layer):
            axes.set_yscale("log")
            axes.set_ylabel("variance of the gradient, summed over parameters")
        handles, labels = over_time.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)), frameon=False)
        _save(figure, _variance_caption(record), path)


def _draw_over_training(axes: Any, moments: list[dict[str, Any]], estimator: str, i: int) -> None:
    epochs = [moment["epoch"] for moment in moments]
    totals = [moment["estimators"][estimator]["encoder"] for moment in moments]
    axes.errorbar(
        epochs,
        [total["variance"] for total in totals],
        yerr=[total["standard_error"] for total in totals],
        color=_COLOURS[i % len(_COLOURS)],
        marker=_MARKERS[i % len(_MARKERS)],
        capsize=3,
        label=estimator,
    )


def _draw_by_layer(axes: Any, parts: dict[str, dict[str, float]], estimator: str, i: int, count: int) -> None:
    layers = [part for part in parts if part != "encoder"]
    axes.errorbar(
        np.arange(len(layers)) + (i - (count - 1) / 2) * 0.12,
        [parts[layer]["variance"] for layer in layers],
        yerr=[parts[layer]["standard_error"] for layer in layers],
        color=_COLOURS[i % len(_COLOURS)],
        marker=_MARKERS[i % len(_MARKERS)],
        linestyle="none",
        capsize=3,
        label=estimator,
    )
    axes.set_xticks(range(len(layers)), layers)


def _variance_caption(record: dict[str, Any]) -> str:
    settings, model = record["settings"], record["model"]
    sizes = "-".join(map(str, [model["input_dim"], *model["hidden"], model["latent_dim"]]))
    return (
        f"{settings['data']}, VAE {sizes} {model['activation']}, {model['likelihood']}, one minibatch of "
        f"{settings['batch_size']}, noise alone: n = {settings['num_samples']} draws, seed {settings['seed']}.\n"
        "Bars: standard error. Leave-one-out: 10 samples per estimate, variance per sample."
    )


def plot_history(history: History, caption: str, path: Path) -> None:
    """Draw a training run's curves into a PNG file."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        history.plot(figure.subplots(1, 2))
        _save(figure, caption, path)


def plot_images(images: np.ndarray, image_shape: tuple[int, ...], caption: str, path: Path) -> None:
    """Draw images (N, D) in [0, 1] as a grid, black for 0 and white for 1, into a PNG file."""
    columns = int(np.ceil(np.sqrt(len(images))))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(0.6 * columns + 0.4, 0.6 * rows + 0.6), layout="constrained")
    for axes, image in zip(figure.subplots(rows, columns, squeeze=False).flat, images, strict=False):
        axes.imshow(image.reshape(image_shape), cmap="gray", vmin=0, vmax=1)
    for axes in figure.axes:
        axes.set_axis_off()
    _save(figure, caption, path)
