"""Traces and histories go to the disk as they are written.

Left to the kernel they would go 30 s later, 100 MiB at once, and for 50 ms no log on that disk
could be synced: the instrument would be measured.
"""

import os
import threading

# Between two turns. At the highest rates some 20 MiB/s are written.
PAUSE_S = 0.2


class WriteBack:
    """Syncs the files of one folder again and again, until it is stopped."""

    def __init__(self, folder):
        self._folder = folder
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="write-back", daemon=True)
        self._thread.start()

    def stop(self):
        """Ends it; what is written from now on is left to the kernel."""
        self._end.set()
        self._thread.join()

    def _run(self):
        sizes = {}
        while not self._end.wait(PAUSE_S):
            for path in self._folder.glob("*"):
                try:
                    sizes[path] = self._sync(path, sizes.get(path))
                except FileNotFoundError:
                    # Judged, and removed.
                    sizes.pop(path, None)

    @staticmethod
    def _sync(path, size_before):
        size = path.stat().st_size
        if size != size_before:
            file = os.open(path, os.O_RDONLY)
            try:
                os.fdatasync(file)
            finally:
                os.close(file)
        return size
