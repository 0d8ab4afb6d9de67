"""Figures are checked as a reader sees them."""

from tests.helpers.legible_figures import check, legends, title

__all__ = ["check", "legends", "title"]
