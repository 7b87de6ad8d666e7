"""Downloads from a server on this machine that is wrong, truncated or absent, and files placed by hand."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import http.server
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scratchvae.training import download
from scratchvae.training.download import CATALOGUE, PublishedDataset, PublishedFile, dataset_status, fetch

GOOD = bytes(range(256)) * 40
SHA256 = hashlib.sha256(GOOD).hexdigest()

needs_data = pytest.mark.skipif(
    not os.environ.get("SCRATCHVAE_DATA_DIR"),
    reason="SCRATCHVAE_DATA_DIR does not name a folder of published data",
)


class Publisher(http.server.ThreadingHTTPServer):
    """Answers each path with the bytes in `answers`, or lets what stands there answer; else it is a 404."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.answers: dict[str, bytes | Callable[[Answer], None]] = {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Answer(http.server.BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path)
        if callable(answer):
            answer(self)
        elif answer is None:
            self.send_error(404)
        else:
            self.send(answer, len(answer))

    def send(self, body: bytes, announced: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Publisher() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def tiny(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set called tiny, of one file, published at /first/tiny.bin and /second/tiny.bin."""
    known = PublishedDataset(
        sources=(f"{publisher.url}/first/", f"{publisher.url}/second/"),
        files={"train": PublishedFile("tiny.bin", len(GOOD), SHA256)},
        examples={"train": 10},
        image_shape=(32, 32),
        licence="none",
        citation="none",
    )
    monkeypatch.setitem(CATALOGUE, "tiny", known)


def files_under(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def read_tiny(folder: Path) -> bytes:
    return download.read_published("tiny", "train", folder)


def test_a_file_is_downloaded_once_and_lies_under_its_name(publisher: Publisher, tmp_path: Path) -> None:
    publisher.answers["/first/tiny.bin"] = GOOD
    assert read_tiny(tmp_path / "new") == GOOD
    assert read_tiny(tmp_path / "new") == GOOD
    assert publisher.asked == ["/first/tiny.bin"]
    assert files_under(tmp_path) == ["new/tiny/tiny.bin"]


@pytest.mark.parametrize("first", [GOOD[:-1] + b"x", GOOD[:-1], None], ids=["altered", "short", "not found"])
def test_wrong_bytes_from_the_first_source_are_replaced_by_the_second(
    publisher: Publisher, tmp_path: Path, first: bytes | None
) -> None:
    publisher.answers.update({"/second/tiny.bin": GOOD} | ({"/first/tiny.bin": first} if first else {}))
    assert fetch("tiny", tmp_path) == tmp_path / "tiny"
    assert publisher.asked == ["/first/tiny.bin", "/second/tiny.bin"]
    assert (tmp_path / "tiny/tiny.bin").read_bytes() == GOOD
    assert files_under(tmp_path) == ["tiny/tiny.bin"]


def half(answer: Answer) -> None:
    answer.send(GOOD[: len(GOOD) // 2], len(GOOD))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(None, "HTTP status 404"), (half, "ChunkedEncodingError"), (b"else", "other bytes than published")],
    ids=["not found", "truncated", "altered"],
)
def test_a_failed_download_says_what_was_tried_and_leaves_nothing(
    publisher: Publisher, tmp_path: Path, answer: bytes | Callable[[Answer], None] | None, reason: str
) -> None:
    paths = ["/first/tiny.bin", "/second/tiny.bin"]
    publisher.answers = {path: answer for path in paths if answer is not None}
    with pytest.raises(OSError, match="could not be downloaded") as caught:
        fetch("tiny", tmp_path)
    message = str(caught.value)
    for path in paths:
        assert f"{publisher.url}{path} ({reason})" in message
    assert SHA256 in message
    assert str(tmp_path / "tiny" / "tiny.bin") in message
    assert "SCRATCHVAE_DATA_DIR" in message
    assert "\n" not in message
    assert files_under(tmp_path) == []


def test_a_publisher_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = dataclasses.replace(CATALOGUE["tiny"], sources=("http://127.0.0.1:9/",))
    monkeypatch.setitem(CATALOGUE, "tiny", nobody)
    with pytest.raises(OSError, match=r"http://127.0.0.1:9/tiny.bin \(ConnectionError\)"):
        fetch("tiny", tmp_path)


def test_a_folder_that_cannot_be_written(publisher: Publisher, tmp_path: Path) -> None:
    publisher.answers["/first/tiny.bin"] = GOOD
    (tmp_path / "file").write_text("not a folder")  # permissions would not stop a test that runs as root
    with pytest.raises(OSError, match=r"tiny\.bin \(Not a directory\).*SCRATCHVAE_DATA_DIR") as caught:
        fetch("tiny", tmp_path / "file")
    assert str(tmp_path / "file" / "tiny" / "tiny.bin") in str(caught.value)
    assert SHA256 in str(caught.value)
    assert publisher.asked == []


def test_files_placed_by_hand_are_taken_as_published_or_gzipped(publisher: Publisher, tmp_path: Path) -> None:
    for name, data in {"tiny.bin": GOOD, "tiny.bin.gz": gzip.compress(GOOD)}.items():
        home = tmp_path / name / "tiny"
        home.mkdir(parents=True)
        (home / name).write_bytes(data)
        before = home.stat().st_mtime_ns
        assert read_tiny(tmp_path / name) == GOOD
        assert home.stat().st_mtime_ns == before, "a folder that is only read may be a read-only one"
    assert publisher.asked == []


def test_a_wrong_file_placed_by_hand_is_named_and_kept(publisher: Publisher, tmp_path: Path) -> None:
    publisher.answers["/first/tiny.bin"] = GOOD
    path = tmp_path / "tiny" / "tiny.bin"
    path.parent.mkdir()
    path.write_bytes(GOOD[:100])
    with pytest.raises(ValueError, match="is not the published file") as caught:
        fetch("tiny", tmp_path)
    message = str(caught.value)
    for expected in (str(path), hashlib.sha256(GOOD[:100]).hexdigest(), SHA256, "100 bytes", "delete it"):
        assert expected in message
    assert path.read_bytes() == GOOD[:100]
    assert publisher.asked == []


def test_a_file_of_another_data_set_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = PublishedFile("tiny.bin", 5, hashlib.sha256(b"other").hexdigest())
    monkeypatch.setitem(CATALOGUE, "other", PublishedDataset((), {"train": other}, {}, (), "", ""))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "tiny.bin").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"\(a file of other\)"):
        fetch("tiny", tmp_path)


@pytest.mark.parametrize("data", [gzip.compress(GOOD)[:-20], gzip.compress(GOOD)[:200], b"", b"plain"])
def test_a_broken_gzip_file_placed_by_hand_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "tiny" / "tiny.bin.gz"
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"tiny\.bin\.gz"):
        fetch("tiny", tmp_path)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals cannot be sent to a thread here")
def test_an_interrupted_download_leaves_nothing(publisher: Publisher, tmp_path: Path) -> None:
    finished = threading.Event()

    def interrupt_half_way(answer: Answer) -> None:
        half(answer)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        finished.wait(10)

    publisher.answers["/first/tiny.bin"] = interrupt_half_way
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            fetch("tiny", tmp_path)
    finally:
        signal.signal(signal.SIGINT, handler)
        finished.set()
    assert files_under(tmp_path) == []
    publisher.answers["/first/tiny.bin"] = GOOD
    assert read_tiny(tmp_path) == GOOD


def test_two_downloads_at_once_both_end_well(publisher: Publisher, tmp_path: Path) -> None:
    both_asked, both_half_way = threading.Barrier(2, timeout=10), threading.Barrier(2, timeout=10)

    def together(answer: Answer) -> None:
        both_asked.wait()
        half(answer)
        both_half_way.wait()
        answer.wfile.write(GOOD[len(GOOD) // 2 :])

    publisher.answers["/first/tiny.bin"] = together
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(read_tiny(tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == [GOOD, GOOD]
    assert files_under(tmp_path) == ["tiny/tiny.bin"]


def test_status_tells_absent_from_wrong_from_verified_and_downloads_nothing(
    publisher: Publisher, tmp_path: Path
) -> None:
    def tiny_status() -> tuple[bool, bool, str]:
        (status,) = (status for status in dataset_status(tmp_path) if status.name == "tiny")
        assert status.folder == str(tmp_path / "tiny")
        assert status.num_bytes == len(GOOD)
        return status.present, status.verified, status.problem

    assert tiny_status() == (False, False, "missing: tiny.bin")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "tiny.bin").write_bytes(b"else")
    present, verified, problem = tiny_status()
    assert present
    assert not verified
    assert SHA256 in problem
    (tmp_path / "tiny" / "tiny.bin").write_bytes(GOOD)
    assert tiny_status() == (True, True, "")
    assert publisher.asked == []


def test_the_embedded_digits_are_always_there(tmp_path: Path) -> None:
    (status,) = (status for status in dataset_status(tmp_path) if status.name == "digits")
    assert status.present
    assert status.verified
    assert fetch("digits", tmp_path) == Path(status.folder)


def test_the_data_folder_is_the_argument_then_the_variable_then_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCHVAE_DATA_DIR", str(tmp_path))
    assert download.data_folder("here") == Path("here")
    assert download.data_folder() == tmp_path
    monkeypatch.setenv("SCRATCHVAE_DATA_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert download.data_folder().name == "scratchvae"
    assert download.data_folder().is_absolute()


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match="'imagenet', expected one of: digits, mnist, fashion-mnist, binarized-mnist"
    ):
        fetch("imagenet")


def test_the_catalogue_has_one_hash_per_file_and_prefers_https() -> None:
    real = [known for name, known in CATALOGUE.items() if name != "tiny"]
    hashes = [file.sha256 for known in real for file in known.files.values()]
    assert len(set(hashes)) == len(hashes) == 12
    for digest in hashes:
        assert bytes.fromhex(digest).hex() == digest
        assert len(digest) == 64
    for known in real:
        assert all(source.endswith("/") for source in known.sources)
        assert not known.sources or known.sources[0].startswith("https://")


@needs_data
def test_the_published_files_have_the_hashes_and_sizes_of_the_catalogue() -> None:
    for status in dataset_status():
        if status.name != "tiny":
            assert status.verified, status.problem
    for name in ("mnist", "fashion-mnist"):
        for file in CATALOGUE[name].files.values():
            assert (download.data_folder() / name / file.name).stat().st_size == file.size
