"""What may follow an option: each function turns a text into a value, or says in one sentence what was expected."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

__all__ = ["file", "index", "names", "number", "positive", "seeds", "sizes", "values", "whole"]


def whole(low: int) -> Callable[[str], int]:
    """A parser of whole numbers of at least `low`."""

    def parse(text: str) -> int:
        try:
            result = int(text)
        except ValueError:
            result = low - 1
        if result < low:
            raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number of at least {low}")
        return result

    return parse


def number(text: str) -> float:
    """A finite number of at least 0."""
    try:
        result = float(text)
    except ValueError:
        result = math.nan
    if not 0 <= result < math.inf:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a finite number of at least 0")
    return result


def positive(text: str) -> float:
    """A finite number greater than 0."""
    if (result := number(text)) == 0:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number greater than 0")
    return result


def sizes(text: str) -> tuple[int, ...]:
    """`200,100` as a tuple; `none` as the empty one."""
    try:
        return () if text == "none" else tuple(whole(1)(size) for size in text.split(","))
    except argparse.ArgumentTypeError:
        message = f"got {text!r}, expected sizes of at least 1 with commas between, such as 200,100, or none"
        raise argparse.ArgumentTypeError(message) from None


def index(text: str) -> tuple[int, ...]:
    """`1,2` as a tuple of whole numbers."""
    try:
        return tuple(whole(0)(number) for number in text.split(","))
    except argparse.ArgumentTypeError:
        message = f"got {text!r}, expected whole numbers with commas between, such as 1,2"
        raise argparse.ArgumentTypeError(message) from None


def names(text: str) -> tuple[str, ...]:
    """`pathwise,score-function` as a tuple."""
    result = tuple(name.strip() for name in text.split(","))
    if not all(result):
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected names with commas between, such as pathwise,score-function"
        )
    return result


def values(parse_one: Callable[[str], float]) -> Callable[[str], tuple[float, ...] | dict[str, float]]:
    """A parser of `1,2,4` as a tuple, and of the range `1:4` as its ends by name."""

    def parse(text: str) -> tuple[float, ...] | dict[str, float]:
        parts = text.split(":") if ":" in text else text.split(",")
        try:
            result = tuple(map(parse_one, parts))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{error}, in {text!r}") from None
        if ":" not in text:
            if len(set(result)) < len(result):
                raise argparse.ArgumentTypeError(f"got {text!r}, expected different numbers")
            return result
        if len(result) != 2 or not 0 < result[0] < result[1]:
            raise argparse.ArgumentTypeError(f"got {text!r}, expected a range LOW:HIGH with 0 < LOW < HIGH")
        return {"low": result[0], "high": result[1]}

    return parse


def seeds(text: str) -> tuple[float, ...]:
    """`0,1,2` as a tuple: there is no range of seeds."""
    result = values(whole(0))(text)
    if isinstance(result, dict):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected seeds with commas between, such as 0,1,2")
    return result


def file(text: str) -> Path:
    """The path of a file to write."""
    if text in ("", "-"):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected the path of a file to write")
    return Path(text)
