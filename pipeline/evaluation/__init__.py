"""Exact mergeable metrics, slices, intervals and shortcut probes."""
