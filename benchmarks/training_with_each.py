"""The digits VAE trained by each estimator: the bound on the test images against steps and against CPU seconds.

    python benchmarks/training_with_each.py

64-64-8, Adam 1e-3, batches of 64, 200 epochs; within a seed every estimator starts from the same weights and sees
the same pixels in the same order. Time is CPU time of the training alone, of all threads, so that other work on the
machine counts for little; set SCRATCHVAE_NUM_THREADS=1 and OMP_NUM_THREADS=1 for figures of one thread. Every
finished run is written at once to benchmarks/results/training-with-each/training.json, from which an interrupted
benchmark goes on. About ten minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from pictures import COLOURS, MARKERS, save

import scratchvae as sv
from scratchvae.randomness import NoiseStream
from scratchvae.training.loop import TrainingDiverged, average_terms, minibatch
from scratchvae.training.run_directory import versions

FOLDER = Path(__file__).parent / "results" / "training-with-each"
SIZES = (64, (64,), 8)  # D, hidden, L
BATCH_SIZE = 64
LEARNING_RATE = 1e-3
MOMENTS = (
    0,
    1,
    2,
    3,
    5,
    7,
    10,
    15,
    20,
    30,
    45,
    70,
    100,
    140,
    200,
)  # epochs after which the test images are evaluated
CEILING = 31.0  # nats, of the picture: above it, in the first hundred steps, all are alike
BOUND_SAMPLES = 8  # of the importance-weighted bound
# Noise of the evaluation, the same at every moment of every run; draws for each image of the ELBO, and bounds of
# BOUND_SAMPLES for each image.
EVALUATION_SEED, EVALUATION_SAMPLES, EVALUATION_BOUNDS = 12345, 20, 5


class Arm(NamedTuple):
    """One way of training."""

    group: str
    label: str
    estimator: str
    num_samples: (
        int  # of z per example: the fewest that the estimator works with, or as many as its family takes
    )
    kl: str = "analytic"


DIFFERENTIATE, SCORE, ELSEWHERE, BOUND = (
    "with ∇f",
    "score function",
    "measure-valued, and score functions that look elsewhere",
    "bound of 8 samples",
)
ARMS = [
    Arm(DIFFERENTIATE, "pathwise", "pathwise", 1),
    Arm(DIFFERENTIATE, "pathwise, sampled KL", "pathwise", 1, "sampled"),
    Arm(DIFFERENTIATE, "sticking-the-landing", "sticking-the-landing", 1, "sampled"),
    Arm(DIFFERENTIATE, "antithetic-pathwise", "antithetic-pathwise", 2),
    Arm(DIFFERENTIATE, "taylor-pathwise", "taylor-pathwise", 1),
    Arm(SCORE, "score-function", "score-function", 1),
    Arm(SCORE, "score-function-running-mean", "score-function-running-mean", 1),
    Arm(SCORE, "score-function-learned-baseline", "score-function-learned-baseline", 1),
    Arm(SCORE, "score-function-leave-one-out", "score-function-leave-one-out", 4),
    Arm(SCORE, "score-function-optimal-leave-one-out", "score-function-optimal-leave-one-out", 4),
    Arm(SCORE, "antithetic-score-function-leave-one-out", "antithetic-score-function-leave-one-out", 4),
    Arm(ELSEWHERE, "measure-valued", "measure-valued", 1),
    Arm(ELSEWHERE, "measure-valued-uncoupled", "measure-valued-uncoupled", 1),
    Arm(ELSEWHERE, "antithetic-measure-valued", "antithetic-measure-valued", 2),
    Arm(ELSEWHERE, "antithetic-score-function", "antithetic-score-function", 2),
    Arm(ELSEWHERE, "taylor-score-function", "taylor-score-function", 1),
    Arm(ELSEWHERE, "taylor-score-function-leave-one-out", "taylor-score-function-leave-one-out", 2),
    Arm(BOUND, "importance-weighted-pathwise", "importance-weighted-pathwise", BOUND_SAMPLES),
    Arm(
        BOUND,
        "importance-weighted-doubly-reparameterized",
        "importance-weighted-doubly-reparameterized",
        BOUND_SAMPLES,
    ),
    Arm(BOUND, "importance-weighted-vimco", "importance-weighted-vimco", BOUND_SAMPLES),
]


def test_loss(model, test, objective):
    """−bound on the test images, binarized once and for all, in nats per image; the ELBO with the closed KL."""
    twin = sv.VAE(*SIZES, rng=0)
    twin.theta[...] = model.theta
    if objective == "elbo":
        return average_terms(twin, test, EVALUATION_SEED, EVALUATION_SAMPLES)[0]
    copies = np.repeat(test, EVALUATION_BOUNDS, axis=0)
    return average_terms(twin, copies, EVALUATION_SEED, BOUND_SAMPLES, objective)[0]


def train(arm, seed, train_images, test, epochs, *, progress=True):
    """One run: epochs, steps, CPU seconds of training and the loss on the test images at every moment."""
    model = sv.VAE(*SIZES, kl=arm.kl, rng=seed)
    objective = "importance-weighted" if arm.group == BOUND else "elbo"
    points = {"epochs": [], "seconds": [], "loss": []}
    evaluating, start = 0.0, time.process_time()

    def look(epoch):
        nonlocal evaluating
        if epoch not in MOMENTS and epoch != epochs:
            return
        now = time.process_time()
        points["epochs"].append(epoch)
        points["seconds"].append(round(now - start - evaluating, 4))
        points["loss"].append(round(test_loss(model, test, objective), 4))
        evaluating += time.process_time() - now

    diverged = None
    try:
        sv.fit(
            model,
            train_images,
            epochs=epochs,
            batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            rng=1000 + seed,
            estimator=arm.estimator,
            num_samples=arm.num_samples,
            on_epoch=look,
            progress=progress,
        )
    except TrainingDiverged as error:
        diverged = str(error)
    return points | {"label": arm.label, "seed": seed, "diverged": diverged}


def all_runs(record, path, seeds, epochs):
    """Do the runs that the record lacks, and write it after each."""
    data = sv.load_dataset("digits")
    done = {(run["label"], run["seed"]) for run in record["runs"]}
    # Binarized once: the noise of the pixels is the same for all, and no part of what is compared.
    test = minibatch(data.test, sv.VAE(*SIZES), NoiseStream(EVALUATION_SEED))
    wanted = [(arm, seed) for seed in range(seeds) for arm in ARMS if (arm.label, seed) not in done]
    warm = set()
    for number, (arm, seed) in enumerate(wanted, 1):
        if arm.label not in warm:  # compiles what this estimator needs, outside the time that is measured
            train(arm, seed, data.train, test, 1, progress=False)
            warm.add(arm.label)
        run = train(arm, seed, data.train, test, epochs, progress=False)
        record["runs"].append(run)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
        print(
            f"{number}/{len(wanted)} {arm.label}, seed {seed}: {run['loss'][-1]:.2f} nats, {run['seconds'][-1]:.1f} s",
            flush=True,
        )


def curves(record, label):
    """Steps (M,), seconds (M,) on average, and losses (seeds, M) of the runs of one arm that came to the end."""
    runs = [run for run in record["runs"] if run["label"] == label and run["diverged"] is None]
    steps = np.array(runs[0]["epochs"]) * record["settings"]["steps_per_epoch"]
    return steps, np.mean([run["seconds"] for run in runs], axis=0), np.array([run["loss"] for run in runs])


def draw(record, path):
    settings = record["settings"]
    groups = list(dict.fromkeys(arm.group for arm in ARMS))
    figure = Figure(figsize=(11, 14.5), layout="constrained")
    grid = figure.subplots(len(groups), 2, sharex="col")
    reference = curves(record, "pathwise")
    for row, group in zip(grid, groups, strict=True):
        arms = [arm for arm in ARMS if arm.group == group]
        if group not in (DIFFERENTIATE, BOUND):
            for axes, x in zip(row, reference[:2], strict=True):
                axes.plot(
                    x[1:], reference[2].mean(axis=0)[1:], color="#777777", linestyle="--", label="pathwise"
                )
        for i, arm in enumerate(arms):
            steps, seconds, loss = curves(record, arm.label)
            label = arm.label + (f" (S = {arm.num_samples})" if arm.num_samples > 1 else "")
            for axes, x in zip(row, (steps, seconds), strict=True):
                # Before the first step there is no logarithm.
                axes.plot(
                    x[1:],
                    loss.mean(axis=0)[1:],
                    color=COLOURS[i],
                    marker=MARKERS[i],
                    markersize=4.5,
                    linewidth=1.2,
                    label=label,
                )
                axes.fill_between(
                    x[1:],
                    loss.min(axis=0)[1:],
                    loss.max(axis=0)[1:],
                    color=COLOURS[i],
                    alpha=0.2,
                    linewidth=0,
                )
        name = f"−bound of {BOUND_SAMPLES} samples" if group == BOUND else "−ELBO"
        row[0].set_ylabel(f"test {name} (nats per image)")
        row[0].set_title(group, loc="left", fontsize=10)
        row[0].legend(frameon=False, fontsize=8)
        row[1].sharey(row[0])
        row[0].set_ylim(top=CEILING)
        for axes in row:
            axes.set_xscale("log")
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
    grid[-1, 0].set_xlabel("steps of training")
    grid[-1, 1].set_xlabel("CPU seconds of training")
    save(
        figure,
        f"8×8 digits, VAE 64-64-8 relu, Adam {LEARNING_RATE:g}, batches of {BATCH_SIZE}. Lines: mean over n = "
        f"{settings['seeds']} seeds (0 to {settings['seeds'] - 1}); bands: their range. Within a seed all start from "
        "the same weights and see the same pixels in the same order. "
        f"{settings['test_images']} test images, binarized once, {EVALUATION_SAMPLES} draws of z each for the ELBO, "
        f"{EVALUATION_BOUNDS} bounds each for the bound of {BOUND_SAMPLES} samples, which is another objective. "
        f"The first steps, above {CEILING:g} nats, are cut off. "
        "S: samples of z per example and step, 1 where nothing is said.\n"
        f"Right: CPU time of the training, without evaluation, threads: {settings['threads']}; pathwise with one "
        "sample and the closed KL runs in one fused kernel, all others layer by layer.",
        path,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=MOMENTS[-1])
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "training.json"
    data = sv.load_dataset("digits")
    settings = {
        "epochs": options.epochs,
        "seeds": options.seeds,
        "batch_size": BATCH_SIZE,
        "steps_per_epoch": -(-len(data.train) // BATCH_SIZE),
        "learning_rate": LEARNING_RATE,
        "bound_samples": BOUND_SAMPLES,
        "test_images": len(data.test),
        "threads": os.environ.get("SCRATCHVAE_NUM_THREADS", "all"),
    }
    record = {
        "command": "python benchmarks/training_with_each.py",
        "settings": settings,
        "arms": [arm._asdict() for arm in ARMS],
        "runs": [],
        "versions": versions(),
    }
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        same = [{k: v for k, v in r["settings"].items() if k != "seeds"} for r in (record, before)]
        if same[0] == same[1]:
            known = {(arm.label, seed) for arm in ARMS for seed in range(options.seeds)}
            record["runs"] = [run for run in before["runs"] if (run["label"], run["seed"]) in known]
            print(f"{len(record['runs'])} runs are in {path} already")
    all_runs(record, path, options.seeds, options.epochs)
    draw(record, options.out / "training.png")


if __name__ == "__main__":
    main()
