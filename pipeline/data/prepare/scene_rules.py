"""The label rule of every scene, found side by side on the cluster before frames are planned."""

import logging
from collections.abc import Iterable

from pipeline.config.data import PrepareConfig
from pipeline.data.splits import scene_key
from pipeline.datasets.anovox.label_rules import BY_IDS, SceneRule, find_rule
from pipeline.datasets.anovox.scene import Scene, SceneError
from pipeline.runtime.ray_cluster import ensure_ray

logger = logging.getLogger(__name__)


def find_rules(
    views: Iterable[Scene], config: PrepareConfig
) -> tuple[dict[str, SceneRule], dict[str, str]]:
    """Rule by `splits.scene_key`, and the reason of each scene that no rule can label."""
    scenes = {scene_key(scene.archive, scene.scene_id): scene for scene in views}
    dynamic = [key for key, scene in scenes.items() if scene.kind == "dynamic"]
    rules = dict.fromkeys(scenes, BY_IDS)
    if not dynamic:
        return rules, {}
    ensure_ray()
    import ray

    logger.info("finding the label rule of %d dynamic scenes", len(dynamic))
    task = ray.remote(_rule_or_reason)
    found = ray.get([task.remote(scenes[key], config.window_guess) for key in dynamic])
    by_scene = dict(zip(dynamic, found, strict=True))
    refused = {key: rule for key, rule in by_scene.items() if isinstance(rule, str)}
    rules |= {key: rule for key, rule in by_scene.items() if isinstance(rule, SceneRule)}
    return {key: rule for key, rule in rules.items() if key not in refused}, refused


def _rule_or_reason(scene: Scene, allow_guess: bool) -> SceneRule | str:
    try:
        return find_rule(scene, allow_guess=allow_guess)
    except SceneError as error:
        return str(error)
