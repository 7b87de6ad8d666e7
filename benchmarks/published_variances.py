"""Mohamed et al. (2020), Figures 2 and 3, exactly, with sampled points on the curves; and the map of reversals.

    python benchmarks/published_variances.py

z ~ N(1, 1), variance of one sample of each estimator with respect to the mean and to σ. Writes variances.json and two
pictures into benchmarks/results/published-variances/. A few minutes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pictures import save

import scratchvae as sv
from scratchvae.estimators.baselines import Constant, OptimalBaseline
from scratchvae.estimators.score_function import ScoreFunction
from scratchvae.lab.exact_variance import exact_baselines
from scratchvae.lab.published import COMPARED, FAMILIES, crossing, published_curves, reversal_map, variances
from scratchvae.training.run_directory import versions

FOLDER = Path(__file__).parent / "results" / "published-variances"
PARAMETERS = ("mean", "deviation")
SYMBOLS = {"mean": "μ", "deviation": "σ"}
# Okabe and Ito's colours, as in all the project's pictures; the markers repeat the distinction for print.
STYLES = dict(
    zip(
        COMPARED,
        zip(("#D55E00", "#009E73", "#CC79A7", "#0072B2", "#E69F00"), "s^Dov", strict=True),
        strict=True,
    )
)
POINTS = 9  # sampled, on each curve
SCALES = (0.1, 3.0)  # of σ in the map
NORMAL_95 = 1.959964

# Where a favourite loses: (family, k, mean, σ, parameter, the favourite, what beats it).
UPSETS = [
    ("bell", 1.0, 1.0, 1.0, "mean", "pathwise", "score-function"),
    ("cosine", 5.0, 1.0, 1.0, "mean", "pathwise", "score-function"),
    ("bell", 1.0, 1.0, 1.0, "deviation", "score-function-mean", "score-function"),
    ("quadratic", -3.0, 1.0, 1.0, "mean", "measure-valued", "measure-valued-uncoupled"),
    ("quadratic", 0.5, 1.0, 1.0, "deviation", "antithetic-pathwise", "pathwise"),
    ("quadratic", 0.5, 1.0, 1.0, "deviation", "antithetic-score-function", "score-function"),
    ("cosine", 1.5, 0.0, 1.0, "mean", "taylor-score-function", "score-function"),
]


def sampled_variances(family, k, name, n, rng, mean=1.0, deviation=1.0):
    """(2,) sample variances with respect to mean and σ, per sample, and (2,) their standard errors."""
    chosen = FAMILIES[family]

    def f(z):
        return chosen.value(z[:, 0], k)

    log_var = 2 * np.log(deviation)
    estimator = name
    if name in ("score-function-mean", "score-function-optimal"):
        baselines = exact_baselines(f, mean, log_var)
        if name.endswith("mean"):
            estimator = ScoreFunction(name, Constant(baselines.average))
        else:
            estimator = OptimalBaseline(baselines.for_mean, baselines.for_log_var)
    gradients = sv.gradient_samples(
        f,
        [mean],
        [log_var],
        estimator,
        n,
        rng,
        lambda z: chosen.gradient(z, k),
        lambda z: chosen.curvature(z, k),
    )
    size = 2 if name.startswith("antithetic") else 1
    found = []
    for gradient, scale in zip(gradients, (1.0, 4 / deviation**2), strict=True):
        means = gradient.reshape(-1, size).mean(axis=1)
        squares = scale * size * (means - means.mean()) ** 2
        found.append((squares.sum() / (len(means) - 1), squares.std(ddof=1) / np.sqrt(len(means))))
    return np.array(found).T


def curves_and_points(n, rng):
    record = {}
    inside = []
    for family, curves in published_curves(100).items():
        ks = FAMILIES[family].grid(POINTS)
        record[family] = {"formula": FAMILIES[family].formula, "k": curves.k.tolist(), "estimators": {}}
        for name, exact in curves.variance.items():
            points = []
            for k in ks.tolist():
                variance, error = sampled_variances(family, k, name, n, rng)
                truth = variances(family, k, name)
                within = np.abs(variance - truth) <= NORMAL_95 * error
                # A variance of nothing but rounding is no test of an interval.
                inside += within[truth > 1e-20].tolist()
                points.append(
                    {
                        "k": k,
                        "exact": truth.tolist(),
                        "sampled": variance.tolist(),
                        "standard_error": error.tolist(),
                    }
                )
            record[family]["estimators"][name] = {
                **{parameter: exact[i].tolist() for i, parameter in enumerate(PARAMETERS)},
                "points": points,
            }
    return record, {"inside": int(sum(inside)), "intervals": len(inside)}


def confirmed_upsets(n, rng):
    found = []
    for family, k, mean, deviation, parameter, favourite, other in UPSETS:
        which = PARAMETERS.index(parameter)
        entry = {"family": family, "k": k, "mean": mean, "sigma": deviation, "with_respect_to": parameter}
        results = []
        for label, name in (("loses", favourite), ("wins", other)):
            exact = float(variances(family, k, name, mean, deviation)[which])
            variance, error = sampled_variances(family, k, name, n, rng, mean, deviation)[:, which]
            entry[label] = {
                "estimator": name,
                "exact": exact,
                "sampled": float(variance),
                "standard_error": float(error),
            }
            results.append((exact, variance, error))
        (exact_a, a, error_a), (exact_b, b, error_b) = results
        assert exact_a > exact_b, entry
        entry["standard_errors_apart"] = float((a - b) / np.hypot(error_a, error_b))
        found.append(entry)
    return found


def maps(size):
    record = {}
    for family, chosen in FAMILIES.items():
        for parameter in PARAMETERS:
            found = reversal_map(family, chosen.grid(size), np.geomspace(*SCALES, size), parameter)
            entry = {
                "k": found.k.tolist(),
                "sigma": found.deviation.tolist(),
                "estimators": list(found.estimators),
            }
            for label, charged in (("per sample", False), ("per evaluation", True)):
                quietest = found.quietest(per_evaluation=charged)
                entry[label] = {
                    "quietest": quietest.tolist(),
                    "share": {name: float((quietest == i).mean()) for i, name in enumerate(found.estimators)},
                }
            record[f"{family}, {parameter}"] = entry
    return record


def draw_curves(record, path):
    figure = Figure(figsize=(11, 6.6), layout="constrained")
    grid = figure.subplots(2, 3, sharex="col")
    for column, (family, curves) in enumerate(record["curves"].items()):
        for row, parameter in enumerate(PARAMETERS):
            axes = grid[row, column]
            for name, curve in curves["estimators"].items():
                colour, marker = STYLES[name]
                axes.plot(curves["k"], curve[parameter], color=colour, linewidth=1.2)
                axes.errorbar(
                    [point["k"] for point in curve["points"]],
                    [point["sampled"][row] for point in curve["points"]],
                    yerr=[NORMAL_95 * point["standard_error"][row] for point in curve["points"]],
                    color=colour,
                    marker=marker,
                    markersize=4.5,
                    linestyle="none",
                    capsize=2,
                )
            axes.set_yscale("log")
            if FAMILIES[family].ratios:
                axes.set_xscale("log")
                ticks = [
                    tick
                    for tick in (0.1, 0.3, 0.5, 1, 2, 3, 5, 10)
                    if curves["k"][0] <= tick <= curves["k"][-1] * 1.001
                ]
                axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
                axes.minorticks_off()
            # Coupled measure-valued gradients of the quadratic vanish at k = 1: cut the cusp, not the picture.
            axes.set_ylim(bottom=max(axes.get_ylim()[0], 1e-3))
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axes.set_title(f"f(z) = {curves['formula']}", fontsize=10)
            else:
                axes.set_xlabel("k")
            if column == 0:
                axes.set_ylabel(f"variance with respect to {SYMBOLS[parameter]}")
    handles = [
        Line2D([], [], color=colour, marker=marker, label=name) for name, (colour, marker) in STYLES.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=5, frameon=False)
    settings, coverage = record["settings"], record["coverage"]
    save(
        figure,
        f"z ~ N(1, 1). Lines: exact variance of one sample, by quadrature, at 100 values of k. Points: n = "
        f"{settings['samples']:,} samples each, seed {settings['seed']}, bars: 95 % intervals, of which "
        f"{coverage['inside']} of {coverage['intervals']} hold the exact value.\n"
        "Settings of Mohamed, Rosca, Figurnov, Mnih (2020), Figures 2 and 3. Measure-valued: coupled, two "
        "evaluations of f per sample and parameter; the others one.",
        path,
    )


def draw_maps(record, path):
    figure = Figure(figsize=(11, 6.8), layout="constrained")
    grid = figure.subplots(2, 3, sharey=True)
    colours = ListedColormap([STYLES[name][0] for name in COMPARED])
    norm = BoundaryNorm(np.arange(len(COMPARED) + 1) - 0.5, len(COMPARED))
    for column, (family, chosen) in enumerate(FAMILIES.items()):
        for row, parameter in enumerate(PARAMETERS):
            axes, found = grid[row, column], record["reversals"][f"{family}, {parameter}"]
            quietest = np.array(found["per evaluation"]["quietest"])
            axes.pcolormesh(
                found["k"], found["sigma"], quietest.T, cmap=colours, norm=norm, shading="nearest", alpha=0.75
            )
            # A sparse print of the markers, for eyes and printers without colour.
            for i in range(2, len(found["k"]), 5):
                for j in range(2, len(found["sigma"]), 5):
                    axes.plot(
                        found["k"][i],
                        found["sigma"][j],
                        STYLES[COMPARED[quietest[i, j]]][1],
                        color="black",
                        markersize=3,
                    )
            axes.set_yscale("log")
            axes.set_yticks([0.1, 0.3, 1, 3], ["0.1", "0.3", "1", "3"])
            if chosen.ratios:
                axes.set_xscale("log")
                ticks = [
                    tick for tick in (0.1, 0.3, 0.5, 1, 2, 3, 5, 10) if chosen.low <= tick <= chosen.high
                ]
                axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
            if row == 0:
                axes.set_title(f"f(z) = {chosen.formula}", fontsize=10)
            else:
                axes.set_xlabel("k")
            if column == 0:
                axes.set_ylabel(f"σ    (with respect to {SYMBOLS[parameter]})")
    handles = [
        Line2D(
            [],
            [],
            color=colour,
            marker=marker,
            linestyle="none",
            markeredgecolor="black",
            markersize=8,
            label=name,
        )
        for name, (colour, marker) in STYLES.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=5, frameon=False)
    save(
        figure,
        "Which estimator is quietest for its price, z ~ N(1, σ²): exact variance × evaluations of f, by quadrature, at "
        f"{len(found['k'])} × {len(found['sigma'])} points; no sampling.\n"
        "Upper row: with respect to the mean; lower row: to σ. Measure-valued: coupled, two evaluations of f "
        "per sample and parameter; the others one, and pathwise's derivative of f is not charged.",
        path,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=20_000, help="of each point (default: 20,000)")
    parser.add_argument(
        "--map-size", type=int, default=27, help="values of k and of σ in the map (default: 27)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    start = time.perf_counter()
    rng = np.random.default_rng(options.seed)
    curves, coverage = curves_and_points(options.samples, rng)
    record = {
        "command": "python benchmarks/published_variances.py",
        "settings": {"samples": options.samples, "seed": options.seed, "mean": 1.0, "sigma": 1.0},
        "row_at_k_-3": {name: float(variances("quadratic", -3.0, name)[0]) for name in COMPARED},
        "classic_toy": {
            name: float(variances("quadratic", 0.0, name, mean=2.0)[0])
            for name in ("score-function", "pathwise")
        },
        "pathwise_loses_from": {
            "bell": crossing("bell", "pathwise", "score-function", 0.1, 10),
            "cosine": crossing("cosine", "pathwise", "score-function", 0.5, 5),
        },
        "mean_baseline_loses_from": {
            "bell, deviation": crossing("bell", "score-function-mean", "score-function", 0.1, 1, "deviation")
        },
        "coverage": coverage,
        "upsets": confirmed_upsets(10 * options.samples, rng),
        "curves": curves,
        "reversals": maps(options.map_size),
        "versions": versions(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "variances.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw_curves(record, options.out / "variances.png")
    draw_maps(record, options.out / "reversals.png")
    for name in ("row_at_k_-3", "classic_toy", "pathwise_loses_from", "mean_baseline_loses_from", "coverage"):
        print(name, json.dumps(record[name]))
    for upset in record["upsets"]:
        print(json.dumps(upset))
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
