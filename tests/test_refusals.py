"""The pace that refusals teach, where a server says nothing else. No clock runs here."""

import pytest

from beam_openai.refusals import Refusals


def steady(rate, seconds, refusals=None, begin=0.0):
    """Sends and is answered at once, so many times a second."""
    refusals = refusals or Refusals()
    for number in range(int(rate * seconds)):
        now = begin + number / rate
        refusals.take(now)
        refusals.accepted(now)
    return refusals


def test_nothing_waits_before_the_first_refusal():
    refusals = steady(100, 10)
    assert refusals.pace is None and refusals.wait(10) <= 0


def test_a_refusal_brings_the_pace_back_to_a_little_less_than_what_was_accepted():
    refusals = steady(50, 20)
    refusals.refused(19.9, 20.0)
    assert refusals.pace == pytest.approx(0.95 * 50, rel=0.05)
    refusals.take(20.0)
    assert refusals.wait(20.0) == pytest.approx(1 / refusals.pace - 0.1, abs=0.1)


def test_what_was_under_way_together_counts_once():
    refusals = steady(50, 20)
    for _ in range(40):
        refusals.refused(19.9, 20.0)
    once = refusals.pace
    assert once == pytest.approx(0.95 * 50, rel=0.05)
    refusals.refused(20.1, 20.2)
    assert refusals.pace < once


def refused_often(together=1):
    """One that is no longer at its beginning: at 50 a second, and refused every four seconds until the 40th."""
    refusals = steady(50, 20)
    for second in range(20, 44, 4):
        refusals.refused(second, second)
        if second < 40:
            steady(50, 4, refusals, begin=float(second))
    for _ in range(together - 1):
        refusals.refused(39.9, 40.0)
    return refusals


def test_until_the_third_refusal_the_pace_grows_fast():
    """What was accepted lately tells too little of a pace that was still doubling when it was refused."""
    refusals = steady(50, 20)
    refusals.refused(19.9, 20.0)
    at_first = refusals.pace
    steady(50, 2, refusals, begin=20.0)
    assert refusals.pace > 1.8 * at_first


def test_later_it_grows_slowly_at_first_and_then_fast():
    refusals = refused_often()
    at_first = refusals.pace
    steady(50, 6, refusals, begin=40.0)
    after_300 = refusals.pace
    steady(50, 24, refusals, begin=46.0)
    assert 1.02 < after_300 / at_first < 1.05 and refusals.pace > 1.2 * after_300


def test_where_many_are_refused_together_it_grows_as_much_slower():
    alone, together = refused_often(), refused_often(together=10)
    assert alone.pace == together.pace
    for refusals in (alone, together):
        steady(50, 6, refusals, begin=40.0)
    assert alone.pace > 1.02 * together.pace


def test_it_does_not_grow_beyond_twice_what_is_used():
    refusals = steady(50, 20)
    refusals.refused(19.9, 20.0)
    steady(5, 60, refusals, begin=20.0)
    grown = refusals.pace
    steady(5, 4000, refusals, begin=80.0)
    assert refusals.pace == grown


def test_what_is_accepted_every_twenty_seconds_teaches_a_pace_of_that():
    refusals, now, accepted_at, refused = Refusals(), 0.0, -20.0, []
    for _ in range(300):
        now += max(1.0, refusals.wait(now))
        refusals.take(now)
        if now - accepted_at >= 20:
            accepted_at = now
            refusals.accepted(now)
        else:
            refused.append(now)
            refusals.refused(now, now)
    assert refusals.pace == pytest.approx(1 / 20, rel=0.2) and sum(at > now / 2 for at in refused) <= 5


def test_refusals_alone_never_stop_it():
    refusals = Refusals()
    now = 0.0
    for _ in range(100):
        refusals.take(now)
        refusals.refused(now, now + 1)
        assert refusals.wait(now + 1) <= 10
        now += 1 + max(0.0, refusals.wait(now + 1))


def test_what_was_not_sent_after_all_is_given_back():
    refusals = steady(10, 20)
    refusals.refused(19.9, 20.0)
    refusals.take(20.0)
    waits = refusals.wait(20.0)
    refusals.take(20.0)
    refusals.give_back()
    assert refusals.wait(20.0) == pytest.approx(waits)


@pytest.mark.parametrize("outage", [1.0, 10.0, 60.0])
def test_an_outage_in_which_all_is_refused_is_forgotten_within_a_minute(outage):
    refusals = steady(200, 30)
    now, refused_until = 30.0, 30.0 + outage
    accepted = []
    while now < refused_until + 60:
        now += max(refusals.wait(now), 0.002)
        refusals.take(now)
        if now < refused_until:
            refusals.refused(now, now)
        else:
            refusals.accepted(now)
            accepted.append(now)
    assert sum(at > now - 10 for at in accepted) >= 0.9 * 0.95 * 200 * 10


def test_a_server_that_refuses_one_in_a_hundred_at_any_pace_is_not_brought_to_a_standstill():
    refusals, now, accepted = steady(200, 30), 30.0, 0
    for number in range(100_000):
        now += max(refusals.wait(now), 0.005)
        refusals.take(now)
        if number % 100 == 50:
            refusals.refused(now, now)
        else:
            refusals.accepted(now)
            accepted += 1
    assert refusals.pace >= 0.38 * 200 and accepted / (now - 30) >= 0.38 * 200


def test_a_server_whose_quota_falls_to_a_tenth_is_followed():
    refusals, now, left, refused = steady(200, 30), 30.0, 0.0, []
    for _ in range(5_000):
        wait = max(refusals.wait(now), 0.005)
        now, left = now + wait, min(20.0, left + 20 * wait)
        refusals.take(now)
        if left < 1:
            refusals.refused(now, now)
            refused.append(now)
        else:
            left -= 1
            refusals.accepted(now)
    assert refusals.pace <= 30 and sum(at > now - 60 for at in refused) <= 0.02 * 60 * 20


def test_where_nothing_was_ever_accepted_there_is_no_pace():
    refusals = Refusals()
    for second in range(100):
        refusals.take(second)
        refusals.refused(second, second)
    assert refusals.pace is None and refusals.wait(100) <= 0


def test_a_refusal_after_a_rest_teaches_what_was_accepted_before_it():
    refusals = steady(20, 1.5)
    refusals.refused(31.5, 31.5)
    assert refusals.pace >= 10
