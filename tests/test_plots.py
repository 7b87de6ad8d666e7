"""Pictures show what the record says, with labels, units and a caption, and nothing is cut off."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from scratchvae import plots
from scratchvae.cli.question_plot import plot_question
from scratchvae.models.vae import VAE
from scratchvae.training.history import Epoch, History
from scratchvae.training.search import grid

ESTIMATORS = ("pathwise", "score-function", "score-function-running-mean", "score-function-leave-one-out")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Figure]:
    """`drawn(plot_…, …)` draws into picture.png and returns the figure as it was saved."""

    def draw(plot: Callable[..., None], *arguments: Any) -> Figure:
        saved: list[Figure] = []
        save = Figure.savefig

        def remember(figure: Figure, *where: Any, **settings: Any) -> None:
            save(figure, *where, **settings)
            saved.append(figure)

        path = tmp_path / "picture.png"
        with monkeypatch.context() as patch:
            patch.setattr(Figure, "savefig", remember)
            plot(*arguments, path)
        (figure,) = saved
        content = path.read_bytes()
        assert content.startswith(PNG)
        assert content.endswith(b"IEND\xaeB`\x82")
        return figure

    return draw


def tick_labels(axes: Axes, which: str) -> list[Text]:
    """The labels that are drawn, in the order of their places on the axis."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = sorted(axis.get_view_interval())
    placed = [
        (tick.get_loc(), tick.label1)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        if low <= tick.get_loc() <= high and tick.label1.get_text() and axes.axison
    ]
    return [label for _, label in sorted(placed, key=lambda pair: pair[0])]


def texts(figure: Figure) -> list[Text]:
    """All text that is drawn."""
    found = [
        *figure.texts,  # the caption
        *(text for legend in figure.legends for text in legend.get_texts()),
    ]
    for axes in figure.axes:
        legend = axes.get_legend()
        found += [*(legend.get_texts() if legend else []), axes.title]
        if axes.axison:
            found += [axes.xaxis.label, axes.yaxis.label, *tick_labels(axes, "x"), *tick_labels(axes, "y")]
    return [text for text in found if text.get_text()]


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in texts(figure))


def assert_readable(figure: Figure) -> None:
    """All text lies within the picture, and the labels of an axis beside each other."""
    figure.set_dpi(150)  # as it was saved
    figure.draw_without_rendering()
    for text in texts(figure):
        box = text.get_window_extent()
        assert box.x0 >= 0, f"{text.get_text()!r} is cut off on the left"
        assert box.y0 >= 0, f"{text.get_text()!r} is cut off below"
        assert box.x1 <= figure.bbox.width, f"{text.get_text()!r} is cut off on the right"
        assert box.y1 <= figure.bbox.height, f"{text.get_text()!r} is cut off above"
    for axes in figure.axes:
        boxes = [label.get_window_extent() for label in tick_labels(axes, "x")]
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes)), "labels overlap"


def caption(figure: Figure) -> str:
    """The text under the figure, its line breaks undone."""
    return " ".join(figure.get_supxlabel().split())


# -------------------------------------------------------------------------------------------- questions


def question_record(numeric: bool, names: tuple[str, ...] = ESTIMATORS) -> dict[str, Any]:
    points: tuple[float | str, ...] = (1 / 16, 1, 128) if numeric else ("encoder.0", "encoder.log_var")
    rows = [
        {"point": point, "estimator": name, "a": 10.0**i, "a_standard_error": 0.5, "b": 1.0 + i}
        for point in points
        for i, name in enumerate(names)
    ]
    answer = {
        "question": "layer",
        "title": "Gradient variance by this",
        "points": "this (unit)",
        "quantities": {"a": "A (nats²)", "b": "B"},
    }
    answer |= {"drawn": 2, "numeric": numeric, "draws": "400 draws", "note": "Of note.", "rows": rows}
    model = {
        "input_dim": 64,
        "hidden": [64],
        "latent_dim": 8,
        "activation": "relu",
        "likelihood": "bernoulli",
    }
    return {
        "model": model,
        "settings": {"data": "digits", "seed": 5, "batch_size": 32, "epochs": 9},
        "answer": answer,
    }


@pytest.mark.parametrize("numeric", [True, False])
def test_an_answer_is_drawn_as_it_is(numeric: bool, drawn: Callable[..., Figure]) -> None:
    record = question_record(numeric)
    figure = drawn(plot_question, record)
    assert_readable(figure)
    for axes, quantity in zip(figure.axes, "ab", strict=True):
        shown = [container.lines[0] for container in axes.containers]
        for line, name in zip(shown, ESTIMATORS, strict=True):
            values = [row[quantity] for row in record["answer"]["rows"] if row["estimator"] == name]
            np.testing.assert_array_equal(line.get_ydata() if numeric else line.get_xdata(), values)
        assert (axes.get_yscale() if numeric else axes.get_xscale()) == "log"
    for text in (
        "seed 5",
        "n = 400 draws",
        "64-64-8",
        "Of note.",
        "minibatch of 32",
        "Gradient variance by this",
    ):
        assert text in caption(figure)
    assert "this (unit)" in words(figure)
    assert "A (nats²)" in words(figure)


def test_an_estimator_looks_the_same_beside_others(drawn: Callable[..., Figure]) -> None:
    styles = []
    for names in (("score-function", "pathwise"), ("measure-valued", "pathwise", "vimco", "score-function")):
        figure = drawn(plot_question, question_record(True, names))
        lines = [container.lines[0] for container in figure.axes[0].containers]
        styles.append({n: (i.get_color(), i.get_marker()) for n, i in zip(names, lines, strict=True)})
        assert len(set(styles[-1].values())) == len(names)
    assert all(styles[0][name] == styles[1][name] for name in styles[0])


# -------------------------------------------------------------------------------------------- variance


def variance_record(
    epochs: tuple[int, ...] = (0, 1, 3, 10, 30, 100),
    hidden: tuple[int, ...] = (64,),
    estimators: tuple[str, ...] = ESTIMATORS,
    data: str = "digits",
) -> dict[str, Any]:
    parts = ["encoder", *(f"encoder.{i}" for i in range(len(hidden))), "encoder.mean", "encoder.log_var"]
    moments = [
        {
            "epoch": epoch,
            "test_negative_elbo": 50.0,
            "estimators": {
                name: {
                    part: {"variance": 10.0**i * (1 + j + epoch), "standard_error": 10.0**i * 0.1}
                    for j, part in enumerate(parts)
                }
                for i, name in enumerate(estimators)
            },
        }
        for epoch in epochs
    ]
    model = {
        "input_dim": 64,
        "hidden": list(hidden),
        "latent_dim": 8,
        "activation": "relu",
        "likelihood": "bernoulli",
    }
    settings = {"data": data, "batch_size": 64, "num_samples": 2000, "seed": 17}
    return {"model": model, "settings": settings, "moments": moments}


def test_variance_axes_legend_and_caption(drawn: Callable[..., Figure]) -> None:
    figure = drawn(plots.plot_variance, variance_record())
    assert_readable(figure)
    over_time, by_layer = figure.axes
    assert over_time.get_xlabel() == "epochs of training"
    assert "layer" in by_layer.get_xlabel()
    assert [label.get_text() for label in by_layer.get_xticklabels()] == ["0", "mean", "log_var"]
    assert by_layer.get_title() == "By layer, after epoch 100"
    for axes in figure.axes:
        assert axes.get_ylabel() == "variance, summed over parameters (nats²)"
        assert axes.get_yscale() == "log"
    (legend,) = figure.legends
    assert tuple(text.get_text() for text in legend.get_texts()) == ESTIMATORS
    for told in ("digits", "64-64-8", "relu", "bernoulli", "minibatch of 64", "n = 2000 draws", "seed 17"):
        assert told in caption(figure)
    assert "standard error" in caption(figure)
    assert "Leave-one-out: 10 samples per estimate" in caption(figure)


def test_variance_points_and_bars_are_the_record(drawn: Callable[..., Figure]) -> None:
    record = variance_record()
    over_time, by_layer = drawn(plots.plot_variance, record).axes
    for axes, steps in ((over_time, record["moments"]), (by_layer, None)):
        for container, estimator in zip(axes.containers, ESTIMATORS, strict=True):
            points, _, (bars,) = container
            if steps is None:
                parts = record["moments"][-1]["estimators"][estimator]
                expected = [parts[f"encoder.{name}"] for name in ("0", "mean", "log_var")]
                assert np.round(points.get_xdata()).tolist() == [0, 1, 2]
            else:
                expected = [moment["estimators"][estimator]["encoder"] for moment in steps]
                assert list(points.get_xdata()) == [moment["epoch"] for moment in steps]
            np.testing.assert_array_equal(points.get_ydata(), [part["variance"] for part in expected])
            for segment, part in zip(bars.get_segments(), expected, strict=True):
                error = (segment[1, 1] - segment[0, 1]) / 2
                assert error == pytest.approx(part["standard_error"], rel=1e-6)


def test_estimators_differ_in_colour_and_in_marker(drawn: Callable[..., Figure]) -> None:
    over_time, _ = drawn(plots.plot_variance, variance_record()).axes
    lines = [container[0] for container in over_time.containers]
    assert len({line.get_color() for line in lines}) == len({line.get_marker() for line in lines}) == 4


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": (0,)},
        {"epochs": (7,)},
        {"epochs": (0, 1, 3, 10, 30, 100, 300, 1000, 2000)},
        {"epochs": (0, 1, 3, 10, 30, 100, 101)},
        {"epochs": (0, 1, 2)},
        {"epochs": (0, 1, 3, 4)},
        {"hidden": ()},
        {"hidden": (400, 300, 200)},
        {"estimators": ("pathwise",)},
        {"estimators": ESTIMATORS + tuple(f"an estimator with a long name, {i}" for i in range(4))},
        {"data": "/a/long/path/" + "to/some/folder/" * 12 + "images.npy"},
    ],
    ids=lambda settings: f"{next(iter(settings))}={str(next(iter(settings.values())))[:40]}",
)
def test_variance_of_other_records_is_readable(
    settings: dict[str, Any], drawn: Callable[..., Figure]
) -> None:
    record = variance_record(**settings)
    figure = drawn(plots.plot_variance, record)
    assert_readable(figure)
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == list(record["moments"][0]["estimators"])
    assert ("Leave-one-out" in caption(figure)) is ("score-function-leave-one-out" in names)
    assert "n = 2000" in caption(figure)
    if settings == {"epochs": (0,)}:
        assert figure.axes[1].get_title() == "By layer, before training"


# --------------------------------------------------------------------------------------------- history


def history(epochs: int, kl: bool = True, validated: bool = True) -> History:
    def epoch(i: int) -> Epoch:
        return Epoch(
            epoch=i,
            step=10 * i,
            beta=1.0,
            loss=100.0 / i + 5 * kl,
            reconstruction=-100.0 / i,
            kl=5.0 * kl,
            validation_loss=110.0 / i if validated else None,
            validation_reconstruction=-105.0 / i if validated else None,
            validation_kl=6.0 * kl if validated else None,
            seconds=0.1 * i,
        )

    return History([epoch(i) for i in range(1, epochs + 1)])


def test_history_axes_legends_and_caption(drawn: Callable[..., Figure]) -> None:
    record = history(50)
    figure = drawn(plots.plot_history, record, "digits, n = 1415 training and 382 test images, seed 3")
    assert_readable(figure)
    assert caption(figure) == "digits, n = 1415 training and 382 test images, seed 3"
    loss, kl = figure.axes
    for axes in (loss, kl):
        assert axes.get_xlabel() == "epoch"
        assert axes.get_ylabel() == "nats per example"
        assert all(tick == int(tick) for tick in axes.get_xticks())
    curves = {str(line.get_label()): line for line in (*loss.lines, *kl.lines)}
    assert list(curves) == [
        "loss, training",
        "loss, test",
        "−log p(x|z), training",
        "−log p(x|z), test",
        "KL to the prior, training",
        "KL to the prior, test",
    ]
    legends = [axes.get_legend() for axes in (loss, kl)]
    assert [text.get_text() for legend in legends if legend for text in legend.get_texts()] == list(curves)
    np.testing.assert_array_equal(curves["loss, test"].get_ydata(), record.column("validation_loss"))
    expected = [-value for value in record.column("reconstruction")]
    np.testing.assert_array_equal(curves["−log p(x|z), training"].get_ydata(), expected)
    assert curves["loss, test"].get_linestyle() != curves["loss, training"].get_linestyle()


@pytest.mark.parametrize("epochs", [0, 1, 2, 5])
@pytest.mark.parametrize("validated", [True, False])
def test_few_epochs_are_seen(epochs: int, validated: bool, drawn: Callable[..., Figure]) -> None:
    """One point alone makes no line, so it needs a marker, and one that tells test from training."""
    figure = drawn(plots.plot_history, history(epochs, validated=validated), "caption")
    assert_readable(figure)
    for axes in figure.axes:
        assert all(tick == int(tick) for tick in axes.get_xticks())
        faces = {}
        for line in axes.lines:
            assert line.get_marker() == "o"
            faces[str(line.get_label()).split(", ")[1]] = line.get_markerfacecolor()
        if epochs and validated:
            assert faces["test"] == "white" != faces["training"]


def test_an_autoencoder_has_no_panel_for_the_kl(drawn: Callable[..., Figure]) -> None:
    figure = drawn(plots.plot_history, history(5, kl=False), "caption")
    (loss,) = figure.axes
    assert "KL" not in words(figure)
    assert loss.get_ylabel() == "nats per example"


# ------------------------------------------------------------------------------------------ gradient check


def check_errors(hidden: tuple[int, ...], directions: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = {name: p.shape for name, p in VAE(6, hidden, 2, rng=0).parameters.items()}
    return {
        name: 10.0 ** generator.uniform(-18, -15, (directions,) if directions else shape)
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize(("hidden", "directions"), [((5,), 0), ((5, 4, 3), 0), ((), 0), ((5,), 8)])
def test_check_shows_every_entry_on_one_scale(
    hidden: tuple[int, ...], directions: int, drawn: Callable[..., Figure]
) -> None:
    errors = check_errors(hidden, directions)
    errors["decoder.0.weight"].flat[1] = 1e-9
    errors["decoder.0.weight"].flat[2] = np.nan
    errors["decoder.0.weight"].flat[3] = 0
    figure = drawn(plots.plot_check, errors, "VAE 6-5-2, seed 7: error of each entry")
    assert_readable(figure)
    assert "seed 7" in caption(figure)
    assert "Orange: above the tolerance, 1e-11. Grey: not compared." in caption(figure)
    panels = {axes.get_title(): axes for axes in figure.axes if axes.axison and axes.get_title()}
    assert set(panels) == set(errors)
    for name, axes in panels.items():
        (image,) = axes.images
        np.testing.assert_array_equal(
            np.ma.filled(image.get_array(), np.nan), np.maximum(np.atleast_2d(errors[name]), 1e-17)
        )
        assert image.get_clim() == (1e-17, 1e-11)
        assert axes.get_xlabel() in ("output unit", "direction")
        assert (axes.get_ylabel() == "input unit") is (errors[name].ndim == 2)
    picture = panels["decoder.0.weight"].images[0]
    colours = picture.to_rgba(picture.get_array()).reshape(-1, 4)
    assert to_hex(colours[1]).upper() == "#D55E00"
    assert to_hex(colours[2]).upper() == "#DDDDDD"
    assert figure.axes[-1].get_ylabel() == "relative error"


# ---------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_images_are_shown_as_they_are(
    count: int, drawn: Callable[..., Figure], rng: np.random.Generator
) -> None:
    images = rng.random((count, 160))
    text = f"a run: n = {count} draws of z from N(0, I), seed 0"
    figure = drawn(plots.plot_images, images, (8, 20), text)
    assert_readable(figure)
    assert caption(figure) == text
    picture = figure.axes[0].images[0]
    assert picture.get_clim() == (0, 1)
    assert picture.get_cmap().name == "gray"
    assert not figure.axes[0].axison
    shown = tiles(picture, (8, 20))
    np.testing.assert_array_equal(shown[:count], images.reshape(count, 8, 20))
    assert np.all(shown[count:] == 1)
    assert len(shown) - count < 8 or count < 6


def tiles(picture: Any, shape: tuple[int, int]) -> np.ndarray:
    """The images of a mosaic, which stand one pixel apart, in the order of reading."""
    array = np.asarray(picture.get_array())
    height, width = shape
    assert np.all(array[height :: height + 1] == 1)
    assert np.all(array[:, width :: width + 1] == 1)
    rows, columns = (-(-size // (side + 1)) for size, side in zip(array.shape, shape, strict=False))
    starts = [(row * (height + 1), column * (width + 1)) for row in range(rows) for column in range(columns)]
    return np.array([array[top : top + height, left : left + width] for top, left in starts])


def test_too_many_images_are_told(drawn: Callable[..., Figure], rng: np.random.Generator) -> None:
    images = rng.random((405, 4))
    figure = drawn(plots.plot_images, images, (2, 2), "n = 405 draws, seed 0")
    shown = tiles(figure.axes[0].images[0], (2, 2))
    np.testing.assert_array_equal(shown, images[:400].reshape(400, 2, 2))
    assert caption(figure) == "n = 405 draws, seed 0; the first 400 are shown"


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((1, 12), (1, 12)),
        ((2, 2, 3), (2, 2, 3)),  # colours
        ((3, 2, 2), (6, 2)),
        ((2, 3, 1, 2), (6, 2)),
        ((12,), (1, 12)),
    ],
)
def test_images_of_other_shapes(
    shape: tuple[int, ...], shown: tuple[int, ...], drawn: Callable[..., Figure], rng: np.random.Generator
) -> None:
    """A Gaussian likelihood's means may leave [0, 1]: they are drawn as black and white."""
    images = 3 * rng.random((2, 12)) - 1
    figure = drawn(plots.plot_images, images, shape, "caption")
    picture = np.asarray(figure.axes[0].images[0].get_array())
    first = picture[: shown[0], : shown[1]]
    np.testing.assert_array_equal(first, np.clip(images[0], 0, 1).reshape(shown))


def test_a_long_caption_is_broken_and_not_cut(drawn: Callable[..., Figure], rng: np.random.Generator) -> None:
    name = "a_run_with_a_name_that_is_too_long_for_any_picture_and_has_no_space_in_it_" * 3
    text = f"{name}: means of p(x|z), n = 3 draws of z from N(0, I), seed 0"
    figure = drawn(plots.plot_images, rng.random((3, 4)), (2, 2), text)
    assert_readable(figure)
    assert caption(figure).replace(" ", "") == text.replace(" ", "")


# ---------------------------------------------------------------------------------------------- the file

PLOTS: dict[str, tuple[Any, ...]] = {
    "variance": (plots.plot_variance, variance_record((0, 1))),
    "history": (plots.plot_history, history(3), "caption"),
    "check": (plots.plot_check, check_errors((5,)), "caption"),
    "images": (plots.plot_images, np.linspace(0, 1, 12).reshape(3, 4), (2, 2), "caption"),
}


@pytest.mark.parametrize("kind", PLOTS)
def test_a_picture_is_whole_or_absent(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plot, *arguments = PLOTS[kind]
    path = tmp_path / "picture.png"
    plot(*arguments, path)
    whole = path.read_bytes()

    def interrupted(_figure: Figure, file: Any, **_settings: Any) -> None:
        file.write(whole[: len(whole) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", interrupted)
    for target in (path, tmp_path / "new.png"):
        with pytest.raises(KeyboardInterrupt):
            plot(*arguments, target)
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", PLOTS)
def test_the_same_data_give_the_same_bytes(kind: str, tmp_path: Path) -> None:
    plot, *arguments = PLOTS[kind]
    plot(*arguments, tmp_path / "a.png")
    plot(*arguments, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("kind", PLOTS)
def test_the_style_is_the_picture_s_own(kind: str, tmp_path: Path) -> None:
    """A caller's settings of matplotlib are left as they were."""
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    plot, *arguments = PLOTS[kind]
    plot(*arguments, tmp_path / "a.png")
    assert dict(mpl.rcParams) == before


# ----------------------------------------------------------------------------------------------- sweep


def sweep_record(**axes: tuple[Any, ...]) -> dict[str, Any]:
    """A grid in which the −ELBO counts up from 30 nats, and every third trial diverged."""
    trials = []
    for i, setting in enumerate(grid(axes)):
        terms = {"negative_elbo": 30.0 + i, "reconstruction": -20.0 - i, "kl": 10.0}
        ended = {"state": "diverged"} if i % 3 == 2 else {"state": "done", "validation": terms}
        trials.append({"setting": setting._asdict(), **ended})
    plan = {"data": "/a/grey.npy", "epochs": 7, "train_images": 28, "held_out_images": 4, "seed": 9}
    return {"plan": plan, "trials": trials}


def test_sweep_axes_and_caption(drawn: Callable[..., Figure]) -> None:
    record = sweep_record(beta=(0.5, 2.0), estimator=ESTIMATORS, seed=(3, 4))
    figure = drawn(plots.plot_sweep, record)
    assert_readable(figure)
    beta, estimator, rate, *_ = figure.axes
    assert beta.get_xlabel() == "β, the weight of the KL term"
    assert estimator.get_xlabel() == "estimator of the encoder's gradient"
    names = [label.get_text().replace("\n", "-") for label in tick_labels(estimator, "x")]
    assert names == sorted(ESTIMATORS)
    assert [label.get_text() for label in tick_labels(beta, "x")] == ["0.5", "2"]
    assert beta.get_ylabel() == estimator.get_ylabel() == "held-out −ELBO (nats per image)"
    assert rate.get_title() == "Rate and distortion"
    assert rate.get_xlabel() == "KL (nats per image)"
    assert rate.get_ylabel() == "−log p(x|z) (nats per image)"
    told = caption(figure)
    assert told.startswith(
        "grey.npy: one point per trial, n = 16 trials, of which 5 failed (crosses at the upper"
    )
    assert "7 epochs on 28 images, means over 4 held-out ones" in told
    assert told.endswith("seeds of the trials 3, 4, of the sweep 9.")


def test_sweep_points_are_the_record(drawn: Callable[..., Figure]) -> None:
    record = sweep_record(beta=(0.5, 2.0), width=(8, 16, 32))
    beta, width, rate, bar = drawn(plots.plot_sweep, record).axes
    done, lost = width.lines
    assert list(zip(done.get_xdata(), done.get_ydata(), strict=True)) == [(0, 30), (1, 31), (0, 33), (1, 34)]
    assert list(lost.get_xdata()) == [2, 2]
    assert list(beta.lines[0].get_xdata()) == [0, 0, 1, 1]
    (points,) = rate.collections
    assert points.get_offsets().tolist() == [[10, 20], [10, 21], [10, 23], [10, 24]]
    assert points.get_array().tolist() == [0.5, 0.5, 2, 2]
    assert bar.get_ylabel() == "β"
    assert [label.get_text() for label in tick_labels(bar, "y")] == ["0.5", "2"]


@pytest.mark.parametrize(
    ("axes", "scale"),
    [
        ({"learning_rate": tuple(10.0**-i for i in range(7))}, "log"),
        ({"beta": (0.0, 0.01, 0.1, 1.0, 3.0, 10.0, 30.0)}, "symlog"),
        ({"width": (4, 8)}, "linear"),
    ],
)
def test_many_values_have_a_scale(axes: dict[str, Any], scale: str, drawn: Callable[..., Figure]) -> None:
    figure = drawn(plots.plot_sweep, sweep_record(**axes))
    assert_readable(figure)
    panel = figure.axes[0]
    assert panel.get_xscale() == scale
    if scale != "linear":
        (values,) = axes.values()
        assert sorted(value for line in panel.lines for value in line.get_xdata()) == sorted(values)


def test_sweeps_of_one_trial_and_of_none_that_is_done_are_drawn(drawn: Callable[..., Figure]) -> None:
    assert_readable(drawn(plots.plot_sweep, sweep_record()))
    record = sweep_record(beta=(1.0, 2.0))
    for trial in record["trials"]:
        trial["state"] = "gave up"
    assert_readable(drawn(plots.plot_sweep, record))
