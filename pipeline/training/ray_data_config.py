"""How Ray Train deals a streamed dataset to its workers."""

from typing import Any

from ray.train import DataConfig


class NoDropDataConfig(DataConfig):
    """Each row to exactly one rank; Ray's own default drops up to `num_workers` - 1 of them."""

    def configure(
        self,
        datasets: dict[str, Any],
        world_size: int,
        worker_handles: Any,
        worker_node_ids: list[str] | None,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """One iterator per rank and dataset; called again whenever workers are started again."""
        parts: list[dict[str, Any]] = [{} for _ in range(world_size)]
        for name, dataset in datasets.items():
            splits = dataset.streaming_split(
                world_size, equal=False, locality_hints=worker_node_ids
            )
            for part, split in zip(parts, splits, strict=True):
                part[name] = split
        return parts
