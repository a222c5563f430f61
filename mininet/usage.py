"""What a cluster uses of its machine, as the kernel counts it."""

import os
from pathlib import Path


def processor_s(system):
    """Processor time of each node so far, in seconds."""
    spent = {}
    for node in system.running():
        line = Path(f"/proc/{system.pid(node)}/stat").read_text(encoding="ascii")
        # The program's name, the second field, may hold anything; behind it all are numbers.
        fields = line.rpartition(")")[2].split()
        user, kernel = int(fields[11]), int(fields[12])
        spent[node] = (user + kernel) / os.sysconf("SC_CLK_TCK")
    return spent


def memory_kib(system):
    """Resident memory of each node: all of it, and what is its own, mapped files left out."""
    names = {"VmRSS": "rss", "RssAnon": "anon"}
    found = {}
    for node in system.running():
        text = Path(f"/proc/{system.pid(node)}/status").read_text()
        fields = (line.partition(":") for line in text.splitlines())
        found[node] = {names[key]: int(rest.split()[0]) for key, _, rest in fields if key in names}
    return found


def sent(star):
    """Bytes and packets that each host has sent: what came in at its port of the switch."""
    hosts = {star.port(host): host.name for host in star.hosts()}
    found = {}
    for line in Path("/proc/net/dev").read_text(encoding="ascii").splitlines():
        port, _, counts = line.partition(":")
        if port.strip() in hosts:
            size, packets = counts.split()[:2]
            found[hosts[port.strip()]] = {"bytes": int(size), "packets": int(packets)}
    return found


def disk(path):
    """Writes, sectors written and flushes so far of the disk that a path is on, whoever asked for
    them; None where the file system has no disk of its own."""
    device = os.stat(path).st_dev
    for line in Path("/proc/diskstats").read_text(encoding="ascii").splitlines():
        fields = line.split()
        if [int(part) for part in fields[:2]] == [os.major(device), os.minor(device)]:
            # Kernels before 5.5 count no flushes.
            flushes = int(fields[18]) if len(fields) > 18 else None
            return {"writes": int(fields[7]), "sectors": int(fields[9]), "flushes": flushes}
    return None
