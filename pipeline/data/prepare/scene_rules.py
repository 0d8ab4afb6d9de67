"""The label rule of every scene, found side by side on the cluster before frames are planned."""

import logging
from collections.abc import Iterable

from pipeline.config.data import PrepareConfig
from pipeline.data.splits import scene_key
from pipeline.datasets.protocol.dataset import Dataset, LabelRule, SceneView
from pipeline.datasets.protocol.frames import SceneError
from pipeline.runtime.ray_cluster import ensure_ray

logger = logging.getLogger(__name__)


def find_rules(
    views: Iterable[SceneView], config: PrepareConfig, source: Dataset
) -> tuple[dict[str, LabelRule], dict[str, str]]:
    """Rule by `splits.scene_key`, and the reason of each scene that no rule can label."""
    scenes = {scene_key(scene.archive, scene.scene_id): scene for scene in views}
    known = {key: source.known_rule(scene) for key, scene in scenes.items()}
    rules = {key: rule for key, rule in known.items() if rule is not None}
    unknown = [key for key, rule in known.items() if rule is None]
    if not unknown:
        return rules, {}
    ensure_ray()
    import ray

    logger.info("finding the label rule of %d dynamic scenes", len(unknown))
    task = ray.remote(_rule_or_reason)
    found = ray.get([task.remote(source, scenes[key], config.window_guess) for key in unknown])
    by_scene = dict(zip(unknown, found, strict=True))
    refused = {key: rule for key, rule in by_scene.items() if isinstance(rule, str)}
    found_rules = {key: rule for key, rule in by_scene.items() if not isinstance(rule, str)}
    return rules | found_rules, refused


def _rule_or_reason(source: Dataset, scene: SceneView, allow_guess: bool) -> LabelRule | str:
    try:
        return source.find_rule(scene, allow_guess=allow_guess)
    except SceneError as error:
        return str(error)
