"""The README does what it says: its examples run, its tables are the committed results, its links lead somewhere."""

from __future__ import annotations

import doctest
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_examples_print_what_they_show() -> None:
    examples = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    test = doctest.DocTestParser().get_doctest(examples, {}, "README.md", "README.md", 0)
    assert test.examples
    result = doctest.DocTestRunner().run(test)
    assert result.failed == 0


def test_the_tables_are_the_committed_results() -> None:
    specification = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
    assert specification is not None
    assert specification.loader is not None
    tables = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tables)
    for document in tables.DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert "<!-- table:" in text
        assert tables.rewritten(text) == text, (
            f"{document.name} is out of date: run python benchmarks/tables.py"
        )


@pytest.mark.parametrize("document", ["README.md", "benchmarks/README.md"])
def test_links_lead_to_files(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert targets
    missing = [target for target in targets if not (ROOT / document).parent.joinpath(target).exists()]
    assert not missing


def test_the_commands_are_ones_that_the_parser_knows() -> None:
    from scratchvae.cli.parser import make_parser

    commands = re.findall(r"^(?:\$ )?scratchvae (.*)$", README, re.MULTILINE)
    assert commands
    for command in commands:
        make_parser().parse_args(command.split())
