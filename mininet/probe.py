"""What runs on the hosts of the experiment `calibration`, as a program of its own.

probe.py receive ADDRESS FILE SILENCE_S     packets into a file, until none comes for so long
probe.py send ADDRESS COUNT INTERVAL_US SIZE
probe.py drain ADDRESS                      one connection; prints bytes and nanoseconds
probe.py pour ADDRESS SECONDS               as much as it takes
"""

import json
import socket
import struct
import sys
import time

PORT = 7500
HEAD = struct.Struct("<QQ")
CHUNK = bytes(1 << 16)
# A packet that never came would otherwise be waited for without end.
FIRST_S = 10


def receive(address, path, silence_s):
    """A line for each packet: its number, and when it was sent and received."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, PORT))
        sock.settimeout(FIRST_S)
        print("ready", flush=True)
        found = []
        while True:
            try:
                data = sock.recv(1 << 16)
            except TimeoutError:
                break
            found.append((*HEAD.unpack_from(data), time.monotonic_ns()))
            sock.settimeout(float(silence_s))
    with open(path, "w", encoding="ascii") as file:
        file.write("number,sent_ns,received_ns\n")
        file.writelines(f"{number},{sent},{received}\n" for number, sent, received in found)


def send(address, count, interval_us, size):
    """Numbered packets, one each interval."""
    padding = bytes(int(size) - HEAD.size)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((address, PORT))
        begin_ns = time.monotonic_ns()
        for number in range(int(count)):
            due_ns = begin_ns + number * int(interval_us) * 1000
            wait_ns = due_ns - time.monotonic_ns()
            if wait_ns > 0:
                time.sleep(wait_ns / 1e9)
            sock.send(HEAD.pack(number, time.monotonic_ns()) + padding)


def drain(address):
    """How much one connection brought, from its first byte to its last."""
    with socket.create_server((address, PORT)) as server:
        print("ready", flush=True)
        connection, _ = server.accept()
    total, first_ns, last_ns = 0, 0, 0
    with connection:
        while data := connection.recv(1 << 18):
            last_ns = time.monotonic_ns()
            first_ns = first_ns or last_ns
            total += len(data)
    print(json.dumps({"bytes": total, "ns": last_ns - first_ns}))


def pour(address, seconds):
    """As much as a connection takes for so long."""
    with socket.create_connection((address, PORT)) as sock:
        end = time.monotonic() + float(seconds)
        while time.monotonic() < end:
            sock.sendall(CHUNK)


if __name__ == "__main__":
    command, *words = sys.argv[1:]
    {"receive": receive, "send": send, "drain": drain, "pour": pour}[command](*words)
