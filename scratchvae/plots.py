"""Pictures of results, each with its caption and, beside it, the data that it shows."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scratchvae.lab.gradient_report import COMPLEX_STEP_TOLERANCE
from scratchvae.training.history import History
from scratchvae.training.run_directory import write_atomically

__all__ = [
    "COLOURS",
    "MARKERS",
    "STYLE",
    "image_mosaic",
    "plot_check",
    "plot_history",
    "plot_images",
    "plot_sweep",
    "plot_variance",
    "save_figure",
]

# Okabe and Ito's colours, which colour-blind readers tell apart; markers repeat the distinction for print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "font.size": 9,
}
_CAPTION_SIZE = 8
_LETTERS_PER_INCH = 14  # of the caption
_FEW_EPOCHS = 30  # a curve of so few has its points marked
_FEW_VALUES = 5  # of a hyperparameter: each gets its own place and label
_FEWEST_COLUMNS = 6  # of a picture of images: the caption needs some room
# A picture of more draws than this would show none of them.
_IMAGES_SHOWN = 400
# Errors below a rounding of the largest entry are drawn alike, zero among them.
_SMALLEST_ERROR = 1e-17
_LAYERS_PER_ROW = 5


def save_figure(figure: Figure, caption: str, path: Path) -> None:
    """Write a figure into a PNG file, its caption below it and whole."""
    columns = int(figure.get_figwidth() * _LETTERS_PER_INCH)
    caption = "\n".join(textwrap.fill(line, columns) for line in caption.splitlines())
    # Longer captions get room of their own: 1.2 times the letters' height, which is in points, for each line more.
    figure.set_figheight(figure.get_figheight() + 1.2 * _CAPTION_SIZE / 72 * caption.count("\n"))
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
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 4.4), layout="constrained")
        over_time, by_layer = figure.subplots(1, 2)
        for i, estimator in enumerate(estimators):
            _draw_over_training(over_time, moments, estimator, i)
            _draw_by_layer(by_layer, moments[-1]["estimators"][estimator], estimator, i, len(estimators))
        over_time.set_xscale("symlog", linthresh=1)
        epochs = [moment["epoch"] for moment in moments]
        over_time.set_xticks(_apart(epochs))
        over_time.xaxis.set_major_formatter("{x:.0f}")
        over_time.minorticks_off()
        over_time.set(xlabel="epochs of training", title="The whole encoder, over training")
        last = "before training" if epochs[-1] == 0 else f"after epoch {epochs[-1]}"
        by_layer.set(xlabel="layer of the encoder, weights and biases together", title=f"By layer, {last}")
        for axes in (over_time, by_layer):
            axes.set_yscale("log")
            axes.set_ylabel("variance, summed over parameters (nats²)")
        handles, labels = over_time.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)), frameon=False)
        save_figure(figure, _variance_caption(record), path)


def _apart(epochs: list[int]) -> list[int]:
    """Those epochs, the last for sure, whose labels have room beside each other on the logarithmic axis."""
    places = [epoch if epoch <= 1 else 1 + math.log10(epoch) for epoch in epochs]
    chosen = [len(epochs) - 1]
    for i in reversed(range(len(epochs) - 1)):
        if places[chosen[-1]] - places[i] >= 0.09 * (places[-1] - places[0]):
            chosen.append(i)
    return [epochs[i] for i in reversed(chosen)]


def _draw_over_training(axes: Any, moments: list[dict[str, Any]], estimator: str, i: int) -> None:
    epochs = [moment["epoch"] for moment in moments]
    totals = [moment["estimators"][estimator]["encoder"] for moment in moments]
    axes.errorbar(
        epochs,
        [total["variance"] for total in totals],
        yerr=[total["standard_error"] for total in totals],
        color=COLOURS[i % len(COLOURS)],
        marker=MARKERS[i % len(MARKERS)],
        capsize=3,
        label=estimator,
    )


def _draw_by_layer(axes: Any, parts: dict[str, dict[str, float]], estimator: str, i: int, count: int) -> None:
    layers = [part for part in parts if part != "encoder"]
    axes.errorbar(
        np.arange(len(layers)) + (i - (count - 1) / 2) * 0.12,
        [parts[layer]["variance"] for layer in layers],
        yerr=[parts[layer]["standard_error"] for layer in layers],
        color=COLOURS[i % len(COLOURS)],
        marker=MARKERS[i % len(MARKERS)],
        linestyle="none",
        capsize=3,
        label=estimator,
    )
    axes.set_xticks(range(len(layers)), [layer.removeprefix("encoder.") for layer in layers])


def _variance_caption(record: dict[str, Any]) -> str:
    settings, model = record["settings"], record["model"]
    sizes = "-".join(map(str, [model["input_dim"], *model["hidden"], model["latent_dim"]]))
    compares = any(name.endswith("leave-one-out") for name in record["moments"][0]["estimators"])
    return (
        f"{settings['data']}, VAE {sizes} {model['activation']}, {model['likelihood']}, one minibatch of "
        f"{settings['batch_size']}, noise alone: n = {settings['num_samples']} draws, seed {settings['seed']}.\n"
        "Bars: standard error." + " Leave-one-out: 10 samples per estimate, variance per sample." * compares
    )


def plot_history(history: History, caption: str, path: Path) -> None:
    """Draw a training run's curves into a PNG file; its validation data are the test images.

    Parameters
    ----------
    history : History
    caption : str
    path : Path
        Of the PNG file.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        # A plain autoencoder has no KL: the panel of zeros goes where nobody sees it.
        panels = (
            figure.subplots(1, 2) if any(history.column("kl")) else [figure.subplots(), Figure().subplots()]
        )
        history.plot(panels)
        for axes in panels:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if len(history) <= 1:
                axes.set_xlim(0, 2)
            for line in axes.lines:
                line.set_label(str(line.get_label()).replace("validation", "test"))
                if len(history) <= _FEW_EPOCHS:  # the points themselves: one alone has no line
                    line.set(marker="o", markersize=4)
                    line.set_markerfacecolor("white" if line.is_dashed() else line.get_color())
            axes.legend()
        save_figure(figure, caption, path)


def plot_check(
    errors: Mapping[str, np.ndarray], caption: str, path: Path, *, directions: bool = False
) -> None:
    """Draw the relative error of every entry of every tensor, a column for each layer, into a PNG file.

    Parameters
    ----------
    errors : mapping of str to ndarray
        By tensor, in its shape, or (directions,); NaN where an entry was not compared.
    caption : str
    path : Path
        Of the PNG file.
    directions : bool
        Whether the errors are those of directions.
    """
    layers: dict[str, list[str]] = {}
    for name in errors:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    rows = -(-len(layers) // _LAYERS_PER_ROW)
    columns = -(-len(layers) // rows)
    shown = mpl.colormaps["cividis"].with_extremes(bad="#DDDDDD", over=COLOURS[1])
    norm = LogNorm(_SMALLEST_ERROR, COMPLEX_STEP_TOLERANCE)
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(max(2.4 * columns, 5.0) + 1.0, 3.4 * rows + 0.4), layout="constrained")
        heights = [4, 1] * rows
        grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=heights)
        for axes in grid.flat:
            axes.set_axis_off()
        for i, names in enumerate(layers.values()):
            row, column = divmod(i, columns)
            for name in names:
                strip = name.endswith("bias")
                axes = grid[2 * row + strip, column]
                picture = _draw_errors(axes, name, errors[name], shown, norm)
                axes.set_xlabel("direction" if directions else "output unit")
        bar = figure.colorbar(picture, ax=grid, extend="max", shrink=0.8, aspect=30)
        bar.set_label("relative error")
        told = f"{caption}\nOrange: above the tolerance, {COMPLEX_STEP_TOLERANCE:g}. Grey: not compared."
        save_figure(figure, told, path)


def _draw_errors(axes: Any, name: str, errors: np.ndarray, colours: Any, norm: LogNorm) -> Any:
    axes.set_axis_on()
    picture = np.atleast_2d(np.maximum(errors, _SMALLEST_ERROR))  # NaN stays
    drawn = axes.imshow(picture, cmap=colours, norm=norm, aspect="auto", interpolation="nearest")
    axes.set_title(name, fontsize=_CAPTION_SIZE)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    if errors.ndim == 2:
        axes.set_ylabel("input unit")
    else:
        axes.set_yticks([])
    return drawn


def plot_images(images: np.ndarray, image_shape: tuple[int, ...], caption: str, path: Path) -> None:
    """Draw images (N, D) in [0, 1] as a grid, black for 0 and white for 1, into a PNG file.

    Parameters
    ----------
    images : ndarray (N, D)
        The first 400 are drawn.
    image_shape : tuple of int
        Rows and columns, and 3 or 4 colours if there are; of another shape the last axis goes across.
    caption : str
    path : Path
        Of the PNG file.
    """
    if len(images) > _IMAGES_SHOWN:
        images, caption = images[:_IMAGES_SHOWN], f"{caption}; the first {_IMAGES_SHOWN} are shown"
    is_picture = len(image_shape) == 2 or (len(image_shape) == 3 and image_shape[-1] in (3, 4))
    shape = image_shape if is_picture else (math.prod(image_shape[:-1]), image_shape[-1])
    columns = max(_FEWEST_COLUMNS, math.ceil(math.sqrt(len(images))))
    mosaic = image_mosaic(np.clip(images, 0, 1).reshape(-1, *shape), columns)
    width = 0.6 * columns + 0.4
    height = width * mosaic.shape[0] / mosaic.shape[1] + 0.5
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.imshow(mosaic, cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()
    save_figure(figure, caption, path)


def image_mosaic(images: np.ndarray, columns: int) -> np.ndarray:
    """Images (N, rows, columns, …) side by side on white, one or more pixels apart: one picture draws quickly.

    Returns
    -------
    ndarray (height, width, …)
    """
    count, height, width, *colours = images.shape
    gap = max(1, min(height, width) // 8)
    rows = -(-count // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, *colours)
    mosaic: np.ndarray = np.ones(shape, images.dtype)
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        mosaic[top : top + height, left : left + width] = image
    return mosaic


# How the panels of a sweep call a hyperparameter.
_HYPERPARAMETERS = {
    "beta": "β, the weight of the KL term",
    "latent_dim": "latent dimensions",
    "width": "width of the hidden layers",
    "learning_rate": "learning rate",
    "estimator": "estimator of the encoder's gradient",
}


def plot_sweep(record: dict[str, Any], path: Path) -> None:
    """Draw the result of `scratchvae sweep`: −ELBO by each hyperparameter that varies, and rate against distortion.

    Parameters
    ----------
    record : dict
        What the command writes as JSON.
    path : Path
        Of the PNG file.
    """
    trials = record["trials"]
    varied = [name for name in _HYPERPARAMETERS if len({trial["setting"][name] for trial in trials}) > 1]
    count = len(varied) + 1
    columns = count if count <= 3 else math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.4 * columns + 0.8, 3.2 * rows + 0.4), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, name in zip(panels, varied, strict=False):
            _draw_hyperparameter(axes, trials, name)
        _draw_rate_and_distortion(panels[len(varied)], trials)
        for axes in panels[count:]:
            axes.set_axis_off()
        save_figure(figure, _sweep_caption(record), path)


def _draw_hyperparameter(axes: Any, trials: list[dict[str, Any]], name: str) -> None:
    """One point per trial, and those that did not end as crosses at the upper edge."""
    values = sorted({trial["setting"][name] for trial in trials})
    is_scale = len(values) > _FEW_VALUES and name != "estimator"
    places = {value: value if is_scale else i for i, value in enumerate(values)}
    done = [trial for trial in trials if trial["state"] == "done"]
    axes.plot(
        [places[trial["setting"][name]] for trial in done],
        [trial["validation"]["negative_elbo"] for trial in done],
        "o",
        color=COLOURS[0],
        alpha=0.6,
    )
    lost = [places[trial["setting"][name]] for trial in trials if trial["state"] != "done"]
    if lost:
        top = axes.get_xaxis_transform()  # a place across, and a part of the height
        axes.plot(lost, [1.0] * len(lost), "x", color=COLOURS[1], transform=top, clip_on=False)
    if is_scale:
        around_zero = {} if values[0] > 0 else {"linthresh": values[1]}
        axes.set_xscale("symlog" if around_zero else "log", **around_zero)
    else:
        labels = [value.replace("-", "\n") if name == "estimator" else f"{value:g}" for value in values]
        axes.set_xticks(range(len(values)), labels)
        axes.set_xlim(-0.5, len(values) - 0.5)
    axes.set(xlabel=_HYPERPARAMETERS[name], ylabel="held-out −ELBO (nats per image)")


def _draw_rate_and_distortion(axes: Any, trials: list[dict[str, Any]]) -> None:
    """KL against −log p(x|z), shaded by β: along a line of slope −1 the −ELBO is the same."""
    done = [trial for trial in trials if trial["state"] == "done"]
    drawn = axes.scatter(
        [trial["validation"]["kl"] for trial in done],
        [-trial["validation"]["reconstruction"] for trial in done],
        c=[trial["setting"]["beta"] for trial in done],
        cmap="cividis",
        edgecolors="#333333",
        linewidths=0.5,
    )
    betas = {trial["setting"]["beta"] for trial in done}
    if len(betas) > 1:
        drawn.set_norm(LogNorm() if min(betas) > 0 else None)
        bar = axes.figure.colorbar(drawn, ax=axes, label="β")
        if len(betas) <= _FEW_VALUES:
            bar.set_ticks(sorted(betas), labels=[f"{beta:g}" for beta in sorted(betas)])
            bar.minorticks_off()
    axes.set(title="Rate and distortion", xlabel="KL (nats per image)", ylabel="−log p(x|z) (nats per image)")


def _sweep_caption(record: dict[str, Any]) -> str:
    plan, trials = record["plan"], record["trials"]
    lost = sum(trial["state"] != "done" for trial in trials)
    seeds = sorted({trial["setting"]["seed"] for trial in trials})
    return (
        f"{Path(plan['data']).name}: one point per trial, n = {len(trials)} trials"
        + f", of which {lost} failed (crosses at the upper edge)" * bool(lost)
        + f"; {plan['epochs']} epochs on {plan['train_images']} images, means over {plan['held_out_images']} held-out "
        f"ones; seeds of the trials {', '.join(map(str, seeds))}, of the sweep {plan['seed']}."
    )
