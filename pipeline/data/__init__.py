"""The dataset as Arrow: schema, index, splits, shards, order, ragged batches."""
