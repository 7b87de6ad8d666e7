"""The space of a sweep: every combination once, or different ones at random, the same for the same seed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from scratchvae.training.search import Range, Setting, grid, random_search


def test_a_grid_is_every_combination_in_order() -> None:
    settings = grid({"seed": (3, 4), "beta": (0, 2.0), "estimator": ("score-function",)})
    assert settings == [
        Setting(beta=beta, estimator="score-function", seed=seed) for beta in (0.0, 2.0) for seed in (3, 4)
    ]
    assert all(type(setting.beta) is float for setting in settings)
    assert grid({}) == [Setting()]


def test_no_two_settings_share_a_folder() -> None:
    axes = {"beta": (1.0, 1.0000000000000002), "latent_dim": (2, 12), "width": (1, 21), "seed": (0, 1)}
    names = [setting.name for setting in grid(axes | {"learning_rate": (0.1, 1e-10)})]
    assert len(set(names)) == len(names) == 32
    assert not any(set(name) & set("/\\: ") for name in names)


def test_a_random_search_is_the_same_for_the_same_seed_and_has_every_seed_of_the_space() -> None:
    space = {"beta": Range(0.1, 10), "width": Range(8, 64), "learning_rate": (1e-3, 1e-2), "seed": (5, 6)}
    settings = random_search(space, 20, 7)
    assert settings == random_search(space, 20, 7)
    assert settings != random_search(space, 20, 8)
    assert len(set(settings)) == 40
    assert [setting.seed for setting in settings] == [5, 6] * 20
    assert [setting._replace(seed=0) for setting in settings[::2]] == [
        s._replace(seed=0) for s in settings[1::2]
    ]
    for setting in settings:
        assert 0.1 <= setting.beta <= 10
        assert setting.beta == float(f"{setting.beta:.3g}")
        assert 8 <= setting.width <= 64
        assert type(setting.width) is int
    assert {setting.learning_rate for setting in settings} == {1e-3, 1e-2}


def test_a_range_is_drawn_by_its_logarithm() -> None:
    """A linear draw would put 1 % of the values below 1, where half of them belong.

    A fair coin falls outside 500 ± 80 of 1000 throws once in 2.6 million times (5 standard deviations).
    """
    drawn = np.array(
        [setting.learning_rate for setting in random_search({"learning_rate": Range(0.01, 100)}, 1000, 0)]
    )
    assert abs((drawn < 1).sum() - 500) < 80
    whole = [random_search({"width": Range(1, 3)}, 1, seed)[0].width for seed in range(300)]
    # 1 from [½, 1½], 3 from [2½, 3½]: shares log 3 / log 7 and log 1.4 / log 7, with 5 standard deviations
    for value, width in ((1, math.log(3)), (3, math.log(1.4))):
        share = width / math.log(7)
        assert abs(whole.count(value) - 300 * share) < 5 * math.sqrt(300 * share * (1 - share))


def test_a_search_for_all_there_is_finds_it_and_for_more_says_so() -> None:
    space = {"beta": (1.0, 2.0), "latent_dim": Range(2, 4)}
    assert set(random_search(space, 6, 0)) == set(grid({"beta": (1.0, 2.0), "latent_dim": (2, 3, 4)}))
    with pytest.raises(ValueError, match="search for 7 settings found 6 different ones: ask for fewer"):
        random_search(space, 7, 0)


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({"depth": (1,)}, "the space has 'depth', expected of: beta, latent_dim"),
        ({"beta": ()}, "beta has no values"),
        ({"beta": (1.0, 2.0, 1)}, "beta has the value 1.0 twice"),
        ({"beta": (-1.0,)}, "beta is -1, expected a finite number at least 0"),
        ({"beta": (math.nan,)}, "beta is nan"),
        ({"beta": 1.0}, "beta is 1.0, expected a sequence"),
        ({"latent_dim": (1.5,)}, "latent_dim is 1.5, expected an integer"),
        ({"width": (0,)}, "width is 0, expected an integer of at least 1"),
        ({"learning_rate": (0.0,)}, "learning_rate is 0, expected a finite number greater than 0"),
        ({"estimator": ("pathways",)}, "estimator is 'pathways', expected one of: pathwise"),
        ({"estimator": "pathwise"}, "estimator is 'pathwise', expected a sequence"),
        ({"seed": (-1,)}, "seed is -1, expected an integer of at least 0"),
        ({"seed": Range(0, 3)}, "seed is the range 0:3, expected values"),
        ({"beta": Range(0, 1)}, "beta is the range 0:1, expected 0 < low < high"),
        ({"beta": Range(2, 1)}, "beta is the range 2:1, expected 0 < low < high"),
    ],
)
def test_bad_spaces(space: dict[str, Any], says: str) -> None:
    for search in (grid, lambda bad: random_search(bad, 1, 0)):
        with pytest.raises((ValueError, TypeError), match=says.replace("(", r"\(")):
            search(space)


def test_a_grid_takes_no_range() -> None:
    with pytest.raises(
        ValueError, match=r"beta is the range 0\.1:1, expected values: a range is for a random search"
    ):
        grid({"beta": Range(0.1, 1)})
