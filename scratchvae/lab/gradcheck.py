"""Check hand-written gradients, of a model, a layer or any function, against oracles that share no code with them.

What they can see and what not is derived in `derivations/18-finite_differences.md` and `19-complex_step.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from scratchvae.lab.gradient_report import (
    COMPLEX_STEP_TOLERANCE,
    FINITE_DIFFERENCE_TOLERANCE,
    GradientReport,
    TensorCheck,
)
from scratchvae.lab.layer_check import check_layer
from scratchvae.lab.model_check import check_model
from scratchvae.lab.plan import make_plan
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE

__all__ = [
    "COMPLEX_STEP_TOLERANCE",
    "FINITE_DIFFERENCE_TOLERANCE",
    "GradientReport",
    "TensorCheck",
    "check_gradients",
]


def check_gradients(
    target: VAE | Autoencoder | Callable[..., Any],
    x: np.ndarray | None = None,
    *,
    backward: Callable[..., Any] | None = None,
    gradient: Callable[..., Any] | None = None,
    inputs: Any = None,
    cotangent: Any = None,
    constant: Iterable[str] = (),
    batch_size: int = 4,
    num_samples: int = 1,
    max_entries: int | None = None,
    directions: int | None = None,
    tensor: str | None = None,
    index: tuple[int, ...] | None = None,
    rng: np.random.Generator | int | None = 0,
    progress: bool = False,
) -> GradientReport:
    """Compare hand-written gradients with complex-step and 5-point finite differences.

    Three things can be checked.

    - **A layer**: `check_gradients(forward, backward=backward, inputs={"x": x, "weight": weight})`. backward is
      called like forward in a mirror: where forward returns `y, cache` it takes `(dy, cache)`, for `h, c, cache` it
      takes `(dh, dc, cache)`, for `(h, c), cache` it takes `((dh, dc), cache)`, and for `y` alone, which must not be
      a tuple, `(dy, *inputs)`. It returns one gradient for each input, in order or by name: None, or nothing, for
      those that have none.
    - **A scalar function**: `check_gradients(f, gradient=df, inputs=[z])`; both take the inputs.
    - **A model** of this package: `check_gradients(vae)`. The complex step then differentiates an independent forward
      pass (`scratchvae.lab.forward_oracle`), and differences the model's own, through a float64 twin. Its tensors are
      checked along a random direction for batches of 1, 2 and 64 examples besides, and its layers one by one for the
      loss times 1e-3, 1 and 1e3.

    Of a layer or a function it is the given forward that either oracle differentiates; one that takes complex numbers
    (all arithmetic in NumPy, branches on real parts) is checked to 1e-11, any other, for which the report says why, to
    1e-8 or as sharply as differences allow, at most 1e-10. Errors are relative to the largest entry of the tensor and
    there is no absolute tolerance: what is to be zero must be exactly zero, or change like rounding when the point
    moves by its last digits. Of a layer it is also checked that backward is right for cotangents of the scales 1e-3, 1
    and 1e3, linear, exactly zero at zero, keeps float64, and keeps no state between calls.

    Parameters
    ----------
    target : VAE, Autoencoder or callable
        Is not changed.
    x : ndarray (B, D), optional
        Of a model; by default random data that its likelihood can explain.
    backward, gradient : callable
        What is to be checked; one of them, for a function.
    inputs : dict of str to array, or sequence of arrays
        Of a function, in the order in which it takes them, any shape; floating-point ones are converted to float64 and
        checked, others are passed on as they are.
    cotangent : array or tuple of arrays, optional
        For each output, in its shape; by default random. Errors are relative to a gradient's largest entry: where one
        output is a billion times another, check each alone, with zeros for the other.
    constant : iterable of str
        Floating-point inputs that have no gradient.
    batch_size : int
        B of a model's random data.
    num_samples : int
        S, samples of z per example, for a VAE.
    max_entries : int, optional
        Check so many entries of each tensor, the largest and others chosen at random; by default every entry.
    directions : int, optional
        Compare ⟨v, Jᵀu⟩ with ⟨Jv, u⟩ in so many random directions v of each tensor in place of its entries. (0.6)
        By default 8 where there are more than 20,000 entries in all.
    tensor : str, optional
        Check this one alone.
    index : tuple of int, optional
        Check this entry of it alone, and the largest, against which it is measured.
    rng : Generator, int or None
        Source of data, noise, cotangents, directions and chosen entries.
    progress : bool
        Report on stderr, once two seconds have passed.

    Returns
    -------
    GradientReport
        `.passed`, `.tensors`, `str(report)`, `.raise_if_failed()`.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, and if a function is not deterministic, changes its inputs, or returns what is no
        gradient: another shape, whole or complex numbers, NaN, too few.

    Examples
    --------
    >>> import numpy as np
    >>> def f(z):
    ...     return np.cos(z).sum()
    >>> check_gradients(f, gradient=lambda z: -np.sin(z), inputs=[np.linspace(0, 1, 5)]).passed
    True
    """
    plan = make_plan(rng, max_entries, directions, tensor, index)
    if isinstance(target, VAE | Autoencoder):
        if backward is not None or gradient is not None or inputs is not None:
            raise TypeError(
                "target is a model, which brings its own backward pass and inputs: leave out backward=, gradient= "
                "and inputs="
            )
        return check_model(target, x, batch_size, num_samples, plan, progress=progress)
    if not callable(target):
        raise TypeError(
            f"target is of type {type(target).__name__}, expected a VAE or an Autoencoder, or a function with "
            "backward= or gradient="
        )
    if x is not None:
        raise TypeError("x belongs to a model; a function's arguments come in inputs={'name': array, …}")
    if (batch_size, num_samples) != (4, 1):
        raise TypeError(
            "batch_size and num_samples belong to a model; a function's inputs have their own shapes"
        )
    if (backward is None) == (gradient is None):
        raise TypeError(
            "expected one of backward= (for a layer: dy and the cache to gradients) and gradient= (for a scalar "
            f"function: the inputs to gradients), got {'neither' if backward is None else 'both'}"
        )
    given = gradient if backward is None else backward
    if not callable(given):
        raise TypeError(f"{'gradient' if backward is None else 'backward'} is {given!r}, expected a function")
    if inputs is None:
        raise TypeError(
            "inputs is missing, expected the arrays that the function takes: inputs={'name': array, …}"
        )
    if gradient is not None and cotangent is not None:
        raise TypeError("cotangent belongs to a layer with backward=; a scalar function's is 1")
    return check_layer(
        target, given, inputs, cotangent, constant, plan, scalar=gradient is not None, progress=progress
    )
