"""What the emulator's limits admit and what is told of them: as timetables, and over real sockets."""

import io
import itertools
import math
import re
import threading
import time
import tracemalloc
import wave

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_openai.emulator import Emulator, Options
from beam_openai.emulator.buckets import Bucket, Past, go_duration
from beam_openai.emulator.limits import Limits
from beam_openai.emulator.replies import Refusal

MODEL = "text-embedding-3-small"


def post(server, path="/embeddings", **fields):
    body = fields or {"model": MODEL, "input": "hello"}
    return requests.post(server.base_url + path, json=body, timeout=30)


def told(response):
    """The x-ratelimit headers, without their first word."""
    before = "x-ratelimit-"
    return {name.removeprefix(before): said for name, said in response.headers.items() if name.startswith(before)}


# Buckets


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0s"), (0.008, "8ms"), (0.02, "20ms"), (0.0001, "1ms"), (1, "1s"), (1.2, "1.2s"),
        (8.64, "8.64s"), (90, "1m30s"), (360, "6m0s"), (432, "7m12s"), (3600, "1h0m0s"),
        (3723.5, "1h2m3.5s"), (59.9999, "1m0s"),
    ],
)  # fmt: skip
def test_durations_are_written_as_go_writes_them(seconds, text):
    assert go_duration(seconds) == text


@pytest.mark.parametrize(
    "limit, remaining, reset",
    [(3000, 2999, "20ms"), (3000, 2500, "10s"), (30000, 29996, "8ms"), (160000, 159976, "9ms")],
)
def test_a_reset_is_the_time_until_the_bucket_is_full(limit, remaining, reset):
    bucket = Bucket(limit, limit / 60, now=0)
    bucket.take(limit - remaining, now=0)
    assert go_duration(bucket.reset(now=0)) == reset


@pytest.mark.parametrize(
    "limit, used, requested, wait",
    [(10000, 8554, 3082, 9.816), (30000, 29937, 385, 0.644), (30000, 25292, 10584, 11.752)],
)
def test_a_wait_is_as_long_as_in_real_messages(limit, used, requested, wait):
    bucket = Bucket(limit, limit / 60, now=5)
    bucket.take(used, now=5)
    assert bucket.wait(requested, now=5) == pytest.approx(wait)
    assert bucket.wait(requested, now=5 + wait) == 0


def test_a_bucket_refills_evenly_and_never_overflows():
    bucket = Bucket(60, 1, now=0)
    bucket.take(60, now=0)
    assert [bucket.level(now) for now in (0, 1, 1.5, 30, 60, 1000)] == [0, 1, 1.5, 30, 60, 60]
    assert bucket.wait(61, now=1000) == float("inf")
    assert bucket.level(now=999) == 60, "a clock that steps back changes nothing"


# Timetables


def admit(limits, tokens=1, now=0.0, model="m", **costs):
    return limits.admit(model, {"requests": 1, "tokens": tokens, **costs}, now)


def refused(limits, *asked, **costs):
    with pytest.raises(Refusal) as caught:
        admit(limits, *asked, **costs)
    assert caught.value.status == 429 and caught.value.code == "rate_limit_exceeded"
    return caught.value


def saturate(limits, until, cost=1, now=0.0):
    """When requests were admitted by someone who asks again as soon as it is told to, and a millisecond later."""
    admitted = []
    while now < until:
        try:
            admit(limits, cost, now)
            admitted.append(now)
        except Refusal as refusal:
            now += int(refusal.headers["retry-after-ms"]) / 1000
    return admitted


def test_a_timetable_of_requests_per_minute():
    limits = Limits(Options(rpm=3))
    for _ in range(3):
        admit(limits, 1, 0.0)
    refusal = refused(limits, 1, 0.0)
    assert refusal.message == (
        "Rate limit reached for m in organization org-emulator on requests per min (RPM): Limit "
        "3, Used 3, Requested 1. Please try again in 20s. Visit "
        "https://platform.openai.com/account/rate-limits to learn more."
    )
    assert (refusal.status, refusal.type, refusal.code) == (429, "requests", "rate_limit_exceeded")
    assert refusal.headers["retry-after"] == "20" and "retry-after-ms" not in refusal.headers
    admit(limits, model="another")
    assert refused(limits, 1, 19.9).headers["retry-after"] == "1"
    admit(limits, 1, 20.0)
    refused(limits, 1, 20.0)


def test_tokens_are_limited_too_and_a_refused_request_takes_nothing():
    limits = Limits(Options(rpm=60, tpm=6000, retry_after_ms=True))
    admit(limits, 5990, 0.0)
    refusal = refused(limits, 100, 0.0)
    assert "tokens per min (TPM): Limit 6000, Used 5990, Requested 100" in refusal.message
    assert refusal.type == "tokens" and refusal.headers["retry-after-ms"] == "900"
    headers = admit(limits, 10, 0.0)
    assert headers == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "58",
        "x-ratelimit-reset-requests": "2s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1m0s",
    }


def test_a_request_that_can_never_fit_is_told_so_even_when_the_bucket_is_empty():
    limits = Limits(Options(rpm=1, tpm=600))
    admit(limits, 1, 0.0)
    refusal = refused(limits, 601, 0.0)
    assert refusal.message.startswith("Request too large for m in organization org-emulator")
    assert "Limit 600, Requested 601." in refusal.message
    assert "retry-after" not in refusal.headers


def test_a_bucket_of_one_second_forbids_bursts():
    limits = Limits(Options(rpm=120, bucket_seconds=1))
    admit(limits, 1, 0.0)
    assert admit(limits, 1, 0.0)["x-ratelimit-remaining-requests"] == "118"
    refused(limits, 1, 0.0)
    admit(limits, 1, 0.5)


# Finer than the minute


def test_a_second_admits_its_share_of_the_minute_and_headers_tell_of_the_minute():
    limits = Limits(Options(rpm=6000, quantum_seconds=1))
    headers = [admit(limits, now=10.25) for _ in range(100)][-1]
    assert headers["x-ratelimit-limit-requests"] == "6000"
    assert headers["x-ratelimit-remaining-requests"] == "5900"
    assert headers["x-ratelimit-reset-requests"] == "1s"
    refusal = refused(limits, 1, 10.25)
    assert "requests per min (RPM): Limit 6000, Used 100, Requested 1. Please try again in 750ms." in refusal.message
    assert refusal.headers["x-ratelimit-remaining-requests"] == "5900"
    refused(limits, 1, 10.999)
    for _ in range(100):
        admit(limits, now=11.0)
    refused(limits, 1, 11.0)


def test_what_is_larger_than_a_periods_share_has_a_period_for_itself():
    limits = Limits(Options(tpm=6000, quantum_seconds=1))
    admit(limits, 1000, 0.5)
    refused(limits, 1, 0.75)
    admit(limits, 1, 1.0)
    refused(limits, 1000, 1.5)
    assert refused(limits, 6001, 2.0).message.startswith("Request too large")


@given(
    st.lists(st.tuples(st.floats(0, 2), st.integers(1, 300)), max_size=100),
    st.sampled_from([None, 0.25, 1, 10]),
    st.sampled_from([5, 60]),
)
@settings(max_examples=100, deadline=None)
def test_whoever_waits_as_long_as_told_is_admitted(steps, quantum, bucket):
    limits, now = Limits(Options(rpm=60, tpm=6000, quantum_seconds=quantum, bucket_seconds=bucket)), 0.0
    for pause, tokens in steps:
        now += pause
        try:
            admit(limits, tokens, now)
        except Refusal as refusal:
            now += seconds(re.search("try again in (.*?). Visit", refusal.message).group(1))
            admit(limits, tokens, now)


def seconds(duration):
    found = re.fullmatch(r"(?:(\d+)m)?(?:([\d.]+)(ms|s))", duration)
    minutes, number, unit = found.groups()
    return 60 * int(minutes or 0) + float(number) * {"ms": 0.001, "s": 1}[unit]


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_no_period_ever_admits_more_than_its_share(share):
    options = Options(tpm=60_000, quantum_seconds=0.5, tenant_share=share, retry_after_ms=True)
    admitted = saturate(Limits(options), until=20, cost=7)
    counts = [7 * sum(1 for _ in group) for _, group in itertools.groupby(admitted, lambda at: math.floor(at * 2))]
    assert len(counts) == 40 and set(counts) == {math.floor(500 * (1 - share) / 7) * 7}


# Somebody else


def test_another_tenant_takes_its_share_of_what_comes_and_promises_know_nothing_of_it():
    limits = Limits(Options(rpm=60, tenant_share=0.75, retry_after_ms=True))
    for _ in range(60):
        headers = admit(limits)
    assert headers["x-ratelimit-reset-requests"] == "1m0s"
    assert refused(limits).headers["retry-after"] == "1"
    refused(limits, 1, 1.0)
    refused(limits, 1, 3.9)
    assert admit(limits, now=4.0)["x-ratelimit-remaining-requests"] == "0"


def test_who_asks_all_the_time_gets_what_the_other_tenant_leaves():
    limits = Limits(Options(rpm=600, tenant_share=0.6, retry_after_ms=True))
    admitted = saturate(limits, until=660)
    assert sum(60 <= at < 660 for at in admitted) == pytest.approx(10 * 240, rel=0.01)


def test_a_tenant_that_takes_all_leaves_what_is_in_the_buckets():
    limits = Limits(Options(rpm=60, tenant_share=1, retry_after_ms=True))
    assert len(saturate(limits, until=600)) == 60


# While it runs


def test_another_limit_leaves_a_bucket_as_full_as_it_is():
    limits = Limits(Options(rpm=60, tpm=6000))
    admit(limits, 4500, 0.0)
    limits.change(Options(rpm=60, tpm=60_000), 0.0)
    headers = admit(limits, 5000, 0.0)
    assert headers["x-ratelimit-limit-tokens"] == "60000"
    assert headers["x-ratelimit-remaining-tokens"] == "10000"
    assert headers["x-ratelimit-remaining-requests"] == "58"
    limits.change(Options(rpm=60, tpm=600), 0.0)
    assert "Limit 600, Used 500, Requested 101. Please try again in 100ms." in refused(limits, 101, 0.0).message


def test_limits_come_and_go():
    limits = Limits(Options(rpm=1))
    admit(limits)
    limits.change(Options(tpm=600), 0.0)
    assert set(admit(limits, 600, 0.0)) == {f"x-ratelimit-{what}-tokens" for what in ("limit", "remaining", "reset")}
    assert refused(limits, 1, 0.0).type == "tokens"
    limits.change(Options(), 0.0)
    assert admit(limits, 10_000, 0.0) == {}
    limits.change(Options(rpm=1), 0.0)
    assert admit(limits)["x-ratelimit-remaining-requests"] == "0", "it was full, as every new limit is"


def test_a_tenant_comes_and_goes():
    limits = Limits(Options(rpm=60))
    for _ in range(60):
        admit(limits)
    limits.change(Options(rpm=60, tenant_share=0.5), 0.0)
    refused(limits, 1, 1.9)
    admit(limits, now=2.0)
    limits.change(Options(rpm=60), 2.0)
    admit(limits, now=3.0)


def test_a_running_server_is_changed():
    with Emulator(rpm=6, tpm=6000) as server:
        assert told(post(server))["remaining-requests"] == "5"
        changed = server.change(rpm=600, tpm=None, tenant_share=0.5)
        assert (changed["rpm"], changed["tpm"], changed["tenant_share"]) == (600, None, 0.5)
        after = told(post(server))
        assert after["limit-requests"] == "600" and 499 <= int(after["remaining-requests"]) <= 560
        assert "limit-tokens" not in after
        for wrong in ({"rpm": 0}, {"tenant_share": 2}, {"rpm": 5, "seed": 1}, {"nothing": 1}, {"queue": 3}):
            with pytest.raises(ValueError, match=next(reversed(wrong))):
                server.change(**wrong)
        assert server.change() == changed


# What is told


@pytest.mark.parametrize(
    "mode, dimensions",
    [("all", ["requests", "tokens"]), ("requests", ["requests"]), ("tokens", ["tokens"]), ("none", [])],
)
def test_headers_tell_as_much_as_they_are_to(mode, dimensions):
    limits = Limits(Options(rpm=1, tpm=100, ratelimit_headers=mode))
    names = {f"x-ratelimit-{what}-{name}" for what in ("limit", "remaining", "reset") for name in dimensions}
    assert set(admit(limits)) == names
    assert set(refused(limits).headers) == names | {"retry-after"}


def test_headers_that_lie_are_always_full():
    limits = Limits(Options(rpm=2, tpm=100, ratelimit_headers="full"))
    expected = {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "0s",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "100",
        "x-ratelimit-reset-tokens": "0s",
    }
    assert admit(limits, 50) == admit(limits, 50) == expected
    assert expected.items() <= refused(limits).headers.items()


def test_headers_that_lag_tell_how_it_was():
    limits = Limits(Options(rpm=60, header_lag=5))

    def remaining(now):
        return int(admit(limits, now=now)["x-ratelimit-remaining-requests"])

    assert [remaining(now) for now in (0, 0, 0, 4.5)] == [60, 60, 60, 60]
    assert remaining(5) == 57, "three were admitted five seconds ago"
    assert remaining(6) == 58, "which had gained one after a second"
    assert remaining(9.5) == 59, "the fourth and all that was gained until it came"
    assert remaining(100) == 60, "five seconds ago it was full"
    limits.change(Options(rpm=600, header_lag=5), 100.0)
    assert admit(limits, now=104.0)["x-ratelimit-limit-requests"] == "60"
    assert admit(limits, now=105.0)["x-ratelimit-limit-requests"] == "600"


def test_no_more_is_remembered_for_headers_that_lag_than_they_need():
    bucket = Bucket(60, 1, now=0)
    past = Past(bucket, seconds=5)
    tracemalloc.start()
    for second in range(20_000):
        bucket.take(1, second)
        past.keep(bucket)
    assert tracemalloc.get_traced_memory()[0] < 100_000
    tracemalloc.stop()
    assert past.bucket(20_000).at == 19_995


@pytest.mark.parametrize("mode", ["both", "header", "message", "none"])
def test_a_refusal_says_how_long_to_wait_where_it_is_to(mode):
    with Emulator(rpm=1, retry_after=mode) as server:
        post(server)
        refusal = post(server)
        assert refusal.status_code == 429
        assert ("retry-after" in refusal.headers) == (mode in ("both", "header"))
        message = refusal.json()["error"]["message"]
        assert ("Please try again in" in message) == (mode in ("both", "message"))
        assert message.endswith("Visit https://platform.openai.com/account/rate-limits to learn more.")


def test_headers_tell_of_the_moment_of_admission_however_late_they_come():
    with Emulator(rpm=6, stall_seconds=3) as server:
        server.inject("stall")
        late = []
        asking = threading.Thread(target=lambda: late.append(post(server)))
        asking.start()
        while not server.traffic()["models"]:
            time.sleep(0.01)
        assert [told(post(server))["remaining-requests"] for _ in range(4)] == ["4", "3", "2", "1"]
        assert not late
        asking.join()
        assert told(late[0])["remaining-requests"] == "5"


# Images and audio


def test_images_are_counted_by_how_many_are_drawn():
    limits = Limits(Options(ipm=5))
    for _ in range(2):
        assert admit(limits, images=2) == {}
    refusal = refused(limits, images=2)
    assert refusal.type == "requests"
    assert "on images per min (IPM): Limit 5, Used 4, Requested 2. Please try again in 12s." in refusal.message
    admit(limits, images=1)
    many = refused(limits, images=6).message
    assert "Limit 5, Requested 6. The number of images must be reduced" in many
    admit(limits, 100_000)


@pytest.mark.parametrize(
    "model, dimensions",
    [("dall-e-2", {"requests"}), ("gpt-image-1-mini", {"requests", "tokens"})],
)
def test_a_server_limits_the_images_of_a_minute(model, dimensions):
    with Emulator(ipm=3, rpm=100, tpm=100_000) as server:
        drawn = post(server, "/images/generations", model=model, prompt="a cat", n=2)
        assert drawn.status_code == 200
        assert {name.partition("-")[2] for name in told(drawn)} == dimensions
        refusal = post(server, "/images/generations", model=model, prompt="a cat", n=2)
        assert refusal.status_code == 429 and "images per min (IPM): Limit 3" in refusal.json()["error"]["message"]
        assert post(server, "/images/generations", model=model, prompt="a cat").status_code == 200
        assert post(server).status_code == 200
        counts = server.traffic()["models"][model]
        assert (counts["admitted"], counts["refused"], counts["images"]) == (2, 1, 3)


def test_audio_counts_as_requests_alone():
    sound = io.BytesIO()
    with wave.open(sound, "wb") as written:
        written.setparams((1, 2, 8000, 0, "NONE", ""))
        written.writeframes(bytes(16_000))
    with Emulator(rpm=100, tpm=1) as server:
        for model in ("whisper-1", "gpt-4o-mini-transcribe"):
            files = {"file": ("a.wav", sound.getvalue())}
            heard = requests.post(f"{server.base_url}/audio/transcriptions", files=files, data={"model": model})
            assert heard.status_code == 200
            assert set(told(heard)) == {"limit-requests", "remaining-requests", "reset-requests"}
        spoken = post(server, "/audio/speech", model="gpt-4o-mini-tts", voice="alloy", input="many words " * 20)
        assert spoken.status_code == 200 and "limit-tokens" not in told(spoken)
        assert server.ledger()["tokens"] > 50


def test_a_server_limits_the_audio_of_a_minute():
    with Emulator(audio_mbpm=0.1) as server:

        def transcribe(frames):
            sound = io.BytesIO()
            with wave.open(sound, "wb") as written:
                written.setparams((1, 2, 8000, 0, "NONE", ""))
                written.writeframes(bytes(2 * frames))
            files = {"file": ("a.wav", sound.getvalue())}
            data = {"model": "whisper-1"}
            return requests.post(f"{server.base_url}/audio/transcriptions", files=files, data=data, timeout=60)

        assert transcribe(30_000).status_code == 200
        refusal = transcribe(30_000)
        assert refusal.status_code == 429
        assert "on audio bytes per min: Limit 100000, Used " in refusal.json()["error"]["message"]
        assert transcribe(10_000).status_code == 200 and post(server).status_code == 200
        too_large = transcribe(60_000)
        assert "Limit 100000, Requested 120044. The audio must be reduced" in too_large.json()["error"]["message"]
        counts = server.traffic()["models"]["whisper-1"]
        assert (counts["admitted"], counts["refused"], counts["audio_bytes"]) == (2, 2, 80_088)


# Options


@pytest.mark.parametrize(
    "options",
    [
        {"ipm": 0},
        {"quantum_seconds": 0},
        {"tenant_share": 1.5},
        {"ratelimit_headers": "some"},
        {"header_lag": -1},
        {"retry_after": "ms"},
        {"latency_per_token": -0.5},
        {"slots": 0},
        {"queue": -1},
        {"queue_status": 500},
        {"style": "openapi"},
        {"keep_decisions": -3},
    ],
    ids=str,
)
def test_options_that_can_never_work_are_refused_with_the_value(options):
    [(name, value)] = options.items()
    with pytest.raises(ValueError, match=f"{name} .*{value}"):
        Options(**{"slots": 1, **options})


@pytest.mark.parametrize(
    "options",
    [{"queue": 5}, {"retry_after": "message", "retry_after_ms": True}],
    ids=str,
)
def test_options_that_contradict_each_other_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Options(**options)


# Served


def test_every_answer_carries_the_headers_of_the_real_service():
    with Emulator(rpm=3000, tpm=1_000_000) as server:
        headers = post(server).headers
        assert headers["x-ratelimit-limit-requests"] == "3000"
        assert headers["x-ratelimit-remaining-tokens"] == "999998"
        assert re.fullmatch(r"req_[0-9a-f]{32}", headers["x-request-id"])
        assert headers["openai-processing-ms"].isdigit()
        assert headers["openai-version"] == "2020-10-01"
        assert "x-request-id" in requests.get(f"{server.base_url}/nothing").headers


def test_no_limit_sends_no_limit_headers():
    with Emulator() as server:
        assert told(post(server)) == {}
