"""The published data sets: where their files lie, what the bytes must hash to, and how they are fetched.

The data folder holds one folder per data set, with the publisher's file names, such as
`mnist/t10k-images-idx3-ubyte.gz`; Fashion-MNIST uses MNIST's names, so two sets never share a folder. Files
placed there by hand are as good as downloaded ones: every byte is hashed whenever it is read, and a file is
accepted gzipped as well (`NAME.gz`).
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from scratchvae.validation import check_choice

__all__ = [
    "CATALOGUE",
    "DatasetStatus",
    "PublishedDataset",
    "PublishedFile",
    "data_folder",
    "dataset_status",
    "fetch",
    "read_published",
]


@dataclass(frozen=True)
class PublishedFile:
    """One file as published: its name, its size in bytes and the SHA-256 of those bytes, in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class PublishedDataset:
    """Where a data set is published and what belongs to it.

    `sources` are URLs of folders, tried in turn; none for what is embedded in the package. `files` names the
    parts ("train", "train_labels", "test", …), `examples` the number of images in each.
    """

    sources: tuple[str, ...]
    files: dict[str, PublishedFile]
    examples: dict[str, int]
    image_shape: tuple[int, ...]
    licence: str
    citation: str


@dataclass(frozen=True)
class DatasetStatus:
    """What the data folder holds of one data set: a row of the command `scratchvae data`.

    `present` says that all files are there, `verified` that in addition each has the published SHA-256, and
    `problem` what is missing or wrong ("" if nothing is). `num_bytes` is the size of all files as published.
    """

    name: str
    folder: str
    present: bool
    verified: bool
    problem: str
    num_bytes: int
    examples: dict[str, int]
    image_shape: tuple[int, ...]
    licence: str
    citation: str


CATALOGUE: dict[str, PublishedDataset] = {
    "digits": PublishedDataset(
        sources=(),
        files={
            "images": PublishedFile(
                "digits.npz", 45394, "b2dab7b501728c22e9119ad76740b2e17c77a231e42d1e592380d90886f1a05e"
            ),
        },
        examples={"train": 1415, "test": 382},
        image_shape=(8, 8),
        licence="CC BY 4.0, E. Alpaydin and C. Kaynak",
        citation="Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits (its test set), UCI "
        "Machine Learning Repository, doi:10.24432/C50P49",
    ),
    "mnist": PublishedDataset(
        sources=(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
        files={
            "train": PublishedFile(
                "train-images-idx3-ubyte.gz",
                9912422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            "train_labels": PublishedFile(
                "train-labels-idx1-ubyte.gz",
                28881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            "test": PublishedFile(
                "t10k-images-idx3-ubyte.gz",
                1648877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            "test_labels": PublishedFile(
                "t10k-labels-idx1-ubyte.gz",
                4542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        },
        examples={"train": 60_000, "test": 10_000},
        image_shape=(28, 28),
        licence="CC BY-SA 3.0, Yann LeCun and Corinna Cortes",
        citation="LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document "
        "recognition, Proceedings of the IEEE 86(11)",
    ),
    "fashion-mnist": PublishedDataset(
        sources=(
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        files={
            "train": PublishedFile(
                "train-images-idx3-ubyte.gz",
                26421880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            "train_labels": PublishedFile(
                "train-labels-idx1-ubyte.gz",
                29515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            "test": PublishedFile(
                "t10k-images-idx3-ubyte.gz",
                4422102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            "test_labels": PublishedFile(
                "t10k-labels-idx1-ubyte.gz",
                5148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        },
        examples={"train": 60_000, "test": 10_000},
        image_shape=(28, 28),
        licence="MIT, Zalando SE",
        citation="Xiao, Rasul and Vollgraf (2017), Fashion-MNIST: a Novel Image Dataset for Benchmarking "
        "Machine Learning Algorithms, arXiv:1708.07747",
    ),
    "binarized-mnist": PublishedDataset(
        sources=(
            "https://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
            "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
        ),
        files={
            "train": PublishedFile(
                "binarized_mnist_train.amat",
                78_400_000,
                "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
            ),
            "validation": PublishedFile(
                "binarized_mnist_valid.amat",
                15_680_000,
                "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
            ),
            "test": PublishedFile(
                "binarized_mnist_test.amat",
                15_680_000,
                "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
            ),
        },
        examples={"train": 50_000, "validation": 10_000, "test": 10_000},
        image_shape=(28, 28),
        licence="derived from MNIST (CC BY-SA 3.0, Yann LeCun and Corinna Cortes)",
        citation="Salakhutdinov and Murray (2008), On the quantitative analysis of deep belief networks, "
        "ICML; files of Larochelle and Murray (2011), The neural autoregressive distribution estimator, "
        "AISTATS",
    ),
}


def data_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """The data folder: `folder`, else the one that `SCRATCHVAE_DATA_DIR` names, else the user's cache."""
    chosen = folder or os.environ.get("SCRATCHVAE_DATA_DIR")
    if chosen:
        return Path(chosen).expanduser()
    import pooch  # here, as those who have a folder of data do not need it

    return Path(pooch.os_cache("scratchvae"))


def fetch(name: str, folder: str | os.PathLike[str] | None = None) -> Path:
    """Download what is missing of a data set, verify all of it, and return the folder that holds it.

    Parameters
    ----------
    name : str
        One of `CATALOGUE`; "digits" is embedded in the package and always there.
    folder : path, optional
        Instead of `SCRATCHVAE_DATA_DIR` or the user's cache.

    Raises
    ------
    ValueError
        If the name is unknown, or if a file in the folder is not the published one, which is left as it is.
    OSError
        If a file is missing and cannot be downloaded; the message says from where, and how to place it by
        hand.
    """
    for part in CATALOGUE[check_choice("name", name, CATALOGUE)].files:
        read_published(name, part, folder)
    return _home(name, folder)


def read_published(name: str, part: str, folder: str | os.PathLike[str] | None = None) -> bytes:
    """The verified bytes of one part of a data set, decompressed, downloaded first if they are not there.

    Raises
    ------
    ValueError, OSError
        As `fetch` does.
    """
    file, home = CATALOGUE[name].files[part], _home(name, folder)
    data = _verified(_present(file, home) or _download(name, file, home), file)
    return gzip.decompress(data) if file.name.endswith(".gz") else data


def dataset_status(folder: str | os.PathLike[str] | None = None) -> list[DatasetStatus]:
    """What the data folder holds of each data set of the catalogue, every file hashed; downloads nothing."""
    return [_status(name, folder) for name in CATALOGUE]


def _status(name: str, folder: str | os.PathLike[str] | None) -> DatasetStatus:
    known, home = CATALOGUE[name], _home(name, folder)
    paths = {file: _present(file, home) for file in known.files.values()}
    missing = [file.name for file, path in paths.items() if path is None]
    problem = f"missing: {', '.join(missing)}" if missing else ""
    try:
        for file, path in paths.items():
            if path is not None:
                _verified(path, file)
    except (ValueError, OSError) as error:
        problem = str(error)
    return DatasetStatus(
        name=name,
        folder=str(home),
        present=not missing,
        verified=not problem,
        problem=problem,
        num_bytes=sum(file.size for file in known.files.values()),
        examples=known.examples,
        image_shape=known.image_shape,
        licence=known.licence,
        citation=known.citation,
    )


def _home(name: str, folder: str | os.PathLike[str] | None) -> Path:
    return data_folder(folder) / name if CATALOGUE[name].sources else Path(__file__).parent


def _present(file: PublishedFile, home: Path) -> Path | None:
    return next((path for path in (home / file.name, home / f"{file.name}.gz") if path.is_file()), None)


def _verified(path: Path, file: PublishedFile) -> bytes:
    """The bytes as published of a file that has them as they are, or gzipped by whoever placed it there."""
    advice = "delete it to have it downloaded again, or put the published file in its place"
    data = path.read_bytes()
    if path.name != file.name:
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            raise ValueError(
                f"{path} is truncated or not a gzip file, expected {file.name} gzipped: {advice}"
            ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        owners = [
            name
            for name, known in CATALOGUE.items()
            for other in known.files.values()
            if other.sha256 == found
        ]
        whose = f" (a file of {owners[0]})" if owners else ""
        raise ValueError(
            f"{path} is not the published file: found {len(data)} bytes with SHA-256 {found}{whose}, "
            f"expected {file.size} bytes with SHA-256 {file.sha256}: {advice}"
        )
    return data


def _download(name: str, file: PublishedFile, home: Path) -> Path:
    """Fetch a file from the first source with the right bytes; under its name it is complete or not there.

    pooch downloads to a temporary file beside it, hashes that, and only then renames it, which also keeps two
    processes from seeing each other's halves.
    """
    import pooch  # here, as importing it takes longer than loading a data set

    failures = []
    for source in CATALOGUE[name].sources:
        try:
            downloader = pooch.HTTPDownloader(chunk_size=2**16, timeout=(10, 30))
            return Path(
                pooch.retrieve(source + file.name, file.sha256, file.name, home, downloader=downloader)
            )
        except (ValueError, OSError) as error:
            failures.append(f"{source + file.name} ({_reason(error)})")
    raise OSError(
        f"{name} could not be downloaded to {home / file.name}: {', '.join(failures)}; put the file with "
        f"SHA-256 {file.sha256} there, or set SCRATCHVAE_DATA_DIR to a folder that has it or can be written"
    )


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    if type(error) is ValueError:  # what pooch raises for a hash, and nothing else does
        return "other bytes than published"
    return getattr(error, "strerror", None) or type(error).__name__
