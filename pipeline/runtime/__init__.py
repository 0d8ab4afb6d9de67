"""What every job stands on: Ray, remote storage, locks, signals, errors, progress, the revision."""
