"""Mutate the gradient code, function by function, and see whether the tests notice.

    python -m tests.mutants                                 all of it: about an hour of one core
    python -m tests.mutants --only gaussian_kl              functions whose name matches this
    python -m tests.mutants --only "estimators|models"      of two processes one takes these, the other the rest

The tests are collected once, in one process that has everything imported, and run once to learn which of them pass
through which function, and how long each takes. Then each mutant gets a forked child of that process, which runs the
tests that pass through the mutated function until one fails: those that killed its mutants before, then those at the
mirrored place, quick ones before slow ones. Verdicts are kept in a file as they come: a run that was interrupted goes
on where it stopped, and what survived without a known reason is tried again. At the end of all a summary is written
to benchmarks/results/mutants.json, for `python benchmarks/tables.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import pkgutil
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

os.environ["SCRATCHVAE_KERNELS"] = "reference"  # the plain functions, before scratchvae is imported

import pytest
from _pytest.runner import runtestprotocol

from scratchvae.training.run_directory import versions
from tests.mutants.equivalent import reason_for
from tests.mutants.mutators import Mutant, mutants
from tests.mutants.targets import TESTS, mirrored, targets
from tests.planted.source import compiled_again, find_function, source_of

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "mutants.json"
VERDICTS = ROOT / ".mutants.jsonl"
KILLED, SURVIVED, TIMED_OUT = "killed", "survived", "timed out"
FEW_EXAMPLES = 10  # in a property test: kernels that are wrong are wrong at most sizes
# Seconds: a test that takes longer on the right code is not asked; nor are more tests of one file than fit into so
# many, so that those at the mirrored place leave room for others; and a mutant that takes longer than that hangs.
SLOWEST_TEST, SECONDS_FOR_FILE, PATIENCE = 2.0, 5.0, 60.0


class Run:
    """A pytest plugin whose test loop is the mutation run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.names = [name for name in targets() if re.search(options.only, name)]
        self.functions = {name: find_function(name) for name in self.names}
        self.tests: dict[str, list[Any]] = {}
        self.verdicts: dict[str, dict[str, Any]] = {}
        if VERDICTS.exists():
            for line in VERDICTS.read_text(encoding="utf-8").splitlines():
                verdict = json.loads(line)
                self.verdicts[verdict["id"]] = verdict

    def pytest_collection(self) -> None:
        import hypothesis  # not earlier: its own plugin of pytest wants to be the first

        hypothesis.settings.register_profile("few", hypothesis.settings.default, max_examples=FEW_EXAMPLES)
        hypothesis.settings.load_profile("few")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise pytest.UsageError("some tests could not be collected")
        todo = self.untried()
        if todo:
            self.learn(session.items)
            self.try_all(todo)
        return True

    # ------------------------------------------------------------ which test passes through which function

    def learn(self, items: list[pytest.Item]) -> None:
        """Run every test once on the right code; note what it passes through, and the time it takes."""
        names = {function.__code__: name for name, function in self.functions.items()}
        passed_through: dict[str, list[tuple[float, int]]] = {name: [] for name in self.names}
        for number, item in enumerate(items):
            seen: set[CodeType] = set()

            def notice(frame: FrameType, _event: str, _argument: Any, seen: set[CodeType] = seen) -> None:
                seen.add(frame.f_code)

            start = time.process_time()
            sys.settrace(notice)  # which is called where a frame begins, and nowhere else
            try:
                reports = runtestprotocol(item, nextitem=None, log=False)
            finally:
                sys.settrace(None)
            seconds = time.process_time() - start
            if any(report.failed for report in reports):
                raise pytest.UsageError(f"{item.nodeid} fails on the right code")
            for code in seen & names.keys():
                passed_through[names[code]].append((seconds, number))
            if number % 20 == 0:
                self.say(f"learning which test passes through what: {number}/{len(items)}")
        for name, found in passed_through.items():
            place = mirrored(name)
            total: Counter[str] = Counter()
            chosen = []
            for seconds, number in sorted(
                found, key=lambda part: (place not in items[part[1]].nodeid, part[0])
            ):
                file = items[number].nodeid.partition("::")[0]
                total[file] += seconds
                if seconds <= SLOWEST_TEST and total[file] <= SECONDS_FOR_FILE:
                    chosen.append(items[number])
            self.tests[name] = chosen

    # ------------------------------------------------------------ one mutant after the other

    def untried(self) -> list[tuple[str, Mutant]]:
        """Mutants without a verdict; and those that survived, though nobody knows a reason."""
        todo = []
        self.all: dict[str, list[Mutant]] = {}
        for name in self.names:
            self.all[name] = list(mutants(source_of(self.functions[name])))
            for mutant in self.all[name]:
                known = self.verdicts.get(f"{name} {mutant.identity}", {}).get("verdict")
                if known != KILLED and not (known == SURVIVED and reason_of(name, mutant)):
                    todo.append((name, mutant))
        return todo

    def try_all(self, todo: list[tuple[str, Mutant]]) -> None:
        counts: Counter[str] = Counter()
        with VERDICTS.open("a", encoding="utf-8") as file:
            for number, (name, mutant) in enumerate(todo):
                self.say(f"mutant {number + 1}/{len(todo)} {dict(counts)} {name.partition(':')[2]}")
                verdict, by = self.verdict_on(name, mutant)
                counts[verdict] += 1
                record = {"id": f"{name} {mutant.identity}", "verdict": verdict, "by": by}
                self.verdicts[record["id"]] = record
                file.write(json.dumps(record) + "\n")
                file.flush()

    def verdict_on(self, name: str, mutant: Mutant) -> tuple[str, str]:
        """The verdict, and the test that spoke it."""
        function, tests = self.functions[name], self.tests[name]
        try:
            code = compiled_again(function, mutant.tree)
        except (SyntaxError, ValueError) as error:
            return KILLED, f"does not compile: {error}"
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.setitimer(
                signal.ITIMER_PROF, PATIENCE
            )  # of the processor's time; its signal ends the child
            function.__code__ = code
            forget = getattr(pkgutil.resolve_name(name), "cache_clear", None)
            if forget:
                forget()
            for index, item in enumerate(tests):
                try:
                    failed = any(report.failed for report in runtestprotocol(item, nextitem=None, log=False))
                except BaseException:  # noqa: BLE001 - whatever a mutant does to pytest, it was noticed
                    failed = True
                if failed:
                    os.write(writing, str(index).encode())
                    os._exit(1)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            answer = pipe.read()
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            stopped = os.WTERMSIG(status) == signal.SIGPROF
            return (TIMED_OUT, "") if stopped else (KILLED, f"signal {os.WTERMSIG(status)}")
        if not answer:
            return SURVIVED, ""
        tests.insert(0, tests.pop(int(answer)))  # the function's next mutant may well fall to the same one
        return KILLED, tests[0].nodeid

    # ------------------------------------------------------------ what came of it

    def say(self, line: str) -> None:
        """Progress on one line of stderr."""
        sys.__stderr__.write(f"\r\x1b[K{line[:150]}")
        sys.__stderr__.flush()

    def summary(self) -> dict[str, Any]:
        """Counts per module, and every survivor with the reason why nothing can notice it, or null."""
        rows: dict[str, Counter[str]] = {}
        survivors = []
        for name, found in self.all.items():
            module = name.partition(":")[0]
            row = rows.setdefault(module, Counter(functions=0, mutants=0, killed=0, timed_out=0))
            row["functions"] += 1
            for mutant in found:
                verdict = self.verdicts[f"{name} {mutant.identity}"]["verdict"]
                row["mutants"] += 1
                row["killed"] += verdict != SURVIVED
                row["timed_out"] += verdict == TIMED_OUT
                if verdict == SURVIVED:
                    reason = reason_of(name, mutant)
                    survivors.append(
                        {"function": name, "line": mutant.line, "change": mutant.what, "reason": reason}
                    )
        return {
            "seed": 0,
            "kernels": "reference",
            "versions": versions(),
            "modules": {module: dict(row) for module, row in rows.items()},
            "survivors": survivors,
        }


def reason_of(name: str, mutant: Mutant) -> str | None:
    return reason_for(name.removeprefix("scratchvae."), mutant.what)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        default="",
        help="mutate functions whose name this regular expression matches; writes no summary",
    )
    options = parser.parse_args()
    run = Run(options)
    status = pytest.main(
        [
            *("--rootdir", str(ROOT), "-o", "addopts=--import-mode=importlib"),
            *("-p", "no:terminal", "-p", "no:cacheprovider", "--seed=0"),
            *(str(ROOT / test) for test in TESTS),
        ],
        plugins=[run],
    )
    sys.stderr.write("\n")
    if status == pytest.ExitCode.INTERRUPTED:
        sys.stderr.write("interrupted: the same command goes on from here\n")
        return 130
    if status != pytest.ExitCode.OK:
        sys.stderr.write(f"pytest ended with {status!r}\n")
        return 1
    summary = run.summary()
    for survivor in summary["survivors"]:
        if survivor["reason"] is None:
            sys.stderr.write(
                f"survived: {survivor['function']} line {survivor['line']}: {survivor['change']}\n"
            )
    if not options.only:
        RESULTS.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    total = sum(row["mutants"] for row in summary["modules"].values())
    sys.stdout.write(f"{total - len(summary['survivors'])} of {total} mutants killed\n")
    return 1 if any(survivor["reason"] is None for survivor in summary["survivors"]) else 0


if __name__ == "__main__":
    sys.exit(main())
