"""The detector as a torch.export program: tensors of one frame in, scores out, no code of ours.

One frame, not a batch: its sizes that depend on data (points, pillars, cells, points in view) stay
symbols, loops over frames run once, and no count need be known in Python. Each of them may be 0 or
1 as well: the layers that torch would specialise on those say so where `is_exporting` is asked.
"""

import warnings
from pathlib import Path

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from pipeline.data.batch import Batch
from pipeline.models.detector import Detector
from pipeline.models.scores import Scores

OUTPUTS = ("point_score", "frame_score", "semantic", "pixel_score")
"""Fields of `Scores` that a program gives, where the model has them."""
NUM_EXAMPLE_POINTS = 64
"""Of the example to export with; nothing depends on it."""
Inputs = dict[str, Tensor]


class OneFrame(nn.Module):
    """The detector over the arrays of one frame instead of a batch."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(
        self,
        image: UInt8[Tensor, "1 3 H W"],
        points: Float32[Tensor, "P columns"],
        intrinsics: Float32[Tensor, "1 4"],
        camera_from_lidar: Float32[Tensor, "1 4 4"],
    ) -> dict[str, Tensor]:
        """Those of OUTPUTS that the model has."""
        num_points = points.shape[0]
        unlabelled = points.new_full((num_points,), 255, dtype=torch.uint8)
        batch = Batch(
            image=image,
            points=points,
            point_offset=torch.full((1,), num_points, device=points.device),
            point_class=torch.zeros_like(unlabelled),
            point_label=unlabelled,
            frame_label=points.new_full((1,), 255, dtype=torch.uint8),
            intrinsics=intrinsics,
            camera_from_lidar=camera_from_lidar,
            row=torch.zeros(1, dtype=torch.int64, device=points.device),
        )
        return outputs_of(self.detector(batch))


def outputs_of(scores: Scores) -> dict[str, Tensor]:
    """Those of OUTPUTS that the model has."""
    found = {name: getattr(scores, name) for name in OUTPUTS}
    return {name: values for name, values in found.items() if values is not None}


def export_detector(
    model: nn.Module, *, image_size: tuple[int, int], num_columns: int
) -> ExportedProgram:
    """The program of a trained model, for images of `image_size` (H, W) and any number of points.

    `num_columns` of points is 4, or 5 with time for a model of a window. It is called with the
    arguments of `OneFrame.forward` by name. Raises ValueError for a model that only serves as a
    control: `simple`, and scrambled alignment.
    """
    if not isinstance(model, Detector):
        raise ValueError(
            "model.name=simple cannot be exported: it is a control that draws its points at "
            "random; export a run with model.name=detector"
        )
    if model.camera is not None and model.alignment == "scrambled":
        raise ValueError(
            "model.alignment=scrambled cannot be exported: it draws a wrong calibration per frame "
            "of a split; export a run with model.alignment=projection"
        )
    assert not model.training, "dropout would be exported too"
    shapes = {name: {} for name in ("image", "intrinsics", "camera_from_lidar")}
    with torch.no_grad():
        program = torch.export.export(
            OneFrame(model).eval(),
            (),
            _example(image_size, num_columns),
            dynamic_shapes=shapes | {"points": {0: Dim.DYNAMIC}},
        )
    _forget_traces(program)
    return program


def _example(image_size: tuple[int, int], num_columns: int) -> Inputs:
    """Tensors of the right kinds; their values are not looked at."""
    return {
        "image": torch.zeros(1, 3, *image_size, dtype=torch.uint8),
        "points": torch.zeros(NUM_EXAMPLE_POINTS, num_columns),
        "intrinsics": torch.zeros(1, 4),
        "camera_from_lidar": torch.eye(4)[None],
    }


def _forget_traces(program: ExportedProgram) -> None:
    """Drop the stack trace of every node: paths of this machine, a third of what is no weight."""
    for part in program.graph_module.modules():
        if isinstance(part, GraphModule):
            for node in part.graph.nodes:
                node.meta.pop("stack_trace", None)


def save_program(program: ExportedProgram, file: Path) -> None:
    """Write the program; `file` ends in .pt2."""
    with warnings.catch_warnings():
        # Of weights that lie channels last in memory; they are written whole.
        warnings.filterwarnings("ignore", "No complete tensor found")
        torch.export.save(program, file)


def inputs_of(frame: Batch) -> Inputs:
    """What the program takes of a batch of one frame."""
    assert frame.num_frames == 1, frame.num_frames
    return {
        "image": frame.image,
        "points": frame.points,
        "intrinsics": frame.intrinsics,
        "camera_from_lidar": frame.camera_from_lidar,
    }


def largest_differences(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, float]:
    """Of each output, absolute; infinity where one is a number and the other is not."""
    assert ours.keys() == theirs.keys(), (ours.keys(), theirs.keys())
    return {name: _largest_difference(ours[name], theirs[name]) for name in ours}


def _largest_difference(one: Tensor, other: Tensor) -> float:
    assert one.shape == other.shape, (one.shape, other.shape)
    apart = (one - other).abs().nan_to_num(nan=torch.inf)
    return float(apart.max()) if apart.numel() else 0.0
