"""A pickle of words and nothing else.

Unpickling runs whatever functions the file names. Here it may name none: dicts, lists, tuples,
strings and numbers come through, all else is refused before anything is built.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any, NoReturn

from vidembed.errors import ConfigError

_ALLOWED = frozenset(
    [
        "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP", "MEMOIZE",
        "PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET",
        "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2",
        "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
        "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
        "STRING", "BINSTRING", "SHORT_BINSTRING",
        "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "LIST", "APPEND", "APPENDS",
        "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    ]
)  # fmt: skip
_PUTS = frozenset(["PUT", "BINPUT", "LONG_BINPUT"])


def load(data: bytes, where: str) -> Any:
    """What the pickle holds. Raises ConfigError where it is damaged, or holds more than words."""
    try:
        for opcode, argument, _ in pickletools.genops(data):
            _check(opcode.name, argument, len(data), where)
        return _Plain(io.BytesIO(data), encoding="utf-8").load()
    except ConfigError:
        raise
    except Exception as error:
        # A damaged pickle raises whatever it stumbles over.
        raise ConfigError(f"{where}: not a readable pickle: {error}") from error


def _check(opcode: str, argument: Any, size: int, where: str) -> None:
    if opcode not in _ALLOWED:
        named = f" ({argument})" if argument else ""
        raise ConfigError(
            f"{where}: this pickle holds more than dicts, lists and strings: {opcode}{named}. It "
            f"is not opened, for it could run programs"
        )
    # Room is made for as many as the number says.
    if opcode in _PUTS and int(argument) > size:
        raise ConfigError(f"{where}: not a readable pickle: it counts {argument} objects")


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {pid}")
