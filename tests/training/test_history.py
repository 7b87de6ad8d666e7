"""The history: nothing is lost on the way to JSON and back, and its plot shows what it says."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from matplotlib import pyplot as plt

from scratchvae.training.history import Epoch, History


def make_history(validated=True):
    first = Epoch(1, 12, 0.5, 101.25, -90.5, 21.5, 99.0, -88.0, 22.0, 0.125)
    second = Epoch(2, 24, 1.0, 0.1 + 0.2, -80.0, 1e-17, 95.0, -84.0, 23.0, 0.25)
    if validated:
        return History([first, second])
    nothing = {"validation_loss": None, "validation_reconstruction": None, "validation_kl": None}
    return History([replace(first, **nothing), replace(second, **nothing)])


@pytest.mark.parametrize("validated", [True, False])
def test_records_survive_json_to_the_last_bit(validated):
    history = make_history(validated)
    again = History.from_records(json.loads(json.dumps(history.to_records())))
    assert again == history
    assert again.epochs[1].loss == 0.1 + 0.2 != 0.3


def test_an_empty_history_survives_too():
    assert History.from_records(History().to_records()) == History()
    assert len(History()) == 0


def test_columns_are_in_the_order_of_the_epochs():
    history = make_history()
    assert len(history) == 2
    assert history.column("step") == [12, 24]
    assert history.column("validation_kl") == [22.0, 23.0]
    with pytest.raises(AttributeError):
        history.column("accuracy")


def test_histories_do_not_share_their_epochs():
    one, other = History(), History()
    one.epochs.append(make_history().epochs[0])
    assert len(other) == 0


@pytest.mark.parametrize(
    "records",
    [
        [{"epoch": 1}],
        [{**make_history().to_records()[0], "accuracy": 1.0}],
        [3],
        [None],
        ["epoch"],
    ],
    ids=["missing fields", "another field", "a number", "nothing", "a word"],
)
def test_what_is_no_history_is_refused(records):
    with pytest.raises(ValueError, match="not a history"):
        History.from_records(records)


def curves(axis):
    return {line.get_label(): list(line.get_ydata()) for line in axis.get_lines()}


def test_plot_shows_training_and_validation():
    left, right = make_history().plot()
    assert curves(left) == {
        "loss, training": [101.25, 0.1 + 0.2],
        "loss, validation": [99.0, 95.0],
        "−log p(x|z), training": [90.5, 80.0],  # as a loss: with its sign turned
        "−log p(x|z), validation": [88.0, 84.0],
    }
    assert curves(right) == {
        "KL to the prior, training": [21.5, 1e-17],
        "KL to the prior, validation": [22.0, 23.0],
    }
    for axis in (left, right):
        assert axis.get_xlabel() == "epoch"
        assert axis.get_ylabel() == "nats per example"
        assert {text.get_text() for text in axis.get_legend().get_texts()} == set(curves(axis))
        assert all(list(line.get_xdata()) == [1, 2] for line in axis.get_lines())
    plt.close("all")


def test_plot_without_validation_has_no_curves_for_it():
    left, right = make_history(validated=False).plot()
    assert set(curves(left)) == {"loss, training", "−log p(x|z), training"}
    assert set(curves(right)) == {"KL to the prior, training"}
    plt.close("all")


def test_plot_draws_into_the_axes_it_is_given():
    figure, axes = plt.subplots(1, 2)
    assert make_history().plot(axes) is axes
    assert plt.get_fignums() == [figure.number], "no other figure was made"
    figure.savefig(io.BytesIO(), format="png")
    plt.close("all")
