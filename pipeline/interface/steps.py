"""What `jobs.prepare`, `jobs.train` and `jobs.evaluate` do, for a caller in Python.

A job is a process with a command line, an exit code and a line of JSON; these functions take a
`Config`, raise, and return records. They print nothing: `say` and `watch` take what a job would
show.
"""

from pipeline.config.schema import Config
from pipeline.data.manifest import Manifest
from pipeline.data.prepare.prepare import prepare
from pipeline.datasets.download.fetch import take_in
from pipeline.evaluation.evaluate import Evaluated, evaluate
from pipeline.runtime.progress import Progress, Say, Watch
from pipeline.runtime.remote_storage import synced
from pipeline.training.report import report_training
from pipeline.training.trainer import Trained, fit


def _unheard(line: str) -> None:
    pass


def _unwatched(what: str) -> Progress:
    return lambda done, total: None


def prepare_archives(config: Config, *, watch: Watch = _unwatched) -> Manifest:
    """Write the frames under `data.root` as Arrow shards under `data.blocks`; `pipeline.prepare`.

    Archives that are still packed (`data.archives`) or at Zenodo (`data.zenodo_record`) are brought
    in first. What is done already is found. The manifest says how many frames were found, accepted
    and quarantined, how every scene was labelled, and the split's hash. Raises ValueError for
    input that cannot be read, and when a split lacks a class of frames.
    """
    take_in(config.data, watch)
    return prepare(config, watch("prepare"))


def train_detector(config: Config, *, say: Say = _unheard) -> Trained:
    """Train on the prepared shards and record the run in MLflow; `pipeline.train`.

    The record holds the MLflow run's id, the run folder under `storage_path`, the best checkpoint
    and the metrics of every validation. `scaling.num_workers=0` trains in this process, others in
    Ray Train workers. Raises RunFailed with its reason when the training must not be believed
    (`collapsed`, `no_signal`) or could not run, and ValueError for bad input before it starts.
    """
    with synced(config):
        trained = fit(config, say=say)
        report_training(config, trained)
    return trained


def evaluate_detector(config: Config, *, watch: Watch = _unwatched) -> Evaluated:
    """Score the locked test split with `evaluation.checkpoint`, or the run that finished last.

    `pipeline.evaluate`. The record holds the results as a table (`text`) and as `facts`
    (`test/point_ap` and so on, each in [0, 1], with paths of table and figures); both are in the
    MLflow run, too. Raises ValueError when there is no checkpoint, or when the shards hold
    another split than the one that it was trained on.
    """
    with synced(config):
        return evaluate(config, watch=watch)
