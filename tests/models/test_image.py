import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

from pipeline.config.model import ModelConfig
from pipeline.models.image import ImageEncoder, doubled
from pipeline.models.layers import group_norm
from tests.helpers.streets import street_batch


def encoder(*, fetch_weights=True, **settings):
    torch.manual_seed(0)
    return ImageEncoder(ModelConfig(**settings), fetch_weights=fetch_weights)


@pytest.mark.parametrize(("stages", "backbone"), [(2, 683_072), (3, 2_782_784), (4, 11_176_512)])
def test_unused_stages_are_not_parameters(stages, backbone):
    """All four stages are torchvision's resnet18 without its classifier (513,000)."""
    model = encoder(image_stages=stages)
    parts = (model.stem, model.stages)
    assert sum(p.numel() for part in parts for p in part.parameters()) == backbone
    assert sum(p.numel() for p in resnet18().parameters()) - 513_000 == 11_176_512


@pytest.mark.parametrize(("height", "width"), [(32, 96), (36, 100), (33, 65)])
@pytest.mark.parametrize("stages", [2, 3, 4])
def test_maps_have_strides_four_and_eight_whatever_the_image_size(height, width, stages):
    batch = street_batch(height=height, width=width)
    fine, merged = encoder(image_stages=stages, image_channels=24)(batch.image)
    assert (fine.stride, merged.stride) == (4, 8)
    assert fine.values.shape == (2, 64, -(-height // 4), -(-width // 4))
    assert merged.values.shape == (2, 24, -(-height // 8), -(-width // 8))


def test_doubling_puts_cell_k_at_cell_2k_and_interpolates_between():
    column = torch.tensor([0.0, 10.0, 40.0]).view(1, 1, 1, 3)
    even = doubled(column, size=(1, 6)).flatten().tolist()
    assert even == [0, 5, 10, 25, 40, 40]
    odd = doubled(column, size=(1, 5)).flatten().tolist()
    assert odd == [0, 5, 10, 25, 40]


def test_a_cell_of_the_stride_4_map_is_centred_on_its_pixel():
    """Gradient of a cell of the first stage: as much of the image left of 4k as right of it."""
    stem = encoder().stem
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    conv = stem[0]
    conv(image)[0, :, 8, 8].sum().backward()
    assert image.grad is not None
    touched = image.grad.abs().sum((0, 1)).nonzero()
    assert touched.min(0).values.tolist() == [13, 13]
    assert touched.max(0).values.tolist() == [19, 19]


def test_a_frames_features_do_not_depend_on_its_companion():
    model, image = encoder(), street_batch().image
    other = torch.stack([image[0], 255 - image[1]])
    for ours, theirs in zip(model(image), model(other), strict=True):
        assert torch.equal(ours.values[0], theirs.values[0])
    for ours, theirs in zip(model(image), model(image[:1]), strict=True):
        torch.testing.assert_close(ours.values[:1], theirs.values, rtol=1e-4, atol=1e-5)


def test_pixels_are_normalised_inside():
    model = encoder()
    white = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    assert model.normalised(white).flatten().tolist() == pytest.approx(
        [2.2489, 2.4286, 2.64], abs=1e-4
    )
    assert "mean" not in model.state_dict()


def test_raw_pixels_reach_the_network_as_they_are():
    image = street_batch().image
    raw, usual = encoder(image_input="raw"), encoder()
    assert torch.equal(raw.normalised(image), image.float())
    assert raw.state_dict().keys() == usual.state_dict().keys()
    assert not torch.equal(raw(image)[0].values, usual(image)[0].values)


def test_random_weights_come_with_group_norm_in_groups_of_16_channels():
    kinds = {type(module) for module in encoder().modules()}
    assert nn.GroupNorm in kinds
    assert nn.BatchNorm2d not in kinds
    assert group_norm(64).num_groups == 4
    assert group_norm(24).num_groups == 1


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_weights_file_is_loaded_and_its_batch_norm_is_frozen(tmp_path, suffix):
    torch.manual_seed(1)
    source = resnet18().eval()
    for module in source.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.rand(module.num_features)
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(source.state_dict(), path)
    model = encoder(image_weights=str(path)).train()
    image = street_batch().image
    x = model.normalised(image)
    expected = source.layer1(source.maxpool(source.relu(source.bn1(source.conv1(x)))))
    torch.testing.assert_close(model(image)[0].values, expected, rtol=1e-4, atol=1e-4)
    assert not [name for name, _ in model.named_parameters() if "bn" in name]


def test_a_checkpoint_can_be_loaded_without_the_weights_file():
    model = encoder(image_weights="gone.pth", fetch_weights=False)
    assert not any(isinstance(module, nn.GroupNorm) for module in model.stages.modules())


def test_a_missing_weights_file_is_one_sentence():
    with pytest.raises(ValueError, match=r"model.image_weights=gone.pth does not exist"):
        encoder(image_weights="gone.pth")


def test_a_file_of_another_network_is_one_sentence(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"lacks conv1.weight; it takes torchvision's"):
        encoder(image_weights=str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize("name", ["torn.pth", "torn.safetensors"])
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path, name):
    (tmp_path / name).write_bytes(b"no tensors here")
    with pytest.raises(ValueError, match=r"cannot be read .*; it takes a safetensors file"):
        encoder(image_weights=str(tmp_path / name))


def test_an_object_file_is_refused_and_not_run(tmp_path):
    torch.save({"conv1.weight": print}, tmp_path / "object.pth")
    with pytest.raises(ValueError, match="cannot be read"):
        encoder(image_weights=str(tmp_path / "object.pth"))


def test_imagenet_weights_that_cannot_be_downloaded_are_one_sentence(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"no route to host\); give the path .*image_weights=none"):
        encoder(image_weights="imagenet")
