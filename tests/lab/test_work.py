"""One estimate's cost: what each estimator asks of the decoder, counted."""

from __future__ import annotations

from scratchvae.lab.work import ROUNDS, work_per_estimate
from tests.models.cases import LATENT_DIM, make_case
from tests.oracles.complex_step import unchanged

# (samples, evaluations, differentiations) per example
EXPECTED = {
    "pathwise": (1, 1, 1),
    "score-function": (1, 1, 0),
    "score-function-leave-one-out": (5, 5, 0),
    "antithetic-pathwise": (2, 2, 2),
    "measure-valued": (1, 3 * LATENT_DIM + 1, 0),
    "taylor-pathwise": (1, 2, 2),
    "importance-weighted-doubly-reparameterized": (3, 3, 3),
}


def test_evaluations_are_those_that_the_decoder_was_asked_for(rng):
    case = make_case(rng)
    rounds = []
    with unchanged(case.vae.theta, case.vae.gradient):
        works = work_per_estimate(
            case.vae,
            case.x,
            {name: row[0] for name, row in EXPECTED.items()},
            advance=lambda: rounds.append(1),
        )
    assert {name: work[:2] for name, work in works.items()} == {
        name: row[1:] for name, row in EXPECTED.items()
    }
    assert all(work.milliseconds > 0 for work in works.values())
    assert len(rounds) == ROUNDS
