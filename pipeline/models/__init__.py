"""Detectors in plain torch; run with neither Ray nor MLflow installed."""
