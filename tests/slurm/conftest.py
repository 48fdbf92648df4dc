"""Fixtures: clusters that start and stop with the tests."""

from __future__ import annotations

import pytest

from tests.slurm.cluster import Cluster


@pytest.fixture(scope="module")
def start_cluster(tmp_path_factory):
    """Returns a function that starts a cluster, which is stopped after the tests of the module."""
    clusters = []

    def start(**settings):
        cluster = Cluster(tmp_path_factory.mktemp("slurm") / "cluster", **settings)
        clusters.append(cluster)
        cluster.wait_until_ready()
        return cluster

    yield start
    for cluster in clusters:
        cluster.stop()


@pytest.fixture(scope="module")
def cluster(start_cluster):
    """Returns a cluster in which jobs are pre-empted without a warning."""
    return start_cluster()
