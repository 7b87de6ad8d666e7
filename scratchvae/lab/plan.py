"""How much of a gradient is checked: every entry, some entries, or random directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratchvae.lab.comparison import Problem
from scratchvae.randomness import as_generator
from scratchvae.validation import check_choice, check_integer

__all__ = ["DIRECTIONS", "MOST_ENTRIES", "Plan", "Work", "make_plan"]

# More entries than this take minutes one by one, so that random directions take their place, so many per tensor.
MOST_ENTRIES = 20_000
DIRECTIONS = 8


@dataclass(frozen=True)
class Work:
    """What is to be done: directions for each tensor, or, if there are none, entries of each, (K,)."""

    directions: int
    entries: dict[str, np.ndarray]
    steps: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What the caller asked for."""

    seed: int
    max_entries: int | None
    directions: int | None
    tensor: str | None
    index: tuple[int, ...] | None

    def names(self, point: Mapping[str, np.ndarray]) -> list[str]:
        """The tensors to check, of any shape."""
        if self.tensor is None:
            return [name for name, tensor in point.items() if tensor.size]
        return [check_choice("tensor", self.tensor, point)]

    def work(self, problem: Problem, names: list[str], rng: np.random.Generator) -> Work:
        """Entries or directions of these tensors."""
        total = sum(problem.point[name].size for name in names)
        notes: tuple[str, ...] = ()
        count = self.directions or 0
        if (
            self.directions is None
            and self.max_entries is None
            and self.index is None
            and total > MOST_ENTRIES
        ):
            count = DIRECTIONS
            instead = f"{count} random directions in each tensor instead"
            notes = (f"{total:,} entries are too many to look at one by one: {instead}",)
        if count:
            return Work(count, {}, count * len(names), notes)
        gradients = next(iter(problem.ways.values()))
        if self.index is not None:
            entries = {name: _one_entry(self.index, gradients[name]) for name in names}
        else:
            entries = {name: some_entries(gradients[name], self.max_entries, rng) for name in names}
        return Work(0, entries, sum(map(len, entries.values())), notes)


def make_plan(rng: Any, max_entries: Any, directions: Any, tensor: Any, index: Any) -> Plan:
    """The plan, checked as far as it can be before the tensors are known."""
    if index is not None:
        if tensor is None:
            raise ValueError(f"index is {index!r} without a tensor: name one with tensor=")
        index = tuple(check_integer("a number in index", number, low=0) for number in np.atleast_1d(index))
    if directions is not None and (max_entries is not None or index is not None):
        raise ValueError(
            f"directions is {directions} and entries are asked for too, by max_entries or index: choose one of them"
        )
    generator = as_generator(rng)
    is_seed = isinstance(rng, int | np.integer)
    return Plan(
        int(rng) if is_seed else int(generator.integers(2**32)),
        None if max_entries is None else check_integer("max_entries", max_entries),
        None if directions is None else check_integer("directions", directions),
        tensor,
        index,
    )


def _one_entry(index: tuple[int, ...], gradient: np.ndarray) -> np.ndarray:
    """Numbers of that entry and of the largest, against which it is measured."""
    if len(index) != gradient.ndim or any(i >= n for i, n in zip(index, gradient.shape, strict=True)):
        raise ValueError(f"index is {index}, expected one within the tensor's shape {gradient.shape}")
    entry = int(np.ravel_multi_index(index, gradient.shape)) if index else 0
    return np.unique([entry, int(np.abs(gradient).argmax())])


def some_entries(gradient: np.ndarray, limit: int | None, rng: np.random.Generator) -> np.ndarray:
    """Which entries (K,) to check: with the largest among them, for the others are measured against it."""
    if limit is None or limit >= gradient.size:
        return np.arange(gradient.size)
    largest = int(np.abs(gradient).argmax())
    others = np.delete(np.arange(gradient.size), largest)
    return np.sort(np.append(rng.choice(others, limit - 1, replace=False), largest))
