"""Keys by content, and what each cache keeps."""

from __future__ import annotations

from typing import Any

import pytest

from sfumato.caching import Cache, ClassicCache, Kept, LruCache, NoCache, NodeObjects, node_key
from sfumato.graph import Link, Node
from sfumato.nodes import NodeType


def type_of(name: str = "T", idempotent: bool = True, make: Any = object) -> NodeType:
    return NodeType(name, (), (), make, idempotent=idempotent)


def key(inputs: dict[str, Any], node_id: str = "1", fingerprint: Any = None, node_type: NodeType | None = None, **parents: bytes) -> bytes:
    return node_key(node_type or type_of(), node_id, Node("T", inputs), fingerprint, parents)


def test_equal_content_has_equal_keys() -> None:
    assert key({"a": 1, "b": "x"}) == key({"b": "x", "a": 1}, node_id="2")
    assert key({"a": {"x": [1, (2,)], "y": None}}) == key({"a": {"y": None, "x": [1, [2]]}})
    assert key({"a": Link("p", 0)}, p=b"k") == key({"a": Link("q", 0)}, q=b"k"), "parents count by what they are, not by their ids"


VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    1.0,
    0.0,
    -0.0,
    "",
    "1",
    "None",
    b"",
    b"1",
    [],
    [1],
    [[1]],
    [1, 1],
    {},
    {"a": 1},
    {"a": "1"},
    {1},
    2**70,
]


def test_different_content_has_different_keys() -> None:
    assert len({key({"a": value}) for value in VALUES}) == len(VALUES)
    assert key({"a": "b"}) != key({"b": "a"})
    assert key({"a": "x", "b": "y"}) != key({"a": "xby"})
    assert key({"a": Link("p", 0)}, p=b"k") != key({"a": Link("p", 1)}, p=b"k")
    assert key({"a": Link("p", 0)}, p=b"k") != key({"a": Link("p", 0)}, p=b"l")
    assert key({}, fingerprint=1) != key({}, fingerprint=2)
    assert key({}) != key({}, node_type=type_of("U"))


@pytest.mark.parametrize("value", [float("nan"), object(), [float("nan")], {"a": object()}])
def test_what_cannot_be_compared_never_comes_again(value: Any) -> None:
    assert key({"a": value}) != key({"a": value})
    assert key({}, fingerprint=value) != key({}, fingerprint=value)


def test_the_id_counts_only_where_running_twice_is_not_the_same() -> None:
    always_new = type_of(idempotent=False)
    assert key({}, "1", node_type=always_new) != key({}, "2", node_type=always_new)
    assert key({}, "1", node_type=always_new) == key({}, "1", node_type=always_new)


def fill(cache: Cache, names: str) -> None:
    """A run whose nodes have these keys."""
    keys = [name.encode() for name in names]
    cache.begin(keys)
    for each in keys:
        if cache.get(each, each) is None:
            cache.put(each, each, Kept(([each],)))


def kept(cache: Cache, names: str) -> str:
    return "".join(name for name in names if cache.get(name.encode(), b"?") is not None)


def test_the_classic_cache_keeps_what_the_last_graph_can_use() -> None:
    cache = ClassicCache()
    fill(cache, "abc")
    fill(cache, "bd")
    assert kept(cache, "abcd") == "bd"


def test_a_result_inside_a_sub_graph_lives_as_long_as_the_node_it_worked_for() -> None:
    cache = ClassicCache()
    cache.begin([b"outer"])
    cache.put(b"inner", b"outer", Kept(()))
    cache.begin([b"outer"])
    assert cache.get(b"inner", b"outer") is not None
    cache.begin([b"other"])
    assert cache.get(b"inner", b"other") is None


def test_a_shared_inner_result_lives_as_long_as_one_of_its_owners() -> None:
    cache = ClassicCache()
    cache.put(b"inner", b"one", Kept(()))
    cache.get(b"inner", b"two")
    cache.begin([b"two"])
    assert len(cache) == 1


def test_the_lru_cache_keeps_the_results_used_last() -> None:
    cache = LruCache(3)
    fill(cache, "abc")
    fill(cache, "a")
    fill(cache, "d")
    assert kept(cache, "abcd") == "acd"


def test_the_lru_cache_never_drops_what_the_graph_that_runs_needs() -> None:
    cache = LruCache(2)
    fill(cache, "abcd")
    assert kept(cache, "abcd") == "abcd"
    fill(cache, "e")
    assert len(cache) == 2


def test_no_cache_keeps_nothing() -> None:
    cache = NoCache()
    fill(cache, "a")
    assert kept(cache, "a") == ""


@pytest.mark.parametrize("cache", [ClassicCache(), LruCache(5), NoCache()])
def test_clear_lets_go_of_everything(cache: Cache) -> None:
    fill(cache, "ab")
    cache.clear()
    assert kept(cache, "ab") == ""


def test_node_objects_are_kept_by_id_and_class() -> None:
    objects, one, two = NodeObjects(), type_of(), type_of()
    first = objects.get("1", one, "1")
    assert objects.get("1", one, "1") is first
    assert objects.get("2", one, "2") is not first
    assert objects.get("1", two, "1") is not first, "the class of that name was loaded anew"


def test_node_objects_go_with_the_node_of_the_users_graph() -> None:
    objects, kind = NodeObjects(), type_of()
    inner = objects.get("1.0.5", kind, "1")
    objects.keep_only({"1"})
    assert objects.get("1.0.5", kind, "1") is inner
    objects.keep_only({"2"})
    assert objects.get("1.0.5", kind, "1") is not inner
