"""Trainings side by side leave nothing waiting for what another one holds."""

import os

import pytest

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.experiments.resources import needs, num_fitting
from pipeline.runtime.errors import RunFailed


def config(num_workers: int, *, reader: str = "blocks", **scaling: object) -> Config:
    return merge(
        Config(), {"scaling": {"num_workers": num_workers, **scaling}, "data": {"reader": reader}}
    )


def test_a_training_needs_its_workers_and_a_cpu_for_the_tasks_that_read():
    assert needs(config(0)) == {"CPU": 1.0, "GPU": 0.0}
    assert needs(config(3, cpus_per_worker=0.5)) == {"CPU": 1.5, "GPU": 0.0}
    assert needs(config(2, reader="stream")) == {"CPU": 3.0, "GPU": 0.0}
    assert needs(config(2, use_gpu=True)) == {"CPU": 2.0, "GPU": 2.0}


def test_as_many_as_the_physical_cpus_run_side_by_side_and_at_least_one(ray_session: None):
    # The session has four logical CPUs.
    for num_workers, reader in ((0, "blocks"), (1, "blocks"), (2, "blocks"), (3, "stream")):
        one = config(num_workers, reader=reader)
        most = int((os.cpu_count() or 1) // needs(one)["CPU"])
        assert num_fitting(one, asked=0) == max(1, min(most, int(4 // needs(one)["CPU"])))


def test_what_is_asked_for_is_taken_where_the_cluster_has_it(ray_session: None):
    assert num_fitting(config(1), asked=4) == 4
    with pytest.raises(RunFailed, match="5 trainings side by side need 5 CPU but the cluster"):
        num_fitting(config(1), asked=5)


def test_a_training_that_never_fits_is_one_sentence_with_the_way_out(ray_session: None):
    with pytest.raises(RunFailed) as refused:
        num_fitting(config(4, reader="stream"), asked=0)
    assert refused.value.reason == "no_resources"
    assert str(refused.value) == (
        "one training needs 5 CPU but the cluster has 4; lower scaling.num_workers or "
        "scaling.cpus_per_worker, or add nodes"
    )
    with pytest.raises(RunFailed, match="needs 1 GPU but the cluster has 0"):
        num_fitting(config(1, use_gpu=True), asked=0)
