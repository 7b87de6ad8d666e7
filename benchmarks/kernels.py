"""The kernels one by one against OpenBLAS, NumPy, PyTorch and JAX, turn by turn in one process.

    python benchmarks/kernels.py

How time is taken: see `turns.py`. Writes benchmarks/results/kernels.json. PyTorch
and JAX are optional (`pip install '.[peers]'`); a missing one is reported as missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
from importlib.metadata import version
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info
from turns import Call, compare

from scratchvae import kernels
from scratchvae.kernels import reference
from scratchvae.training.run_directory import versions

RESULT = Path(__file__).parent / "results" / "kernels.json"
TURN_SECONDS = 0.1
SEED = 0

# Batch size, and fan_in and fan_out of each layer: 784-400-20-400-784 and 784-200-200-50-200-200-784.
NETWORKS = {
    "784-400-20": (128, [(784, 400), (400, 20), (20, 400), (400, 784)]),
    "784-200-200-50": (20, [(784, 200), (200, 200), (200, 50), (50, 200), (200, 784)]),
}


def product(form: str, rows: int, depth: int, columns: int, dtype: type, rounds: int) -> dict:
    generator = np.random.default_rng(SEED)
    a = generator.normal(size=(rows, depth)).astype(dtype)
    b = generator.normal(size=(depth, columns)).astype(dtype)
    out = np.empty((rows, columns), dtype)
    if form == "x W":
        calls = {
            "scratchvae": lambda: kernels.matmul(a, b, out),
            "OpenBLAS": lambda: np.matmul(a, b, out=out),
        }
    elif form == "xᵀ dy":
        at = np.ascontiguousarray(a.T)
        calls = {
            "scratchvae": lambda: kernels.matmul_transposed_left(at, b, out),
            "OpenBLAS": lambda: np.matmul(at.T, b, out=out),
        }
    else:
        bt = np.ascontiguousarray(b.T)
        calls = {
            "scratchvae": lambda: kernels.matmul_transposed_right(a, bt, out),
            "OpenBLAS": lambda: np.matmul(a, bt.T, out=out),
        }
    result = compare(calls, rounds, TURN_SECONDS)
    operations = 2 * rows * depth * columns
    return {
        "product": form,
        "shape": [rows, depth, columns],
        "dtype": np.dtype(dtype).name,
        "gigaflops": {name: round(operations / s / 1e9, 1) for name, s in result["seconds"].items()},
        "times_scratchvae": result["times_scratchvae"],
    }


def network_products(rounds: int) -> dict:
    results: dict = {}
    for name, (batch, layers) in NETWORKS.items():
        results[name] = []
        for fan_in, fan_out in dict.fromkeys(layers):
            for form, shape in (
                ("x W", (batch, fan_in, fan_out)),
                ("xᵀ dy", (fan_in, batch, fan_out)),
                ("dy Wᵀ", (batch, fan_out, fan_in)),
            ):
                results[name].append(product(form, *shape, np.float32, rounds))
                print(json.dumps(results[name][-1], ensure_ascii=False), flush=True)
    ratios = [row["times_scratchvae"]["OpenBLAS"] for rows in results.values() for row in rows]
    return results | {
        "geometric_mean": round(statistics.geometric_mean(ratios), 3),
        "smallest": min(ratios),
    }


def large_products(rounds: int) -> list[dict]:
    results = []
    for dtype in (np.float32, np.float64):
        for size in (1024, 2048):
            for form in ("x W", "xᵀ dy", "dy Wᵀ"):
                results.append(product(form, size, size, size, dtype, rounds))
                print(json.dumps(results[-1], ensure_ascii=False), flush=True)
    return results


def normals(rounds: int) -> dict:
    count = 10**6
    out, generator = np.empty(count, np.float32), np.random.default_rng(SEED)
    calls: dict[str, Call] = {
        "scratchvae": lambda: kernels.standard_normal(SEED, 0, out),
        "NumPy": lambda: generator.standard_normal(out=out, dtype=np.float32),
    }
    if importlib.util.find_spec("torch"):
        import torch

        tensor = torch.empty(count)
        calls["PyTorch"] = tensor.normal_
    if importlib.util.find_spec("jax"):
        import jax

        draw = jax.jit(lambda key: jax.random.normal(key, (count,)))
        key = jax.random.key(SEED)
        calls["JAX"] = lambda: draw(key).block_until_ready()
    result = compare(calls, rounds, TURN_SECONDS)
    return {
        "nanoseconds_each": {name: round(1e9 * s / count, 3) for name, s in result["seconds"].items()},
        "times_scratchvae": result["times_scratchvae"],
    }


def passes(rounds: int) -> list[dict]:
    """What lies between the products, against the same formulas in NumPy."""
    generator = np.random.default_rng(SEED)
    x = (generator.random((128, 784)) < 0.2).astype(np.float32)
    logits, dlogits = generator.normal(size=(2, 128, 784)).astype(np.float32)
    dvalue = np.full(128, -1 / 128)
    pixels = generator.integers(0, 256, (128, 784), dtype=np.uint8)
    weight, bias = generator.normal(size=(784, 400)).astype(np.float32) / 28, np.zeros(400, np.float32)
    hidden = np.empty((128, 400), np.float32)
    state = [np.abs(generator.normal(size=652_824)).astype(np.float32) for _ in range(4)]
    calls = {
        "cross-entropy and gradient, 128 × 784": (
            x.size,
            "bernoulli_value_and_gradient",
            (x, logits, dvalue, dlogits),
        ),
        "binarization, 128 × 784": (x.size, "binarize", (SEED, 0, pixels, dlogits)),
        "tanh(x W + b), 128 × 784 × 400": (
            128 * 784 * 400,
            "dense_activation",
            (x, weight, bias, "tanh", hidden),
        ),
        "Adam, 652,824 parameters": (652_824, "adam_update", (*state, 0.9, 0.999, 1e-9, 1e-8)),
    }
    results = []
    for what, (count, name, arguments) in calls.items():
        ours, plain = getattr(kernels, name), getattr(reference, name)
        result = compare(
            {
                "scratchvae": lambda f=ours, a=arguments: f(*a),
                "NumPy": lambda f=plain, a=arguments: f(*a),
            },
            rounds,
            TURN_SECONDS,
        )
        results.append(
            {
                "pass": what,
                "microseconds": {side: round(1e6 * s, 1) for side, s in result["seconds"].items()},
                "nanoseconds_each": round(1e9 * result["seconds"]["scratchvae"] / count, 4),
                "times_scratchvae": result["times_scratchvae"],
            }
        )
        print(json.dumps(results[-1], ensure_ascii=False), flush=True)
    return results


def libraries() -> dict[str, str]:
    """Versions of what is compared with."""
    blas = [library for library in threadpool_info() if library["user_api"] == "blas"]
    found = {
        library["internal_api"]: f"{library['version']}, {library['num_threads']} threads" for library in blas
    }
    for name in ("torch", "jax"):
        found[name] = version(name) if importlib.util.find_spec(name) else "not installed"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--only", choices=["products", "large", "normals", "passes"], help="one part, and write nothing"
    )
    options = parser.parse_args()
    parts = {
        "products": network_products,
        "large": large_products,
        "normals": normals,
        "passes": passes,
    }
    if options.only:
        print(json.dumps(parts[options.only](options.rounds), indent=2, ensure_ascii=False))
        return
    record = {
        "command": "python benchmarks/kernels.py",
        "seed": SEED,
        "rounds": options.rounds,
        **{name: part(options.rounds) for name, part in parts.items()},
        "versions": versions() | libraries(),
    }
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
