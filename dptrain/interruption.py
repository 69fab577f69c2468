"""A run that is asked to stop: signals that are only noted, until the next step boundary."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

STOPPED = 75
"""Exit code of a run that saved its state because it was asked to stop: EX_TEMPFAIL of sysexits.h, "try again"."""

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What Slurm and torchrun send to a job that has to go."""


class StoppedError(Exception):
    """The run was asked to stop, and its state is saved."""


@dataclass
class StopRequest:
    """Whether a signal has asked for the end."""

    asked: bool = False


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Within it, SIGTERM and SIGUSR1 are noted and do nothing else; from the main thread only."""
    request = StopRequest()

    def note(_number: int, _frame: FrameType | None) -> None:
        request.asked = True

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
