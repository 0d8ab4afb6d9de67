"""From a data set's files to Arrow shards: index, plan, rows, quarantine."""
