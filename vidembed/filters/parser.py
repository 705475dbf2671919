"""From words to an expression, by recursive descent. From loose to tight: `or`, `and`, `not`,
comparisons, + and -, * / and %, **, a sign.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

from vidembed.filters.arithmetic import computed, numeric
from vidembed.filters.lexer import tokens
from vidembed.filters.nodes import (
    Among,
    Arithmetic,
    Column,
    Comparison,
    Constant,
    Contains,
    Junction,
    Like,
    Not,
    Null,
    Wildcard,
    wrong,
)

if TYPE_CHECKING:
    from vidembed.filters.lexer import Token
    from vidembed.filters.nodes import Node, Operator, Plain, Value

_COMPARE = ("==", "!=", "<", "<=", ">", ">=")
_DEEPEST = 40
_CONTAINS = {
    f"{kind}_contains{which}": which for kind in ("json", "array") for which in ("", "_all", "_any")
}


def read(text: str) -> Node:
    """Raises ConfigError naming the place of what it does not understand."""
    return _Reader(tokens(text)).whole()


class _Reader:
    def __init__(self, words: list[Token]) -> None:
        self._words, self._next, self._depth = words, 0, 0

    def whole(self) -> Node:
        node = self._condition(self._either())
        if self._here.kind != "end":
            raise self._unexpected("and, or, or the end")
        return node

    # Each level gives a condition, or a value that a tighter level has left as it is.

    def _either(self) -> Node | Value:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise wrong(self._here.at, f"nested deeper than {_DEEPEST}")
        found = self._joined("or", lambda: self._joined("and", self._negated))
        self._depth -= 1
        return found

    def _joined(self, word: Literal["and", "or"], tighter: object) -> Node | Value:
        at = self._here.at
        parts = [tighter()]  # type: ignore[operator]
        while self._took("word", word):
            parts.append(tighter())  # type: ignore[operator]
        if len(parts) == 1:
            return cast("Node | Value", parts[0])
        return Junction(word, tuple(self._condition(part) for part in parts), at)

    def _negated(self) -> Node | Value:
        if not (word := self._took("word", "not")):
            return self._compared()
        self._depth += 1
        if self._depth > _DEEPEST:
            raise wrong(word.at, f"nested deeper than {_DEEPEST}")
        found = Not(self._condition(self._negated()), word.at)
        self._depth -= 1
        return found

    def _compared(self) -> Node | Value:
        left = self._sum()
        if self._here.text in _COMPARE and self._here.kind == "sign":
            return self._chain(left)
        tail = self._here
        negated = bool(self._here.text == "not" and self._took("word", "not"))
        if self._took("word", "in"):
            return Among(self._column(left), self._list(), negated, tail.at)
        if self._took("word", "like"):
            return Like(self._column(left), self._pattern(), negated, tail.at)
        if negated:
            raise self._unexpected("in or like")
        if self._took("word", "is"):
            negated = bool(self._took("word", "not"))
            if not self._took("word", "null"):
                raise self._unexpected("null" if negated else "null or not null")
            return Null(self._column(left), negated, tail.at)
        return left

    def _chain(self, left: Node | Value) -> Node:
        """`1 < x <= 5`: each with its neighbour."""
        parts: list[Node] = []
        while self._here.text in _COMPARE and self._here.kind == "sign":
            sign = self._take()
            right = self._sum()
            before, after = self._value(left), self._value(right)
            if isinstance(before, Constant) and isinstance(after, Constant):
                raise wrong(sign.at, f"{sign.text} compares two constants: name a column")
            parts.append(Comparison(cast("Operator", sign.text), before, after, sign.at))
            left = right
        return parts[0] if len(parts) == 1 else Junction("and", tuple(parts), parts[0].at)

    def _sum(self) -> Node | Value:
        found = self._product()
        while sign := self._took("sign", "+", "-"):
            found = computed(sign, self._value(found), self._value(self._product()))
        return found

    def _product(self) -> Node | Value:
        found = self._power()
        while sign := self._took("sign", "*", "/", "%"):
            found = computed(sign, self._value(found), self._value(self._power()))
        return found

    def _power(self) -> Node | Value:
        found = self._signed()
        if sign := self._took("sign", "**"):
            found = computed(sign, self._value(found), self._value(self._power()))
        return found

    def _signed(self) -> Node | Value:
        if not (sign := self._took("sign", "+", "-")):
            return self._single()
        self._depth += 1
        if self._depth > _DEEPEST:
            raise wrong(sign.at, f"nested deeper than {_DEEPEST}")
        value = self._value(self._signed())
        self._depth -= 1
        if sign.text == "+":
            return value
        if isinstance(value, Constant):
            return Constant(-numeric(value), sign.at)
        return Arithmetic("*", value, Constant(-1, sign.at), sign.at)

    def _single(self) -> Node | Value:
        here = self._here
        if here.kind == "constant":
            return Constant(self._take().value, here.at)
        if self._took("sign", "("):
            found = self._either()
            self._expect(")")
            return found
        if self._took("word", "exists"):
            return Null(self._column(self._single()), True, here.at)
        if here.kind == "name":
            name = self._take()
            if self._took("sign", "("):
                return self._called(name)
            return Column(self._path(name), name.at)
        raise self._unexpected("a column, a constant or (")

    def _called(self, name: Token) -> Node:
        which = _CONTAINS.get(name.text.lower())
        if which is None:
            raise wrong(name.at, f"unknown function {name.text}; known: {', '.join(_CONTAINS)}")
        column = self._column(self._sum())
        self._expect(",")
        items = self._list() if which else (self._constant(),)
        self._expect(")")
        return Contains(column, items, which != "_any", False, name.at)

    def _path(self, name: Token) -> tuple[str | int, ...]:
        path: list[str | int] = [] if name.text == "$meta" else [name.text]
        while self._took("sign", "["):
            key = self._here
            if not isinstance(key.value, str | int) or key.kind != "constant":
                raise self._unexpected("a key in quotes, or a place from 0")
            path.append(self._take().value)  # type: ignore[arg-type]
            self._expect("]")
        if not path or not isinstance(path[0], str):
            raise wrong(name.at, '$meta is followed by a key: $meta["label"]')
        return tuple(path)

    def _list(self) -> tuple[Plain, ...]:
        self._expect("[")
        found: list[Plain] = []
        while not self._took("sign", "]"):
            found.append(self._constant())
            if self._here.text != "]":
                self._expect(",")
        return tuple(found)

    def _constant(self) -> Plain:
        here = self._here
        if here.text in ("[", "(") or here.kind in ("name", "word", "end"):
            raise self._unexpected("a constant")
        value = self._sum()
        if not isinstance(value, Constant):
            raise wrong(here.at, "expected a constant")
        return value.value

    def _pattern(self) -> tuple[str | Wildcard, ...]:
        here = self._here
        if here.kind != "constant" or not isinstance(here.value, str):
            raise self._unexpected('a pattern in quotes, as "a%"')
        return _pieces(str(self._take().value))

    # What a level got must be of one kind.

    def _condition(self, node: Node | Value) -> Node:
        if isinstance(node, Column):
            raise wrong(
                node.at, f"{node} is no condition; for a column of booleans: {node} == true"
            )
        if isinstance(node, Constant | Arithmetic):
            raise wrong(node.at, "this is a value, not a condition: compare it with a column")
        return node

    def _value(self, node: Node | Value) -> Value:
        if not isinstance(node, Column | Constant | Arithmetic):
            raise wrong(node.at, "this is a condition, not a value: nothing compares with it")
        return node

    def _column(self, node: Node | Value) -> Column:
        if not isinstance(node, Column):
            raise wrong(node.at, "expected a column here")
        return node

    @property
    def _here(self) -> Token:
        return self._words[self._next]

    def _take(self) -> Token:
        self._next += 1
        return self._words[self._next - 1]

    def _took(self, kind: str, *texts: str) -> Token | None:
        here = self._here
        return self._take() if here.kind == kind and here.text in texts else None

    def _expect(self, sign: str) -> None:
        if not self._took("sign", sign):
            raise self._unexpected(sign)

    def _unexpected(self, wanted: str) -> Exception:
        there = "the end" if self._here.kind == "end" else repr(self._here.text)
        return wrong(self._here.at, f"expected {wanted}, found {there}")


def _pieces(pattern: str) -> tuple[str | Wildcard, ...]:
    found: list[str | Wildcard] = []
    position, piece = 0, ""
    while position < len(pattern):
        sign = pattern[position]
        if sign == "\\" and pattern[position + 1 : position + 2] in ("%", "_", "\\"):
            piece += pattern[position + 1]
            position += 2
            continue
        if sign in "%_":
            found += [piece] if piece else []
            # Two % are as good as one.
            if sign == "_" or not found or found[-1] != Wildcard("%"):
                found.append(Wildcard(cast("Literal['%', '_']", sign)))
            piece = ""
        else:
            piece += sign
        position += 1
    return tuple([*found, piece] if piece else found)
