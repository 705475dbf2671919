"""What the options of all commands are made of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from vidembed.amounts import ActorRange, Limit
from vidembed.choice import one_or_a_list, one_or_several
from vidembed.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

Metric = Literal["COSINE", "IP", "L2"]
Index = Literal["FLAT", "IVF_FLAT", "HNSW", "DISKANN", "AUTOINDEX"]
Device = Literal["auto", "cpu", "cuda"]
Progress = Literal["auto", "bar", "plain", "none"]
Log = Literal["none", "text", "json"]

COLLECTION = r"^[A-Za-z_]\w*$"


def _listed(value: object) -> object:
    """`a,b` as a flag spells it; a list, from YAML or Python, is taken item by item."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, list) else value


Actors = Annotated[ActorRange | None, BeforeValidator(ActorRange.parse)]


def _parameters(value: object) -> object:
    """JSON, as a flag spells it, or a mapping of YAML or Python."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("expected a JSON object") from None


Parameters = Annotated[dict[str, Any], BeforeValidator(_parameters)]


def _amounts(value: object) -> object:
    """`NAME=AMOUNT,NAME=AMOUNT` as a flag spells it, or a mapping of YAML or Python."""
    if isinstance(value, dict):
        value = [f"{name}={amount}" for name, amount in value.items()]
    words = _listed(value)
    for word in words if isinstance(words, tuple) else ():
        name, _, amount = str(word).rpartition("=")
        if not name or not _positive(amount):
            raise ValueError("expected NAME=AMOUNT, with an amount above 0")
    return words


def _positive(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False


Amounts = Annotated[tuple[str, ...], BeforeValidator(_amounts)]
Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Numbers = Annotated[tuple[int, ...], BeforeValidator(_listed)]
Names = Annotated[str | tuple[str, ...], BeforeValidator(one_or_several)]
Paths = Annotated[str | tuple[str, ...] | None, BeforeValidator(one_or_a_list)]
Most = Annotated[Limit, BeforeValidator(Limit.parse)]


def positional(description: str) -> Any:
    return Field(description=description, json_schema_extra={"positional": True})


def option(default: Any, description: str, **limits: Any) -> Any:
    return Field(default, description=description, **limits)


class Config(BaseModel):
    """Options of one command. Unknown names are errors; nothing changes after."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @classmethod
    def make(cls, options: Mapping[str, Any]) -> Self:
        """Options from anywhere; ConfigError with one line for each that is wrong."""
        try:
            return cls(**{k.replace("-", "_"): v for k, v in options.items()})
        except ValidationError as error:
            lines = [_readable(problem, cls) for problem in error.errors()]
            raise ConfigError("; ".join(lines)) from None

    def plain(self) -> dict[str, Any]:
        """As JSON values, for `run.json` and YAML."""
        return {
            name: str(value)
            if isinstance(value, ActorRange | Limit)
            else list(value)
            if isinstance(value, tuple)
            else value
            for name, value in self
        }


def _readable(problem: Any, cls: type[Config]) -> str:
    if not problem["loc"]:
        return str(problem["msg"]).removeprefix("Value error, ")
    name = str(problem["loc"][0])
    extra = cls.model_fields[name].json_schema_extra if name in cls.model_fields else None
    is_positional = bool(extra)
    flag = name.upper() if is_positional else "--" + name.replace("_", "-")
    if problem["type"] == "extra_forbidden":
        return f"unknown option {flag}"
    if problem["type"] == "missing":
        return f"{flag} is required"
    text = str(problem["msg"]).removeprefix("Value error, ")
    return f"{flag}: {text[0].lower() + text[1:]}, got {problem['input']!r}"
