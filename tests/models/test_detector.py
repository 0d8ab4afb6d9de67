import dataclasses

import pytest
import torch

from pipeline.config.model import FUSIONS, LossConfig, ModelConfig
from pipeline.losses.anomaly import loss_terms
from pipeline.models.detector import build_detector
from pipeline.models.prior_baseline import SimpleAnomalyDetector
from tests.helpers.small_model import SMALL
from tests.helpers.streets import only_frame, street_batch, with_values


def detector(fusion="concat", **settings):
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, fusion=fusion, **settings)
    return build_detector(config, prior=1e-2).eval()


def num_parameters(model):
    return sum(p.numel() for p in model.parameters())


def loss_of(scores, batch):
    terms = loss_terms(scores, batch, config=LossConfig(), pos_weight=99.0).values()
    return torch.stack([t.weight * t.total / t.count.clamp(min=1) for t in terms]).sum()


def test_a_form_without_a_modality_does_not_own_its_branch():
    counts = {
        fusion: num_parameters(
            build_detector(dataclasses.replace(ModelConfig(), fusion=fusion), prior=1e-3)
        )
        for fusion in FUSIONS
    }
    assert counts == {
        "concat": 3_333_729,
        "camera_only": 2_854_977,
        "lidar_only": 480_865,
        "late": 3_335_780,
        "gated": 3_341_985,
        "cross_attention": 3_404_129,
    }


@pytest.mark.parametrize("fusion", FUSIONS)
def test_half_the_width_halves_all_that_is_no_resnet(fusion):
    """Weights between wide layers fall to a quarter, biases and those at a fixed width to half."""
    whole, half = (
        dict(detector(fusion, image_channels=width, point_channels=width).named_parameters())
        for width in (32, 16)
    )
    assert whole.keys() == half.keys()
    for name, weight in whole.items():
        share = half[name].numel() / weight.numel()
        if name.startswith(("camera.stem", "camera.stages")):
            assert share == 1
        elif name.startswith("head.") and weight.numel() <= 2:
            assert share == 1  # the bias of the logit, or the weights of two logits
        else:
            assert 0.2 < share < 0.8, name


def test_the_name_simple_gives_the_prior_systems_network():
    raw = build_detector(ModelConfig(name="simple", image_input="raw"), prior=1e-3)
    assert isinstance(raw, SimpleAnomalyDetector)
    assert raw.raw_pixels
    normalised = build_detector(ModelConfig(name="simple"), prior=1e-3)
    assert isinstance(normalised, SimpleAnomalyDetector)
    assert not normalised.raw_pixels


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_point_and_every_frame_gets_a_finite_logit(fusion):
    scores = detector(fusion)(street_batch())
    assert scores.point_score.shape == (1100,)
    assert scores.frame_score.shape == (2,)
    assert scores.point_score.isfinite().all()
    top = scores.point_score[:600].topk(10).values.mean()
    torch.testing.assert_close(scores.frame_score[0], top)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_permuting_a_frames_points_permutes_its_scores(fusion):
    model, batch = detector(fusion), street_batch()
    order = torch.cat([torch.randperm(600), 600 + torch.randperm(500)])
    shuffled = model(with_values(batch, points=batch.points[order]))
    whole = model(batch)
    torch.testing.assert_close(shuffled.point_score, whole.point_score[order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shuffled.frame_score, whole.frame_score, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_frames_scores_do_not_depend_on_its_companion(fusion):
    model, batch = detector(fusion), street_batch()
    points = batch.points.clone()
    points[600:, :3] = points[600:, [1, 0, 2]]
    image = torch.stack([batch.image[0], 255 - batch.image[1]])
    ours, theirs = model(batch), model(with_values(batch, points=points, image=image))
    assert torch.equal(ours.point_score[:600], theirs.point_score[:600])
    assert torch.equal(ours.frame_score[0], theirs.frame_score[0])
    assert not torch.equal(ours.point_score[600:], theirs.point_score[600:])
    alone = model(only_frame(batch, 1))
    torch.testing.assert_close(alone.point_score, ours.point_score[600:], rtol=0, atol=1e-5)


def test_lidar_only_does_not_read_the_image():
    model, batch = detector("lidar_only"), street_batch()
    blind = with_values(batch, image=torch.zeros_like(batch.image))
    assert torch.equal(model(batch).point_score, model(blind).point_score)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_no_form_reads_intensity(fusion):
    model, batch = detector(fusion), street_batch()
    points = batch.points.clone()
    points[:, 3] = 0
    dark = model(with_values(batch, points=points))
    assert torch.equal(dark.point_score, model(batch).point_score)


def test_camera_only_knows_a_point_by_its_pixel_alone():
    """Pushing points out along their rays moves the cloud but no pixel (camera at the LiDAR)."""
    model, batch = detector("camera_only"), street_batch()
    points = batch.points.clone()
    points[:, :3] *= 1.7
    pushed = model(with_values(batch, points=points))
    torch.testing.assert_close(pushed.point_score, model(batch).point_score, rtol=0, atol=1e-4)
    assert model(batch).point_score.std() > 0


def test_camera_only_gives_all_unseen_points_one_score():
    model, batch = detector("camera_only"), street_batch()
    points = batch.points.clone()
    points[:300, 0] = -points[:300, 0].abs()
    scores = model(with_values(batch, points=points)).point_score[:300]
    assert torch.equal(scores, scores[:1].expand(300))


@pytest.mark.parametrize("fusion", [name for name in FUSIONS if name != "lidar_only"])
def test_forms_with_a_camera_read_the_image(fusion):
    model, batch = detector(fusion), street_batch()
    blind = with_values(batch, image=torch.zeros_like(batch.image))
    assert not torch.equal(model(batch).point_score, model(blind).point_score)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_parameter_gets_a_gradient_so_that_ddp_waits_for_none(fusion):
    model, batch = detector(fusion).train(), street_batch()
    loss_of(model(batch), batch).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert all(p.grad.any() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("num_points", [(), (0, 0)])
def test_no_points_give_zero_loss_on_points_and_zero_gradients(fusion, num_points):
    model, batch = detector(fusion).train(), street_batch(num_points=num_points)
    scores = model(batch)
    assert scores.point_score.shape == (0,)
    assert scores.frame_score.shape == (len(num_points),)
    loss_of(scores, batch).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_an_empty_cloud_beside_a_full_one_gets_the_priors_logit():
    batch = street_batch(num_points=(0, 400))
    scores = detector()(batch)
    assert scores.frame_score[0].item() == pytest.approx(-4.595, abs=1e-3)
    assert scores.point_score.shape == (400,)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_scores_are_fp32_under_autocast_and_near_those_without(fusion):
    model, batch = detector(fusion), street_batch()
    with torch.autocast("cpu", torch.bfloat16):
        scores = model(batch)
    assert scores.point_score.dtype == scores.frame_score.dtype == torch.float32
    torch.testing.assert_close(scores.point_score, model(batch).point_score, rtol=0, atol=0.05)


def test_one_seed_gives_one_network_and_one_step():
    def trained():
        model, batch = detector(dropout=0.3).train(), street_batch()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(2):
            optimizer.zero_grad()
            loss_of(model(batch), batch).backward()
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(trained(), trained())


@pytest.mark.parametrize("fusion", ["concat", "lidar_only"])
def test_it_learns_one_batch_by_heart(fusion):
    model, batch = detector(fusion).train(), street_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = loss_of(model(batch), batch)
        loss.backward()
        optimizer.step()
    score = model.eval()(batch).point_score
    anomalous, normal = score[batch.point_label == 1], score[batch.point_label == 0]
    assert anomalous.median() > normal.quantile(0.99)
