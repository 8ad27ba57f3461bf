"""Workers that know nothing of each other use all of a quota, and hardly hit it: minutes of it, simulated."""

import math

import pytest
from timetables import limiter

from benchmarks.quota.server import Rules
from benchmarks.quota.simulation import Scenario, simulate

RPM, TPM = 3000, 1_000_000
SMALL = Rules(rpm=RPM, tpm=TPM)
TOKENS = 2000  # of a request that tokens bind


def shared(workers=8, seconds=240, rules=SMALL, **options):
    return simulate(Scenario(name="", workers=workers, seconds=seconds, rules=rules, **options))


def of(**options):
    return Rules(**{"rpm": RPM, "tpm": TPM, **options})


@pytest.mark.parametrize("workers", [1, 8, 64])
def test_all_of_a_minute_s_bucket_is_used_and_it_is_hardly_hit(workers):
    seen = shared(workers, seconds=480 if workers < 64 else 300)
    assert seen.used >= 0.99 and seen.refused_later <= 0.005 and seen.refused <= 0.01


@pytest.mark.parametrize("workers", [1, 8, 64, 256])
def test_all_of_the_tokens_too(workers):
    seen = shared(workers, tokens=TOKENS, rules=Rules(), seconds=300)
    assert seen.used >= 0.99 and seen.refused_later <= 0.005 and seen.refused <= 0.01


@pytest.mark.parametrize("workers", [1, 8, 64])
def test_all_of_a_second_s_bucket(workers):
    seen = shared(workers, rules=of(bucket=1.0))
    assert seen.used >= 0.99 and seen.refused_later <= 0.005 and seen.refused <= 0.02


@pytest.mark.parametrize("workers", [8, 64])
def test_those_that_began_together_are_equal(workers):
    assert shared(workers, tokens=TOKENS, rules=Rules(), seconds=400).fairness > 0.8


def test_one_that_comes_later_gets_its_share_and_those_who_stay_that_of_one_who_went():
    came = shared(8, seconds=400, joins=lambda number: 100.0 if number % 2 else 0.0)
    went = shared(8, seconds=400, dies=lambda number: 100.0 if number % 2 else math.inf)
    assert came.fairness > 0.8 and came.used >= 0.99 and came.refused_later <= 0.005
    assert went.fairness > 0.8 and went.used >= 0.99 and went.refused_later <= 0.005


def test_what_somebody_else_takes_is_left_to_him_and_taken_again():
    seen = shared(8, seconds=420, changes={120: {"tenant": 0.3}, 270: {"tenant": 0.0}})
    assert seen.used_in(200, 270) == pytest.approx(1, abs=0.02) and seen.used_in(330, 420) >= 0.99
    assert seen.refused <= 0.005


@pytest.mark.parametrize("times", [0.5, 2.0])
def test_a_limit_that_changes_is_followed(times):
    seen = shared(8, changes={100: {"rpm": RPM * times, "tpm": TPM * times}}, seconds=300)
    assert seen.used >= 0.99 and seen.refused_later <= 0.005


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("latency", [0.2, 5.0])
def test_a_short_and_a_long_latency(workers, latency):
    seen = shared(workers, latency=latency, seconds=300)
    assert seen.used >= 0.99 and seen.refused_later <= 0.005


@pytest.mark.parametrize("retry_after", ["message", "header", "none"])
@pytest.mark.parametrize("workers", [1, 8])
def test_without_headers_it_never_stands_still_and_is_seldom_refused(workers, retry_after):
    seen = shared(workers, rules=of(headers="none", retry_after=retry_after))
    assert seen.used >= 0.97 and seen.refused_later <= 0.02
    assert min(sum(taken[0] for taken in seen.taken[at : at + 10]) for at in range(0, 230, 10)) > RPM / 60


def test_tokens_bind_of_which_no_header_tells():
    seen = shared(8, tokens=TOKENS, rules=Rules(headers="requests"))
    assert seen.used >= 0.95 and seen.refused_later <= 0.02


def test_headers_that_always_say_full_are_not_believed_for_long():
    seen = shared(8, rules=of(headers="full"))
    assert seen.used >= 0.97 and seen.refused_later <= 0.02


@pytest.mark.parametrize("workers", [1, 8, 64])
def test_a_limit_of_a_second_of_which_no_header_tells(workers):
    seen = shared(workers, rules=of(quantum=1.0))
    assert seen.used >= 0.9 and seen.refused_later <= 0.02


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("period", [10.0, 60.0])
def test_what_is_refilled_at_the_end_of_a_period_is_used_up_by_then(workers, period):
    seen = shared(workers, rules=of(bucket=period, is_periodic=True), seconds=480)
    assert seen.used_in(120, 480) >= 0.92 and seen.refused <= 0.001


@pytest.mark.parametrize("workers", [1, 8])
def test_so_are_tokens(workers):
    seen = shared(workers, tokens=TOKENS, rules=of(is_periodic=True), seconds=480)
    assert seen.used_in(120, 480) >= 0.92 and seen.refused <= 0.005


@pytest.mark.parametrize(
    "resets",
    [
        lambda seconds: f"{math.ceil(seconds)}s",
        lambda seconds: str(math.ceil(seconds)),
        lambda seconds: str(1_732_292_000 + int(seconds)),
        lambda seconds: "1h0m0s",
        lambda seconds: "1m0s",
        lambda seconds: "",
    ],
    ids=["7s", "7", "Unix time", "1h0m0s", "1m0s", "none"],
)
@pytest.mark.parametrize("workers", [1, 8])
def test_resets_that_are_rounded_or_wrong_slow_nobody_down(workers, resets):
    seen = shared(workers, rules=of(resets=resets), seconds=300)
    assert seen.used >= 0.97 and seen.refused <= 0.005


def test_one_worker_uses_all_of_a_large_quota_whose_resets_are_a_few_milliseconds():
    seen = shared(1, rules=Rules(rpm=60_000, tpm=60_000_000), seconds=40)
    assert seen.used >= 0.95 and seen.refused == 0


@pytest.mark.parametrize("charge", [0.5, 0.25, 0.1])
@pytest.mark.parametrize("workers", [1, 8])
def test_estimates_that_are_far_too_high_do_not_keep_from_using_all(workers, charge):
    seen = shared(workers, tokens=TOKENS / charge, rules=of(charge=charge), seconds=480)
    assert seen.used >= 0.98 and seen.refused <= 0.005


@pytest.mark.parametrize(("until", "most"), [(1.0, 0.12), (5.0, 0.03)])
@pytest.mark.parametrize("workers", [1, 8])
def test_headers_that_come_no_more_are_forgotten_without_a_storm(workers, until, most):
    seen = shared(workers, rules=of(until=until), seconds=360)
    assert seen.used >= 0.97 and seen.refused <= most and seen.refused_later <= 0.005


@pytest.mark.parametrize("workers", [1, 8])
def test_limits_that_come_and_go_are_those_of_several_buckets(workers):
    seen = shared(workers, rules=of(limits=(1.0, 2.0)))
    assert seen.used >= 0.97 and seen.refused <= 0.001


@pytest.mark.parametrize(("rpm", "workers", "most"), [(3, 1, 0.01), (10, 1, 0.03), (3, 8, 0.5), (10, 8, 0.3)])
@pytest.mark.parametrize("retry_after", ["message", "none"])
def test_a_small_quota_of_which_no_header_tells_is_found(rpm, workers, most, retry_after):
    seen = shared(workers, rules=Rules(rpm=rpm, headers="none", retry_after=retry_after), seconds=3600)
    assert seen.used >= 0.95 and seen.refused_later <= most


@pytest.mark.parametrize(("workers", "most"), [(4, 0.01), (8, 0.01)])
def test_requests_of_several_rows_are_small_enough_for_all_to_take_turns(workers, most):
    """A small account's tokens, of which each takes as much as there is for a request."""
    running = limiter(tokens_per_minute=200_000)
    assert running.largest is not None
    seen = shared(workers, rules=Rules(tpm=200_000), tokens=running.largest, seconds=600)
    assert seen.used >= 0.97 and seen.refused <= most


@pytest.mark.parametrize(
    ("rules", "tokens", "seconds", "least", "most"),
    [
        (Rules(rpm=3), 200, 3600, 0.85, 0.0),
        (Rules(rpm=60), 200, 1200, 0.98, 0.0),
        (Rules(rpm=10_000 / 1440, bucket=86_400.0), 200, 7200, 0.98, 0.0),
        (Rules(tpm=200_000), 30_000, 3600, 0.9, 0.01),
        (Rules(tpm=200_000), 60_000, 3600, 0.6, 0.03),
    ],
)
def test_a_small_quota_is_used_by_one_worker_and_hardly_ever_hit(rules, tokens, seconds, least, most):
    seen = shared(1, rules=rules, tokens=tokens, seconds=seconds)
    assert seen.used >= least and seen.refused <= most


def test_those_who_have_little_to_send_hit_nothing_when_all_at_once_they_have_more():
    """One request in four seconds each for two minutes, and then as many as they can."""
    seen = shared(64, seconds=240, pace=lambda number: 0.25, paced_until=120.0)
    assert seen.used_in(20, 120) == pytest.approx(64 * 0.25 / (RPM / 60), rel=0.05)
    assert seen.used_in(130, 240) >= 0.99 and seen.refused <= 0.005
