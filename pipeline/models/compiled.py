"""`train.compile`: torch.compile where it pays, on the dense convolutions.

Around them stand layers whose sizes follow from the points, at which a compiled program would break
and compile again.
"""

from torch import nn

from pipeline.models.image import ImageEncoder
from pipeline.models.pillar_encoder import BirdsEye


def compile_convolutions(model: nn.Module) -> int:
    """Compile the camera's and the bird's-eye network in place, when first used; how many.

    Parameters keep their names, so checkpoints know nothing of it.
    """
    networks = [m for m in model.modules() if isinstance(m, ImageEncoder | BirdsEye)]
    for network in networks:
        network.compile()
    return len(networks)
