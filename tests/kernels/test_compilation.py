"""Compiling: announced once, cached where possible, and right on a processor with nothing special."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

from scratchvae.kernels import reference
from scratchvae.kernels.compiled import compilation
from scratchvae.models.vae import VAE

ROOT = Path(__file__).resolve().parents[2]


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "SCRATCHVAE_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )


SGD = (
    "import numpy as np; from scratchvae import kernels\n"
    "for dtype in (np.float32, np.float64):\n"
    "    kernels.sgd_update(*(np.ones(3, dtype) for _ in range(3)), 0.1, 0.9)\n"
)


def test_compilation_is_announced_once_and_only_when_the_cache_is_empty(tmp_path: Path) -> None:
    first, second = (run(SGD, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert first.stderr.count("scratchvae: compiling") == 1
    assert second.stderr == ""
    assert list(tmp_path.rglob("*.nbc"))


def test_without_a_folder_to_write_to_kernels_are_compiled_all_the_same() -> None:
    scope: dict = {}
    exec("def double(x):\n    return x + x", scope)  # numba finds no file of its source, hence no cache
    kernel = compilation.compile_kernel(scope["double"])
    assert kernel(21) == 42


FULL_DISK = """
import errno
from numba.core import caching
def full(self, *_):
    raise OSError(errno.ENOSPC, "No space left on device")
caching.IndexDataCacheFile._save_data = full
"""


def test_a_disk_that_is_full_costs_the_cache_and_nothing_else(tmp_path: Path) -> None:
    found = run(FULL_DISK + SGD + "print('done')", NUMBA_CACHE_DIR=str(tmp_path))
    assert found.stdout == "done\n"
    compiling, not_kept = found.stderr.splitlines()
    assert compiling.startswith("scratchvae: compiling")
    assert not_kept.startswith(f"scratchvae: compiled kernels could not be kept in {tmp_path}")
    assert not_kept.endswith(": No space left on device; later runs compile again")


def twice(x: Any) -> Any:
    return x + x


def test_processes_that_compile_at_once_keep_each_what_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both have looked into the folder before either writes, and one writes while the other does.
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    first, second = compilation.compile_kernel(twice), compilation.compile_kernel(twice)
    with monkeypatch.context() as patch:
        for kernel in (first, second):
            patch.setattr(kernel._cache._cache_file, "_load_index", dict)
        save = first._cache._cache_file._save_data

        def slowly(*what: Any) -> None:
            assert second(2.5) == 5.0
            save(*what)

        patch.setattr(first._cache._cache_file, "_save_data", slowly)
        assert first(2) == 4
    later = compilation.compile_kernel(twice)
    assert later(2.5) == 5.0
    assert later(2) == 4
    assert later.stats.cache_hits.total() == 2


def test_code_for_another_signature_version_or_source_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    compilation.compile_kernel(twice)(2)
    (file,) = tmp_path.rglob("*.nbc")
    for name, other in (("_version", "0.1"), ("_source_stamp", (0.0, 1))):
        later = compilation.compile_kernel(twice)
        monkeypatch.setattr(later._cache._cache_file, name, other)
        assert later(2) == 4
        assert later.stats.cache_misses.total() == 1
    kernel = compilation.compile_kernel(twice)
    monkeypatch.setattr(kernel._cache._cache_file, "_name", lambda key: file.name)
    assert kernel(2.5) == 5.0
    assert kernel.stats.cache_misses.total() == 1


def test_what_another_version_of_numba_wrote_is_not_even_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("numba.__version__", "0.1")
        compilation.compile_kernel(twice)(2)
    (file,) = tmp_path.rglob("*.nbc")
    file.write_bytes(b"objects of classes that this version does not have")
    later = compilation.compile_kernel(twice)
    assert later(2) == 4
    assert later.stats.cache_misses.total() == 1


def test_a_change_of_any_source_makes_new_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def plain() -> None:
        pass

    names = {compilation.compile_kernel(plain, parallel=parallel).__qualname__ for parallel in (False, True)}
    monkeypatch.setattr(compilation, "_FINGERPRINT", "another")
    names.add(compilation.compile_kernel(plain).__qualname__)
    assert len(names) == 3, "serial, parallel and newer kernels are told apart by their names"


GENERIC = """
import sys
import numpy as np
from scratchvae import kernels
from scratchvae.kernels.compiled.tile import VECTOR_BYTES
from scratchvae.models.vae import VAE
rng = np.random.default_rng(0)
x = rng.normal(size=(21, 33))
results = {"bytes": VECTOR_BYTES, "normals": kernels.standard_normal(1, 2, np.empty(3000, np.float32))}
vae = VAE(33, (130,), 3, rng=0)
results["gradient"] = np.empty_like(vae.theta)
pixels, noise = (x > 0.9).astype(np.float32), rng.normal(size=(21, 3)).astype(np.float32)
kernels.vae_gradients(vae.theta, results["gradient"], (33, 130, 3), "relu", None, 1.0, pixels, noise, np.empty((2, 21)))
np.savez(sys.stdout.buffer, **results)
"""


def test_a_processor_without_wide_vectors_gets_right_answers(tmp_path: Path) -> None:
    program = GENERIC.replace("sys.stdout.buffer", repr(str(tmp_path / "results.npz")))
    run(program, NUMBA_CPU_NAME="generic")
    results = np.load(tmp_path / "results.npz")
    assert results["bytes"] == 16
    expected = reference.standard_normal(1, 2, np.empty(3000, np.float32))
    np.testing.assert_array_equal(results["normals"], expected)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(21, 33))
    vae = VAE(33, (130,), 3, rng=0)
    gradient = np.empty_like(vae.theta)
    pixels, noise = (x > 0.9).astype(np.float32), rng.normal(size=(21, 3)).astype(np.float32)
    reference.vae_gradients(
        vae.theta, gradient, (33, 130, 3), "relu", None, 1.0, pixels, noise, np.empty((2, 21))
    )
    np.testing.assert_allclose(results["gradient"], gradient, rtol=0, atol=1e-5 * np.abs(gradient).max())
