"""One file, one job: python -m jobs.NAME --config FILE key=value ..."""
