"""A run directory: what is read is what was written, bit for bit, or a sentence that says why not."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from contextlib import suppress
from itertools import count

import numpy as np
import pytest

from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.training import run_directory as module
from scratchvae.training.history import Epoch, History
from scratchvae.training.run_directory import load_run, make_model, save_run, versions, write_atomically
from tests.models.cases import assert_refused, shake
from tests.training.cases import Killed, declare, failing

DECLARED = {"config.json", "history.json", "parameters.npz"}
FILES = DECLARED | {"manifest.json"}
HISTORY = History([Epoch(1, 3, 1.0, 0.1 + 0.2, -1.0, 0.5, None, None, None, 0.25)])
SETTINGS = {"data": "digits", "seed": 3, "learning_rate": 1e-3, "σ": [1, 2]}


def small_vae(hidden=(3,), **settings):
    vae = VAE(6, hidden, 2, rng=0, **settings)
    shake(vae, np.random.default_rng(1))
    return vae


@pytest.fixture
def run(tmp_path):
    """A folder that holds a run."""
    save_run(tmp_path / "run", small_vae(), HISTORY, SETTINGS)
    return tmp_path / "run"


# --- round trip -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        small_vae(),
        small_vae(
            (4, 3),
            activation="softplus",
            likelihood="gaussian",
            likelihood_variance=0.1 + 0.2,
            dtype="float64",
        ),
        small_vae((), beta=0.25, kl="sampled", binarize="threshold"),
        Autoencoder(6, (3,), 2, likelihood="gaussian", rng=0),
        Autoencoder(6, binarize=None, dtype="float64", rng=0),
    ],
    ids=["VAE", "deep Gaussian VAE in double", "linear VAE", "autoencoder", "784-32-784's little sister"],
)
def test_everything_comes_back_to_the_last_bit(tmp_path, model):
    save_run(tmp_path / "deep" / "er", model, HISTORY, SETTINGS)
    run = load_run(tmp_path / "deep" / "er")
    assert type(run.model) is type(model)
    assert run.model.config() == model.config()
    assert run.model.theta.dtype == model.theta.dtype
    assert run.model.theta.tobytes() == model.theta.tobytes()
    assert list(run.model.parameters) == list(model.parameters)
    assert run.history == HISTORY
    assert run.settings == SETTINGS


def test_a_loaded_model_computes_the_same_bits(run):
    x = np.random.default_rng(0).integers(0, 2, (4, 6)).astype(float)
    assert load_run(str(run)).model.loss(x, rng=0) == small_vae().loss(x, rng=0)


def test_files_are_named_readable_and_say_what_made_them(run):
    assert {path.name for path in run.iterdir()} == FILES
    text = (run / "config.json").read_text(encoding="utf-8")
    assert "σ" in text, "letters as they are"
    assert text.count("\n") > 20, "one setting in each line"
    config = json.loads(text)
    assert config["model"]["model"] == "VAE"
    assert config["training"] == SETTINGS
    assert config["versions"] == versions()
    assert {"scratchvae", "numpy", "python", "machine"} <= set(config["versions"])
    with np.load(run / "parameters.npz", allow_pickle=False) as arrays:
        assert arrays.files == list(small_vae().parameters)


def test_a_run_may_be_written_over_another(run):
    other = small_vae((4, 3))
    save_run(run, other, History(), {})
    assert {path.name for path in run.iterdir()} == FILES
    again = load_run(run)
    assert again.model.theta.tobytes() == other.theta.tobytes()
    assert again.history == History()


def test_make_model_is_the_inverse_of_config():
    model = small_vae((4, 3), beta=0.5)
    assert make_model(model.config()).config() == model.config()
    assert make_model(model.config()).theta.shape == model.theta.shape


# --- writing is all or nothing ----------------------------------------------------------------------------


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "parameters.npz"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"half of the new")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path], "nothing is left behind"
    write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_new_file_takes_the_old_one_s_place_only_when_it_is_on_the_disk(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen = []
    right = module.os.fsync
    monkeypatch.setattr(module.os, "fsync", lambda number: (seen.append(path.read_bytes()), right(number)))
    write_atomically(path, lambda file: file.write(b"new"))
    assert seen == [b"old", b"new"], "the file's content before it is renamed, its new name afterwards"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("how", ["full disk", "killed"])
def test_a_run_is_replaced_as_a_whole_whichever_call_fails(tmp_path, how):
    old, new = small_vae(), small_vae((4, 3))
    outcomes = []
    save_run(tmp_path / "old", old, HISTORY, SETTINGS)
    for number in count(1):
        run = shutil.copytree(tmp_path / "old", tmp_path / str(number))
        with failing(number, how) as calls, suppress(OSError, Killed):
            save_run(run, new, History(), {"data": "another"})
        found = load_run(run)
        outcomes.append(found.model.theta.size == new.theta.size)
        model, history, settings = (
            (new, History(), {"data": "another"}) if outcomes[-1] else (old, HISTORY, SETTINGS)
        )
        assert found.model.theta.tobytes() == model.theta.tobytes()
        assert (found.history, found.settings) == (history, settings)
        with failing(0, how):  # and the next one, of which nothing fails, tidies up
            save_run(run, old, HISTORY, SETTINGS)
        assert {path.name for path in run.iterdir() if not path.name.endswith(".part")} == FILES
        assert load_run(run).model.theta.tobytes() == old.theta.tobytes()
        if len(calls) < number:
            break
    assert outcomes == sorted(outcomes), "there is one moment before which it is the old one"
    assert outcomes.count(False) > 10
    assert outcomes.count(True) > 3


@pytest.mark.parametrize(
    ("history", "settings", "error"),
    [
        (History([Epoch(1, 3, 1.0, np.nan, -1.0, 0.5, None, None, None, 0.25)]), {}, ValueError),
        (HISTORY, {"seed": np.random.default_rng(0)}, TypeError),
    ],
    ids=["a NaN in the history", "a setting that JSON cannot hold"],
)
def test_what_json_cannot_hold_is_noticed_before_anything_is_written(run, history, settings, error):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(error):
        save_run(run, small_vae((4, 3)), history, settings)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    with pytest.raises(error):
        save_run(run / "new", small_vae(), history, settings)
    assert not (run / "new").exists()


# --- reading is suspicious --------------------------------------------------------------------------------


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert_refused(
            ValueError, f"{folder} is no run directory … config.json", lambda folder=folder: load_run(folder)
        )


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_named(run, name):
    (run / name).unlink()
    assert_refused(ValueError, name, lambda: load_run(run))


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"PK\x03\x04", b"[" * 100_000, b"\xff\xfe"])
def test_rubbish_in_a_file_is_refused(run, name, content):
    (run / name).write_bytes(content)
    for _ in range(1 + (name != "manifest.json")):  # undeclared, and then declared
        with pytest.raises(ValueError, match=str(run)) as caught:
            load_run(run)
        assert "\n" not in str(caught.value)
        if name != "manifest.json":
            declare(run)


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_a_changed_file_is_refused_by_its_name(run, name):
    path = run / name
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    for content in (b"", whole[:-1], whole + b"\n", bytes(flipped)):
        path.write_bytes(content)
        assert_refused(
            ValueError, f"{path} is not the file … that manifest.json declares", lambda: load_run(run)
        )


def test_no_flipped_bit_of_the_manifest_changes_what_is_read(run):
    path = run / "manifest.json"
    whole, theta = path.read_bytes(), load_run(run).model.theta.tobytes()
    noticed = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            assert load_run(run).model.theta.tobytes() == theta
        except ValueError as error:
            assert str(run) in str(error)  # noqa: PT017 - either outcome is fine
            noticed += 1
    assert noticed > 0.8 * len(whole), "all but blanks"


def test_no_truncated_or_damaged_parameters_get_in(run):
    # A zip file carries checksums: each change of a byte is either noticed or was in something that means nothing,
    # even if someone declared it.
    path = run / "parameters.npz"
    whole, theta = path.read_bytes(), load_run(run).model.theta.tobytes()
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        declare(run)
        with pytest.raises(ValueError, match=r"parameters\.npz"):
            load_run(run)
    noticed = 0
    for position in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        declare(run)
        try:
            assert load_run(run).model.theta.tobytes() == theta, (
                f"byte {position} changed a parameter in silence"
            )
        except ValueError as error:
            assert "parameters.npz" in str(error)  # noqa: PT017 - either outcome is fine
            noticed += 1
    assert noticed > 200


def test_what_unpacks_to_more_than_a_model_needs_is_not_unpacked(run, monkeypatch):
    with zipfile.ZipFile(run / "parameters.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("encoder.0.weight.npy", b"\0" * 10**7)
    declare(run)
    monkeypatch.setattr(module, "read_arrays", None)
    assert (run / "parameters.npz").stat().st_size < 11_000
    assert_refused(
        ValueError, "parameters.npz unpacks to 10000000 bytes, expected at most", lambda: load_run(run)
    )


class Explosive:
    """Unpickling it leaves a mark."""

    exploded = False

    def __reduce__(self):
        return Explosive.explode, ()

    @staticmethod
    def explode():
        Explosive.exploded = True


def test_pickle_is_never_opened(run):
    names = list(small_vae().parameters)
    laden = {name: np.array([Explosive()], dtype=object) for name in names}
    with (run / "parameters.npz").open("wb") as file:
        np.savez(file, **laden)
    declare(run)
    pickle.loads(pickle.dumps(Explosive()))
    assert Explosive.exploded, "the trap works"
    Explosive.exploded = False
    assert_refused(ValueError, "parameters.npz cannot be read … allow_pickle=False", lambda: load_run(run))
    (run / "parameters.npz").write_bytes(pickle.dumps(Explosive()))
    declare(run)
    assert_refused(ValueError, "parameters.npz cannot be read", lambda: load_run(run))
    assert not Explosive.exploded


def replace_parameters(run, **changes):
    parameters = {
        name: value for name, value in {**small_vae().parameters, **changes}.items() if value is not None
    }
    with (run / "parameters.npz").open("wb") as file:
        np.savez(file, **parameters)
    declare(run)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"decoder.1.bias": np.zeros(7)}, "decoder.1.bias has shape (7,), expected (6,)"),
        ({"encoder.0.weight": np.zeros((3, 6))}, "encoder.0.weight has shape (3, 6), expected (6, 3)"),
        ({"decoder.1.bias": np.full(6, np.nan)}, "decoder.1.bias has … nan at index (0,)"),
        ({"decoder.1.bias": np.array(["zero"] * 6)}, "decoder.1.bias has dtype <U4"),
        ({"decoder.1.bias": None}, "decoder.1.bias differ"),
        ({"decoder.2.bias": np.zeros(6)}, "decoder.2.bias differ"),
    ],
    ids=["another shape", "transposed", "NaN", "words", "missing", "one too many"],
)
def test_parameters_of_another_model_are_refused(run, changes, words):
    replace_parameters(run, **changes)
    assert_refused(
        ValueError, f"parameters.npz does not fit the model in config.json: … {words}", lambda: load_run(run)
    )


def test_a_single_array_in_place_of_the_parameters_is_refused(run):
    buffer = io.BytesIO()
    np.save(buffer, small_vae().theta)
    (run / "parameters.npz").write_bytes(buffer.getvalue())
    declare(run)
    assert_refused(ValueError, "parameters.npz cannot be read: File is not a zip file", lambda: load_run(run))


def test_files_swapped_between_runs_are_refused(run, tmp_path):
    for model in (small_vae((4, 3)), Autoencoder(6, (3,), 2, rng=0)):
        other = tmp_path / "other"
        save_run(other, model, HISTORY, SETTINGS)
        mixed = tmp_path / "mixed"
        for parameters_of, config_of in ((run, other), (other, run)):
            shutil.copytree(config_of, mixed)
            shutil.copy(parameters_of / "parameters.npz", mixed)
            assert_refused(ValueError, "parameters.npz is not the file", lambda mixed=mixed: load_run(mixed))
            declare(mixed)
            assert_refused(
                ValueError, "parameters.npz does not fit the model", lambda mixed=mixed: load_run(mixed)
            )
            shutil.rmtree(mixed)


def test_files_swapped_within_a_run_are_refused(run):
    config, history = (run / "config.json").read_bytes(), (run / "history.json").read_bytes()
    for changed, words in (
        ({"config.json": history}, "config.json is not the file"),
        ({"config.json": history, "history.json": config}, "config.json is not the file"),
        ({"history.json": config}, "history.json is not the file"),
    ):
        for name, content in ({"config.json": config, "history.json": history} | changed).items():
            (run / name).write_bytes(content)
        assert_refused(ValueError, words, lambda: load_run(run))
        (declared := run / "manifest.json").rename(run / "kept")
        shutil.copy(run / "kept", declared)
        declare(run)
        assert_refused(ValueError, f"{run} is no run directory", lambda: load_run(run))
        (run / "kept").replace(declared)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "GAN"}, "model is 'GAN', expected one of: VAE, Autoencoder, FreeBitsVAE"),
        ({"model": None}, "model is None, expected one of: VAE, Autoencoder, FreeBitsVAE"),
        ({"activation": "gelu"}, "activation is 'gelu', expected one of"),
        ({"input_dim": "6"}, "configuration does not describe a VAE: input_dim is '6'"),
        ({"latent_dim": 2.0}, "latent_dim is 2.0"),
        ({"hidden": 3}, "hidden is 3"),
        ({"dtype": "quadruple"}, "dtype is 'quadruple'"),
        ({"rng": 5}, "configuration does not describe a VAE … rng"),
        ({"colour": "red"}, "configuration does not describe a VAE … colour"),
        ({"hidden": [10**7, 10**7]}, "configuration does not describe a VAE: Unable to allocate"),
    ],
    ids=str,
)
def test_a_configuration_of_no_model_is_refused(run, changes, words):
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    config["model"] |= changes
    (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
    declare(run)
    assert_refused(ValueError, words, lambda: load_run(run))


@pytest.mark.parametrize("content", ["3", "[3]", '{"model": 3, "training": {}}', '{"model": {}}'])
def test_a_configuration_of_another_form_is_refused(run, content):
    (run / "config.json").write_text(content, encoding="utf-8")
    declare(run)
    assert_refused(ValueError, f"{run} is no run directory", lambda: load_run(run))


@pytest.mark.parametrize("content", ["{}", "3", '[{"epoch": 1}]', "[3]"])
def test_a_history_of_another_form_is_refused(run, content):
    (run / "history.json").write_text(content, encoding="utf-8")
    declare(run)
    expected = f"{run / 'history.json'} is not a history" if "[" in content else f"{run} is no run directory"
    assert_refused(ValueError, expected, lambda: load_run(run))
