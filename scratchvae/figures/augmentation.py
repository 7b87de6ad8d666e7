"""Data augmentation: does a classifier gain from digits that VAEs have drawn, when labelled ones are few?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scratchvae.figures.drawing import draw_curves, draw_images, make_sheet, share_legend
from scratchvae.figures.finding import Finding
from scratchvae.figures.neighbours import Neighbours
from scratchvae.figures.setting import Setting
from scratchvae.training.progress import Progress

__all__ = ["augmentation", "linear_classes"]

_PER_CLASS = (5, 20, 80)  # labelled images
_REPEATS = 3  # drawings of the labelled images
_TIMES = 5  # drawn images for each labelled one
_LATENT_DIM = 4  # few images fill few dimensions
# What keeps the least squares from fitting noise: a share of the mean squared norm of an image.
_RIDGE = 0.03
_SHOWN = 12

_Classifier = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def linear_classes(images: np.ndarray, labels: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Classes (B,) of x (B, D) by ridge regression on indicators of the classes, fitted to images (N, D).

    Parameters
    ----------
    images : ndarray (N, D)
    labels : ndarray (N,)
        From 0 to 9.
    x : ndarray (B, D)
    """
    inputs = np.hstack([images, np.ones((len(images), 1))]).astype(np.float64)
    gram = inputs.T @ inputs / len(inputs)
    weights = np.linalg.solve(
        gram + _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram)),
        inputs.T @ np.eye(10)[labels] / len(inputs),
    )
    return (x @ weights[:-1] + weights[-1]).argmax(axis=1)


def _nearest_classes(images: np.ndarray, labels: np.ndarray, x: np.ndarray) -> np.ndarray:
    known = Neighbours(images, labels)
    known.voters = 1  # among few images more of them would be of other classes
    return known.classify(x)


_CLASSIFIERS: dict[str, _Classifier] = {"nearest image": _nearest_classes, "linear": linear_classes}


def augmentation(setting: Setting) -> Finding:
    """One VAE per class learns from that class's labelled images and draws more of them.

    Beside the labelled images alone, and those with the drawn ones, stands the remedy that costs nothing: as many
    copies of the labelled images, moved by one pixel at random.
    """
    names = ("labelled", "moved", "drawn")
    accuracy: dict[str, dict[str, list[float]]] = {name: {c: [] for c in _CLASSIFIERS} for name in names}
    pictures = np.empty((0, setting.train.shape[1]), np.float32)
    errors: dict[str, dict[str, list[float]]] = {name: {c: [] for c in _CLASSIFIERS} for name in names}
    with Progress("augmentation: sets of images", len(_PER_CLASS) * _REPEATS) as bar:
        for per_class in _PER_CLASS:
            found: dict[tuple[str, str], list[float]] = {}
            for generator in setting.generators(_REPEATS):
                sets, pictures = _image_sets(setting, per_class, generator)
                for name, (images, labels) in sets.items():
                    for classifier, classify in _CLASSIFIERS.items():
                        right = classify(images, labels, setting.test) == setting.labels[1]
                        found.setdefault((name, classifier), []).append(float(right.mean()))
                bar.advance(f"{per_class} labelled images of each class")
            for (name, classifier), values in found.items():
                accuracy[name][classifier].append(float(np.mean(values)))
                errors[name][classifier].append(float(np.std(values) / np.sqrt(_REPEATS)))
    return Finding(
        ["classifier", "labelled of each class", *accuracy],
        _rows(accuracy, errors),
        _seen(accuracy, errors),
        {"per_class": list(_PER_CLASS), "repeats": _REPEATS, "accuracy": accuracy, "standard_error": errors},
        f"{setting.describe()}, L = {_LATENT_DIM}, one VAE per class, grey targets, as many steps as a quarter of the "
        f"usual training; {_TIMES} images moved or drawn for each labelled one; n = {len(setting.test)} test images, "
        f"bars: standard error over {_REPEATS} choices of the labelled images.",
        _draw(accuracy, errors, pictures, setting),
    )


def _image_sets(
    setting: Setting, per_class: int, generator: np.random.Generator
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Images and labels with which a classifier is fitted, by name, and some of the drawn images (10 rows, D)."""
    train, labels = setting.train, setting.labels[0]
    steps = setting.epochs * len(train) // setting.batch_size // 4
    chosen, drawn, moved = [], [], []
    for label in range(10):
        images = generator.permutation(train[labels == label])[:per_class]
        epochs = max(1, steps // -(-len(images) // setting.batch_size))
        model = {"binarize": None, "latent_dim": _LATENT_DIM}
        vae = setting.trained(x=images, model=model, epochs=epochs, progress=False)[0]
        chosen.append(images)
        drawn.append(vae.sample(_TIMES * len(images), generator))
        moved.append(_moved(np.repeat(images, _TIMES, axis=0), setting.dataset.image_shape, generator))
    sizes = [len(images) for images in chosen]
    known = np.concatenate(chosen), np.repeat(np.arange(10), sizes)
    more = np.repeat(np.arange(10), [_TIMES * size for size in sizes])
    sets = {"labelled": known}
    for name, added in (("moved", moved), ("drawn", drawn)):
        sets[name] = np.concatenate([known[0], *added]), np.concatenate([known[1], more])
    return sets, np.concatenate([images[:_SHOWN] for images in drawn])


def _moved(images: np.ndarray, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Each image (N, D) moved by −1, 0 or 1 pixel down and across; what comes in is black."""
    height, width = shape
    framed = np.pad(images.reshape(-1, height, width), ((0, 0), (1, 1), (1, 1)))
    moves = generator.integers(0, 3, (len(images), 2))
    parts = [
        image[down : down + height, across : across + width]
        for image, (down, across) in zip(framed, moves, strict=True)
    ]
    return np.stack(parts).reshape(len(images), -1)


def _rows(accuracy: dict[str, Any], errors: dict[str, Any]) -> list[list[str]]:
    return [
        [
            classifier,
            str(per_class),
            *(
                f"{100 * accuracy[name][classifier][i]:.1f} ± {100 * errors[name][classifier][i]:.1f} %"
                for name in accuracy
            ),
        ]
        for classifier in _CLASSIFIERS
        for i, per_class in enumerate(_PER_CLASS)
    ]


def _seen(accuracy: dict[str, Any], errors: dict[str, Any]) -> str:
    words, gains = [], 0
    for classifier in _CLASSIFIERS:
        verdicts = []
        for i, per_class in enumerate(_PER_CLASS):
            gain = accuracy["drawn"][classifier][i] - accuracy["labelled"][classifier][i]
            error = float(np.hypot(errors["drawn"][classifier][i], errors["labelled"][classifier][i]))
            verdict = "gains" if gain > 2 * error else "loses" if gain < -2 * error else "is level"
            gains += verdict == "gains"
            verdicts.append(f"with {per_class} images of each class it {verdict} ({100 * gain:+.1f} points)")
        words.append(f"The classifier *{classifier}* and drawn images: {', '.join(verdicts)}.")
    cases = len(_CLASSIFIERS) * len(_PER_CLASS)
    best = sum(
        accuracy["drawn"][c][i] - accuracy["moved"][c][i]
        > 2 * float(np.hypot(errors["drawn"][c][i], errors["moved"][c][i]))
        for c in _CLASSIFIERS
        for i in range(len(_PER_CLASS))
    )
    words.append(
        f"That they help shows in {gains} of {cases} cases{', and so not here' * (not gains)}. They beat moved copies, "
        f"which cost nothing, by more than two standard errors in {best} of {cases}. "
        "A VAE that learned from the labelled images alone knows nothing that is not in them: what it can add is "
        "smoothness between them, and its blur can cost more than that."
    )
    return " ".join(words)


def _draw(accuracy: dict[str, Any], errors: dict[str, Any], pictures: np.ndarray, setting: Setting) -> Any:
    figure, axes = make_sheet(9.5, 8.4, "AB;CC", heights=(1, 1.5))
    for panel, classifier in zip("AB", _CLASSIFIERS, strict=True):
        curves = {name: [100 * value for value in values[classifier]] for name, values in accuracy.items()}
        bars = {name: [100 * value for value in values[classifier]] for name, values in errors.items()}
        draw_curves(
            axes[panel], _PER_CLASS, curves, "labelled images of each class", "right (%)", classifier, bars
        )
        axes[panel].set_xscale("log")
        axes[panel].set_xticks(_PER_CLASS, map(str, _PER_CLASS))
        axes[panel].minorticks_off()
    share_legend(figure, axes["A"])
    title = f"Drawn after {_PER_CLASS[-1]} labelled images of each class"
    draw_images(axes["C"], pictures, setting.dataset.image_shape, _SHOWN, title)
    return figure
