"""The moving average of a training's weights, which settles earlier than the weights do."""

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Parameters = tuple[Tensor, ...] | list[Tensor]


class WeightAverage:
    """Exponential moving average of a model's parameters, step by step.

    A high decay would keep much of the first weights in a young average, so after t updates it is
    min(decay, (1 + t) / (10 + t)), as in TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self._decay = decay
        self._averaged = AveragedModel(model, multi_avg_fn=self._lerp).requires_grad_(False)

    @property
    def model(self) -> nn.Module:
        """A model of its own with the averaged parameters."""
        return self._averaged.module

    def update(self, model: nn.Module) -> None:
        """Take the parameters of `model` after one more step."""
        self._averaged.update_parameters(model)

    def restart(self, *, num_updates: int) -> None:
        """Go on after `num_updates`, of which `model` holds the average."""
        self._averaged.n_averaged.fill_(num_updates)

    def _lerp(self, averages: Parameters, weights: Parameters, count: Tensor | int) -> None:
        updates = int(count)
        decay = min(self._decay, (1 + updates) / (10 + updates))
        get_ema_multi_avg_fn(decay)(averages, weights, count)
