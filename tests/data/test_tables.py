"""What lies beside the shards can be read without this program: pandas and json suffice."""

import json
import subprocess
import sys
from pathlib import Path

READ = """
import json, sys
from pathlib import Path
import pandas as pd

folder = Path(sys.argv[1])
index, manifest = pd.read_parquet(folder / "index.parquet"), json.loads(
    (folder / "manifest.json").read_text()
)
assert not any(name.split(".")[0] in ("pipeline", "torch", "ray") for name in sys.modules)
print(json.dumps({
    "columns": {name: str(kind) for name, kind in index.dtypes.items()},
    "places": index[["split", "shard", "row_in_shard", "frame_id"]].values.tolist(),
    "image": manifest["prepare"]["image"],
    "rows": sum(shard["num_rows"] for shard in manifest["shards"]),
}))
"""


def test_index_and_manifest_are_read_by_pandas_and_json_alone(
    tmp_path: Path, random_row, write_prepared
):
    rows = [random_row(i, 3) for i in range(3)]
    folder = write_prepared(tmp_path / "abc", {"train": [rows[:2]], "val": [rows[2:]]})
    done = subprocess.run(
        [sys.executable, "-c", READ, str(folder)],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    facts = json.loads(done.stdout)
    assert facts["places"] == [
        ["train", "shard-00000.arrow", 0, 995],
        ["train", "shard-00000.arrow", 1, 996],
        ["val", "shard-00000.arrow", 0, 997],
    ]
    assert facts["rows"] == 3
    assert facts["image"] == "raw"
    assert "object" not in facts["columns"].values()
    assert facts["columns"]["num_points"] == "int32"
