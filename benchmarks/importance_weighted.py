"""The table of Burda, Grosse and Salakhutdinov (2015): test −log p(x) of VAE and IWAE, k = 1, 5 and 50.

    SCRATCHVAE_DATA_DIR=... python benchmarks/importance_weighted.py                       the whole table
    SCRATCHVAE_DATA_DIR=... python benchmarks/importance_weighted.py vae-1 --epochs 121    one entry, truncated

One stochastic layer, 784-200-200-50, tanh; batches of 20; Adam (0.9, 0.999, 1e-4); 3^i epochs at 1e-3·10^(−i/7) for
i = 0 … 7, 3280 in all, with the moments carried on from stage to stage; then −log p(x) of the test set from 5000
samples an image. This is what the paper's text says. The code that its authors published (github.com/yburda/iwae)
differs: it keeps 400 training images apart, starts the decoder's last bias at the mean image and Adam's second moment
at one, and has beta1 = 0.99.

With --epochs the schedule is cut off after so many epochs, 1 + 3 + 9 + 27 + 81 = 121 for example; nothing else changes.
--estimate tells what the schedule takes before it is begun. The state is saved every five minutes: the same command
goes on after an interruption, and with more --epochs it trains on. Results are collected in
benchmarks/results/importance_weighted.json, one for each entry and number of epochs. `importance_weighted_twin.py`
trains the first entry once more, with PyTorch.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

import scratchvae as sv
from scratchvae.randomness import NoiseStream
from scratchvae.training.checkpoint import checkpoint_files, newest_checkpoint
from scratchvae.training.loop import OPTIMIZERS
from scratchvae.training.minibatch import check_data, minibatch
from scratchvae.training.run_directory import versions, write_atomically

RESULT = Path(__file__).parent / "results" / "importance_weighted.json"
ESTIMATORS = {"vae": "pathwise", "iwae": "importance-weighted-pathwise"}
ENTRIES = ("vae-1", "vae-5", "vae-50", "iwae-5", "iwae-50")
EPOCHS = [3**i for i in range(8)]
RATES = [1e-3 * 10 ** (-i / 7) for i in range(8)]
BATCH_SIZE = 20
SAMPLES_OF_LOG_LIKELIHOOD = 5000


class PublishedAdam(sv.Adam):
    """Adam with the paper's epsilon; a run that is resumed finds it by its name."""

    name = "adam-epsilon-1e-4"

    def __init__(self, theta: np.ndarray, learning_rate: float) -> None:
        super().__init__(theta, learning_rate, epsilon=1e-4)


OPTIMIZERS[PublishedAdam.name] = PublishedAdam


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def make_model(seed: int, static: bool) -> sv.VAE:
    binarize = None if static else "dynamic"
    return sv.VAE(784, (200, 200), 50, activation="tanh", binarize=binarize, rng=seed)


def settings_of(entry: str, seed: int) -> dict:
    objective, samples = entry.split("-")
    return {
        "batch_size": BATCH_SIZE,
        "optimizer": PublishedAdam.name,
        "rng": seed + 1,
        "estimator": ESTIMATORS[objective],
        "num_samples": int(samples),
    }


def processor_seconds_of_an_epoch(entry: str, x: np.ndarray) -> float:
    """From fifty steps of a fresh model, after fifty others that may have to compile."""
    few = x[: 50 * BATCH_SIZE]
    for _ in range(2):
        start = time.process_time()
        model, settings = make_model(0, static=False), settings_of(entry, 0)
        sv.fit(model, few, epochs=1, learning_rate=RATES[0], progress=False, **settings)
    return (time.process_time() - start) * len(x) / len(few)


def train(
    entry: str, x: np.ndarray, static: bool, epochs: int, seed: int, folder: Path
) -> tuple[sv.VAE, dict]:
    """The model after so many epochs, and what its training took; from the newest checkpoint, if there is any."""
    done, steps = 0, 0
    if checkpoint_files(folder):
        found = newest_checkpoint(folder)[0].values
        done, steps = len(found["history"]), found["step"]
        say(f"{folder}: going on after {done} whole epochs")
    if done > epochs:
        raise SystemExit(f"{folder} has made {done} epochs, {epochs} were asked for: choose another --folder")
    start, before = time.process_time(), steps * BATCH_SIZE / len(x)  # epochs, with the part of one
    for i, rate in enumerate(RATES):
        end = min(sum(EPOCHS[: i + 1]), epochs)
        if end < done or (end == done and done < epochs):
            continue
        say(f"{entry}: stage {i + 1} of {len(EPOCHS)}, to epoch {end} at {rate:.2e}")
        if checkpoint_files(folder):
            trained = sv.resume(folder, x, epochs=end, learning_rate=rate)
            model, history = trained.model, trained.history
        else:
            model = make_model(seed, static)
            settings = settings_of(entry, seed)
            history = sv.fit(model, x, epochs=end, learning_rate=rate, checkpoints=folder, **settings)
        if end > before:
            each = (time.process_time() - start) / (end - before)
            say(
                f"{entry}: {each:.1f} s of processor time an epoch; {each * (epochs - end) / 3600:.2f} h to epoch "
                f"{epochs}, {each * (sum(EPOCHS) - end) / 3600:.1f} h to the end of the schedule"
            )
        if end == epochs:
            break
    took = {"seconds": round(history.epochs[-1].seconds, 1), "train_loss": history.epochs[-1].loss}
    return model, took


def evaluation(model: sv.VAE, test: np.ndarray, count: int, seed: int) -> tuple[dict, np.ndarray, np.ndarray]:
    """What the table tells of a model; log p(x) of each of `count` images; and these, binarized.

    Images, pixels and noise depend on count and seed alone: between two models, differences are paired.
    """
    # Spread over the whole set, whose order is not random: of static MNIST, the first thousand are hard ones.
    some = test[np.linspace(0, len(test), min(count, len(test)), endpoint=False, dtype=int)]
    images = minibatch(check_data("test", some, model), model, NoiseStream(seed + 3))
    estimate = sv.estimate_log_likelihood(
        model, images, SAMPLES_OF_LOG_LIKELIHOOD, rng=seed + 4, progress=True
    )
    bound = sv.evaluate(model, test, num_samples=10, rng=seed + 2)
    return bound | estimate.summary(), estimate.value, images


def values_file(folder: Path, epochs: int) -> Path:
    """Where log p(x) of each image is left for a comparison, beside the checkpoints."""
    return folder / f"log-likelihood-after-{epochs}-epochs.npy"


def folder_of(data: str, entry: str, options: argparse.Namespace) -> Path:
    return options.folder / f"{data}-{entry}-seed-{options.seed}"


def run(entry: str, dataset: sv.Dataset, options: argparse.Namespace) -> dict:
    static = options.data == "binarized-mnist"
    folder = folder_of(options.data, entry, options)
    folder.mkdir(parents=True, exist_ok=True)
    model, took = train(entry, dataset.train, static, options.epochs, options.seed, folder)
    found, values, _ = evaluation(model, dataset.test, options.likelihood_examples, options.seed)
    np.save(values_file(folder, options.epochs), values)
    return {
        "data": options.data,
        "entry": entry,
        "epochs": options.epochs,
        "seed": options.seed,
        **took,
        "evaluation": found,
        "threads": os.environ.get("SCRATCHVAE_NUM_THREADS", "all"),
        "versions": versions(),
    }


def results() -> dict:
    saved = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    fresh = {
        "command": "python benchmarks/importance_weighted.py",
        "processor_seconds_an_epoch": {},
        "runs": [],
    }
    return fresh | saved


def write(record: dict) -> None:
    write_atomically(RESULT, lambda file: file.write((json.dumps(record, indent=2) + "\n").encode()))


def collect(run: dict) -> None:
    """Add a run to the results, in place of one of the same settings."""
    same = ("data", "entry", "epochs", "seed")
    record = results()
    others = [other for other in record["runs"] if any(other[name] != run[name] for name in same)]
    write(record | {"runs": sorted([*others, run], key=lambda run: [run[name] for name in same])})


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("entries", nargs="*", metavar="ENTRY", help=f"of {', '.join(ENTRIES)} (default: all)")
    parser.add_argument("--data", default="mnist", choices=("mnist", "binarized-mnist"))
    parser.add_argument(
        "--epochs", type=int, default=sum(EPOCHS), help="cut off after so many (default: %(default)s)"
    )
    parser.add_argument(
        "--likelihood-examples", type=int, default=10_000, help="N of them, evenly spread (default: all)"
    )
    parser.add_argument(
        "--estimate", action="store_true", help="measure what an epoch takes, and train nothing"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/importance-weighted"), help="of checkpoints"
    )
    options = parser.parse_args()
    if unknown := set(options.entries) - set(ENTRIES):
        parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(ENTRIES)}")
    if not 1 <= options.epochs <= sum(EPOCHS):
        parser.error(f"--epochs is {options.epochs}, expected 1 to {sum(EPOCHS)}")
    dataset = sv.load_dataset(options.data)
    if options.estimate:
        for entry in options.entries or ENTRIES:
            seconds = round(processor_seconds_of_an_epoch(entry, dataset.train), 1)
            record = results()
            write(
                record
                | {"processor_seconds_an_epoch": record["processor_seconds_an_epoch"] | {entry: seconds}}
            )
            say(
                f"{entry}: {seconds} s of processor time an epoch, {seconds * sum(EPOCHS) / 3600:.1f} h in all"
            )
        return 0
    try:
        for entry in options.entries or ENTRIES:
            record = run(entry, dataset, options)
            collect(record)
            print(json.dumps(record), flush=True)
    except sv.TrainingInterrupted as interruption:
        say(f"interrupted after step {interruption.step}, which is saved; the same command goes on")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
