"""The order in which the models of a route are tried."""

import itertools
import random
from collections import Counter
from typing import Any

import pytest

from halfrate.core.routing import Board, Route, fault_in

MODELS = ("a/one", "b/two", "c/three")


def route(**fields: Any) -> Route:
    given: dict[str, Any] = {"models": MODELS, **fields}
    return Route(**given)


def no_price(_model: str) -> None:
    return None


def never() -> float:
    """A chance that is never taken."""
    return 0.999


def test_models_are_tried_in_their_order() -> None:
    assert Board().order(route(), 0.0, no_price) == list(MODELS)


def test_what_failed_of_late_is_tried_last_until_it_has_cooled_down() -> None:
    board = Board()
    board.failed("a/one", 100.0, 30.0)
    assert board.order(route(), 129.0, no_price) == ["b/two", "c/three", "a/one"]
    assert board.order(route(), 130.0, no_price) == list(MODELS)
    # Where the provider says when, it is later than our own measure, and never beyond all reason.
    board.failed("a/one", 200.0, 30.0, retry_after=60.0)
    assert board.order(route(), 250.0, no_price)[-1] == "a/one"
    assert board.order(route(), 260.0, no_price) == list(MODELS)
    board.failed("a/one", 300.0, 30.0, retry_after=1e9)
    assert board.order(route(), 900.0, no_price) == list(MODELS)
    board.failed("a/one", 1_000.0, 30.0)
    board.answered("a/one", 1.0)
    assert board.order(route(), 1_001.0, no_price) == list(MODELS)


def test_where_all_have_failed_the_first_to_recover_is_asked_first() -> None:
    board = Board()
    for model, at in zip(MODELS, (30.0, 10.0, 20.0), strict=True):
        board.failed(model, at, 30.0)
    assert board.order(route(), 31.0, no_price) == ["b/two", "c/three", "a/one"]


def test_the_cheapest_is_asked_first_and_what_has_no_price_last() -> None:
    prices = {"a/one": None, "b/two": 5, "c/three": 3}
    assert Board().order(route(how="cheapest"), 0.0, prices.get) == ["c/three", "b/two", "a/one"]
    assert Board().order(route(how="cheapest"), 0.0, no_price) == list(MODELS)


def test_the_quickest_is_asked_first_and_what_nobody_knows_before_it() -> None:
    board = Board(never)
    fastest = route(how="fastest")
    board.answered("a/one", 2.0)
    assert board.order(fastest, 0.0, no_price) == ["b/two", "c/three", "a/one"]
    board.answered("b/two", 1.0)
    board.answered("c/three", 3.0)
    assert board.order(fastest, 0.0, no_price) == ["b/two", "a/one", "c/three"]
    for _ in range(20):
        board.answered("b/two", 4.0)
    assert board.order(fastest, 0.0, no_price) == ["a/one", "c/three", "b/two"]


def test_now_and_then_a_slower_one_is_asked_so_that_it_is_known_when_it_is_quick_again() -> None:
    board = Board(random.Random(1).random)
    for model, seconds in zip(MODELS, (1.0, 2.0, 3.0), strict=True):
        board.answered(model, seconds)
    first = Counter(board.order(route(how="fastest"), 0.0, no_price)[0] for _ in range(4_000))
    assert 0.03 < 1 - first["a/one"] / 4_000 < 0.08
    assert min(first.values()) > 50


def test_lots_fall_by_weight() -> None:
    board = Board(random.Random(2).random)
    weighted = route(how="weights", weights=(6.0, 3.0, 1.0))
    orders = [board.order(weighted, 0.0, no_price) for _ in range(5_000)]
    assert all(sorted(order) == sorted(MODELS) for order in orders)
    first = Counter(order[0] for order in orders)
    for model, share in zip(MODELS, (0.6, 0.3, 0.1), strict=True):
        assert first[model] / 5_000 == pytest.approx(share, abs=0.03)
    # Of those that are left the same goes on.
    second = Counter(order[1] for order in orders if order[0] == "a/one")
    assert second["b/two"] / second["c/three"] == pytest.approx(3.0, rel=0.2)


def test_a_weight_of_nothing_is_tried_last() -> None:
    board = Board(random.Random(3).random)
    weighted = route(how="weights", weights=(0.0, 1.0, 0.0))
    assert {board.order(weighted, 0.0, no_price)[0] for _ in range(200)} == {"b/two"}


@pytest.mark.parametrize("how", ["fallback", "race", "cheapest", "fastest", "escalate"])
def test_no_model_is_lost_or_asked_twice(how: Any) -> None:
    draw = random.Random(4)
    board = Board(draw.random)
    for now in range(500):
        model = draw.choice(MODELS)
        if draw.random() < 0.5:
            board.failed(model, float(now), 5.0)
        else:
            board.answered(model, draw.random())
        assert sorted(board.order(route(how=how), float(now), no_price)) == sorted(MODELS)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"models": ()}, "no models"),
        ({"models": ("a", "a")}, "twice"),
        ({"how": "weights"}, "0 weights"),
        ({"how": "weights", "weights": (1.0, -1.0, 1.0)}, "from 0 on"),
        ({"how": "weights", "weights": (0.0, 0.0, 0.0)}, "from 0 on"),
        ({"timeout": 0.0}, "timeout"),
        ({"retries": -1}, "retries"),
        ({"retries": 11}, "retries"),
        ({"cool_down": -1.0}, "cool_down"),
    ],
)
def test_a_route_that_makes_no_sense_is_told_why(fields: dict[str, Any], said: str) -> None:
    assert said in fault_in(route(**fields))


def test_a_route_that_makes_sense_has_no_fault() -> None:
    for how, weights in itertools.product(("fallback", "weights"), ((1.0, 0.0, 2.5),)):
        assert fault_in(route(how=how, weights=weights)) == ""
