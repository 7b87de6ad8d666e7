"""Each verb is one call of the library: the same numbers, in files that a machine can read, twice the same."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scratchvae as sv
from scratchvae.cli import commands
from scratchvae.densities.gaussian import gaussian_kl_backward
from scratchvae.estimators import ESTIMATORS
from scratchvae.lab.training_variance import variance_during_training, variance_record
from scratchvae.randomness import NoiseStream, spawn
from scratchvae.training.checkpoint import checkpoint_files
from scratchvae.training.download import dataset_status
from scratchvae.training.minibatch import minibatch
from scratchvae.training.run_directory import versions
from scratchvae.training.saving import Saver
from tests.training.cases import Killed

Command = Callable[..., Any]

TINY_VAE: dict[str, Any] = {"input_dim": 16, "hidden": (5,), "latent_dim": 2}


def read(path: Path) -> Any:
    """JSON as any other language reads it: without Python's NaN and Infinity."""

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{path} has {constant}, which is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def without_seconds(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def results(folder: Path) -> dict[str, bytes]:
    """A run without the checkpoints of how it came about, or of what did not."""
    return {name: content for name, content in snapshot(folder).items() if not name.startswith("checkpoint")}


def is_picture(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG\r\n") and path.read_bytes().endswith(b"IEND\xaeB`\x82")


# -------------------------------------------------------------------------------------------------- train


def test_train_is_fit(command: Command, small: tuple[Any, ...], images: Path, tmp_path: Path) -> None:
    done = command("train", "--epochs", 3, "--seed", 7, "--out", "run", "--json", "run.json", *small)
    assert done.status == 0
    assert done.err == "wrote run\n"

    data = sv.load_dataset(images)
    initial_rng, training_rng = spawn(7, 2)
    vae = sv.VAE(**TINY_VAE, rng=initial_rng)
    history = sv.fit(
        vae, data.train, validation=data.test, epochs=3, batch_size=8, rng=training_rng, progress=False
    )
    run = sv.load_run("run")
    assert run.model.config() == vae.config()
    np.testing.assert_array_equal(run.model.theta, vae.theta, strict=True)
    assert without_seconds(run.history.to_records()) == without_seconds(history.to_records())

    told = read(tmp_path / "run.json")
    assert told["settings"] == run.settings
    assert told["history"] == run.history.to_records()
    assert told["versions"] == versions()
    assert run.settings == {
        "data": str(images),
        "image_shape": [4, 4],
        "seed": 7,
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 0.001,
        "optimizer": "adam",
        "estimator": "pathwise",
        "num_samples": None,
        "kl_warmup_epochs": 0.0,
    }
    assert {path.name.split("-")[0] for path in (tmp_path / "run").iterdir()} == {
        ".lock",
        "checkpoint",
        "config.json",
        "history.json",
        "history.png",
        "manifest.json",
        "parameters.npz",
    }
    assert is_picture(tmp_path / "run" / "history.png")


def test_every_option_of_train_arrives(command: Command, images: Path) -> None:
    done = command(
        *("train", "--data", images, "--out", "run", "--seed", 1, "--epochs", 1, "--batch-size", 16),
        *("--hidden", "6,4", "--latent-dim", 3, "--activation", "tanh", "--beta", 0.5, "--kl", "sampled"),
        *("--likelihood", "gaussian", "--likelihood-variance", 0.1, "--binarize", "threshold"),
        *("--optimizer", "sgd", "--learning-rate", 0.01, "--kl-warmup", 2),
        *("--estimator", "score-function-leave-one-out", "--samples", 4),
    )
    assert done.status == 0
    run = sv.load_run("run")
    assert run.model.config() == {
        "model": "VAE",
        "input_dim": 16,
        "hidden": [6, 4],
        "latent_dim": 3,
        "activation": "tanh",
        "likelihood": "gaussian",
        "likelihood_variance": 0.1,
        "binarize": "threshold",
        "initialization": "glorot",
        "dtype": "float32",
        "beta": 0.5,
        "kl": "sampled",
    }
    assert run.history.epochs[-1].beta == 0.25  # halfway through the warm-up
    settings = {"optimizer": "sgd", "learning_rate": 0.01, "kl_warmup_epochs": 2.0, "num_samples": 4}
    assert run.settings | settings == run.settings
    assert run.settings["estimator"] == "score-function-leave-one-out"


def test_binarize_none_keeps_grey_pixels(command: Command, small: tuple[Any, ...]) -> None:
    assert command("train", "--epochs", 0, "--out", "run", "--binarize", "none", *small).status == 0
    assert sv.load_run("run").model.binarize is None


@pytest.mark.parametrize("verb", ["train", "variance"])
def test_defaults_for_the_embedded_digits(
    verb: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's commands have no options at all; what they would do is seen with the work left out."""
    seen: dict[str, Any] = {}

    def stop(model: Any, *_data: Any, **settings: Any) -> Any:
        seen.update(settings, model=model.config())
        raise ValueError("seen")

    monkeypatch.setattr(commands, "fit", stop)
    monkeypatch.setattr(commands, "variance_during_training", stop)
    assert command(verb).err == f"scratchvae {verb}: seen\n"
    assert seen["model"] | {"input_dim": 64, "hidden": [64], "latent_dim": 8} == seen["model"]
    assert seen["batch_size"] == 64
    if verb == "train":
        assert seen["epochs"] == 100
        assert (tmp_path / "runs" / "vae-digits").is_dir()
    else:
        assert tuple(seen["moments"]) == (0, 1, 3, 10, 30, 100)
        assert tuple(seen["estimators"]) == tuple(ESTIMATORS)
        assert (tmp_path / "runs" / "variance-digits").is_dir()


def test_same_seed_same_bytes_and_another_seed_others(command: Command, small: tuple[Any, ...]) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert command("train", "--epochs", 1, "--seed", seed, "--out", name, *small).status == 0
    first, again, other = (snapshot(Path(name)) for name in "abc")
    assert first["parameters.npz"] == again["parameters.npz"]
    assert first["config.json"] == again["config.json"]
    assert first["parameters.npz"] != other["parameters.npz"]
    histories = [without_seconds(json.loads(files["history.json"])) for files in (first, again)]
    assert histories[0] == histories[1]


def test_a_run_is_replaced_only_on_demand(command: Command, small: tuple[Any, ...]) -> None:
    assert command("train", "--epochs", 1, "--out", "run", *small).status == 0
    before = snapshot(Path("run"))
    done = command("train", "--epochs", 0, "--out", "run", *small)
    assert done.status == 2
    assert done.err == (
        "scratchvae train: run already holds a run; choose another --out, or add --overwrite to replace it\n"
    )
    assert snapshot(Path("run")) == before
    assert command("train", "--epochs", 0, "--out", "run", "--overwrite", *small).status == 0
    assert len(sv.load_run("run").history) == 0


def test_autoencoder(command: Command, autoencoder: Path) -> None:
    run = sv.load_run(autoencoder)
    assert isinstance(run.model, sv.Autoencoder)
    done = command("evaluate", autoencoder)
    assert done.status == 0
    expected = sv.evaluate(run.model, sv.load_dataset(run.settings["data"]).test)
    assert f"{expected['loss']:.3f}" in done.out


def test_divergence_is_told_and_the_last_good_state_kept(command: Command) -> None:
    options = ("--hidden", "5", "--latent-dim", "2", "--learning-rate", "1e30", "--out", "run")
    with np.errstate(all="ignore"):  # as on the command line
        done = command("train", "--epochs", 1, *options)
    assert done.status == 1
    assert done.err.count("\n") == 1
    assert "training diverged at step 2 (epoch 1)" in done.err
    assert "that state is kept in run" in done.err
    run = sv.load_run("run")
    assert run.settings["diverged_at_step"] == 2
    assert np.isfinite(run.model.theta).all()


def test_divergence_in_the_last_step_of_all(command: Command, small: tuple[Any, ...]) -> None:
    """Nothing follows that would stumble over it, and still it must not pass for a trained model."""
    with np.errstate(all="ignore"):
        done = command(
            "train", *small, "--epochs", 1, "--batch-size", 32, "--learning-rate", "1e300", "--out", "run"
        )
    assert done.status == 1
    assert done.err.count("\n") == 1
    assert np.isfinite(sv.load_run("run").model.theta).all()


def test_divergence_leaves_an_earlier_run_as_it_was(command: Command) -> None:
    options = ("--hidden", "5", "--latent-dim", "2", "--out", "run", "--overwrite")
    assert command("train", "--epochs", 0, *options).status == 0
    before = results(Path("run"))
    with np.errstate(all="ignore"):
        done = command("train", "--epochs", 1, "--learning-rate", "1e30", *options)
    assert done.status == 1
    assert "the earlier run in run stays as it was" in done.err
    assert results(Path("run")) == before


# ------------------------------------------------------------------------------------------------ resume


def killed_after(step: int, monkeypatch: pytest.MonkeyPatch, command: Command, *arguments: Any) -> None:
    """A command that dies when the checkpoint of this step is written."""
    right = Saver.save

    def save(self: Saver, values: Any, arrays: Any) -> None:
        right(self, values, arrays)
        if values["step"] == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Saver, "save", save)
        with pytest.raises(Killed):
            command(*arguments)


def test_a_run_that_was_killed_is_no_run_until_it_is_resumed(
    command: Command, small: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--epochs", 3, "--seed", 7, "--checkpoint-steps", 3, *small)
    assert command("train", "--out", "whole", *options).status == 0
    killed_after(6, monkeypatch, command, "train", "--out", "run", *options)
    done = command("evaluate", "run")
    assert done.status == 2
    assert "run is no run directory: it has no config.json; end it with `scratchvae resume run`" in done.err
    done = command("train", "--out", "run", *options)
    assert done.status == 2
    assert (
        "run holds a run that has not ended: go on with `scratchvae resume run`, choose another --out"
        in done.err
    )

    done = command("resume", "run", "--json", "run.json")
    assert done.status == 0
    assert done.err == "wrote run\n"
    for name in ("parameters.npz", "config.json"):
        assert Path("run", name).read_bytes() == Path("whole", name).read_bytes()
    run, whole = sv.load_run("run"), sv.load_run("whole")
    assert without_seconds(run.history.to_records()) == without_seconds(whole.history.to_records())
    assert is_picture(Path("run/history.png"))
    told = read(Path("run.json"))
    assert told["settings"] == run.settings
    assert told["history"] == run.history.to_records()


def test_resume_trains_a_finished_run_for_longer(command: Command, small: tuple[Any, ...]) -> None:
    assert command("train", "--epochs", 4, "--out", "at once", *small).status == 0
    assert command("train", "--epochs", 2, "--out", "run", *small).status == 0
    assert command("resume", "run", "--epochs", 4).status == 0
    assert sv.load_run("run").settings["epochs"] == 4
    for name in ("parameters.npz", "config.json"):
        assert Path("run", name).read_bytes() == Path("at once", name).read_bytes()


def test_resume_tells_of_a_damaged_checkpoint(
    command: Command, small: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--epochs", 2, "--checkpoint-steps", 1, *small)
    killed_after(5, monkeypatch, command, "train", "--out", "run", *options)
    newest, before = checkpoint_files(Path("run"))
    newest.write_bytes(b"")
    done = command("resume", "run")
    assert done.status == 0
    assert done.err.startswith(f"scratchvae: {newest} is no whole checkpoint: ")
    assert f"going on from {before.name}, step 4" in done.err


def test_an_overwritten_run_is_there_until_the_new_one_has_ended(
    command: Command, small: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("train", "--epochs", 1, "--out", "run", *small).status == 0
    before = results(Path("run"))
    again = ("train", "--epochs", 2, "--seed", 1, "--out", "run", "--overwrite", *small)
    killed_after(0, monkeypatch, command, *again)
    assert results(Path("run")) == before
    assert command("resume", "run").status == 0
    assert sv.load_run("run").settings["seed"] == 1


def test_resume_refuses_what_it_cannot_go_on_with(
    command: Command, small: tuple[Any, ...], images: Path
) -> None:
    Path("empty").mkdir()
    vae = sv.VAE(**TINY_VAE, rng=0)
    data = sv.load_dataset(images)
    sv.fit(vae, data.train, epochs=1, batch_size=8, checkpoints="python", progress=False)
    assert command("train", "--epochs", 0, "--out", "run", *small).status == 0
    np.save("others.npy", np.random.default_rng(1).random((40, 4, 4)))
    for arguments, words in (
        (["missing"], "missing holds no checkpoint to go on from"),
        (["empty"], "empty holds no checkpoint to go on from"),
        (["python"], "python does not say what data it was trained on; name it with --data"),
        (["run", "--data", "others.npy"], "x is not what the run in run was begun with: its SHA-256 is"),
        (["run", "--epochs", "-1"], "at least 0"),
        (["run", "--seed", "1"], "unrecognized arguments: --seed 1"),
    ):
        done = command("resume", *arguments)
        assert done.status == 2
        assert done.err.count("\n") == 1
        assert words in done.err
    assert list(Path("empty").iterdir()) == []


# ---------------------------------------------------------------------------------------------- evaluate


def test_evaluate_is_evaluate(command: Command, trained: Path, images: Path) -> None:
    arguments = ("evaluate", trained, "--seed", 5, "--samples", 3)
    likelihood = ("--likelihood-samples", 20, "--likelihood-examples", 4)
    for name in ("a.json", "b.json"):
        assert command(*arguments, *likelihood, "--json", name).status == 0
    assert Path("a.json").read_bytes() == Path("b.json").read_bytes()
    run = sv.load_run(trained)
    expected = sv.evaluate(
        run.model,
        sv.load_dataset(images).test,
        num_samples=3,
        likelihood_samples=20,
        likelihood_examples=4,
        rng=5,
    )
    told = read(Path("a.json"))
    assert told == {
        "data": str(images),
        "part": "test",
        **expected,
        "seed": 5,
        "versions": versions(),
    }
    assert told["log_likelihood_examples"] == 4


def test_evaluate_other_data_and_the_training_part(command: Command, trained: Path, images: Path) -> None:
    others = np.random.default_rng(1).random((20, 16))
    np.save("others.npy", others)
    model = sv.load_run(trained).model
    assert command("evaluate", trained, "--data", "others.npy", "--json", "others.json").status == 0
    expected = sv.evaluate(model, sv.load_dataset("others.npy").test)
    assert read(Path("others.json"))["loss"] == expected["loss"]
    assert command("evaluate", trained, "--part", "train", "--json", "train.json").status == 0
    expected = sv.evaluate(model, sv.load_dataset(images).train)
    assert read(Path("train.json"))["loss"] == expected["loss"]
    assert read(Path("train.json"))["examples"] == 32


def test_a_moved_data_file_can_be_named(command: Command, small: tuple[Any, ...]) -> None:
    os.link(small[1], "here.npy")
    assert command("train", "--epochs", 0, "--out", "run", "--data", "here.npy", *small[2:]).status == 0
    Path("here.npy").rename("there.npy")
    done = command("evaluate", "run")
    assert done.status == 2
    assert "'here.npy'" in done.err
    assert "--data" in done.err
    assert command("evaluate", "run", "--data", "there.npy").status == 0


# ------------------------------------------------------------------------------------------------ sample


@pytest.mark.parametrize("count", [1, 5])
def test_sample_is_sample(command: Command, trained: Path, tmp_path: Path, count: int) -> None:
    done = command("sample", trained, "--count", count, "--seed", 2, "--out", "s", "--json", "s.json")
    assert done.status == 0
    assert done.err == f"wrote {Path('s/samples.png')} and {Path('s/samples.npz')}\n"
    model = sv.load_run(trained).model
    assert isinstance(model, sv.VAE)
    expected = model.sample(count, 2).reshape(count, 4, 4)
    np.testing.assert_array_equal(arrays(tmp_path / "s" / "samples.npz")["images"], expected, strict=True)
    assert is_picture(tmp_path / "s" / "samples.png")
    assert read(Path("s.json")) == {"run": str(trained), "count": count, "seed": 2, "versions": versions()}


def test_sample_of_a_run_by_its_own_folder(
    command: Command, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default folder is named after the run, even where the run is called `.`."""
    link = tmp_path / "link"
    link.symlink_to(trained)
    assert command("sample", "link", "--count", 1).status == 0
    assert (tmp_path / "runs" / "samples-trained" / "samples.npz").exists()
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in trained.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(copy)
    assert command("sample", ".", "--count", 1).status == 0
    assert (copy / "runs" / "samples-copy" / "samples.npz").exists()


@pytest.mark.parametrize("shape", [(7,), (3, 4, 5), (4, 5, 3), (2, 3, 2, 2), (1, 3, 3), (3, 3, 1)])
def test_images_of_any_shape_can_be_trained_on_and_drawn(command: Command, shape: tuple[int, ...]) -> None:
    np.save("odd.npy", np.random.default_rng(0).random((10, *shape)))
    small = ("--hidden", "3", "--latent-dim", "2", "--epochs", "1", "--out", "run")
    assert command("train", "--data", "odd.npy", *small).status == 0
    assert command("sample", "run", "--count", 3, "--out", "s").status == 0
    drawn = arrays(Path("s/samples.npz"))["images"]
    assert drawn.shape == (3, *sv.load_dataset("odd.npy").image_shape)


# ------------------------------------------------------------------------------------------------- check


def test_check_is_check_gradients(command: Command) -> None:
    shape = ("--input-dim", 6, "--hidden", "4,3", "--latent-dim", 2, "--activation", "tanh")
    for name in ("a.json", "b.json"):
        done = command("check", *shape, "--batch-size", 3, "--samples", 2, "--seed", 9, "--json", name)
        assert done.status == 0
    assert Path("a.json").read_bytes() == Path("b.json").read_bytes()
    vae = sv.VAE(6, (4, 3), 2, activation="tanh", rng=9)
    report = sv.check_gradients(vae, batch_size=3, num_samples=2, rng=9)
    told = read(Path("a.json"))
    assert told["passed"] is True
    assert told["model"] == vae.config()
    assert [tensor["name"] for tensor in told["tensors"]] == list(vae.parameters)
    for tensor, expected in zip(told["tensors"], report.tensors, strict=True):
        expected_values = json.loads(json.dumps(asdict(expected)))
        assert {key: tensor[key] for key in expected_values} == expected_values
        assert tensor["name"] in done.out
    assert done.out.splitlines()[-1].startswith(f"passed: {vae.theta.size} entries")


def test_check_of_an_autoencoder_and_of_some_entries(command: Command) -> None:
    shape = ("--input-dim", 6, "--hidden", "none", "--latent-dim", 3, "--model", "autoencoder")
    done = command("check", *shape, "--likelihood", "gaussian", "--entries", 2, "--json", "c.json")
    assert done.status == 0
    told = read(Path("c.json"))
    assert told["model"]["model"] == "Autoencoder"
    assert [tensor["checked"] for tensor in told["tensors"]] == [2, 2, 2, 2]


def test_check_names_the_tensors_of_a_wrong_backward(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = gaussian_kl_backward

    def wrong(dkl: np.ndarray, cache: Any) -> tuple[np.ndarray, np.ndarray]:
        dmean, dlog_var = right(dkl, cache)
        return dmean, 1.000_001 * dlog_var

    monkeypatch.setattr("scratchvae.models.vae.gaussian_kl_backward", wrong)
    # with two samples the way back leads through the module's own functions, not through one kernel for all
    shape = ("--input-dim", 4, "--hidden", 3, "--latent-dim", 2, "--samples", 2)
    done = command("check", *shape, "--json", "c.json")
    assert done.status == 1
    told = read(Path("c.json"))
    assert told["passed"] is False
    failed = {tensor["name"] for tensor in told["tensors"] if not tensor["passed"]}
    assert {"encoder.log_var.weight", "encoder.log_var.bias"} <= failed
    assert not any(name.startswith(("decoder", "encoder.mean")) for name in failed)
    rows = {
        line.split()[0]: line for line in done.out.splitlines() if line.startswith(("encoder", "decoder"))
    }
    assert {name for name, row in rows.items() if "WRONG" in row} == failed
    assert done.out.splitlines()[-1].startswith("FAILED: ")


def test_check_names_one_wrong_entry(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    right = sv.VAE.loss_and_gradients

    def wrong(*arguments: Any, **settings: Any) -> Any:
        loss, gradients = right(*arguments, **settings)
        gradients["decoder.0.weight"][1, 2] += 1e-9 * abs(gradients["decoder.0.weight"]).max()
        return loss, gradients

    monkeypatch.setattr(sv.VAE, "loss_and_gradients", wrong)
    done = command("check", "--input-dim", 4, "--hidden", 3, "--latent-dim", 2, "--activation", "tanh")
    assert done.status == 1
    (row,) = (line for line in done.out.splitlines() if "WRONG" in line)
    assert row.startswith("decoder.0.weight ")
    assert "WRONG at (1, 2): " in row


SMALL_MODEL = ("--input-dim", 4, "--hidden", 3, "--latent-dim", 2)


@pytest.mark.parametrize(
    "more",
    [
        ("--activation", "tanh", "--seed", 3),
        (
            "--likelihood",
            "gaussian",
            "--likelihood-variance",
            0.5,
            "--beta",
            2,
            "--samples",
            2,
            "--batch-size",
            2,
        ),
        ("--directions", 3),
    ],
    ids=["seed", "settings", "directions"],
)
def test_check_tells_the_command_that_shows_a_mistake_again(
    more: tuple[Any, ...], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("loss_and_gradients", "gradients_by_layers"):
        right = getattr(sv.VAE, name)

        def wrong(*arguments: Any, right: Any = right, **settings: Any) -> Any:
            answer = right(*arguments, **settings)
            (answer[1] if isinstance(answer, tuple) else answer)["decoder.0.weight"][1, 2] *= 2
            return answer

        monkeypatch.setattr(sv.VAE, name, wrong)
    done = command("check", *SMALL_MODEL, *more)
    assert done.status == 1
    (told,) = (line.strip() for line in done.out.splitlines() if "decoder.0.weight[1, 2]: analytic" in line)
    assert "looks like: a constant factor 2 in the entry (1, 2) alone" in done.out
    (again,) = (line.split("again: scratchvae ")[1] for line in done.out.splitlines() if "again: " in line)
    assert again.endswith("--tensor decoder.0.weight --index 1,2")
    once_more = command(*again.split())
    assert once_more.status == 1
    # to the last digit; differences may stop at another step, for they have seen fewer entries
    values = told.partition(", 5-point")[0]
    assert values in once_more.out
    assert re.search(r"^decoder.0.weight +[12] of 6 ", once_more.out, re.MULTILINE)


def test_check_draws_every_error_and_keeps_it(command: Command) -> None:
    done = command("check", *SMALL_MODEL, "--out", "c", "--json", "c.json")
    assert done.status == 0
    assert done.err.endswith("wrote c/check.png and c/check.npz and c/check.json\n")
    assert read(Path("c/check.json")) == read(Path("c.json"))
    vae = sv.VAE(4, (3,), 2, rng=0)
    kept = arrays(Path("c/check.npz"))
    for name, errors in sv.check_gradients(vae, rng=0).errors.items():
        assert kept[name].shape == vae.parameters[name].shape
        np.testing.assert_array_equal(kept[name], errors)


def test_check_of_a_large_model_takes_directions_and_says_so(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scratchvae.lab.plan.MOST_ENTRIES", 30)
    done = command("check", *SMALL_MODEL, "--out", "c")
    assert done.status == 0
    assert "entries are too many to look at one by one: 8 random directions in each tensor" in done.out
    assert done.out.splitlines()[-1].startswith("passed: 80 directions")
    assert {errors.shape for errors in arrays(Path("c/check.npz")).values()} == {(8,)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--index", "1,2"), "--index came without --tensor"),
        (("--tensor", "decoder.9.weight"), "tensor is 'decoder.9.weight', expected one of: encoder.0.weight"),
        (
            ("--tensor", "decoder.0.bias", "--index", "7"),
            "index is (7,), expected one within the tensor's shape (3,)",
        ),
        (("--index", "a"), "got 'a', expected whole numbers with commas between, such as 1,2"),
        (("--directions", 2, "--entries", 2), "--directions came with --entries or --index"),
        (("--out", "/proc/x"), "--out is '/proc/x', which cannot be made or written"),
    ],
    ids=range(6),
)
def test_check_refuses_in_one_line(arguments: tuple[Any, ...], words: str, command: Command) -> None:
    done = command("check", *SMALL_MODEL, *arguments)
    assert done.status == 2
    assert done.out == ""
    assert words in done.err
    assert done.err.count("\n") == 1


def test_check_with_an_infinite_error_is_still_json(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the oracle says exactly zero and the code does not, the relative error is infinite: null in JSON."""

    def infinite(*arguments: Any, **settings: Any) -> Any:
        report = sv.check_gradients(*arguments, **settings)
        return replace(report, tensors=(replace(report.tensors[0], complex_step_error=float("inf")),))

    monkeypatch.setattr(commands, "check_gradients", infinite)
    shape = ("--input-dim", 2, "--hidden", "none", "--latent-dim", 1)
    assert command("check", *shape, "--json", "c.json").status == 1
    (tensor,) = read(Path("c.json"))["tensors"]
    assert tensor["complex_step_error"] is None
    assert tensor["passed"] is False


# ---------------------------------------------------------------------------------------------- variance


def test_variance_while_training(command: Command, small: tuple[Any, ...], images: Path) -> None:
    arguments = ("--epochs", 2, "--samples", 450, "--seed", 3, *small)
    for name in ("a", "b"):
        done = command("variance", *arguments, "--out", name, "--json", f"{name}.json")
        assert done.status == 0
    written = Path("a/variance.json").read_bytes()
    assert written == Path("b/variance.json").read_bytes()
    assert written == Path("a.json").read_bytes()
    assert is_picture(Path("a/variance.png"))

    data = sv.load_dataset(images)
    vae = sv.VAE(**TINY_VAE, rng=spawn(3, 1)[0])
    expected = variance_during_training(
        vae,
        data.train,
        data.test,
        moments=(0, 1, 2),
        estimators=tuple(ESTIMATORS),
        num_samples=450,
        batch_size=8,
        rng=3,
        progress=False,
    )
    told = read(Path("a.json"))
    assert told["moments"] == json.loads(json.dumps(expected))
    assert told["model"] == vae.config()
    assert told["versions"] == versions()
    assert told["settings"] == {
        "data": str(images),
        "seed": 3,
        "num_samples": 440,
        "batch_size": 8,
        "epochs": 2,
    }


def test_variance_of_a_run(command: Command, trained: Path, images: Path, tmp_path: Path) -> None:
    before = snapshot(trained)
    estimators = ("pathwise", "score-function-leave-one-out")
    arguments = ("--run", trained, "--samples", 450, "--seed", 4, "--batch-size", 6)
    done = command("variance", *arguments, "--estimators", ",".join(estimators), "--json", "v.json")
    assert done.status == 0
    assert snapshot(trained) == before
    assert (tmp_path / "runs" / "variance-trained" / "variance.json").exists()

    vae = sv.load_run(trained).model
    assert isinstance(vae, sv.VAE)
    data = sv.load_dataset(images)
    pixel_rng, noise_rng = spawn(4, 2)
    batch = minibatch(data.train[:6], vae, NoiseStream(pixel_rng))
    result = sv.gradient_variance(vae, batch, estimators, 450, noise_rng)
    told = read(Path("v.json"))
    assert told["settings"]["num_samples"] == result.num_samples == 440  # in whole blocks
    (moment,) = told["moments"]
    assert moment["epoch"] == 2
    assert moment["num_samples"] == 440
    assert moment["test_negative_elbo"] == sv.evaluate(vae, data.test, rng=4)["negative_elbo"]
    assert moment["estimators"] == json.loads(json.dumps(variance_record(result)))
    assert list(moment["estimators"]) == list(estimators)


# -------------------------------------------------------------------------------------------------- data


def test_data_lists_what_is_here(command: Command, tmp_path: Path) -> None:
    done = command("data", "--json", "data.json")
    assert done.status == 0
    told = read(Path("data.json"))["datasets"]
    assert told == json.loads(json.dumps([asdict(status) for status in dataset_status()]))
    for status in told:
        assert status["name"] in done.out
    assert str(tmp_path / "data folder" / "mnist") in done.out
    assert "scratchvae data --fetch mnist" in done.out


def test_data_says_what_is_damaged(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "data folder" / "mnist"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"half of it")
    done = command("data")
    assert done.status == 1
    (row,) = (line for line in done.out.splitlines() if line.startswith("mnist "))
    assert "damaged" in row
    assert "train-images-idx3-ubyte.gz is not the published file" in done.out


def test_data_fetches_what_is_embedded(command: Command) -> None:
    done = command("data", "--fetch", "digits")
    assert done.status == 0
    assert done.out.startswith("digits is in ")
