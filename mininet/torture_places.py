"""Where nodes run: on hosts of an emulated network, or side by side on loopback.

Both offer the same: addresses, `popen`, and cutting of links where there are links to cut.
"""

import ctypes
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from sandbox import die_with_parent

CLONE_NEWTIME = 0x80
DISK_MIB = 4096


class Loopback:
    """All nodes on 127.0.0.1, each on ports that were free a moment ago."""

    name = "loopback"
    links = None

    def __init__(self, nodes):
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2 * nodes)]
        ports = [each.getsockname()[1] for each in sockets]
        for each in sockets:
            each.close()
        self.ports = {n: (ports[2 * n - 2], ports[2 * n - 1]) for n in range(1, nodes + 1)}

    def addresses(self, node):
        """Peer address and client address of a node."""
        return tuple(f"127.0.0.1:{port}" for port in self.ports[node])

    def popen(self, _node, command, **kwargs):
        """Starts a command where the node is; `None`: where the clients are."""
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, **kwargs)

    def stop(self):
        """Nothing stays behind."""


class Emulated:
    """A host for each node and one for the clients, on one switch."""

    name = "Mininet"

    def __init__(self, nodes):
        # Only here, where Mininet is known to be installed.
        from links import Links  # noqa: PLC0415
        from topology import Star, node_address  # noqa: PLC0415

        self.address = node_address
        # The machine's own: nothing measured here would have to compare with other machines.
        control = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text(encoding="ascii")
        self.star = Star(nodes, 1, control.strip())
        self.star.start()
        self.links = Links(self.star)

    def addresses(self, node):
        """Peer address and client address of a node."""
        return f"{self.address(node)}:7400", f"{self.address(node)}:7401"

    def popen(self, node, command, **kwargs):
        """Starts a command where the node is; `None`: where the clients are."""
        host = self.star.nodes[node] if node else self.star.clients[1]
        return host.popen(command, stdin=subprocess.DEVNULL, **kwargs)

    def stop(self):
        """Takes the network down."""
        self.star.stop()


def shift_clock(seconds):
    """Puts this process, before it executes another program, under a monotonic clock that is
    ahead by so much: a time namespace of its own. The wall clock stays the machine's."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWTIME) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    with open("/proc/self/timens_offsets", "w", encoding="ascii") as file:
        file.write(f"monotonic {seconds} 0\nboottime {seconds} 0\n")
    with open("/proc/self/ns/time_for_children", "rb") as file:
        if libc.setns(file.fileno(), CLONE_NEWTIME) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def before_exec(clock_s):
    """What a child does before it becomes the program."""

    def prepare():
        die_with_parent()
        if clock_s:
            shift_clock(clock_s)

    return prepare


def small_disk(image, mount_point):
    """Mounts a file system for one node's data; it goes away with the run's namespace."""
    mount_point.mkdir()
    with open(image, "wb") as file:
        file.truncate(DISK_MIB * 1024 * 1024)
    for command in (
        ["mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1", str(image)],
        ["mount", "-o", "loop", str(image), str(mount_point)],
    ):
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)


def fill(mount_point):
    """Takes all room that a file system has left; returns the file that does."""
    ballast = Path(mount_point) / "ballast"
    with open(ballast, "wb") as file:
        step = 64 * 1024 * 1024
        while step >= 4096:
            try:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, step)
            except OSError:
                step //= 2
    return ballast


def missing(isolated):
    """What this machine does not allow: kinds of faults by name, each with the reason."""
    lacks = {}
    if not shutil.which("strace"):
        lacks["sync-fails"] = lacks["slow-disk"] = "strace is not installed"
    elif not _strace_works():
        lacks["sync-fails"] = lacks["slow-disk"] = "strace may not trace here"
    if not _clock_works():
        lacks["clock"] = "no time namespaces (root, Linux 5.6)"
    if not isolated:
        lacks["full-disk"] = "file systems are mounted as root"
    elif not _disk_works():
        lacks["full-disk"] = "no file system can be mounted from a file here"
    return lacks


def _strace_works():
    command = ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-e", "trace=fdatasync"]
    return _quiet([*command, "-e", "inject=fdatasync:error=EIO", "-o", "/dev/null", "true"])


def _clock_works():
    try:
        done = subprocess.run(["true"], preexec_fn=before_exec(1), check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def _disk_works():
    with tempfile.TemporaryDirectory() as folder:
        mount_point = Path(folder) / "mnt"
        try:
            small_disk(Path(folder) / "img", mount_point)
        except (OSError, subprocess.CalledProcessError):
            return False
        return _quiet(["umount", str(mount_point)])


def _quiet(command):
    sink = subprocess.DEVNULL
    done = subprocess.run(command, stdin=sink, stdout=sink, stderr=sink, check=False)
    return done.returncode == 0
