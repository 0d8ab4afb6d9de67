from pipeline.data.prepare.quarantine import Quarantined, ReasonCount, count_reasons
from pipeline.datasets.anovox.dataset import AnoVox

FOLDER = "LIDAR(0, 0, 1.8)(0, 0, 0)_7"
PATH = f"/data/AnoVox_Static_Mono_Town03/Scenario_x/{FOLDER}/{FOLDER}"


def bad(frame_id: int | None, reason: str) -> Quarantined:
    return Quarantined(
        archive="AnoVox_Static_Mono_Town03",
        scene_id="x",
        pose="" if frame_id is None else "(0, 0, 1.8)(0, 0, 0)",
        frame_id=frame_id,
        reason=reason,
    )


def counted(reasons: list[Quarantined]) -> list[ReasonCount]:
    return count_reasons(reasons, file_sources=AnoVox.file_sources)


def test_reasons_that_differ_in_numbers_alone_are_one_kind_and_the_frequent_come_first():
    counts = counted(
        [
            bad(None, "/data/Scenario_y: no folder LIDAR; re-extract the archive"),
            bad(8, f"{PATH}_8.npy: it has 40 bytes, but its header promises 1600; re-extract"),
            bad(9, f"{PATH}_9.npy: it has 0 bytes, but its header promises 1584; re-extract"),
        ]
    )
    assert [count.kind for count in counts] == [
        "LIDAR: it has N bytes, but its header promises N",
        "scene: no folder LIDAR",
    ]
    assert [(count.num_frames, count.num_whole) for count in counts] == [(2, 0), (0, 1)]
    assert counts[0].example.startswith(f"{PATH}_8.npy: it has 40 bytes")


def test_the_two_clouds_are_told_apart_and_nothing_is_lost():
    semantic = PATH.replace("LIDAR", "SEMANTIC-LIDAR")
    reasons = [
        bad(n, f"{path}_{n}.npy: it holds nan; x") for n, path in enumerate((PATH, semantic))
    ]
    counts = counted(reasons)
    assert {count.kind for count in counts} == {
        "LIDAR: it holds nan",
        "SEMANTIC-LIDAR: it holds nan",
    }
    assert counted([]) == []
