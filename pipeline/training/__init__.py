"""One worker's loop, checkpoints, and the Ray Train launcher."""
