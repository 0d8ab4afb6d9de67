"""spconv's kernels in the same layers, for training on CUDA.

spconv (https://github.com/traveller59/spconv, 2.3) is needed by nothing else: its wheel depends on
the machine's CUDA version, and its CPU kernels have no backward pass. Tables stay ours, so both
sides see the same neighbours; weights stay ours, so a checkpoint knows nothing of the backend.
"""

from jaxtyping import Float
from torch import Tensor, nn

from pipeline.models.layers import full_precision
from pipeline.models.sparse.convolution import SparseConv, convolve
from pipeline.models.sparse.neighbours import Neighbours


def use_spconv(model: nn.Module) -> int:
    """Let spconv do the model's sparse convolutions; how many. ValueError where it is missing."""
    try:
        import spconv.pytorch  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"train.sparse_backend=spconv needs the package spconv ({error}); install that of this "
            "machine's CUDA version, such as spconv-cu126, or set train.sparse_backend=torch"
        ) from None
    layers = [module for module in model.modules() if isinstance(module, SparseConv)]
    for layer in layers:
        layer.operation = convolve_with_spconv
    return len(layers)


def convolve_with_spconv(
    features: Float[Tensor, "V C"], weight: Float[Tensor, "K C D"], neighbours: Neighbours
) -> Float[Tensor, "N D"]:
    """As `convolution.convolve`, which also takes over where a table connects nothing."""
    from spconv.core import ConvAlgo
    from spconv.pytorch.functional import SparseConvFunction

    pairs, counts = neighbours.padded
    if not pairs.shape[2]:
        return convolve(features, weight, neighbours)
    # (out, sides of the kernel, in): the offsets are told by the table, not by their sides.
    filters = weight.permute(2, 0, 1)[:, :, None, None].contiguous()
    with full_precision(features):
        return SparseConvFunction.apply(
            features, filters, pairs, counts, neighbours.num_outputs, ConvAlgo.Native
        )
