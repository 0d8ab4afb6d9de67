"""What each form and flag changes, each on its own: what no longer matters, what is gone."""

import dataclasses
from typing import Any

import pytest
import torch

from pipeline.config.model import ModelConfig
from pipeline.models.detector import build_detector
from pipeline.models.fusion.alignment import view_of
from pipeline.models.fusion.late import Apart, LateHead
from pipeline.models.heads import PointHead
from tests.helpers.small_model import SMALL
from tests.helpers.streets import street_batch, with_values

FUSED = ("late", "concat", "gated", "cross_attention")


def detector(fusion: str, **settings) -> Any:
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, fusion=fusion, **settings)
    return build_detector(config, prior=1e-2).eval()


def scores_of(model, batch):
    return model(batch).point_score


def num_parameters(model) -> int:
    return sum(p.numel() for p in model.parameters())


def out_of_view(batch) -> torch.Tensor:
    hidden = torch.ones(len(batch.points), dtype=torch.bool)
    hidden[view_of(batch, "projection").rows] = False
    return hidden


def moved_camera(batch):
    shifted = batch.intrinsics + torch.tensor([0.0, 0.0, 9.0, 2.0])
    return with_values(batch, intrinsics=shifted)


@pytest.mark.parametrize("fusion", FUSED)
def test_points_out_of_view_are_untouched_by_the_image(fusion: str):
    model, batch = detector(fusion), street_batch()
    hidden = out_of_view(batch)
    other = with_values(batch, image=255 - batch.image)
    before, after = scores_of(model, batch), scores_of(model, other)
    assert torch.equal(before[hidden], after[hidden])
    assert (before[~hidden] != after[~hidden]).float().mean() > 0.9


@pytest.mark.parametrize("fusion", FUSED)
def test_without_alignment_the_calibration_no_longer_matters(fusion: str):
    model, batch = detector(fusion, alignment="none"), street_batch()
    assert torch.equal(scores_of(model, batch), scores_of(model, moved_camera(batch)))
    aligned = detector(fusion)
    assert not torch.equal(scores_of(aligned, batch), scores_of(aligned, moved_camera(batch)))


@pytest.mark.parametrize("fusion", ["camera_only", *FUSED])
def test_a_scrambled_calibration_changes_scores_in_view_only_and_stays_the_same(fusion: str):
    batch = street_batch()
    true, wrong = detector(fusion), detector(fusion, alignment="scrambled")
    wrong.load_state_dict(true.state_dict())
    hidden = out_of_view(batch)
    scrambled = scores_of(wrong, batch)
    assert torch.equal(scrambled[hidden], scores_of(true, batch)[hidden])
    assert not torch.equal(scrambled[~hidden], scores_of(true, batch)[~hidden])
    assert torch.equal(scrambled, scores_of(wrong, batch))


def test_the_gate_mixes_both_channel_by_channel():
    model, batch = detector("gated"), street_batch()
    maps, view = model.camera(batch.image), view_of(batch, "projection")
    points = torch.randn(len(batch.points), 16)
    form = model.fusion
    camera = form.camera(None, maps, view)
    gate = torch.sigmoid(
        camera @ form.from_camera.weight.T
        + form.from_camera.bias
        + points @ form.from_points.weight.T
    )
    expected = gate * camera + (1 - gate) * points
    torch.testing.assert_close(form(points, maps, view), expected)


def test_late_logits_are_a_learned_mean_in_view_and_the_lidars_out_of_it():
    torch.manual_seed(0)
    head = LateHead(lambda: PointHead(8, dropout=0.0, prior=0.01)).eval()
    head.weight.data = torch.tensor([1.0, -0.5])
    batch = street_batch()
    view = view_of(batch, "projection")
    points, camera = torch.randn(len(batch.points), 8), torch.randn(len(view.rows), 8)
    of_lidar, of_camera = head.points(points.clone()), head.camera(camera.clone())
    share = torch.sigmoid(torch.tensor(1.5))
    expected = of_lidar.clone()
    expected[view.rows] = share * of_camera + (1 - share) * of_lidar[view.rows]
    found = head(Apart(points=points.clone(), camera=camera.clone(), view=view))
    torch.testing.assert_close(found, expected)


# ---- flags of cross_attention


def test_the_feed_forward_network_is_gone_when_off():
    whole, without = detector("cross_attention"), detector("cross_attention", attention_ffn=False)
    assert without.fusion.ffn is None
    lost = num_parameters(whole) - num_parameters(without)
    assert lost == 2 * 16 + 16 * 32 + 32 + 32 * 16 + 16


def test_without_attention_the_modules_of_cross_attention_are_gone_and_concat_is_left():
    """What a silent attention leaves of cross_attention is concat, to the bit."""
    whole = detector("cross_attention", attention_ffn=False)
    rest = detector("concat")
    kept = {
        name.replace("fusion.concat.", "fusion."): value
        for name, value in whole.state_dict().items()
        if not name.startswith("fusion.") or name.startswith("fusion.concat.")
    }
    rest.load_state_dict(kept)
    gone = {name.split(".")[1] for name in whole.state_dict() if name.startswith("fusion.")}
    assert gone - {"concat"} == {"tokens", "norm", "attention"}
    batch = street_batch()
    assert not torch.equal(scores_of(whole, batch), scores_of(rest, batch))
    torch.nn.init.zeros_(whole.fusion.attention.out.weight)
    torch.nn.init.zeros_(whole.fusion.attention.out.bias)
    assert torch.equal(scores_of(whole, batch), scores_of(rest, batch))


def test_without_residuals_the_input_reaches_the_head_through_attention_alone():
    batch = street_batch()
    for kept in (True, False):
        model = detector("cross_attention", attention_residual=kept, attention_ffn=False)
        torch.nn.init.zeros_(model.fusion.attention.out.weight)
        in_view = scores_of(model, batch)[~out_of_view(batch)]
        assert (in_view.std() > 1e-6) == kept


@pytest.mark.parametrize("num_heads", [1, 4, 8])
def test_heads_share_the_width_so_their_number_changes_scores_but_no_parameter(num_heads: int):
    model, batch = detector("cross_attention", attention_heads=num_heads), street_batch()
    assert num_parameters(model) == num_parameters(detector("cross_attention"))
    if num_heads != 4:
        usual = detector("cross_attention")
        assert not torch.equal(scores_of(model, batch), scores_of(usual, batch))


def test_without_an_encoding_attention_cannot_tell_where_tokens_lie():
    """Turning the tokens' map over changes nothing for queries that only compare contents."""
    batch = street_batch()

    def attended(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
        model = detector("cross_attention", positional_encoding=kind)
        usual, found = model.fusion.tokens.forward, []
        for turned in (False, True):
            flip = (lambda x: x.flip(3)) if turned else (lambda x: x)
            model.fusion.tokens.forward = lambda x, flip=flip: flip(usual(x))
            found.append(scores_of(model, batch))
        return found[0], found[1]

    torch.testing.assert_close(*attended("none"), rtol=0, atol=1e-5)
    for kind in ("sincos", "learned", "hybrid"):
        one, other = attended(kind)
        assert (one - other).abs().max() > 1e-5


# ---- the frozen backbone


def test_a_frozen_backbone_is_unchanged_after_five_steps_and_what_merges_it_learns():
    model, batch = detector("concat", freeze_image_backbone=True).train(), street_batch()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        model(batch).point_score.square().mean().backward()
        optimizer.step()
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    backbone = {n for n in before if n.startswith(("camera.stem", "camera.stages"))}
    assert backbone
    assert not changed & backbone
    assert {"camera.smooth.0.weight", "camera.lateral.0.weight"} <= changed
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


# ---- what does not go together


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"fusion": "lidar_only", "alignment": "none"}, "alignment=none has no effect on fusion"),
        ({"fusion": "lidar_only", "freeze_image_backbone": True}, "has no effect on fusion=lidar"),
        ({"fusion": "camera_only", "alignment": "none"}, "could not tell them apart"),
        ({"fusion": "concat", "attention_heads": 8}, "attention_heads=8 has no effect without"),
        ({"fusion": "gated", "positional_encoding": "none"}, "positional_encoding=none has no"),
        ({"fusion": "cross_attention", "attention_heads": 5}, "does not fit model.point_channels"),
        ({"fusion": "lidar_only", "image_input": "raw"}, "image_input=raw has no effect on fusion"),
        ({"name": "simple", "alignment": "scrambled"}, "has no effect on simple"),
    ],
)
def test_settings_without_meaning_are_refused_in_one_sentence(settings, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        ModelConfig(**settings)
