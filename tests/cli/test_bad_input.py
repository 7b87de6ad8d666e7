"""Bad input is one line on stderr and exit status 2: what was wrong, what was expected, what to do.

Never a traceback, never a silent wrong answer, and never after minutes of work what could be known before.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scratchvae.cli import commands
from tests.training.cases import declare

Command = Callable[..., Any]

GREY = np.random.default_rng(0).random((20, 4, 4))


def with_value(value: float) -> np.ndarray:
    images = GREY.copy()
    images[3, 2, 1] = value
    return images


@pytest.fixture
def refused(command: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`refused("train", …)` runs a command that must fail before any work is done, and returns its message."""

    def work(*_arguments: Any, **_settings: Any) -> Any:
        raise AssertionError("bad input was found out too late: the work had begun")

    def run(*arguments: Any, says: Sequence[str] = (), before_work: bool = True) -> str:
        with monkeypatch.context() as patch:
            if before_work:
                for name in ("fit", "variance_during_training", "check_gradients", "evaluate_model"):
                    patch.setattr(commands, name, work)
            status, out, err = command(*arguments)
        assert status == 2
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith(f"scratchvae {arguments[0]}: ")
        assert "Traceback" not in err
        for words in says:
            assert words in err
        return str(err)

    return run


# --------------------------------------------------------------------------------------------- the data

USERS_ARRAYS: dict[str, tuple[np.ndarray, list[str]]] = {
    "nan": (with_value(np.nan), ["nan", "(3, 2, 1)", "finite"]),
    "infinite": (with_value(np.inf), ["inf", "(3, 2, 1)", "finite"]),
    "negative": (with_value(-0.25), ["-0.25", "[0, 1]"]),
    "up to 255": (GREY * 255, ["[0, 1]", "uint8"]),
    "slightly above 1": (with_value(1.0000001), ["1.0000001", "[0, 1]"]),
    "integers": ((GREY * 255).astype(np.int64), ["int64", "uint8"]),
    "bytes of 0 and 1": ((GREY > 0.5).astype(np.uint8), ["bytes of at most 1", "bool"]),
    "complex": (GREY + 0j, ["complex128"]),
    "text": (np.full((20, 4), "x"), ["<U1"]),
    "labels": (np.arange(20) % 10, ["(20,)", "labels"]),
    "labels in a column": (np.arange(20, dtype=np.uint8)[:, None], ["(20, 1)", "labels"]),
    "one number": (np.array(0.5), ["()", "(N, …)"]),
    "no images": (GREY[:0], ["(0, 4, 4)", "at least one image"]),
    "no pixels": (GREY[:, :0], ["(20, 0, 4)", "at least one image"]),
    "one image": (GREY[:1], ["one image", "at least two"]),
    "objects": (np.array([{}, []], dtype=object), ["cannot be read", "allow_pickle=False"]),
}


@pytest.mark.parametrize("kind", USERS_ARRAYS)
@pytest.mark.parametrize("verb", ["train", "variance"])
def test_users_array(verb: str, kind: str, refused: Callable[..., str]) -> None:
    array, says = USERS_ARRAYS[kind]
    np.save("mine.npy", array, allow_pickle=kind == "objects")
    refused(verb, "--data", "mine.npy", "--out", "out", says=["mine.npy", *says])
    assert not Path("out").exists()


@pytest.mark.parametrize("kind", ["nan", "up to 255", "labels", "no images"])
def test_users_array_for_a_trained_run(kind: str, trained: Path, refused: Callable[..., str]) -> None:
    array, says = USERS_ARRAYS[kind]
    np.save("mine.npy", array)
    refused("evaluate", trained, "--data", "mine.npy", says=["mine.npy", *says])
    refused("variance", "--run", trained, "--data", "mine.npy", says=["mine.npy", *says])


def test_users_file(refused: Callable[..., str]) -> None:
    def train(name: str, *says: str) -> None:
        refused("train", "--data", name, says=[name, *says])

    np.savez("two.npz", a=GREY, b=GREY)
    train("two.npz", "'a', 'b'", "one array, or train and test")
    np.savez("none.npz")
    train("none.npz", "one array, or train and test")
    np.savez("shapes.npz", train=GREY, test=GREY[:, :3])
    train("shapes.npz", "(4, 4)", "(3, 4)")
    np.save("whole.npy", GREY)
    whole = Path("whole.npy").read_bytes()
    for length in (0, 5, 80, 200, len(whole) - 1):
        Path("cut.npy").write_bytes(whole[:length])
        train("cut.npy", "cannot be read")
    Path("text.npy").write_text("hello", encoding="utf-8")
    train("text.npy", "cannot be read")
    Path("notes.txt").write_text("hello", encoding="utf-8")
    known = ("digits, mnist, fashion-mnist, binarized-mnist", ".npy or .npz")
    for name in ("missing.npy", "emnist", "", ".", "notes.txt"):
        train(name, *known)


def test_a_damaged_file_in_the_data_folder(refused: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "data folder" / "mnist"
    folder.mkdir(parents=True)
    for content in (b"", b"not a gzip file", gzip.compress(b"another file")):
        path = folder / "train-images-idx3-ubyte.gz"
        path.write_bytes(content)
        refused("train", "--data", "mnist", says=[str(path), "SHA-256", "expected", "delete it"])
        refused("data", "--fetch", "mnist", says=[str(path), "SHA-256", "expected", "delete it"])


def test_data_of_another_size_for_a_run(trained: Path, refused: Callable[..., str]) -> None:
    np.save("wide.npy", np.zeros((5, 9)))
    says = ["wide.npy has 9 pixels", "expects 16", "--data"]
    refused("evaluate", trained, "--data", "wide.npy", says=says)
    refused("variance", "--run", trained, "--data", "wide.npy", says=says)
    refused("evaluate", trained, "--data", "digits", says=["digits has 64 pixels", "expects 16"])


# ------------------------------------------------------------------------------------------ the options

ANY_MODEL = ("check", "train", "variance")
NOT_WHOLE = ("x", "1.5", "", "1e3", "-1", "nan")
NOT_FINITE = ("x", "", "nan", "inf", "-inf", "-1")

OPTIONS = [
    *((verb, "--latent-dim", text, "at least 1") for verb in ANY_MODEL for text in ("0", *NOT_WHOLE)),
    *((verb, "--hidden", text, "200,100") for verb in ANY_MODEL for text in ("0", "a", "", "3,,4", "3,", "-3", "2.5")),
    *((verb, "--beta", text, "at least 0") for verb in ANY_MODEL for text in NOT_FINITE),
    *((verb, "--likelihood-variance", text, "expected a") for verb in ANY_MODEL for text in ("0", *NOT_FINITE)),
    *((verb, "--seed", text, "at least 0") for verb in (*ANY_MODEL, "data") for text in NOT_WHOLE),
    *((verb, "--batch-size", text, "at least 1") for verb in ANY_MODEL for text in ("0", *NOT_WHOLE)),
    *((verb, "--samples", text, "at least 1") for verb in ANY_MODEL for text in ("0", *NOT_WHOLE)),
    *((verb, "--epochs", text, "at least 0") for verb in ("train", "variance") for text in NOT_WHOLE),
    *(("train", "--learning-rate", text, "expected a") for text in ("0", *NOT_FINITE)),
    *(("train", "--kl-warmup", text, "at least 0") for text in NOT_FINITE),
    *(("train", "--checkpoint-steps", text, "at least 1") for text in ("0", *NOT_WHOLE)),
    *(("train", "--checkpoint-minutes", text, "expected a") for text in ("0", *NOT_FINITE)),
    *(("check", "--input-dim", text, "at least 1") for text in ("0", *NOT_WHOLE)),
    *(("check", "--entries", text, "at least 1") for text in ("0", *NOT_WHOLE)),
    *(("variance", "--estimators", text, "pathwise,score-function") for text in ("", ",", "pathwise,")),
    *((verb, "--json", text, "path of a file") for verb in (*ANY_MODEL, "data") for text in ("", "-")),
]  # fmt: skip


@pytest.mark.parametrize(("verb", "option", "text", "expected"), OPTIONS)
def test_number_out_of_its_domain(
    verb: str, option: str, text: str, expected: str, refused: Callable[..., str]
) -> None:
    refused(verb, f"{option}={text}", says=[f"argument {option}: got {text!r}, expected", expected, "--help"])


@pytest.mark.parametrize(
    ("option", "text", "expected"),
    [
        ("--samples", "0", "at least 1"),
        ("--likelihood-samples", "-1", "at least 0"),
        ("--likelihood-examples", "0", "at least 1"),
        ("--seed", "-1", "at least 0"),
    ],
)
def test_number_out_of_its_domain_for_evaluate(
    option: str, text: str, expected: str, trained: Path, refused: Callable[..., str]
) -> None:
    refused("evaluate", trained, option, text, says=[option, repr(text), expected])


@pytest.mark.parametrize("text", ["0", "-1", "x"])
def test_number_of_samples_to_draw(text: str, trained: Path, refused: Callable[..., str]) -> None:
    refused("sample", trained, "--count", text, says=["--count", repr(text), "at least 1"])


@pytest.mark.parametrize("verb", ANY_MODEL)
@pytest.mark.parametrize(
    ("option", "known"),
    [
        ("activation", "identity, relu, leaky_relu, tanh, sigmoid, softplus"),
        ("likelihood", "bernoulli, gaussian"),
        ("kl", "analytic, sampled"),
        ("binarize", "dynamic"),
    ],
)
def test_unknown_part_of_a_model(verb: str, option: str, known: str, refused: Callable[..., str]) -> None:
    refused(verb, f"--{option}", "frobnicate", says=[option, "'frobnicate'", known])


def test_unknown_names_list_the_known_ones(refused: Callable[..., str]) -> None:
    known = "pathwise, score-function, score-function-running-mean, score-function-leave-one-out"
    refused("train", "--estimator", "reinforce", says=["'reinforce'", known])
    refused("variance", "--estimators", "pathwise,reinforce", says=["'reinforce'", known])
    refused("train", "--optimizer", "rmsprop", says=["--optimizer", "'rmsprop'", "adam, sgd"])
    refused("data", "--fetch", "emnist", says=["--fetch", "'emnist'", "digits, mnist, fashion-mnist"])
    assert not Path("runs").exists()


def test_too_few_samples(refused: Callable[..., str], small: tuple[Any, ...], trained: Path) -> None:
    name = "score-function-leave-one-out"
    says = ["--samples is 1", "at least 2", name]
    refused("train", "--estimator", name, "--samples", 1, says=says)
    says, few = ["--samples is 399", "at least 400"], ("--batch-size", 4)
    refused("variance", "--samples", 399, *small, says=says, before_work=False)
    refused("variance", "--samples", 399, "--run", trained, *few, says=says, before_work=False)
    refused(
        *("variance", "--samples", 39, "--estimators", "pathwise", *small),
        says=["--samples is 39", "at least 40"],
        before_work=False,
    )


def test_a_minibatch_larger_than_the_data(refused: Callable[..., str], images: Path, trained: Path) -> None:
    """The variance is measured on one minibatch, whose size is told beside it."""
    says = ["--batch-size is 33", "at most the 32 training images"]
    refused("variance", "--data", images, "--batch-size", 33, says=says)
    refused("variance", "--run", trained, "--batch-size", 33, says=says)


@pytest.mark.parametrize(
    "option",
    [
        ("--hidden", "5"),
        ("--latent-dim", "2"),
        ("--activation", "relu"),
        ("--likelihood", "bernoulli"),
        ("--likelihood-variance", "1"),
        ("--beta", "1"),
        ("--kl", "analytic"),
        ("--binarize", "dynamic"),
        ("--epochs", "0"),
    ],
)
def test_an_option_that_a_trained_run_would_ignore(
    option: tuple[str, str], trained: Path, refused: Callable[..., str]
) -> None:
    refused("variance", "--run", trained, *option, says=[option[0], "no effect on a trained run"])


@pytest.mark.parametrize("verb", ["train", "check"])
@pytest.mark.parametrize("option", [("--beta", "1"), ("--kl", "analytic"), ("--samples", "1")])
def test_an_option_that_an_autoencoder_would_ignore(
    verb: str, option: tuple[str, str], refused: Callable[..., str]
) -> None:
    refused(verb, "--model", "autoencoder", *option, says=[option[0], "is for a VAE"])


@pytest.mark.parametrize("option", [("--estimator", "pathwise"), ("--kl-warmup", "0")])
def test_an_option_of_training_that_an_autoencoder_would_ignore(
    option: tuple[str, str], refused: Callable[..., str]
) -> None:
    refused("train", "--model", "autoencoder", *option, says=[option[0], "is for a VAE"])


@pytest.mark.parametrize("verb", ANY_MODEL)
def test_a_variance_that_bernoulli_would_ignore(verb: str, refused: Callable[..., str]) -> None:
    refused(verb, "--likelihood-variance", "0.5", says=["--likelihood-variance", "--likelihood gaussian"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--latent-dim", 10**15),
        ("train", "--latent-dim", 10**30),
        ("check", "--input-dim", 10**15),
        ("check", "--batch-size", 10**15),
        ("check", "--hidden", f"{10**9},{10**9}"),
        ("variance", "--hidden", 10**15),
    ],
)
def test_more_than_the_memory_holds(arguments: tuple[Any, ...], refused: Callable[..., str]) -> None:
    refused(*arguments, before_work=False)


def test_more_samples_than_the_memory_holds(trained: Path, refused: Callable[..., str]) -> None:
    says = ["not enough memory", "choose smaller sizes"]
    refused("sample", trained, "--count", 10**15, says=says, before_work=False)
    refused("evaluate", trained, "--samples", 10**15, says=says, before_work=False)


# ---------------------------------------------------------------------------------------- where to write


@pytest.mark.parametrize("verb", ["train", "variance", "check", "data"])
def test_json_that_cannot_be_written_is_found_before_the_work(
    verb: str, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "load_dataset", None)  # not even the data are read
    monkeypatch.setattr(commands, "dataset_status", None)
    Path("file").touch()
    Path("folder").mkdir()
    refused(verb, "--json", "missing/x.json", says=["--json", "'missing/x.json'", "No such file", "make it"])
    refused(verb, "--json", "file/x.json", says=["--json", "'file/x.json'", "Not a directory"])
    refused(verb, "--json", "folder", says=["--json", "'folder'", "a folder", "path of a file"])
    assert sorted(path.name for path in Path().iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("verb", ["train", "variance", "sample"])
def test_out_that_cannot_be_made(verb: str, trained: Path, refused: Callable[..., str]) -> None:
    Path("file").touch()
    run = [trained] if verb == "sample" else []
    for out, reason in (("file", "File exists"), ("file/below", "Not a directory")):
        refused(verb, *run, "--out", out, says=["--out", repr(out), reason, "choose another folder"])
    Path("runs").touch()
    refused(verb, *run, says=["the default of --out", "'runs/", "choose another folder"])


@pytest.mark.parametrize("verb", ["train", "variance"])
def test_a_folder_that_cannot_be_written_into(
    verb: str, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permissions do not stop every user, so the refusal is played."""

    def denied(*_arguments: Any, **_settings: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("scratchvae.cli.files.tempfile.TemporaryFile", denied)
    refused(verb, "--out", "here", says=["--out", "'here'", "Permission denied"])
    refused(verb, "--json", "x.json", says=["--json", "'x.json'", "Permission denied"])


# ------------------------------------------------------------------------------------------ run directories

READERS = [("evaluate",), ("sample",), ("variance", "--run")]


@pytest.fixture
def copy(trained: Path) -> Path:
    """A run directory of the test's own, to be damaged."""
    return Path(shutil.copytree(trained, "copy"))


def change(path: Path, part: str, **changes: Any) -> None:
    """Overwrite entries of one part of a run's configuration."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config[part] |= changes
    path.write_text(json.dumps(config), encoding="utf-8")
    declare(path.parent)


@pytest.mark.parametrize("reader", READERS)
def test_no_run_directory(reader: tuple[str, ...], refused: Callable[..., str]) -> None:
    Path("empty").mkdir()
    Path("file").touch()
    for name in ("missing", "empty", "file"):
        refused(*reader, name, says=[f"{name} is no run directory", "config.json", "scratchvae train"])


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["config.json", "history.json", "parameters.npz"])
def test_damaged_file_of_a_run(
    reader: tuple[str, ...], name: str, copy: Path, refused: Callable[..., str]
) -> None:
    path = copy / name
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 3], whole[:-5], b"\xff\xfe\x00", b"[1, 2]", b"{}"):
        path.write_bytes(content)
        refused(
            *reader, copy, says=[f"{path} is not the file of {len(whole)} bytes that manifest.json declares"]
        )
        declare(copy)
        refused(*reader, copy)
        path.write_bytes(whole)
        declare(copy)
    path.unlink()
    refused(*reader, copy, says=[name])


@pytest.mark.parametrize("reader", READERS)
def test_run_of_another_shape(reader: tuple[str, ...], copy: Path, refused: Callable[..., str]) -> None:
    change(copy / "config.json", "model", hidden=[6])
    says = ["parameters.npz does not fit", "encoder.0.weight has shape (16, 5), expected (16, 6)"]
    refused(*reader, copy, says=says)
    change(copy / "config.json", "model", hidden=[5, 5])
    refused(*reader, copy, says=["parameters.npz does not fit", "encoder.1.weight"])


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "GAN"},
        {"hidden": None},
        {"hidden": [2.5]},
        {"hidden": "5"},
        {"latent_dim": "two"},
        {"latent_dim": 0},
        {"latent_dim": 10**15},
        {"activation": "frobnicate"},
        {"likelihood": 3},
        {"likelihood_variance": -1},
        {"binarize": "sometimes"},
        {"dtype": "int8"},
        {"dtype": "frobnicate"},
        {"beta": None},
        {"kl": "frobnicate"},
        {"unheard_of": 1},
    ],
)
def test_configuration_of_no_model(changes: dict[str, Any], copy: Path, refused: Callable[..., str]) -> None:
    change(copy / "config.json", "model", **changes)
    refused("evaluate", copy)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_parameters_that_are_no_numbers(bad: float, copy: Path, refused: Callable[..., str]) -> None:
    with np.load(copy / "parameters.npz") as file:
        parameters = dict(file)
    parameters["decoder.0.bias"][2] = bad
    np.savez(copy / "parameters.npz", **parameters)
    declare(copy)
    refused("evaluate", copy, says=["decoder.0.bias", str(bad), "(2,)", "finite"])


@pytest.mark.parametrize("training", [None, [], "digits", 3])
@pytest.mark.parametrize("reader", READERS)
def test_settings_of_another_form(
    reader: tuple[str, ...], training: Any, copy: Path, refused: Callable[..., str]
) -> None:
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps(config | {"training": training}), encoding="utf-8")
    declare(copy)
    refused(*reader, copy)


@pytest.mark.parametrize("data", [None, 3, ["digits"]])
def test_a_run_that_does_not_say_its_data(data: Any, copy: Path, refused: Callable[..., str]) -> None:
    """A guess might fit the number of pixels and be wrong."""
    change(copy / "config.json", "training", data=data)
    refused("evaluate", copy, says=["does not say what data", "--data"])
    refused("variance", "--run", copy, says=["does not say what data", "--data"])


@pytest.mark.parametrize("shape", [[3, 3], [16, 0], [-4, -4], "4x4", None, 16, ["4", "4"], [4.0, 4.0]])
def test_image_shape_that_does_not_fit(shape: Any, copy: Path, refused: Callable[..., str]) -> None:
    change(copy / "config.json", "training", image_shape=shape)
    refused("sample", copy, says=["image_shape", repr(shape), "product 16"])


def test_an_autoencoder_has_no_noise(autoencoder: Path, refused: Callable[..., str]) -> None:
    says = ["plain autoencoder", "expected a VAE's run"]
    refused("sample", autoencoder, says=says)
    refused("variance", "--run", autoencoder, says=says)
    refused("evaluate", autoencoder, "--likelihood-samples", 5, says=says)


# ------------------------------------------------------------------------------------------ every other error


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (ValueError("two\nlines,  and  spaces"), 2, "two lines, and spaces"),
        (TypeError("x is 'y', expected z"), 2, "x is 'y', expected z"),
        (FileNotFoundError(2, "No such file or directory", "a/b"), 2, "a/b: No such file or directory"),
        (OSError("nothing more is known"), 2, "nothing more is known"),
        (OverflowError("too large"), 2, "too large"),
        (MemoryError(), 2, "not enough memory; choose smaller sizes"),
        (MemoryError("9 TiB"), 2, "not enough memory: 9 TiB; choose smaller sizes"),
        (FloatingPointError("diverged"), 1, "diverged"),
    ],
    ids=repr,
)
def test_any_error_is_one_line(
    error: BaseException, status: int, says: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_options: Any) -> bool:
        raise error

    monkeypatch.setattr(commands, "data", fail)
    assert command("data") == (status, "", f"scratchvae data: {says}\n")


def test_a_mistake_of_the_program_keeps_its_traceback(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no user can mend is not called bad input."""

    def fail(_options: Any) -> bool:
        raise AttributeError("no such thing")

    monkeypatch.setattr(commands, "data", fail)
    with pytest.raises(AttributeError):
        command("data")
