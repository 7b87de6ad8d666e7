"""How the benchmarks take time: contestants turn by turn in one process, and medians.

A turn is some tenths of a second of one contestant alone. Before it, everybody rests: threads of the turn before, which
some libraries let turn round for a tenth of a second after their work, have then gone to sleep. What counts is the
median over rounds of the ratio within a round, which a noisy neighbour disturbs least.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

__all__ = ["Call", "compare", "turn"]

REST_SECONDS = 0.3
Call = Callable[[], object]


def turn(call: Call, seconds: float) -> float:
    """Median seconds of a call, over a turn of so many seconds."""
    time.sleep(REST_SECONDS)
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def compare(calls: dict[str, Call], rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Median seconds of each contestant, and how many times those of scratchvae they are."""
    for call in calls.values():
        call()  # compiles
        turn(call, seconds)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(turn(call, seconds))
    ours = times["scratchvae"]
    return {
        "seconds": {name: statistics.median(theirs) for name, theirs in times.items()},
        "times_scratchvae": {
            name: round(statistics.median(t / o for t, o in zip(theirs, ours, strict=True)), 3)
            for name, theirs in times.items()
        },
    }
