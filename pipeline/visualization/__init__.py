"""Plots, overlays, bird's-eye views and tables, from plain arrays."""
