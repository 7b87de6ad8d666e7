"""Write the measured tables into README.md and into the documents beside this file from the committed results.

python benchmarks/tables.py           rewrites the blocks between <!-- table: NAME --> and <!-- end -->
python benchmarks/tables.py --check   exits 1 if a block is not what the results say
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).parent
DOCUMENTS = (HERE.parent / "README.md", HERE / "README.md", HERE / "planted_bugs.md")
BLOCK = re.compile(r"(<!-- table: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def _read(name: str) -> dict:
    return json.loads((HERE / "results" / name).read_text(encoding="utf-8"))


def _markdown(columns: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "|".join("---" for _ in columns) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _environment(record: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return f"\n{versions}.\n"


def variance(name: str) -> str:
    """Ratio of each estimator's total encoder variance to pathwise, by epoch."""
    record = _read(f"{name}/variance.json")
    moments = record["moments"]
    rows = []
    for estimator in moments[0]["estimators"]:
        cells = []
        for moment in moments:
            parts = moment["estimators"]
            total = parts[estimator]["encoder"]
            ratio = total["variance"] / parts["pathwise"]["encoder"]["variance"]
            cells.append(f"{total['variance']:.3g} ± {total['standard_error']:.1g} ({ratio:,.1f}×)")
        rows.append([f"`{estimator}`", *cells])
    settings = record["settings"]
    note = (
        f"\nOne minibatch of {settings['batch_size']}, {settings['num_samples']:,} draws of the noise, seed "
        f"{settings['seed']}; in brackets the ratio to pathwise. "
    )
    columns = ["estimator", *(f"epoch {moment['epoch']}" for moment in moments)]
    return _markdown(columns, rows) + note + _environment(record).strip() + "\n"


def mnist_bound() -> str:
    """Test −ELBO of the usual small VAE."""
    record = _read("mnist_bound.json")
    rows = [
        [
            run["targets"],
            f"`{run['estimator']}`",
            str(run["num_samples"]),
            f"{run['test_negative_elbo']:.2f}",
            f"{-run['test_reconstruction']:.2f}",
            f"{run['test_kl']:.2f}",
            f"{run['seconds']:.0f} s",
        ]
        for run in record["runs"]
    ]
    columns = [
        "targets",
        "estimator of the encoder's gradient",
        "S",
        "test −ELBO",
        "−log p(x\\|z)",
        "KL",
        "training",
    ]
    first = record["runs"][0]
    note = f"\n{first['epochs']} epochs, seed {first['seed']}, nats per image; "
    note += f"threads: {record['threads']}; at most {record['peak_memory_megabytes']} MB. "
    return _markdown(columns, rows) + note + _environment(record).strip() + "\n"


def training_step() -> str:
    """Milliseconds of a step, and the median ratio to scratchvae within a round."""
    record = _read("training_step.json")
    rows = []
    for setting in record["settings"]:
        shape = "-".join(map(str, setting["sizes"]))
        cells = [
            f"{setting['milliseconds'][name]:.3g} ({ratio:.2f}×)"
            for name, ratio in setting["times_scratchvae"].items()
        ]
        rows.append(
            [f"{shape} {setting['activation']}, batch {setting['batch_size']}", setting["pixels"], *cells]
        )
    columns = ["network", "pixels", *record["settings"][0]["milliseconds"]]
    note = "\nMilliseconds, median of rounds; in brackets the median over rounds of the ratio to scratchvae. "
    return _markdown(columns, rows) + note + _environment(record).strip() + "\n"


def products() -> str:
    """Billions of operations a second of each matrix product, beside OpenBLAS."""
    record = _read("kernels.json")
    rows = []
    networks = {name: value for name, value in record["products"].items() if isinstance(value, list)}
    for name, measured in (networks | {"large": record["large"]}).items():
        for row in measured:
            rates, ratio = row["gigaflops"], row["times_scratchvae"]["OpenBLAS"]
            shape = " × ".join(map(str, row["shape"]))
            cells = [f"{rates['scratchvae']:.0f}", f"{rates['OpenBLAS']:.0f}", f"{ratio:.2f}×"]
            rows.append([name, row["product"], f"{shape}, {row['dtype']}", *cells])
    columns = ["network", "product", "rows × depth × columns", "scratchvae", "OpenBLAS", "ratio"]
    note = (
        f"\nBillions of operations a second; median over {record['rounds']} rounds of the ratio, in time, of "
        f"OpenBLAS to scratchvae. Over the networks' products: geometric mean "
        f"{record['products']['geometric_mean']:.2f}×, smallest {record['products']['smallest']:.2f}×. "
    )
    return _markdown(columns, rows) + note + _environment(record).strip() + "\n"


def kernels() -> str:
    """The kernels that are not products: normals, and passes over memory."""
    record = _read("kernels.json")
    normals = record["normals"]
    others = "; ".join(
        f"{name} {nanoseconds:.2g} ns ({normals['times_scratchvae'][name]:.1f}×)"
        for name, nanoseconds in normals["nanoseconds_each"].items()
        if name != "scratchvae"
    )
    ours = f"{normals['nanoseconds_each']['scratchvae']:.2g} ns"
    rows = [["a million float32 normals, each", ours, others]]
    for row in record["passes"]:
        microseconds = row["microseconds"]
        plain = f"NumPy {microseconds['NumPy']:.0f} µs ({row['times_scratchvae']['NumPy']:.1f}×)"
        rows.append([row["pass"], f"{microseconds['scratchvae']:.0f} µs", plain])
    return _markdown(["kernel", "scratchvae", "others"], rows) + _environment(record)


def step_profile() -> str:
    """Where the time of a step goes."""
    record = _read("step_profile.json")
    rows = []
    for setting in record["settings"]:
        shape = "-".join(map(str, setting["sizes"]))
        cells = [f"{value:.3g}" for value in setting["milliseconds"].values()]
        arithmetic = f"{setting['milliseconds_of_arithmetic']:.3g} ({setting['step_over_arithmetic']:.2f}×)"
        what = f"{shape} {setting['activation']}, batch {setting['batch_size']}"
        rows.append([what, setting["pixels"], *cells, arithmetic])
    columns = ["network", "pixels", *record["settings"][0]["milliseconds"], "its arithmetic at the peak"]
    limits = record["limits"]
    note = (
        f"\nMilliseconds. The machine's peak, measured in the same process on {record['threads']} threads: "
        f"{limits['matmul_gigaflops']:.0f} billion operations a second in a matrix product, and "
        f"{limits['copy_gigabytes_per_second']:.0f} GB/s in copying memory. The arithmetic counts all products, "
        "those with zeros too; in brackets the whole step over it. "
    )
    return _markdown(columns, rows) + note + _environment(record).strip() + "\n"


def first_step() -> str:
    """Seconds until a fresh process has made its first training step."""
    record = _read("first_step.json")
    rows = [[name, f"{seconds:.1f} s"] for name, seconds in record["seconds"].items()]
    return _markdown(["compiled kernels", "until the first step has ended"], rows) + _environment(record)


def kill_and_resume() -> str:
    """How often a run was killed, and what came out otherwise."""
    record = _read("kill_and_resume.json")
    different = ", ".join(record["different"]) or "nothing"
    text = (
        f"{record['kills']} kills at random moments of a run of {record['steps']} steps, "
        f"{record['kills_in_a_save']} of them while a checkpoint was being written, seed {record['seed']}; different "
        f"from the run that was never killed: {different}."
    )
    return f"{text} {_environment(record).strip()}\n"


def _threads_of(seen: str) -> str:
    """Links to where public code had it."""
    return ", ".join(
        f"[{thread}](https://github.com/{thread.replace('#', '/issues/')})"
        for thread in seen.split(", ")
        if seen
    )


def planted_gradients() -> str:
    """Each mistake in the gradient, and which checks find it."""
    record = _read("planted_bugs.json")
    rows = [
        [
            row["name"],
            f"`{row['subject']}`",
            "found" if row["own_differences"] else "let through",
            ", ".join(f"{scale:g}" for scale in row["check_gradients"]),
            f"`{row['also']}`" if row["also"] else "",
            _threads_of(row["seen"]),
        ]
        for row in record["gradients"]
    ]
    columns = ["mistake", "planted in", "differences of its own loss"]
    columns += ["`check_gradients`, at loss scales", "and by", "seen in"]
    return _markdown(columns, rows) + f"\nSeed {record['seed']}. " + _environment(record).strip() + "\n"


def planted_elsewhere() -> str:
    """Each mistake that no check of the loss's gradient sees, and the check that finds it."""
    rows = [
        [
            row["name"].lstrip("0123456789. "),
            f"`{row['subject']}`" if row["subject"] else "",
            ", ".join(f"{scale:g}" for scale in row["found"]) if len(row["found"]) > 1 else "",
            row["check"] if "`" in row["check"] else f"`{row['check']}`",
            _threads_of(row["seen"]),
        ]
        for row in _read("planted_bugs.json")["elsewhere"]
    ]
    return _markdown(["mistake", "planted in", "at scales", "found by", "seen in"], rows)


def planted_counts() -> str:
    """How many, and how many of them are found."""
    record = _read("planted_bugs.json")
    gradients, elsewhere = record["gradients"], record["elsewhere"]
    found = sum(row["check_gradients"] == record["scales"] for row in gradients)
    consistent = [row for row in gradients if row["also"]]
    own = sum(row["own_differences"] for row in gradients)
    rows = [
        (
            "in the loss or its gradient",
            len(gradients),
            f"{found} by `check_gradients`, at each of three scales of the loss",
        ),
        ("the same, seen by differences of the code's own loss", len(gradients), own),
        (
            "of these, consistent in forward and backward",
            len(consistent),
            f"{len(consistent)} by a second check as well",
        ),
        ("elsewhere", len(elsewhere), f"{sum(bool(row['found']) for row in elsewhere)} by the check named"),
    ]
    return _markdown(["mistakes", "planted", "found"], [[str(cell) for cell in row] for row in rows])


def mutants() -> str:
    """How many mutants of each module's functions the tests killed."""
    record = _read("mutants.json")
    rows = [
        [
            f"`{module.removeprefix('scratchvae.')}`",
            *(str(row[key]) for key in ("functions", "mutants", "killed")),
        ]
        for module, row in record["modules"].items()
    ]
    sums = [sum(row[key] for row in record["modules"].values()) for key in ("functions", "mutants", "killed")]
    rows.append(["all", *map(str, sums)])
    for row in rows:
        row.append(f"{100 * int(row[3]) / int(row[2]):.1f} %")
    columns = ["module", "functions", "mutants", "killed", ""]
    return _markdown(columns, rows) + f"\nSeed {record['seed']}. " + _environment(record).strip() + "\n"


def mutants_that_survive() -> str:
    """The mutants that no test noticed, each with the reason."""
    rows = [
        [
            f"`{survivor['function'].removeprefix('scratchvae.')}`",
            f"`{_in_table(survivor['change'])}`",
            survivor["reason"] or "none: a test is missing",
        ]
        for survivor in _read("mutants.json")["survivors"]
    ]
    return _markdown(["function", "change", "why it is the same function"], rows)


def _in_table(code: str) -> str:
    return code.replace("|", "\\|")


def gradient_checkers() -> str:
    """How many planted mistakes each checker lets through, and its false alarms."""
    record = _read("gradient_checkers.json")
    rows = []
    for name, found in record["checkers"].items():
        counts = [str(len(names)) for names in found["let_through"].values()]
        alarms = [str(count) for count in found["false_alarms"].values()]
        rows.append([name, *counts, " / ".join(alarms)])
    first = next(iter(record["checkers"].values()))
    scales = [f"loss × {scale}" for scale in first["let_through"]]
    note = (
        f"\nLet through of {first['planted']} planted; false alarms in {first['correct']} checks of correct code, "
        f"at each scale. Seed {record['seed']}. "
    )
    columns = ["checker", *scales, "false alarms"]
    return _markdown(columns, rows) + note + _environment(record).strip() + "\n"


def let_through() -> str:
    """Each mistake that some checker lets through, and at which scales of the loss."""
    checkers = _read("gradient_checkers.json")["checkers"]
    names = dict.fromkeys(
        name for found in checkers.values() for names in found["let_through"].values() for name in names
    )
    rows = []
    for name in names:
        cells = [
            ", ".join(scale for scale, missed in found["let_through"].items() if name in missed)
            for found in checkers.values()
        ]
        rows.append([name, *cells])
    return _markdown(["let through at scales", *checkers], rows)


def linear_vae() -> str:
    """How far a trained linear VAE is from the maximum, and its bounds from the exact log p(x)."""
    record = _read("linear_vae.json")
    rows = []
    for run in record["runs"]:
        early, late = run["ladder_after_the_first_stage"], run["ladder"]
        rungs = [f"{early['below_exact'][k]:.3f} → {late['below_exact'][k]:.4f}" for k in late["below_exact"]]
        rows.append(
            [
                f"{run['data']}, {run['examples']:,} images, L = {run['latent_dim']}",
                f"{run['likelihood_variance']:.5f}",
                f"{run['best_log_likelihood']:.4f}",
                f"{run['below_the_maximum']:.4f}",
                *rungs,
                f"{late['monte_carlo_error']:.5f}",
            ]
        )
    samples = list(record["runs"][0]["ladder"]["below_exact"])
    columns = [
        "data",
        "v",
        "maximum",
        "trained: below it by",
        *(f"k = {k}" for k in samples),
        "error of the last",
    ]
    note = (
        f"\nNats per image, seed {record['runs'][0]['seed']}. Under k: how far the importance-weighted bound is below "
        "the exact log p(x) of the same parameters, after the first stage of training → at the end. "
    )
    return _markdown(columns, rows) + note + _environment(record).strip() + "\n"


# Burda, Grosse and Salakhutdinov (2015), Table 1, one stochastic layer; for static binarization what is usual.
PUBLISHED = {
    "mnist": {"vae-1": "86.76", "vae-5": "86.47", "vae-50": "86.35", "iwae-5": "85.54", "iwae-50": "84.78"},
    "binarized-mnist": {"vae-1": "≈ 89.8", "iwae-5": "≈ 87.7", "iwae-50": "≈ 87"},
}


def importance_weighted() -> str:
    """Test −log p(x) after the published schedule, or a part of it; and that of the twin."""
    record = _read("importance_weighted.json")
    twin, rows = record["twin"], []
    for run in record["runs"]:
        objective, samples = run["entry"].split("-")
        published = PUBLISHED[run["data"]].get(run["entry"], "–")
        rows.append([run["data"], f"{objective.upper()}, k = {samples}", *_likelihood_of(run), published])
        if run["data"] == "mnist" and all(run[name] == twin[name] for name in ("entry", "epochs", "seed")):
            rows.append(["mnist", "the same, by PyTorch", *_likelihood_of(twin), ""])
    columns = [
        "data",
        "objective",
        "epochs",
        "test −log p(x)",
        "images",
        "effective samples",
        "test −ELBO",
        "published, all 3,280",
    ]
    first = record["runs"][0]
    hours = {entry: 3280 * each / 3600 for entry, each in record["processor_seconds_an_epoch"].items()}
    times = ", ".join(f"{entry} {time:,.1f} h" for entry, time in hours.items())
    note = (
        "\nNats per image; 5,000 samples an image, ± standard error over as many images as stated, evenly spread over "
        "the test set, and the median over them of the effective number of samples; −ELBO over all of it; seed "
        f"{first['seed']}; threads: {first['threads']}. Processor time of all 3,280 epochs of MNIST, by fifty steps, "
        f"with most other work paused: {times}. "
    )
    return _markdown(columns, rows) + note + _environment(twin).strip() + "\n"


def _likelihood_of(run: dict) -> list[str]:
    """The cells that a run and the twin have in common."""
    found = run["evaluation"]
    return [
        "all 3,280" if run["epochs"] == 3280 else f"**truncated**: {run['epochs']:,} of 3,280",
        f"{-found['log_likelihood']:.2f} ± {found['log_likelihood_standard_error']:.2f}",
        f"{found['log_likelihood_examples']:,}",
        f"{found['effective_sample_size_median']:.0f}",
        f"{found['negative_elbo']:.2f}",
    ]


def twin() -> str:
    """How far ours and PyTorch's are apart, and what says that they were compared rightly."""
    record = _read("importance_weighted.json")["twin"]
    apart, agreed, checked = record["ours_less_twin"], record["agreement"], record["check_of_likelihood"]
    return (
        f"−log p(x) of ours less that of the twin, both after {record['epochs']:,} epochs, over the same "
        f"{apart['images']:,} images: **{apart['difference']:+.3f} ± {apart['standard_error']:.3f} nats**. From the "
        f"same weights, pixels and noise, the loss differs by {agreed['loss']:.0e} of itself, the gradient by "
        f"{agreed['gradient']:.0e} of a tensor's largest entry, and the parameters after ten steps by "
        f"{agreed['ten_steps']:.0e} of the farthest step. PyTorch's own estimate of the twin's −log p(x) differs by "
        f"{checked['difference']:+.3f} ± {checked['standard_error']:.3f} nats over {checked['images']} images.\n"
    )


def sweep_digits() -> str:
    """Every setting of a sweep, the best first."""
    record = _read("sweep-digits/sweep.json")
    plan, rows = record["plan"], []
    for row in record["settings"]:
        terms = row["validation"]
        signs = {"negative_elbo": 1, "reconstruction": -1, "kl": 1}
        cells = [
            f"{sign * terms[name]['mean']:.2f} ± {terms[name]['standard_error']:.2f}"
            for name, sign in signs.items()
        ]
        rows.append([f"{row['beta']:g}", str(row["latent_dim"]), *cells, f"{row['done']} of {row['seeds']}"])
    columns = ["β", "latent dimensions", "−ELBO", "−log p(x\\|z)", "KL", "seeds done"]
    note = (
        f"\nNats per image, means over {plan['held_out_images']} held-out images, ± standard error over seeds; "
        f"{plan['epochs']} epochs on {plan['train_images']} images, seed {plan['seed']}. "
    )
    return _markdown(columns, rows) + note + _environment(record).strip() + "\n"


def posterior_collapse() -> str:
    """What each training makes of a deep model's posterior."""
    record = _read("figures/posterior-collapse.json")
    rows = [
        [
            name,
            str(run["active_units"]),
            *(f"{run[key]:.2f}" for key in ("kl", "mutual_information", "negative_elbo")),
        ]
        for name, run in record["runs"].items()
    ]
    columns = ["training", "active units", "KL", "mutual information of x and z", "test −ELBO"]
    settings = record["settings"]
    note = (
        f"\n{settings['data']}, {settings['latent_dim']} latent dimensions, {settings['epochs']} epochs, seed "
        f"{settings['seed']}, nats per image. "
    )
    return _markdown(columns, rows) + note + _environment(record).strip() + "\n"


def _interval(row: dict, interval: float) -> str:
    """Sampled ± so many standard errors, to as many decimals as the half-width has with two digits."""
    width = interval * row["standard_error"]
    decimals = max(0, 1 - math.floor(math.log10(width)))
    return f"{row['sampled']:.{decimals}f} ± {width:.{decimals}f}"


_SYMBOLS = {"mean": "μ", "deviation": "σ", "rho": "ρ"}


def closed_forms() -> str:
    """The ten closed forms at three settings: formula, value, what quadrature gives, what sampling gives."""
    record = _read("closed_forms.json")
    settings = record["settings"]
    rows = [
        [
            f"{row['mean']:g}, {row['sigma']:g}, {row['k']:g}",
            _SYMBOLS[row["with_respect_to"]],
            f"`{row['estimator']}`",
            row["formula"],
            f"{row['claimed']:.6g}",
            f"{row['exact']:.6g}",
            f"{row['relative_error']:.0e}" if row["relative_error"] else "0",
            _interval(row, settings["interval"]),
        ]
        for row in record["closed_forms"]
    ]
    columns = [
        "μ, σ, k",
        "w. r. t.",
        "estimator",
        "closed form",
        "its value",
        "exact",
        "relative difference",
        "sampled",
    ]
    note = (
        f"\nVariance of one sample, f = (z − k)², z ~ N(μ, σ²), a = μ − k. Exact: quadrature through the shipped "
        f"estimator. Sampled: {settings['samples']:,} samples, seed {settings['seed']}, ± {settings['interval']:g} "
        "standard errors. "
    )
    return _markdown(columns, rows) + note + _environment(record).strip() + "\n"


def published_figures() -> str:
    """Published figures of other settings, exactly and by sampling."""
    record = _read("closed_forms.json")
    settings, coverage = record["settings"], record["coverage"]
    places = {"quadratic": "z²", "bell": "exp(−z²)", "cosine": "cos 5z"}
    rows = [
        [
            f"{places[row['family']]}, z ~ N({row['mean']:g}, 1)",
            f"variance, {_SYMBOLS[row['with_respect_to']]}",
            f"`{row['estimator']}`",
            row["published"],
            f"{row['exact']:.6g}",
            _interval(row, settings["interval"]),
        ]
        for row in record["published"]
    ]
    rows += [
        [
            "bound of 10 samples, target N(2, 3²), q = N(−3, 1)",
            f"deviation, {_SYMBOLS[row['with_respect_to']]}",
            f"`{row['estimator']}`",
            row["published"],
            f"{row['exact']:.6g}",
            _interval(row, settings["interval"]),
        ]
        for row in record["bound_of_ten"]
    ]
    note = (
        f"\nSampled: {settings['samples']:,} samples of a variance, {settings['bounds']:,} bounds of a deviation, "
        f"seed {settings['seed']}, ± {settings['interval']:g} standard errors; in this table and the one above "
        f"{coverage['inside']} of {coverage['intervals']} intervals hold the exact value. Deviations are those of the "
        "mean of ten estimates, as published; σ = log(1 + exp ρ). "
    )
    columns = ["setting", "what", "estimator", "published", "exact", "sampled"]
    return _markdown(columns, rows) + note + _environment(record).strip() + "\n"


def where_favourites_lose() -> str:
    """Settings in which a favourite is the louder one, each confirmed by sampling."""
    record = _read("closed_forms.json")
    settings = record["settings"]
    rows = [
        [
            row["where"],
            *(
                f"`{row[side]['estimator']}`: {row[side]['exact']:.4g} ({_interval(row[side], settings['interval'])})"
                for side in ("loses", "wins")
            ),
            f"{row['standard_errors_apart']:.0f}",
        ]
        for row in record["losses"]
    ]
    columns = ["setting", "loses: exact (sampled)", "wins: exact (sampled)", "standard errors apart"]
    places = "; ".join(
        f"{name}: above k = {place['loses_for_k_above']:.5f}"
        + (f" (of 100 published points the first is {place['published']:g})" if place["published"] else "")
        for name, place in record["crossings"].items()
    )
    note = (
        f"\nVariances; of the last two, deviations of the mean of ten estimates. z ~ N(1, 1), the favourite loses to "
        f"the plain score function: {places}. "
    )
    return _markdown(columns, rows) + note + _environment(record).strip() + "\n"


def training_with_each() -> str:
    """The bound on the test images at the end, and what a step costs, by estimator."""
    record = _read("training-with-each/training.json")
    settings = record["settings"]
    steps = settings["epochs"] * settings["steps_per_epoch"]
    rows = []
    for arm in record["arms"]:
        runs = [run for run in record["runs"] if run["label"] == arm["label"] and run["diverged"] is None]
        final = [run["loss"][-1] for run in runs]
        cost = statistics.mean(run["seconds"][-1] for run in runs) / steps
        rows.append(
            [
                f"−bound of {settings['bound_samples']}" if arm["group"].startswith("bound") else "−ELBO",
                f"`{arm['label']}`",
                str(arm["num_samples"]),
                f"{statistics.mean(final):.2f} ± {statistics.stdev(final):.2f}",
                f"{1e3 * cost:.2f} ms",
                f"{len(runs)} of {settings['seeds']}",
            ]
        )
    columns = [
        "objective",
        "estimator",
        "S",
        "on the test images, nats",
        "CPU time of a step",
        "seeds that came to the end",
    ]
    note = (
        f"\n{settings['epochs']} epochs, {steps:,} steps; mean ± standard deviation over the seeds; S: samples of z "
        f"per example and step; threads: {settings['threads']}, measured on a busy machine. "
    )
    return _markdown(columns, rows) + note + _environment(record).strip() + "\n"


def gradient_variance_speed() -> str:
    """Samples per second of the variance of every weight's gradient, beside torch.func.vmap(grad)."""
    record = _read("gradient_variance_speed.json")
    rows = []
    for run in record["runs"]:
        torch = run["torch"]
        rates = {
            (rate["contestant"], rate["threads"], rate["chunk"]): statistics.median(
                rate["samples_per_second"]
            )
            for rate in run["rates"]
        }
        own = max(rate for (name, threads, _), rate in rates.items() if (name, threads) == ("scratchvae", 1))
        peer = {key: rate for key, rate in rates.items() if key[:2] == ("torch", 1)}
        most, largest = max(peer.values()), peer[max(peer)]
        rows.append(
            [
                f"`{run['estimator']}`",
                f"{run['samples_per_second']:,} ({run['threads']})",
                f"{torch['samples_per_second']:,} ({torch['threads']}, {torch['chunk']})",
                f"{torch['times_torch']:.0f}× ({torch['least']:.0f}–{torch['most']:.0f})",
                f"{own / most:.0f}×",
                f"{own / largest:.0f}×",
                f"{max(row['standard_errors_apart'] for row in run['agreement']):.1f}",
                f"{run['memory']['peak_megabytes']} MB",
            ]
        )
    largest_chunk = max(rate["chunk"] for rate in record["runs"][0]["rates"])
    columns = [
        "estimator",
        "scratchvae, samples/s (threads)",
        "torch (threads, draws at a time)",
        "ratio",
        "both on one thread",
        f"torch with {largest_chunk} draws at a time",
        "largest distance, standard errors",
        f"memory of {record['runs'][0]['memory']['draws']:,} samples",
    ]
    note = (
        f"\n{record['sizes']}, one image; by the clock, each with the number of threads, and torch with the number of "
        f"draws at a time, that suit it best: medians of {record['runs'][0]['rounds']} rounds, and of the ratio in a "
        "round (least and greatest in brackets). The distance is that of the two traces of the variance of a tensor, "
        "the largest of ten. "
    )
    return _markdown(columns, rows) + note + _environment(record).strip() + "\n"


TABLES = {
    "gradient-variance-speed": gradient_variance_speed,
    "closed-forms": closed_forms,
    "published-figures": published_figures,
    "where-favourites-lose": where_favourites_lose,
    "training-with-each": training_with_each,
    "training-step": training_step,
    "variance-digits": lambda: variance("variance-digits"),
    "variance-mnist": lambda: variance("variance-mnist"),
    "mnist-bound": mnist_bound,
    "posterior-collapse": posterior_collapse,
    "kill-and-resume": kill_and_resume,
    "sweep-digits": sweep_digits,
    "products": products,
    "kernels": kernels,
    "step-profile": step_profile,
    "first-step": first_step,
    "importance-weighted": importance_weighted,
    "importance-weighted-twin": twin,
    "linear-vae": linear_vae,
    "mutants": mutants,
    "mutants-that-survive": mutants_that_survive,
    "gradient-checkers": gradient_checkers,
    "let-through": let_through,
    "planted-gradients": planted_gradients,
    "planted-elsewhere": planted_elsewhere,
    "planted-counts": planted_counts,
}


def rewritten(text: str) -> str:
    """The document with every block as the results say."""
    return BLOCK.sub(lambda block: block[1] + TABLES[block[2]]() + block[4], text)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if a block is out of date"
    )
    options = parser.parse_args()
    stale = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        new = rewritten(text)
        if new != text:
            stale.append(document.name)
            if not options.check:
                document.write_text(new, encoding="utf-8")
    if options.check and stale:
        print(f"out of date: {', '.join(stale)}; run python benchmarks/tables.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
