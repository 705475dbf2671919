"""Which encoders a job has: `--encoder` and `--weights`, read together."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vidembed.schema import ALONE


def one_or_several(value: object) -> object:
    """`a`, or a list of which an item may itself be `a,b`; one of a list is as if given alone."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise ValueError("expected a name or a list of names")
    words = tuple(word.strip() for item in items for word in item.split(",") if word.strip())
    if not words:
        raise ValueError("expected a name")
    return words if len(words) > 1 else words[0]


def one_or_a_list(value: object) -> object:
    """As it is: where there is one encoder, a path may well have a comma."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValueError("expected a path, or a list of LABEL=PATH")
    return tuple(value) if len(value) > 1 else next(iter(value), None)


@dataclass(frozen=True, slots=True)
class Choice:
    """One encoder of a job. label: of its columns and its run; weights: None for its own."""

    label: str
    encoder: str
    weights: str | None

    @property
    def name(self) -> str:
        """For messages."""
        return self.label or self.encoder

    @classmethod
    def of(
        cls, encoder: str | tuple[str, ...], weights: str | tuple[str, ...] | None
    ) -> tuple[Choice, ...]:
        """What --encoder and --weights say together. Raises ValueError."""
        if isinstance(encoder, str):
            return (cls._alone(encoder, weights),)
        encoders: dict[str, str] = {}
        for word in encoder:
            label, _, name = word.rpartition(":")
            label = label or name
            if label in encoders:
                raise ValueError(
                    f"--encoder names {label!r} twice; label them apart, as in "
                    f"first:{name},second:{name}"
                )
            if not _LABEL.fullmatch(label) or label in _TAKEN:
                raise ValueError(
                    f"--encoder: {label!r} cannot be a run's folder; use another label of letters, "
                    f"digits, '.', '_' and '-'"
                )
            encoders[label] = name
        given = _by_label(weights, list(encoders))
        return tuple(cls(label, name, given.get(label)) for label, name in encoders.items())

    @classmethod
    def _alone(cls, encoder: str, weights: str | tuple[str, ...] | None) -> Choice:
        if ":" in encoder:
            raise ValueError(
                f"--encoder {encoder}: a label tells several encoders apart; for one write "
                f"--encoder {encoder.rpartition(':')[2]}"
            )
        if isinstance(weights, tuple):
            raise ValueError(f"--weights is there {len(weights)} times; {encoder} takes one PATH")
        return cls(ALONE, encoder, weights)


_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# Beside the runs of several encoders.
_TAKEN = frozenset(["logs"])


def _by_label(weights: str | tuple[str, ...] | None, labels: list[str]) -> dict[str, str]:
    """`a=PATH,b=PATH`; a comma that no `NAME=` follows belongs to the path."""
    found: dict[str, str] = {}
    for item in (weights,) if isinstance(weights, str) else weights or ():
        for word in re.split(r",(?=[\w.-]+=)", item):
            label, equals, path = (part.strip() for part in word.partition("="))
            if not equals:
                raise ValueError(
                    f"--weights {word} does not say which of several encoders it is for; write "
                    f"--weights {labels[0]}={word}"
                )
            if label not in labels:
                raise ValueError(
                    f"--weights names {label!r}, which is no encoder of this job; there are: "
                    f"{', '.join(labels)}"
                )
            if label in found:
                raise ValueError(f"--weights names {label!r} twice; give one PATH for each encoder")
            found[label] = path
    return found
