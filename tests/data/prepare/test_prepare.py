"""AnoVox archives become whole, reproducible shards; damage is counted, never hidden."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.block_reader import BlockReader
from pipeline.data.manifest import INDEX, MANIFEST, QUARANTINE, SPLIT_FILE, read_manifest
from pipeline.data.prepare.index import scan
from pipeline.data.prepare.prepare import find_blocks, prepare
from pipeline.data.splits import make_splits, split_hash
from pipeline.datasets.anovox.frame import read_frame
from pipeline.datasets.anovox.label_rules import BY_IDS
from pipeline.datasets.anovox.labels import truth

SPLITS = ("train", "val", "test")


def quiet(done: int, total: int) -> None:
    pass


def fail_if_called(done: int, total: int) -> None:
    raise AssertionError("nothing was left to do")


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path) -> Path:
    """A copy of the tiny world that may be damaged."""
    return Path(shutil.copytree(tiny_root, tmp_path / "anovox"))


@pytest.fixture
def copied(tiny_config: Config, tiny_blocks: Path, tmp_path: Path) -> tuple[Config, Path]:
    """The tiny world's config with a copy of its shards that may be damaged."""
    place = tmp_path / "blocks"
    folder = Path(shutil.copytree(tiny_blocks, place / tiny_blocks.name))
    return merge(tiny_config, {"data": {"blocks": str(place)}}), folder


def at(config: Config, root: Path, tmp_path: Path) -> Config:
    return merge(config, {"data": {"root": str(root), "blocks": str(tmp_path / "blocks")}})


MONO_POSE = "(0, 0, 1.8)(0, 0, 0)"


def scene_keys(frames: pd.DataFrame) -> list[str]:
    return (frames["archive"] + "/" + frames["scene_id"]).tolist()


def change_times(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*.arrow")}


# ---- what a prepared folder holds


def test_every_frame_is_in_exactly_one_row_of_its_scenes_split(tiny_blocks, tiny_root):
    frames = pd.read_parquet(tiny_blocks / INDEX)
    splits = json.loads((tiny_blocks / SPLIT_FILE).read_text())["scenes"]
    keys = scene_keys(frames)
    found = Counter(zip(keys, frames["frame_id"].tolist(), strict=True))
    scenes = scan(tiny_root).scenes
    places = [(s.archive + "/" + s.scene_id, s.frame_ids) for s in scenes.values()]
    assert found == Counter((key, f) for key, frame_ids in places for f in frame_ids)
    assert [splits[key] for key in keys] == frames["split"].tolist()


def test_the_manifest_adds_up(tiny_blocks):
    manifest = read_manifest(tiny_blocks)
    assert manifest.num_found == manifest.num_accepted + manifest.num_quarantined == 48
    assert sum(shard.num_rows for shard in manifest.shards) == 48
    for split in SPLITS:
        counts = manifest.labels[split]
        assert min(counts.frames_pos, counts.frames_neg) > 0
        rows = sum(shard.num_rows for shard in manifest.shards_of(split))
        assert counts.frames_pos + counts.frames_neg + counts.frames_ignored == rows
        reader = BlockReader(tiny_blocks, split, ego_box_m=(0.0, 0.0))
        labels = reader.batch(range(rows), augment_seed=None).point_label
        assert (labels == 1).sum() == counts.points_pos
        assert (labels == 0).sum() == counts.points_neg
        assert (labels == 255).sum() == counts.points_ignored


def test_the_index_is_plain_columns_that_pandas_reads_alone(tiny_blocks):
    columns = ["town", "anomaly_distance_m", "num_points"]
    frames = pd.read_parquet(tiny_blocks / INDEX, columns=columns)
    assert set(frames["town"]) == {"Town03"}
    assert np.isfinite(frames["anomaly_distance_m"].to_numpy()).sum() == 24
    assert frames["num_points"].to_numpy().min() > 100


def test_scenes_of_a_split_are_those_of_the_deal(tiny_config, tiny_blocks, tiny_root):
    splits = make_splits(scan(tiny_root).facts, tiny_config.prepare)
    noted = json.loads((tiny_blocks / SPLIT_FILE).read_text())
    assert noted == {"split_hash": split_hash(splits), "scenes": splits}
    assert read_manifest(tiny_blocks).split_hash == split_hash(splits)


def test_frames_come_through_block_and_batch_bit_for_bit(tiny_config, tmp_path):
    """At the original image size everything a model sees is what the files hold."""
    full_size = merge(
        tiny_config,
        {"data": {"blocks": str(tmp_path)}, "prepare": {"image_width": 192, "frames_per_shard": 5}},
    )
    prepare(full_size, quiet)
    scenes = scan(Path(full_size.data.root)).scenes
    for split in SPLITS:
        reader = BlockReader(find_blocks(full_size), split, ego_box_m=(0.0, 0.0))
        batch = reader.batch(range(reader.num_rows), augment_seed=None)
        places = zip(scene_keys(reader.index), reader.index["frame_id"].tolist(), strict=True)
        for i, (key, frame_id) in enumerate(places):
            frame = read_frame(scenes[f"{key}/{MONO_POSE}"], frame_id)
            labels = truth(frame, BY_IDS, min_points=5, min_pixels=30)
            mine = batch.point_frame() == i
            assert np.array_equal(batch.image[i].permute(1, 2, 0).numpy(), frame.image)
            assert np.array_equal(batch.points[mine].numpy(), frame.points)
            assert np.array_equal(batch.point_class[mine].numpy(), frame.point_class)
            assert np.array_equal(batch.point_label[mine].numpy(), labels.point_label)
            assert batch.frame_label[i] == labels.frame_label
            assert np.array_equal(batch.intrinsics[i].numpy(), frame.intrinsics.astype(np.float32))


# ---- again, changed, killed


def test_a_finished_job_is_not_done_again(tiny_config, tiny_blocks):
    before = change_times(tiny_blocks)
    assert prepare(tiny_config, fail_if_called) == read_manifest(tiny_blocks)
    assert change_times(tiny_blocks) == before


def test_a_changed_config_writes_another_folder_and_leaves_the_first(copied):
    config, folder = copied
    other = merge(config, {"prepare": {"image_crop": [0.25, 0.75]}})
    prepare(other, quiet)
    assert find_blocks(other) != folder
    assert find_blocks(config) == folder
    assert read_manifest(find_blocks(other)).image_height == 32


def test_a_killed_job_goes_on_with_the_shards_that_are_not_whole(copied, tiny_blocks):
    """No manifest, one shard torn, one without its note, one missing, a temporary file left."""
    config, folder = copied
    (folder / MANIFEST).unlink()
    torn, unnoted, missing = sorted((folder / "train").glob("*.arrow"))[:3]
    torn.write_bytes(torn.read_bytes()[:-1])
    unnoted.with_name(unnoted.name + ".json").unlink()
    missing.unlink()
    leftover = folder / "train" / ".shard-00000.arrow.abc.tmp"
    leftover.write_bytes(b"half")
    before = change_times(folder)
    told: list[tuple[int, int]] = []
    manifest = prepare(config, lambda done, total: told.append((done, total)))
    assert manifest == read_manifest(tiny_blocks)
    redone = {str(path.relative_to(folder)) for path in (torn, unnoted, missing)}
    assert {n for n, t in change_times(folder).items() if before.get(n) != t} == redone
    assert not leftover.exists()
    assert told[0] == (48 - sum(_rows(manifest, name) for name in redone), 48)
    assert told[-1] == (48, 48)


def _rows(manifest, name: str) -> int:
    return next(s.num_rows for s in manifest.shards if f"{s.split}/{s.name}" == name)


def test_a_damaged_shard_of_a_finished_job_is_written_again(copied, tiny_blocks):
    config, folder = copied
    shard = sorted((folder / "val").glob("*.arrow"))[0]
    shard.write_bytes(b"")
    assert prepare(config, quiet) == read_manifest(tiny_blocks)
    BlockReader(folder, "val", ego_box_m=(0.0, 0.0))


# ---- damage


def damage(root: Path) -> str:
    """Cut one LIDAR file short and remove one VOXEL_GRID file; returns the first one's name."""
    lidar = sorted(root.glob("AnoVox_Normality_Mono_Town03/Scenario_*-*/LIDAR*/*.npy"))[0]
    lidar.write_bytes(lidar.read_bytes()[:-10])
    sorted(root.glob("AnoVox_Normality_Mono_Town03/Scenario_*-*/VOXEL_GRID/*.npy"))[-1].unlink()
    return lidar.name


def test_damaged_frames_are_quarantined_with_their_reasons(tiny_config, root, tmp_path):
    name = damage(root)
    config = at(tiny_config, root, tmp_path)
    manifest = prepare(config, quiet)
    assert (manifest.num_found, manifest.num_accepted, manifest.num_quarantined) == (48, 46, 2)
    reasons = [r["reason"] for r in json.loads((find_blocks(config) / QUARANTINE).read_text())]
    assert len(reasons) == 2
    assert any(name in reason for reason in reasons)
    assert any("is missing in VOXEL_GRID" in reason for reason in reasons)


def test_a_damaged_frame_ends_the_job_when_configured_so(tiny_config, root, tmp_path):
    lidar = sorted(root.glob("AnoVox_Static_Mono_Town03/Scenario_*-*/LIDAR*/*.npy"))[0]
    lidar.write_bytes(lidar.read_bytes()[:-10])
    config = merge(at(tiny_config, root, tmp_path), {"data": {"on_bad_frame": "fail"}})
    with pytest.raises(ValueError, match=r"LIDAR.*data\.on_bad_frame=fail ends the job here"):
        prepare(config, quiet)
    with pytest.raises(ValueError, match=r"run jobs\.prepare"):
        find_blocks(config)


def test_a_frame_that_lacks_a_file_ends_the_job_before_it_starts(tiny_config, root, tmp_path):
    damage(root)
    config = merge(at(tiny_config, root, tmp_path), {"data": {"on_bad_frame": "fail"}})
    with pytest.raises(
        ValueError, match=r"missing in VOXEL_GRID; re-extract .*; data\.on_bad_frame=fail"
    ):
        prepare(config, fail_if_called)


def test_normality_alone_is_refused_before_anything_is_written(tiny_config, root, tmp_path):
    shutil.rmtree(root / "AnoVox_Static_Mono_Town03")
    with pytest.raises(ValueError, match="split train and val and test gets no scene with an anom"):
        prepare(at(tiny_config, root, tmp_path), fail_if_called)
    assert not (tmp_path / "blocks").exists()


def test_an_image_width_beyond_the_originals_is_refused_before_anything_is_written(
    tiny_config, tmp_path
):
    wide = {"data": {"blocks": str(tmp_path)}, "prepare": {"image_width": 4000}}
    with pytest.raises(ValueError, match=r"^prepare\.image_width is 4000 but the images are 192"):
        prepare(merge(tiny_config, wide), fail_if_called)
    assert not list(tmp_path.iterdir())


def test_a_prepared_folder_is_not_prepared_into(tiny_config, tiny_blocks):
    inside = merge(tiny_config, {"data": {"blocks": str(tiny_blocks)}})
    with pytest.raises(ValueError, match="is a prepared folder itself; to prepare give the folder"):
        prepare(inside, fail_if_called)


# ---- finding


def test_a_prepared_folder_can_be_named_itself(tiny_config, tiny_blocks, caplog):
    named = merge(tiny_config, {"data": {"blocks": str(tiny_blocks)}})
    assert find_blocks(named) == tiny_blocks
    assert not caplog.messages
    assert find_blocks(merge(named, {"prepare": {"seed": 5}})) == tiny_blocks
    assert "this prepare section has no effect" in caplog.text


def test_shards_of_another_prepare_section_are_not_taken(tiny_config, tiny_blocks):
    other = merge(tiny_config, {"prepare": {"seed": 99}})
    with pytest.raises(ValueError, match=r"no shards made by this prepare section.*jobs\.prepare"):
        find_blocks(other)


def test_of_two_worlds_the_one_under_root_is_taken(copied, root, tiny_blocks):
    config, folder = copied
    name = "AnoVox_Normality_Mono_Town03"
    removed = sorted((root / name).glob("Scenario_*-*/RGB-CAM*/*.png"))[0]
    removed.unlink()
    other = merge(config, {"data": {"root": str(root)}})
    prepare(other, quiet)
    assert find_blocks(config) == folder
    assert find_blocks(other) != folder
