"""What a single pose sees, as one flat record: most tests of the synthetic world need no more."""

from dataclasses import dataclass

import numpy as np

from pipeline.synthetic.sensor_sim import Cloud, Observer, Picture


@dataclass(frozen=True, kw_only=True)
class Seen(Picture, Cloud):
    """One frame of a pose that has cameras and LiDARs, and the frame's voxel grid."""

    voxels: np.ndarray


def see(observer: Observer, frame: int, pose: int = 0) -> Seen:
    """The frame as the pose with this place in the sensor set sees it."""
    seen = observer.observe(frame)
    return Seen(**vars(seen.pictures[pose]), **vars(seen.clouds[pose]), voxels=seen.voxels)
