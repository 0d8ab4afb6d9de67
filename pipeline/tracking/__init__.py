"""MLflow: runs with params, metrics and artifacts, the store they lie in, registered models."""
