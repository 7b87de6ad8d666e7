"""A checkpoint gives back what was written, or a sentence that names the file: no bit of it may change unnoticed."""

from __future__ import annotations

import json
import pickle
import re
from contextlib import suppress

import numpy as np
import pytest

from scratchvae.training import checkpoint as module
from scratchvae.training.checkpoint import (
    checkpoint_files,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from tests.models.cases import assert_refused
from tests.training.cases import Killed, failing

RUN, OTHER = "0123abcd", "feed0000"
VALUES = {"step": 7, "seed": 2**127 + 1, "seconds": 0.1 + 0.2, "name": "σ", "nothing": None, "list": [1, [2]]}
ARRAYS = {
    "theta": np.array([1.5, -0.0, np.nan, np.inf, 1e-45], np.float32),
    "totals": np.array([0.1, 5e-324, -np.inf]),
    "matrix": np.arange(6.0).reshape(2, 3).T,
    "count": np.asarray(2**40),
    "empty": np.zeros(0, np.float32),
}


@pytest.fixture
def path(tmp_path):
    return write_checkpoint(tmp_path, RUN, 3, VALUES, ARRAYS)


def test_everything_comes_back_to_the_last_bit(path):
    assert path.name == "checkpoint-0123abcd-000003.bin"
    found = read_checkpoint(path)
    assert (found.path, found.number, found.run, found.values) == (path, 3, RUN, VALUES)
    assert list(found.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        again = found.arrays[name]
        assert (again.dtype, again.shape, again.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_the_states_of_generators_come_back_as_lists(tmp_path):
    state = np.random.MT19937(3).state
    found = read_checkpoint(write_checkpoint(tmp_path, RUN, 1, {"order": state}, {}))
    assert found.values["order"]["state"]["key"] == state["state"]["key"].tolist()


def test_it_is_a_line_a_manifest_and_arrays_as_the_module_says(path):
    first, manifest, rest = path.read_bytes().split(b"\n", 2)
    assert re.fullmatch(rb"scratchvae checkpoint 1 \d{12} [0-9a-f]{64}", first)
    assert json.loads(manifest)["arrays"][0]["shape"] == [5]
    assert rest == b"".join(array.tobytes() for array in ARRAYS.values())


def test_what_is_no_number_is_not_written(tmp_path):
    for values, arrays in (({"rng": object()}, {}), ({}, {"x": np.array(["a"])})):
        try:
            read_checkpoint(write_checkpoint(tmp_path, RUN, 1, values, arrays))
        except (TypeError, ValueError):
            continue
        raise AssertionError("it was written and read")


# --- writing is all or nothing ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["full disk", "killed"])
def test_a_write_that_fails_leaves_the_one_before(path, how):
    before = path.read_bytes()
    for number in range(1, 20):
        with failing(number, how) as calls, suppress(OSError, Killed):
            write_checkpoint(path.parent, RUN, 4, VALUES | {"step": 8}, ARRAYS)
        found, refused = newest_checkpoint(path.parent)
        assert not refused, "a file under a checkpoint's name is whole"
        assert found.values["step"] in (7, 8)
        assert path.read_bytes() == before
        if how == "full disk" and found.values["step"] == 7:
            assert list(path.parent.iterdir()) == [path], "nothing is left behind"
        if len(calls) < number:
            break
        path.with_name("checkpoint-0123abcd-000004.bin").unlink(missing_ok=True)
    assert found.values["step"] == 8
    assert number > 4


# --- reading is suspicious --------------------------------------------------------------------------------


def test_any_flipped_bit_is_noticed(path):
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
            read_checkpoint(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["cut short", "too long"])
def test_any_other_length_is_noticed(path, change):
    whole = path.read_bytes()
    lengths = range(len(whole)) if change == "cut short" else range(len(whole) + 1, len(whole) + 70)
    for length in lengths:
        path.write_bytes((whole + whole)[:length])
        assert_refused(ValueError, f"{path} is no whole checkpoint: ", lambda: read_checkpoint(path))


def test_of_a_file_that_is_too_large_only_the_beginning_is_read(path, monkeypatch):
    with path.open("r+b") as file:
        file.truncate(10**13)  # a hole, which takes no room
    words = "is no whole checkpoint: it has … bytes of arrays, and its manifest declares"
    assert_refused(ValueError, words, lambda: read_checkpoint(path))
    head = b"scratchvae checkpoint 1 %012d %s\n" % (10**12 - 1, b"0" * 64)
    path.write_bytes(head + b"{}")
    assert_refused(ValueError, "its manifest alone should have 999999999999", lambda: read_checkpoint(path))


def crafted(path, manifest, rest=b""):
    """A file whose checksums are right, and whose content is not."""
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    first = f"scratchvae checkpoint 1 {len(text):012d} {module._sha256(text)}\n".encode()
    path.write_bytes(first + text + rest)


ENTRY = {"name": "x", "dtype": "<f4", "shape": [2], "sha256": "0" * 64}
GOOD = {"run": RUN, "number": 3, "values": {}, "arrays": []}


MANIFESTS = {
    "nothing": b"",
    "deep": b"[" * 100_000,
    "not UTF-8": b"\xff",
    "a number": 3,
    "a list": [],
    "no entries": {},
    "arrays are nothing": GOOD | {"arrays": None},
    "arrays are numbers": GOOD | {"arrays": [3]},
    "an array of objects": GOOD | {"arrays": [ENTRY | {"dtype": "O"}]},
    "a list of types": GOOD | {"arrays": [ENTRY | {"dtype": ["<f4"]}]},
    "negative sizes": GOOD | {"arrays": [ENTRY | {"shape": [-1, -2]}]},
    "a size that is a float": GOOD | {"arrays": [ENTRY | {"shape": [2.0]}]},
    "an array of petabytes": GOOD | {"arrays": [ENTRY | {"shape": [10**15]}]},
    "no shape": GOOD | {"arrays": [ENTRY | {"shape": None}]},
    "another SHA-256": GOOD | {"arrays": [ENTRY]},
    "a number in words": GOOD | {"number": "three"},
    "no number": GOOD | {"number": None},
    "values are a number": GOOD | {"values": 3},
    "no run": GOOD | {"run": None},
}


@pytest.mark.parametrize("what", MANIFESTS)
def test_a_manifest_of_another_form_is_refused(path, what):
    crafted(path, MANIFESTS[what], b"\0" * 8 if what == "another SHA-256" else b"")
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


class Explosive:
    exploded = False

    def __reduce__(self):
        return Explosive.explode, ()

    @staticmethod
    def explode():
        Explosive.exploded = True


def test_pickle_is_never_opened(path):
    pickle.loads(pickle.dumps(Explosive()))
    assert Explosive.exploded, "the trap works"
    Explosive.exploded = False
    content = pickle.dumps(Explosive())
    path.write_bytes(content)
    assert_refused(ValueError, "its first line is not that of a checkpoint", lambda: read_checkpoint(path))
    entry = {"name": "x", "dtype": "O", "shape": [1], "sha256": module._sha256(content)}
    crafted(path, GOOD | {"arrays": [entry]}, content)
    assert_refused(ValueError, "type 'O' is none of a checkpoint's", lambda: read_checkpoint(path))
    assert not Explosive.exploded


# --- the newest -------------------------------------------------------------------------------------------


def test_the_highest_number_is_the_newest_and_other_files_are_none(tmp_path):
    for number in (9, 10, 11):
        write_checkpoint(tmp_path, RUN, number, VALUES | {"step": number}, {})
    for name in ("checkpoint-000099.bin", ".checkpoint-0123abcd-000099.bin.1.part", "parameters.npz"):
        (tmp_path / name).write_bytes(b"")
    found, refused = newest_checkpoint(tmp_path)
    assert (found.number, refused) == (11, [])
    assert [path.name[-6:-4] for path in checkpoint_files(tmp_path)] == ["11", "10", "09"]


def damage(path, how):
    content = path.read_bytes()
    if how == "flipped":
        path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    elif how == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"truncated": content[:-1], "emptied": b"", "too large": content + b"\0"}[how])


@pytest.mark.parametrize("how", ["flipped", "truncated", "emptied", "too large", "folder"])
def test_the_previous_one_takes_the_place_of_a_damaged_one_which_is_named(tmp_path, how):
    older, newer = (write_checkpoint(tmp_path, RUN, n, VALUES | {"step": n}, ARRAYS) for n in (4, 5))
    damage(newer, how)
    found, (sentence,) = newest_checkpoint(tmp_path)
    assert (found.path, found.values["step"]) == (older, 4)
    assert sentence.startswith(f"{newer} is no whole checkpoint: ")
    damage(older, how)
    words = f"{tmp_path} holds no checkpoint to go on from: {newer} … {older} … begin again"
    assert_refused(ValueError, words, lambda: newest_checkpoint(tmp_path))


def test_two_that_changed_names_are_told_apart_by_what_they_say(tmp_path):
    older, newer = (write_checkpoint(tmp_path, RUN, n, VALUES | {"step": n}, ARRAYS) for n in (4, 5))
    newer.rename(tmp_path / "x")
    older.rename(newer)
    (tmp_path / "x").rename(older)
    found, refused = newest_checkpoint(tmp_path)
    assert (found.number, found.values["step"], refused) == (5, 5, [])


def test_another_run_s_under_this_one_s_name_is_refused(tmp_path):
    older, newer = (write_checkpoint(tmp_path, RUN, n, VALUES | {"step": n}, ARRAYS) for n in (4, 5))
    write_checkpoint(tmp_path, OTHER, 5, VALUES | {"step": 500}, ARRAYS).replace(newer)
    found, (sentence,) = newest_checkpoint(tmp_path)
    assert found.path == older
    assert sentence == f"{newer} is a checkpoint of another run, feed0000, under a name that is not its own"


def test_another_run_s_is_no_substitute(tmp_path):
    write_checkpoint(tmp_path, OTHER, 4, VALUES, ARRAYS)
    newer = write_checkpoint(tmp_path, RUN, 5, VALUES, ARRAYS)
    damage(newer, "flipped")
    assert_refused(ValueError, f"{newer} is no whole", lambda: newest_checkpoint(tmp_path))


def test_a_folder_without_any_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        words = f"{folder} holds no checkpoint to go on from; `scratchvae train"
        assert_refused(ValueError, words, lambda folder=folder: newest_checkpoint(folder))
