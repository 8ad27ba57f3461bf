"""Large buffers, used again and again."""

import gc
import threading

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_openai import buffers

SIZE = 1 << 20


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    monkeypatch.setattr(buffers, "_kept", buffers._Kept())
    return buffers._kept


def test_what_is_written_through_the_view_stands_in_the_buffer():
    room, buffer = buffers.lease(10)
    room[:] = b"0123456789"
    assert buffer.to_pybytes() == b"0123456789" and buffer.size == len(room) == 10


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, SIZE])
def test_every_size_can_be_had(size):
    room, buffer = buffers.lease(size)
    assert len(room) == buffer.size == size


def test_memory_serves_again_when_the_buffer_is_gone_and_not_before():
    room, buffer = buffers.lease(SIZE)
    room[:1] = b"a"
    values = pa.Array.from_buffers(pa.int8(), SIZE, [None, buffer])
    address = buffer.address
    del room, buffer
    gc.collect()
    other, second = buffers.lease(SIZE)
    assert second.address != address and values[0].as_py() == ord("a")
    del values
    gc.collect()
    _, third = buffers.lease(SIZE)
    assert third.address == address
    del other


def test_a_smaller_answer_takes_the_same_memory_and_a_tiny_one_none_of_it(kept):
    buffers.lease(SIZE)
    gc.collect()
    assert len(kept._free) == 1
    room, buffer = buffers.lease(SIZE * 3 // 4)
    assert not kept._free
    _, tiny = buffers.lease(10)
    del room, buffer, tiny
    gc.collect()
    assert len(kept._free) == 1


def test_no_more_than_32_mib_are_kept(kept):
    leases = [buffers.lease(20 << 20) for _ in range(6)]
    assert len({buffer.address for _, buffer in leases}) == 6
    del leases
    gc.collect()
    assert 0 < sum(map(len, kept._free)) <= 32 << 20


@given(st.lists(st.integers(0, 1 << 16), max_size=30), st.randoms())
def test_no_two_leases_share_memory(sizes, chance):
    held = []
    for number, size in enumerate(sizes):
        room, buffer = buffers.lease(size)
        room[:] = bytes([number]) * size
        held.append((number, buffer))
        if chance.random() < 0.5:
            held.pop(chance.randrange(len(held)))
        del room, buffer
    assert all(buffer.to_pybytes() == bytes([number]) * buffer.size for number, buffer in held)


def test_threads_may_lease_at_once():
    wrong = []

    def work(number):
        for size in range(1000, 200_000, 1000):
            room, buffer = buffers.lease(size)
            room[:] = bytes([number]) * size
            if buffer.to_pybytes() != bytes([number]) * size:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
