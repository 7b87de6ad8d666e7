"""The gradient of a function, or the backward pass of a layer, against its forward pass alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from scratchvae.lab.comparison import COTANGENT_SCALES, Problem, check_directions, check_entries
from scratchvae.lab.complex_step import imaginary_step, why_not_complex
from scratchvae.lab.finite_differences import Outputs, measured_noise, power_of_two, step_scale
from scratchvae.lab.gradient_report import GradientReport, TensorCheck, zeros_tell_little
from scratchvae.lab.layer import Layer, name_of, named_inputs
from scratchvae.lab.layer_laws import (
    check_linear,
    check_precision,
    check_same_gradients,
    check_same_outputs,
    check_state,
)
from scratchvae.lab.plan import Plan
from scratchvae.randomness import spawn
from scratchvae.training.progress import Progress
from scratchvae.validation import check_array

__all__ = ["check_layer"]

# A move that changes nothing but what was rounded.
_LAST_DIGITS = 1e-12
_MOVES = 5  # in which rounding hardly ever is the same
_LINES = 2  # along which the noise of the outputs is measured, at five distances
# The same for the gradient, and for the oracle. Few of their digits may be left, so that it takes larger moves to
# change one; lines have other units, and pass beside the point: numbers on the grid of roundings look smooth.
_FARTHER = tuple(32 * 2 ** (k / 8) for k in range(8))
_BESIDE = 2.0**-20
# Roundings of numbers no larger than inputs, cotangents and 1 that may add up in a gradient.
_FEW_ROUNDINGS = 64 * float(np.finfo(np.float64).eps)
_TIMES_NOISE = 3  # the noise that is seen may be less than the largest
_ONLY_ROUNDING = "zero but for rounding"
_UNCONFIRMED = "by the complex step alone, of which differences see nothing"


def check_layer(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Any,
    cotangent: Any,
    constant: Any,
    plan: Plan,
    *,
    scalar: bool,
    progress: bool,
) -> GradientReport:
    """Check every input's gradient, see `check_gradients`; inputs may have any shape."""
    layer = Layer(forward, backward, named_inputs(forward, inputs), constant, scalar=scalar)
    cotangent_rng, entry_rng = spawn(plan.seed, 2)
    answer = layer.answer()
    check_same_outputs(layer, answer.outputs, layer.answer().outputs)
    cotangents = _cotangents(answer.outputs, cotangent, cotangent_rng, scalar=scalar)
    scales = (1.0,) if scalar else COTANGENT_SCALES
    raw = {scale: layer.gradients(tuple(scale * u for u in cotangents)) for scale in scales}
    check_same_gradients(layer, raw[1.0], layer.gradients(cotangents))
    _note_none(layer, raw[1.0])
    problems = check_precision(layer, answer.outputs, raw[1.0], cotangents, entry_rng)
    ways = {
        "" if scale == 1 else f"for a cotangent times {scale:g}": {
            name: gradient.astype(np.float64) / scale for name, gradient in gradients.items()
        }
        for scale, gradients in raw.items()
    }
    why = _why_not_complex(layer, answer.outputs, entry_rng)
    problem = Problem(
        layer.point,
        ways,
        cotangents,
        layer.outputs,
        None if why else _quietly(layer.complex_outputs),
        independent=False,
        sizes=_sizes(layer, answer.outputs),
        noise={
            name: _noise(layer, name, layer.outputs, entry_rng)
            for name, tensor in layer.point.items()
            if tensor.size
        },
    )
    names = plan.names(layer.point)
    work = plan.work(problem, names, entry_rng)
    tensors, errors = [], {}
    with Progress("checking gradients", work.steps, progress) as bar:
        for name in names:
            if work.directions:
                check, errors[name] = check_directions(name, problem, work.directions, entry_rng, bar)
            else:
                check, errors[name] = check_entries(name, problem, work.entries[name], bar, plan.index)
            check = _settled(layer, problem, check, cotangents, entry_rng)
            tensors.append(_blamed_on_rounding(layer, problem, check, cotangents, entry_rng))
    if not scalar:
        more_than_rounding = [tensor.name for tensor in tensors if tensor.remark != _ONLY_ROUNDING]
        problems += check_linear(layer, cotangents, more_than_rounding, entry_rng)
        problems += check_state(layer, cotangents, raw[1.0], entry_rng)
    check_same_outputs(layer, answer.outputs, layer.answer().outputs)
    check_same_gradients(layer, raw[1.0], layer.gradients(cotangents))
    notes = (*work.notes, *_notes(layer, why, tensors), *zeros_tell_little(tensors, raw[1.0]))
    how = "gradient" if scalar else "backward"
    return GradientReport(
        tuple(tensors),
        0.0,
        same_bits_twice=True,
        problems=problems,
        notes=notes,
        target=layer.what,
        seed=plan.seed,
        call=f"check_gradients({_in_a_call(forward, 'forward')}, {how}={_in_a_call(backward, how)}, inputs=inputs"
        + ("" if cotangent is None else ", cotangent=cotangent")
        + (f", constant={constant!r}" if constant else ""),
        errors=errors,
    )


def _in_a_call(function: Callable[..., Any], otherwise: str) -> str:
    """A name that can be typed: a lambda has none."""
    name = name_of(function)
    return name if name.isidentifier() else otherwise


def _quietly(function: Callable[[str, np.ndarray], Outputs]) -> Callable[[str, np.ndarray], Outputs]:
    """Complex numbers may overflow where real ones do not; what comes out is judged later."""

    def quiet(name: str, moved: np.ndarray) -> Outputs:
        with np.errstate(all="ignore"):
            return function(name, moved)

    return quiet


def _cotangents(outputs: Outputs, given: Any, rng: np.random.Generator, *, scalar: bool) -> Outputs:
    """One per output, float64 of its shape: as given, or random."""
    if scalar:
        return (np.ones(()),)
    if given is None:
        return tuple(rng.standard_normal(output.shape) for output in outputs)
    listed = given if isinstance(given, tuple | list) and len(outputs) > 1 else (given,)
    if len(listed) != len(outputs):
        raise ValueError(
            f"cotangent has {len(listed)} arrays, expected one for each of {len(outputs)} outputs"
        )
    for u, output in zip(listed, outputs, strict=True):
        if np.shape(u) != output.shape:
            raise ValueError(f"cotangent has shape {np.shape(u)}, expected {output.shape} as the output's")
    checked = tuple(np.array(check_array("cotangent", u, dtype=np.float64)) for u in listed)
    if not any(u.any() for u in checked):
        raise ValueError(
            "cotangent is zero everywhere, which any linear backward takes to zero: leave it out"
        )
    return checked


def _note_none(layer: Layer, gradients: Mapping[str, np.ndarray]) -> None:
    """What backward has no gradient for is left alone from now on."""
    for name in [name for name in layer.point if name not in gradients]:
        del layer.point[name]
        layer.left_alone.append(name)


def _settled(
    layer: Layer, problem: Problem, check: TensorCheck, cotangents: Outputs, rng: np.random.Generator
) -> TensorCheck:
    """What becomes of a tensor that differences see nothing of, neither a gradient nor anything but rounding.

    Numbers that change at random when the point moves by its last digits are rounding: the gradient is zero, as that
    of a bias before a batch normalization is. If they do not, the complex step decides alone.
    """
    compared = check.directions or check.checked
    if not (check.undecided == compared > 0 and check.beneath_rounding):
        return check
    direction = rng.standard_normal(problem.point[check.name].shape)
    kept = {name: array.copy() for name, array in layer.point.items()}

    def sources() -> list[np.ndarray]:
        along = layer.gradients(cotangents)[check.name] * direction
        if problem.complex_outputs is None:
            return [along]
        return [along, np.asarray(problem.complex_slope(check.name, direction)[0])]

    here = sources()
    for _ in range(_MOVES):
        try:
            for array in layer.point.values():
                np.multiply(array, 1 + _LAST_DIGITS * rng.standard_normal(array.shape), out=array)
            there = sources()
        finally:
            for name, array in kept.items():
                layer.point[name][...] = array
        if any(np.abs(b - a).max() > 0.1 * np.abs(a).max() for a, b in zip(here, there, strict=True)):
            return replace(check, confirmed=True, undecided=0, remark=_ONLY_ROUNDING)
    if len(here) == 1:
        return check
    along, exact = here
    error = np.abs(along.sum() - exact) / max(np.abs(exact), np.linalg.norm(along))
    return replace(
        check,
        confirmed=True,
        undecided=0,
        complex_step_error=float(error),
        worst_index=(),
        analytic=float(along.sum()),
        complex_step=float(exact),
        dismissed="",
        remark=_UNCONFIRMED,
    )


def _notes(layer: Layer, why: str, tensors: list[TensorCheck]) -> list[str]:
    notes = []
    undecided = sum(tensor.undecided for tensor in tensors)
    if undecided:
        notes.append(
            f"{undecided} entries are at kinks, or lost in rounding, where no oracle can judge; at a kink any slope "
            "between those on its two sides is right"
        )
    if why:
        notes.append(f"{layer.what} allows no complex step: {why}; differences decide alone")
    contradicted = [tensor.name for tensor in tensors if tensor.dismissed == "contradicted"]
    if contradicted:
        notes.append(
            f"the complex step is not used for {', '.join(contradicted)}: it is not what differences of {layer.what} "
            "give, as where an absolute value, a norm or a variance of complex numbers is taken; differences decide "
            "alone"
        )
    unconfirmed = [
        tensor.name for tensor in tensors if tensor.dismissed == "unconfirmed" and tensor.undecided
    ]
    if unconfirmed and not why:
        notes.append(
            f"the complex step is not used for {', '.join(unconfirmed)}: differences are too inexact there to confirm "
            "it; choose a point further from the edge of the domain, or from where the gradient vanishes"
        )
    if empty := [name for name, tensor in layer.point.items() if not tensor.size]:
        notes.append(f"not checked, for they have no entries: {', '.join(empty)}")
    if layer.left_alone:
        notes.append(f"not checked, for they have no gradient: {', '.join(layer.left_alone)}")
    return notes


def _noise(
    layer: Layer, name: str, answers: Callable[[], Outputs], rng: np.random.Generator, farther: bool = False
) -> Outputs:
    """Of each answer, in its shape, while one input moves: the largest along random lines, near or farther."""
    tensor = layer.point[name]
    kept = tensor.copy()
    unit = power_of_two(min(step_scale(tensor), 1.0) / math.sqrt(tensor.size))

    def along_a_line(times: float) -> Outputs:
        # Through the point, by powers of two: x + t is exact, or nearly.
        start = kept + _BESIDE * times * unit * rng.uniform(-1, 1, tensor.shape) if farther else kept
        line = times * unit * rng.choice([-1.0, 1.0], tensor.shape)

        def moved(t: float) -> Outputs:
            tensor[...] = start + t * line
            try:
                return answers()
            finally:
                tensor[...] = kept

        return measured_noise(moved)

    several = [along_a_line(times) for times in (_FARTHER if farther else (1.0,) * _LINES)]
    return tuple(np.max(of_answer, axis=0) for of_answer in zip(*several, strict=True))


def _blamed_on_rounding(
    layer: Layer, problem: Problem, check: TensorCheck, cotangents: Outputs, rng: np.random.Generator
) -> TensorCheck:
    """A mistake that is no larger than what float64 leaves where numbers cancel.

    If they do in forward, as in log Σ eˣ − x, the oracle is off as well and cannot judge; or in backward, as in 1 − s.
    """
    right = check.complex_step if check.complex_step is not None else check.finite_difference
    if check.passed or right is None or len(check.worst_index) != layer.point[check.name].ndim:
        return check
    off = abs(check.analytic - right)
    numbers = max(1.0, *(step_scale(array) for array in layer.point.values()))
    if off > _FEW_ROUNDINGS * numbers * max(step_scale(u) for u in cotangents):
        return check

    def oracle() -> Outputs:
        if check.complex_step is not None:
            return (np.asarray(problem.complex_slope(check.name, check.worst_index)[0]),)
        return (np.asarray(problem.slope(check.name, check.worst_index, 0.0).value),)

    if off <= _TIMES_NOISE * _noise(layer, check.name, oracle, rng, farther=True)[0]:
        return replace(check, undecided=check.directions or check.checked, diagnosis="")
    ours = _noise(layer, check.name, lambda: (layer.gradients(cotangents)[check.name],), rng, farther=True)
    if off > _TIMES_NOISE * ours[0][check.worst_index]:
        return check
    return replace(
        check,
        diagnosis="rounding: numbers cancel in backward, as in 1 − s; take another formula, or another point",
    )


def _sizes(layer: Layer, outputs: Outputs) -> tuple[int, ...]:
    """Numbers that a wrong constant may be made of: sizes of axes, and of whole arrays."""
    arrays = [*(value for value in layer.inputs.values() if isinstance(value, np.ndarray)), *outputs]
    return tuple({size for array in arrays for size in (*array.shape, array.size)})


def _why_not_complex(layer: Layer, outputs: Outputs, rng: np.random.Generator) -> str:
    for name, tensor in layer.point.items():
        if not tensor.size:
            continue
        direction = rng.standard_normal(tensor.shape)
        moved = tensor + 1j * imaginary_step(tensor, direction) * direction
        if why := why_not_complex(lambda n=name, m=moved: layer.complex_outputs(n, m), outputs):  # type: ignore[misc]
            return why if len(layer.point) == 1 else f"given complex {name!r}, {why}"
    return ""
