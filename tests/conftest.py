"""What every test gets: loud floating-point errors and a seeded generator; the header tells the set-up."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from importlib.metadata import version

import hypothesis
import numpy as np
import pytest

import scratchvae

# Before matplotlib is imported, here or in a subprocess: pictures go to files, no screen is needed.
os.environ["MPLBACKEND"] = "Agg"

# With reference kernels nothing may need numba, so here it cannot be imported. Tests of the compiled kernels
# begin with pytest.importorskip("numba").
if os.environ.get("SCRATCHVAE_KERNELS") == "reference":
    sys.modules["numba"] = None  # type: ignore[assignment]

# The same examples in every run, and no time limit: the first call of a kernel compiles it.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=0, help="seed of the fixture `rng` (default: 0)")


def pytest_report_header(config: pytest.Config) -> list[str]:
    try:
        from scratchvae.kernels import BACKEND
    except ImportError as error:
        return [f"scratchvae kernels cannot be imported: {error}"]
    threads = 1
    if BACKEND == "compiled":
        from scratchvae.kernels.compiled.threads import num_threads

        threads = num_threads()
    seed = config.getoption("--seed")
    return [
        f"scratchvae {scratchvae.__version__}, numpy {np.__version__}, numba {version('numba')}",
        f"kernels: {BACKEND}, threads: {threads} of {os.cpu_count()} cores, seed: {seed}",
    ]


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator of the test's own: it depends on the test's name and --seed, not on the order of tests."""
    name = hashlib.sha256(request.node.nodeid.encode()).digest()[:8]
    return np.random.default_rng([request.config.getoption("--seed"), int.from_bytes(name)])


@pytest.fixture(autouse=True)
def floating_point_errors_are_raised() -> Iterator[None]:
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        yield
