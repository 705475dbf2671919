"""Arithmetic on constants, which is done while an expression is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from vidembed.filters.nodes import Arithmetic, Constant, wrong

if TYPE_CHECKING:
    from vidembed.filters.lexer import Token
    from vidembed.filters.nodes import Value


UNLIKE = (
    "/ of whole numbers is rounded by one Milvus and not by another: multiply the other side, or "
    "write the divisor with a point"
)
MODULO = "% is for whole numbers"


def numeric(value: Constant) -> int | float:
    """Raises ConfigError for a constant that is no number."""
    if isinstance(value.value, str | bool):
        raise wrong(value.at, f"{value.value!r} is no number")
    return value.value


def computed(sign: Token, left: Value, right: Value) -> Value:
    """Folded, where both sides are constants. Raises ConfigError for what has no value."""
    for side in (left, right):
        if isinstance(side, Constant):
            numeric(side)
    if sign.text in "/%" and isinstance(right, Constant) and right.value == 0:
        raise wrong(sign.at, f"{sign.text} by 0")
    if isinstance(left, Constant) and isinstance(right, Constant):
        return Constant(_folded(sign, numeric(left), numeric(right)), left.at)
    if sign.text == "**":
        raise wrong(sign.at, "** is for constants: Milvus has it for no column")
    return Arithmetic(sign.text, left, right, sign.at)


def _folded(sign: Token, left: float, right: float) -> int | float:
    whole = isinstance(left, int) and isinstance(right, int)
    found: int | float
    try:
        match sign.text:
            case "+":
                found = left + right
            case "-":
                found = left - right
            case "*":
                found = left * right
            case "**":
                found = (
                    float(left) ** right if right < 0 or not whole else _whole_power(left, right)
                )
            case "%" if whole:
                found = abs(left) % abs(right) * (-1 if left < 0 else 1)
            case "/" if not whole:
                found = left / right
            case _:
                raise wrong(sign.at, UNLIKE if sign.text == "/" else MODULO)
    except (OverflowError, ZeroDivisionError):
        raise wrong(sign.at, f"{left} {sign.text} {right} is beyond 64 bits") from None
    if isinstance(found, complex) or not abs(found) < (2**63 if whole else float("inf")):
        raise wrong(sign.at, f"{left} {sign.text} {right} is beyond 64 bits")
    return found


def _whole_power(left: float, right: float) -> int | float:
    if right > 63 and abs(left) > 1:
        raise OverflowError
    return cast("float", left**right)
