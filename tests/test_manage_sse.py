"""Server-sent events come out the same, wherever the stream is cut."""

import pytest

from beam_openai.manage.sse import Event, events


def texts(*pieces):
    return [event.data for event in events(pieces)]


@pytest.mark.parametrize(
    "stream, data",
    [
        (b"data: one\n\ndata: two\n\n", ["one", "two"]),
        (b"data: one\r\n\r\ndata: two\r\n\r\n", ["one", "two"]),
        (b"data: one\r\rdata: two\r\r", ["one", "two"]),
        (b"data: one\r\ndata: two\n\r\n", ["one\ntwo"]),
        (b": comment\n\ndata: one\n: another\n\n:\n\n", ["one"]),
        (b"data: one\ndata: two\ndata:\ndata: three\n\n", ["one\ntwo\n\nthree"]),
        (b"data:one\n\ndata:  two\n\ndata\n\n", ["one", " two", ""]),
        (b"event: ping\n\nid: 3\n\ndata: one\n\n", ["one"]),
        (b'data: {"a": "b: c"}\n\n', ['{"a": "b: c"}']),
        (b"\n\n\n\ndata: one\n\n\n\n", ["one"]),
        ("\ufeffdata: Grüße 𝄞 \u2028\n\n".encode(), ["Grüße 𝄞 \u2028"]),
        (b"data: \xff\n\n", ["\ufffd"]),
        (b"data: one\n\ndata: cut off\n", ["one"]),
        (b"data: one\n\ndata: cut", ["one"]),
        (b"", []),
    ],
)
def test_a_stream_is_read_the_same_however_it_is_cut(stream, data):
    assert texts(stream) == data
    assert texts(*(stream[at : at + 1] for at in range(len(stream)))) == data
    for at in range(len(stream)):
        assert texts(stream[:at], b"", stream[at:]) == data


def test_many_events_in_one_piece_come_out_in_order():
    assert texts(b"".join(b"data: %d\n\n" % number for number in range(2000))) == [str(n) for n in range(2000)]


def test_done_is_the_last_event_and_nothing_behind_it_is_read():
    def pieces():
        yield b"data: one\n\ndata: [DONE]\n\ndata: two\n\n"
        raise AssertionError("read on")

    found = list(events(pieces()))
    assert [event.data for event in found] == ["one", "[DONE]"]
    assert [event.is_done for event in found] == [False, True]


def test_an_event_has_its_name_and_the_last_id():
    found = list(events([b"event: a\nid: 1\ndata: x\n\ndata: y\n\nid: 2\nevent: b\ndata: z\nretry: 5\n\n"]))
    assert found == [Event("x", "a", "1"), Event("y", None, "1"), Event("z", "b", "2")]
