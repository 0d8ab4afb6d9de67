import ast
import dataclasses
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.load import absolute_paths, flatten, load, merge, to_dict
from pipeline.config.model import FUSIONS
from pipeline.config.schema import Config
from tests.helpers.repository import REPOSITORY

SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"


@pytest.fixture(autouse=True)
def not_a_submitted_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SUBMITTED, raising=False)


def yaml_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(*overrides: str) -> str:
    """The sentence with which the overrides are refused."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the caller checks the sentence
        load(None, overrides)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


# ---- merging


def test_an_override_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    path = yaml_file(tmp_path, "train:\n  lr: 0.01\n  batch_size: 8\n")
    config = load(path, ["train.lr=0.5"])
    assert (config.train.lr, config.train.batch_size) == (0.5, 8)
    assert config.train.num_epochs == Config().train.num_epochs


def test_the_last_of_two_overrides_of_one_key_wins() -> None:
    assert load(None, ["train.lr=0.1", "train.lr=0.2"]).train.lr == 0.2


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.lr=1e-3", 1e-3),
        ("train.lr=1", 1.0),
        ("train.num_epochs=3", 3),
        ("train.augment=false", False),
        ("prepare.image_crop=[0.25,0.75]", [0.25, 0.75]),
        ("ablate.variants=[full]", ["full"]),
        ("data.zenodo_record=10888190", "10888190"),
        ("tracking.experiment=a=b", "a=b"),
    ],
)
def test_overrides_get_the_type_of_their_field(override: str, value: object) -> None:
    config = load(None, [override])
    found = flatten(config)[override.split("=")[0]]
    assert found == value
    assert type(found) is type(value)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load(yaml_file(tmp_path, "")) == load(None)


def test_rules_hold_for_the_whole_merge_not_for_each_step() -> None:
    both = ["loss.name=prior_self_supervised", "model.name=simple"]
    assert load(None, both).model.name == "simple"


# ---- refusals


@pytest.mark.parametrize(
    ("without", "others"),
    [("model.fusion=lidar_only", []), ("model.name=simple", ["loss.name=prior_self_supervised"])],
)
def test_a_pixel_head_needs_a_camera(without: str, others: list[str]) -> None:
    sentence = f"model.pixel_head=true scores pixels, for which {without} has no image map"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        load(None, ["model.pixel_head=true", without, *others])


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.lrr=1", "unknown key 'train.lrr'; did you mean 'train.lr'?"),
        ("lr=1", "unknown key 'lr'; did you mean 'train.lr'?"),
        ("model.fuson=concat", "unknown key 'model.fuson'; did you mean 'model.fusion'?"),
        ("train={lr: 1}", "unknown key 'train'; did you mean 'train.lr'?"),
        ("train.lr", "override 'train.lr' has no '='; write it as key.path=value"),
        ("train.lr=fast", "train.lr: Value 'fast' of type 'str' could not be converted to Float"),
        ("train.batch_size=2.5", "train.batch_size: Value '2.5' of type 'float' could not be"),
        ("train.batch_size=true", "train.batch_size: Value 'True' of type 'bool' could not be"),
        ("train.lr=null", "train.lr: Incompatible value 'None' for field of type 'float'"),
        ("loss.name=hinge", "loss.name: Invalid value 'hinge', expected one of ['focal', 'bce', "),
        ("data.root=[a", "data.root=[a is not YAML"),
        ("data.root=${oc.env:HOME}", "data.root=${oc.env:HOME} holds '${': no interpolation here"),
    ],
)
def test_a_mistake_is_one_sentence(override: str, sentence: str) -> None:
    assert refused(override).startswith(sentence)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("synthetic.num_scenes=0", "synthetic.num_scenes is 0; it must be a finite number >= 1"),
        ("synthetic.image_width=8", "synthetic.image_width is 8; it must be a finite number >= 32"),
        (
            "synthetic.kinds=[parked]",
            "synthetic.kinds holds 'parked'; legal values are normality, static, dynamic",
        ),
        ("synthetic.kinds=[]", "synthetic.kinds is empty"),
        ("synthetic.towns=[]", "synthetic.towns is empty"),
        ("synthetic.seed=-1", "synthetic.seed is -1"),
        ("data.shuffle_shards=0", "data.shuffle_shards is 0"),
        ("data.ego_box_m=[1]", "data.ego_box_m is [1.0]; it takes two lengths"),
        ("data.ego_box_m=[-1,1]", "data.ego_box_m is [-1.0, 1.0]; it takes two lengths"),
        ("data.archives=[a.zip]", "data.archives holds 'a.zip'; it takes .tar.gz files"),
        ("data.md5=[abc]", "data.md5 holds 'abc'; an md5 is 32 digits"),
        (f"data.md5=[{'a' * 32}]", "data.md5 has 1 entries for 0 of data.archives"),
        (
            "data.zenodo_record=10.5281/zenodo.1",
            "data.zenodo_record is '10.5281/zenodo.1'; it takes the number",
        ),
        ("data.zenodo_url=file:///etc", "data.zenodo_url is 'file:///etc'; it takes an http"),
        ("data.max_retries=-1", "data.max_retries is -1"),
        ("data.retry_wait_s=-1", "data.retry_wait_s is -1.0"),
        ("data.stall_s=0", "data.stall_s is 0.0; it must be a finite number > 0"),
        ("data.max_unpacked_gb=0", "data.max_unpacked_gb is 0.0"),
        ("data.max_members=0", "data.max_members is 0"),
        ("data.max_ratio=0.5", "data.max_ratio is 0.5"),
        ("prepare.image_crop=[0.5]", "prepare.image_crop is [0.5]; it takes two fractions"),
        ("prepare.image_crop=[0.9,0.1]", "prepare.image_crop is [0.9, 0.1]"),
        ("prepare.val_fraction=0", "prepare.val_fraction and prepare.test_fraction must be > 0"),
        ("prepare.val_fraction=0.9", "prepare.val_fraction + prepare.test_fraction is 1.2"),
        ("model.image_stages=5", "model.image_stages is 5; it takes 2, 3 or 4"),
        ("model.dropout=1", "model.dropout is 1.0"),
        ("loss.pixel_weight=0", "loss.pixel_weight is 0.0; it must be a finite number > 0"),
        ("model.pillar_size_m=0", "model.pillar_size_m is 0.0; it must be > 0"),
        ("model.pillar_range_m=[1,2]", "model.pillar_range_m is [1.0, 2.0]; it takes x_min"),
        ("model.pillar_range_m=[9,1,0,1]", "model.pillar_range_m is [9.0, 1.0, 0.0, 1.0]"),
        ("loss.focal_alpha=1", "loss.focal_alpha is 1.0"),
        ("loss.frame_weight=-1", "loss.frame_weight is -1.0"),
        ("loss.frame_weight=.nan", "loss.frame_weight is nan"),
        ("loss.name=prior_self_supervised", "loss.name=prior_self_supervised does not go with"),
        ("model.name=simple", "loss.name=focal does not go with model.name=simple"),
        ("train.lr=0", "train.lr is 0.0; it must be a finite number > 0"),
        ("train.lr=.inf", "train.lr is inf"),
        ("train.seed=-1", "train.seed is -1"),
        ("health_checks.no_signal_margin=-1", "health_checks.no_signal_margin is -1.0"),
        ("scaling.num_workers=-1", "scaling.num_workers is -1"),
        ("scaling.num_workers=5", "train.batch_size=4 is smaller than scaling.num_workers=5"),
        ("scaling.cpus_per_worker=0", "scaling.cpus_per_worker and scaling.start_timeout_s must"),
        ("evaluation.num_bootstraps=5", "evaluation.num_bootstraps is 5"),
        ("ablate.variants=[]", "ablate.variants is empty"),
        ("tracking.uri=mlruns", "tracking.uri is 'mlruns'; it takes a database or a server"),
    ],
)
def test_a_broken_rule_is_one_sentence_with_key_and_value(override: str, sentence: str) -> None:
    assert refused(override).startswith(sentence)


def test_a_synthetic_world_too_small_for_what_it_is_to_hold_is_refused() -> None:
    short = refused("synthetic.kinds=[static,dynamic]", "synthetic.num_frames=19")
    assert short.startswith("synthetic.num_frames is 19; dynamic scenes need 20 or more")
    few = refused("synthetic.irregular=true", "synthetic.num_scenes=3")
    assert few.startswith("synthetic.irregular=true with 3 scenes of 20 frames; it needs 4 or more")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("train:\n  lrr: 1\n", "unknown key 'train.lrr'; did you mean 'train.lr'?"),
        ("trian: {}\n", "trian: Key 'trian' not in 'Config'. Did you mean one of: 'train'"),
        ("- a\n", "config file {path} is not a mapping of sections"),
        ("train: {lr: [}\n", "{path} is not YAML: "),
        ("train:\n  lr: 1\n  lr: 2\n", "{path} is not YAML: found duplicate key lr in line 3"),
        ("data:\n  root: ${oc.env:HOME}\n", "{path} holds '${{': no interpolation here"),
    ],
)
def test_a_mistake_in_a_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = yaml_file(tmp_path, text)
    with pytest.raises(ValueError) as caught:  # noqa: PT011  checked in the next lines
        load(path)
    assert str(caught.value).startswith(sentence.format(path=path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["train.sparse_backend=spconv", "model.lidar_backbone=cylinder3d"],
            "train.sparse_backend=spconv trains sparse convolutions on CUDA; set model.lidar_back",
        ),
        (
            ["train.sparse_backend=spconv", "scaling.use_gpu=true"],
            "train.sparse_backend=spconv trains sparse convolutions on CUDA; set model.lidar_back",
        ),
        (["prepare.jpeg_quality=0"], "prepare.jpeg_quality is 0; it takes 1 to 100"),
        (["data.num_sweeps=0"], "data.num_sweeps is 0; it must be a finite number >= 1"),
        (
            ["data.num_sweeps=3", "data.reader=stream"],
            "data.num_sweeps=3 needs earlier frames, which lie in other shards",
        ),
        (
            ["data.num_sweeps=2", "model.fusion=camera_only"],
            "data.num_sweeps=2 gives past clouds, which the model camera_only cannot tell",
        ),
        (
            ["data.num_sweeps=2", "model.name=simple", "loss.name=prior_self_supervised"],
            "data.num_sweeps=2 gives past clouds, which the model simple cannot tell",
        ),
        (
            ["data.reader=stream", "train.checkpoint_every_n_steps=5"],
            "data.reader=stream goes on at the start of an epoch only, so train.checkpoint_every",
        ),
        (
            ["augment.rotation_rad=0.1"],
            "augment.rotation_rad=0.1 changes the cloud but not the image; use it with model.fus",
        ),
        (
            ["augment.scale=0.1", "model.fusion=camera_only"],
            "augment.scale=0.1 changes the cloud but not the image",
        ),
        (["augment.point_dropout=1"], "augment.point_dropout is 1.0; it takes 0 <= point_dropout"),
        (
            ["augment.point_dropout=0.1", "train.augment=false"],
            "the augment section has no effect with train.augment=false",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_one_sentence(
    overrides: list[str], sentence: str
) -> None:
    assert refused(*overrides).startswith(sentence)


def test_a_cloud_may_be_turned_where_no_camera_looks() -> None:
    config = load(None, ["augment.rotation_rad=0.1", "model.fusion=lidar_only"])
    assert config.augment.rotation_rad == 0.1


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml does not exist; give --config"):
        load(tmp_path / "none.yaml")


def test_a_config_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().train.lr = 1.0  # type: ignore[misc]


# ---- round trips


@settings(max_examples=15, deadline=None)
@given(
    lr=st.floats(1e-9, 1e3),
    seed=st.integers(0, 2**31),
    augment=st.booleans(),
    fusion=st.sampled_from(list(FUSIONS)),
    towns=st.lists(st.text("TownHD0123", min_size=1), min_size=1),
    name=st.text(st.characters(blacklist_characters="$", blacklist_categories=["Cs"])),
)
def test_a_config_survives_to_dict_and_merge(
    lr: float, seed: int, augment: bool, fusion: str, towns: list[str], name: str
) -> None:
    changed = merge(
        Config(),
        {
            "train": {"lr": lr, "seed": seed, "augment": augment},
            "model": {"fusion": fusion},
            "synthetic": {"towns": towns},
            "tracking": {"run_name": name},
        },
    )
    assert merge(Config(), to_dict(changed)) == changed
    assert changed.train.lr == lr
    assert changed.tracking.run_name == name


def test_a_flat_config_has_the_keys_of_the_overrides() -> None:
    flat = flatten(Config())
    assert flat["train.lr"] == Config().train.lr
    assert flat["storage_path"] == "runs"
    assert load(None, [f"{key}={flat[key]}" for key in ("train.lr", "loss.focal_gamma")])


# ---- paths


def test_local_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(
        None,
        [
            "train.resume=runs/a",
            "evaluation.checkpoint=b",
            "model.image_weights=w.safetensors",
            "data.archives=[a.tar.gz, /b.tar.gz]",
        ],
    )
    assert config.storage_path == str(tmp_path / "runs")
    assert config.data.root == str(tmp_path / "data" / "anovox")
    assert config.data.blocks == str(tmp_path / "data" / "blocks")
    assert config.data.archives == [str(tmp_path / "a.tar.gz"), "/b.tar.gz"]
    assert config.train.resume == str(tmp_path / "runs" / "a")
    assert config.evaluation.checkpoint == str(tmp_path / "b")
    assert config.model.image_weights == str(tmp_path / "w.safetensors")
    assert config.tracking.uri == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_place_that_is_read_locally_may_not_be_remote() -> None:
    with pytest.raises(ValueError, match=r"data.root=s3://bucket/anovox is remote storage"):
        load(None, ["data.root=s3://bucket/anovox"])


def test_home_remote_and_empty_paths_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    config = load(
        None,
        ["data.root=~/anovox", "tracking.uri=http://host:5000"],
    )
    assert config.data.root == "/home/someone/anovox"
    assert config.tracking.uri == "http://host:5000"
    assert (config.train.resume, config.model.image_weights) == ("", "none")


def test_making_paths_absolute_twice_changes_nothing() -> None:
    once = load(None)
    assert absolute_paths(once) == once


def test_a_submitted_ray_job_refuses_relative_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SUBMITTED, "{}")
    assert refused().startswith("storage_path=runs is relative, but a submitted Ray job runs in a")
    absolute = ["storage_path=/runs", "data.root=/data", "data.blocks=/blocks"]
    assert refused(*absolute).startswith("tracking.uri=mlflow.db is relative")
    config = load(None, [*absolute, "tracking.uri=sqlite:////mlflow.db"])
    assert config.tracking.uri == "sqlite:////mlflow.db"


def test_the_variable_that_marks_a_submitted_job_is_rays_own() -> None:
    supervisor = pytest.importorskip("ray.dashboard.modules.job.job_supervisor")
    # The supervisor starts every submitted driver with this variable in its environment.
    assert supervisor.RAY_JOB_CONFIG_JSON_ENV_VAR == SUBMITTED
    source = Path(supervisor.__file__).read_text(encoding="utf-8")
    assert "RAY_JOB_CONFIG_JSON_ENV_VAR: json.dumps(" in source


def test_a_single_value_for_a_list_is_a_list_of_one() -> None:
    pose = "(0, 0, 1.8)(0, 0, 0)"
    loaded = load(None, ["data.archives=/dl/a.tar.gz", f"data.poses={pose}"])
    assert loaded.data.archives == ["/dl/a.tar.gz"]
    assert loaded.data.poses == [pose]
    assert load(None, ["synthetic.towns=Town03"]).synthetic.towns == ["Town03"]
    two = load(None, ["synthetic.kinds=[static,dynamic]", "synthetic.num_frames=30"])
    assert two.synthetic.kinds == ["static", "dynamic"]


# ---- the files


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda p: p.name
)
def test_every_config_file_loads_and_opens_with_the_command_that_runs_it(path: Path) -> None:
    assert load(path) != load(None)
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert "python -m jobs." in first or "make " in first


SECTIONS = [
    REPOSITORY / "pipeline" / "config" / f"{name}.py"
    for name in ("schema", "data", "model", "run", "experiments")
]


def section_fields() -> Iterator[tuple[str, str, str]]:
    """Class, field, and the docstring under it (empty without one)."""
    trees = [ast.parse(path.read_text("utf-8")) for path in SECTIONS]
    for node in (node for tree in trees for node in tree.body):
        if isinstance(node, ast.ClassDef):
            for line, below in zip(node.body, [*node.body[1:], None], strict=True):
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    yield node.name, line.target.id, docstring(below)


def docstring(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return str(node.value.value)
    return ""


@pytest.mark.parametrize(("section", "field", "text"), list(section_fields()))
def test_every_field_says_what_it_is(section: str, field: str, text: str) -> None:
    if section == "Config" and field != "storage_path":
        return  # a section; its class has the docstring
    assert text.endswith((".", ")")), f"{section}.{field} has no docstring under it"


def test_every_field_is_read_somewhere() -> None:
    read: set[str] = set()
    for path in [*(REPOSITORY / "pipeline").rglob("*.py"), *(REPOSITORY / "jobs").rglob("*.py")]:
        if path not in SECTIONS:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    unread = [f"{section}.{field}" for section, field, _ in section_fields() if field not in read]
    assert not unread


def test_defaults_are_finite_numbers() -> None:
    numbers = [v for v in flatten(Config()).values() if isinstance(v, float)]
    assert all(math.isfinite(number) for number in numbers)


# ---- the semantic head and training without anomalies


SEMANTIC = ("model.semantic_head=true", "model.score=energy")


def test_a_score_from_the_semantic_head_needs_that_head() -> None:
    assert "made from the semantic head" in refused("model.score=entropy")


def test_cross_entropy_refuses_a_score_that_it_does_not_train() -> None:
    assert "would stay as it was drawn" in refused(
        "loss.name=cross_entropy", "model.semantic_head=true"
    )
    assert load(None, ["loss.name=cross_entropy", *SEMANTIC]).model.score == "energy"


def test_model_choice_by_miou_needs_the_semantic_head() -> None:
    assert "needs the semantic head" in refused("train.monitor=semantic_miou")


def test_dice_beside_a_loss_that_takes_no_such_term_is_refused() -> None:
    assert "loss.dice_weight=0.5" in refused("loss.name=dice", "loss.dice_weight=0.5")


@pytest.mark.parametrize("kind", ["raised_road", "perlin", "feature_mixing"])
def test_outliers_without_augmentation_are_refused(kind: str) -> None:
    assert "no effect with train.augment=false" in refused(
        f"outliers.{kind}=0.5", "train.augment=false"
    )
    assert "it is a probability" in refused(f"outliers.{kind}=1.5")


def test_outliers_in_frames_do_not_go_with_past_clouds() -> None:
    assert "rays pass through" in refused("outliers.perlin=0.5", "data.num_sweeps=3")
    mixed = load(None, ["outliers.feature_mixing=0.5", "data.num_sweeps=3"])
    assert mixed.outliers.any
    assert not mixed.outliers.changes_frames


def test_kinds_to_train_on_are_those_of_archives() -> None:
    assert "legal values are normality" in refused("prepare.train_kinds=[stattic]")
