"""Posterior collapse: provoked by depth, diagnosed, cured, and not caused by reparameterization."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from scratchvae.figures.drawing import draw_images, make_sheet
from scratchvae.figures.finding import Finding
from scratchvae.figures.setting import Setting
from scratchvae.lab.likelihood import evaluate
from scratchvae.lab.posterior import diagnose_posterior
from scratchvae.models.free_bits_vae import FreeBitsVAE
from scratchvae.models.vae import VAE
from scratchvae.plots import COLOURS

__all__ = ["posterior_collapse"]

# Hidden layers of the encoder, and of the decoder: what z has to pass before it is of any use.
_DEPTH = 5
_FREE_BITS = 0.5  # nats per dimension
_SAMPLES = 10
_SHOWN = 14


class _Run(NamedTuple):
    """One training, and what distinguishes it."""

    depth: int
    kind: type[VAE] = VAE
    model: dict[str, Any] = {}  # noqa: RUF012 - never changed
    fitting: dict[str, Any] = {}  # noqa: RUF012


def posterior_collapse(setting: Setting) -> Finding:
    """The same deep model, trained as usual, without reparameterization, and with either cure; and a shallow one.

    The score function with leave-one-out baseline needs no path through the sample: if reparameterization caused
    the collapse, it would not collapse; if it cured it, the pathwise run would not.
    """
    results = {}
    strips = [setting.test[:_SHOWN]]
    for name, run in _runs(setting).items():
        made = {"hidden": setting.hidden * run.depth, **run.model}
        vae = setting.trained(run.kind, model=made, **run.fitting)[0]
        results[name] = _diagnose(vae, setting)
        strips.append(vae.reconstruct(setting.test[:_SHOWN]))
    return Finding(
        ["training", "active units", "KL", "mutual information", "−ELBO"],
        [_row(name, result) for name, result in results.items()],
        _seen(results, setting.latent_dim),
        {"depth": _DEPTH, "free_bits": _FREE_BITS, "samples": _SAMPLES, "runs": results},
        f"{setting.describe()}, L = {setting.latent_dim}, dynamic binarization; deep: {_DEPTH} such hidden layers on "
        f"either side; warm-up over half of the epochs; {_FREE_BITS} free nats per dimension; n = {len(setting.test)} "
        f"test images, {_SAMPLES} samples of z each.",
        _draw(results, np.concatenate(strips), setting),
    )


def _runs(setting: Setting) -> dict[str, _Run]:
    leave_one_out = {"estimator": "score-function-leave-one-out"}
    return {
        "shallow": _Run(1),
        "deep": _Run(_DEPTH),
        "deep, no reparameterization": _Run(_DEPTH, fitting=leave_one_out),
        "deep, KL warm-up": _Run(_DEPTH, fitting={"kl_warmup_epochs": setting.epochs / 2}),
        "deep, free bits": _Run(_DEPTH, FreeBitsVAE, {"free_bits": _FREE_BITS}),
    }


def _diagnose(vae: VAE, setting: Setting) -> dict[str, Any]:
    found = diagnose_posterior(vae, setting.test, setting.seed)
    terms = evaluate(vae, setting.test, num_samples=_SAMPLES, rng=setting.seed)
    return {
        "active_units": found.active_units,
        "kl": terms["kl"],
        "kl_by_dimension": sorted(found.kl_by_dimension.tolist(), reverse=True),
        "mutual_information": found.mutual_information,
        "negative_elbo": terms["negative_elbo"],
    }


def _row(name: str, result: dict[str, Any]) -> list[str]:
    numbers = (f"{result[key]:.2f}" for key in ("kl", "mutual_information", "negative_elbo"))
    return [name, str(result["active_units"]), *numbers]


def _seen(results: dict[str, dict[str, Any]], latent_dim: int) -> str:
    deep, without = results["deep"], results["deep, no reparameterization"]
    shallow = results["shallow"]
    collapses = deep["active_units"] < shallow["active_units"]
    words = (
        f"With one hidden layer {shallow['active_units']} of {latent_dim} dimensions are active and carry "
        f"{shallow['mutual_information']:.2f} nats about the image; with {_DEPTH} layers "
        f"{deep['active_units']} and {deep['mutual_information']:.2f} nats: the posterior "
        f"{'collapses in part or whole' if collapses else 'does not collapse here'}. Without "
        f"reparameterization, by the score function, the deep model has {without['active_units']} active "
        "dimensions and "
        f"{without['mutual_information']:.2f} nats. "
    )
    if collapses and without["active_units"] <= deep["active_units"]:
        words += "So the collapse is not a matter of reparameterization, which neither causes nor cures it. "
    elif collapses:
        words += "It collapses less, or not. "
    for cure in ("deep, KL warm-up", "deep, free bits"):
        result = results[cure]
        gain = deep["negative_elbo"] - result["negative_elbo"]
        words += (
            f"{cure.removeprefix('deep, ')} makes it {result['active_units']} active dimensions with "
            f"{result['mutual_information']:.2f} nats, and the bound {abs(gain):.2f} nats "
            f"{'better' if gain > 0 else 'worse'}. "
        )
    return words + (
        "Active is not yet useful: free bits make a dimension spend its allowance whether it helps the "
        "reconstruction or not, so the bound is what decides. (A collapse that is the optimum of the loss, as under a "
        "large β, no cure of the training can prevent.)"
    )


def _draw(results: dict[str, dict[str, Any]], images: np.ndarray, setting: Setting) -> Any:
    figure, axes = make_sheet(9.5, 6.6, "AB;CC", heights=(1, 1.1))
    width = 0.8 / len(results)
    for i, (name, result) in enumerate(results.items()):
        spent = result["kl_by_dimension"]
        places = np.arange(len(spent)) + 1 + (i - (len(results) - 1) / 2) * width
        axes["A"].bar(places, spent, width, color=COLOURS[i], label=name)
        axes["B"].barh(name, result["mutual_information"], color=COLOURS[i])
        axes["B"].plot(result["kl"], i, marker="|", markersize=16, color="black", linestyle="none")
    axes["A"].set(
        xlabel="latent dimension, by its KL", ylabel="KL (nats)", title="What each dimension spends"
    )
    axes["A"].legend(frameon=False)
    axes["B"].set(xlabel="mutual information of x and z; line: KL (nats)", title="What z says about x")
    axes["B"].set_ylabel("training")
    axes["B"].invert_yaxis()
    rows = ["test images", *results]
    draw_images(axes["C"], images, setting.dataset.image_shape, _SHOWN, "Reconstructed", rows)
    return figure
