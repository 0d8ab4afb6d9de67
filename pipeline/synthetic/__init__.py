"""Writes synthetic scenes in the AnoVox release layout."""
