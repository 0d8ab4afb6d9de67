"""A cluster of several nodes on this machine, and trainings that run on it as users start them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.config.schema import Config
from tests.helpers.node_cluster import Nodes, Run, training

Train = Callable[..., Run]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A head without CPUs; nodes of one CPU are added to it. Ray's ports ask for a token."""
    from ray.cluster_utils import Cluster

    assert os.environ["RAY_AUTH_MODE"] == "token"
    # Ray's own default (15) lets any other process on the machine starve the workers.
    os.environ.setdefault("RAY_worker_niceness", "0")
    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield Nodes(cluster=cluster)
    finally:
        cluster.shutdown()


@pytest.fixture
def train(
    nodes: Nodes,
    tiny_config: Config,
    tiny_blocks: Path,
    new_store: Callable[[Path], str],
    tmp_path: Path,
) -> Iterator[Train]:
    """`train("key=value", ...)` starts `jobs.train` on the cluster; it ends with the test."""
    new_store(tmp_path)
    with training(nodes, tiny_config, tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def train_once(
    nodes: Nodes,
    tiny_config: Config,
    tiny_blocks: Path,
    new_store: Callable[[Path], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Train]:
    """`train` for a run that several tests look at."""
    nodes.have(2)
    folder = tmp_path_factory.mktemp("once")
    new_store(folder)
    with training(nodes, tiny_config, folder) as start:
        yield start
