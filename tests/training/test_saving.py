"""Saving loses nothing: one writer at a time, Ctrl-C after a whole step, the one before kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from scratchvae.models.vae import VAE
from scratchvae.training import saving as module
from scratchvae.training.checkpoint import checkpoint_files, newest_checkpoint, read_checkpoint
from scratchvae.training.loop import fit, resume
from scratchvae.training.saving import Checkpoints, Saver, TrainingInterrupted
from tests.models.cases import assert_refused
from tests.training.cases import Killed, failing

ROOT = Path(__file__).parents[2]
X = np.random.default_rng(0).random((10, 6), np.float32)


def make():
    return VAE(6, (4,), 2, rng=0)


def train(folder, model=None, **options):
    checkpoints = folder if isinstance(folder, Checkpoints) else Checkpoints(folder, steps=1)
    options = {"epochs": 2, "batch_size": 4, "rng": 0, "progress": False} | options
    return fit(model or make(), X, checkpoints=checkpoints, **options)


def go_on(folder):
    return resume(folder, X, progress=False)


def names(folder):
    return [path.name for path in checkpoint_files(folder)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The parameters that a run of `train` ends with."""
    model = make()
    train(tmp_path_factory.mktemp("runs") / "never", model)
    return model.theta.tobytes()


@pytest.fixture
def saved_steps(monkeypatch):
    """After which steps a checkpoint was written."""
    steps = []
    right = Saver.save
    monkeypatch.setattr(
        Saver, "save", lambda self, *what: (steps.append(what[0]["step"]), right(self, *what))[1]
    )
    return steps


@pytest.fixture
def die_after(monkeypatch):
    """`die_after(step)`: the process dies when it has saved this step; `die_after(None)`: not at all."""
    right = Saver.save

    def arm(last):
        def save(self, values, arrays):
            right(self, values, arrays)
            if values["step"] == last:
                raise Killed

        monkeypatch.setattr(Saver, "save", save)

    return arm


# --- when ------------------------------------------------------------------------------------------------


def test_saved_at_the_beginning_every_n_steps_and_at_the_end(tmp_path, saved_steps):
    train(Checkpoints(tmp_path / "a", steps=4))
    assert saved_steps == [0, 4, 6]
    saved_steps.clear()
    train(tmp_path / "b" / "c", epochs=0)
    assert saved_steps == [0, 0]


def test_saved_when_minutes_have_passed(tmp_path, saved_steps, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    right = VAE.minibatch_gradients

    def slow(self, *arguments, **settings):
        now[0] += 40.0
        return right(self, *arguments, **settings)

    monkeypatch.setattr(VAE, "minibatch_gradients", slow)
    train(Checkpoints(tmp_path / "every minute", minutes=1))
    assert saved_steps == [0, 2, 4, 6, 6]
    saved_steps.clear()
    train(Checkpoints(tmp_path / "or five steps", minutes=2, steps=5))
    assert saved_steps == [0, 3, 5, 6]
    saved_steps.clear()
    train(Checkpoints(tmp_path / "five minutes if nothing is said"), epochs=3)
    assert saved_steps == [0, 8, 9]


def test_a_resumed_run_is_saved_as_often(tmp_path, die_after, saved_steps):
    die_after(4)
    with pytest.raises(Killed):
        train(Checkpoints(tmp_path, steps=2), epochs=3)
    die_after(None)
    saved_steps.clear()
    right = Saver.due
    due = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Saver, "due", lambda self, step: due.append((step, right(self, step))) or due[-1][1])
        go_on(tmp_path)
    assert due == [(5, False), (6, True), (7, False), (8, True), (9, False)]


# --- what is kept ----------------------------------------------------------------------------------------


def test_the_newest_and_the_one_before_are_kept(tmp_path, monkeypatch):
    kept = []
    right = Saver.save
    monkeypatch.setattr(
        Saver,
        "save",
        lambda self, *what: (right(self, *what), kept.append([n[-6:-4] for n in names(tmp_path)]))[0],
    )
    train(tmp_path)
    assert kept == [["01"], *([f"{n:02d}", f"{n - 1:02d}"] for n in range(2, 9))]


def test_a_damaged_one_is_named_and_the_one_before_is_gone_on_from_and_kept(
    tmp_path, die_after, finished, capsys
):
    die_after(4)
    with pytest.raises(Killed):
        train(tmp_path)
    newest, before = checkpoint_files(tmp_path)
    newest.write_bytes(newest.read_bytes()[:-1])
    seen = []
    die_after(None)
    with pytest.MonkeyPatch.context() as patch:
        right = Saver.save
        patch.setattr(
            Saver, "save", lambda self, *what: (right(self, *what), seen.append(checkpoint_files(tmp_path)))
        )
        assert go_on(tmp_path).model.theta.tobytes() == finished
    first = seen[0]
    assert before in first, "until the next but one, it is the only one known to be whole"
    assert newest not in first
    told = capsys.readouterr().err
    assert told.startswith(f"scratchvae: {newest} is no whole checkpoint: ")
    assert told.endswith(f"; going on from {before.name}, step 3\n")


@pytest.mark.parametrize("flips", [200])
def test_200_random_flips_are_refused_or_gone_round(tmp_path, die_after, flips):
    die_after(4)
    with pytest.raises(Killed):
        train(tmp_path)
    newest, before = checkpoint_files(tmp_path)
    whole = newest.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(flips):
        damaged = bytearray(whole)
        position = int(rng.integers(len(whole)))
        damaged[position] ^= 1 << int(rng.integers(8))
        newest.write_bytes(damaged)
        found, (sentence,) = newest_checkpoint(tmp_path)
        assert found.path == before
        assert sentence.startswith(str(newest))


def test_a_new_run_replaces_another_only_on_demand(tmp_path):
    train(tmp_path)
    before = {path: path.read_bytes() for path in checkpoint_files(tmp_path)}
    words = f"{tmp_path} holds checkpoints of a run that was begun before: go on with it"
    assert_refused(ValueError, words, lambda: train(tmp_path, rng=1))
    assert {path: path.read_bytes() for path in checkpoint_files(tmp_path)} == before
    train(Checkpoints(tmp_path, overwrite=True), rng=1)
    assert {name.split("-")[1] for name in names(tmp_path)} == {newest_checkpoint(tmp_path)[0].run}
    assert not set(before) & set(checkpoint_files(tmp_path))


def test_versions_that_have_changed_are_told(tmp_path, capsys, monkeypatch):
    train(tmp_path)
    go_on(tmp_path)
    assert capsys.readouterr().err == ""
    now = module.versions() | {"numpy": "99.0"}
    monkeypatch.setattr(module, "versions", lambda: now)
    go_on(tmp_path)
    words = f"scratchvae: {tmp_path} was saved with numpy '{np.__version__}' (now '99.0'): the last bits may"
    assert capsys.readouterr().err.startswith(words)


# --- a disk that fails, a process that dies --------------------------------------------------------------


@pytest.mark.parametrize("how", ["full disk", "killed"])
def test_whichever_call_fails_nothing_saved_is_lost(tmp_path, finished, how):
    last = -1
    for number in count(1):
        folder = tmp_path / str(number)
        with failing(number, how) as calls, suppress(OSError, Killed):
            train(folder, epochs=1, batch_size=10)
        if not folder.exists() or not checkpoint_files(folder):
            assert last == -1, "before the first checkpoint there is nothing, afterwards always one"
            continue
        found, refused = newest_checkpoint(folder)
        assert not refused
        assert found.values["step"] >= last
        last = found.values["step"]
        go_on(folder)
        left = {path.name.rsplit("-", 1)[0] for path in folder.iterdir()}
        assert left == {".lock", f"checkpoint-{found.run}"}, "nothing half-written stays for ever"
        if len(calls) < number:
            break
    assert last == 1
    assert number > 10


def test_a_full_disk_says_so_and_how_to_go_on(tmp_path, die_after, finished, monkeypatch):
    right = module.write_checkpoint

    def write(folder, run, number, values, arrays):
        if values["step"] == 3:
            raise OSError(28, "No space left on device")
        return right(folder, run, number, values, arrays)

    for notes, command in (
        ({}, f"scratchvae.resume({str(tmp_path / 'a')!r}, …)"),
        ({"data": "d"}, "`scratchvae resume"),
    ):
        folder = tmp_path / "a" if not notes else tmp_path / "b"
        with monkeypatch.context() as patch:
            patch.setattr(module, "write_checkpoint", write)
            with pytest.raises(OSError, match="cannot be written") as caught:
                train(Checkpoints(folder, steps=1, notes=notes))
        message = str(caught.value)
        assert message.startswith(
            f"{folder} cannot be written (No space left on device): make room, then go on with"
        )
        assert command in message
        assert message.endswith("the checkpoint of step 2 is whole")
        assert go_on(folder).model.theta.tobytes() == finished


LIMITED = """
import resource, sys
import numpy as np, scratchvae as sv
from scratchvae.training.checkpoint import newest_checkpoint
x = np.random.default_rng(0).random((10, 6), np.float32)
options = dict(batch_size=4, rng=0, progress=False)
sv.fit(sv.VAE(6, (4,), 2, rng=0), x, epochs=1, checkpoints=sv.Checkpoints(sys.argv[1], steps=1), **options)
size = newest_checkpoint(__import__("pathlib").Path(sys.argv[1]))[0].path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))
try:
    sv.resume(sys.argv[1], x, epochs=2, progress=False)
except OSError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
run = sv.resume(sys.argv[1], x, epochs=2, progress=False)
whole = sv.VAE(6, (4,), 2, rng=0)
sv.fit(whole, x, epochs=2, **options)
print((run.model.theta == whole.theta).all())
"""


def test_the_operating_system_s_own_refusal(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "run")],
        env=os.environ | {"PYTHONPATH": str(ROOT), "SCRATCHVAE_KERNELS": "reference"},
        capture_output=True,
        text=True,
        check=True,
    )
    told, same = done.stdout.splitlines()
    assert "cannot be written (File too large): make room" in told
    assert told.endswith("the checkpoint of step 3 is whole")
    assert same == "True"


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="cannot be made or written") as caught:
            train(folder)
        assert str(caught.value).startswith(str(folder))


# --- one writer at a time --------------------------------------------------------------------------------


def test_two_runs_into_one_folder_are_refused(tmp_path):
    words = f"{tmp_path} is being written by another run that is still going"

    def meddle(epoch):
        if epoch == 1:
            assert_refused(ValueError, words, lambda: train(Checkpoints(tmp_path, overwrite=True)))
            assert_refused(ValueError, words, lambda: go_on(tmp_path))

    train(tmp_path, on_epoch=meddle)
    go_on(tmp_path)


def test_the_lock_of_a_process_that_was_killed_is_no_obstacle(tmp_path, finished):
    program = LIMITED.split("size =", maxsplit=1)[0] + (
        "import os, signal\n"
        "sv.resume(sys.argv[1], x, epochs=2, progress=False, on_epoch=lambda e: os.kill(os.getpid(), signal.SIGKILL))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / ".lock").exists()
    assert go_on(tmp_path).model.theta.tobytes() == finished


# --- Ctrl-C ----------------------------------------------------------------------------------------------


def press_at(step, monkeypatch, times=1):
    """Ctrl-C in the middle of a step, before its update."""
    right = VAE.minibatch_gradients
    steps = count(1)

    def pressed(self, *arguments, **settings):
        if next(steps) == step:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return right(self, *arguments, **settings)

    monkeypatch.setattr(VAE, "minibatch_gradients", pressed)


@pytest.mark.parametrize("step", [1, 3, 5, 6])
def test_a_key_pressed_in_a_step_ends_after_it_and_saves(tmp_path, monkeypatch, finished, step):
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        press_at(step, patch)
        with pytest.raises(TrainingInterrupted) as caught:
            train(Checkpoints(tmp_path))
    assert caught.value.step == step
    words = (
        f"interrupted after step {step}, which is saved; go on with scratchvae.resume({str(tmp_path)!r}, …)"
    )
    assert str(caught.value) == words
    assert isinstance(caught.value, KeyboardInterrupt)
    assert signal.getsignal(signal.SIGINT) is before
    assert newest_checkpoint(tmp_path)[0].values["step"] == step
    assert go_on(tmp_path).model.theta.tobytes() == finished


def test_a_second_key_ends_at_once(tmp_path, monkeypatch, finished):
    with monkeypatch.context() as patch:
        press_at(3, patch, times=2)
        with pytest.raises(KeyboardInterrupt) as caught:
            train(tmp_path)
    assert not isinstance(caught.value, TrainingInterrupted)
    assert newest_checkpoint(tmp_path)[0].values["step"] == 2
    assert go_on(tmp_path).model.theta.tobytes() == finished


def test_without_checkpoints_a_key_ends_at_once(monkeypatch):
    press_at(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(make(), X, epochs=2, batch_size=4, rng=0, progress=False)
    assert not isinstance(caught.value, TrainingInterrupted)


def test_who_has_other_plans_for_the_key_keeps_them(tmp_path, monkeypatch):
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        press_at(3, monkeypatch)
        assert len(train(tmp_path)) == 2
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [True]


def test_another_thread_can_train_with_checkpoints(tmp_path):
    lengths = []
    thread = threading.Thread(target=lambda: lengths.append(len(train(tmp_path))))
    thread.start()
    thread.join()
    assert lengths == [2]


# --- at the door -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"folder": 3}, TypeError, "folder is 3, expected the path of a folder"),
        ({"steps": 0}, ValueError, "steps is 0, expected an integer of at least 1"),
        ({"steps": 1.5}, TypeError, "steps is 1.5, expected an integer"),
        ({"minutes": 0}, ValueError, "minutes is 0, expected a finite number greater than 0"),
        ({"minutes": "five"}, TypeError, "minutes is 'five', expected a number"),
    ],
)
def test_plans_that_make_no_sense_are_refused(arguments, error, words):
    assert_refused(error, words, lambda: Checkpoints(**{"folder": "x"} | arguments))


CHANGES = {
    "no plan": lambda values: values.pop("plan"),
    "a plan of no steps": lambda values: values.update(plan={"steps": 0}),
    "a plan of another kind": lambda values: values.update(plan={"unheard of": 0}),
    "no model": lambda values: values.pop("model"),
    "a larger model": lambda values: values["model"].update(hidden=[5]),
    "a model of another class": lambda values: values["model"].update(model="Model"),
    "no epochs": lambda values: values["settings"].pop("epochs"),
    "an unknown estimator": lambda values: values["settings"].update(estimator="reinforce"),
    "an unknown generator": lambda values: values["order"].update(bit_generator="system"),
    "too many steps": lambda values: values.update(step=100),
    "noise before its start": lambda values: values.update(noise=[-1, 0]),
    "a history of another form": lambda values: values.update(history=[{}]),
    "no data": lambda values: values.update(data=None),
    "no versions": lambda values: values.update(versions=None),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_whole_file_that_describes_no_run_is_refused_by_its_name(tmp_path, what):
    train(tmp_path)
    newest, before = checkpoint_files(tmp_path)
    found = read_checkpoint(newest)
    values = json.loads(json.dumps(found.values))
    CHANGES[what](values)
    module.write_checkpoint(tmp_path, found.run, found.number, values, found.arrays)
    before.unlink()
    assert_refused(ValueError, str(newest), lambda: go_on(tmp_path))
