"""The logged MLflow model: frames in, scores out; MLflow runs this file when it loads the model.

Weights come from the run's checkpoint (safetensors, never unpickled) and this package is logged
beside them, so that a machine with the pinned requirements needs nothing else.
"""

from collections.abc import Mapping
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from pipeline.export.scoring import load_detector, score_frames


class ServedDetector(PythonModel):
    """A detector behind MLflow's `predict`."""

    def load_context(self, context: Any) -> None:
        """Read the checkpoint that was logged as artifact `checkpoint`."""
        self.detector = load_detector(context.artifacts["checkpoint"])

    def predict(self, context: Any, model_input: Any, params: Any = None) -> list[dict[str, Any]]:
        """`frame_score` and, where the model gives them, `point_score` (P,), `semantic` (P,
        classes) and `pixel_score` (h, w) of each frame.

        `model_input` is a frame or a list of frames, each a mapping with the arrays that
        `score_frame` takes. Scores are raw, higher = more anomalous, and of the current points of a
        window. Raises ValueError for a wrong array.
        """
        frames = [model_input] if isinstance(model_input, Mapping) else list(model_input)
        found = (vars(one) for one in score_frames(self.detector, frames))
        return [{k: v for k, v in one.items() if v is not None} for one in found]


set_model(ServedDetector())
