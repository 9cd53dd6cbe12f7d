"""A Ceph RADOS Gateway on loopback: one monitor, one object store in memory, and the gateway, plain and over TLS."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.support.exporter_process import wait_until
from tests.support.prometheus import free_port

PACKAGES = ("ceph-mon", "ceph-osd", "radosgw")
ACCESS_KEY = "contract-access"
SECRET_KEY = "contract-secret-that-must-not-be-printed"
GUEST_ACCESS_KEY = "guest-access"
GUEST_SECRET_KEY = "guest-secret-that-must-not-be-printed"
_BINARIES = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph")
_COMMAND_SECONDS = 60
_START_SECONDS = 60

_CONFIGURATION = """\
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{monitor_port}
ms_bind_msgr1 = false
public_network = 127.0.0.0/8
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
paxos_propose_interval = 0.05
mon_data = {folder}/mon
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_max_pg_per_osd = 1000
mon_data_avail_crit = 1
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = 1073741824
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
run_dir = {folder}
admin_socket = {folder}/$name.asok
pid_file = {folder}/$name.pid
log_file = {folder}/$name.log
mon_cluster_log_file = {folder}/cluster.log
crash_dir = {folder}
rgw_data = {folder}
rgw_enable_usage_log = false
rgw_enable_gc_threads = false
rgw_enable_lc_threads = false
rgw_enable_quota_threads = false
rgw_run_sync_thread = false
rgw_thread_pool_size = 32
"""


@dataclass(frozen=True, slots=True)
class CephGateway:
    """Where the gateway listens. Its certificate is signed by an authority of its own, in `ca_bundle`."""

    endpoint: str
    tls_endpoint: str
    ca_bundle: Path
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    guest_access_key: str = GUEST_ACCESS_KEY  # of a user who may do what a bucket's policy says, and nothing else
    guest_secret_key: str = GUEST_SECRET_KEY
    guest_arn: str = "arn:aws:iam:::user/guest"


def require_ceph() -> None:
    """Skip the test when Ceph is not installed; in CI that is a failure."""
    missing = [name for name in _BINARIES if shutil.which(name) is None]
    if not missing:
        return
    words = f"not installed: {', '.join(missing)} (Debian packages {' '.join(PACKAGES)})"
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(words)
    pytest.skip(words)


@contextmanager
def ceph_gateway() -> Iterator[CephGateway]:
    """A fresh gateway with its users, as long as the context lasts."""
    with ExitStack() as stack:
        # Unix sockets lie in it, whose paths may have 107 characters.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rgw-", dir="/tmp")))
        cluster = _Cluster(folder, stack)
        cluster.start_monitor()
        cluster.start_store()
        yield cluster.start_gateway()


class _Cluster:
    """The processes, each a child that ends with the stack."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._fsid = str(uuid.uuid4())
        self._monitor_port = free_port()
        self._configuration = folder / "ceph.conf"
        self._configuration.write_text(
            _CONFIGURATION.format(fsid=self._fsid, monitor_port=self._monitor_port, folder=folder)
        )

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            [*command, "-c", str(self._configuration)],
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[-2000:]}"
        return done.stdout.strip()

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{command[0]}.out").open("wb") as output:
            child = subprocess.Popen(
                [*command, "-f", "-c", str(self._configuration)], stdout=output, stderr=subprocess.STDOUT
            )
        self._stack.callback(_end, child)
        return child

    def start_monitor(self) -> None:
        """One monitor, which is the whole quorum."""
        monmap = str(self._folder / "monmap")
        address = f"v2:127.0.0.1:{self._monitor_port}"
        self._run("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", f"[{address}]", monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self._start("ceph-mon", "-i", "a")

    def start_store(self) -> None:
        """One object store daemon, with everything in memory."""
        osd = str(uuid.uuid4())
        number = self._run("ceph", "--connect-timeout", "30", "osd", "new", osd)  # waits until the monitor answers
        assert number == "0"
        (self._folder / "osd").mkdir()
        self._run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", osd)
        self._start("ceph-osd", "-i", "0")

    def start_gateway(self) -> CephGateway:
        """The gateway with its users; returns when it answers."""
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        ca_bundle, own, key = (self._folder / name for name in ("ca.pem", "gateway.pem", "gateway.key"))
        authority.cert_pem.write_to_path(ca_bundle)
        for part in certificate.cert_chain_pems:
            part.write_to_path(own, append=True)
        certificate.private_key_pem.write_to_path(key)
        for name, access_key, secret_key in (
            ("contract", ACCESS_KEY, SECRET_KEY),
            ("guest", GUEST_ACCESS_KEY, GUEST_SECRET_KEY),
        ):
            keys = ("--access-key", access_key, "--secret", secret_key)
            self._run("radosgw-admin", "user", "create", "--uid", name, "--display-name", name, *keys)
        port, tls_port = free_port(), free_port()
        frontend = (
            f"beast endpoint=127.0.0.1:{port} ssl_endpoint=127.0.0.1:{tls_port} "
            f"ssl_certificate={own} ssl_private_key={key} tcp_nodelay=1"
        )
        gateway = self._start("radosgw", "-n", "client.rgw", f"--rgw-frontends={frontend}")
        alive = self._alive(gateway)
        wait_until(lambda: _listens(port) and _listens(tls_port), _START_SECONDS, "a Ceph gateway", alive)
        return CephGateway(f"http://127.0.0.1:{port}", f"https://127.0.0.1:{tls_port}", ca_bundle)

    def _alive(self, child: subprocess.Popen[bytes]) -> Callable[[], None]:
        def alive() -> None:
            output = (self._folder / "radosgw.out").read_text(errors="replace")[-2000:]
            assert child.poll() is None, f"radosgw ended with {child.returncode}: {output}"

        return alive


def _listens(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()  # there is nothing to keep
    child.wait()
