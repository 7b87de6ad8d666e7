from __future__ import annotations

from pathlib import Path

from scratchvae.figures.posterior_collapse import posterior_collapse
from tests.figures.checks import check_finding, tiny


def test_every_training_is_diagnosed(tmp_path: Path) -> None:
    """Catches a cure that is not applied, and terms of one run told of another."""
    setting = tiny(12, train=320, test=100)
    record = check_finding("posterior-collapse", setting, posterior_collapse(setting), tmp_path)
    runs = record["runs"]
    assert list(runs) == [
        "shallow",
        "deep",
        "deep, no reparameterization",
        "deep, KL warm-up",
        "deep, free bits",
    ]
    # so little training leaves the deep models collapsed, with and without reparameterization ...
    for name in ("deep", "deep, no reparameterization"):
        assert runs[name]["kl"] < 0.7
        assert runs[name]["mutual_information"] < 0.7
    # ... unless they may spend half a nat in each of the four dimensions
    assert runs["deep, free bits"]["kl"] > 1
    for run in runs.values():
        assert run["mutual_information"] < run["kl"] + 0.3  # it is at most the KL, but for sampling
        assert len(run["kl_by_dimension"]) == 4
