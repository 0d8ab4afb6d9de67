"""Camera+LiDAR anomaly detection on AnoVox: data, models, training, evaluation.

Six functions go from settings to the scores of a frame (docs/quickstart.ipynb):

    config = pipeline.load_config("configs/demo.yaml", ["train.num_epochs=8"])
    pipeline.prepare(config)
    trained = pipeline.train(config, say=print)
    print(pipeline.evaluate(config).text)
    detector = pipeline.load_detector(trained.folder)
    scores = pipeline.score_frame(detector, image, points, intrinsics, camera_from_lidar)

Each is imported when it is first asked for, as torch, Ray and MLflow take seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config.load import load as load_config
    from pipeline.export.scoring import load_detector, score_frame
    from pipeline.interface.steps import evaluate_detector as evaluate
    from pipeline.interface.steps import prepare_archives as prepare
    from pipeline.interface.steps import train_detector as train

__all__ = ["evaluate", "load_config", "load_detector", "prepare", "score_frame", "train"]
_PLACES = {
    "load_config": ("pipeline.config.load", "load"),
    "prepare": ("pipeline.interface.steps", "prepare_archives"),
    "train": ("pipeline.interface.steps", "train_detector"),
    "evaluate": ("pipeline.interface.steps", "evaluate_detector"),
    "load_detector": ("pipeline.export.scoring", "load_detector"),
    "score_frame": ("pipeline.export.scoring", "score_frame"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, function = _PLACES[name]
    return getattr(import_module(module), function)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
