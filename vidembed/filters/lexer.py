"""The words of an expression."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vidembed.filters.nodes import wrong

if TYPE_CHECKING:
    from vidembed.filters.nodes import Plain

Kind = Literal["sign", "word", "name", "constant", "end"]

_WORDS = frozenset(["and", "or", "not", "in", "like", "is", "null", "exists"])
_SIGNS = {"&&": "and", "||": "or", "!": "not"}
_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?(?!\w))
      | (?P<name>\$meta\b|[^\W\d]\w*)
      | (?P<text>"|')
      | (?P<sign>==|!=|<=|>=|&&|\|\||\*\*|[<>!+\-*/%()\[\],])""",
    re.VERBOSE,
)
_ESCAPES = {'"': '"', "'": "'", "\\": "\\", "n": "\n", "r": "\r", "t": "\t"}
_MEANT = {"=": "==", "<>": "!=", "&": "&&", "|": "||"}
_MOST = 2**63


@dataclass(frozen=True, slots=True)
class Token:
    """kind: `word`: a keyword, in small letters. value: of a constant."""

    kind: Kind
    text: str
    at: int
    value: Plain = ""


def tokens(text: str) -> list[Token]:
    """Raises ConfigError naming the place of what is no word of the language."""
    found: list[Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or text[position : position + 2] == "<>":
            raise _unknown(text, position)
        start, position = position, match.end()
        if match["text"]:
            value, position = _quoted(text, start)
            found.append(Token("constant", text[start:position], start + 1, value))
        elif not match["space"]:
            found.append(_token(match, start + 1))
    return [*found, Token("end", "", len(text) + 1)]


def _token(match: re.Match[str], at: int) -> Token:
    word = match[0]
    if match["number"]:
        return Token("constant", word, at, _number(word, at))
    if match["name"]:
        small = word.lower()
        if small in ("true", "false"):
            return Token("constant", word, at, small == "true")
        return Token("word", small, at) if small in _WORDS else Token("name", word, at)
    return Token("word", _SIGNS[word], at) if word in _SIGNS else Token("sign", word, at)


def _number(word: str, at: int) -> int | float:
    if re.fullmatch(r"\d+", word):
        # Milvus would read it as octal.
        if len(word) > 1 and word[0] == "0":
            raise wrong(at, f"{word} begins with 0: write {int(word)}")
        if int(word) >= _MOST:
            raise wrong(at, f"{word} is beyond 64 bits")
        return int(word)
    value = float(word)
    if value == float("inf"):
        raise wrong(at, f"{word} is beyond 64 bits")
    return value


def _quoted(text: str, start: int) -> tuple[str, int]:
    """(what stands between quotes, where it ends)."""
    quote, position, found = text[start], start + 1, ""
    while position < len(text):
        sign = text[position]
        if sign == quote:
            return found, position + 1
        if sign == "\\":
            piece, position = _escaped(text, position)
            found += piece
        else:
            found += sign
            position += 1
    raise wrong(start + 1, f"this {quote} is not closed")


def _escaped(text: str, position: int) -> tuple[str, int]:
    sign = text[position + 1 : position + 2]
    # For `like`, which knows them: elsewhere they are a backslash and the sign.
    if sign and sign in "%_":
        return "\\" + sign, position + 2
    if sign == "u" and re.fullmatch(r"[0-9a-fA-F]{4}", text[position + 2 : position + 6]):
        return chr(int(text[position + 2 : position + 6], 16)), position + 6
    if sign not in _ESCAPES:
        known = " ".join("\\" + each for each in _ESCAPES)
        raise wrong(position + 1, f"unknown escape \\{sign}; known: {known} \\uXXXX")
    return _ESCAPES[sign], position + 2


def _unknown(text: str, position: int) -> Exception:
    for sign in ("<>", "=", "&", "|"):
        if text.startswith(sign, position):
            return wrong(position + 1, f"unknown {sign!r}; did you mean {_MEANT[sign]!r}")
    if text[position].isdigit():
        word = re.match(r"[\w.]+", text[position:])
        return wrong(position + 1, f"{word[0] if word else text[position]!r} is no number")
    return wrong(position + 1, f"unknown {text[position]!r}")
