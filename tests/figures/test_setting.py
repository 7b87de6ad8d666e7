from __future__ import annotations

import numpy as np
import pytest

import scratchvae as sv
from scratchvae.figures.setting import make_setting
from tests.figures.checks import tiny


def test_models_of_a_figure_begin_alike_and_same_seed_same_bits() -> None:
    setting = tiny(1, train=100)
    first, again = setting.trained()[0], setting.trained()[0]
    assert (first.theta == again.theta).all()
    other = setting._replace(seed=1).trained()[0]
    assert (first.theta != other.theta).any()


def test_arguments_of_the_model_and_of_training_arrive() -> None:
    setting = tiny(2, train=100)
    model, history = setting.trained(x=setting.train[:10], model={"beta": 3.0, "latent_dim": 2}, batch_size=5)
    assert (model.beta, model.latent_dim, model.hidden) == (3.0, 2, setting.hidden)
    assert history.column("step") == [2, 4]


def test_what_a_figure_draws_is_not_what_training_draws() -> None:
    """A figure that shared the stream of the initial weights would not be independent of them."""
    setting = tiny(1)
    drawn = setting.generators(1)[0].random(4)
    trained = np.random.default_rng(0).spawn(1)[0].random(4)
    assert (drawn != trained).all()
    assert (drawn == setting.generators(1)[0].random(4)).all()


def test_data_without_labels_are_refused() -> None:
    images = np.zeros((4, 9), np.float32)
    with pytest.raises(ValueError, match="has no labels; expected digits, mnist or fashion-mnist"):
        make_setting(sv.Dataset("mine", images, images, (3, 3)))
