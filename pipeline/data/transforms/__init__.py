"""Changes of training frames, pure functions of (seed, epoch, frame), and clouds of the past."""
