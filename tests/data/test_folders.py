"""Which prepared folder `data.blocks` means: one rule, on a disk as on object storage."""

import json
import shutil
from pathlib import Path

import pyarrow.fs as pa_fs
import pytest

from pipeline.config.load import load, merge
from pipeline.config.schema import Config
from pipeline.data.folders import SOURCES, note_source
from pipeline.data.manifest import MANIFEST, read_manifest
from pipeline.data.prepare.prepare import find_blocks, prepare
from pipeline.data.readers import open_reader
from tests.helpers.s3_server import running_s3


def quiet(*_: object) -> None:
    pass


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder of this host that stands for `data.root`: no job but prepare looks into it."""
    root = tmp_path / "anovox"
    root.mkdir()
    return root


@pytest.fixture
def config(here: Path, tmp_path: Path) -> Config:
    """The defaults, with places of their own."""
    places = {"root": str(here), "blocks": str(tmp_path / "blocks")}
    return merge(Config(), {"data": places | {"cache": str(tmp_path / "cache")}})


@pytest.fixture
def add(random_row, write_prepared, tmp_path: Path, here: Path):
    """`add(name, **facts)`: a prepared folder of `config`, with other facts in its manifest."""

    def made(name: str, **facts: object) -> Path:
        rows = [random_row(i, 5 + i) for i in range(3)]
        folder = write_prepared(
            tmp_path / "blocks" / name, {"train": [rows[:2]], "val": [rows[2:]]}
        )
        known = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps(known | {"root": str(here)} | facts))
        for extra in ("splits.json", "quarantine.json"):
            (folder / extra).write_text("{}")
        return folder

    return made


@pytest.fixture(params=["", "file://"])
def found(request, config: Config, tmp_path: Path):
    """`found(inside="", **changes)`: name of the folder that is chosen, by path and by URI."""

    def chosen(inside: str = "", **changes: object) -> str:
        place = f"{request.param}{tmp_path}/blocks{inside}"
        return find_blocks(merge(config, {"data": {"blocks": place} | changes})).name

    return chosen


def test_the_only_fitting_folder_is_found_in_its_parent_and_by_its_own_name(add, found):
    add("abc")
    add("other", prepare={"seed": 99})
    assert found() == found("/abc") == found("/abc/") == "abc"


def test_shards_of_another_root_are_refused_where_that_root_is_here(add, found, tmp_path: Path):
    add("abc", root="/mnt/elsewhere")
    with pytest.raises(ValueError, match=r"but from /mnt/elsewhere, not from data\.root=.*anovox"):
        found()
    assert found(root=str(tmp_path / "not-there")) == "abc"
    assert found("/abc") == "abc"


def test_a_named_folder_of_another_root_is_taken_with_a_warning(add, found, caplog):
    add("abc", root="/mnt/elsewhere")
    assert found("/abc") == "abc"
    assert "was made from /mnt/elsewhere, not from data.root=" in caplog.text


def test_of_folders_of_one_root_the_one_prepared_last_is_taken(add, found, config: Config, caplog):
    caplog.set_level("INFO")
    one, two = add("one"), add("two")
    with pytest.raises(ValueError, match=r"holds 2 folders .* \(one, two\), and nothing says"):
        found()
    note_source(config, one)
    note_source(config, two)
    assert found() == "two"
    note_source(config, one)
    assert found() == "one"
    assert "2 folders in" in caplog.text
    assert "using the last one" in caplog.text


def test_shards_of_other_poses_are_not_taken(add, found, config: Config):
    note_source(merge(config, {"data": {"poses": ["(0, 0, 1.8)(0, 0, 0)"]}}), add("abc"))
    assert found(poses=["(0, 0, 1.8)(0, 0, 0)"]) == "abc"
    with pytest.raises(ValueError, match=r"not from data\.root="):
        found()


def test_of_several_folders_for_a_root_that_is_not_here_none_is_guessed(add, found, tmp_path: Path):
    add("one", root="/mnt/one")
    add("two", root="/mnt/two")
    with pytest.raises(ValueError, match=r"holds 2 folders made by this prepare section"):
        found(root=str(tmp_path / "not-there"))


def test_an_empty_folder_says_so(found, tmp_path: Path):
    (tmp_path / "blocks" / "nothing").mkdir(parents=True)
    (tmp_path / "blocks" / "nothing" / "note").write_text("")
    with pytest.raises(ValueError, match=r"holds no shards made by this prepare .* \(0 made other"):
        found()


def test_a_folder_that_is_what_the_config_means_is_not_written_again(add, config: Config):
    folder = add("abc")
    note_source(config, folder)
    before = (folder / SOURCES).stat().st_mtime_ns
    note_source(config, folder)
    assert (folder / SOURCES).stat().st_mtime_ns == before


# ---- prepared by the job itself


@pytest.fixture(scope="module")
def default_world(ray_session, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A small world under the default prepare section, prepared."""
    from pipeline.synthetic.writer import write_archives

    place = tmp_path_factory.mktemp("default")
    overrides = [f"data.root={place}/anovox", f"data.blocks={place}/blocks"]
    sizes = ["num_scenes=16", "num_frames=2", "points_per_second=20000", "num_channels=16"]
    config = load(None, [*overrides, *(f"synthetic.{size}" for size in sizes)])
    write_archives(config.synthetic, place / "anovox", None)
    prepare(config, quiet)
    return config


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["file", "s3"])
def test_default_shards_copied_to_a_bucket_are_opened_from_there(
    default_world: Config, scheme: str, tmp_path: Path
):
    local = Path(default_world.data.blocks)
    with running_s3() as runs:
        address, _, query = runs.partition("?")
        place = f"{address}/blocks?{query}" if scheme == "s3" else f"file://{tmp_path}/copy"
        filesystem, path = pa_fs.FileSystem.from_uri(place)
        pa_fs.copy_files(str(local), path, pa_fs.LocalFileSystem(), filesystem)
        root = f"data.root={default_world.data.root}"
        config = load(None, [f"data.blocks={place}", f"data.cache={tmp_path}/cache", root])
        folder = find_blocks(config)
        assert folder.name == find_blocks(default_world).name
        assert folder.parent == tmp_path / "cache"
        reader = open_reader(config, folder, "train", num_sweeps=1, say=quiet)
    rows = [shard.num_rows for shard in read_manifest(folder).shards_of("train")]
    assert reader.num_rows == sum(rows) > 0


@pytest.fixture
def own_world(tiny_config: Config, tiny_root: Path, tmp_path: Path) -> Config:
    """The tiny world's config with a root of its own, prepared."""
    root = Path(shutil.copytree(tiny_root, tmp_path / "anovox"))
    config = merge(tiny_config, {"data": {"root": str(root), "blocks": str(tmp_path / "blocks")}})
    prepare(config, quiet)
    return config


def test_the_input_is_not_looked_at_again(own_world: Config):
    folder = find_blocks(own_world)
    root = Path(own_world.data.root)
    shutil.rmtree(root)
    root.mkdir()
    assert find_blocks(own_world) == folder


def test_prepare_says_that_the_input_has_changed_and_goes_back_with_it(own_world: Config, caplog):
    caplog.set_level("INFO")
    first = find_blocks(own_world)
    removed = next(Path(own_world.data.root).rglob("VOXEL_GRID/*.npy"))
    content = removed.read_bytes()
    removed.unlink()
    assert find_blocks(own_world) == first
    prepare(own_world, quiet)
    second = find_blocks(own_world)
    assert second != first
    assert f"has changed since {first} was prepared (48 frames then, 48 now)" in caplog.text
    removed.write_bytes(content)
    prepare(own_world, quiet)
    assert find_blocks(own_world) == first


def test_a_root_that_was_moved_is_known_again_by_its_content(own_world: Config, tmp_path: Path):
    folder = find_blocks(own_world)
    moved = Path(own_world.data.root).rename(tmp_path / "moved")
    config = merge(own_world, {"data": {"root": str(moved)}})
    with pytest.raises(ValueError, match=r"not from data\.root=.*moved; run jobs\.prepare with"):
        find_blocks(config)
    prepare(config, quiet)
    assert find_blocks(config) == folder
    assert {one["root"] for one in json.loads((folder / SOURCES).read_text())} == {
        own_world.data.root,
        str(moved),
    }
