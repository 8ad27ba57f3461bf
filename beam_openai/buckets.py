"""One bucket of a server's quota, shared with senders unknown, known by the headers of our own answers.

Whoever sends under the same quota takes from the same bucket; each answer says what was left in it when its request came.
From two of them follows what all senders together used meanwhile, and from that, without a word to each other, the pace
at which each must send for all together to use just what is refilled. In units (requests, tokens) and seconds, for
requests sent at t0 and t that were told x0 and x were left:

    R = limit / window              the refill; the window follows from the resets, see windows.py; or what was seen of it,
                                    if that is more: what we sent less what the bucket lost and 1, in 10 s or so, by 1.1,
                                    which fades by e in 10 minutes, and by a tenth where one was refused
    A = R - (x - x0) / (t - t0)     what all used; A / (1 - f) where a share f of ours was refused by an empty bucket
    D = R + (x - h) / T             what all should use: the refill, and what stands above the level h, within T
    s = own / A                     our share: the pace we kept, or what we used, where we could not keep up with it, or
                                    where it is more than half of A, so that A is a few requests of ours
    pace = s * D * (1 + b)          from now on

    h = a tenth of what the bucket holds, but no more than 6 s of limit / window (half the latency, if that is longer) and no
        less than half a second's; one and a half requests at least, or 0.4 of what the bucket holds beside a request
    T = max(10 s or a sixth of the window, 3 * (latency + t - t0)), for what is told late must be answered slowly
    b = min(0.5 * (t - t0), 0.5, r / (R T)) * (-0.7 - log10(s) / 3), between -0.7 and 0.3 of it: who has more than an eighth
        holds back, who has less pushes forward, and the shares become equal, at a level a little above or below h;
        r = 0.8 h, or the room above h and a request, if that is less

Where nothing is refilled before a period of the clock ends (of more than 5 s, and of four latencies: else the answers tell
of one that is over), x is what is left of it, and nothing follows from an x of one period and an x0 of another:

    A = -(x - x0) / (t - t0)
    D = (x - h) / what is left of the period, a second at least
    h = a fiftieth of what the bucket holds; requests as above
    b = min(0.5 * (t - t0), 0.2) * (as above)

D * (1 + b) is kept between R / 10 and 1.25 R, or what a bucket of more than ten minutes holds in ten minutes, or more by
how its 1 + b is more than that of who is alone; the pace is smoothed over a second. A bucket that is full tells only that
less than R is used. Before it was first seen to go down, the pace begins at R / 500, or at a request a second if that is
more, and R / 2 at most, and doubles in half the latency, in a second at least. Where that first request found the bucket
empty, many have come at once: the pace begins at a twentieth of that, or at a request in 20 s if that is more, at any time
within two of such gaps. Where one of the first requests costs 8 times as much as the very first (for how long answers are
was not known then), the pace begins anew by its cost. Later it doubles only for who has an answer in more than 4 s, in
twice the latency, in 8 s at least. It never more than doubles from one answer to the next, nor goes beyond 8 times what is
sent, where there is no more to send. Between requests the pace is kept evenly, and nothing is sent that what is left could
not hold; but five minutes after the last one a request goes out, whatever was said.

Another limit is believed at once, and what is known changes in proportion. But where limits change twice in 100 answers,
several buckets are told of in turn, and the lowest is kept to: each such change doubles how many answers in a row must tell
of other limits before a higher one is believed, from 1 to 64, and what they tell until then is not looked at. Where 100
answers in a row, and 30 s, told nothing, there is another server: the pace doubles in 10 s, so that refusals teach a new
one, and is forgotten after 100 s of that.

Measured by benchmarks/quota: what of the quota is used, how often it is hit, how equal the shares become.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

from beam_openai.durations import parse_duration
from beam_openai.windows import Window

_WINDOW = 60.0
_FIRST, _FIRST_GAP = 1 / 500, 1.0
_LONGEST_GAP = 300.0
_CROWDED, _CROWDED_GAP = 1 / 20, 20.0
_FEW, _MUCH = 8, 8
_SMOOTHED = 1.0  # seconds
_MOST = 1.25
_FULL = 0.9
_LEAST_SHARE = 1 / 1000
_MOST_OTHERS = 0.75
_MOST_AHEAD = 8
_SELDOM = 4.0  # seconds between answers
_SEEN_WITHIN, _SEEN_FOR, _SEEN_OF = 10.0, 600.0, 1.1
_HELD, _MOST_PATIENCE = 100, 63  # answers
_SHORT, _SPENT_WITHIN = 5.0, 600.0  # seconds
_UNTOLD, _SILENCE, _DOUBLED = 100, 30.0, 10.0


@dataclasses.dataclass(slots=True)
class Sent:
    """What the bucket knew when a request was sent: at a time, with so much sent in all, at a pace."""

    at: float
    cost: float
    total: float
    pace: float | None


class Bucket:
    """Keeps the pace for one of the server's buckets.

    Args:
      what: its name in the headers: "requests", "tokens", ...
      uniform: draws from [0, 1), so that senders who began together do not stay in step.
    """

    def __init__(self, what: str, uniform: Callable[[], float]) -> None:
        self._names = tuple(f"x-ratelimit-{name}-{what}" for name in ("limit", "remaining", "reset"))
        self._uniform = uniform
        self.limit: float | None = None
        # The refill, in units a second; where more is seen to be refilled than is told, as much as is seen.
        self.rate = self._told_rate = self._seen = self._lately = 0.0
        self.pace: float | None = None
        self._limit_text: str | None = None
        self._window = Window()
        self._is_periodic = False
        self._total, self._taken_at = 0.0, -math.inf
        self._next = -math.inf
        self._empty_until = -math.inf
        # What is left by our reckoning, at a time, and what others are taking of it.
        self._left, self._at, self._others = 0.0, 0.0, 0.0
        self._latency = 0.0
        self._before: tuple[Sent, float] | None = None
        self._newest = -math.inf
        self._answers = self._refusals = 0
        self._promptness = 1.0
        self._is_new = True
        # The first cost, and how many answers told of the bucket.
        self._first_cost = math.inf
        self._told = 0
        # What of another limit was told in a row, and how often it must be to be believed.
        self._odd, self._patience, self._changed = 0, 0, -math.inf
        # How many answers in a row told nothing of it, and until when the pace has grown for that.
        self._untold, self._grown_at = 0, 0.0

    @property
    def used(self) -> float:
        """The share of the quota that we use or may use, if the pace is what limits us."""
        return min(1.0, self.pace / self.rate) if self.pace and self.rate else 0.0

    def wait(self, cost: float, now: float) -> float:
        """Seconds until so much may be sent."""
        if self.pace is None:
            return self._empty_until - now
        wait = max(self._next, self._empty_until) - now
        missing = cost - self._left_at(now)
        if self.limit is not None and missing > 0 and cost <= self.limit:
            wait = max(wait, self._window.ends - now if self._is_periodic else missing / self._net_rate)
        # Not for a day on the word of a header: a request goes out, and its answer says how it is.
        return min(wait, self._taken_at + _LONGEST_GAP - now)

    def take(self, cost: float, now: float) -> Sent:
        """Counts what is sent now."""
        self._total += cost
        self._taken_at = now
        if self.pace is not None:
            if self._told < _FEW and cost > _MUCH * self._first_cost:
                # How long answers are was not known at first.
                self._first_cost = cost
                self.pace = max(self.pace, self._first_pace(cost))
            gap = cost / self.pace
            self._promptness += 0.1 * ((now - self._next <= 0.5 * gap) - self._promptness)
            # A late wake-up is made up for, but never with a burst that the bucket could feel.
            due = max(self._next, now - self._window.seconds / 60)
            self._next = due + gap * (0.9 + 0.2 * self._uniform())
            self._left, self._at = self._left_at(now) - cost, now
        return Sent(now, cost, self._total, None if self.limit is None else self.pace)

    def give_back(self, cost: float) -> None:
        """What was taken is not sent after all. Still counted in the totals: later ones are in relation to them."""
        if self.pace is not None:
            self._left += cost
            self._next -= cost / self.pace

    def forgive(self, cost: float) -> None:
        """What the bucket could never hold was refused: nothing has to wait for it."""
        if self.pace is not None and self.limit is not None and cost > self.limit:
            self._next -= cost / self.pace

    def observe(self, headers: Mapping[str, str], sent: Sent, refused: bool, now: float) -> None:
        """Learns from the answer to what was sent."""
        left = self._read(headers, sent.at, now)
        if left is None:
            self._refusals += refused and self._is_low(sent.cost)
            if self.pace is not None and sent.cost and not refused and self._names[1] not in headers:
                self._hear_nothing(self.pace, now)
            return
        self._untold = 0
        self._answers += 1
        self._told += 1
        self._refusals += refused
        # An answer that overtook a later one's tells of the past.
        if self.limit is None or sent.at < self._newest:
            return
        self._newest = sent.at
        latency = now - sent.at
        self._latency = self._latency + 0.2 * (latency - self._latency) if self._before else latency
        since = self._total - sent.total
        self._left, self._at = min(self.limit, left + self._refilled(now - sent.at) - since), now
        if self.pace is None:
            self.pace, self._first_cost = self._first_pace(sent.cost), sent.cost
            if refused and left < sent.cost:
                # Many have come at once: were all to try again soon, all but a few would be refused again.
                self.pace = min(self.pace, max(_CROWDED * self.pace, sent.cost / _CROWDED_GAP))
                self._next, self._first_cost = now + 2 * self._uniform() * sent.cost / self.pace, math.inf
            sent = dataclasses.replace(sent, pace=self.pace)
        if self._before is None:
            self._before = sent, left
        elif sent.at - self._before[0].at >= (0.5 if self._is_new else 1.0):
            pace = self.pace
            self._adapt(sent, left, self.limit)
            # What is waited for at the old pace is waited for at the new one.
            self._next = min(self._next, now + (self._next - now) * pace / self.pace)
            self._before = dataclasses.replace(sent, pace=self.pace), left
            self._answers = self._refusals = 0

    def is_explained(self, cost: float) -> bool:
        """Whether what the headers told lately is reason enough for a refusal."""
        return self.limit is not None and self._is_low(cost)

    def _is_low(self, cost: float) -> bool:
        return self._before is not None and self._before[1] < max(2 * cost, 0.02 * (self.limit or 0.0))

    def _read(self, headers: Mapping[str, str], at: float, now: float) -> float | None:
        """What is left; None where the headers do not say, or cannot be true."""
        limit_name, left_name, reset_name = self._names
        text = headers.get(left_name)
        left = parse_duration(text) if text else None
        if left is None:
            return None
        limit = headers.get(limit_name)
        if limit == self._limit_text:
            self._odd = 0
        elif limit is not None and not self._believes(parse_duration(limit) or 0.0):
            return None
        elif limit is not None:
            self._limit_text = limit
            self._set_limit(parse_duration(limit) or None)
        if self.limit is None or left == 0:
            reset = parse_duration(headers.get(reset_name))
            self._empty_until = now + min(reset or 0.0, _WINDOW) if left == 0 and self.limit is None else -math.inf
        if self.limit is None or left > self.limit:
            return None
        if at >= self._newest and self._window.learn(headers.get(reset_name), self.limit - left, self.limit, at):
            self._set_rate(self.limit)
        return left

    def _believes(self, limit: float) -> bool:
        """Whether another limit than before is believed: a lower one at once, a higher one only at first."""
        if self.limit is None:
            return True
        self._odd += 1
        if limit > self.limit and self._odd <= self._patience:
            return False
        is_often = self._told - self._changed < _HELD
        self._patience = min(_MOST_PATIENCE, 2 * self._patience + 1) if is_often else 0
        self._odd, self._changed = 0, self._told
        return True

    def _set_limit(self, limit: float | None) -> None:
        if self.pace is not None and limit and self.limit:
            self.pace *= limit / self.limit
            self._others *= limit / self.limit
            self._seen *= limit / self.limit
        self.limit = limit
        self._before = None
        self._window.begin_anew()
        self._set_rate(limit or 0.0)
        if self.pace is not None and limit:
            self.pace = min(self.pace, _MOST * self.rate)

    def _set_rate(self, limit: float) -> None:
        window = self._window
        self._told_rate = limit / window.seconds
        self.rate = max(self._told_rate, self._seen)
        # Where the periods are short, answers tell of one that is over.
        self._is_periodic = window.is_period and window.seconds > max(_SHORT, 4 * self._latency)

    def _hear_nothing(self, pace: float, now: float) -> None:
        """An answer did not tell of the bucket."""
        self._untold += 1
        if self._untold < _UNTOLD or now - self._newest < _SILENCE:
            return
        if self.limit is not None:
            self.limit = self._limit_text = self._before = None
            self._empty_until, self._grown_at = -math.inf, now
        if now - self._newest > _SILENCE + 10 * _DOUBLED:
            self.pace, self._told, self._is_new = None, 0, True
            return
        # Refusals of a pace that grows teach a better one than those of a burst.
        self.pace, self._grown_at = pace * 2 ** ((now - self._grown_at) / _DOUBLED), now

    def _adapt(self, sent: Sent, left: float, limit: float) -> None:
        """The law above; `sent` and `self._before` are t and t0."""
        assert self._before is not None and self.pace is not None
        before, was_left = self._before
        if self._is_periodic and left > was_left:
            return  # What was used of the period before is not known.
        seconds = sent.at - before.at
        really = (sent.total - before.total) / seconds
        used = self._used_by_all((was_left - left) / seconds, really)
        own = self._own(sent, before, really, used)
        self._see_refill(really + (left - was_left) / seconds, limit, seconds)
        share = min(1.0, max(_LEAST_SHARE / 10, own / used))
        goal = self._goal(sent.cost)
        wanted = self._wanted(sent, left, goal, seconds, share)
        is_full = min(left, was_left) + sent.cost >= _FULL * limit and not self._refusals
        self._is_new = self._is_new and is_full
        if is_full and (self._is_new or seconds > _SELDOM):
            pace = self.pace * 2 ** min(1.0, seconds / self._doubling())
            # Who has less to send than the pace allows would take others by surprise when there is more.
            if self._promptness < 0.5:
                pace = min(pace, max(_MOST_AHEAD * really, self._first_pace(sent.cost)))
        else:
            pace = self.pace + (1 - math.exp(-seconds / _SMOOTHED)) * (own * self._times(wanted, used) - self.pace)
        self.pace = max(self._least(sent.cost, left, goal), min(pace, self._most(left, goal)))
        self._others = max(0.0, min(_MOST_OTHERS * self.rate, (1 - share) * used))

    def _see_refill(self, least: float, limit: float, seconds: float) -> None:
        """At least so much was refilled a second: what we took, and what the bucket gained, told in whole units."""
        if self._refusals or self._is_periodic:
            least = 0.0
        self._lately += (1 - math.exp(-seconds / _SEEN_WITHIN)) * (least - self._lately)
        kept = self._seen * math.exp(-seconds / _SEEN_FOR) * (0.9 if self._refusals else 1.0)
        self._seen = max(kept, (self._lately - 1 / _SEEN_WITHIN) / _SEEN_OF)
        self._set_rate(limit)

    def _used_by_all(self, sinking: float, really: float) -> float:
        """A, from how fast the bucket went down, and what of ours was `really` sent."""
        used = max((0.0 if self._is_periodic else self.rate) + sinking, really, 0.02 * self.rate)
        if not self._refusals:
            return used
        return max(used, self.rate) / max(1 - self._refusals / self._answers, 0.05)

    def _own(self, sent: Sent, before: Sent, really: float, used: float) -> float:
        """What of that was ours."""
        # Where most is ours, what was seen are our own requests, be they few and far between.
        if really > 0.5 * used:
            return min(really, used)
        own = ((sent.pace or 0.0) + (before.pace or 0.0)) / 2
        return min(own, really) if self._promptness < 0.5 else own

    def _wanted(self, sent: Sent, left: float, goal: float, seconds: float, share: float) -> float:
        """D * (1 + b)."""
        within = max(min(10.0, max(2.0, self._window.seconds / 6)), 3 * (self._latency + seconds))
        room = min(0.8 * goal, max(0.0, (self.limit or 0.0) - sent.cost - goal))
        weight = min(0.5 * seconds, 0.2 if self._is_periodic else min(0.5, room / (self.rate * within)))
        fairness = 1 + weight * max(-0.7, min(0.3, -0.7 - math.log10(share) / 3))
        wanted = self.rate + (left - goal) / within
        if self._is_periodic:
            wanted = (left - goal) / max(1.0, self._window.ends - sent.at)
        # While there is more than enough, too, who came late must be able to catch up with the others.
        most = self._most(left, goal) * fairness / (1 - 0.7 * weight)
        return min(most, max(0.1 * self.rate, wanted * fairness))

    def _most(self, left: float, goal: float) -> float:
        """What all may send a second: a little more than is refilled; of a day's bucket what it holds in ten minutes."""
        is_long = self._window.seconds > _SPENT_WITHIN and not self._is_periodic
        return max(_MOST * self.rate, (left - goal) / _SPENT_WITHIN if is_long else 0.0)

    def _times(self, wanted: float, used: float) -> float:
        """How many times as much as now is to be sent."""
        # Near the balance as a sum: the quotient of what is measured with noise would grow by the noise alone.
        if 0.5 * self.rate < used < 1.5 * self.rate:
            return 1 + (wanted - used) / self.rate
        return min(20.0, max(0.1, wanted / used))

    def _doubling(self) -> float:
        """Seconds in which the pace doubles while the bucket is full."""
        return max(1.0, self._latency / 2) if self._is_new else max(2 * _SELDOM, 2 * self._latency)

    def _first_pace(self, cost: float) -> float:
        return max(self.rate * _FIRST, min(self.rate / 2, cost / _FIRST_GAP))

    def _least(self, cost: float, left: float, goal: float) -> float:
        """The least pace: who hardly sends hardly learns."""
        share = _LEAST_SHARE if left >= goal / 2 else _LEAST_SHARE / 100
        return max(share * self.rate, min(self.rate, cost / _LONGEST_GAP))

    def _goal(self, cost: float) -> float:
        """How much is to be left in the bucket, so that the next request finds some, whoever sends it."""
        window = self._window.seconds
        seconds = max(min(0.1 * window, 6.0), min(0.5, window / 2), min(0.3 * window, self._latency / 2))
        part = 0.02 * (self.limit or 0.0) if self._is_periodic else seconds * self._told_rate
        return max(part, min(1.5 * cost, max(0.0, 0.4 * ((self.limit or 0.0) - cost))))

    @property
    def _net_rate(self) -> float:
        """What is left of the refill by others, in units a second: never nothing, for others come and go."""
        return max(self.rate - self._others, (1 - _MOST_OTHERS) * self.rate)

    def _refilled(self, seconds: float) -> float:
        return 0.0 if self._is_periodic else self._net_rate * seconds

    def _left_at(self, now: float) -> float:
        if self._is_periodic and now >= self._window.ends:
            return self.limit or 0.0
        return min(self.limit or 0.0, self._left + self._refilled(now - self._at))
