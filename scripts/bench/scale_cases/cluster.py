"""A Ray cluster of two nodes that listens on 127.0.0.1 only, one of which can be killed.

`ray start` refuses a second node on a loopback cluster, so Ray's own class for tests starts both, in a
process of their own: whoever forks must not have imported Ray.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

import psutil

SWITCHES = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""Environment of a cluster that listens on 127.0.0.1 only, and of who connects to it."""
_LOOPBACK = "127.0.0.1"
_KEEP = "from scripts.bench.scale_cases.cluster import keep; keep()"
_REPOSITORY = Path(__file__).resolve().parents[3]


class Cluster:
    """The cluster while the block runs; each node has room for one maker."""

    def __enter__(self) -> Cluster:
        self._folder = tempfile.mkdtemp(prefix="ray-")  # short: sockets lie in it
        self._keeper = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _KEEP,
                self._folder,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | SWITCHES | {"PYTHONPATH": str(_REPOSITORY)},
            text=True,
        )
        self.address = self._hear()
        self._raylet = int(self._hear())
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        started = psutil.Process(self._keeper.pid).children(recursive=True)
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait(60)
        for one in started:
            _end(one)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def place(self) -> str:
        """For --on: a maker on each node."""
        return f"ray:{self.address}?workers=2"

    def actors(self) -> list[psutil.Process]:
        """Makers that run, whoever they work for."""
        found = []
        for one in psutil.Process(self._keeper.pid).children(recursive=True):
            try:
                if " ".join(one.cmdline()).startswith("ray::_Actor"):
                    found.append(one)
            except psutil.Error:
                continue
        return found

    def kill_node(self) -> None:
        """The second node and all that runs on it, at once, as a machine that loses its power."""
        raylet = psutil.Process(self._raylet)
        for one in [raylet, *raylet.children(recursive=True)]:
            _end(one)

    def add_node(self) -> None:
        """A second node in place of one that was killed."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.write("add\n")
        self._keeper.stdin.flush()
        self._raylet = int(self._hear())

    def idle(self, limit: float = 60) -> None:
        """Wait until no maker runs.

        Raises:
            TimeoutError: one still does after `limit` seconds.
        """
        until = time.monotonic() + limit
        while self.actors():
            if time.monotonic() > until:
                raise TimeoutError("makers outlived who they worked for")
            time.sleep(0.1)

    def _hear(self) -> str:
        assert self._keeper.stdout is not None
        said = self._keeper.stdout.readline().split()
        if not said or said[0] != "scale:":
            raise RuntimeError(f"the cluster does not start: {said}")
        return said[1]


def _end(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def keep() -> None:
    """The keeper: starts both nodes, says where they are, and another node for each line it reads."""
    from ray.cluster_utils import Cluster as Nodes

    how = {"num_cpus": 1, "node_ip_address": _LOOPBACK}
    head = how | {"include_dashboard": False, "temp_dir": sys.argv[1]}
    nodes = Nodes(initialize_head=True, head_node_args=head)
    print("scale:", nodes.address, flush=True)
    second = nodes.add_node(**how)
    while True:
        print("scale:", second.all_processes["raylet"][0].process.pid, flush=True)
        if not sys.stdin.readline():
            break
        nodes.remove_node(second, allow_graceful=False)
        second = nodes.add_node(**how)
    nodes.shutdown()
