"""What a training is computed in: chosen once for a run, kept in its params and checkpoints."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.schema import Config
from pipeline.models.precision import Choice, choose_precision, round_products
from pipeline.tracking import runs
from pipeline.training import checkpoints
from pipeline.training.worker import Worker

PARAM = "precision"
"""Of a run: what it was computed in, whatever train.precision asked for."""


def precision_of_run(
    config: Config, worker: Worker, *, run_id: str, saved: Sequence[Path]
) -> Choice:
    """What the run began in, as its newest checkpoint or, before the first one, its param says.

    A run that begins now chooses by `train.precision`. Every rank must call it.
    """
    began = ""
    if worker.rank == 0:
        began = runs.read_param(config.tracking, run_id, PARAM)
    if saved:
        began = checkpoints.read_meta(saved[-1]).precision
    chosen = choose_precision(
        config.train.precision,
        key="train.precision",
        device=worker.device,
        began=began,
        ranks=worker.ranks,
    )
    round_products(chosen.name, worker.device)
    if worker.rank == 0:
        runs.add_params(config.tracking, run_id, {PARAM: chosen.name})
    return chosen
