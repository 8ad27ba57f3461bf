"""One bucket of a server's quota, as its headers tell it. No clock runs here."""

import pytest
from timetables import headers

from beam_openai.buckets import Bucket
from beam_openai.windows import Window


def bucket(what="requests"):
    return Bucket(what, lambda: 0.5)


def told(running, limit, remaining, reset, now=0.0, cost=1.0, latency=0.0, refused=False):
    """One request and its answer."""
    sent = running.take(cost, now)
    running.observe(headers(limit, remaining, reset), sent, refused, now + latency)


def minute(limit, remaining):
    return limit, remaining, f"{(limit - remaining) * 60_000 // limit}ms"


# What one answer says


def test_before_the_first_answer_nothing_waits():
    running = bucket()
    assert running.wait(1, 0.0) <= 0 and running.pace is None and running.used == 0


@pytest.mark.parametrize("reset", ["3s", "3", "2.999s"])
def test_nothing_left_and_a_reset_mean_to_wait_so_long_where_the_limit_is_not_said(reset):
    running = bucket()
    told(running, None, 0, reset)
    assert running.wait(1, 0.0) == pytest.approx(3, abs=0.01)
    assert running.wait(1, 3.0) <= 0


def test_a_reset_in_a_day_holds_for_a_minute_only():
    running = bucket()
    told(running, None, 0, "24h0m0s")
    assert running.wait(1, 0.0) == pytest.approx(60)


def test_nothing_is_sent_that_what_is_left_could_not_hold():
    running = bucket()
    told(running, *minute(600, 2))
    assert running.wait(10, 0.0) >= 0.8
    assert running.wait(700, 1000.0) <= 0  # for which the bucket can never have enough


@pytest.mark.parametrize(
    "said",
    [
        headers(),
        headers(-1, -1, -1),
        headers(60, -1, "1s"),
        headers("x", "y", "z"),
        headers("", "", ""),
        headers(60, "nan", "inf"),
        headers(60, 61, "1s"),
        headers(60, None, "1s"),
        headers(None, 5, None),
        headers(0, 5, None),
        headers(0, 0, None),
    ],
)
def test_headers_that_lie_or_lack_say_nothing(said):
    running = bucket()
    for _ in range(100):
        running.observe(said, running.take(1, 0.0), False, 0.0)
        assert running.wait(1, 0.0) <= 0


def test_an_answer_that_was_overtaken_by_a_later_one_s_tells_nothing():
    running, alone = bucket(), bucket()
    for one in (running, alone):
        first, second = one.take(1, 0.0), one.take(1, 0.1)
        one.observe(headers(*minute(600, 10)), second, False, 1.0)
        if one is running:
            one.observe(headers(*minute(600, 600)), first, False, 5.0)
    assert running.pace == alone.pace and running.wait(50, 5.0) == alone.wait(50, 5.0)


def test_what_was_not_sent_after_all_is_given_back():
    running = bucket()
    told(running, *minute(600, 300))
    running.take(1, 0.1)
    waits = running.wait(1, 0.1), running.wait(400, 0.1)
    for _ in range(5):
        running.take(100, 0.1)
        running.give_back(100)
    assert (running.wait(1, 0.1), running.wait(400, 0.1)) == pytest.approx(waits)


def test_five_minutes_after_the_last_one_a_request_goes_out_whatever_the_headers_said():
    running = bucket()
    told(running, 1, 0, "24h0m0s")
    told(running, 1, 0, "24h0m0s", now=10.0)
    assert running.wait(1, 10.0) == pytest.approx(300) and running.wait(1, 310.0) <= 0
    running.take(1, 310.0)
    assert running.wait(1, 310.0) == pytest.approx(300)


# The window


@pytest.mark.parametrize(("window", "limit"), [(1, 1000), (60, 30_000), (3600, 10_000), (86_400, 10_000)])
def test_the_window_is_learned_from_resets_in_milliseconds(window, limit):
    running = bucket()
    for second in range(10):
        left = int(limit * (0.9 - second / 20))
        told(running, limit, left, f"{round((limit - left) * window / limit * 1000)}ms", now=float(second))
    assert running.rate == pytest.approx(limit / window, rel=0.02)


@pytest.mark.parametrize("rounded", [lambda seconds: -(-seconds // 1), round])
def test_the_window_is_learned_from_resets_in_whole_seconds(rounded):
    running = bucket()
    for second in range(30):
        left = 3000 - 90 * second
        told(running, 3000, left, str(int(rounded((3000 - left) / 50))), now=float(second))
    assert running.rate == pytest.approx(50, rel=0.05)


def test_a_few_units_that_are_missing_do_not_make_a_long_window():
    window = Window()
    window.learn("180s", 9, 3000, 0.0)
    assert window.seconds == 60
    window.learn("600s", 30, 3000, 1.0)
    assert window.seconds == 60_000


def test_resets_that_fall_while_more_is_missing_tell_when_a_period_ends():
    window = Window()
    for second in range(1, 60):
        window.learn(f"{60 - second}s", 40 * second, 3000, float(second))
    assert window.is_period and window.seconds == pytest.approx(60, rel=0.2) and window.ends == pytest.approx(60)
    window.learn("50s", 30, 3000, 70.0)
    assert window.is_period and window.ends == pytest.approx(120)


def test_the_end_of_a_period_that_recedes_is_none():
    window = Window()
    for second in range(1, 60):
        window.learn("1h0m0s", 40 * second, 3000, float(second))
    assert not window.is_period and window.seconds == 60


def test_an_odd_answer_makes_no_periods_for_ever():
    window = Window()
    for second in range(4000):
        window.learn("30s" if second != 100 else "1s", 1500, 3000, float(second))
    assert not window.is_period and window.seconds == pytest.approx(60)


@pytest.mark.parametrize("reset", ["-1", "0", "0s", "", "x", None])
def test_without_a_reset_it_is_a_minute(reset):
    running = bucket()
    for second in range(10):
        told(running, 600, 300 - second, reset, now=float(second))
    assert running.rate == 10


# The pace


def test_a_limit_that_changes_changes_the_pace_with_it():
    running = bucket()
    for second in range(20):
        told(running, *minute(600, 500 - second), now=float(second))
    pace = running.pace
    told(running, *minute(300, 200), now=20.0)
    assert running.pace == pytest.approx(pace / 2) and running.limit == 300
    told(running, *minute(1200, 900), now=21.0)
    assert running.pace == pytest.approx(2 * pace) and running.rate == pytest.approx(20, rel=0.02)


def test_limits_that_come_and_go_are_kept_to_one():
    running, limits = bucket(), []
    for number in range(400):
        limit = (600, 1200)[number % 2]
        told(running, *minute(limit, 500), now=0.1 * number)
        limits.append(running.limit)
    assert set(limits[10:]) == {600}


def test_of_a_quota_that_nothing_tells_of_any_more_the_pace_grows_and_is_forgotten():
    running = bucket()
    for second in range(20):
        told(running, *minute(600, 500 - second), now=float(second))
    paces = []
    for number in range(3000):
        now = 20 + 0.1 * number
        running.observe({}, running.take(1, now), False, now)
        paces.append(running.pace)
    grown = [pace for pace in paces if pace is not None]
    assert paces[250] == paces[0] and 1.9 <= paces[450] / paces[350] <= 2.1 and max(grown) <= 1100 * paces[0]
    assert paces[-1] is None and running.wait(1, 320.0) <= 0 and running.used == 0


def test_who_has_little_to_send_does_not_wind_up_the_pace():
    """One request in ten seconds of a bucket from which others take all that is refilled."""
    running = bucket()
    for number in range(60):
        told(running, *minute(600, 60), now=10.0 * number)
    assert running.pace <= 0.3 * running.rate


def test_others_that_take_all_are_seen_and_left_room_for():
    """The bucket goes down by what is refilled twice over, and it is not we who empty it."""
    running = bucket()
    left, now = 3000.0, 0.0
    while left > 60:
        told(running, *minute(3000, int(left)), now=now)
        wait = max(0.05, running.wait(1, now))
        left, now = left - 50 * wait, now + wait
    assert running.pace < 0.3 * running.rate


def test_a_refusal_is_explained_by_a_bucket_that_was_almost_empty():
    running = bucket()
    assert not running.is_explained(1)
    told(running, *minute(600, 500), now=0.0)
    assert not running.is_explained(1)
    told(running, *minute(600, 1), now=2.0)
    assert running.is_explained(1)


def test_a_limit_that_falls_while_others_take_most_neither_breaks_nor_lets_go():
    running = bucket()
    now = 0.0
    for second in range(60):
        now = 5.0 * second
        told(running, *minute(1000, max(20, 900 - 15 * second)), now=now)
    for limit in (750, 500, 100, 10):
        told(running, *minute(limit, 1), now=now + 1)
        assert 0 < running.wait(5, now + 1) <= 301


def test_nothing_waits_for_what_the_bucket_could_never_hold_and_was_refused():
    running = bucket("tokens")
    for second in range(5):
        told(running, *minute(100, 90), now=float(second), cost=1.0)
    wait = running.wait(10, 5.0)
    running.take(1500, 5.0 + max(wait, 0))
    running.forgive(1500)
    assert running.wait(10, 5.0) <= max(wait, 0) + 60


# After days


@pytest.mark.parametrize("since_boot", [1e5, 3e5, 1e9])
def test_a_clock_that_began_long_ago_changes_nothing(since_boot):
    running, fresh = bucket(), bucket()
    for second in range(20):
        told(running, *minute(600, 10 * second), now=since_boot + second)
        told(fresh, *minute(600, 10 * second), now=100.0 + second)
    assert running.pace == pytest.approx(fresh.pace, rel=1e-3) and running.rate == pytest.approx(fresh.rate)


@pytest.mark.parametrize("hours", [1, 3, 24, 24 * 30])
def test_a_stream_may_rest_for_long_whether_its_server_tells_of_the_bucket_or_not(hours):
    running, silent = bucket(), bucket()
    told(running, *minute(600, 10))
    told(silent, *minute(600, 10))
    for second in range(150):
        silent.observe({}, silent.take(1, float(second)), False, float(second))
    later = 3600.0 * hours
    told(running, *minute(600, 10), now=later)
    told(running, *minute(600, 10), now=later + 1)
    silent.observe({}, silent.take(1, later), False, later)
    assert running.limit == 600 and running.wait(1, later + 60) <= 0
    assert silent.limit is None and silent.wait(1, later + 1) <= 0


def test_a_day_s_bucket_that_is_full_is_not_kept_for_the_day():
    running, now = bucket(), 0.0
    left = 10_000.0
    sent = 0
    while now < 300:
        if running.wait(1, now) <= 0:
            left = min(10_000.0, left) - 1
            told(running, 10_000, int(left), f"{(10_000 - left) * 8.64:.2f}s", now=now)
            sent += 1
        now, left = now + 0.05, left + 0.05 / 8.64
    assert sent > 2000  # of 35 that are refilled meanwhile


@pytest.mark.parametrize("reset", ["1ms", "23h59m59s"])
def test_a_few_odd_resets_are_forgotten(reset):
    window, now = Window(), 0.0
    for number in range(3000):
        now += 1.0
        window.learn(reset if number in (100, 200, 300) else "8640.00s", 100.0, 1000.0, now)
    assert window.seconds == pytest.approx(86_400, rel=0.1) and not window.is_period
