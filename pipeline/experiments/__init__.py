"""Many trainings over one split, side by side, resumable, in one table."""
