"""`scratchvae sweep`: from options to a space, and from a record to a table, a picture and files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scratchvae.cli import sweep as verb
from scratchvae.training.run_directory import versions
from scratchvae.training.search import Range, Setting
from scratchvae.training.sweep import summary

Command = Callable[..., Any]


def trial(value: float | None, mishaps: tuple[str, ...] = (), **setting: Any) -> dict[str, Any]:
    """A record as `sweep` returns it; without a value it diverged."""
    made = Setting(**setting)
    ended: dict[str, Any] = {"state": "diverged", "reason": "training diverged at step 2"}
    if value is not None:
        terms = {"negative_elbo": value, "reconstruction": 2 - value, "kl": 2.0}
        ended = {"state": "done", "validation": terms, "seconds": 1.0}
    return {"name": made.name, "setting": made._asdict(), **ended, "mishaps": list(mishaps)}


def record(*trials: dict[str, Any]) -> dict[str, Any]:
    plan = {"data": "grey.npy", "digest": "", "epochs": 3, "batch_size": 8, "seed": 4}
    return {
        "plan": plan | {"train_images": 28, "held_out_images": 4},
        "search": {"draws": None, "space": {}},
        "trials": list(trials),
        "settings": summary(trials),
        "versions": versions(),
    }


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the library is told, which then tells of three trials."""
    arguments: dict[str, Any] = {}

    def sweep(data: str, space: Any, folder: Path, **settings: Any) -> dict[str, Any]:
        arguments.update(data=data, space=space, folder=folder, **settings)
        return record(
            trial(31.5, beta=1.0, seed=0),
            trial(30.5, ("was killed by SIGKILL",), beta=1.0, seed=1),
            trial(30.25, beta=2.0, learning_rate=0.01),
            trial(None, beta=2.0, learning_rate=0.3),
        )

    monkeypatch.setattr(verb, "sweep_settings", sweep)
    return arguments


def test_the_options_are_the_space_and_the_rest_is_as_for_train(
    told: dict[str, Any], images: Path, command: Command
) -> None:
    options = ["--betas", "0,1.5", "--latent-dims", "2:8", "--widths", "5", "--learning-rates", "1e-4:1e-2"]
    options += ["--estimators", "pathwise,score-function", "--seeds", "3,1", "--random", "7", "--seed", "9"]
    run = ["--epochs", "2", "--batch-size", "4", "--workers", "3", "--retries", "0", "--out", "out"]
    assert command("sweep", "--data", images, *options, *run).status == 0
    assert told == {
        "data": str(images),
        "space": {
            "beta": (0.0, 1.5),
            "latent_dim": Range(2, 8),
            "width": (5,),
            "learning_rate": Range(1e-4, 1e-2),
            "estimator": ("pathwise", "score-function"),
            "seed": (3, 1),
        },
        "folder": Path("out"),
        "epochs": 2,
        "batch_size": 4,
        "draws": 7,
        "seed": 9,
        "workers": 3,
        "scheduler": None,
        "retries": 0,
    }
    assert isinstance(told["space"]["latent_dim"].low, int)


def test_defaults(told: dict[str, Any], command: Command) -> None:
    assert command("sweep").status == 0
    assert told["data"] == "digits"
    assert told["space"] == {"beta": (0.25, 0.5, 1.0, 2.0, 4.0), "width": (64,), "latent_dim": (8,)}
    assert told["folder"] == Path("runs/sweep-digits")
    assert (told["epochs"], told["batch_size"], told["workers"], told["draws"]) == (100, 64, None, None)


def test_a_table_a_picture_and_the_record(told: dict[str, Any], images: Path, command: Command) -> None:
    done = command("sweep", "--data", images, "--out", "out", "--json", "result.json")
    title, _, heads, _, *rows = done.out.splitlines()
    assert title.startswith(
        "Sweep: grey.npy, 28 images to train on, 3 epochs; nats per image, means over 4 held-out"
    )
    assert heads.split() == [
        "beta",
        "latent",
        "width",
        "rate",
        "estimator",
        "−ELBO",
        "−log",
        "p(x|z)",
        "KL",
        "seeds",
        "done",
    ]
    assert [" ".join(row.split()) for row in rows[:3]] == [
        "2 8 64 0.01 pathwise 30.25 28.25 2.00 1 of 1",
        "1 8 64 0.001 pathwise 31.00 ± 0.50 29.00 ± 0.50 2.00 ± 0.00 2 of 2",
        "2 8 64 0.3 pathwise – – – 0 of 1",
    ]
    killed, diverged = (line for line in rows[3:] if line)
    assert killed.endswith("seed-1 is done, but on the way it was killed by SIGKILL")
    assert diverged.endswith("seed-0 failed: training diverged at step 2")
    assert done.err == "wrote out/sweep.png and out/sweep.json\n"
    assert Path("out/sweep.json").read_bytes() == Path("result.json").read_bytes()
    assert json.loads(Path("result.json").read_text(encoding="utf-8"))["settings"][0]["beta"] == 2.0
    assert Path("out/sweep.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("states", [["done", "gave up"], ["diverged"]])
def test_the_status_tells_of_trials_given_up_and_of_none_done(
    states: list[str], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sweep(*_arguments: Any, **_settings: Any) -> dict[str, Any]:
        trials = [trial(30.0 if state == "done" else None, beta=i) for i, state in enumerate(states)]
        return record(*(each | {"state": state} for each, state in zip(trials, states, strict=True)))

    monkeypatch.setattr(verb, "sweep_settings", sweep)
    done = command("sweep")
    assert done.status == 1
    assert "training diverged at step 2" in done.out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--betas", "-1"], "argument --betas: got '-1', expected a finite number of at least 0"),
        (["--betas", "1,x"], "argument --betas: got 'x', expected a finite number of at least 0, in '1,x'"),
        (["--betas", "1,1.0"], "argument --betas: got '1,1.0', expected different numbers"),
        (
            ["--betas", "0:1", "--random", "3"],
            "argument --betas: got '0:1', expected a range LOW:HIGH with 0 < LOW",
        ),
        (
            ["--betas", "1:2:3"],
            "argument --betas: got '1:2:3', expected a range LOW:HIGH with 0 < LOW < HIGH",
        ),
        (["--betas", "2:1"], "argument --betas: got '2:1', expected a range LOW:HIGH with 0 < LOW < HIGH"),
        (
            ["--betas", "1:2"],
            "--betas is a range, from which a random search draws: add --random N, or name values",
        ),
        (
            ["--latent-dims", "1.5"],
            "argument --latent-dims: got '1.5', expected a whole number of at least 1",
        ),
        (["--widths", "0"], "argument --widths: got '0', expected a whole number of at least 1"),
        (["--learning-rates", "0"], "argument --learning-rates: got '0', expected a number greater than 0"),
        (["--estimators", "pathways"], "estimator is 'pathways', expected one of: pathwise"),
        (["--estimators", "pathwise,"], "argument --estimators: got 'pathwise,', expected names"),
        (["--seeds", "1:3"], "argument --seeds: got '1:3', expected seeds with commas between"),
        (["--random", "0"], "argument --random: got '0', expected a whole number of at least 1"),
        (["--random", "9"], "a random search for 9 settings found 5 different ones: ask for fewer"),
        (["--epochs", "0"], "argument --epochs: got '0', expected a whole number of at least 1"),
        (["--workers", "0"], "argument --workers: got '0', expected a whole number of at least 1"),
        (["--retries", "-1"], "argument --retries: got '-1', expected a whole number of at least 0"),
        (
            ["--workers", "2", "--scheduler", "tcp://h:1"],
            "the cluster at tcp://h:1 has its own: leave one of the two out",
        ),
        (["--data", "missing.npy"], "data is 'missing.npy', expected a known data set"),
    ],
)
def test_bad_options_are_one_line(options: list[str], says: str, command: Command) -> None:
    done = command("sweep", *options, "--out", "out")
    assert done.status == 2
    assert done.out == ""
    assert done.err.startswith("scratchvae sweep: ")
    assert done.err.count("\n") == 1
    assert says in done.err
    assert not list(Path("out").glob("*"))


def test_where_no_scheduler_answers(command: Command) -> None:
    pytest.importorskip("distributed")
    for address, says in (("nonsense://h:1", "unknown address scheme"), ("tcp://127.0.0.1:1", "")):
        done = command("sweep", "--scheduler", address)
        assert done.status == 2
        assert f"scheduler is '{address}', where no Dask scheduler answers (" in done.err
        assert says in done.err
        assert "start one with `dask scheduler`" in done.err
