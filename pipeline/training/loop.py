"""One worker's training, read top to bottom: steps, validation, checkpoints, health checks.

Everything random is drawn from (seed, step) or (seed, epoch, frame), the order of frames is a pure
function of (seed, epoch, step), and the learning rate one of the step. A checkpoint therefore holds
weights, moments and a position only, and a resumed run equals one that never stopped.
"""

import functools
import logging
import time
from pathlib import Path
from typing import Any

import torch

from pipeline.config.load import to_dict
from pipeline.data.batch import Batch
from pipeline.data.readers import open_reader, training_extras
from pipeline.losses.anomaly import constant_predictor_loss
from pipeline.models.compiled import compile_convolutions
from pipeline.models.detector import build_detector
from pipeline.models.pixels import PIXEL_STRIDE
from pipeline.runtime.errors import RunFailed
from pipeline.tracking.metric_logger import MetricLogger
from pipeline.training import checkpoints
from pipeline.training.checkpoint_selection import checkpoint_metric, choice_sees, is_new_best
from pipeline.training.checkpoints import CheckpointMeta, Position
from pipeline.training.data_loop import open_steps
from pipeline.training.ema import WeightAverage
from pipeline.training.freed_memory import keep_freed_memory
from pipeline.training.gradient import Gradient
from pipeline.training.health_checks import check_signal
from pipeline.training.optimizer import make_optimizer, update
from pipeline.training.precision import precision_of_run
from pipeline.training.random_labels import RandomLabels
from pipeline.training.schedule import learning_rate
from pipeline.training.step_logging import StepLogger
from pipeline.training.step_results import HostCopy, StepFigures, StepResults
from pipeline.training.timing import StepClock, StepProfile
from pipeline.training.train_job import TrainJob
from pipeline.training.validation import validate
from pipeline.training.worker import Worker, set_threads

logger = logging.getLogger(__name__)


def train(worker: Worker, job: TrainJob) -> dict[str, Any]:
    """Train to the end, or go on from the run folder's newest whole checkpoint.

    Returns `{"status", "reason", "message", "num_steps", "best", "history"}`; a run whose
    guard fired returns normally with status `failed`, so that nobody restarts it.
    """
    set_threads(job.config.train.num_threads)
    if worker.device.type == "cpu":
        keep_freed_memory()
    training = Training(worker, job)
    try:
        with training.profile:
            training.run()
        training.judge()
    except RunFailed as failure:
        return training.result("failed", reason=failure.reason, message=str(failure))
    finally:
        training.close()
    return training.result("finished")


class Training:
    """State of one worker: model, optimizer, position, best validation, history."""

    def __init__(self, worker: Worker, job: TrainJob) -> None:
        self.worker, self.job, self.config = worker, job, job.config
        checkpoints.fetch(self.config, job.folder)
        saved = checkpoints.whole_checkpoints(job.folder / checkpoints.FOLDER)
        pixel_prior = self._open_data()
        self.precision = precision_of_run(self.config, worker, run_id=job.run_id, saved=saved)
        self._build_model(pixel_prior, fetch_weights=not saved)
        self.position = Position(epoch=0, step_in_epoch=0, step=0)
        self.best: dict[str, Any] = {}
        self.history: list[dict[str, float]] = []
        self.results = StepResults(self.config)
        if saved:
            self._restore(saved[-1])
        profiled = self.config.train.profile_steps if worker.rank == 0 else 0
        self.profile = StepProfile(job.folder, num_steps=profiled)
        self.metrics, self.step_logger = None, None
        if worker.rank == 0:
            self._begin_logging(resumed=bool(saved))

    def _open_data(self) -> float | None:
        """Open train and val; the share of anomalous cells, for a model that scores pixels."""
        config, worker, blocks = self.config, self.worker, self.job.blocks
        self.steps = open_steps(config, blocks, worker)
        self.val = open_reader(
            config,
            blocks,
            "val",
            num_sweeps=config.data.num_sweeps,
            say=worker.progress,
            extras=training_extras(config),
        )
        self.random_labels = None
        if config.train.shuffle_labels:
            self.random_labels = RandomLabels(self.steps.manifest, seed=config.train.seed)
        needs_anomalies = config.loss.name != "cross_entropy"
        balance = self.steps.manifest.train_balance(needs_anomalies=needs_anomalies)
        self.prior, self.pos_weight = balance.prior, balance.pos_weight
        cells = self.steps.cell_balance(stride=PIXEL_STRIDE) if config.model.pixel_head else None
        self.pixel_pos_weight = cells.pos_weight if cells else None
        classes = self.steps.manifest.dataset.classes
        self.semantic_classes = classes.semantic_names if config.model.semantic_head else ()
        return cells.prior if cells else None

    def _build_model(self, pixel_prior: float | None, *, fetch_weights: bool) -> None:
        """Model, optimizer and gradient; `fetch_weights` unless a checkpoint is about to come."""
        config, worker = self.config, self.worker
        torch.manual_seed(config.train.seed)
        self.model = build_detector(
            config.model,
            prior=self.prior,
            num_classes=len(self.semantic_classes),
            pixel_prior=pixel_prior,
            num_sweeps=config.data.num_sweeps,
            fetch_weights=fetch_weights,
            mixing=config.outliers.feature_mixing,
            sparse_backend=config.train.sparse_backend,
        )
        if config.train.compile:
            compile_convolutions(self.model)
        self.wrapped = worker.wrap(self.model)
        self.optimizer = make_optimizer(self.model, config)
        self.clock = StepClock(worker.device)
        scaled = self.precision.name == "fp16"
        self.scaler = torch.amp.GradScaler(worker.device.type, enabled=scaled)
        self.gradient = Gradient(
            self.wrapped,
            worker,
            config,
            clock=self.clock,
            precision=self.precision.name,
            scaler=self.scaler,
            pos_weight=self.pos_weight,
            pixel_pos_weight=self.pixel_pos_weight,
        )
        decay = config.train.ema_decay
        self.average = WeightAverage(self.model, decay=decay) if decay else None

    def _begin_logging(self, *, resumed: bool) -> None:
        self.metrics = MetricLogger(self.config.tracking.uri, self.job.run_id)
        self.step_logger = self.results.step_logger = StepLogger(
            self.config,
            self.worker,
            self.metrics,
            clock=self.clock,
            first_step=self.position.step,
            total_steps=self.total_steps,
        )
        if resumed:
            self.worker.progress(f"train: resumes from step {self.position.step}")
        self.worker.progress(f"train: {self.precision.reason}")

    # ---- plan

    @functools.cached_property
    def total_steps(self) -> int:
        total = sum(self.steps.in_epoch(epoch) for epoch in range(self.config.train.num_epochs))
        return min(total, self.config.train.max_steps or total)

    @property
    def ended(self) -> bool:
        return self.position.step >= self.total_steps or self._out_of_patience()

    def _out_of_patience(self) -> bool:
        patience, best = self.config.train.patience, self.best.get("step", 0)
        return bool(patience) and sum(row["step"] > best for row in self.history) >= patience

    # ---- run

    def run(self) -> None:
        while not self.ended:
            self._epoch(self.position.epoch)
        if self.position.step < self.total_steps and self.worker.rank == 0:
            self.worker.progress(
                f"train: ended after step {self.position.step} of {self.total_steps}: no better "
                f"{checkpoint_metric(self.config)} since step {self.best['step']} (train.patience)"
            )

    def _epoch(self, epoch: int) -> None:
        self.wrapped.train()
        first = self.position.step_in_epoch
        if not first:
            self.results.begin_epoch()
        self.clock.skip()
        for number, batch in enumerate(self.steps.epoch(epoch, first_step=first), first + 1):
            self.clock.begin(self.steps.num_frames(epoch, number - 1))
            self._step(self.random_labels(batch) if self.random_labels else batch)
            self.position = Position(epoch=epoch, step_in_epoch=number, step=self.position.step + 1)
            if self.position.step >= self.total_steps:
                break
            if self._checkpoint_due():
                self._save(metrics={}, thresholds={})
                self.clock.skip()
        self._end_epoch(epoch)

    def _step(self, batch: Batch) -> None:
        train, step = self.config.train, self.position.step
        # Dropout and the like draw from (seed, step, rank), so no generator state is ever saved.
        torch.manual_seed(hash((train.seed, step, self.worker.rank)) & 0x7FFF_FFFF)
        lr = learning_rate(
            train, step=step, num_steps=self.total_steps, per_epoch=self.steps.in_epoch(0)
        )
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        found = self.gradient(batch)
        grad_norm, loss_scale = update(
            self.model, self.optimizer, self.scaler, grad_clip=train.grad_clip
        )
        if self.average:
            self.average.update(self.model)
        self.clock.lap("optimizer")
        figures = StepFigures(
            step=step,
            epoch=self.position.epoch,
            lr=lr,
            names=found.names,
            weights=found.weights,
            copy=HostCopy(torch.cat([found.sums, torch.stack([grad_norm, loss_scale]).double()])),
        )
        self.results.put(figures)
        self.clock.lap("tracking")
        self.profile.step()

    # ---- validation and checkpoints

    def _end_epoch(self, epoch: int) -> None:
        self.results.settle()
        last = self.position.step >= self.total_steps
        metrics: dict[str, float] = {}
        thresholds: dict[str, float] = {}
        if last or (epoch + 1) % self.config.train.validate_every_n_epochs == 0:
            metrics, thresholds = self._validate()
        # `train.max_steps` may end a run inside an epoch, and a longer one goes on there.
        if self.position.step_in_epoch >= self.steps.in_epoch(epoch):
            self.position = Position(epoch=epoch + 1, step_in_epoch=0, step=self.position.step)
        self._save(metrics=metrics, thresholds=thresholds)
        # Only now: what was reported is in the checkpoint, so a restart does not report it again.
        if metrics and not self.ended and self.worker.rank == 0:
            self.worker.validated(list(self.history))
        self.worker.barrier(metrics | {"epoch": epoch})

    def _validate(self) -> tuple[dict[str, float], dict[str, float]]:
        started = time.monotonic()
        metrics, thresholds = validate(
            self.average.model if self.average else self.model,
            self.val,
            self.worker,
            config=self.config,
            precision=self.precision.name,
            pos_weight=self.pos_weight,
            pixel_pos_weight=self.pixel_pos_weight,
        )
        self._note(metrics)
        if self.step_logger:
            duration_s = time.monotonic() - started
            self.step_logger.validation(self.position.step, metrics, duration_s=duration_s)
        return metrics, thresholds

    def _note(self, metrics: dict[str, float]) -> None:
        """Keep history and best, by the metric that `train.monitor` names."""
        step, key = self.position.step, checkpoint_metric(self.config)
        if is_new_best(key, metrics, self.best):
            sees = choice_sees(self.config)
            self.best = {"metric": key, "value": metrics[key], "step": step, "sees": sees}
        self.history.append({"step": step, "epoch": self.position.epoch + 1, **metrics})

    def _checkpoint_due(self) -> bool:
        every = self.config.train.checkpoint_every_n_steps
        return bool(every) and self.position.step % every == 0

    def _save(self, *, metrics: dict[str, float], thresholds: dict[str, float]) -> None:
        self.results.settle()
        if self.worker.rank != 0:
            return
        # First the metrics, then the checkpoint: what a crash loses is replayed, so no gaps.
        if self.metrics:
            self.metrics.flush()
        meta = CheckpointMeta(
            position=self.position,
            config=to_dict(self.config),
            run_id=self.job.run_id,
            split_hash=self.steps.manifest.split_hash,
            revision=self.job.revision,
            prior=self.prior,
            metrics=metrics,
            thresholds=thresholds,
            best=self.best,
            history=self.history,
            epoch_loss=self.results.epoch_loss,
            largest_grad_norm=self.results.guard.largest_grad_norm,
            precision=self.precision.name,
            grad_scaler=self.scaler.state_dict(),
            semantic_classes=list(self.semantic_classes),
        )
        folder = self.job.folder / checkpoints.FOLDER
        average = self.average.model if self.average else None
        checkpoints.save_checkpoint(folder, self.model, self.optimizer, meta, average=average)
        checkpoints.keep(folder, {self.position.step, self.best.get("step", self.position.step)})
        checkpoints.publish(self.config, self.job.folder)

    def _restore(self, checkpoint: Path) -> None:
        meta = checkpoints.read_meta(checkpoint)
        checkpoints.load_trained(checkpoint, self.model)
        checkpoints.load_optimizer(checkpoint, self.model, self.optimizer)
        if self.average:
            checkpoints.load_model(checkpoint, self.average.model)
            self.average.restart(num_updates=meta.position.step)
        self.position, self.best, self.history = meta.position, meta.best, list(meta.history)
        self.results.restore(meta)
        self.scaler.load_state_dict(meta.grad_scaler)

    # ---- end

    def judge(self) -> None:
        """Raise RunFailed `no_signal` when the last epoch learned nothing a constant would not."""
        total, count, *points_of_classes = self.results.epoch_loss
        if self.config.health_checks.enabled and count:
            constant = constant_predictor_loss(
                self.prior,
                config=self.config.loss,
                pos_weight=self.pos_weight,
                class_counts=points_of_classes,
            )
            check_signal(
                total / count, constant=constant, margin=self.config.health_checks.no_signal_margin
            )

    def result(self, status: str, *, reason: str = "", message: str = "") -> dict[str, Any]:
        return {
            "status": status,
            "reason": reason,
            "message": message,
            "num_steps": self.position.step,
            "best": self.best,
            "history": self.history,
        }

    def close(self) -> None:
        self.steps.close()
        if self.step_logger:
            self.step_logger.end()
        if self.metrics:
            self.metrics.close()
