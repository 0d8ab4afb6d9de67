"""Camera branch: ResNet18 with its deeper stages merged into one feature map at stride 8.

The stride-4 map is returned beside it and not merged into it: both are sampled at the points and
added there, which equals merging at stride 4 (bilinear upsampling, then bilinear sampling) without
the dense stride-4 tensors.
"""

import pickle
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import ResNet18_Weights, resnet18
from torchvision.ops import FrozenBatchNorm2d

from pipeline.config.model import ModelConfig
from pipeline.models.layers import conv3x3, group_norm

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's, of RGB in [0, 1]."""
STAGE_CHANNELS = (64, 128, 256, 512)
STAGE_STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """Features of B images; cell (i, j) sits at pixel (stride * j, stride * i)."""

    values: Float[Tensor, "B C h w"]
    stride: int


class ImageEncoder(nn.Module):
    """ResNet18 up to `model.image_stages`, merged as a feature pyramid (arXiv 1612.03144).

    With `fetch_weights` false the network has the same shape but random weights, for a checkpoint
    to be loaded into it.
    """

    def __init__(self, config: ModelConfig, *, fetch_weights: bool) -> None:
        super().__init__()
        pretrained = config.image_weights != "none"
        network = resnet18(norm_layer=FrozenBatchNorm2d if pretrained else group_norm)
        if pretrained and fetch_weights:
            _load(network, config.image_weights)
        self.stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        stages = (network.layer1, network.layer2, network.layer3, network.layer4)
        self.stages = nn.ModuleList(stages[: config.image_stages])
        self.is_frozen = config.freeze_image_backbone
        self.takes_raw = config.image_input == "raw"
        if self.is_frozen:
            # Before DDP wraps the model: it then waits for no gradient of theirs.
            self.stem.requires_grad_(False)
            self.stages.requires_grad_(False)
        deeper = STAGE_CHANNELS[1 : config.image_stages]
        lateral = partial(nn.Conv2d, out_channels=config.image_channels, kernel_size=1)
        self.lateral = nn.ModuleList(lateral(num_channels) for num_channels in deeper)
        self.smooth = conv3x3(config.image_channels, config.image_channels)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1) * 255, persistent=False)
        self.to(memory_format=torch.channels_last)

    def forward(self, image: UInt8[Tensor, "B 3 H W"]) -> tuple[FeatureMap, FeatureMap]:
        """Features at stride 4 (64 channels) and at stride 8 (`model.image_channels`)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            maps = self._backbone(image)
        fine = FeatureMap(values=maps[0], stride=STAGE_STRIDES[0])
        return fine, FeatureMap(values=self._merged(maps[1:]), stride=STAGE_STRIDES[1])

    def _backbone(self, image: UInt8[Tensor, "B 3 H W"]) -> list[Tensor]:
        x = self.stem(self.normalised(image))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def normalised(self, image: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """Pixels with ImageNet's mean and deviation taken out, or raw as they are."""
        x = image.to(torch.float32, memory_format=torch.channels_last)
        return x if self.takes_raw else (x - self.mean) / self.std

    def _merged(self, maps: list[Tensor]) -> Tensor:
        merged = self.lateral[-1](maps[-1])
        for lateral, finer in zip(self.lateral[-2::-1], maps[-2::-1], strict=True):
            merged = lateral(finer) + doubled(merged, size=(finer.shape[2], finer.shape[3]))
        return self.smooth(merged)


def map_channels(config: ModelConfig) -> tuple[int, int]:
    """Channels of the two maps that `ImageEncoder` gives."""
    return STAGE_CHANNELS[0], config.image_channels


def doubled(x: Float[Tensor, "B C h w"], *, size: tuple[int, int]) -> Float[Tensor, "B C H W"]:
    """Bilinear upsampling by 2 in which cell k goes exactly to cell 2k; size 2h or 2h - 1."""
    height, width = x.shape[2:]
    exact = (2 * height - 1, 2 * width - 1)
    x = F.interpolate(x, size=exact, mode="bilinear", align_corners=True)
    return F.pad(x, (0, size[1] - exact[1], 0, size[0] - exact[0]), mode="replicate")


def _load(network: nn.Module, place: str) -> None:
    state = _imagenet() if place == "imagenet" else _read(Path(place))
    wrong = network.load_state_dict(state, strict=False)
    unused = [key for key in wrong.unexpected_keys if not key.endswith("num_batches_tracked")]
    missing = [key for key in wrong.missing_keys if not key.startswith("fc.")]
    if missing or unused:
        found = f"lacks {missing[0]}" if missing else f"also holds {unused[0]}"
        raise ValueError(
            f"model.image_weights={place} {found}; it takes torchvision's resnet18 as a state dict"
        )


def _imagenet() -> dict[str, Tensor]:
    try:
        return dict(ResNet18_Weights.IMAGENET1K_V1.get_state_dict(check_hash=True, progress=False))
    except OSError as error:
        raise ValueError(
            f"model.image_weights=imagenet could not be downloaded ({error}); give the path of a "
            "downloaded resnet18 file, or train from random weights with model.image_weights=none"
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(
            f"model.image_weights={path} does not exist; it takes none, imagenet or a file"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"model.image_weights={path} cannot be read ({str(error).splitlines()[0]}); it takes a "
            "safetensors file or a torch file of tensors"
        ) from error
