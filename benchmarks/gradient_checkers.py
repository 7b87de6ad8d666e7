"""The planted mistakes under the gradient checkers that people use: which does each let through?

    python -m benchmarks.gradient_checkers [torch] [torch-fast] [jax] [autograd] [ours]

Every mistake of `tests.planted.bugs` that a check of the gradient can see is planted in the shipped code, in turn. The
loss of a small VAE and its hand-written gradient are then handed to each checker as a project would do it: to
`torch.autograd.gradcheck`, slow and fast, as a `torch.autograd.Function`; to JAX's `check_grads` as a `custom_vjp`; to
autograd's `check_grads` as a `primitive` with its `defvjp`; all with their default tolerances and first derivatives
only. Ours is `sv.check_gradients`. The loss is taken as it is, a thousandth of it, and a thousand times it. The correct
code is checked too, with several seeds: what a checker says against it is a false alarm.

Needs `pip install '.[test,peers]'`; a peer that is missing is reported as missing. Writes
benchmarks/results/gradient_checkers.json after each checker, and keeps what it says of those that were not asked. A few
minutes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from scratchvae.models.vae import VAE
from scratchvae.training.progress import Progress
from scratchvae.training.run_directory import versions
from tests.planted import checks
from tests.planted.bugs import BUGS
from tests.planted.source import planted

RESULT = Path(__file__).parent / "results" / "gradient_checkers.json"
SEEDS = range(5)  # of the noise, or of what the checker draws itself, for the correct code

Arrays = Sequence[np.ndarray]


class Case:
    """A model's loss as a function of its parameter arrays, with the hand-written gradient, for one setting."""

    def __init__(self, setting: dict[str, Any], seed: int) -> None:
        self.setting, self.seed = setting, seed
        self.model, self.x = checks.make_model(setting)
        self.arrays = [parameter.copy() for parameter in self.model.parameters.values()]
        shape = (setting.get("num_samples", 1), len(self.x), checks.SIZE)
        noise = np.random.default_rng(seed).standard_normal(shape)
        self.arguments = (self.x, noise) if isinstance(self.model, VAE) else (self.x,)

    def _put(self, arrays: Arrays) -> None:
        for parameter, array in zip(self.model.parameters.values(), arrays, strict=True):
            parameter[...] = array

    def restore(self) -> None:
        """What one checker left must not meet the next one."""
        self._put(self.arrays)
        self.model.gradient = np.zeros_like(self.model.gradient)

    def loss(self, *arrays: np.ndarray) -> np.ndarray:
        self._put(arrays)
        return np.asarray(self.model.loss(*self.arguments))

    def gradients(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """By the fused kernel where the setting names one, else layer by layer."""
        self._put(arrays)
        if isinstance(self.model, VAE) and "kernel" not in self.setting:
            return list(self.model.gradients_by_layers(*self.arguments).values())
        with checks.fused_kernel(self.setting.get("kernel")):
            return list(self.model.loss_and_gradients(*self.arguments)[1].values())


# --- the checkers: each takes a case and says whether it passes -------------------------------------------


def by_torch(case: Case, fast: bool) -> bool:
    import torch

    class Loss(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Any) -> Any:
            ctx.save_for_backward(*tensors)
            return torch.from_numpy(case.loss(*(tensor.detach().numpy() for tensor in tensors)))

        @staticmethod
        def backward(ctx: Any, dloss: Any) -> Any:
            gradients = case.gradients(*(tensor.detach().numpy() for tensor in ctx.saved_tensors))
            return tuple(dloss * torch.from_numpy(gradient) for gradient in gradients)

    torch.manual_seed(case.seed)
    tensors = tuple(torch.tensor(array, requires_grad=True) for array in case.arrays)
    return torch.autograd.gradcheck(Loss.apply, tensors, raise_exception=False, fast_mode=fast)


def by_jax(case: Case) -> bool:
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)
    of_loss = jax.ShapeDtypeStruct((), np.float64)
    of_gradients = [jax.ShapeDtypeStruct(array.shape, np.float64) for array in case.arrays]

    def on_numpy(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arrays: function(*map(np.asarray, arrays))

    @jax.custom_vjp
    def loss(*arrays: Any) -> Any:
        return jax.pure_callback(on_numpy(case.loss), of_loss, *arrays)

    def backward(arrays: Any, dloss: Any) -> Any:
        gradients = jax.pure_callback(on_numpy(case.gradients), of_gradients, *arrays)
        return tuple(dloss * gradient for gradient in gradients)

    loss.defvjp(lambda *arrays: (loss(*arrays), arrays), backward)
    try:
        check_grads(loss, tuple(case.arrays), order=1, modes=["rev"])
    except AssertionError:
        return False
    return True


def by_autograd(case: Case) -> bool:
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_grads

    loss = primitive(lambda *arrays: float(case.loss(*arrays)))

    def vjp(position: int) -> Callable[..., Any]:
        return lambda _loss, *arrays: lambda dloss: dloss * case.gradients(*arrays)[position]

    defvjp(loss, *(vjp(position) for position in range(len(case.arrays))))
    np.random.seed(case.seed)  # noqa: NPY002 - that is where autograd takes its directions from
    try:
        check_grads(loss, modes=["rev"], order=1)(*case.arrays)
    except AssertionError:
        return False
    return True


def by_us(case: Case) -> bool:
    try:
        checks.check_gradients(case.setting, case.seed)
    except (
        AssertionError,
        ArithmeticError,
    ):  # a division by n − 1 ends on one example before anything is compared
        return False
    return True


# by the name that chooses it: what the table calls it, the package that it comes from, and how it is asked
CHECKERS: dict[str, tuple[str, str | None, Callable[[Case], bool]]] = {
    "torch": ("torch `gradcheck`", "torch", lambda case: by_torch(case, fast=False)),
    "torch-fast": ("torch `gradcheck`, fast mode", "torch", lambda case: by_torch(case, fast=True)),
    "jax": ("JAX `check_grads`", "jax", by_jax),
    "autograd": ("autograd `check_grads`", "autograd", by_autograd),
    "ours": ("`scratchvae.check_gradients`", None, by_us),
}


def passes(check: Callable[[Case], bool], setting: dict[str, Any], seed: int) -> bool:
    case = Case(setting, seed)
    case.restore()
    try:
        return check(case)
    finally:
        case.restore()


def examine(check: Callable[[Case], bool], bar: Progress) -> dict[str, Any]:
    """What one checker lets through at each scale, and how often it is wrong about the correct code."""
    visible = [bug for bug in BUGS if not bug.consistent]
    settings = [dict(items) for items in dict.fromkeys(tuple(bug.setting.items()) for bug in visible)]
    let_through, false_alarms = {}, {}
    for scale in checks.SCALES:
        let_through[f"{scale:g}"] = []
        for bug in visible:
            with planted((*bug.places, *checks.scaled(scale))):
                if passes(check, bug.setting, checks.SEED):
                    let_through[f"{scale:g}"].append(bug.name)
            bar.advance(bug.name)
        with planted(checks.scaled(scale)):
            outcomes = [passes(check, setting, seed) for setting in settings for seed in SEEDS]
        false_alarms[f"{scale:g}"] = outcomes.count(False)
    return {
        "let_through": let_through,
        "false_alarms": false_alarms,
        "planted": len(visible),
        "correct": len(outcomes),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "checkers", nargs="*", default=list(CHECKERS), help=f"of {', '.join(CHECKERS)}; default: all"
    )
    chosen = parser.parse_args().checkers
    if unknown := set(chosen) - set(CHECKERS):
        parser.error(
            f"unknown checkers: {', '.join(sorted(unknown))}; expected some of {', '.join(CHECKERS)}"
        )
    found = json.loads(RESULT.read_text(encoding="utf-8"))["checkers"] if RESULT.exists() else {}
    for short, (name, package, check) in CHECKERS.items():
        if short not in chosen:
            continue
        if package and importlib.util.find_spec(package) is None:
            print(f"{package} is missing: pip install '.[peers]'", file=sys.stderr)
            continue
        visible = sum(not bug.consistent for bug in BUGS)
        with Progress(name, visible * len(checks.SCALES), True) as bar:
            found[name] = examine(check, bar)
        found[name]["versions"] = versions() | ({package: version(package)} if package else {})
        ordered = {name: found[name] for name, *_ in CHECKERS.values() if name in found}
        packages = {key: value for one in ordered.values() for key, value in one["versions"].items()}
        record = {"seed": checks.SEED, "versions": packages, "checkers": ordered}
        RESULT.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(name, {scale: len(names) for scale, names in found[name]["let_through"].items()}, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
