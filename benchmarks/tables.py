"""Write the measured tables into README.md and benchmarks/README.md from the committed results.

python benchmarks/tables.py           rewrites the blocks between <!-- table: NAME --> and <!-- end -->
python benchmarks/tables.py --check   exits 1 if a block is not what the results say
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
DOCUMENTS = (HERE.parent / "README.md", HERE / "README.md")
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
        rows.append([f"{shape} {setting['activation']}, batch {setting['batch_size']}", *cells])
    columns = ["network", *record["settings"][0]["milliseconds"]]
    note = "\nMilliseconds, median of rounds; in brackets the median over rounds of the ratio to scratchvae. "
    return _markdown(columns, rows) + note + _environment(record).strip() + "\n"


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
    """Test −log p(x) after the published schedule, or a part of it."""
    record = _read("importance_weighted.json")
    rows = []
    for run in record["runs"]:
        found = run["evaluation"]
        objective, samples = run["entry"].split("-")
        part = "all 3,280" if run["epochs"] == 3280 else f"**truncated**: {run['epochs']:,} of 3,280"
        rows.append(
            [
                run["data"],
                f"{objective.upper()}, k = {samples}",
                part,
                f"{-found['log_likelihood']:.2f} ± {found['log_likelihood_standard_error']:.2f}",
                f"{found['log_likelihood_examples']:,}",
                f"{found['negative_elbo']:.2f}",
                PUBLISHED[run["data"]].get(run["entry"], "–"),
            ]
        )
    columns = [
        "data",
        "objective",
        "epochs",
        "test −log p(x)",
        "images",
        "test −ELBO",
        "published, all 3,280",
    ]
    first = record["runs"][0]
    hours = {entry: 3280 * each / 3600 for entry, each in record["processor_seconds_an_epoch"].items()}
    times = ", ".join(f"{entry} {time:,.1f} h" for entry, time in hours.items())
    note = (
        "\nNats per image; 5,000 samples an image, ± standard error over the first images of the test set, as many as "
        f"stated; −ELBO over all of it; seed {first['seed']}; threads: {first['threads']}. Processor time of all 3,280 "
        f"epochs of MNIST, by fifty steps on a busy machine: {times}. "
    )
    return _markdown(columns, rows) + note + _environment(first).strip() + "\n"


TABLES = {
    "importance-weighted": importance_weighted,
    "linear-vae": linear_vae,
    "kill-and-resume": kill_and_resume,
    "training-step": training_step,
    "variance-digits": lambda: variance("variance-digits"),
    "variance-mnist": lambda: variance("variance-mnist"),
    "mnist-bound": mnist_bound,
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
