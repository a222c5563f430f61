"""Why a request brought no reply, told apart by the one thing that a caller must know: whether the
operation can have happened."""


class Error(Exception):
    """All that this library raises when a request does not bring what was asked for. A wrong
    argument is a `ValueError` or `TypeError`, before anything is sent."""


class Refused(Error):
    """The reply is no: a condition did not hold, and nothing was changed. Of a command, that is
    decided in the log like any other reply.

    `reason` is a word for programs: `exists`, `not_found`, `mismatch`, `not_an_integer`,
    `overflow`, `invalid`, `step`, `sql` or `not_held`. `present`: what the key holds instead, where
    that is told. `step`: which step of a transaction, from 0; the one behind the last stands for
    the whole.
    """

    def __init__(
        self, message: str, reason: str, present: bytes | None = None, step: int | None = None
    ):
        super().__init__(message)
        self.reason = reason
        self.present = present
        self.step = step


class Definite(Error):
    """It certainly did not happen and never will: it may be tried again."""

    def __str__(self) -> str:
        return f"{super().__str__()}; it certainly did not happen"


class Indefinite(Error):
    """It may have happened, or may yet happen: only a read can tell."""

    def __str__(self) -> str:
        told = super().__str__()
        return f"{told}; it may or may not have happened, or may happen yet: read to know"


class Nonsense(Exception):
    """Bytes from a node that are no message. The connection that they came over is closed; callers
    of the library see what that means for their request, not this."""
