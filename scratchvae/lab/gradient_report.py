"""What a gradient check found, tensor by tensor, and in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

__all__ = [
    "COMPLEX_STEP_TOLERANCE",
    "FINITE_DIFFERENCE_TOLERANCE",
    "GradientReport",
    "TensorCheck",
    "zeros_tell_little",
]

# Largest error of a gradient entry, relative to the largest entry of its tensor; there is no absolute tolerance.
COMPLEX_STEP_TOLERANCE = 1e-11
FINITE_DIFFERENCE_TOLERANCE = 1e-8


@dataclass(frozen=True)
class TensorCheck:
    """What was found for one tensor.

    Attributes
    ----------
    name : str
    size, checked : int
        Entries in all, and entries compared; all of them, where directions were.
    complex_step_error, finite_difference_error : float
        The largest error over the largest entry that the oracle gave; zero where both are exactly zero. The first
        is None where the complex step could not be used.
    inconclusive : int
        Entries for which finite differences say nothing: different steps disagree, as they do across a kink of
        relu, or rounding hides a gradient that is small beside the outputs. For these the complex step decides.
    worst_index : tuple of int
        Where the disagreement is largest.
    analytic, complex_step, finite_difference : float
        The values there; None from an oracle that has none.
    undecided : int
        Entries that no oracle can judge.
    directions : int
        Random directions that were compared in place of entries; 0 if entries were.
    finite_difference_tolerance : float
        Sharper than usual where differences alone decide and are exact enough for it.
    way : str
        Which of several ways to the gradient is the worst: the layers one by one, a cotangent of another scale.
    batch_errors : tuple of (int, float)
        Batch sizes, and the error of the gradient along a random direction for each.
    diagnosis : str
        What kind of mistake it looks like; empty where that is unknown, or nothing is wrong.
    confirmed : bool
        Of a layer, whose two oracles differentiate one program: they agree about some entry, if only roughly.
    dismissed : str
        Why a complex step that there is was not used: "contradicted" by differences, or nowhere confirmed by them.
    beneath_rounding : bool
        Neither the gradient nor any difference is larger than what rounding explains.
    remark : str
        What a verdict of ok leaves out.
    """

    name: str
    size: int
    checked: int
    complex_step_error: float | None
    finite_difference_error: float
    inconclusive: int
    worst_index: tuple[int, ...]
    analytic: float
    complex_step: float | None
    finite_difference: float | None = None
    undecided: int = 0
    directions: int = 0
    finite_difference_tolerance: float = FINITE_DIFFERENCE_TOLERANCE
    way: str = ""
    batch_errors: tuple[tuple[int, float], ...] = ()
    diagnosis: str = ""
    confirmed: bool = False
    dismissed: str = ""
    beneath_rounding: bool = False
    remark: str = ""

    @property
    def wrong_batches(self) -> list[int]:
        """Sizes of the batches for which the gradient is wrong."""
        return [size for size, error in self.batch_errors if not error <= COMPLEX_STEP_TOLERANCE]

    @property
    def passed(self) -> bool:
        """Both errors are within their tolerance, for every batch size, and some oracle could judge."""
        compared = self.directions or self.checked
        return (
            (self.complex_step_error is None or self.complex_step_error <= COMPLEX_STEP_TOLERANCE)
            and self.finite_difference_error <= self.finite_difference_tolerance
            and not self.wrong_batches
            and (self.undecided < compared or compared == 0)
        )

    @property
    def only_batches(self) -> bool:
        """Wrong for other batch sizes, and right for the one whose entries were compared."""
        return replace(self, batch_errors=()).passed and bool(self.wrong_batches)

    @property
    def compared(self) -> str:
        """How many entries, or directions, were judged, in words."""
        if self.directions:
            return f"{self.directions} directions"
        return f"{self.checked - self.undecided:,} of {self.size:,}"

    @property
    def verdict(self) -> str:
        """Ok, or what is wrong and where, in one line."""
        if self.undecided and self.undecided == (self.directions or self.checked):
            return "UNDECIDED: no oracle can judge it here: it is lost in rounding, or at kinks: take another point"
        if self.passed and (self.remark or self.undecided):
            return f"ok: {self.remark or f'{self.undecided:,} undecided'}"
        if self.passed:
            undecided = self.inconclusive == (self.directions or self.checked) > 0 and not self.confirmed
            return "unconfirmed: the complex step agrees, differences judge no entry" if undecided else "ok"
        if self.complex_step_error is not None and self.complex_step_error > COMPLEX_STEP_TOLERANCE:
            place = f"WRONG at {self.worst_index}: {self.analytic:.12g}, oracle {self.complex_step:.12g}"
        elif self.finite_difference_error > self.finite_difference_tolerance:
            if self.complex_step_error is None:
                place = f"WRONG at {self.worst_index}: {self.analytic:.12g}, 5-point {self.finite_difference:.12g}"
            else:
                place = "WRONG: the oracle agrees, differences of the model's own loss do not"
        else:
            place = f"WRONG for batches of {', '.join(map(str, self.wrong_batches))}"
        return place

    def explanation(self) -> str:
        """The tensor, the index, all values and errors there, in one sentence."""
        if self.only_batches:
            return f"{self.name}: {self.verdict}, along a random direction; right for the examples that were compared"
        oracles = [
            f"{name} {value:.15g}"
            for name, value in (("complex step", self.complex_step), ("5-point", self.finite_difference))
            if value is not None
        ]
        errors = [
            f"{error:.2g} ({name})"
            for name, error in (
                ("complex step", self.complex_step_error),
                ("5-point", self.finite_difference_error),
            )
            if error is not None
        ]
        way = f", {self.way}" if self.way else ""
        text = (
            f"{self.name}{list(self.worst_index) or ''}: analytic {self.analytic:.15g}{way}; {', '.join(oracles)}; "
            f"error relative to the tensor's largest entry {', '.join(errors)}"
        )
        if self.wrong_batches:
            text += f"; wrong for batches of {', '.join(map(str, self.wrong_batches))}"
        return text


@dataclass(frozen=True)
class GradientReport:
    """The result of `check_gradients`: one `TensorCheck` per tensor, and what else must hold.

    Attributes
    ----------
    tensors : tuple of TensorCheck
    loss_error : float
        Of a model's loss against the oracle's, relative; 0 for a function or a layer, which has no other oracle.
    same_bits_twice : bool
        A second run gave the same bits.
    problems : tuple of str
        What else is wrong, one sentence each: not linear in the cotangent, float32 inside, ….
    notes : tuple of str
        What the reader should know: an oracle that could not be used and why, inputs that were left alone.
    target : str
        What was checked.
    seed : int
        Of all that was random.
    call : str
        The call, without what `rerun` adds.
    errors : mapping of str to ndarray
        Relative error of each entry, in the tensor's shape, NaN where it was not compared; or of each direction,
        shape (directions,).
    """

    tensors: tuple[TensorCheck, ...]
    loss_error: float
    same_bits_twice: bool
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    target: str = ""
    seed: int = 0
    call: str = ""
    errors: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    @property
    def passed(self) -> bool:
        """Every tensor passed, finite differences judged some, the losses agree, a second run gave the same bits.

        A fresh model of relu layers can have a tensor that lies on kinks with every entry: a layer that is dead for
        one example passes zero on, and zero biases keep it there. So not every tensor must be judged twice.
        """
        return (
            self.loss_error <= COMPLEX_STEP_TOLERANCE
            and self.judged
            and self.same_bits_twice
            and not self.problems
            and all(tensor.passed for tensor in self.tensors)
        )

    @property
    def judged(self) -> bool:
        """Finite differences could say something about at least one tensor."""
        return any(t.inconclusive < (t.directions or t.checked) or t.confirmed for t in self.tensors)

    def rerun(self, tensor: TensorCheck) -> str:
        """The Python call that checks just the worst entry of one tensor once more."""
        index = f", index={tensor.worst_index}" if tensor.worst_index and not tensor.only_batches else ""
        return f"{self.call}, tensor={tensor.name!r}{index}, rng={self.seed})"

    def raise_if_failed(self) -> None:
        """Raise an AssertionError that tells everything, unless the check passed."""
        __tracebackhide__ = True  # pytest ends its traceback in the test itself
        if not self.passed:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        return "\n".join([*self._table(), "", *self._findings(), *(f"note: {note}" for note in self.notes)])

    def _table(self) -> list[str]:
        rows = [["tensor", "entries", "complex step", "5-point", "verdict"]]
        for tensor in self.tensors:
            exact = tensor.complex_step_error
            rows.append(
                [
                    tensor.name,
                    tensor.compared,
                    "–" if exact is None else f"{exact:.1e}",
                    f"{tensor.finite_difference_error:.1e}",
                    tensor.verdict.partition(":")[0].partition(" ")[0],
                ]
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]

    def _findings(self) -> list[str]:
        """The verdict, then every mistake with the way to see just that one again."""
        state = "passed" if self.passed else "FAILED"
        lines = [f"{state}: gradients of {self.target or 'the model'}, seed {self.seed}"]
        for tensor in self.tensors:
            if tensor.passed:
                continue
            if tensor.undecided and tensor.undecided == (tensor.directions or tensor.checked):
                lines.append(f"{tensor.name}: {tensor.verdict}")
                continue
            lines.append(tensor.explanation())
            if tensor.diagnosis:
                lines.append(f"  looks like: {tensor.diagnosis}")
            lines.append(f"  again: {self.rerun(tensor)}")
        lines += [f"problem: {problem}" for problem in self.problems]
        if not self.loss_error <= COMPLEX_STEP_TOLERANCE:
            lines.append(f"problem: the loss is not the oracle's, relative error {self.loss_error:.2g}")
        if not self.same_bits_twice:
            lines.append("problem: a second run gave other bits")
        if not self.judged:
            lines.append("problem: finite differences could judge no tensor: choose another point")
        return lines


def zeros_tell_little(tensors: Iterable[TensorCheck], gradients: Mapping[str, np.ndarray]) -> list[str]:
    """A note on the tensors of any shape that pass with a gradient of nothing but zeros, if there are such."""
    zero = ", ".join(t.name for t in tensors if t.passed and not t.remark and not gradients[t.name].any())
    note = (
        f"the gradient of {zero} is exactly zero everywhere here, as a wrong formula's may be too: check it at another "
        "point"
    )
    return [note] if zero else []
