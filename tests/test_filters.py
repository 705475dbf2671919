"""The language of filters: the same rows on a table, on Milvus Lite and on a server."""

from __future__ import annotations

import datetime
import random
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.helpers.runs import good
from tests.test_milvus_lite import SPEC
from vidembed import filters, schema
from vidembed.errors import ConfigError
from vidembed.store.milvus import Collection

TEXTS = [
    "cat", "dog", "100%", "a_b", "été ☀", 'a"b\\c', "", "Cat", "line\nbreak", "d\tg", "dig", "☀",
    "a", "it's", "ab",
]  # fmt: skip
TYPES = {
    "label": pa.string(),
    "views": pa.int64(),
    "stars": pa.float64(),
    "seen": pa.bool_(),
    "made": pa.date32(),
    "tags": pa.list_(pa.string()),
    "info": pa.struct(
        [("kind", pa.string()), ("size", pa.int64()), ("deep", pa.struct([("x", pa.float64())]))]
    ),
    "a b": pa.int64(),
}


def rows(count: int = 60) -> pa.Table:
    """Rows with metadata of all kinds, a third of it missing."""
    chance = random.Random(5)

    def some(value):
        return value if chance.random() > 0.3 else None

    made = [
        {
            "label": some(chance.choice(TEXTS)),
            "views": some(chance.choice([-7, -3, 0, 1, 2, 3, 40, 2**40, -(2**40)])),
            "stars": some(chance.choice([-1.5, 0.0, 0.5, 2.0, 7.25, 1e300])),
            "seen": some(chance.random() > 0.5),
            "made": some(datetime.date(2020 + chance.randrange(5), 3, 1)),
            "tags": some(chance.sample(["p", "q", "r s", "é"], chance.randrange(4))),
            "info": some(
                {
                    "kind": some(chance.choice(TEXTS)),
                    "size": some(chance.randrange(5)),
                    "deep": some({"x": some(chance.choice([0.5, 2.0]))}),
                }
            ),
            "a b": some(chance.randrange(3)),
        }
        for _ in range(count)
    ]
    clips = [
        good(f"v{k}", np.eye(4)[k % 4])
        | {"start_s": k / 2, "width": 100 + k, "segment": k % 3, "uri": f"/videos/{k:02}.mp4"}
        for k in range(count)
    ]
    table = pa.table(
        {f.name: pa.array([r.get(f.name) for r in clips], f.type)
         for f in schema.embeddings(4, pa.schema([]))}
    )  # fmt: skip
    for name, kind in TYPES.items():
        table = table.append_column(name, pa.array([r[name] for r in made], kind))
    return table


TABLE = rows()


@pytest.fixture(scope="module", params=["lite", "server"])
def collection(request, tmp_path_factory):
    """The rows of `TABLE` in Milvus."""
    if request.param == "lite":
        uri = str(tmp_path_factory.mktemp("filters") / "lite.db")
    else:
        uri = request.getfixturevalue("milvus").uri
    found = Collection(uri, "filtered")
    found.ensure(replace(SPEC, name="filtered"))
    found.upsert(TABLE)
    # From here on no search needs to wait for what was written.
    assert found.count() == len(TABLE)
    yield found
    found.drop()
    found.close()


def in_table(text: str) -> set[str]:
    return set(TABLE.filter(filters.parse(text).mask(TABLE))["id"].to_pylist())


def in_milvus(collection: Collection, text: str) -> set[str]:
    (hits,) = collection.search(
        np.ones((1, 4), np.float32), len(TABLE), filter=text, fields=["id"],
        consistency="Eventually",
    )  # fmt: skip
    return {hit["id"] for hit in hits}


class Expressions:
    """Expressions by chance, of what all versions of Milvus can say."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def any(self, depth: int = 3) -> str:
        pick = self._chance.random()
        if depth == 0 or pick < 0.4:
            return self.leaf()
        if pick < 0.6:
            return f"{self._one('not ', 'NOT ', '!')}({self.any(depth - 1)})"
        sign = self._one("and", "or", "&&", "||", "AND", "Or")
        return f"({self.any(depth - 1)} {sign} {self.any(depth - 1)})"

    def leaf(self) -> str:
        return self._one(
            self.of_text, self.of_number, self.of_number, self.of_real, self.of_boolean,
            self.of_null, self.of_list, self.of_chain,
        )()  # fmt: skip

    def of_text(self) -> str:
        column = self._one("label", 'info["kind"]', "$meta['label']", "uri", "id", "made")
        sign = self._compare()
        known = [*TEXTS, "v3", "2022-03-01", "/videos/11.mp4"]
        several = ", ".join(self._quoted(t) for t in self._chance.sample(known, 3))
        return self._one(
            f"{column} {sign} {self._quoted(self._one(*known))}",
            f"{self._quoted(self._one(*known))} {sign} {column}",
            f"{column} {self._one('in', 'not in', 'IN')} [{several}]",
            f"{column} {self._one('like', 'not like')} {self._pattern()}",
        )

    def of_number(self) -> str:
        column = self._one("views", "width", "segment", 'info["size"]', "$meta['a b']")
        value = self._one(
            "0", "1", "-3", "2.0", "2.5", "103", "-7 + 4", "3000000000", "2 ** 3", "1e2"
        )
        return self._one(
            f"{column} {self._compare()} {value}",
            f"{value} {self._compare()} {column}",
            f"{column} {self._one('in', 'not in')} [1, {value}, 105]",
        )

    def of_real(self) -> str:
        column = self._one("stars", "start_s", 'info["deep"]["x"]')
        value = self._one("0", "0.5", "-1.5", "2", "7.25", "12")
        return self._one(
            f"{column} {self._compare()} {value}",
            f"{column} {self._one('in', 'not in')} [{value}, 2, 0.5]",
        )

    def of_boolean(self) -> str:
        return f"seen {self._one('==', '!=')} {self._one('true', 'False', 'TRUE')}"

    def of_null(self) -> str:
        column = self._one(
            "label", "views", "stars", "seen", "made", "tags", "info", "width",
            'info["kind"]', 'info["size"]', "$meta['a b']", 'info["deep"]["x"]',
        )  # fmt: skip
        return self._one(f"{column} is null", f"{column} is not null", f"exists {column}")

    def of_list(self) -> str:
        word = self._one('"p"', '"é"', '"r s"', '"absent"')
        return self._one(
            f"json_contains(tags, {word})",
            f'array_contains_any(tags, ["q", {word}])',
            f'JSON_CONTAINS_ALL(tags, ["p", {word}])',
            f"tags[0] == {word}",
        )

    def of_chain(self) -> str:
        return self._one(
            "-3 <= views < 40", "1 < start_s <= 9.5", '"a" < label <= "dog"', "110 > width > 102"
        )

    def _compare(self) -> str:
        return self._one("==", "!=", "<", "<=", ">", ">=")

    def _pattern(self) -> str:
        # More than the start of a text is not in every version.
        return self._quoted(self._one("c%", "a%", "été%", "/videos/1%", "cat", "%", "1", "100\\%%"))

    def _quoted(self, text: str) -> str:
        quote = self._one("'", '"')
        for sign, escape in (("\\", "\\\\"), (quote, "\\" + quote), ("\n", "\\n"), ("\t", "\\t")):
            text = text.replace(sign, escape)
        return f"{quote}{text}{quote}"

    def _one(self, *choices):
        return self._chance.choice(choices)


@pytest.mark.milvus
def test_the_same_expression_finds_the_same_rows_in_a_table_and_in_milvus(collection):
    expressions = Expressions(seed=11)
    different, found = [], 0
    for text in [expressions.leaf() for _ in range(200)] + [expressions.any() for _ in range(150)]:
        wanted = in_table(text)
        found += 0 < len(wanted) < len(TABLE)
        if (there := in_milvus(collection, text)) != wanted:
            different.append((text, sorted(there ^ wanted)))
    assert not different, "\n".join(map(str, different[:40]))
    assert found > 150


# On a table

SMALL = pa.table(
    {
        "label": ["cat", "dog", None, "100%"],
        "n": [1, 2, None, -3],
        "f": [0.5, float("nan"), 3.0, float("inf")],
        "b": [True, False, None, True],
        "o": [{"k": 1}, None, {"k": None}, {"k": 4}],
        "l": [["a"], None, [], ["a", "b"]],
    }
)


def kept(text: str, table: pa.Table = SMALL) -> list[int]:
    mask = filters.parse(text).mask(table)
    assert (mask.type, mask.null_count, len(mask)) == (pa.bool_(), 0, len(table))
    return [k for k, holds in enumerate(mask.to_pylist()) if holds]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("label == 'cat' or n == 2", [0, 1]),
        ("n == 1 or n == 2 and label == 'cat'", [0]),
        ("not n == 1 and label != 'dog'", [3]),
        ("!(n > 1 || n < -2)", [0]),
        ("-3 <= n < 2 and n != 0", [0, 3]),
        ("n * 2 + 1 == 5", [1]),
        ("-n == 3", [3]),
        ("n % 2 == -1", [3]),
        ("n == 2 ** 3 - 6", [1]),
        ("f / 2 == 1.5", [2]),
        # A number that is none, or has no end, is missing: JSON has no word for it.
        ("f > 0", [0, 2]),
        ("f is null", [1, 3]),
        ("label like '_a%'", [0]),
        (r"label like '100\%'", [3]),
        (r"label like '%\\%%'", [3]),
        ("label not like '%o%'", [0, 3]),
        ("b != true", [1]),
        ("o['k'] >= 1", [0, 3]),
        ("exists o['k']", [0, 3]),
        ("o is null", [1]),
        ("not json_contains(l, 'a')", [2]),
        ("array_contains_all(l, ['a', 'b'])", [3]),
        ("l[1] == 'b'", [3]),
        ("n in []", []),
        ("n not in []", [0, 1, 3]),
        ("n in [1.0, 2.5]", [0]),
        ("n > f", [0]),
    ],
)
def test_expressions_hold_for_the_rows_that_they_should(text, expected):
    assert kept(text) == expected


def test_the_columns_to_read_are_told_once_each_and_in_order():
    found = filters.parse("o['k'] == 1 and (label in ['a'] or not exists o) and $meta['n'] < f")
    assert found.columns == ("o", "label", "n", "f")


def test_chunks_dictionaries_and_empty_tables_are_taken():
    twice = pa.concat_tables([SMALL, SMALL])
    assert kept("label == 'dog'", twice) == [1, 5]
    coded = SMALL.set_column(0, "label", SMALL["label"].combine_chunks().dictionary_encode())
    assert kept("label like 'c%'", coded) == [0]
    assert kept("n > 0 and exists label", SMALL.slice(0, 0)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a condition"),
        ("label = 'cat'", "at 7: unknown '='; did you mean '=='"),
        ("label <> 'cat'", "at 7: unknown '<>'; did you mean '!='"),
        ("lable == 'cat'", "at 1: no column 'lable'; did you mean 'label'"),
        ("n == 1 and xyz < 3", "at 12: no column 'xyz'; there are b, f, l, label, n, o"),
        ("embedding == 1", "at 1: embedding is not for filters"),
        ("label == 3", "at 7: label holds text, 3 is a number"),
        ("n in [1, 'a']", "at 3: n holds whole numbers, 'a' is text"),
        ("b < true", "at 3: booleans have no order"),
        ("n like 'a%'", "at 3: n holds whole numbers: like is for text"),
        ("o == 1", 'at 3: o holds objects: name a key, o["…"]'),
        ("l == 'a'", "at 3: l holds lists: json_contains(l, …)"),
        ("json_contains(label, 'a')", "at 1: label holds text, not lists"),
        ("o['q'] == 1", 'at 1: there is no o["q"] in o'),
        ("label + 1 == 2", "at 7: + is for numbers; label holds text"),
        ("n / 2 == 1", "at 3: / of whole numbers is rounded by one Milvus and not by another"),
        ("f % 2 == 1", "at 3: % is for whole numbers"),
        ("n % 0 == 1", "at 3: % by 0"),
        ("n ** 2 == 4", "at 3: ** is for constants"),
        ("label", "at 1: label is no condition; for a column of booleans: label == true"),
        ("1 == 1", "at 3: == compares two constants"),
        ("(n == 1", "at 8: expected ), found the end"),
        ("n == 1 label", "at 8: expected and, or, or the end, found 'label'"),
        ("label == 'cat", "at 10: this ' is not closed"),
        (r"label == 'a\q'", r"at 12: unknown escape \q"),
        ("n == 007", "at 6: 007 begins with 0: write 7"),
        ("n == 9223372036854775808", "beyond 64 bits"),
        ("n == 2 ** 64", "beyond 64 bits"),
        ("n == 0x1", "at 6: '0x1' is no number"),
        ("n is 3", "at 6: expected null or not null, found '3'"),
        ("$meta == 1", 'at 1: $meta is followed by a key: $meta["label"]'),
        ("upper(label) == 'A'", "at 1: unknown function upper; known: json_contains"),
        ("n in [label]", "at 7: expected a constant, found 'label'"),
        ("(" * 60 + "n == 1" + ")" * 60, "nested deeper than 40"),
        ("not " * 60 + "n == 1", "nested deeper than 40"),
    ],
)
def test_what_is_not_understood_is_said_with_its_place(text, message):
    with pytest.raises(ConfigError, match=r"^--filter: ") as error:
        filters.parse(text).mask(SMALL)
    assert message in str(error.value)


# In Milvus


@pytest.mark.milvus
def test_columns_that_no_row_has_and_kinds_that_do_not_compare_are_refused(collection):
    for text, message in (
        (
            "lable == 'cat'",
            "at 1: no column 'lable' in collection 'filtered'; did you mean 'label'",
        ),
        ("label == 3", "at 7: label holds text, 3 is a number"),
        ("views > 'a'", "at 7: views holds whole numbers, 'a' is text"),
        ("info['nothing'] == 1", "at 1: no row of collection 'filtered' has info[\"nothing\"]"),
        ("embedding == 1", "at 1: embedding is not for filters"),
        ("width / 2 == 50", "/ of whole numbers"),
    ):
        with pytest.raises(ConfigError) as error:
            in_milvus(collection, text)
        assert message in str(error.value)


@pytest.mark.milvus
def test_what_this_milvus_lacks_is_refused_and_found_where_it_does_not(collection):
    for text in ("label like '%g'", "label like 'd_g'", "label not like '%a%'"):
        if collection.is_lite:
            assert in_milvus(collection, text) == in_table(text)
        else:
            with pytest.raises(ConfigError, match=r"Milvus 2\.3\.\d matches the beginning .* 2\.4"):
                in_milvus(collection, text)
    # Of arithmetic each knows a part, and says itself what it does not.
    assert in_milvus(collection, "views + 1 == 3") == in_table("views + 1 == 3")
    if collection.is_lite:
        assert in_milvus(collection, "views < stars") == in_table("views < stars")
        with pytest.raises(ConfigError, match="views % 2 == 1: this Milvus refuses it"):
            in_milvus(collection, "views % 2 == 1")
    else:
        assert in_milvus(collection, "views % 2 == 1") == in_table("views % 2 == 1")
        with pytest.raises(ConfigError, match="views < stars: this Milvus refuses it"):
            in_milvus(collection, "views < stars")


@pytest.mark.milvus
def test_the_metadata_of_a_collection_is_told(collection):
    assert collection.columns() == sorted(TYPES)
