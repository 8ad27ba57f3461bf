"""Servers that serve few at a time; and what an emulator tells of who was admitted and who was not."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from beam_openai.emulator import Emulator, Options
from beam_openai.emulator.replies import Refusal
from beam_openai.emulator.slots import Slots
from beam_openai.emulator.traffic import Traffic

MODEL = "text-embedding-3-small"


def post(server, text="hello", model=MODEL, client=None, timeout=30):
    body, headers = {"model": model, "input": text}, {"X-Client": client} if client else {}
    return requests.post(f"{server.base_url}/embeddings", json=body, headers=headers, timeout=timeout)


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


# Slots


async def line(slots, names, served):
    """Tasks that stand in line, in this order; each serves until it is told to end."""
    ends = {name: asyncio.Event() for name in names}

    async def stand(name):
        await slots.take()
        try:
            served.append(name)
            await ends[name].wait()
        finally:
            slots.give()

    tasks = {}
    for name in names:
        tasks[name] = asyncio.create_task(stand(name))
        await asyncio.sleep(0)
    return tasks, ends


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


def test_first_come_first_served():
    async def story():
        slots, served = Slots(Options(slots=2)), []
        tasks, ends = await line(slots, "abcde", served)
        assert served == ["a", "b"] and (slots.busy, slots.waiting) == (2, 3)
        ends["b"].set()
        await settle()
        assert served == ["a", "b", "c"]
        ends["a"].set(), ends["c"].set()
        await settle()
        assert served == list("abcde") and (slots.busy, slots.waiting, slots.peak_waiting) == (2, 0, 3)
        ends["d"].set(), ends["e"].set()
        await asyncio.gather(*tasks.values())
        assert slots.busy == 0

    asyncio.run(story())


def test_who_leaves_the_line_takes_no_slot_with_it():
    async def story():
        slots, served = Slots(Options(slots=1)), []
        tasks, ends = await line(slots, "abcd", served)
        tasks["b"].cancel()
        await settle()
        assert slots.waiting == 2
        ends["a"].set()
        tasks["c"].cancel()  # in the very moment in which a gives its slot back
        await settle()
        assert served == ["a", "d"] and (slots.busy, slots.waiting) == (1, 0)
        ends["d"].set()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        assert slots.busy == 0

    asyncio.run(story())


def test_a_slot_that_was_given_to_one_who_leaves_goes_to_the_next():
    async def story():
        slots, served = Slots(Options(slots=1)), []
        tasks, ends = await line(slots, "abc", served)
        ends["a"].set()
        await asyncio.sleep(0)
        assert slots.waiting == 1 and served == ["a"], "b has its slot, and does not know it yet"
        tasks["b"].cancel()
        await settle()
        assert served == ["a", "c"] and slots.busy == 1
        ends["c"].set()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        assert slots.busy == 0

    asyncio.run(story())


def test_slots_come_and_go():
    async def story():
        slots, served = Slots(Options(slots=1)), []
        tasks, ends = await line(slots, "abcde", served)
        slots.change(Options(slots=3))
        await settle()
        assert served == ["a", "b", "c"]
        slots.change(Options(slots=1))
        ends["a"].set(), ends["b"].set()
        await settle()
        assert served == ["a", "b", "c"] and (slots.busy, slots.waiting) == (1, 2)
        slots.change(Options())
        await settle()
        assert served == list("abcde")
        for end in ends.values():
            end.set()
        await asyncio.gather(*tasks.values())

    asyncio.run(story())


@pytest.mark.parametrize("queue, status", [(0, 429), (2, 503)])
def test_a_line_that_is_long_enough_takes_nobody(queue, status):
    async def story():
        slots = Slots(Options(slots=1, queue=queue, queue_status=status))
        for _ in range(queue + 1):
            slots.check()
            await line(slots, "a", [])
        with pytest.raises(Refusal, match="overloaded") as caught:
            slots.check()
        assert caught.value.status == status and not caught.value.headers
        slots.change(Options(slots=1, queue=queue + 1))
        slots.check()

    asyncio.run(story())


def test_a_server_with_slots_serves_so_many_at_a_time_and_each_for_its_latency():
    with Emulator(slots=2, latency=0.2) as server, ThreadPoolExecutor(6) as pool:
        began = time.monotonic()

        def answered(text):
            assert post(server, text).status_code == 200
            return time.monotonic() - began

        after = sorted(pool.map(answered, "abcdef"))
        assert all(took >= least for took, least in zip(after, (0.2, 0.2, 0.4, 0.4, 0.6, 0.6), strict=True)), after
        traffic = server.traffic()
        assert (traffic["peak_waiting"], traffic["waiting"], traffic["busy"]) == (4, 0, 0)
        server.clear()
        assert server.traffic()["peak_waiting"] == 0


@pytest.mark.parametrize("status", [429, 503])
def test_a_full_queue_refuses_and_nothing_is_taken_from_limits(status):
    with Emulator(slots=1, queue=1, queue_status=status, latency=2, rpm=60) as server, ThreadPoolExecutor(2) as pool:
        first = pool.submit(post, server)
        until(lambda: server.traffic()["busy"])
        second = pool.submit(post, server)
        until(lambda: server.traffic()["waiting"])
        refusal = post(server)
        assert refusal.status_code == status and refusal.json()["error"]["type"] == "overloaded"
        names = [name for name in refusal.headers if name.startswith(("x-ratelimit", "retry-after"))]
        assert not names
        assert requests.get(f"{server.base_url}/models").status_code == 200, "which no model is asked for"
        assert (first.result().status_code, second.result().status_code) == (200, 200)
        counts = server.traffic()["models"][MODEL]
        assert (counts["admitted"], counts["refused"]) == (2, 1)
        assert int(post(server).headers["x-ratelimit-remaining-requests"]) >= 57


def test_who_gave_up_waiting_is_neither_served_nor_billed():
    with Emulator(slots=1, latency=3) as server, ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, server, "patient")
        until(lambda: server.traffic()["busy"])
        with pytest.raises(requests.exceptions.ReadTimeout):
            post(server, "impatient", timeout=0.1)
        assert first.result().status_code == 200
        until(lambda: not server.ledger()["in_flight"])
        assert server.billed(["patient", "impatient"]) == [1, 0]
        assert server.traffic()["busy"] == 0


def test_slots_that_are_added_to_a_running_server_are_taken_at_once():
    with Emulator(slots=1, latency=2) as server, ThreadPoolExecutor(8) as pool:
        began = time.monotonic()
        asked = [pool.submit(post, server, text) for text in "abcdefgh"]
        until(lambda: server.traffic()["waiting"] == 7)
        server.change(slots=8)
        assert {each.result().status_code for each in asked} == {200}
        assert time.monotonic() - began < 8 * 2


def test_longer_requests_take_longer():
    with Emulator(latency=0.05, latency_per_token=0.001) as server:
        assert post(server, "word").elapsed.total_seconds() >= 0.05
        assert post(server, "word " * 320).elapsed.total_seconds() >= 0.45


# Traffic


def test_what_is_admitted_and_refused_is_counted_by_model_and_client():
    with Emulator(rpm=3, models={"tiny": 8}) as server:
        began = time.monotonic()
        for client, text in (("a", "x" * 40), ("b", "y"), ("a", "z"), ("a", "refused")):
            post(server, text, client=client)
        post(server, model="tiny")
        assert post(server, "", client="a").status_code == 400
        models = server.traffic()["models"]
        assert models[MODEL] == {
            "admitted": 3,
            "refused": 1,
            "tokens": 12,
            "images": 0,
            "audio_bytes": 0,
            "clients": {
                "a": {"admitted": 2, "refused": 1, "tokens": 11, "images": 0, "audio_bytes": 0},
                "b": {"admitted": 1, "refused": 0, "tokens": 1, "images": 0, "audio_bytes": 0},
            },
        }
        assert models["tiny"]["clients"] == {
            "": {"admitted": 1, "refused": 0, "tokens": 2, "images": 0, "audio_bytes": 0}
        }
        decisions = server.decisions(model=MODEL)
        assert [each["admitted"] for each in decisions] == [True, True, True, False]
        assert [each["tokens"] for each in decisions] == [10, 1, 1, 2]
        assert began <= decisions[0]["at"] <= decisions[-1]["at"] <= time.monotonic()
        assert [each["client"] for each in server.decisions(client="b")] == ["b"]
        assert [each["model"] for each in server.decisions(client="")] == ["tiny"]
        assert sum(each["admitted"] for each in server.seconds(MODEL)) == 3
        assert server.peak(model=MODEL) == {"requests": 3, "tokens": 12, "images": 0, "audio_bytes": 0}
        assert server.peak() == {"requests": 4, "tokens": 14, "images": 0, "audio_bytes": 0}
        server.clear()
        assert server.traffic()["models"] == {} and server.decisions() == server.seconds() == []
        assert post(server).status_code == 429, "buckets stay as they are"


AMOUNTS = {"tokens": 100, "images": 5, "audio_bytes": 9000}
COSTS = st.fixed_dictionaries({name: st.integers(0, most) for name, most in AMOUNTS.items()})
STEPS = st.lists(st.tuples(st.sampled_from([0, 0.25, 1, 7, 59.75, 60]), COSTS, st.booleans()), max_size=60)


def noted(steps, keep=1000):
    traffic, now = Traffic(keep), 100.0
    for pause, costs, admitted in steps:
        now += pause
        traffic.note(now, "m", "c", {"requests": 1, **costs}, admitted)
    return traffic


@given(STEPS, st.sampled_from([0.25, 1, 60]))
def test_the_peak_is_the_most_of_all_windows(steps, seconds):
    traffic = noted(steps)
    admitted = [each for each in traffic.decisions() if each.admitted]
    windows = [[each for each in admitted if first.at <= each.at < first.at + seconds] for first in admitted]
    assert traffic.peak(seconds) == {
        "requests": max(map(len, windows), default=0),
        **{
            name: max((sum(getattr(each, name) for each in window) for window in windows), default=0)
            for name in AMOUNTS
        },
    }


@given(STEPS)
def test_seconds_add_up_to_the_totals_and_leave_none_out(steps):
    traffic = noted(steps)
    seconds = traffic.seconds()
    starts = [each["second"] for each in seconds]
    assert starts == list(range(starts[0], starts[-1] + 1)) if steps else not starts
    for name in ("admitted", "refused", *AMOUNTS):
        assert sum(each[name] for each in seconds) == traffic.totals()["models"].get("m", {name: 0})[name]
    for each in seconds:
        of_it = [decision for decision in traffic.decisions() if int(decision.at) == each["second"]]
        assert each["tokens"] == sum(decision.tokens for decision in of_it if decision.admitted)
        assert each["refused"] == sum(not decision.admitted for decision in of_it)


def test_what_is_forgotten_is_still_counted_but_no_peak_is_made_up():
    with Emulator(keep_decisions=3) as server:
        for _ in range(5):
            post(server)
        traffic = server.traffic()
        assert traffic["models"][MODEL]["admitted"] == 5 and traffic["forgotten"] == 2
        assert len(server.decisions()) == 3
        with pytest.raises(ValueError, match="keep_decisions"):
            server.peak()


def test_what_was_decided_can_be_asked_for_by_other_programs():
    with Emulator() as server:
        post(server, client="a b&c")
        root = server.base_url.removesuffix("/v1")
        query = {"model": MODEL, "client": "a b&c"}
        assert len(requests.get(f"{root}/emulator/decisions", params=query).json()) == 1
        assert requests.get(f"{root}/emulator/peak", params={**query, "seconds": 1}).json()["requests"] == 1
        assert requests.get(f"{root}/emulator/seconds", params={"client": "b"}).json() == []
        assert requests.post(f"{root}/emulator/options", json={"rpm": 1}).json()["rpm"] == 1
        assert requests.get(f"{root}/emulator/options").json()["rpm"] == 1
        assert requests.post(f"{root}/emulator/options", json={"seed": 1}).status_code == 400


def test_a_ceiling_that_is_kept_is_seen_to_be_kept():
    with Emulator(rpm=600, bucket_seconds=1) as server:
        threads = [threading.Thread(target=lambda: [post(server) for _ in range(15)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 10 <= server.peak(1)["requests"] <= 20
        counts = server.traffic()["models"][MODEL]
        assert counts["admitted"] + counts["refused"] == 60 and counts["refused"] > 0
