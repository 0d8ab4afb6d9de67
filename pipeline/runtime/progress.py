"""Callback types for progress reporting; the job decides where the output goes."""

from collections.abc import Callable

Say = Callable[[str], None]
"""Takes one line without its newline."""
Progress = Callable[[int, int], None]
"""Takes how much is done and how much there is: frames, turns, megabytes (10^6 bytes)."""
Watch = Callable[[str], Progress]
"""Of each piece of work by its name."""
