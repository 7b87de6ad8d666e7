"""The same bits on any number of threads, in any process, from several Python threads at once, and after a fork."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from scratchvae.kernels.compiled import threads
from tests.kernels.exercise import digest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def expected() -> str:
    return digest()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_bits_do_not_depend_on_the_number_of_tasks(
    number: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_threads", number)
    assert digest() == expected


@pytest.mark.parametrize("number", ["1", "4"])
def test_bits_do_not_depend_on_the_number_of_threads(number: str, expected: str) -> None:
    found = run("-m", "tests.kernels.exercise", SCRATCHVAE_NUM_THREADS=number, NUMBA_NUM_THREADS=number)
    assert found.stdout.split() == [expected], found.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_kernels_work_after_a_fork(layer: str, expected: str) -> None:
    found = run(
        "-W",
        "ignore::DeprecationWarning",
        "-m",
        "tests.kernels.exercise",
        "fork",
        NUMBA_THREADING_LAYER=layer,
        SCRATCHVAE_NUM_THREADS="2",
    )
    if "No threading layer could be loaded" in found.stderr:
        pytest.skip(f"numba has no threading layer {layer} here")
    assert found.stdout.split() == [expected, expected], found.stderr


def test_kernels_work_from_several_python_threads_at_once(
    expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_threads", 2)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: digest(), range(8))) == {expected}


def test_a_layer_that_is_not_threadsafe_is_used_by_one_thread_at_a_time(expected: str) -> None:
    program = (
        "from concurrent.futures import ThreadPoolExecutor; from tests.kernels.exercise import digest\n"
        "with ThreadPoolExecutor(4) as pool: print(*set(pool.map(lambda _: digest(), range(8))))"
    )
    found = run("-c", program, NUMBA_THREADING_LAYER="workqueue", SCRATCHVAE_NUM_THREADS="2")
    assert found.stdout.split() == [expected], found.stderr


def _column_sums(task: int, tasks: int, numbers: np.ndarray, sums: np.ndarray) -> None:
    for column in range(task, sums.size, tasks):
        sums[column] = numbers[:, column].sum()


def _out_of_memory(task: int, tasks: int) -> None:
    if task == 1:
        raise MemoryError


def test_a_kernel_knows_arrays_with_gaps_from_those_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_threads", 2)
    kernel, whole = threads.ParallelKernel(_column_sums), np.arange(24.0).reshape(4, 6)
    for numbers in (whole[:, ::2].copy(), whole[:, ::2], np.asfortranarray(whole[:, 1::2])):
        sums = np.empty(3)
        kernel(True, numbers, sums)
        np.testing.assert_array_equal(sums, numbers.sum(axis=0))


def test_a_task_that_fails_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_threads", 2)
    with pytest.raises(MemoryError, match="could not get the memory"):
        threads.ParallelKernel(_out_of_memory)(True)
    assert threads._busy.acquire(blocking=False), "and the threads are free again"
    threads._busy.release()


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", ""])
def test_a_number_of_threads_that_is_none_is_refused(text: str) -> None:
    last = run("-c", "import scratchvae.kernels", SCRATCHVAE_NUM_THREADS=text).stderr.strip().splitlines()[-1]
    assert last.startswith(
        f"ValueError: the environment variable SCRATCHVAE_NUM_THREADS is {text!r}; expected"
    )


def test_number_of_threads_is_what_the_environment_says() -> None:
    program = "from scratchvae.kernels.compiled.threads import num_threads; print(num_threads())"
    assert run("-c", program, SCRATCHVAE_NUM_THREADS="3").stdout.strip() == "3"
    assert run("-c", program, NUMBA_NUM_THREADS="2").stdout.strip() in {
        "2",
        os.environ.get("SCRATCHVAE_NUM_THREADS", "2"),
    }


def test_openmp_is_told_to_be_less_patient_unless_the_user_has_told_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    with threads._limited_patience():
        assert os.environ["GOMP_SPINCOUNT"] == threads.TURNS
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    with threads._limited_patience():
        assert os.environ["GOMP_SPINCOUNT"] == "7"
    assert os.environ["GOMP_SPINCOUNT"] == "7"
