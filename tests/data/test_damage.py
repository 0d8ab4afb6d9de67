"""Every kind of damage to every kind of file: quarantined or refused in one sentence, never read.

The frames beside the damaged one must come out bit for bit as from the undamaged archive.
"""

import hashlib
import io
import pickle
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.prepare.index import Index, scan
from pipeline.data.prepare.plan import ShardPlan
from pipeline.data.prepare.prepare import PrepareWork, write_planned
from pipeline.data.prepare.quarantine import Quarantined
from pipeline.data.prepare.scene_rules import find_rules
from pipeline.data.schema import METADATA_NAMES
from pipeline.data.shards import open_shard
from pipeline.datasets.anovox.dataset import AnoVox
from tests.helpers.anovox_archive import write_archive

FRAME_IDS = (998, 999, 1000)
DAMAGED_ID = 999
FILES = {
    "RGB": "RGB-CAM(*/*_{id}.png",
    "depth": "DEPTH_CAM(*/*_{id}.png",
    "semantic": "SEMANTIC-CAM(*/*_{id}.png",
    "lidar": "LIDAR(*/*_{id}.npy",
    "semantic lidar": "SEMANTIC-LIDAR(*/*_{id}.npy",
    "voxels": "VOXEL_GRID/*_{id}.npy",
    "anomaly": "ANOMALY/*_{id}.csv",
    "action": "ACTION/*_{id}.csv",
    "setup": "sensor_setup.json",
}


def damage_array(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    np.save(path, change(np.load(path)), allow_pickle=True)


def poisoned(value: float) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        table = np.load(path)
        if not np.issubdtype(table.dtype, np.floating):
            table = table.astype(np.float64)
        table[len(table) // 2, 1] = value
        np.save(path, table)

    return apply


def huge_header(path: Path) -> None:
    """A header that promises 10^12 rows, as a hostile file would to exhaust memory."""
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 4), }"
    body = header.encode().ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body)) + body)


def huge_png(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 2**30, 2**30)
    path.write_bytes(content)


def other_mode(path: Path) -> None:
    with Image.open(path) as image:
        converted = image.convert("RGBA" if image.mode == "RGB" else "RGB")
    converted.save(path)


def other_size(path: Path) -> None:
    with Image.open(path) as image:
        smaller = image.crop((0, 0, image.width - 1, image.height))
    smaller.save(path)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"shape": (3, 4)}))


def object_array(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def truncated(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def grown(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * 40)


def text_value(key: str, value: str) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        lines = path.read_text().splitlines()
        assert any(line.startswith(f"{key} ; ") for line in lines), key
        told = [f"{key} ; {value}" if line.startswith(f"{key} ; ") else line for line in lines]
        path.write_text("\n".join(told) + "\n")

    return apply


def in_setup(old: str, new: str) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return apply


ANY = {
    "absent": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": truncated,
    "pickled": pickled,
    "zeros": lambda path: path.write_bytes(b"\0" * path.stat().st_size),
}
ARRAY = ANY | {
    "grown": grown,
    "other dtype": lambda path: damage_array(path, lambda a: a.astype(np.int64)),
    "other shape": lambda path: damage_array(path, lambda a: a[:, :3]),
    "one dimension": lambda path: damage_array(path, lambda a: a.reshape(-1)),
    "no rows": lambda path: damage_array(path, lambda a: a[:0]),
    "nan": poisoned(np.nan),
    "infinite": poisoned(np.inf),
    "object array": object_array,
    "huge header": huge_header,
}
PNG = ANY | {
    "other mode": other_mode,
    "other size": other_size,
    "huge header": huge_png,
    "an array": lambda path: np.save(path.open("wb"), np.zeros((4, 4))),
}
TEXT = ANY | {
    "binary": lambda path: path.write_bytes(b"\xff\xfe\x00key"),
    "another frame's": text_value("frame_id", "1000"),
    "huge": lambda path: path.write_bytes(b"a ; 1\n" * 400_000),
}
SETUP = {name: ANY[name] for name in ("empty", "truncated", "pickled", "zeros")} | {
    "nan": in_setup("90.0", "NaN"),
    "infinite": in_setup("100.0", "Infinity"),
    "other type": in_setup("90.0", '"ninety"'),
    "other shape": in_setup('"rotation": [0, 0, 0]', '"rotation": [0, 0]'),
    "huge number": in_setup("90.0", "9" * 400),
    "deep": lambda path: path.write_text("[" * 100_000),
}
MATRIX = {
    "nan": text_value("lidar transformation matrix", "[[nan, 0, 0, 0]]"),
    "other shape": text_value("lidar transformation matrix", "[[1.0, 0.0]]"),
}
PLACE = {"nan": text_value("location", "(nan, 0, 0)"), "shape": text_value("location", "(1, 2)")}
MATRIX_OF = {
    "RGB": PNG,
    "depth": PNG,
    "semantic": PNG,
    "lidar": ARRAY,
    "semantic lidar": ARRAY,
    "voxels": ARRAY,
    "anomaly": TEXT | PLACE,
    "action": TEXT | MATRIX,
    "setup": SETUP,
}
CASES = [(file, damage) for file, damages in MATRIX_OF.items() for damage in damages]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static and a normality archive of one scene of three frames each."""
    root = tmp_path_factory.mktemp("whole")
    write_archive(root, frame_ids=FRAME_IDS)
    write_archive(
        root,
        name="AnoVox_Normality_Mono_Town07",
        scene_ids=["debde713-4da4-400b-816c-b10c28a14861"],
        frame_ids=FRAME_IDS,
    )
    return root


@pytest.fixture(scope="module")
def undamaged(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple, str]:
    hashes, quarantined, _ = prepared(whole, tmp_path_factory.mktemp("blocks"))
    assert (len(hashes), quarantined) == (6, [])
    return hashes


def prepared(root: Path, folder: Path) -> tuple[dict[tuple, str], list[Quarantined], Index]:
    """Hash of every accepted row by (archive, frame id), all that was left out, and the index."""
    place = {"root": str(root), "blocks": str(folder)}
    config = merge(Config(), {"data": place, "prepare": {"image_width": 24}})
    index = scan(root)
    rules, refused = find_rules(index.scenes.values(), config.prepare, AnoVox())
    assert refused == {}
    frames = tuple((key, f) for key, scene in index.scenes.items() for f in scene.frame_ids)
    plan = ShardPlan(split="train", name="shard.arrow", frames=frames)
    work = PrepareWork(
        source=AnoVox(),
        folder=folder,
        plans=(plan,),
        scenes=index.scenes,
        rules=rules,
        config=config,
    )
    written = write_planned(work, plan)
    block = open_shard(folder, written.shard)
    return _row_hashes(block), [*index.quarantined, *written.quarantined], index


def _row_hashes(block: pa.RecordBatch) -> dict[tuple, str]:
    keys = block.select(["archive", "frame_id"]).to_pylist()
    hashes: dict[tuple, str] = {}
    for row, key in enumerate(keys):
        sink = io.BytesIO()
        one = block.take(pa.array([row]))  # a copy, so that offsets begin at 0
        with pa.ipc.new_stream(sink, one.schema) as writer:
            writer.write_batch(one)
        hashes[tuple(key.values())] = hashlib.sha256(sink.getvalue()).hexdigest()
    return hashes


@pytest.mark.parametrize(("file", "damage"), CASES)
def test_damage_is_quarantined_in_one_sentence_and_leaves_the_rest_as_it_was(
    whole: Path, undamaged: Mapping[tuple, str], tmp_path: Path, file: str, damage: str
):
    root = tmp_path / "anovox"
    shutil.copytree(whole, root)
    static = root / "AnoVox_Static_Mono_Town03"
    (path,) = static.glob(f"Scenario_*/{FILES[file].format(id=DAMAGED_ID)}")
    before = {p: p.stat().st_size for p in tmp_path.rglob("*")}
    MATRIX_OF[file][damage](path)
    hashes, (bad,), index = prepared(root, tmp_path / "blocks")
    lost = {
        ("AnoVox_Static_Mono_Town03", f) for f in FRAME_IDS if file == "setup" or f == DAMAGED_ID
    }
    assert hashes == {key: value for key, value in undamaged.items() if key not in lost}
    assert index.num_found == len(hashes) + (0 if file == "setup" else 1)
    assert (bad.archive, bad.frame_id) == (static.name, None if file == "setup" else DAMAGED_ID)
    assert bad.reason.startswith(str(path.parent if damage == "absent" else path)) or (
        damage == "absent" and bad.reason.startswith(str(path.parent.parent))
    )
    assert "\n" not in bad.reason
    assert len(bad.reason) < 600
    assert {p for p in before if not p.exists()} <= {path}


def test_no_metadata_of_a_row_depends_on_the_folder_that_holds_the_archive(
    undamaged: Mapping[tuple, str], whole: Path, tmp_path: Path
):
    elsewhere = shutil.copytree(whole, tmp_path / "elsewhere")
    hashes, _, _ = prepared(Path(elsewhere), tmp_path / "blocks")
    assert hashes == undamaged
    assert "root" not in METADATA_NAMES
