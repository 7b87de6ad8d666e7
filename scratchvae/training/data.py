"""Images to train on, kept as bytes where they are bytes, and made pixels in [0, 1] a minibatch at a time."""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from scratchvae.randomness import NoiseStream, RandomSource
from scratchvae.training.download import CATALOGUE, read_published
from scratchvae.validation import check_array, check_choice

__all__ = ["Dataset", "binarize", "load_dataset", "pixels", "read_arrays"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images, one per row, in parts that share no example.

    Attributes
    ----------
    name : str
        What `load_dataset` was given.
    train, test, validation : ndarray (N, D)
        Bytes (uint8, 0 to 255), which `pixels` divides by 255, or float pixels in [0, 1]. Where there is no
        validation part, it is None.
    image_shape : tuple of int
        Of one image, with D entries in all: `train[0].reshape(image_shape)`.
    train_labels, test_labels : ndarray (N,) or None
        The class of each image, uint8. No model here learns from them.
    licence, citation : str
        Whose work it is; empty for a file of the user's.
    """

    name: str
    train: np.ndarray = field(repr=False)
    test: np.ndarray = field(repr=False)
    image_shape: tuple[int, ...]
    train_labels: np.ndarray | None = field(default=None, repr=False)
    test_labels: np.ndarray | None = field(default=None, repr=False)
    validation: np.ndarray | None = field(default=None, repr=False)
    licence: str = ""
    citation: str = field(default="", repr=False)


def load_dataset(
    name_or_path: str | os.PathLike[str], *, folder: str | os.PathLike[str] | None = None
) -> Dataset:
    """Load a published data set by its name, or the user's own images from a .npy or .npz file.

    - "digits": 1,797 grey 8×8 digits (Alpaydin and Kaynak, CC BY 4.0), embedded in the package, so that they
      need no network. The file runs through 14 filled-in forms, each in one hand. The last three, 382 digits,
      are the test part, so that no form is in both.
    - "mnist", "fashion-mnist": 60,000 + 10,000 grey 28×28 images, as bytes.
    - "binarized-mnist": the fixed binarization of MNIST that papers compare on, 50,000 + 10,000 for
      validation + 10,000, as bytes 0 and 255, without labels and not in MNIST's order.
    - a path: shape (N, …), uint8 (0 to 255), float in [0, 1] or bool. An .npz file holds one array, or two
      called "train" and "test". Without a test part, one fifth of the examples becomes it, drawn with a fixed
      seed: which ones depends on N alone. A flat image of a square number of pixels is taken for a square.

    Parameters
    ----------
    name_or_path : str or path
        A known name, or the path of a file.
    folder : path, optional
        The data folder, instead of `SCRATCHVAE_DATA_DIR` or the user's cache; missing files are downloaded
        into it.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        If there is no such data set or file, if a file in the data folder is not the published one, or if a
        user's array is not one of images: labels, another dtype, empty, NaN or values outside [0, 1].
    OSError
        If a missing file cannot be downloaded.
    """
    name = os.fspath(name_or_path)
    if name == "digits":
        return _digits()
    if name in CATALOGUE:
        return _published(name, folder)
    path = Path(name)
    if path.suffix not in (".npy", ".npz") or not path.is_file():
        raise ValueError(
            f"data is {name!r}, expected a known data set ({', '.join(CATALOGUE)}) or the path of an "
            "existing .npy or .npz file"
        )
    return _users_own(path)


def pixels(batch: np.ndarray, dtype: DTypeLike = np.float32) -> np.ndarray:
    """Pixels in [0, 1] of a minibatch of images, in the precision of the model.

    Parameters
    ----------
    batch : ndarray (...)
        Bytes (uint8), divided by 255, or float pixels, which stay as they are.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    ndarray (...), as `batch`

    Raises
    ------
    TypeError
        If `batch` is neither uint8 nor floating point.
    """
    batch = np.asarray(batch)
    if batch.dtype == np.uint8:
        # Divided, not multiplied by 1/255: only so does each byte k become the float nearest to k/255.
        return np.divide(batch, 255, dtype=dtype)
    if batch.dtype.kind != "f":
        raise TypeError(f"batch has dtype {batch.dtype}, expected uint8 (0 to 255) or floats in [0, 1]")
    return batch.astype(dtype, copy=False)


def binarize(pixels: np.ndarray, method: str | None, rng: RandomSource | NoiseStream = None) -> np.ndarray:
    """Black and white images from grey ones, in the way that the caller names.

    A Bernoulli likelihood is a density for black and white pixels only (3.4). Grey ones are no such data, and
    figures obtained with different choices here are not comparable.

    Parameters
    ----------
    pixels : ndarray (...)
        Grey levels in [0, 1], float32 or float64.
    method : {"dynamic", "threshold", None}
        "dynamic" draws each pixel anew at every call, 1 with the probability of its grey level; "threshold"
        makes 1 of those above one half; None leaves the grey levels as they are.
    rng : Generator, SeedSequence, NoiseStream, int or None
        Source of the draws of "dynamic": a generator advances by one draw, a stream by one for each pixel.

    Returns
    -------
    ndarray (...), as `pixels`, dtype too
        Of zeros and ones, unless `method` is None.

    Raises
    ------
    TypeError, ValueError
        If `pixels` are bytes or not in [0, 1], or if the method is unknown.
    """
    check_choice("method", method, ("dynamic", "threshold", None))
    pixels = check_array("pixels", pixels, low=0, high=1, why="a grey level is the probability of white")
    if method == "dynamic":
        return (rng if isinstance(rng, NoiseStream) else NoiseStream(rng)).bernoulli(pixels)
    return (pixels > 0.5).astype(pixels.dtype) if method == "threshold" else pixels


def _digits() -> Dataset:
    known = CATALOGUE["digits"]
    with np.load(io.BytesIO(read_published("digits", "images")), allow_pickle=False) as file:
        images = np.divide(file["images"], 16, dtype=np.float32).reshape(-1, 64)  # k/16 is exact in float32
        labels = file["labels"]
    split = known.examples["train"]
    return Dataset(
        "digits",
        images[:split],
        images[split:],
        known.image_shape,
        labels[:split],
        labels[split:],
        licence=known.licence,
        citation=known.citation,
    )


def _published(name: str, folder: str | os.PathLike[str] | None) -> Dataset:
    known = CATALOGUE[name]
    arrays: dict[str, Any] = {}
    for part, file in known.files.items():
        count = known.examples[part.removesuffix("_labels")]
        data = read_published(name, part, folder)
        if file.name.endswith(".amat"):
            arrays[part] = _parse_binary_text(data, count, math.prod(known.image_shape))
        elif part.endswith("_labels"):
            arrays[part] = _parse_idx(data, (count,))
        else:
            arrays[part] = _parse_idx(data, (count, *known.image_shape)).reshape(count, -1)
    return Dataset(
        name, image_shape=known.image_shape, licence=known.licence, citation=known.citation, **arrays
    )


def _parse_idx(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The read-only array of unsigned bytes in an idx file.

    The header is 0, 0, 8 for their type, the number of axes, and each size in 32 bits, highest byte first.
    """
    header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
    if data[: len(header)] != header:
        raise ValueError(
            f"idx header is {data[: len(header)].hex(' ', 4)}, expected {header.hex(' ', 4)} for unsigned "
            f"bytes of shape {shape}"
        )
    if len(data) != len(header) + math.prod(shape):
        raise ValueError(
            f"idx file has {len(data) - len(header)} values, expected {math.prod(shape)} for {shape}"
        )
    return np.frombuffer(data, np.uint8, offset=len(header)).reshape(shape)


def _parse_binary_text(data: bytes, rows: int, columns: int) -> np.ndarray:
    """Bytes 0 and 255, (rows, columns), from lines of zeros and ones with a space between."""
    if len(data) != rows * 2 * columns:
        raise ValueError(f"text has {len(data)} bytes, not those of {rows} lines of {columns} zeros and ones")
    text = np.frombuffer(data, np.uint8).reshape(rows, 2 * columns)
    digits = text[:, 0::2] - np.uint8(ord("0"))  # what is below "0" wraps around to above 1
    separators = text[:, 1::2]
    if digits.max() > 1 or np.any(separators[:, :-1] != ord(" ")) or np.any(separators[:, -1] != ord("\n")):
        raise ValueError(f"text is not {rows} lines of {columns} zeros and ones with one space between")
    return digits * np.uint8(255)


def _users_own(path: Path) -> Dataset:
    arrays = read_arrays(path)
    if len(arrays) != 1 and arrays.keys() != {"train", "test"}:
        raise ValueError(f"{path} holds the arrays {sorted(arrays)}, expected one array, or train and test")
    parts = [_checked_images(f"{path} {name}".strip(), array) for name, array in sorted(arrays.items())]
    test, train = parts if len(parts) == 2 else _split(parts[0], path)
    shape = train.shape[1:]
    if shape != test.shape[1:]:
        raise ValueError(f"{path} has images of shape {shape} in train and {test.shape[1:]} in test")
    return Dataset(str(path), train.reshape(len(train), -1), test.reshape(len(test), -1), _image_shape(shape))


def read_arrays(path: Path, content: bytes | None = None) -> dict[str, np.ndarray]:
    """The arrays (...) of an .npz file by name, or that of an .npy file under an empty one; never pickle.

    A file that cannot be read, for whatever reason, is a ValueError of one sentence that names it. If its
    content was read before, `path` serves as its name alone.
    """
    if content is None and not path.is_file():
        raise ValueError(f"{path} is missing, expected a file of arrays there")
    try:
        with path.open("rb") if content is None else io.BytesIO(content) as file:
            loaded = np.load(file, allow_pickle=False)
            # what is no array in an .npz file comes as bytes, which make one without a shape
            whole = {"": loaded} if isinstance(loaded, np.ndarray) else loaded
            return {name: np.asarray(value) for name, value in whole.items()}
    except Exception as error:  # a damaged file may fail in NumPy, zipfile, zlib, tokenize or the parser
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} cannot be read as an array of numbers: {reason}") from error


def _checked_images(name: str, images: np.ndarray) -> np.ndarray:
    """Bytes, or floats in [0, 1], of shape (N, …): anything else is refused in one sentence."""
    shape = f"{name} has shape {images.shape}"
    if images.ndim == 1 or (images.ndim > 1 and images[:1].size == 1):
        raise ValueError(f"{shape}, one number per example, expected images (N, …): these look like labels")
    if images.ndim == 0 or images.size == 0:
        raise ValueError(f"{shape}, expected at least one image in (N, …)")
    if images.dtype == bool:
        return images * np.uint8(255)
    if images.dtype == np.uint8:
        if images.max() <= 1:
            raise ValueError(
                f"{name} has bytes of at most 1, all but black of 255: save black and white images as bool"
            )
        return images
    if images.dtype.kind != "f":
        raise ValueError(
            f"{name} has dtype {images.dtype}, expected uint8 (0 to 255), bool, or floats in [0, 1]"
        )
    return check_array(
        name, images, low=0, high=1, why="divide grey levels by the largest, or save them as uint8"
    )


def _split(images: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """One fifth for the test part, and the rest, both in the order of the file."""
    if len(images) < 2:
        raise ValueError(f"{path} holds one image, expected at least two, for a train and a test part")
    # Raw output of a bit generator never changes between versions of NumPy; that of permutation may.
    drawn = np.argsort(np.random.PCG64(0).random_raw(len(images)), kind="stable")
    in_test = np.zeros(len(images), bool)
    in_test[drawn[: max(1, len(images) // 5)]] = True
    return images[in_test], images[~in_test]


def _image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == 1:
        side = math.isqrt(shape[0])
        return (side, side) if side * side == shape[0] else (1, shape[0])
    without_ones = tuple(size for size in shape if size > 1)  # (28, 28, 1) and (1, 28, 28) are grey images
    return without_ones if len(without_ones) >= 2 else shape
