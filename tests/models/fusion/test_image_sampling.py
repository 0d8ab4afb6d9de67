"""Image features at the points: one linear layer over the maps, one vector for what is not seen."""

import torch
from torch import nn

from pipeline.models.fusion.alignment import view_of
from pipeline.models.fusion.image_sampling import ImageSampler, PointTable
from pipeline.models.fusion.projection import project_points, sample
from pipeline.models.image import FeatureMap
from tests.helpers.streets import street_batch, with_values


def sampler() -> ImageSampler:
    torch.manual_seed(0)
    return ImageSampler((2, 3), 8)


def maps(batch):
    generator = torch.Generator().manual_seed(0)
    return (
        FeatureMap(values=torch.randn(batch.num_frames, 2, 8, 24, generator=generator), stride=4),
        FeatureMap(values=torch.randn(batch.num_frames, 3, 4, 12, generator=generator), stride=8),
    )


def test_the_sum_of_sampled_maps_is_one_linear_layer_over_the_concatenated_ones():
    model, batch = sampler(), street_batch()
    fine, coarse = maps(batch)
    frame = batch.point_frame()
    uv, seen = project_points(batch, frame)
    parts = [sample(one, uv[seen], frame[seen]) for one in (fine, coarse)]
    layers = [layer for layer in model.maps if isinstance(layer, nn.Conv2d)]
    weight = torch.cat([layer.weight.flatten(1) for layer in layers], dim=1)
    bias = torch.stack([layer.bias for layer in layers if layer.bias is not None]).sum(0)
    expected = torch.cat(parts, dim=1) @ weight.T + bias
    torch.testing.assert_close(model((fine, coarse), view_of(batch, "projection")), expected)


def test_without_alignment_every_point_gets_the_mean_of_its_own_frame():
    model, batch = sampler(), street_batch(num_points=(3, 2))
    found = model(maps(batch), view_of(batch, "none"))
    linear = zip(model.maps, maps(batch), strict=True)
    means = torch.stack([layer(one.values).mean(dim=(2, 3)) for layer, one in linear]).sum(0)
    torch.testing.assert_close(found, means[torch.tensor([0, 0, 0, 1, 1])])


def test_unseen_points_get_the_learned_vector_and_seen_ones_their_own():
    batch = street_batch()
    view = view_of(batch, "projection")
    table = PointTable(8, alignment="projection")
    found = torch.randn(len(view.rows), 8)
    whole = table(found, view)
    seen = torch.zeros(len(batch.points), dtype=torch.bool)
    seen[view.rows] = True
    assert torch.equal(whole[seen], found)
    assert table.not_seen is not None
    assert torch.equal(whole[~seen], table.not_seen.expand(int((~seen).sum()), -1))


def test_a_batch_that_no_point_of_is_seen_still_connects_every_parameter():
    model, table, batch = sampler(), PointTable(8, alignment="projection"), street_batch()
    behind = batch.points.clone()
    behind[:, 0] = -5
    view = view_of(with_values(batch, points=behind), "projection")
    features = table(model(maps(batch), view), view)
    assert table.not_seen is not None
    assert torch.equal(features, table.not_seen.expand_as(features))
    features.sum().backward()
    assert all(p.grad is not None for p in [*model.parameters(), *table.parameters()])
