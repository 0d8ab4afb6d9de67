"""What benchmarks share: the CPU that a figure belongs to, CPU time of processes, and spreads."""

import os
import platform
import resource
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

CPU_CLOCK = 2
"""Linux's number of the clock of a process's CPU time, in the ids that clock_gettime takes."""


def cpu() -> str:
    """Model and the instruction sets that matter, with what a variable forbids of them."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if "model name" in line]
    has = [flag for flag in ("avx2", "avx512_bf16", "amx_bf16") if flag in text]
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "no limit")
    return f"{names[0] if names else platform.machine()}, {' '.join(has)}, {limit}"


def load() -> str:
    """How busy the machine is; a wall time counts only where nothing else runs."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def tree_cpu_s() -> float:
    """CPU seconds of this process and of all processes below it, those that ended included.

    Read from the kernel's clocks in nanoseconds: psutil's counters move in steps of 10 ms. Linux.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() + ended.ru_utime + ended.ru_stime
    for process in psutil.Process().children(recursive=True):
        try:
            total += time.clock_gettime((~process.pid << 3) | CPU_CLOCK)
        except OSError:
            continue  # it ended meanwhile
    return total


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median with minimum and maximum."""
    numbers = (statistics.median(values), min(values), max(values))
    middle, low, high = (f"{number:.{digits}f}" for number in numbers)
    return f"{middle} ({low} to {high})"
