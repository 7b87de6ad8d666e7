"""What a sweep tries: all combinations of the values of a space, or some that are drawn from it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from scratchvae.estimators import make_estimator
from scratchvae.randomness import as_generator
from scratchvae.validation import check_integer, check_number

__all__ = ["Range", "Setting", "Space", "grid", "random_search"]

# Draws per setting that is asked for, after which a space is too small to have as many different ones.
_PATIENCE = 1000


class Range(NamedTuple):
    """All numbers from `low` to `high`, drawn so that each factor of ten is as likely as the next."""

    low: float
    high: float


class Setting(NamedTuple):
    """The hyperparameters of one trial."""

    beta: float = 1.0
    latent_dim: int = 8
    width: int = 64  # of the one hidden layer in the encoder, and of the one in the decoder
    learning_rate: float = 1e-3
    estimator: str = "pathwise"
    seed: int = 0

    @property
    def name(self) -> str:
        """Of the trial's folder; no two settings share one."""
        return (
            f"beta-{self.beta!r}-latent-{self.latent_dim}-width-{self.width}-rate-{self.learning_rate!r}-"
            f"{self.estimator}-seed-{self.seed}"
        )


Space: TypeAlias = Mapping[str, Sequence[Any] | Range]

_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "beta": lambda name, value: check_number(name, value, low=0),
    "latent_dim": check_integer,
    "width": check_integer,
    "learning_rate": lambda name, value: check_number(name, value, above=0),
    "estimator": lambda name, value: make_estimator(value).name,
    "seed": lambda name, value: check_integer(name, value, low=0),
}
_RANGED = ("beta", "latent_dim", "width", "learning_rate")


def grid(space: Space) -> list[Setting]:
    """All combinations, the last hyperparameter changing fastest.

    Parameters
    ----------
    space : mapping of str to sequence
        The values of each hyperparameter, a field of `Setting`; one that is left out has its default.

    Returns
    -------
    list of Setting

    Raises
    ------
    ValueError, TypeError
        If a name is unknown, a value is out of its domain or comes twice, or there is none; or if a `Range` is
        given, which has no end of values.
    """
    axes = _checked(space)
    for name, axis in axes.items():
        if isinstance(axis, Range):
            message = f"{name} is the range {_told(axis)}, expected values: a range is for a random search"
            raise ValueError(message)  # noqa: TRY004 - right type, wrong search
    return [Setting._make(values) for values in itertools.product(*axes.values())]


def random_search(space: Space, count: int, rng: np.random.Generator | int | None = None) -> list[Setting]:
    """Different combinations drawn at random, each with every seed of the space.

    Values are drawn alike often, and those of a range by their logarithm, to three digits, so that a table tells
    them whole.

    Parameters
    ----------
    space : mapping of str to sequence or Range
        As for `grid`; ranges are for numbers, and of seeds all are taken.
    count : int
        Combinations to draw; there are `count` times the number of seeds trials.
    rng : Generator, int or None

    Returns
    -------
    list of Setting

    Raises
    ------
    ValueError, TypeError
        As `grid`; or if the space does not have so many combinations.
    """
    axes = _checked(space)
    generator = as_generator(rng)
    seeds = axes.pop("seed")
    # a dict keeps the order of the draws
    drawn: dict[tuple[Any, ...], None] = {}
    for _ in range(_PATIENCE * check_integer("count", count)):
        drawn[tuple(_draw(axis, generator) for axis in axes.values())] = None
        if len(drawn) == count:
            return [Setting._make((*values, seed)) for values in drawn for seed in seeds]
    raise ValueError(
        f"a random search for {count} settings found {len(drawn)} different ones: ask for fewer, or widen the space"
    )


def _checked(space: Space) -> dict[str, Any]:
    """Every axis in the order of `Setting`: a tuple of different values, or a `Range`."""
    if unknown := [name for name in space if name not in _CHECKS]:
        raise ValueError(f"the space has {unknown[0]!r}, expected of: {', '.join(_CHECKS)}")
    return {
        name: _axis(name, space.get(name, (default,)), check)
        for (name, check), default in zip(_CHECKS.items(), Setting(), strict=True)
    }


def _axis(name: str, axis: Any, check: Callable[[str, Any], Any]) -> tuple[Any, ...] | Range:
    if isinstance(axis, str) or not isinstance(axis, Sequence):
        raise TypeError(f"{name} is {axis!r}, expected a sequence of values, such as a tuple")
    if isinstance(axis, Range):
        if name not in _RANGED:
            raise ValueError(f"{name} is the range {_told(axis)}, expected values")
        low, high = (check(name, value) for value in axis)
        if not 0 < low < high:
            raise ValueError(
                f"{name} is the range {_told(axis)}, expected 0 < low < high: it is drawn by its logarithm"
            )
        return Range(low, high)
    values = tuple(check(name, value) for value in axis)
    if not values:
        raise ValueError(f"{name} has no values, expected at least one")
    if twice := [value for i, value in enumerate(values) if value in values[:i]]:
        raise ValueError(f"{name} has the value {twice[0]} twice, expected different ones")
    return values


def _draw(axis: tuple[Any, ...] | Range, generator: np.random.Generator) -> Any:
    if not isinstance(axis, Range):
        return axis[int(generator.integers(len(axis)))]
    low, high = axis
    whole = isinstance(low, int)
    # As wide for whole numbers as those that round to them.
    margin = 0.5 if whole else 0.0
    number = math.exp(generator.uniform(math.log(low - margin), math.log(high + margin)))
    number = round(number) if whole else float(f"{number:.3g}")
    return min(max(number, low), high)


def _told(axis: Range) -> str:
    return f"{axis.low:g}:{axis.high:g}"
