"""Who loses a place, and for whom."""

from __future__ import annotations

from openaibatching.server.api.http.places import Places


def full(most: int, known: int) -> Places[str]:
    """So many with a key, none of them idle, and as many strangers as there may be."""
    places: Places[str] = Places(most)
    for number in range(known):
        places.take(f"known {number}")
        places.know(f"known {number}")
    for number in range(most):
        if len(places.all()) < most and places.strangers < int(most * 0.75):
            places.take(f"stranger {number}")
    return places


def test_strangers_have_three_quarters_of_the_places_and_the_oldest_goes() -> None:
    places = full(8, known=0)
    assert places.strangers == 6
    assert places.take("next") == "stranger 0"
    assert places.take("another") == "stranger 1"
    assert places.strangers == 6


def test_a_stranger_goes_before_anybody_with_a_key() -> None:
    places = full(8, known=7)
    places.wait("known 3", 0.0)
    assert places.take("next") == "stranger 0"


def test_of_those_with_a_key_the_one_that_has_been_idle_longest_goes() -> None:
    places = full(8, known=8)
    places.wait("known 3", 0.0)
    places.wait("known 2", 1.0)
    places.wait("known 3", 2.0)
    assert places.take("next") == "known 2"


def test_if_all_have_a_key_and_a_call_the_new_one_gets_no_place() -> None:
    places = full(8, known=8)
    assert places.take("next") == "next"
    assert "next" not in places.all()
    places.leave("next")
    places.leave("known 5")
    assert places.take("next") is None


def test_with_a_single_place_there_is_one_for_a_stranger() -> None:
    places: Places[str] = Places(1)
    assert places.take("a") is None
    assert places.take("b") == "a"
    places.know("b")
    assert places.take("c") == "c"
