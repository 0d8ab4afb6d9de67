"""One synthetic frame of AnoVox's full size (768 x 512 pixels, 64 channels) as a batch of one."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from pipeline.config.data import SyntheticConfig
from pipeline.data.batch import Batch
from pipeline.datasets.anovox.class_ids import label_of_class
from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES
from pipeline.datasets.anovox.frame import read_frame
from pipeline.datasets.anovox.layout import find_archives
from pipeline.datasets.anovox.scene import read_scenes
from pipeline.synthetic.writer import write_archives


def full_frame() -> Batch:
    """Written, read back and joined; ego returns left out as in training (2.6 m x 1.1 m)."""
    config = SyntheticConfig(num_scenes=1, num_frames=1, kinds=["static"], towns=["Town03"])
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as root:
        write_archives(config, Path(root))
        archive = find_archives(Path(root))[0]
        scene = read_scenes(archive.scenes[0], archive)[0]
        frame = read_frame(scene, scene.frame_ids[0])
    outside = (np.abs(frame.points[:, 0]) > 2.6) | (np.abs(frame.points[:, 1]) > 1.1)
    points = torch.from_numpy(np.ascontiguousarray(frame.points[outside], dtype=np.float32))
    classes = frame.point_class[outside]
    return Batch(
        image=torch.from_numpy(frame.image.copy())[None].permute(0, 3, 1, 2),
        points=points,
        point_offset=torch.tensor([len(points)]),
        point_class=torch.from_numpy(classes),
        point_label=torch.from_numpy(label_of_class(classes).astype(np.uint8)),
        frame_label=torch.ones(1, dtype=torch.uint8),
        intrinsics=torch.from_numpy(frame.intrinsics).float()[None],
        camera_from_lidar=torch.from_numpy(frame.camera_from_lidar).float()[None],
        row=torch.zeros(1, dtype=torch.int64),
        classes=ANOVOX_CLASSES,
    )
