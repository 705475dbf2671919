"""What tests share: one Ray session, one S3 server, a corpus and a small encoder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.helpers.priority import is_real_time

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"


def pytest_collection_modifyitems(items):
    """Ray after the tests that count this process's files and children, for Ray opens some when it
    likes; Milvus's client after Ray, for Ray forks, and a fork beside gRPC's threads may never come
    back.
    """

    def turn(item):
        marked = [name for name in ("ray", "milvus") if item.get_closest_marker(name)]
        return {"ray": 1, "milvus": 2}[marked[-1]] if marked else 0

    items.sort(key=turn)


@pytest.fixture(autouse=True)
def _never_real_time():
    """See tests.helpers.priority: such a process starves the machine, and its tests hang."""
    yield
    assert not is_real_time()


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """A small CLIP with random weights: the folder that --weights takes."""
    from tests.helpers.clip_folder import write_clip_folder

    return str(write_clip_folder(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """The manifest of 24 drawn videos with captions."""
    from vidembed.synthetic import write_corpus

    return Path(write_corpus(tmp_path_factory.mktemp("corpus"), 24, seed=7))


@pytest.fixture(scope="session")
def ray_session():
    """A Ray session of this test run's own, whose decode children know the drills."""
    import ray

    os.environ["VIDEMBED_DECODE_DRILL"] = "tests.helpers.drills:by_name"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=512 << 20,
    )
    yield
    ray.shutdown()
    del os.environ["VIDEMBED_DECODE_DRILL"]


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """A SeaweedFS server on loopback; its credentials are in the environment meanwhile."""
    from tests.helpers.seaweed import Seaweed

    with Seaweed(tmp_path_factory.mktemp("weed")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def command():
    """The `vidembed` of this environment, as the start of a command line."""
    return [sys.executable, "-m", "vidembed"]


@pytest.fixture(scope="session")
def milvus(tmp_path_factory):
    """A Milvus server on loopback."""
    from tests.helpers.milvus_server import MilvusServer

    with MilvusServer(tmp_path_factory.mktemp("milvus")) as server:
        yield server
