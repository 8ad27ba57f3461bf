"""One ceiling for all processes of a job, kept in a Redis.

A script in Redis decides about each request, whole or not at all, by Redis' own clock, the only one that counts. Of each
dimension (requests, tokens, ...) it keeps the sums of slots of a 600th of the window, and a time for each limit:

    the sums    in every window there is at most `limit`: a slot counts until its end has left the window
    the pace    a send of c is followed by c * window / limit seconds in which nothing is sent, less what the send was late,
                a 60th of the window at most

What cannot be sent at once is booked: it gets its time and is counted there, and whoever asked waits for it, so that all
processes stand in one line, in the order in which they asked. Where the line is a sixth of the window long, one is refused,
which burns nothing, and asks again. A request that needs much of the window at once may be booked further ahead, and the
others line up behind it: it would never get in otherwise.

What a process booked and did not send, since it was killed, leaves the window by itself, and the keys of a quota that nobody
uses expire. A Redis that has forgotten what it knew (restarted without its data, say) counts as full until all that it may
have booked has left the window: 130 s for a window of 60. A quota that nobody has used lately begins empty.

The clock of Redis is trusted. Its user needs the keys `beam_openai:quota:*` and scripts; there is one key for a quota.
"""

from beam_openai.shared.address import check_url, find_url
from beam_openai.shared.ceiling import Booking, Refused, Shared

__all__ = ["Booking", "Refused", "Shared", "check_url", "find_url"]
