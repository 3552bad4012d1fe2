"""What tests of training share."""

import os

import pytest


@pytest.fixture(scope="module")
def two_nodes():
    """A Ray cluster of two nodes on this machine: this process is on one without room, workers are on the other."""
    pytest.importorskip("ray", reason="Ray is not installed, the extra 'ray'")
    import ray
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    cluster.add_node(num_cpus=os.cpu_count(), **small)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
    ray.shutdown()
    cluster.shutdown()
