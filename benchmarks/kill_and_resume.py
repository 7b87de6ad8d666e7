"""Kill training at random moments, go on each time, and compare with the run that was never killed, bit for bit.

    python benchmarks/kill_and_resume.py

Trains a small VAE on the digits by `scratchvae train`, in a process that is killed by SIGKILL at a random moment; then
`scratchvae resume`, killed again; and so on until the run has ended, and further runs until all kills are spent.
Checkpoints come so often that most kills fall into one. Writes benchmarks/results/kill_and_resume.json.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import signal
import tempfile
import time
from pathlib import Path

# Processes are forked from one that has everything loaded, and threads would not survive that.
os.environ["SCRATCHVAE_NUM_THREADS"] = "1"

from scratchvae.cli import main as scratchvae
from scratchvae.training.checkpoint import checkpoint_files, newest_checkpoint
from scratchvae.training.run_directory import versions, write_atomically

RESULT = Path(__file__).parent / "results" / "kill_and_resume.json"
STEPS_BETWEEN_CHECKPOINTS = 4
# What has a state of its own to lose: an estimator that learns, a weight that changes by the step, moments.
OPTIONS = [
    "--estimator",
    "score-function-running-mean",
    "--kl-warmup",
    "3",
    "--optimizer",
    "adam",
    "--seed",
    "7",
]
LONGEST_LIFE = 0.5  # of a process, in seconds


def work(arguments: list[str], life: float | None) -> tuple[int, bool]:
    """Run a command in a process of its own, and kill it after so many seconds; its number, and whether it ended."""
    child = os.fork()
    if child == 0:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        os._exit(scratchvae(arguments))
    if life is not None:
        time.sleep(life)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"`scratchvae {' '.join(arguments)}` ended with status {os.WEXITSTATUS(status)}")
    return child, os.WIFEXITED(status)


def without_seconds(records: list[dict]) -> list[dict]:
    return [{**record, "seconds": None} for record in records]


def state(folder: Path) -> dict:
    """All that a run leaves, but for wall-clock seconds: the last checkpoint, the parameters, the history."""
    found, refused = newest_checkpoint(folder)
    assert not refused, refused
    values = {**found.values, "seconds": None, "history": without_seconds(found.values["history"])}
    files = {name: (folder / name).read_bytes() for name in ("parameters.npz", "config.json")}
    history = without_seconds(json.loads((folder / "history.json").read_text(encoding="utf-8")))
    arrays = {name: array.tobytes() for name, array in found.arrays.items()}
    return {"values": values, "history": history} | files | arrays


def differences(folder: Path, expected: dict) -> list[str]:
    """Names of what is not, bit for bit, as expected."""
    found = state(folder)
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def kill_until_it_ends(train: list[str], folder: Path, moments: random.Random, kills: int) -> list[dict]:
    """One run, killed at most so many times; for each kill when it came and what it met."""
    record = []
    while True:
        begun = bool(checkpoint_files(folder)) if folder.is_dir() else False
        step = newest_checkpoint(folder)[0].values["step"] if begun else 0
        life = moments.uniform(0, LONGEST_LIFE) if len(record) < kills else None
        # a process that died before its first checkpoint has nothing to go on from, and begins again
        child, ended = work(["resume", str(folder)] if begun else train, life)
        if ended:
            return record
        # what it was writing is still there under the temporary name, which has its number
        half = folder.is_dir() and any(folder.glob(f".checkpoint-*.{child}.part"))
        record.append({"after_seconds": round(life, 4), "from_step": step, "in_a_save": half})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--result", type=Path, default=RESULT)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    often = ["--checkpoint-steps", str(STEPS_BETWEEN_CHECKPOINTS), "--epochs", str(options.epochs)]
    command = ["train", "--data", "digits", *OPTIONS, *often]
    record, different, runs = [], [], 0
    with tempfile.TemporaryDirectory() as scratch:
        never = Path(scratch) / "never"
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            assert scratchvae([*command, "--out", str(never)]) == 0
        expected = state(never)
        while len(record) < options.kills:
            folder = Path(scratch) / str(runs)
            left = options.kills - len(record)
            record += kill_until_it_ends([*command, "--out", str(folder)], folder, moments, left)
            different += differences(folder, expected)
            runs += 1
    result = {
        "command": "python benchmarks/kill_and_resume.py",
        "training": "scratchvae " + " ".join(command),
        "steps": expected["values"]["step"],
        "seed": options.seed,
        "kills": len(record),
        "kills_in_a_save": sum(kill["in_a_save"] for kill in record),
        "runs": runs,
        "compared": sorted(expected),
        "different": sorted(different),
        "moments": record,
        "versions": versions(),
    }
    text = json.dumps(result, indent=2) + "\n"
    write_atomically(options.result, lambda file: file.write(text.encode()))
    summary = f"{result['kills']} kills, {result['kills_in_a_save']} of them in a save, in {runs} runs"
    print(f"{summary}; different from the run that was never killed: {different or 'nothing'}")
    if different:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
