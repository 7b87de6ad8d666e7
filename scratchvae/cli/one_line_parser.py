"""A parser of arguments whose complaints are one line, with what to do."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any, NoReturn

__all__ = ["OneLineParser"]


class _WholeNames(argparse.HelpFormatter):
    """Does not break a name such as score-function into two lines."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where the help is; each verb for itself."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", _WholeNames)
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Say it in one line, and end with status 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see `{self.prog} --help`\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse here, not in the main parser, what a verb does not know."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown
