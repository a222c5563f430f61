"""Stretches of time under load, with all that must go on meanwhile watched."""

import time

import loads

POLL_S = 0.1


def until_ended(system, benches, load_s):
    """Waits until loads of so many seconds have ended."""
    deadline = time.monotonic() + load_s + loads.BENCH_GRACE_S
    while not loads.ended(system, benches):
        system.check_alive()
        if deadline < time.monotonic():
            raise RuntimeError(f"the load generators did not end in time: {', '.join(benches)}")
        time.sleep(POLL_S)


def pass_time(system, benches, seconds):
    """Lets so much time pass; raises if a load or what it needs ends meanwhile."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        system.check_alive()
        if loads.ended(system, benches):
            raise RuntimeError("the load ended too soon")
        time.sleep(min(POLL_S, left))
