"""The command line: each verb is one call of the library."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

# Exit statuses, beside 0 for done.
_CHECK_FAILED = 1
_BAD_INPUT = 2
_INTERRUPTED = 130  # what shells report for SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors become one line on stderr.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Returns
    -------
    int
        0 done, 1 a check failed or training diverged, 2 bad input, 130 interrupted.
    """
    verb = ""
    try:
        # Imported here, so that a key pressed at any time ends in one line.
        from scratchvae.cli.parser import make_parser

        options = make_parser().parse_args(arguments)
        verb = f" {options.verb}"
        from scratchvae.cli import commands

        commands.check_json(options.json)
        done = getattr(commands, options.verb)(options)
    except (ValueError, TypeError, OSError, OverflowError, MemoryError) as error:
        return _complain(verb, _sentence(error), _BAD_INPUT)
    except ArithmeticError as error:  # training diverged
        return _complain(verb, _sentence(error), _CHECK_FAILED)
    except KeyboardInterrupt as error:  # training that was saved says so
        told = str(error) or "interrupted; what it was doing is not saved, files written before are whole"
        return _complain(verb, told, _INTERRUPTED)
    return 0 if done else _CHECK_FAILED


def _complain(verb: str, message: str, status: int) -> int:
    print(f"scratchvae{verb}: {message}", file=sys.stderr)
    return status


def _sentence(error: BaseException) -> str:
    """The error in one line, in the command line's own words where the error does not know them."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"not enough memory{': ' * bool(text)}{text}; choose smaller sizes"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'}: {error.strerror}"
    # The one option that the library knows under another name and can judge only when it is well under way.
    return f"--samples{text.removeprefix('num_samples')}" if text.startswith("num_samples is ") else text
