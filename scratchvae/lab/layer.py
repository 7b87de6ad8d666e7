"""Somebody's forward and backward pass, called as they want to be called, with every answer looked at."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from scratchvae.lab.finite_differences import Outputs
from scratchvae.validation import check_array, check_choice

__all__ = ["Layer", "name_of", "named_inputs"]

# How far from the point another call of forward is: far enough to change every digit, near enough for its domain.
_ELSEWHERE = 1e-3
# What forward returned, with each output's place told by its number, the cache's by None; None alone: no cache.
_Structure: TypeAlias = "tuple[Any, ...] | None"


class _Answer(NamedTuple):
    """What forward gave."""

    outputs: Outputs
    structure: _Structure
    cache: Any


def name_of(function: Callable[..., Any]) -> str:
    """A function's own name, for messages."""
    return getattr(function, "__name__", type(function).__name__)


def _names_of_parameters(function: Callable[..., Any]) -> list[str]:
    try:
        return [
            name
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):  # a compiled function does not tell
        return []


def _check_call(function: Callable[..., Any], who: str, arguments: Sequence[str], advice: str) -> None:
    """A TypeError in a sentence where a function does not take so many arguments."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a compiled function does not tell
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise TypeError(
            f"{who} takes {signature}, expected to be called with ({', '.join(arguments)}): {error}; {advice}"
        ) from None


def named_inputs(function: Callable[..., Any], inputs: Any) -> dict[str, Any]:
    """Inputs by name: a mapping as it is, a sequence by the names of the function's parameters."""
    names = _names_of_parameters(function)
    if isinstance(inputs, Mapping):
        if list(inputs) != names[: len(inputs)] and set(inputs) <= set(names):
            raise ValueError(
                f"inputs has {', '.join(inputs)}, expected them in the order in which {name_of(function)} takes them: "
                f"{', '.join(names)}"
            )
        return dict(inputs)
    if isinstance(inputs, np.ndarray | float) or not isinstance(inputs, Sequence) or isinstance(inputs, str):
        raise TypeError(
            f"inputs is of type {type(inputs).__name__}, expected a dict of names and arrays, or a list of arrays"
        )
    names += [f"input {i}" for i in range(len(names), len(inputs))]
    return dict(zip(names, inputs, strict=False))


class Layer:
    """A pair of functions with its inputs; or a scalar function with its gradient.

    Parameters
    ----------
    forward, backward : callable
        See `check_gradients`.
    inputs : dict
        By name, in the order in which forward takes them.
    constant : iterable of str
        Inputs without a gradient.
    scalar : bool
        Whether `backward` is the gradient of a scalar function and takes the inputs themselves.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        inputs: Mapping[str, Any],
        constant: Iterable[str],
        *,
        scalar: bool,
    ) -> None:
        self.forward, self.backward, self.scalar = forward, backward, scalar
        self.what = name_of(forward)
        self.back = name_of(backward)
        if self.back in (self.what, "<lambda>"):
            self.back = "gradient" if scalar else "backward"
        if not inputs:
            raise ValueError(f"inputs is empty, expected the arrays that {self.what} takes")
        constant = (constant,) if isinstance(constant, str) else tuple(constant)
        for name in constant:
            check_choice("a name in constant", name, inputs)
        self.inputs: dict[str, Any] = {}
        self.point: dict[str, np.ndarray] = {}
        for name, value in inputs.items():
            self.inputs[name] = _input(name, value)
            if name not in constant and _is_float(self.inputs[name]):
                self.point[name] = self.inputs[name]
        if not self.point:
            raise ValueError(
                f"inputs has nothing to differentiate: {', '.join(inputs)} are constant or not floating-point"
            )
        if not any(tensor.size for tensor in self.point.values()):
            raise ValueError(
                f"inputs has nothing to differentiate: {', '.join(self.point)} has no entries; expected at least one"
            )
        _check_call(forward, self.what, list(inputs), "inputs has one array for each argument, in order")
        if scalar:
            _check_call(backward, self.back, list(inputs), "gradient takes what the function takes")
        self.left_alone = [name for name in self.inputs if name not in self.point]
        self.float32_in_cache: list[str] = []

    # ---------------------------------------------------------------- forward

    def answer(self) -> _Answer:
        """Forward's outputs at the point as it is, checked, with copies of all inputs."""
        return self._answer(self.inputs)

    def outputs(self) -> Outputs:
        """The outputs (copies, any shape) at the point as it is; inputs are lent, for they are known not to change."""
        outputs, _, _ = self._taken_apart(self.forward(*self.inputs.values()))
        return tuple(np.array(output, dtype=np.float64) for output in outputs)

    def complex_outputs(self, name: str, moved: np.ndarray) -> Outputs:
        """The outputs (any shape) where one input is replaced by complex numbers."""
        outputs, _, _ = self._taken_apart(self.forward(*{**self.inputs, name: moved}.values()))
        return tuple(np.array(output) for output in outputs)

    def _answer(self, inputs: Mapping[str, Any]) -> _Answer:
        lent = {name: copy.copy(value) for name, value in inputs.items()}
        outputs, structure, cache = self._taken_apart(self.forward(*lent.values()))
        self._unchanged(self.what, lent)
        checked = tuple(self._output(output, i, len(outputs)).copy() for i, output in enumerate(outputs))
        if self.scalar and checked[0].ndim:
            raise ValueError(
                f"{self.what} returns an array of shape {checked[0].shape}, expected one number; a layer is checked "
                "with backward= in place of gradient="
            )
        return _Answer(checked, structure, cache)

    def _taken_apart(self, returned: Any) -> tuple[tuple[Any, ...], _Structure, Any]:
        if self.scalar or not isinstance(returned, tuple):
            return (returned,), None, None
        if len(returned) < 2:
            raise TypeError(
                f"{self.what} returns a tuple of {len(returned)}, expected y, (y, cache) or (y, …, cache)"
            )
        outputs: list[Any] = []
        structure: list[Any] = []
        for part in returned[:-1]:
            parts = part if isinstance(part, tuple) else (part,)
            numbers = tuple(range(len(outputs), len(outputs) + len(parts)))
            outputs += parts
            structure.append(numbers if isinstance(part, tuple) else numbers[0])
        return tuple(outputs), tuple(structure), returned[-1]

    def _output(self, output: Any, number: int, count: int) -> np.ndarray:
        name = f"{self.what} returns" + (f" as output {number}" if count > 1 else "")
        array = (
            np.asarray(output)
            if isinstance(output, np.ndarray | np.generic | int | float | complex)
            else None
        )
        if array is None:
            raise TypeError(f"{name} a {type(output).__name__}, expected an array of float64")
        return self._real(name, array)

    def _real(self, name: str, array: np.ndarray) -> np.ndarray:
        if array.dtype.kind == "c":
            raise TypeError(f"{name} complex numbers for real inputs, expected float64")
        if array.dtype.kind != "f":
            raise TypeError(f"{name} {array.dtype} numbers, expected float64")
        if not np.isfinite(array).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise ValueError(f"{name} {array[index]} at index {index}, expected finite numbers")
        return array

    def _unchanged(self, who: str, lent: Mapping[str, Any]) -> None:
        for name, value in lent.items():
            if isinstance(value, np.ndarray) and value.tobytes() != self.inputs[name].tobytes():
                raise ValueError(
                    f"{who} changes its input {name!r} in place; expected it to leave its inputs alone"
                )

    # ---------------------------------------------------------------- backward

    def gradients(self, cotangents: Outputs) -> dict[str, np.ndarray]:
        """Backward's gradients by name, float64 in the shapes of the inputs; those that are None are left out."""
        lent = {name: copy.copy(value) for name, value in self.inputs.items()}
        lent_cotangents = tuple(cotangent.copy() for cotangent in cotangents)
        if self.scalar:
            returned = self.backward(*lent.values())
        else:
            _, structure, cache = self._taken_apart(self.forward(*lent.values()))
            self._check_backward(structure)
            if structure is None:
                returned = self.backward(*lent_cotangents, *lent.values())
            else:
                self.float32_in_cache = _single_precision_arrays(cache, "cache")
                arranged = (
                    tuple(lent_cotangents[i] for i in place)
                    if isinstance(place, tuple)
                    else lent_cotangents[place]
                    for place in structure
                )
                returned = self.backward(*arranged, cache)
        self._unchanged(self.back, lent)
        for given, kept in zip(lent_cotangents, cotangents, strict=True):
            if given.tobytes() != kept.tobytes():
                raise ValueError(f"{self.back} changes the cotangent in place; expected it to leave dy alone")
        return self._by_name(returned)

    def _check_backward(self, structure: _Structure) -> None:
        if structure is None:
            arguments = ["dy", *self.inputs]
            advice = f"or let {self.what} return (y, cache), where cache may be None, for backward(dy, cache)"
        else:
            count = len(structure)
            arguments = [*(["dy"] if count == 1 else [f"dy{i}" for i in range(count)]), "cache"]
            advice = f"what {self.what} returns last is the cache, which may be None"
        _check_call(self.backward, self.back, arguments, advice)

    def gradients_later(self, cotangents: Outputs, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """As `gradients`, shapes as of the inputs, after forward was called with other numbers, and backward before.

        Empty where there is no cache that could be another's.
        """
        _, structure, cache = self._taken_apart(self.forward(*copy.deepcopy(self.inputs).values()))
        if structure is None or cache is None:
            return {}
        others = copy.deepcopy(self.inputs)
        for name in self.point:
            others[name] *= 1 + _ELSEWHERE * rng.random(others[name].shape)
        self.forward(*others.values())
        for _ in range(2):
            returned = self._backward_of(cotangents, structure, cache)
        return self._by_name(returned)

    def _backward_of(self, cotangents: Outputs, structure: tuple[Any, ...], cache: Any) -> Any:
        lent = tuple(cotangent.copy() for cotangent in cotangents)
        arranged = (
            tuple(lent[i] for i in place) if isinstance(place, tuple) else lent[place] for place in structure
        )
        return self.backward(*arranged, cache)

    def _by_name(self, returned: Any) -> dict[str, np.ndarray]:
        if isinstance(returned, Mapping):
            unknown = [str(name) for name in returned if name not in self.inputs]
            missing = [name for name in self.point if name not in returned]
            if unknown or missing:
                raise ValueError(
                    f"{self.back} returns gradients by the names {', '.join(map(str, returned))}, expected "
                    f"{', '.join(self.point)}; None, or the name in constant=, for an input that has no gradient"
                )
            pairs = dict(returned)
        else:
            listed = list(returned) if isinstance(returned, tuple | list) else [returned]
            if len(listed) == len(self.inputs):
                pairs = dict(zip(self.inputs, listed, strict=True))
            elif len(listed) == len(self.point):
                pairs = dict(zip(self.point, listed, strict=True))
            else:
                raise ValueError(
                    f"{self.back} returns {len(listed)} gradient{'s' * (len(listed) != 1)} for the "
                    f"{len(self.inputs)} inputs {', '.join(self.inputs)}; expected one for each: None, or the name in "
                    "constant=, for an input that has no gradient"
                )
        for name in self.left_alone:
            if pairs.get(name) is not None and not _is_float(self.inputs[name]):
                raise ValueError(
                    f"{self.back} returns a gradient for {name!r}, which is not a floating-point input; expected None, "
                    "or an input of floats"
                )
        found = {name: self._gradient(name, pairs[name]) for name in self.point if pairs[name] is not None}
        if not found:
            raise ValueError(f"{self.back} returns None for every input, expected at least one gradient")
        return found

    def _gradient(self, name: str, gradient: Any) -> np.ndarray:
        says = f"{self.back} returns for {name!r}"
        try:
            array = np.asarray(gradient)
        except ValueError:
            raise TypeError(f"{says} a {type(gradient).__name__}, expected an array of float64") from None
        if array.dtype == object:
            raise TypeError(f"{says} a {type(gradient).__name__}, expected an array of float64")
        expected = self.point[name].shape
        if array.shape != expected:
            raise ValueError(f"{says} a gradient of shape {array.shape}, expected {expected} as the input's")
        return self._real(says, array).copy()


def _input(name: str, value: Any) -> Any:
    """Numbers as arrays of float64 of their own; whole numbers and what is no number stay as they are."""
    if isinstance(value, np.ndarray | np.floating | float | list):
        array = np.asarray(value)
        if array.dtype.kind == "f":
            return np.array(check_array(f"inputs[{name!r}]", array, dtype=np.float64))
        if array.dtype.kind == "c":
            raise TypeError(f"inputs[{name!r}] has dtype {array.dtype}, expected real numbers")
        return array.copy() if isinstance(value, np.ndarray) else value
    return value


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.float64


def _single_precision_arrays(value: Any, place: str, depth: int = 0) -> list[str]:
    """Where in a cache there are float32 arrays."""
    if isinstance(value, np.ndarray | np.generic):
        return [place] if value.dtype in (np.float32, np.float16) else []
    if depth > 3:
        return []
    parts: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        parts = [(f"{place}[{key!r}]", part) for key, part in value.items()]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        parts = [(f"{place}.{key}", part) for key, part in zip(value._fields, value, strict=True)]
    elif isinstance(value, tuple | list):
        parts = [(f"{place}[{i}]", part) for i, part in enumerate(value)]
    return [found for name, part in parts for found in _single_precision_arrays(part, name, depth + 1)]
