"""A sweep ends with the same bits whatever happens to its processes, and says what did."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scratchvae as sv
from scratchvae.training import places
from scratchvae.training.search import Setting
from scratchvae.training.sweep import summary, sweep
from scratchvae.training.trial import split

SPACE = {"beta": (0.5, 2.0), "latent_dim": (2,), "width": (5,)}
NAMES = tuple(f"beta-{beta}-latent-2-width-5-rate-0.001-pathwise-seed-0" for beta in SPACE["beta"])
PLAN: dict[str, Any] = {"epochs": 150, "batch_size": 8}  # half a second, long enough to be killed in
PATIENCE = 60.0


@pytest.fixture(scope="module", autouse=True)
def quick_to_start() -> Iterator[None]:
    """Processes of trials begin at once with the reference kernels; it is the same to what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRATCHVAE_KERNELS", "reference")
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of forty grey 4×4 images: 32 to train, of which 4 are held out, and 8 to test."""
    path = tmp_path_factory.mktemp("images") / "grey.npy"
    np.save(path, np.random.default_rng(0).random((40, 4, 4), np.float32))
    return str(path)


@pytest.fixture(scope="module")
def undisturbed(images: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the record of a sweep, one trial at a time."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, sweep(images, SPACE, folder, workers=1, progress=False, **PLAN)


def values(record: dict[str, Any]) -> list[Any]:
    """What does not depend on luck."""
    return [{key: trial[key] for key in trial.keys() - {"seconds", "mishaps"}} for trial in record["trials"]]


def assert_same_bits(folder: Path, record: dict[str, Any], undisturbed: tuple[Path, dict[str, Any]]) -> None:
    assert values(record) == values(undisturbed[1])
    assert record["settings"] == undisturbed[1]["settings"]
    for name in NAMES:
        expected = (undisturbed[0] / name / "parameters.npz").read_bytes()
        assert (folder / name / "parameters.npz").read_bytes() == expected


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def has_checkpoint(folder: Path) -> bool:
    return any(folder.glob("checkpoint-*.bin"))


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes of trials, as they are begun."""
    processes: list[subprocess.Popen[bytes]] = []

    class Remembered(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Remembered)
    yield processes
    assert all(process.poll() is not None for process in processes), "a process was left behind"


def test_the_held_out_images_are_a_tenth_of_those_to_train(images: str) -> None:
    dataset = sv.load_dataset(images)
    train, held_out = split(dataset, 0)
    assert (len(train), len(held_out)) == (28, 4)
    rows = sorted(map(tuple, np.concatenate([train, held_out])))
    assert rows == sorted(map(tuple, dataset.train))
    assert not np.array_equal(held_out, split(dataset, 1)[1])
    own = replace(dataset, validation=dataset.test)
    assert split(own, 0)[0] is dataset.train
    assert split(own, 0)[1] is dataset.test


# With the kernels of the trials.
BY_HAND = """
import sys
import scratchvae as sv
from scratchvae.randomness import spawn
from scratchvae.training.trial import split
train, held_out = split(sv.load_dataset(sys.argv[1]), 0)
initial_rng, training_rng = spawn(0, 2)
vae = sv.VAE(16, hidden=(5,), latent_dim=2, beta=2.0, rng=initial_rng)
history = sv.fit(vae, train, validation=held_out, rng=training_rng, epochs=150, batch_size=8)
last = history.epochs[-1]
print(vae.theta.tobytes().hex(), repr(last.validation_reconstruction), repr(last.validation_kl))
"""


def test_a_trial_is_training_by_hand(images: str, undisturbed: tuple[Path, dict[str, Any]]) -> None:
    folder, record = undisturbed
    command = [sys.executable, "-c", BY_HAND, images]
    printed = subprocess.run(
        command, env=places._environment(), check=True, capture_output=True, text=True
    ).stdout
    theta, reconstruction, kl = printed.split()
    run = sv.load_run(folder / NAMES[1])
    assert run.model.theta.tobytes().hex() == theta
    assert record["trials"][1]["validation"] == {
        "negative_elbo": float(kl) - float(reconstruction),
        "reconstruction": float(reconstruction),
        "kl": float(kl),
    }
    assert run.settings["held_out"] == {"images": 4, "seed": 0}
    assert not has_checkpoint(folder / NAMES[1])


def test_one_thread_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SCRATCHVAE_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert places._environment()["SCRATCHVAE_NUM_THREADS"] == "1"
    assert places._environment()["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("SCRATCHVAE_NUM_THREADS", "3")
    assert places._environment()["SCRATCHVAE_NUM_THREADS"] == "3"


def test_a_killed_trial_goes_on_and_is_reported_and_ends_in_the_same_bits(
    images: str,
    undisturbed: tuple[Path, dict[str, Any]],
    begun: list[Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def kill() -> None:
        wait_for(lambda: has_checkpoint(tmp_path / NAMES[0]))
        next(process for process in begun if any(NAMES[0] in str(part) for part in process.args)).kill()

    killer = threading.Thread(target=kill)
    killer.start()
    record = sweep(images, SPACE, tmp_path, workers=3, **PLAN)
    killer.join()
    assert [trial["mishaps"] for trial in record["trials"]] == [["was killed by SIGKILL"], []]
    assert_same_bits(tmp_path, record, undisturbed)
    err = capsys.readouterr().err
    assert err.startswith(
        "scratchvae: 2 trials, 0 of them done before; 3 at a time, each with SCRATCHVAE_NUM_THREADS="
    )
    assert f"scratchvae: {NAMES[0]} was killed by SIGKILL; it is begun again from its last checkpoint" in err
    assert len(begun) == 3


def test_a_trial_that_is_always_killed_is_given_up_and_one_that_diverges_is_not_tried_again(
    images: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[str] = []
    is_cursed = True

    class Cursed(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, command: list[str], **settings: Any) -> None:
            super().__init__(command, **settings)
            begun.append(next(part for part in command if "beta-" in part).partition("beta-")[2][:3])
            if begun[-1] == "0.5" and is_cursed:
                self.kill()

    monkeypatch.setattr(subprocess, "Popen", Cursed)
    space = {"beta": (0.5, 1.0, 1e38), "latent_dim": (2,), "width": (5,), "learning_rate": (1e-3,)}
    record = sweep(images, space, tmp_path, epochs=2, workers=2, retries=1)
    cursed, good, wild = record["trials"]
    assert cursed["state"] == "gave up"
    assert cursed["reason"] == "was killed by SIGKILL, in each of 2 attempts"
    assert cursed["mishaps"] == ["was killed by SIGKILL"] * 2
    assert good["state"] == "done"
    assert wild["state"] == "diverged"
    assert wild["reason"].startswith("training diverged at step ")
    assert sorted(begun) == ["0.5", "0.5", "1.0", "1e+"]
    assert [row["done"] for row in record["settings"]] == [1, 0, 0]
    assert "in each of 2 attempts; the others go on" in capsys.readouterr().err
    begun.clear()
    is_cursed = False
    record = sweep(images, space, tmp_path, epochs=2, progress=False)
    assert begun == ["0.5"]
    assert [trial["state"] for trial in record["trials"]] == ["done", "done", "diverged"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
def test_the_same_command_goes_on_after_an_interruption(
    number: signal.Signals,
    images: str,
    undisturbed: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    begun: list[Any],
) -> None:
    space = ["--betas", "0.5,2", "--latent-dims", "2", "--widths", "5"]
    command = ["sweep", "--data", images, "--out", tmp_path, *space, "--epochs", "150", "--batch-size", "8"]
    # The first trial has ended long ago.
    (tmp_path / NAMES[0]).mkdir()
    for path in (undisturbed[0] / NAMES[0]).iterdir():
        (tmp_path / NAMES[0] / path.name).write_bytes(path.read_bytes())
    process = subprocess.Popen(
        [sys.executable, "-m", "scratchvae.cli", *map(str, command)],
        stderr=subprocess.PIPE,
        env=places._environment(),
        text=True,
    )
    wait_for(lambda: has_checkpoint(tmp_path / NAMES[1]))
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    assert "scratchvae: 2 trials, 1 of them done before" in err
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "sweep: interrupted; 1 of 2 trials have ended and are kept in" in err
        assert err.endswith("go on with the same command\n")
        assert "Traceback" not in err
    begun.clear()
    record = sweep(images, SPACE, tmp_path, progress=False, **PLAN)
    assert_same_bits(tmp_path, record, undisturbed)
    assert {str(part) for process in begun for part in process.args} >= {str(tmp_path / NAMES[1])}
    assert not any(NAMES[0] in str(part) for process in begun for part in process.args)
    # After SIGKILL the trial may still be saving when it is begun again, and then is begun a third time.
    lost = record["trials"][1]["mishaps"]
    assert lost[:1] == ([] if number == signal.SIGINT else ["was lost with the process that ran it"])


def test_what_is_damaged_is_trained_again(
    images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"latent_dim": (2,), "width": (5,)}
    record = sweep(images, space, tmp_path, epochs=1, progress=False)
    path = tmp_path / record["trials"][0]["name"] / "parameters.npz"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert sweep(images, space, tmp_path, epochs=1)["settings"] == record["settings"]
    assert path.read_bytes() == content
    assert "parameters.npz is not the file" in capsys.readouterr().err


def test_a_folder_belongs_to_one_plan(
    images: str, undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, _ = undisturbed
    for changed, says in (
        ({"epochs": 7}, "epochs is 150, not 7"),
        ({"seed": 3}, "seed is 0, not 3"),
        ({"batch_size": 9}, "batch_size is 8, not 9"),
    ):
        with pytest.raises(ValueError, match=f"holds a sweep whose {says}: choose another folder"):
            sweep(images, SPACE, folder, **(PLAN | changed))
    other = tmp_path / "grey.npy"
    np.save(other, np.load(images)[::-1])
    with pytest.raises(ValueError, match="holds a sweep whose data is"):
        sweep(str(other), SPACE, folder, **PLAN)
    (tmp_path / "plan.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"plan\.json is damaged"):
        sweep(images, SPACE, tmp_path, **PLAN)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"epochs": 0}, "epochs is 0, expected an integer of at least 1"),
        ({"workers": 0}, "workers is 0, expected an integer of at least 1"),
        ({"workers": 2, "scheduler": "tcp://x:1"}, "workers is 2, but the cluster at tcp://x:1 has its own"),
        ({"retries": -1}, "retries is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"draws": 0}, "count is 0"),
        ({"space": {"estimator": ("score-function-constant",)}}, "came without the options"),
    ],
)
def test_bad_arguments(wrong: dict[str, Any], says: str, images: str, tmp_path: Path) -> None:
    arguments = {"space": SPACE, "folder": tmp_path / "out", **wrong}
    with pytest.raises((ValueError, TypeError), match=says):
        sweep(images, **arguments)
    assert not (tmp_path / "out").exists()


def test_the_summary_is_over_the_seeds_that_are_done() -> None:
    def trial(beta: float, seed: int, value: float | None) -> dict[str, Any]:
        terms = {"negative_elbo": value, "reconstruction": -1.0, "kl": 2.0}
        ended = {"state": "diverged"} if value is None else {"state": "done", "validation": terms}
        return {"setting": Setting(beta=beta, seed=seed)._asdict(), **ended}

    trials = [trial(1, 0, 30.0), trial(1, 1, 34.0), trial(1, 2, None), trial(2, 0, 29.0), trial(3, 0, None)]
    rows = summary(trials)
    assert [(row["beta"], row["done"], row["seeds"]) for row in rows] == [(2, 1, 1), (1, 2, 3), (3, 0, 1)]
    # ((30 − 32)² + (34 − 32)²) / 1 = 8 is the variance, √(8 / 2) = 2 the standard error
    assert rows[1]["validation"]["negative_elbo"] == {"mean": 32.0, "standard_error": 2.0}
    assert rows[0]["validation"]["negative_elbo"] == {"mean": 29.0, "standard_error": None}
    assert rows[2]["validation"] == {}
    assert "seed" not in rows[0]


# ------------------------------------------------------------------------------------------------- Dask


def test_without_dask_it_says_how_to_install_it(
    images: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(
        ValueError, match=r"needs Dask, which is not installed: python -m pip install 'dask\[distr"
    ):
        sweep(images, SPACE, tmp_path, scheduler="tcp://127.0.0.1:1", **PLAN)


# Dask's own warnings are not ours to raise.
@pytest.mark.filterwarnings("default")
def test_on_a_cluster_whose_worker_is_killed(
    images: str,
    undisturbed: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("SCRATCHVAE_NUM_THREADS", "1")
    # The workers have reference kernels, like all trials here, whatever this process has.
    monkeypatch.setattr(places, "_BITS", ("scratchvae", "numpy", "numba"))
    with (
        np.errstate(all="warn"),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        pids = client.run(os.getpid)

        def kill() -> None:
            wait_for(lambda: has_checkpoint(tmp_path / NAMES[0]))
            busy = next(worker for worker, tasks in client.processing().items() if tasks)
            os.kill(pids[busy], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        address = cluster.scheduler_address
        record = sweep(images, SPACE, tmp_path, scheduler=address, **PLAN)
        killer.join()
        assert_same_bits(tmp_path, record, undisturbed)
        mishaps = [mishap for trial in record["trials"] for mishap in trial["mishaps"]]
        assert "was lost with the process that ran it" in mishaps
        err = capsys.readouterr().err
        assert (
            f"2 at a time on 2 workers of {address}, each with SCRATCHVAE_NUM_THREADS=1 unless it is set"
            in err
        )
        assert "was lost with the process that ran it" in err


class FakeClient:
    """A cluster whose workers have something."""

    def __init__(self, **has: Any) -> None:
        self.has = has

    def run(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        if "error" in self.has:
            raise self.has["error"]
        return {"tcp://w:1": function(*arguments) | self.has} if self.has else {}


@pytest.mark.parametrize(
    ("has", "says"),
    [
        ({}, "the cluster at tcp://s:1 has no workers: start some with `dask worker tcp://s:1`"),
        (
            {"plan": None},
            "the worker tcp://w:1 does not see .*: choose a folder on a disk that all machines share",
        ),
        ({"plan": "another"}, "the worker tcp://w:1 does not see"),
        ({"numpy": "1.0"}, f"the worker tcp://w:1 has numpy 1.0, and here it is {np.__version__}"),
        ({"error": ModuleNotFoundError(name="scratchvae")}, "has no scratchvae: install scratchvae there"),
    ],
)
def test_a_cluster_that_cannot_do_it(has: dict[str, Any], says: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        places._check_workers(FakeClient(**has), "tcp://s:1", tmp_path)
