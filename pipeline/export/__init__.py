"""A trained detector as a file for other programs: torch.export program and its card."""
