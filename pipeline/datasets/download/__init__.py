"""AnoVox archives as they are published: .tar.gz files, downloaded and unpacked with suspicion."""
