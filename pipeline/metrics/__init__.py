"""Exact, mergeable metrics of points, pixels, voxels and frames, per slice, with intervals."""
