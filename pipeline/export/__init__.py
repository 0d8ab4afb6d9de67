"""A trained detector for other programs: torch.export program with its card, MLflow model."""
