"""Which kernels are used, and that both kinds offer the same."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from scratchvae import kernels
from scratchvae.kernels import reference


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_reference_kernels_never_import_numba() -> None:
    program = "import sys; from scratchvae import kernels; print(kernels.BACKEND, 'numba' in sys.modules)"
    assert run(program, SCRATCHVAE_KERNELS="reference").stdout.split() == ["reference", "False"]


def test_an_unknown_backend_is_refused_in_one_sentence() -> None:
    last = run("import scratchvae.kernels", SCRATCHVAE_KERNELS="fast").stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: the environment variable SCRATCHVAE_KERNELS is 'fast'; expected")


def test_the_chosen_backend_is_what_the_environment_says() -> None:
    assert os.environ.get("SCRATCHVAE_KERNELS", "compiled") == kernels.BACKEND


def test_both_backends_offer_the_same_names() -> None:
    pytest.importorskip("numba")
    from scratchvae.kernels import compiled

    assert set(compiled.__all__) == set(reference.__all__)
    assert set(reference.__all__) < set(kernels.__all__)
