"""What every test gets: loud floating-point errors, a seed and a generator made from it; the header tells the set-up.

`--seed 17` runs the suite with another seed. `--seeds 0-99` runs every test in which a seed decides anything, and no
other, once for each seed, seed by seed. A test that fails there as `test_x[case-seed17]` is run alone by
`--seed 17 -k ...`, or by its name with `--seeds 17`.

The whole suite takes a process for each core, and at most four, where pytest-xdist is installed, as it is with the
`test` extra; `pytest -n 0` takes one. A file, a test, `-s` or `--seeds` takes one, so that it starts at once and a
debugger works.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import signal
import sys
from collections.abc import Iterator
from importlib.metadata import version

import hypothesis
import numpy as np
import pytest
from hypothesis import is_hypothesis_test

import scratchvae
from tests import ledger

# Before matplotlib is imported, here or in a subprocess: pictures go to files, no screen is needed.
os.environ["MPLBACKEND"] = "Agg"

# A shell lets what it starts in the background ignore Ctrl-C, and so all that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# With reference kernels nothing may need numba, so here it cannot be imported. Tests of the compiled kernels
# begin with pytest.importorskip("numba").
if os.environ.get("SCRATCHVAE_KERNELS") == "reference":
    sys.modules["numba"] = None  # type: ignore[assignment]

# The same examples in every run, and no time limit: the first call of a kernel compiles it.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("scratchvae")
    group.addoption("--seed", type=int, default=0, help="seed of the fixtures `seed` and `rng` (default: 0)")
    group.addoption(
        "--seeds",
        type=_seeds,
        metavar="FIRST-LAST",
        help="run the tests that depend on a seed, once for each of these: 0-99 is the nightly run",
    )


def _seeds(text: str) -> range:
    first, dash, last = text.partition("-")
    try:
        seeds = range(int(first), int(last if dash else first) + 1)
    except ValueError:
        seeds = range(0)
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text!r} is not a seed such as 17, or a range such as 0-99")
    return seeds


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    seeds = metafunc.config.getoption("--seeds")
    marks = metafunc.definition.iter_markers("parametrize")
    if seeds is None or any(mark.args[0] == "seed" for mark in marks):
        return
    if is_hypothesis_test(metafunc.function):
        metafunc.fixturenames.append("seed")
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", seeds, indirect=True, ids=[f"seed{seed}" for seed in seeds])


MOST_PROCESSES = 4  # each compiles what it meets first, so that more would all compile the same


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    options = config.option
    if not config.pluginmanager.hasplugin("xdist") or hasattr(config, "workerinput"):
        return
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and options.seeds is None
    if whole and options.numprocesses is None and options.capture != "no":  # who takes -s wants to see prints
        options.numprocesses = "auto"
        options.maxprocesses = options.maxprocesses or MOST_PROCESSES
        options.dist = "loadfile"  # what a file's tests share is made once


STATISTICAL = pytest.StashKey[list[str]]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.config.getoption("--seeds") is not None and is_hypothesis_test(item.obj):
        hypothesis.seed(item.callspec.params["seed"])(item.obj)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.stash[STATISTICAL] = [i.nodeid for i in items if "chance" in getattr(i, "fixturenames", ())]
    if config.getoption("--seeds") is None:
        return
    seed_of = {item: item.callspec.params.get("seed") for item in items if hasattr(item, "callspec")}
    config.hook.pytest_deselected(items=[item for item in items if seed_of.get(item) is None])
    items[:] = sorted((item for item in items if seed_of.get(item) is not None), key=seed_of.__getitem__)


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
    # Where others collect, this process cannot count the statistical tests.
    budget = ledger.summary(None) if config.getoption("numprocesses", None) else []
    return [
        f"scratchvae {scratchvae.__version__}, numpy {np.__version__}, numba {version('numba')}",
        f"kernels: {BACKEND}, threads: {threads} of {os.cpu_count()} cores, seed: {seed}",
        *budget,
    ]


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    cases = len(config.stash.get(STATISTICAL, [])) // len(config.getoption("--seeds") or [0])
    return ledger.summary(cases) if cases else []


@pytest.fixture(scope="session")
def statistical_cases(request: pytest.FixtureRequest) -> list[str]:
    """What was collected and takes `chance`, with the repetitions of --seeds."""
    return request.config.stash[STATISTICAL]


@pytest.fixture
def chance() -> ledger.Chance:
    """This case's share of the budget for bad luck: see `tests/ledger.py`."""
    return ledger.Chance()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed that all randomness of a test comes from."""
    return getattr(request, "param", request.config.getoption("--seed"))


@pytest.fixture
def rng(request: pytest.FixtureRequest, seed: int) -> np.random.Generator:
    """A generator of the test's own: it depends on the test's name and the seed, not on the order of tests."""
    # The same, whether the seed comes from --seed or is one of --seeds, which add it to the name.
    name = re.sub(rf"-?seed{seed}(?=\]$)", "", request.node.nodeid).removesuffix("[]")
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])])


@pytest.fixture(autouse=True)
def floating_point_errors_are_raised() -> Iterator[None]:
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        yield
