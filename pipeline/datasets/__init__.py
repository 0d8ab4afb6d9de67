"""Data sets as they lie on disk, and how their archives get there."""
