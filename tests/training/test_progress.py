"""Progress: silent at first, then a live bar on a terminal and now and then a plain line elsewhere."""

from __future__ import annotations

import io
import re
import sys
from types import SimpleNamespace

import pytest

from scratchvae.training import progress as module
from scratchvae.training.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when the test says so."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(clock, total, seconds_per_step, **options):
    with Progress("counting", total, **options) as bar:
        for step in range(total):
            clock.now += seconds_per_step
            bar.advance(f"note {step + 1}")


def test_nothing_is_said_of_what_takes_less_than_two_seconds(clock, capsys, monkeypatch):
    run(clock, 19, 0.1)
    assert capsys.readouterr() == ("", "")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    run(clock, 19, 0.1)
    assert terminal.getvalue() == ""


def test_plain_lines_come_every_two_seconds_and_at_the_end(clock, capsys):
    run(clock, 11, 0.5)
    out, err = capsys.readouterr()
    assert out == "", "results on stdout must not be disturbed"
    assert err.splitlines() == [
        "counting: 4/11 note 4 (4 s left)",
        "counting: 8/11 note 8 (2 s left)",
        "counting: 11/11 note 11 (0 s left)",
    ]


def test_a_long_first_step_is_the_measure_of_the_others_until_there_is_a_second(clock, capsys):
    with Progress("counting", 4) as bar:
        for seconds in (30.0, 10.0, 10.0):
            clock.now += seconds
            bar.advance()
    of_line = [line.rpartition("(")[2] for line in capsys.readouterr().err.splitlines()]
    assert of_line == ["90 s left)", "20 s left)", "10 s left)"]


def test_nothing_is_said_when_not_wanted(clock, capsys, monkeypatch):
    run(clock, 10, 1.0, visible=False)
    assert capsys.readouterr() == ("", "")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    run(clock, 10, 1.0, visible=False)
    assert terminal.getvalue() == ""


def test_a_terminal_gets_a_live_bar(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    run(clock, 10, 1.0)
    written = terminal.getvalue()
    assert "counting" in written
    assert "note 10" in written
    assert "10/10" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written)
    assert "\x1b[?25l" in written, "the cursor was hidden"
    assert written.count("\x1b[?25h") == written.count("\x1b[?25l"), "and is back"
    assert "left)" not in written, "no plain lines in between"


def test_the_cursor_is_back_after_an_error(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")

    def fail():
        with Progress("counting", 10) as bar:
            clock.now += 5
            bar.advance()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    written = terminal.getvalue()
    assert written.count("\x1b[?25h") == written.count("\x1b[?25l") == 1
