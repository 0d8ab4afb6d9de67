"""Sparse 3-D convolution in plain torch: its cost grows with occupied cells, not with the grid."""
