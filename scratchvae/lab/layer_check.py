"""The gradient of a function, or the backward pass of a layer, against its forward pass alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from scratchvae.lab.comparison import COTANGENT_SCALES, Problem, check_directions, check_entries
from scratchvae.lab.complex_step import imaginary_step, why_not_complex
from scratchvae.lab.finite_differences import Outputs, step_scale
from scratchvae.lab.gradient_report import COMPLEX_STEP_TOLERANCE, GradientReport, TensorCheck
from scratchvae.lab.layer import Layer, name_of, named_inputs
from scratchvae.lab.plan import Plan
from scratchvae.randomness import spawn
from scratchvae.training.progress import Progress
from scratchvae.validation import check_array

__all__ = ["check_layer"]

# A move that changes nothing but what was rounded.
_LAST_DIGITS = 1e-12
_MOVES = 5  # in which rounding hardly ever is the same
_ONLY_ROUNDING = "zero but for rounding"
_UNCONFIRMED = "by the complex step alone, of which differences see nothing"
# Of a relative move that float64 resolves to six digits and float32 not at all. (18.8)
_TINY_MOVE = 2.0**-30
_LOOKS = 4


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
    _same_outputs(layer, answer.outputs, layer.answer().outputs)
    cotangents = _cotangents(answer.outputs, cotangent, cotangent_rng, scalar=scalar)
    scales = (1.0,) if scalar else COTANGENT_SCALES
    raw = {scale: layer.gradients(tuple(scale * u for u in cotangents)) for scale in scales}
    _same_gradients(layer, raw[1.0], layer.gradients(cotangents))
    _note_none(layer, raw[1.0])
    problems = _single_precision(layer, answer.outputs, raw[1.0], cotangents, entry_rng)
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
            tensors.append(_settled(layer, problem, check, cotangents, entry_rng))
    if not scalar:
        rounding = [tensor.name for tensor in tensors if tensor.remark == _ONLY_ROUNDING]
        problems += _linear(layer, cotangents, rounding, entry_rng)
        problems += _keeps_state(layer, cotangents, raw[1.0], entry_rng)
    _same_outputs(layer, answer.outputs, layer.answer().outputs)
    _same_gradients(layer, raw[1.0], layer.gradients(cotangents))
    zero = [t.name for t in tensors if t.passed and not t.remark and not raw[1.0][t.name].any()]
    notes = (*work.notes, *_notes(layer, why, tensors, zero))
    how = "gradient" if scalar else "backward"
    return GradientReport(
        tuple(tensors),
        0.0,
        same_bits_twice=True,
        problems=problems,
        notes=notes,
        target=layer.what,
        seed=plan.seed,
        call=f"check_gradients({name_of(forward)}, {how}={name_of(backward)}, inputs=inputs"
        + ("" if cotangent is None else ", cotangent=cotangent")
        + (f", constant={constant!r}" if constant else ""),
        errors=errors,
    )


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


def _same_outputs(layer: Layer, first: Outputs, second: Outputs) -> None:
    if [output.shape for output in first] != [output.shape for output in second]:
        raise ValueError(f"{layer.what} returns outputs of other shapes when called again; expected the same")
    for one, other in zip(first, second, strict=True):
        if one.tobytes() != other.tobytes():
            raise ValueError(
                f"{layer.what} is not deterministic: called twice with the same inputs, outputs differ by up to "
                f"{np.abs(one - other).max():.3g}; pass its noise, or a seed, as an input"
            )


def _same_gradients(layer: Layer, first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> None:
    for name, gradient in first.items():
        if name not in second or gradient.tobytes() != second[name].tobytes():
            raise ValueError(
                f"{layer.back} is not deterministic: called twice with the same arguments, the gradients of {name!r} "
                "differ; expected the same bits"
            )


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
        dismissed="",
        remark=_UNCONFIRMED,
    )


def _notes(layer: Layer, why: str, tensors: list[TensorCheck], zero: list[str]) -> list[str]:
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
    if zero:
        notes.append(
            f"the gradient of {', '.join(zero)} is exactly zero everywhere here, as a wrong formula's may be too: "
            "check it at another point"
        )
    if empty := [name for name, tensor in layer.point.items() if not tensor.size]:
        notes.append(f"not checked, for they have no entries: {', '.join(empty)}")
    if layer.left_alone:
        notes.append(f"not checked, for they have no gradient: {', '.join(layer.left_alone)}")
    return notes


def _keeps_state(
    layer: Layer, cotangents: Outputs, right: Mapping[str, np.ndarray], rng: np.random.Generator
) -> tuple[str, ...]:
    """Whether a backward pass is another after forward was called elsewhere, or after backward itself."""
    found = layer.gradients_later(cotangents, rng)
    return tuple(
        f"{layer.back} gives another gradient of {name!r} when {layer.what} was called with other numbers in between, "
        f"or {layer.back} before: the cache is changed, or shared between calls; expected each to have its own"
        for name, gradient in found.items()
        if gradient.tobytes() != right[name].tobytes()
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


def _linear(
    layer: Layer, cotangents: Outputs, rounding: list[str], rng: np.random.Generator
) -> tuple[str, ...]:
    """Linear in the cotangent, but for gradients that are only rounding; and exactly zero for zero."""
    found = []
    others = tuple(rng.standard_normal(u.shape) for u in cotangents)
    a, b = -0.75, 1.5
    one, other = layer.gradients(cotangents), layer.gradients(others)
    both = layer.gradients(tuple(a * u + b * w for u, w in zip(cotangents, others, strict=True)))
    for name in one:
        if name in rounding:
            continue
        if name not in other or name not in both:
            found.append(f"{layer.back} returns None for {name!r} for some cotangents and not for others")
            continue
        scale = max(float(np.abs(part).max(initial=0)) for part in (a * one[name], b * other[name]))
        off = np.abs(both[name] - (a * one[name] + b * other[name]))
        if off.max(initial=0) > COMPLEX_STEP_TOLERANCE * scale:
            index = tuple(int(i) for i in np.unravel_index(off.argmax(), off.shape))
            found.append(
                f"{layer.back} is not linear in the cotangent: for {name!r} at {index}, backward(−0.75 u + 1.5 w) "
                f"differs from −0.75 backward(u) + 1.5 backward(w) by {off.max() / scale:.2g} of the largest entry"
                if scale
                else f"{layer.back} is not linear in the cotangent for {name!r}"
            )
    for name, gradient in layer.gradients(tuple(np.zeros_like(u) for u in cotangents)).items():
        if gradient.any():
            index = tuple(int(i) for i in np.argwhere(gradient)[0])
            found.append(
                f"{layer.back} gives {gradient[index]:.3g} for {name!r} at {index} where the cotangent is zero; "
                "expected exactly zero"
            )
    return tuple(found)


def _single_precision(
    layer: Layer,
    outputs: Outputs,
    gradients: Mapping[str, np.ndarray],
    cotangents: Outputs,
    rng: np.random.Generator,
) -> tuple[str, ...]:
    """Where float64 is not kept: in dtypes, and in how forward answers to a tiny move. (18.8)"""
    found = [
        f"{layer.what} returns {output.dtype} for float64 inputs; expected float64 throughout"
        for output in outputs
        if output.dtype != np.float64
    ]
    found += [
        f"{layer.back} returns {gradient.dtype} for {name!r}; expected float64 throughout"
        for name, gradient in gradients.items()
        if gradient.dtype != np.float64
    ]
    found += [f"{name} for {gradients_name}" for name, gradients_name in _grid(layer, gradients)]
    for name, tensor in layer.point.items():
        # Chance may make one of them look smooth.
        if tensor.size and any(_rounds(layer, name, tensor, cotangents, rng) for _ in range(_LOOKS)):
            found.append(
                f"{layer.what} rounds to float32 on the way from {name!r}: a move of 1e-9 does not change it as a "
                "larger one does"
            )
    return tuple(found)


def _grid(layer: Layer, gradients: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
    """Gradients that float32 holds exactly although their arithmetic did not, together with float32 in the cache."""
    found = []
    for name, gradient in gradients.items():
        values = gradient[gradient != 0].astype(np.float64)
        with np.errstate(over="ignore", under="ignore"):
            if layer.float32_in_cache and values.size and (values.astype(np.float32) == values).all():
                found.append(
                    (f"{layer.back} works in float32 ({', '.join(layer.float32_in_cache)})", repr(name))
                )
    return found


def _rounds(
    layer: Layer, name: str, tensor: np.ndarray, cotangents: Outputs, rng: np.random.Generator
) -> bool:
    """Whether differences over a tiny step are nothing like those over two larger ones. (18.8)"""
    direction = rng.standard_normal(tensor.shape)
    direction *= step_scale(tensor) / np.abs(direction).max()
    kept = tensor.copy()

    def slopes(step: float) -> list[np.ndarray]:
        try:
            tensor[...] = kept + step * direction
            above = layer.outputs()
            tensor[...] = kept - step * direction
            below = layer.outputs()
        finally:
            tensor[...] = kept
        return [(up - down) / (2 * step) for up, down in zip(above, below, strict=True)]

    with np.errstate(all="ignore"):
        try:
            tiny, small, large = slopes(_TINY_MOVE), slopes(2.0**-14), slopes(2.0**-12)
        except (ArithmeticError, ValueError):  # the end of its domain is near: nothing can be said
            return False
    for one, other, third, output in zip(tiny, small, large, layer.outputs(), strict=True):
        size = float(np.abs(other).max(initial=0))
        smooth = np.abs(other - third).max(initial=0) <= 0.05 * size
        # What float64 leaves of the difference: a few roundings of the output.
        rounding = 64 * np.finfo(np.float64).eps / _TINY_MOVE * float(np.abs(output).max(initial=0))
        if size > 0 and smooth and rounding < 0.1 * size and np.abs(one - other).max() > 0.5 * size:
            return True
    return False
