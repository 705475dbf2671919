"""Every error that vidembed raises, on one page.

    VidembedError
    ├── UsageError            exit 2: the words or the configuration are off; nothing was started
    │   ├── ConfigError       an option, or options that contradict each other
    │   │   └── BusyError     another job holds the run, or re-indexes the alias
    │   ├── ManifestError     a manifest that cannot be read or is inconsistent: names row, column
    │   ├── WeightsError      weights that are absent, unreachable, or of another network
    │   └── RunMismatchError  an existing run or collection was made with something else
    ├── RunError              exit 1: the job was started and failed as a whole
    │   └── RefusedError      a new version of a collection finds too little: the alias stays
    └── ClipError             one video could not be embedded: becomes a row in failures/

Each takes one message, so that it survives the pickling between worker processes. `ClipError` has a
class of failure besides; `FAILURES` lists them all. `RefusedError` has what was measured.
"""

from __future__ import annotations

from typing import Any

FAILURES: dict[str, str] = {
    "NotFound": "nothing is at that path or address",
    "Forbidden": "the file or address may not be opened: permission, scheme or address refused",
    "ReadFailed": "the bytes could not be read: network or device error",
    "Empty": "the file has no bytes, or the asked-for window has no frame",
    "Unsupported": "not a video container, or a codec that no decoder here knows",
    "NoVideoStream": "the container holds no video stream",
    "Truncated": "the file ends before the length that it declares",
    "Corrupt": "damaged data: frames that are needed cannot be decoded cleanly",
    "TooLarge": "bytes, pixels, duration or memory beyond the configured limit",
    "Timeout": "not decoded within the deadline; the decoder was killed",
    "DecoderCrash": "the decoder died, or failed in a way that nobody foresaw",
    "NonFinite": "the encoder returned NaN or infinity",
}
"""Every class of failure and what it means; `failures/*.parquet` uses these words and no others."""


class VidembedError(Exception):
    """The root of all errors raised on purpose."""


class UsageError(VidembedError):
    """What was asked for cannot be done as asked; nothing was started."""


class ConfigError(UsageError):
    """An option is unknown, out of range, or contradicts another."""


class BusyError(ConfigError):
    """Another job is at work on the same run or alias; the message says which, and since when."""


class ManifestError(UsageError):
    """The manifest cannot be read, or a row or column of it is wrong."""


class WeightsError(UsageError):
    """Weights are missing, unreachable, unsafe to open, or do not fit the encoder."""


class RunMismatchError(UsageError):
    """A run or a collection was made with another encoder, weights or sampling."""


class RunError(VidembedError):
    """The job failed as a whole after it was started."""


class RefusedError(RunError):
    """A new version was built and not put in place, because it finds less than it must.

    `found` is what was measured: `recall` (at 10, of the index), and `gate` (R@10 of captions:
    `now`, `before`, and how many `queries`; None where none were asked); `rows`, `rows_before`;
    `live` is the version behind the alias.
    """

    def __init__(self, message: str, found: dict[str, Any]) -> None:
        super().__init__(message, found)
        self.found = found

    def __str__(self) -> str:
        return str(self.args[0])


class ClipError(VidembedError):
    """One video cannot be embedded.

    `kind` is a key of `FAILURES`; `message` names the file and, where there is one, the remedy.
    """

    def __init__(self, kind: str, message: str) -> None:
        if kind not in FAILURES:
            raise ValueError(f"{kind!r} is not a class of failure; known: {sorted(FAILURES)}")
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"
