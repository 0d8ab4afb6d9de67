"""One file, one job: anovox NAME (or python -m jobs.NAME) --config FILE key=value ..."""
