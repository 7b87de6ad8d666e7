"""The embedded digits, the published formats, files of the user's, and what makes pixels black and white."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import math
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from scratchvae.randomness import NoiseStream
from scratchvae.training import data
from scratchvae.training.data import binarize, load_dataset, pixels
from scratchvae.training.download import CATALOGUE, PublishedDataset, PublishedFile
from tests.ledger import Chance

needs_data = pytest.mark.skipif(
    not os.environ.get("SCRATCHVAE_DATA_DIR"),
    reason="SCRATCHVAE_DATA_DIR does not name a folder of published data",
)


# The embedded digits --------------------------------------------------------------------------------


def test_the_embedded_file_is_the_one_that_was_put_there() -> None:
    content = (resources.files("scratchvae.training") / "digits.npz").read_bytes()
    (file,) = CATALOGUE["digits"].files.values()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size, file.sha256)
    with np.load(io.BytesIO(content)) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    # of scikit-learn's load_digits: .images.astype("uint8") and .target.astype("uint8")
    assert (
        hashlib.sha256(images).hexdigest()
        == "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"
    )
    assert (
        hashlib.sha256(labels).hexdigest()
        == "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0"
    )
    assert (images.shape, images.sum(), images.min(), images.max()) == ((1797, 8, 8), 561718, 0, 16)
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_are_sixteenths_and_split_where_a_form_begins() -> None:
    digits = load_dataset("digits")
    assert (digits.train.shape, digits.test.shape, digits.image_shape) == ((1415, 64), (382, 64), (8, 8))
    assert digits.train.dtype == digits.test.dtype == np.float32
    levels = np.unique(np.concatenate([digits.train, digits.test]))
    assert levels.tolist() == [k / 16 for k in range(17)]
    assert 16 * digits.train.sum(dtype=float) + 16 * digits.test.sum(dtype=float) == 561718
    # The first line of the UCI file, its first row, is a zero's upper edge.
    assert (16 * digits.train[0].reshape(digits.image_shape)[0]).tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert digits.train_labels is not None
    assert digits.test_labels is not None
    assert (len(digits.train_labels), len(digits.test_labels)) == (1415, 382)
    # A form asks for 0 to 9 thrice and then always for the same other digits.
    assert digits.test_labels[:30].tolist() == digits.train_labels[:30].tolist() == 3 * list(range(10))
    assert not {row.tobytes() for row in digits.train} & {row.tobytes() for row in digits.test}
    assert "CC BY 4.0" in digits.licence
    assert "Alpaydin" in digits.citation
    assert "array" not in repr(digits)


# Published formats ----------------------------------------------------------------------------------


def idx(*sizes: int, magic: bytes = b"\0\0\x08", order: str = "big", values: int | None = None) -> bytes:
    count = math.prod(sizes) if values is None else values
    header = magic + bytes([len(sizes)]) + b"".join(size.to_bytes(4, order) for size in sizes)  # type: ignore[arg-type]
    return header + bytes(k % 256 for k in range(count))


def publish(
    folder: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, tuple[str, bytes]], **known: Any
) -> None:
    """Enter a data set called tiny into the catalogue and lay its files into the folder."""
    (folder / "tiny").mkdir()
    entries = {}
    for part, (name, content) in files.items():
        (folder / "tiny" / name).write_bytes(content)
        entries[part] = PublishedFile(name, len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(
        CATALOGUE,
        "tiny",
        PublishedDataset(("http://127.0.0.1:9/",), entries, **known, licence="ours", citation="us"),
    )


def test_idx_files_become_rows_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"train": idx(5, 2, 3), "train_labels": idx(5), "test": idx(4, 2, 3), "test_labels": idx(4)}
    files = {part: (f"{part}.gz", gzip.compress(content)) for part, content in parts.items()}
    publish(tmp_path, monkeypatch, files, examples={"train": 5, "test": 4}, image_shape=(2, 3))
    tiny = load_dataset("tiny", folder=tmp_path)
    assert tiny.train.dtype == np.uint8
    assert tiny.train.tolist() == np.arange(30).reshape(5, 6).tolist()
    assert tiny.test.tolist() == np.arange(24).reshape(4, 6).tolist()
    assert tiny.train_labels is not None
    assert tiny.test_labels is not None
    assert (tiny.train_labels.tolist(), tiny.test_labels.tolist()) == ([0, 1, 2, 3, 4], [0, 1, 2, 3])
    assert (tiny.image_shape, tiny.validation, tiny.licence) == ((2, 3), None, "ours")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(idx(5, 2, 2), id="other sizes than the data set has"),
        pytest.param(idx(5, 6), id="other axes, as many values"),
        pytest.param(idx(6, 2, 3, values=30), id="a header that promises more"),
        pytest.param(idx(5, 2, 3, values=29), id="a body that ends early"),
        pytest.param(idx(5, 2, 3, values=31), id="a body that does not end"),
        pytest.param(idx(5, 2, 3, order="little"), id="sizes with the lowest byte first"),
        pytest.param(idx(5, 2, 3, magic=b"\0\0\x0d"), id="floats"),
        pytest.param(idx(5), id="labels instead of images"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_an_idx_header_that_lies_is_refused(content: bytes) -> None:
    assert data._parse_idx(idx(5, 2, 3), (5, 2, 3)).shape == (5, 2, 3)
    with pytest.raises(ValueError, match="expected"):
        data._parse_idx(content, (5, 2, 3))


def test_binary_text_becomes_black_and_white_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        part: (f"{part}.amat", b"0 1 1 0\n1 1 1 1\n0 0 0 1\n") for part in ("train", "validation", "test")
    }
    publish(
        tmp_path, monkeypatch, files, examples={"train": 3, "validation": 3, "test": 3}, image_shape=(2, 2)
    )
    tiny = load_dataset("tiny", folder=tmp_path)
    assert tiny.train.dtype == np.uint8
    assert (tiny.train // 255).tolist() == [[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]]
    assert pixels(tiny.train).tolist() == (tiny.train // 255).tolist()
    assert tiny.validation is not None
    assert tiny.validation.tolist() == tiny.train.tolist()
    assert tiny.train_labels is None


@pytest.mark.parametrize(
    "text",
    [
        b"0 1 1\n0 1 1\n",
        b"0 1\n0 1\n0 1\n",
        b"0 2\n0 1\n",
        b"0,1\n0 1\n",
        b"0 1 0 1\n",
        b"0 /\n0 1\n",
        b"0 1\n0 1",
        b"",
    ],
)
def test_text_of_another_form_is_refused(text: bytes) -> None:
    assert data._parse_binary_text(b"0 1\n1 1\n", 2, 2).tolist() == [[0, 255], [255, 255]]
    with pytest.raises(ValueError, match="2 lines of 2"):
        data._parse_binary_text(text, 2, 2)


@needs_data
@pytest.mark.parametrize(
    ("name", "mean", "labels"),
    [
        ("mnist", 0.1307, [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]),
        ("fashion-mnist", 0.2860, [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]),
    ],
)
def test_the_real_mnists_are_bytes_and_stay_small(name: str, mean: float, labels: list[int]) -> None:
    tracemalloc.start()
    real = load_dataset(name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6  # one part decompressed beside the other; as float32 it would be above 220e6
    assert real.train.dtype == real.test.dtype == np.uint8
    assert (real.train.shape, real.test.shape, real.image_shape) == ((60_000, 784), (10_000, 784), (28, 28))
    assert real.train.mean() / 255 == pytest.approx(
        mean, abs=5e-5
    )  # the constant that everyone normalises with
    assert real.train_labels is not None
    assert real.test_labels is not None
    assert real.train_labels[:10].tolist() == labels
    assert (len(real.train_labels), len(real.test_labels)) == (60_000, 10_000)


@needs_data
def test_the_real_binarized_mnist_is_black_and_white_and_stays_small() -> None:
    tracemalloc.start()
    real = load_dataset("binarized-mnist")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 250e6  # 78e6 of text, 39e6 of result and of temporaries
    assert real.validation is not None
    for part, count in ((real.train, 50_000), (real.validation, 10_000), (real.test, 10_000)):
        assert (part.shape, part.dtype) == ((count, 784), np.uint8)
        assert np.unique(part[:500]).tolist() == [0, 255]
        assert part.mean() / 255 == pytest.approx(0.13, abs=0.005)  # MNIST's mean, of which it is a draw


# Files of the user's --------------------------------------------------------------------------------

BYTES = np.arange(240, dtype=np.uint8).reshape(10, 4, 6)


def saved(folder: Path, *arrays: Any, **named: Any) -> Path:
    if named or len(arrays) != 1:
        np.savez(folder / "mine.npz", *arrays, **named)
        return folder / "mine.npz"
    np.save(folder / "mine.npy", arrays[0])
    return folder / "mine.npy"


@pytest.mark.parametrize("as_text", [str, Path])
def test_bytes_and_the_same_floats_are_the_same_pixels(
    tmp_path: Path, as_text: Callable[[Path], Any]
) -> None:
    loaded = [
        load_dataset(as_text(saved(tmp_path, images)))
        for images in (BYTES, BYTES / 255, np.float32(BYTES / 255))
    ]
    assert loaded[0].train.dtype == np.uint8
    for own in loaded:
        assert (own.train.shape, own.test.shape, own.image_shape) == ((8, 24), (2, 24), (4, 6))
        np.testing.assert_array_equal(pixels(own.train), pixels(loaded[0].train))
        np.testing.assert_array_equal(pixels(own.test), pixels(loaded[0].test))
        assert pixels(own.test).dtype == np.float32
    assert loaded[0].name == str(tmp_path / "mine.npy")


def test_the_split_of_a_file_without_a_test_part_is_disjoint_whole_and_fixed(tmp_path: Path) -> None:
    images = np.linspace(0, 1, 46).reshape(23, 2)
    first, again = load_dataset(saved(tmp_path, images)), load_dataset(saved(tmp_path, only=images))
    np.testing.assert_array_equal(first.test, again.test)
    rows = np.concatenate([first.train, first.test])
    np.testing.assert_array_equal(rows[np.argsort(rows[:, 0])], images)
    # for good: figures of a run can be compared with those of the next version's
    assert np.flatnonzero(np.isin(images[:, 0], first.test[:, 0])).tolist() == [3, 11, 13, 20]


def test_parts_called_train_and_test_stay_what_they_are(tmp_path: Path) -> None:
    own = load_dataset(saved(tmp_path, test=BYTES[:1], train=BYTES[1:]))
    np.testing.assert_array_equal(own.train, BYTES[1:].reshape(9, 24))
    np.testing.assert_array_equal(own.test, BYTES[:1].reshape(1, 24))


@pytest.mark.parametrize(
    ("stored", "shape"),
    [
        ((4, 6), (4, 6)),
        ((16,), (4, 4)),
        ((15,), (1, 15)),
        ((4, 6, 1), (4, 6)),
        ((1, 4, 6), (4, 6)),
        ((4, 6, 3),) * 2,
    ],
)
def test_the_shape_of_an_image(tmp_path: Path, stored: tuple[int, ...], shape: tuple[int, ...]) -> None:
    own = load_dataset(saved(tmp_path, np.full((5, *stored), 0.5)))
    assert own.image_shape == shape
    assert own.train[0].reshape(own.image_shape).shape == shape


def test_truth_values_are_black_and_white(tmp_path: Path) -> None:
    images = np.arange(40).reshape(10, 4) % 3 == 0
    own = load_dataset(saved(tmp_path, train=images, test=images))
    np.testing.assert_array_equal(pixels(own.train), images)


GREY = np.full((6, 4), 0.5)


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ([np.arange(10, dtype=np.uint8)], r"shape \(10,\).*look like labels"),
        ([np.zeros((10, 1))], r"shape \(10, 1\).*look like labels"),
        ([np.array(0.5)], r"shape \(\).*expected at least one image"),
        ([np.zeros((0, 28, 28), np.uint8)], r"shape \(0, 28, 28\).*expected at least one image"),
        ([np.zeros((5, 0))], r"shape \(5, 0\).*expected at least one image"),
        ([np.full((1, 4), 0.5)], "holds one image"),
        ([np.where(np.arange(4) == 2, np.nan, GREY)], r"the value nan at index \(0, 2\)"),
        ([GREY * np.inf], "the value inf"),
        ([GREY * 255], r"value 127.5, expected values in \[0, 1\]"),
        ([GREY - 0.6], r"value -0.1, expected values in \[0, 1\]"),
        ([(GREY * 255).astype(np.int64)], "dtype int64, expected uint8"),
        ([GREY.astype(complex)], "dtype complex128, expected uint8"),
        ([GREY.astype("U3")], "dtype <U3, expected uint8"),
        ([(GREY > 0).astype(np.uint8)], "bytes of at most 1.*as bool"),
        ([np.array([[GREY, None]], dtype=object)], "cannot be read as an array of numbers"),
        ([GREY, GREY], r"holds the arrays \['arr_0', 'arr_1'\], expected one array, or train and test"),
        ([GREY, np.arange(6)], r"holds the arrays \['arr_0', 'arr_1'\]"),
        ([], r"holds the arrays \[\]"),
    ],
)
def test_what_is_not_images_is_refused_in_one_sentence(
    tmp_path: Path, arrays: list[Any], complaint: str
) -> None:
    path = saved(tmp_path, *arrays)
    with pytest.raises(ValueError, match=complaint) as caught:
        load_dataset(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parts_of_different_shapes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\(4,\) in train and \(3,\) in test"):
        load_dataset(saved(tmp_path, train=GREY, test=GREY[:, :3]))
    with pytest.raises(ValueError, match=r"mine.npz test has shape.*look like labels"):
        load_dataset(saved(tmp_path, train=GREY, test=GREY[:, 0]))


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize(
    ("start", "stop"), [(0, -60), (0, 0), (6, None)], ids=["truncated", "empty", "no magic"]
)
def test_a_damaged_file_is_refused(tmp_path: Path, suffix: str, start: int, stop: int | None) -> None:
    path = saved(tmp_path, BYTES) if suffix == "npy" else saved(tmp_path, train=BYTES, test=BYTES)
    path.write_bytes(path.read_bytes()[start:stop])
    with pytest.raises(ValueError, match="cannot be read as an array of numbers"):
        load_dataset(path)


def test_a_zip_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "mine.npz", "w") as archive:
        archive.writestr("readme.txt", "nothing of interest")
    with pytest.raises(ValueError, match=r"mine.npz readme.txt has shape \(\), expected at least one image"):
        load_dataset(tmp_path / "mine.npz")


def test_no_single_damaged_byte_ends_in_another_exception_than_value_error(tmp_path: Path) -> None:
    for path in (saved(tmp_path, BYTES), saved(tmp_path, images=BYTES)):
        whole = path.read_bytes()
        for position in [*range(160), *range(len(whole) - 120, len(whole))]:
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
            with contextlib.suppress(ValueError):
                load_dataset(path)


@pytest.mark.parametrize("name", ["imagenet", "mine.npy", "mnist.gz", ""])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=r"\(digits, mnist, fashion-mnist, binarized-mnist\) or the path"):
        load_dataset(name)


# Pixels and their binarization ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_byte_becomes_the_nearest_float(dtype: type) -> None:
    levels = pixels(np.arange(256, dtype=np.uint8), dtype)
    assert levels.dtype == dtype
    assert levels.tolist() == [float(dtype(k / 255)) for k in range(256)]
    assert pixels(levels, dtype) is levels


def test_pixels_are_not_made_from_whole_numbers_other_than_bytes() -> None:
    with pytest.raises(TypeError, match="int64, expected uint8"):
        pixels(np.arange(4))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dynamic_binarization_draws_each_pixel_with_its_grey_level(
    dtype: type, seed: int, chance: Chance
) -> None:
    # 40,000 draws of each of 17 levels, with a standard deviation of at most 0.0025: a bias of 0.04 is seen.
    draws = 40_000
    grey = np.repeat(np.arange(17, dtype=dtype) / 16, draws).reshape(17, draws)
    black_and_white = binarize(grey, "dynamic", rng=seed)
    assert black_and_white.dtype == dtype
    assert np.unique(black_and_white).tolist() == [0, 1]
    low, high = chance.between(scipy.stats.binom(draws, grey[:, 0].astype(np.float64)), comparisons=17)
    for planted in (0, -0.04, 0.04):  # 0 and 1 come exactly
        count = (black_and_white.astype(np.float64) + planted).sum(axis=1)
        assert (
            np.all((low <= count) & (count <= high))
            if planted == 0
            else np.all((low > count) | (count > high))
        )


def test_dynamic_binarization_follows_its_source() -> None:
    grey = load_dataset("digits").train[:50]
    np.testing.assert_array_equal(binarize(grey, "dynamic", 3), binarize(grey, "dynamic", 3))
    rng = np.random.default_rng(3)
    first, second = binarize(grey, "dynamic", rng), binarize(grey, "dynamic", rng)
    assert np.any(first != second), "each epoch is to see its own draw"
    assert np.any(binarize(grey, "dynamic") != binarize(grey, "dynamic"))
    stream = NoiseStream(3)
    np.testing.assert_array_equal(binarize(grey, "dynamic", stream), binarize(grey, "dynamic", 3))
    assert np.any(binarize(grey, "dynamic", stream) != binarize(grey, "dynamic", 3))


def test_threshold_and_none() -> None:
    grey = np.array([[0, 0.5, 0.500001, 1]], np.float32)
    assert binarize(grey, "threshold").tolist() == [[0, 0, 1, 1]]
    assert binarize(grey, "threshold").dtype == np.float32
    np.testing.assert_array_equal(binarize(grey, None), grey)


def test_binarize_refuses_other_methods_and_what_is_not_grey() -> None:
    with pytest.raises(ValueError, match="'stochastic', expected one of: dynamic, threshold, None"):
        binarize(GREY, "stochastic")
    with pytest.raises(ValueError, match=r"expected values in \[0, 1\]"):
        binarize(2 * GREY + 0.5, "dynamic")
    with pytest.raises(TypeError, match="bytes"):
        binarize(BYTES, None)
