"""Mean and variance of every weight's gradient over the noise: scratchvae against torch.func.vmap(grad).

    python benchmarks/gradient_variance_speed.py

784-400-20, relu, one image; a sample is one draw of the noise for it, and what is measured is the same for both: mean
and variance of all 652,824 entries of the gradient. PyTorch (`pip install '.[peers]'`, optional) computes the gradients
of a chunk of draws at once and adds them and their squares up. Either runs in processes of its own, one for each number
of threads, and they take turns; a rate is samples per second by the clock. The best number of threads and the best
chunk depend on the machine, so all are tried, and of each the one with the highest median is compared: the ratio is the
median over rounds of that within a round. Memory is that of a process that measures once.
Writes benchmarks/results/gradient_variance_speed.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

import scratchvae as sv
from scratchvae.training.run_directory import versions

RESULT = Path(__file__).parent / "results" / "gradient_variance_speed.json"
SIZES = (784, (400,), 20)
ESTIMATORS = ("pathwise", "score-function")
CHUNKS = (4, 8, 16, 32, 128)  # draws whose gradients torch holds at once: 2.6 MB each
THREADS = (1, 2)
REST_SECONDS = 0.2  # for the threads of the turn before to go to sleep
BLOCKS = 20  # of torch's draws, for a standard error, as ours


def setting():
    vae = sv.VAE(*SIZES, rng=0)
    x = (np.random.default_rng(0).random((1, SIZES[0])) < 0.2).astype(np.float32)
    return vae, x


class TorchGradients:
    """The same by torch.func.vmap(grad): running sums of the gradients and of their squares."""

    def __init__(self, vae, x, estimator):
        import torch

        self.torch = torch
        self.parameters = {name: torch.tensor(value) for name, value in vae.parameters.items()}
        data = torch.tensor(x)

        def dense(h, p, layer):
            return torch.addmm(p[f"{layer}.bias"], h, p[f"{layer}.weight"])

        def loss(p, noise):
            h = torch.relu(dense(data, p, "encoder.0"))
            mean, log_var = dense(h, p, "encoder.mean"), dense(h, p, "encoder.log_var")
            z = mean + torch.exp(0.5 * log_var) * noise
            if estimator == "score-function":
                z = z.detach()
            logits = dense(torch.relu(dense(z, p, "decoder.0")), p, "decoder.1")
            log_likelihood = (data * logits - torch.nn.functional.softplus(logits)).sum()
            kl = 0.5 * (mean**2 + torch.expm1(log_var) - log_var).sum()
            if estimator == "score-function":
                score = (-0.5 * (log_var + (z - mean) ** 2 / torch.exp(log_var))).sum()
                return kl - log_likelihood - log_likelihood.detach() * score
            return kl - log_likelihood

        self.gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))

    def sums(self, draws, chunk):
        """{name: (sum, sum of squares)} over draws of the noise."""
        total = {
            name: (self.torch.zeros_like(p), self.torch.zeros_like(p)) for name, p in self.parameters.items()
        }
        for _ in range(draws // chunk):
            found = self.gradients(self.parameters, self.torch.randn(chunk, 1, SIZES[-1]))
            for name, g in found.items():
                total[name][0].add_(g.sum(dim=0))
                total[name][1].add_(g.square_().sum(dim=0))
        return total


def ours(vae, x, estimator, draws):
    return sv.gradient_variance(vae, x, (estimator,), draws, rng=0)


class Contestant:
    """One of the two in a process of its own, which computes when it is told to and says how many seconds it took."""

    def __init__(self, name, threads):
        number = {key: str(threads) for key in ("OMP_NUM_THREADS", "SCRATCHVAE_NUM_THREADS")}
        self.name, self.threads = name, threads
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | number,
        )

    def rate(self, estimator, draws, chunk=0):
        """Samples per second."""
        time.sleep(REST_SECONDS)
        self.process.stdin.write(json.dumps([estimator, draws, chunk]) + "\n")
        self.process.stdin.flush()
        return draws / json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def serve(name):
    """Do what a `Contestant` is told, line by line."""
    vae, x = setting()
    peers = {}
    for line in sys.stdin:
        estimator, draws, chunk = json.loads(line)
        if name == "torch" and estimator not in peers:
            peers[estimator] = TorchGradients(vae, x, estimator)
        start = time.perf_counter()
        if name == "torch":
            peers[estimator].sums(draws, chunk)
        else:
            ours(vae, x, estimator, draws)
        print(json.dumps(time.perf_counter() - start), flush=True)


def rates(estimator, options):
    """{(contestant, threads, chunk): samples per second of each round}"""
    has_torch = importlib.util.find_spec("torch") is not None
    contestants = [
        Contestant(name, threads)
        for name in ("scratchvae", *["torch"] * has_torch)
        for threads in THREADS
        if threads <= os.cpu_count()
    ]
    turns = [
        (contestant, chunk)
        for contestant in contestants
        for chunk in (CHUNKS if contestant.name == "torch" else (0,))
    ]
    found = {(contestant.name, contestant.threads, chunk): [] for contestant, chunk in turns}
    for contestant, chunk in turns:
        contestant.rate(estimator, chunk or 2_000, chunk)  # compiles
    for _ in range(options.rounds):
        for contestant, chunk in turns:
            draws = options.torch_draws if chunk else options.draws
            found[contestant.name, contestant.threads, chunk].append(contestant.rate(estimator, draws, chunk))
    for contestant in contestants:
        contestant.close()
    return found


def fastest(found, name):
    """The setting of a contestant with the highest median rate, or None if it is not there."""
    settings = [key for key in found if key[0] == name]
    return max(settings, key=lambda key: statistics.median(found[key]), default=None)


def agreement(vae, x, estimator, draws, own_draws):
    """Of each tensor the two traces of the variance, their standard errors, and the distance in standard errors."""
    peer = TorchGradients(vae, x, estimator)
    peer.torch.manual_seed(0)
    size, blocks = draws // BLOCKS, []
    for _ in range(BLOCKS):
        sums = peer.sums(size, 8)
        blocks.append(
            {
                name: (first.double().numpy(), second.double().numpy())
                for name, (first, second) in sums.items()
            }
        )
    mine, rows = ours(vae, x, estimator, own_draws), []
    for name in vae.parameters:
        traces = np.array([((q - s**2 / size) / (size - 1)).sum() for s, q in (b[name] for b in blocks)])
        trace, error = traces.mean(), traces.std(ddof=1) / np.sqrt(BLOCKS)
        own, own_error = mine.total(estimator, name), mine.total_standard_error(estimator, name)
        rows.append(
            {
                "tensor": name,
                "scratchvae": own,
                "standard_error": own_error,
                "torch": float(trace),
                "torch_standard_error": float(error),
                "standard_errors_apart": float(abs(own - trace) / np.hypot(own_error, error)),
            }
        )
    return rows


def memory(estimator, draws):
    """Peak memory and CPU seconds of a process that measures so many draws."""
    command = [sys.executable, __file__, "--alone", estimator, "--draws", str(draws)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def alone(estimator, draws):
    vae, x = setting()
    start = time.process_time()
    result = ours(vae, x, estimator, draws)
    # Of this process since it began, Python, NumPy and numba included: getrusage also remembers what the parent, with
    # torch, had when it started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1000
    seconds = time.process_time() - start
    print(
        json.dumps({"draws": result.num_samples, "peak_megabytes": round(peak), "seconds": round(seconds, 1)})
    )


def measure(estimator, options):
    vae, x = setting()
    found = rates(estimator, options)
    mine, theirs = fastest(found, "scratchvae"), fastest(found, "torch")
    record = {
        "estimator": estimator,
        "draws": options.draws,
        "rounds": options.rounds,
        "threads": mine[1],
        "samples_per_second": round(statistics.median(found[mine])),
        "rates": [
            {
                "contestant": name,
                "threads": threads,
                "chunk": chunk,
                "samples_per_second": [round(r) for r in each],
            }
            for (name, threads, chunk), each in found.items()
        ],
        "memory": memory(estimator, 100_000),
    }
    if theirs is not None:
        ratios = [m / t for m, t in zip(found[mine], found[theirs], strict=True)]
        record["torch"] = {
            "threads": theirs[1],
            "chunk": theirs[2],
            "samples_per_second": round(statistics.median(found[theirs])),
            "times_torch": round(statistics.median(ratios), 1),
            "least": round(min(ratios), 1),
            "most": round(max(ratios), 1),
        }
        record["agreement"] = agreement(vae, x, estimator, options.compared, options.draws)
    return record


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--draws", type=int, default=61_440, help="of each turn of scratchvae, 20 blocks (default: 61,440)"
    )
    parser.add_argument("--torch-draws", type=int, default=256, help="the same of torch (default: 256)")
    parser.add_argument(
        "--compared", type=int, default=8_000, help="draws of torch for the agreement (default: 8,000)"
    )
    parser.add_argument(
        "--alone", choices=ESTIMATORS, help="one measurement for its memory, and write nothing"
    )
    parser.add_argument(
        "--serve", choices=("scratchvae", "torch"), help="be a contestant, for the program itself"
    )
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    if options.alone:
        alone(options.alone, options.draws)
        return
    runs = []
    for estimator in ESTIMATORS:
        runs.append(measure(estimator, options))
        print(json.dumps({key: value for key, value in runs[-1].items() if key != "agreement"}), flush=True)
    torch = version("torch") if importlib.util.find_spec("torch") else "not installed"
    record = {
        "command": "python benchmarks/gradient_variance_speed.py",
        "seed": 0,
        "sizes": "784-400-20",
        "runs": runs,
        "versions": versions() | {"torch": torch},
    }
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
