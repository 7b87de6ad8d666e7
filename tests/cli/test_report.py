"""Questions and the report of `scratchvae variance`: files that agree with the library, and work that is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import scratchvae as sv
from scratchvae.cli import commands, report
from scratchvae.lab.variance_answers import Subject
from scratchvae.lab.variance_questions import QUESTIONS, ask

Command = Callable[..., Any]
FEW = ("--samples", 80, "--estimators", "pathwise", "--batch-size", 4)


def test_an_answer_is_that_of_the_library(command: Command, trained: Path, images: Path) -> None:
    for name in ("a", "b"):
        done = command("variance", "--by", "layer", "--run", trained, "--seed", 4, "--out", name, *FEW)
        assert done.status == 0
    assert Path("a/layer.json").read_bytes() == Path("b/layer.json").read_bytes()
    assert Path("a/layer.png").read_bytes().startswith(b"\x89PNG")
    vae = sv.load_run(trained).model
    assert isinstance(vae, sv.VAE)
    subject = Subject(vae, sv.load_dataset(images).train, 80, 4, epochs=0, seed=4)
    expected = ask("layer", subject, ("pathwise",), progress=False)
    told = json.loads(Path("a/layer.json").read_text(encoding="utf-8"))
    assert told["answer"] == json.loads(json.dumps(expected))
    assert told["settings"]["run"] == str(trained)
    for row in expected["rows"]:
        assert f"{row['variance']:.4g}" in done.out


@pytest.fixture
def two_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "QUESTIONS", {name: QUESTIONS[name] for name in ("layer", "term")})
    monkeypatch.setattr(report, "_PUBLISHED", Path("nowhere.py"))


@pytest.mark.usefixtures("two_questions")
def test_a_report_that_was_interrupted_goes_on(
    command: Command, small: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (
        "variance",
        "--full",
        "--out",
        "r",
        "--epochs",
        1,
        "--samples",
        80,
        "--estimators",
        "pathwise",
        *small,
    )

    def stop(question: str, *rest: Any, **options: Any) -> dict[str, Any]:
        if question == "term":
            raise KeyboardInterrupt
        return ask(question, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(commands, "ask", stop)
        assert command(*arguments).status == 130
    assert not Path("r/README.md").exists()
    files = [Path("r/training/variance.json"), Path("r/layer/layer.json")]
    kept = [file.stat().st_mtime_ns for file in files]

    done = command(*arguments)
    assert done.status == 0
    assert [file.stat().st_mtime_ns for file in files] == kept, "what was finished is not measured again"
    text = Path("r/README.md").read_text(encoding="utf-8")
    for name in ("training/variance.png", "layer/layer.png", "term/term.png", "--seed 0", "--samples 80"):
        assert name in text
    for line in text.splitlines():
        if line.startswith("!["):
            assert (Path("r") / line.split("(")[1].rstrip(")")).is_file()

    again = command(*arguments, "--seed", 1)  # other options, other numbers
    assert again.status == 0
    assert all(file.stat().st_mtime_ns > time for file, time in zip(files, kept, strict=True))


def test_all_questions_or_one(command: Command) -> None:
    done = command("variance", "--full", "--by", "layer")
    assert done.status == 2
    assert "--by layer came with --full" in done.err
    assert not Path("runs").exists()
