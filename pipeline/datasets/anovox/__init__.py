"""The dataset as it lies on disk; imports neither torch nor Ray."""
