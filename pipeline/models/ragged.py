"""Rows of several frames that lie one frame after the other, as numbers that Python can use."""

from jaxtyping import Int64
from torch import Tensor


def frame_sizes(counts: Int64[Tensor, "B"], *, total: int) -> list[int]:
    """Rows of each frame, of `total` rows; on a GPU this waits for it, unless there is one frame.

    That frame's rows are all rows: nothing is asked of the device, and torch.export, for which the
    number is a symbol, can go on.
    """
    return [total] if counts.shape[0] == 1 else counts.tolist()
