import json
import subprocess
import sys
from pathlib import Path


def synthesize(*overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.synthesize", *overrides]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_last_line_is_json_with_root_and_counts(tmp_path: Path) -> None:
    size = ("synthetic.image_width=64", "synthetic.image_height=48", "synthetic.num_channels=8")
    count = ("synthetic.num_scenes=1", "synthetic.num_frames=1", "synthetic.towns=[Town05]")
    done = synthesize(f"data.root={tmp_path}", *size, *count)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["status"] == "finished"
    assert result["root"] == str(tmp_path)
    assert (result["num_scenes"], result["num_frames"]) == (1, 1)
    assert (tmp_path / "AnoVox_Normality_Mono_Town05").is_dir()
    assert "1/1 frames" in done.stderr


def test_a_root_of_another_world_fails_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "AnoVox_Static_Mono_Town07").mkdir()
    done = synthesize(f"data.root={tmp_path}")
    assert done.returncode == 1
    assert "scenes of two worlds must not mix" in done.stderr
    assert "Traceback" not in done.stderr
