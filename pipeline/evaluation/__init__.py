"""A trained detector on the locked test split: inference, baselines, probes, audit, results."""
