"""Sheets with panels and strips of images, in the style of the other pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from scratchvae.plots import COLOURS, MARKERS, STYLE, image_mosaic

__all__ = ["draw_curves", "draw_images", "make_sheet", "share_legend"]


def make_sheet(width: float, height: float, panels: str, heights: Sequence[float] | None = None) -> Any:
    """A figure and its panels by letter.

    Parameters
    ----------
    width, height : float
        In inches.
    panels : str
        A mosaic as matplotlib reads it, such as "AB;CC".
    heights : sequence of float, optional
        Of the rows, relative to each other.

    Returns
    -------
    figure : Figure
    axes : dict of str to Axes
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        ratios = None if heights is None else {"height_ratios": heights}
        return figure, figure.subplot_mosaic(panels, gridspec_kw=ratios)


def draw_images(
    axes: Any,
    images: np.ndarray,
    shape: tuple[int, ...],
    columns: int,
    title: str = "",
    rows: Sequence[str] = (),
) -> None:
    """Images (N, D) in [0, 1] as a grid, black for 0 and white for 1; `rows` names its rows, if given."""
    grid = image_mosaic(np.clip(images, 0, 1).reshape(-1, *shape), columns)
    axes.imshow(grid, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    pitch = (grid.shape[0] + max(1, min(shape) // 8)) / max(1, len(rows))
    axes.set_xticks([])
    axes.set_yticks([(i + 0.5) * pitch - 1 for i in range(len(rows))], rows)
    axes.tick_params(left=False)


def draw_curves(
    axes: Any,
    x: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    xlabel: str,
    ylabel: str,
    title: str = "",
    errors: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Curves by name over x, each of its own colour and marker, with bars of standard errors if there are any."""
    for i, (name, values) in enumerate(curves.items()):
        few = len(x) <= 30  # more markers than that are a thick line
        axes.errorbar(
            x,
            values,
            yerr=None if errors is None else errors.get(name),
            color=COLOURS[i % len(COLOURS)],
            marker=MARKERS[i % len(MARKERS)] if few else None,
            markersize=4,
            capsize=2,
            label=name,
        )
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)


def share_legend(figure: Any, axes: Any) -> None:
    """One legend above all panels for what one of them shows."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
