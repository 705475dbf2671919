"""Which encoders a job has: `--encoder` and `--weights`, read together."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vidembed.labels import ALONE


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
    """One encoder of a job. label: of its columns and its run; weights, preset: None for its
    own.
    """

    label: str
    encoder: str
    weights: str | None
    preset: str | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return self.label or self.encoder

    @classmethod
    def of(
        cls,
        encoder: str | tuple[str, ...],
        weights: str | tuple[str, ...] | None,
        preset: str | tuple[str, ...] | None = None,
    ) -> tuple[Choice, ...]:
        """What --encoder, --weights and --preset say together. Raises ValueError."""
        if isinstance(encoder, str):
            label, name = _split(encoder)
            if label:
                raise ValueError(
                    f"--encoder {encoder}: a label tells several encoders apart; for one write "
                    f"--encoder {name}" + _CLASSES * ("." in label)
                )
            return (
                cls(ALONE, name, _alone(name, "weights", weights), _alone(name, "preset", preset)),
            )
        encoders: dict[str, str] = {}
        for word in encoder:
            label, name = _split(word)
            label = label or name.rpartition(":")[2]
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
        files = _by_label("weights", weights, list(encoders))
        presets = _by_label("preset", preset, list(encoders))
        return tuple(
            cls(label, name, files.get(label), presets.get(label))
            for label, name in encoders.items()
        )


def _split(word: str) -> tuple[str, str]:
    """`LABEL:NAME` to label and name. A name may itself be `package.module:Class`; classes, unlike
    the encoders of the table, begin with a capital letter.
    """
    first, _, last = word.rpartition(":")
    if last[:1].isupper() and first:
        label, _, module = first.rpartition(":")
        return label, f"{module}:{last}"
    return first, last


def _alone(name: str, flag: str, value: str | tuple[str, ...] | None) -> str | None:
    if isinstance(value, tuple):
        raise ValueError(f"--{flag} is there {len(value)} times; {name} takes one")
    return value


_CLASSES = " (the Class of package.module:Class begins with a capital letter)"
_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# Beside the runs of several encoders.
_TAKEN = frozenset(["logs"])


def _by_label(flag: str, value: str | tuple[str, ...] | None, labels: list[str]) -> dict[str, str]:
    """`a=VALUE,b=VALUE`; a comma that no `NAME=` follows belongs to the value."""
    found: dict[str, str] = {}
    for item in (value,) if isinstance(value, str) else value or ():
        for word in re.split(r",(?=[\w.-]+=)", item):
            label, equals, rest = (part.strip() for part in word.partition("="))
            if not equals:
                raise ValueError(
                    f"--{flag} {word} does not say which of several encoders it is for; write "
                    f"--{flag} {labels[0]}={word}"
                )
            if label not in labels:
                raise ValueError(
                    f"--{flag} names {label!r}, which is no encoder of this job; there are: "
                    f"{', '.join(labels)}"
                )
            if label in found:
                raise ValueError(f"--{flag} names {label!r} twice; give one for each encoder")
            found[label] = rest
    return found
