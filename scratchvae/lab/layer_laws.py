"""What else holds of a forward and backward pass: the same bits twice, no state, linear in the cotangent, float64.

Each function gives sentences, one for each tensor that breaks the law; or raises, where nothing can be checked then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from scratchvae.lab.finite_differences import Outputs, step_scale
from scratchvae.lab.gradient_report import COMPLEX_STEP_TOLERANCE
from scratchvae.lab.layer import Layer

__all__ = ["check_linear", "check_precision", "check_same_gradients", "check_same_outputs", "check_state"]

# Of a relative move that float64 resolves to six digits and float32 not at all. (18.8)
_TINY_MOVE = 2.0**-30
_LOOKS = 4


def _bits(array: np.ndarray) -> bytes:
    """Of the numbers as float64: a longdouble has bytes that are no part of its number."""
    return array.astype(np.float64).tobytes()


def check_same_outputs(layer: Layer, first: Outputs, second: Outputs) -> None:
    """A ValueError unless two calls gave outputs of the same shapes and bits; any shape."""
    if [output.shape for output in first] != [output.shape for output in second]:
        raise ValueError(f"{layer.what} returns outputs of other shapes when called again; expected the same")
    for one, other in zip(first, second, strict=True):
        if _bits(one) != _bits(other):
            raise ValueError(
                f"{layer.what} is not deterministic: called twice with the same inputs, outputs differ by up to "
                f"{np.abs(one - other).max():.3g}; pass its noise, or a seed, as an input"
            )


def check_same_gradients(
    layer: Layer, first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]
) -> None:
    """A ValueError unless two calls gave gradients, shapes as of the inputs, of the same bits."""
    for name, gradient in first.items():
        if name not in second or _bits(gradient) != _bits(second[name]):
            raise ValueError(
                f"{layer.back} is not deterministic: called twice with the same arguments, the gradients of {name!r} "
                "differ; expected the same bits (a sum from all calls must begin with zeros each time)"
            )


def check_state(
    layer: Layer, cotangents: Outputs, right: Mapping[str, np.ndarray], rng: np.random.Generator
) -> tuple[str, ...]:
    """Whether backward is another after forward was called elsewhere, or backward before; shapes as of the inputs."""
    found = layer.gradients_later(cotangents, rng)
    return tuple(
        f"{layer.back} gives another gradient of {name!r} when {layer.what} was called with other numbers in between, "
        f"or {layer.back} before: the cache is changed, or shared between calls; expected each to have its own"
        for name, gradient in found.items()
        if _bits(gradient) != _bits(right[name])
    )


def check_linear(
    layer: Layer, cotangents: Outputs, names: Iterable[str], rng: np.random.Generator
) -> tuple[str, ...]:
    """Whether backward is linear in the cotangents, any shape, for these inputs; and exactly zero for zero."""
    found = []
    others = tuple(rng.standard_normal(u.shape) for u in cotangents)
    a, b = -0.75, 1.5
    one, other = layer.gradients(cotangents), layer.gradients(others)
    both = layer.gradients(tuple(a * u + b * w for u, w in zip(cotangents, others, strict=True)))
    for name in names:
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


def check_precision(
    layer: Layer,
    outputs: Outputs,
    gradients: Mapping[str, np.ndarray],
    cotangents: Outputs,
    rng: np.random.Generator,
) -> tuple[str, ...]:
    """Where float64 is not kept: in dtypes, any shape, and in how forward answers to a tiny move. (18.8)"""
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

    def moved(step: float) -> Outputs:
        tensor[...] = kept + step * direction
        try:
            return layer.outputs()
        finally:
            tensor[...] = kept

    middle = layer.outputs()

    def slopes(step: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
        sides = list(zip(moved(step), middle, moved(-step), strict=True))
        return (
            [(up - down) / (2 * step) for up, _, down in sides],
            [((up - here) - (here - down)) / step for up, here, down in sides],
        )

    with np.errstate(all="ignore"):
        try:
            (tiny, _), (small, bends), (large, _) = (
                slopes(step) for step in (_TINY_MOVE, 2.0**-14, 2.0**-12)
            )
        except (ArithmeticError, ValueError):  # the end of its domain is near: nothing can be said
            return False
    # Outputs may be small differences of numbers as large as the inputs.
    inputs = max(step_scale(array) for array in layer.point.values() if array.size)
    for one, other, bend, third, output in zip(tiny, small, bends, large, middle, strict=True):
        size = float(np.abs(other).max(initial=0))
        # What float64 leaves of the difference: a few roundings.
        numbers = max(float(np.abs(output).max(initial=0)), inputs)
        rounding = 64 * np.finfo(np.float64).eps / _TINY_MOVE * numbers
        smooth = np.abs(other - third).max(initial=0) <= 0.05 * size
        # Next to a kink too a tiny move is not like a larger one.
        jumps = (np.abs(one - other) > max(0.5 * size, rounding)) & (np.abs(bend) <= 0.05 * size)
        if size > 0 and smooth and jumps.any():
            return True
    return False
