"""What is kept: no more than fits, and only for who holds the token."""

from __future__ import annotations

from captum_gradeclip.app.store import Store


def test_the_least_asked_for_makes_room() -> None:
    store = Store[int](most=2)
    first, second = store.put(1), store.put(2)
    assert store.get(first) == 1
    third = store.put(3)
    assert [store.get(one) for one in (first, second, third)] == [1, None, 3]


def test_the_room_in_bytes_holds() -> None:
    store = Store[int](most=100, room=10)
    tokens = [store.put(number, size=4) for number in range(3)]
    assert [store.get(one) for one in tokens] == [None, 1, 2]
    large = store.put(9, size=1000)
    assert store.get(large) == 9 and store.get(tokens[2]) is None


def test_tokens_cannot_be_guessed() -> None:
    store = Store[int]()
    tokens = {store.put(1) for _ in range(50)}
    assert len(tokens) == 50 and all(len(one) > 20 for one in tokens)
    assert store.get(None) is None and store.get("") is None
