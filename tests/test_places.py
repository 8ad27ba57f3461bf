"""How many requests are in flight, where nobody says so: against servers that stand in no time at all."""

import heapq
import random

import pytest

from beam_openai.places import MOST, Places


def run(serve, seconds, places=None, pace=None, demand=None, seed=0):
    """Keeps all places taken; yields (time, number, answered by then).

    Args:
      serve: called with the time and how many are served before; seconds until there is an answer.
      demand: requests in flight at most, for want of rows.
    """
    chance, places = random.Random(seed), places or Places(None)
    now, flying, answered, seen = 0.0, [], 0, []
    while now < seconds:
        while len(flying) < min(places.number, demand or MOST):
            heapq.heappush(flying, (serve(now, len(flying), chance), now))
        now, began = heapq.heappop(flying)
        answered += 1
        is_full = len(flying) + 1 >= places.number and demand is None
        places.answered(now, now - began, is_full, pace)
        seen.append((now, places.number, answered))
    return seen


def queueing(slots, each, spread=0.3):
    """A server that serves so many at a time, and lets the others stand in line."""
    free = [0.0] * slots

    def serve(now, before, chance):
        begins = max(now, heapq.heappop(free))
        ends = begins + each * chance.lognormvariate(-(spread**2) / 2, spread)
        heapq.heappush(free, ends)
        return ends

    return serve


def endless(each):
    """A server for which nothing is too much."""
    return lambda now, before, chance: now + each * chance.lognormvariate(0, 0.3)


def steady(seen, since):
    return [number for now, number, _ in seen if now >= since]


def rate(seen, since):
    late = [entry for entry in seen if entry[0] >= since]
    return (late[-1][2] - late[0][2]) / (late[-1][0] - late[0][0])


@pytest.mark.parametrize("slots", [1, 4, 20, 100])
@pytest.mark.parametrize("each", [0.05, 1.0])
def test_a_server_that_queues_is_kept_busy_and_its_queue_short(slots, each):
    seen = run(queueing(slots, each), 600 * each + 120)
    since = 300 * each
    assert rate(seen, since) >= 0.93 * slots / each
    numbers = steady(seen, since)
    assert sum(numbers) / len(numbers) <= max(2.2 * slots, 20)


def test_a_server_that_can_take_all_gets_all():
    seen = run(endless(0.5), 60)
    assert seen[-1][1] == MOST and seen[-1][1] <= MOST


def test_a_server_that_becomes_slow_gets_fewer_and_when_it_recovers_more():
    slots = 64
    free = [0.0] * slots

    def serve(now, before, chance):
        usable = 8 if 300 < now < 900 else slots
        while len(free) > usable:
            free.remove(max(free))
        while len(free) < usable:
            free.append(now)
        heapq.heapify(free)
        ends = max(now, heapq.heappop(free)) + 0.5
        heapq.heappush(free, ends)
        return ends

    seen = run(serve, 2400)
    slow = [number for now, number, _ in seen if 700 < now < 900]
    assert sum(slow) / len(slow) <= 32
    assert rate(seen, 1800) >= 0.85 * slots / 0.5


def test_where_the_quota_s_pace_is_known_there_are_as_many_as_it_needs_at_once():
    places = Places(None)
    for number in range(3):
        places.answered(float(number), 20.0, False, pace=10.0)
    assert places.number == 240


def test_where_rows_are_short_nothing_is_learned():
    seen = run(endless(0.1), 100, demand=4)
    assert seen[-1][1] == seen[0][1]


def test_a_number_that_is_given_stays():
    places = Places(7)
    run(endless(0.1), 20, places)
    assert places.number == places.most == 7
    places.widen(12)
    assert places.number == 12
    places.widen(None)
    assert places.most == MOST


def test_a_server_with_a_short_queue_that_refuses_the_rest_is_not_pressed_and_an_outage_is_forgotten():
    places, now, tally, due = Places(None), 0.0, [], 0.0
    for _ in range(4000):
        now += 0.02
        is_away = 30 < now < 40
        room = 0 if is_away else 64
        if places.number > room:
            places.overloaded(now)
        due += 0 if is_away else min(64, places.number) * 0.02 / 0.3
        while due >= 1:
            due -= 1
            places.answered(now, 0.3, True)
        tally.append((now, places.number))
    assert [number for at, number in tally if 35 < at < 40][-1] <= 8
    assert tally[-1][1] >= 16


def test_one_refusal_in_fifty_for_want_of_room_changes_nothing():
    places = Places(None)
    for number in range(2000):
        places.answered(number / 100, 0.3, False)
        if number % 50 == 0:
            places.overloaded(number / 100)
    assert places.number == 16
