"""One worker's loop, checkpoints, health checks, and the Ray Train launcher."""
