"""Sending one request to its end: tried again, taken apart when only a part of it fails, dropped when nothing helps.

How long that may take is bounded by outage: one begins with an answer that is a failure and ends when the receiver
takes anything. While it does not answer at all nothing is dropped.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from cdn77_exporter.core.changes import Unsent
from cdn77_exporter.core.encode.parts import Series, has_histograms, mentions, request_of, series_in, size_of, within
from cdn77_exporter.core.encode.request_limit import LearnedLimit, RequestLimit
from cdn77_exporter.core.encode.version import Spoken, version_of
from cdn77_exporter.core.errors import HistogramsRefused, Misconfigured, NotUnderstood, Refused, Transient
from cdn77_exporter.flow.delivery import Delivery, after_giving_up, after_refusal, is_doubtful
from cdn77_exporter.flow.negotiation import Negotiation
from cdn77_exporter.flow.ports import Accounts, Common, Recalls, Receives
from cdn77_exporter.flow.retry import Backoff, Failed, retry

#: Attempts of a whole request, or seconds, before it is asked whether only a part of it fails.
_PATIENCE = 3
_PATIENCE_SECONDS = 5.0
#: Seconds that are waited before that because the receiver asks for it, which it may always do because of one series.
_PATIENCE_ASKED_SECONDS = 30.0
#: After it has done so, it is taken at its word less for this long.
_PICKY_SECONDS = 600.0
#: Seconds after which a request of few series, all of which fail, is dropped although the receiver took others before.
_FEW_SECONDS = 60.0
#: Single series that are tried when a request is refused, to see whether others would pass.
_SAMPLES = 3
#: Attempts that taking one request apart may cost, and failures in a row after which the receiver is at fault.
_MOST_PARTS = 400
_IN_A_ROW = 16
#: Series known to fail: how many are remembered, and how many of them are tried with one request.
_MOST_KNOWN = 1000
_KNOWN_AT_ONCE = 32
#: A series that is known to fail takes at most this part of the time.
_SHARE = 20
_METADATA_SECONDS = 6 * 3600.0  # until metadata is tried again after a refusal
_HISTOGRAMS_SECONDS = 55.0  # the same for native histograms: at most once a minute
_AWAY = (
    "check that the receiver is running and reachable from here; the request is sent again, and the files stay in the "
    "bucket meanwhile"
)
_ANSWERED = "look at the receiver's own log; the request is sent again, and the files stay in the bucket meanwhile"
_NO_HISTOGRAMS = (
    "let the receiver take native histograms (Prometheus before 3.8: --enable-feature=native-histograms), or set "
    "HISTOGRAMS to classic"
)


class LeftForLaterError(Exception):
    """The stop came while the receiver did not take a request."""


class _GivenUpError(Exception):
    """The outage has lasted too long."""


class _FewFailError(Exception):
    """The few series of a request fail, each of them, while others were taken just before."""


class _OthersPassError(Exception):
    """A part of the request has come to its end alone; this is the rest."""

    def __init__(self, rest: _Part) -> None:
        super().__init__()
        self.rest = rest


Failure = Transient | Misconfigured | Refused


class _Part:
    """A request or a part of one.

    `lost`: an answer to it was; `failed`: the receiver failed with it; `mixed`: some may be stored without the rest.
    `doubtful`: the labels of those of its series that were sent alone, to which the answer was lost. `too_large`: the
    refusal that said so.
    """

    __slots__ = ("_series", "body", "doubtful", "failed", "lost", "mixed", "samples", "too_large")

    def __init__(self, body: bytes, samples: int, *, lost: bool) -> None:
        self.body = body
        self.samples = samples
        self.lost = lost
        self.too_large: Refused | None = None
        self.failed = self.mixed = False
        self.doubtful: frozenset[bytes] = frozenset()
        self._series: Sequence[Series] | None = None

    @classmethod
    def of(cls, series: Sequence[Series], *, lost: bool) -> _Part:
        """Return a part of these series."""
        part = cls(request_of(series), sum(one.samples for one in series), lost=lost)
        part._series = series
        return part

    @property
    def series(self) -> Sequence[Series]:
        """The series; none when it cannot be taken apart. Most requests are never asked."""
        if self._series is None:
            self._series = series_in(self.body)
        return self._series

    @property
    def size(self) -> int:
        """The bytes before compression."""
        return size_of(self.body)

    def within(self, limit: RequestLimit) -> list[_Part]:
        """Split it into parts that a limit allows."""
        return [self._with(series) for series in within(self.series, limit)]

    def halves(self) -> tuple[_Part, _Part]:
        """Split it; all of a series stays together, in its order."""
        middle = len(self.series) // 2
        return self._with(self.series[:middle]), self._with(self.series[middle:])

    def without(self, place: int) -> tuple[_Part, _Part]:
        """Split it into one series and the others."""
        others = [*self.series[:place], *self.series[place + 1 :]]
        return self._with([self.series[place]]), self._with(others)

    def separate(self) -> list[_Part]:
        """Split it into each of its doubtful series and the rest, which comes last."""
        alone = [self._with([one]) for one in self.series if one.labels in self.doubtful]
        rest = [one for one in self.series if one.labels not in self.doubtful]
        return [*alone, self._with(rest)] if rest else alone

    def moments(self) -> list[_Part]:
        """Split a single series into its samples. What is refused of them may be stored: others were."""
        parts = [self._with([one]) for one in self.series[0].moments()]
        for part in parts:
            part.lost = True
        return parts

    def note_written(self, samples: int | None) -> None:
        """Note that some of its samples are stored, if the receiver says so."""
        if samples:
            self.failed = self.mixed = True

    def _with(self, series: Sequence[Series]) -> _Part:
        part = _Part.of(series, lost=self.lost)
        part.failed, part.mixed = self.failed, self.mixed
        part.doubtful = self.doubtful.intersection(one.labels for one in series)
        if part.doubtful and len(series) == 1:
            part.lost, part.doubtful = True, frozenset()
        return part


@dataclass(slots=True)
class _Work:
    """One request: its attempts, and what did not end well."""

    request: Unsent
    began: float
    in_doubt: bool  # some of it may be stored
    in_parts: bool = False  # since some attempts were of parts, so may be what is stored
    apart: bool = False  # it was taken apart, and some of it was stored
    passed: RequestLimit = field(default_factory=lambda: RequestLimit(0, 0))  # the largest part that was stored
    recalled: bool = True  # False once the receiver did not say what it holds
    attempts: int = 0
    ended: dict[Delivery, list[tuple[_Part, Failure]]] = field(default_factory=dict)


@dataclass(slots=True)
class _Known:
    """A series that failed alone: why, and when it is tried again."""

    error: Failure
    again: float


@dataclass(slots=True)
class Sender:
    """Sends requests.

    `mark`: notes the request of which an answer may be lost from now on, 0 for none; negative when it is sent in parts.
    `limit`: how large requests may be; it is set here, by what the receiver refuses. `spoken`: the version of remote
    write, by what it understands.
    """

    common: Common
    receiver: Receives
    recalls: Recalls
    accounts: Accounts
    give_up_seconds: float
    leaves: bool
    mark: Callable[[int], Awaitable[None]]
    limit: RequestLimit = field(default_factory=RequestLimit)
    spoken: Spoken = field(default_factory=Spoken)
    _failing_since: float | None = field(default=None, init=False)
    _refused_whole: bool = field(default=False, init=False)  # the last request, each part of it that was tried
    _known: dict[bytes, _Known] = field(default_factory=dict, init=False)
    _metadata_from: float = field(default=0.0, init=False)
    _stored_at: float = field(default=-_FEW_SECONDS, init=False)  # when something was stored
    _picky_at: float = field(default=-_PICKY_SECONDS, init=False)  # when a request failed of which a part passed
    # When native histograms, which the receiver refuses, are tried again; None as long as it takes them.
    _histograms_from: float | None = field(default=None, init=False)
    _sizes: LearnedLimit = field(init=False)
    _negotiation: Negotiation = field(init=False)

    def __post_init__(self) -> None:
        self._negotiation = Negotiation(self.common, self.receiver, self.spoken)
        self._sizes = LearnedLimit(self.limit)

    async def describe(self, body: bytes) -> None:
        """Send metadata, once: samples do not wait for it, and whoever does not want it is not asked again soon."""
        clock = self.common.clock
        if clock.monotonic() < self._metadata_from:
            return
        try:
            await self._negotiation.write(body, 0)
        except (Refused, Transient, Misconfigured) as error:
            if not _is_away(error):
                self._metadata_from = clock.monotonic() + _METADATA_SECONDS
                self.common.report("metadata_refused", error=str(error))

    async def deliver(self, request: Unsent, body: bytes, *, lost: bool, in_parts: bool = False) -> Delivery:
        """Send a request until its end, and enter that in the accounts, part by part if its parts end differently.

        `lost`: an answer to it was, in an earlier process; `in_parts`: or to parts of it.
        """
        if self._sizes.try_larger(self.common.clock.monotonic()):
            self.common.report("request_limit_lifted")
        if not lost and not self.wants(body):
            await self.accounts.settled(request.number, request.tick, body, Delivery.NOT_STORED)
            return Delivery.NOT_WANTED
        rest, known = self._without_known(request, body, lost=lost)
        work = _Work(request, self.common.clock.monotonic(), lost, in_parts or bool(known))
        if rest is not None:
            rest.mixed = in_parts
            await self._whole(work, rest)
        await self._try_known(work, known)
        self._tell_end(work)
        ends = (Delivery.NOT_STORED, Delivery.UNKNOWN, Delivery.NOT_WANTED)
        return next((end for end in ends if end in work.ended), Delivery.STORED)

    def wants(self, body: bytes) -> bool:
        """Return whether a request is to be sent at all: native histograms that are refused are only tried at times."""
        again = self._histograms_from
        return again is None or self.common.clock.monotonic() >= again or not has_histograms(body)

    # A whole request

    async def _whole(self, work: _Work, part: _Part) -> None:
        left = self._within_limit(work, part)
        while left:
            part = left.pop()
            try:
                if part.too_large is not None:  # its siblings were tried since
                    raise part.too_large
                await self._until_answered(work, part)
            except _OthersPassError as error:
                self._picky_at = self.common.clock.monotonic()
                left += await self._take_apart(work, error.rest)
            except HistogramsRefused as error:
                await self._end(work, part, error)
            except Refused as error:
                if self._is_size(work, part, error):
                    left[:0] = self._smaller(work, part, error)
                else:
                    left += await self._refused(work, part, error)
            except _FewFailError as error:
                await self._end_each(work, part, _cause(error))
            except _GivenUpError as error:
                await self._end(work, part, _cause(error))
            else:
                await self._stored(work, part)

    async def _refused(self, work: _Work, part: _Part, error: Refused) -> list[_Part]:
        """Find out what of a refused part is at fault; return what is to be tried of it."""
        if part.doubtful:  # one of them may be all that is refused
            return part.separate()
        rest = part
        if not part.mixed:
            found = await self._sample(work, part, 1 if self._refused_whole else _SAMPLES)
            self._refused_whole = found is None
            if found is None:
                await self._end(work, part, error)
                return []
            rest = found
        return await self._take_apart(work, rest)

    # Its size

    def _within_limit(self, work: _Work, part: _Part) -> list[_Part]:
        """Return a part, or what the limit allows of it at a time, the first last."""
        if not self.limit.in_force or self.limit.allows(part.samples, part.size):
            return [part]
        parts = part.within(self.limit)
        work.in_parts = work.in_parts or len(parts) > 1
        return parts[::-1] or [part]

    def _is_size(self, work: _Work, part: _Part, error: Refused) -> bool:
        """Return whether a part was refused for its size: one that is as large has not passed."""
        return error.too_large and len(part.series) > 1 and not work.passed.allows(part.samples, part.size)

    def _smaller(self, work: _Work, part: _Part, error: Refused) -> list[_Part]:
        """Return what is tried instead of a part that was refused for its size, after all that waits now.

        That is the part itself at first: whether one as large passes, tells whether it is the size.
        """
        if part.too_large is None:
            part.too_large = error
            return [part]
        self._sizes.refused(part.samples, part.size, self.common.clock.monotonic())
        part.too_large = None
        return self._within_limit(work, part)

    def _note_size(self, work: _Work, part: _Part) -> None:
        work.passed.samples = max(work.passed.samples, part.samples)
        work.passed.size = max(work.passed.size, part.size)
        if self._sizes.taken(part.samples, part.size, self.common.clock.monotonic()):
            self.common.report("request_limit_learned", samples=self.limit.samples, size=self.limit.size)

    # Attempts until an answer

    async def _until_answered(self, work: _Work, part: _Part) -> None:
        """Try a request again and again; now and then, whether one of its series would pass."""
        tries = 0
        asked = False  # whether a part of it would pass
        last: Failure | None = None
        clock = self.common.clock
        began = clock.monotonic()

        async def attempt() -> None:
            nonlocal tries, asked, last
            tries += 1
            waited = tries > _PATIENCE or clock.monotonic() - began >= _PATIENCE_SECONDS
            if waited and last is not None and not _is_away(last):
                if work.apart and len(part.series) == 1:
                    raise _GivenUpError from last  # it is this series, and holds up no other
                few = 0 < len(part.series) <= _SAMPLES
                rest = await self._sample(work, part, _SAMPLES if few or not asked else 1)
                asked = True
                if rest is not None:
                    raise _OthersPassError(rest)
                if few and self._fails_alone(last, began):
                    raise _FewFailError from last
            try:
                await self._attempt(work, part)
            except (Transient, Misconfigured) as error:
                last = error
                if isinstance(error, Transient) and self._may_be_part(part, began, asked=asked):
                    raise error.within(self._patience_asked()) from error
                raise

        stop = self.common.stop if self.leaves else None
        await retry(attempt, clock, Backoff(), self._failed, stop)

    def _patience_asked(self) -> float:
        """Return for how long a receiver that asks for it is waited for before a part of the request is tried."""
        picky = self.common.clock.monotonic() - self._picky_at < _PICKY_SECONDS
        return _PATIENCE_SECONDS if picky else _PATIENCE_ASKED_SECONDS

    def _may_be_part(self, part: _Part, began: float, *, asked: bool) -> bool:
        """Return whether it is still to be found out if the receiver fails because of a part of the request."""
        few = len(part.series) <= _SAMPLES and self._took_others(began)
        return len(part.series) > 0 and (few or (len(part.series) > 1 and not asked))

    def _took_others(self, began: float) -> bool:
        """Return whether the receiver took something shortly before `began`.

        In an outage that is so for one request at most: it takes nothing that would be younger for the next one.
        """
        return began - self._stored_at < _FEW_SECONDS

    def _fails_alone(self, last: Failure, began: float) -> bool:
        """Return whether a request of few series, each of which fails since `began`, is likely to be at fault."""
        waited = self.common.clock.monotonic() - began >= _FEW_SECONDS
        return waited and self._took_others(began) and isinstance(last, Transient) and last.answered

    def _failed(self, failure: Failed) -> None:
        """Say why an attempt failed; raise when it was the last."""
        error, common = failure.error, self.common
        if isinstance(error, Misconfigured):
            common.problems.found("receiver", str(error), error.remedy)
            common.report("receiver_misconfigured", error=str(error), remedy=error.remedy)
        else:
            common.problems.found("receiver", str(error), _ANSWERED if error.answered else _AWAY)
            if error.answered and failure.attempt > 1 and self._outage_seconds() >= self.give_up_seconds:
                raise _GivenUpError from error
            common.report("push_retried", attempt=failure.attempt, error=str(error), wait_seconds=failure.wait)
        if self.leaves and common.stop.is_set():
            raise LeftForLaterError

    def _outage_seconds(self) -> float:
        return 0.0 if self._failing_since is None else self.common.clock.monotonic() - self._failing_since

    # Attempts

    async def _attempt(self, work: _Work, part: _Part) -> None:
        """Make one attempt, noting before it that its answer may be lost, and after it that it was not."""
        await self.mark(-work.request.number if work.in_parts else work.request.number)
        work.attempts += 1
        try:
            await self._write(part)
        except Refused as error:
            self._failing_since = None  # it works, but does not want this
            part.note_written(error.written)
            raise
        except (Transient, Misconfigured) as error:
            if isinstance(error, Transient):
                part.lost = part.lost or error.lost
                part.failed = part.failed or error.answered
                part.note_written(error.written)
                if error.answered and self._failing_since is None:
                    self._failing_since = self.common.clock.monotonic()
            work.in_doubt = work.in_doubt or part.lost
            if not work.in_doubt:
                await self.mark(0)
            raise

    async def _write(self, part: _Part) -> None:
        """Write it in the version that the receiver takes, and at once in the other one if it turns out to be that."""
        try:
            await self._negotiation.write(part.body, part.samples)
        except NotUnderstood as error:
            part.lost = part.lost or error.lost
            await self._negotiation.write(part.body, part.samples)

    async def _try(self, work: _Work, part: _Part) -> Failure | None:
        """Make one attempt of a part and enter it in the accounts if it is stored; return why it is not."""
        work.in_parts = True
        try:
            await self._attempt(work, part)
        except (Transient, Misconfigured, Refused) as error:
            if self.leaves and self.common.stop.is_set():
                raise LeftForLaterError from error
            return error
        await self._stored(work, part)
        return None

    # Parts

    async def _sample(self, work: _Work, part: _Part, most: int) -> _Part | None:
        """Try some series of a part alone until one is stored; return what is left then, None when none was."""
        if len(part.series) < 2:
            return None
        for place in random.sample(range(len(part.series)), min(most, len(part.series))):  # chosen, not secret
            one, others = part.without(place)
            if await self._try(work, one) is None:
                return others
            if one.mixed and not part.mixed:  # it is partly stored, so not all is refused
                return part
            if one.lost:
                part.doubtful |= {one.series[0].labels}
            part.failed = part.failed or one.failed
        return None

    async def _take_apart(self, work: _Work, part: _Part) -> list[_Part]:
        """Split what fails until the series that fail stand alone; return what is left when the receiver is at fault.

        The series that fail come last and are tried once more, so that they hold up no other.
        """
        left, in_a_row, most = [part], 0, work.attempts + _MOST_PARTS
        work.apart = True
        alone: list[tuple[_Part, Failure]] = []
        last: Failure = Transient("it was taken apart into too many parts")
        while left and work.attempts < most and in_a_row < _IN_A_ROW:
            one = left.pop()
            error = await self._try(work, one)
            if error is None:
                in_a_row = 0
                continue
            last = error
            if _is_away(error):
                left.append(one)
                break
            in_a_row += not isinstance(error, Refused)
            if len(one.series) > 1:
                left += reversed(one.halves())
            elif one.samples > 1 and isinstance(error, Refused) and error.written:
                left += reversed(one.moments())
            else:
                alone.append((one, error))
        for one, why in alone:
            found = why if isinstance(why, Refused) else await self._try(work, one)
            # A refusal may say that an attempt whose answer was lost was stored: then it would pass the next time.
            if found is not None and await self._end(work, one, found) is Delivery.NOT_STORED:
                self._remember(one, found, 0.0)
        if work.attempts < most:
            return _joined(left)
        for one in _joined(left):
            await self._end(work, one, last)
        return []

    # Series known to fail

    def _without_known(self, request: Unsent, body: bytes, *, lost: bool) -> tuple[_Part | None, list[_Part]]:
        """Return a request without the series that are known to fail, and those of them that it has."""
        if not self._known or not mentions(body, self._known):
            return _Part(body, request.samples, lost=lost), []
        series = series_in(body)
        known = [_Part.of([one], lost=lost) for one in series if one.labels in self._known]
        rest = [one for one in series if one.labels not in self._known]
        return (_Part.of(rest, lost=lost) if rest else None), known

    async def _try_known(self, work: _Work, parts: Sequence[_Part]) -> None:
        clock = self.common.clock
        for number, part in enumerate(sorted(parts, key=lambda part: self._known[part.series[0].labels].again)):
            known = self._known[part.series[0].labels]
            began = clock.monotonic()
            if number >= _KNOWN_AT_ONCE or began < known.again:
                await self._end(work, part, known.error)
                continue
            error = await self._try(work, part)
            seconds = clock.monotonic() - began
            if error is None or await self._end(work, part, error) is not Delivery.NOT_STORED:
                del self._known[part.series[0].labels]
            else:
                self._remember(part, error, seconds)

    def _remember(self, part: _Part, error: Failure, seconds: float) -> None:
        wait = max(_SHARE * seconds, (error.retry_after or 0.0) if isinstance(error, Transient) else 0.0)
        labels = part.series[0].labels
        self._known.pop(labels, None)
        if len(self._known) >= _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[labels] = _Known(error, self.common.clock.monotonic() + wait)

    # Ends

    async def _stored(self, work: _Work, part: _Part) -> None:
        self._stored_at = self.common.clock.monotonic()
        self._failing_since = None
        if self.limit.in_force:
            self._note_size(work, part)
        self._refused_whole = False
        work.in_doubt = True
        self.common.problems.solved("receiver")
        if self._histograms_from is not None and has_histograms(part.body):
            self._histograms_from = None
            self.common.problems.solved("histograms")
            self.common.report("histograms_taken")
            self.accounts.wait_for_histograms(True)
        await self._settle(work, part, Delivery.STORED)

    async def _end(self, work: _Work, part: _Part, error: Failure) -> Delivery:
        """End a part that is not tried again; return what became of it, or of the last of those it is made of."""
        if part.doubtful:
            *alone, rest = part.separate()
            for one in alone:
                await self._end(work, one, error)
            return await self._end(work, rest, error)
        # Of one of 2.0 some series may be stored without the others, and words do not mean this very request.
        parted = part.mixed or version_of(part.body) == 2 or (isinstance(error, Refused) and error.written is not None)
        in_doubt = part.lost or part.mixed or (isinstance(error, Refused) and is_doubtful(error, failed=part.failed))
        if parted and in_doubt and len(part.series) > 1:  # what becomes of one says nothing about the others
            *others, last = part.within(RequestLimit(1, 1))
            for one in others:
                await self._end(work, one, error)
            return await self._end(work, last, error)
        if isinstance(error, Refused):
            self.common.problems.solved("receiver")
            delivery = after_refusal(error, lost=part.lost)
        else:
            delivery = after_giving_up(lost=part.lost or part.mixed)
        if in_doubt and (parted or delivery is not Delivery.STORED) and work.recalled:
            there = await self.recalls.holds(part.body)
            work.recalled = there is not None
            if there is not None:
                delivery = Delivery.STORED if there else Delivery.NOT_STORED
        if delivery is Delivery.NOT_STORED and isinstance(error, HistogramsRefused):
            self._refuse_histograms(error)
            delivery = Delivery.NOT_WANTED
        if delivery is not Delivery.STORED:
            work.ended.setdefault(delivery, []).append((part, error))
        await self._settle(work, part, delivery)
        return delivery

    async def _end_each(self, work: _Work, part: _Part, error: Failure) -> None:
        """End each series of a part, which is known to fail from then on."""
        for one in part.within(RequestLimit(1, 1)):
            if await self._end(work, one, error) is Delivery.NOT_STORED:
                self._remember(one, error, 0.0)

    def _refuse_histograms(self, error: HistogramsRefused) -> None:
        """Try native histograms rarely from now on, and say so once."""
        if self._histograms_from is None:
            self.common.report("histograms_refused", status=error.status, words=error.words, remedy=_NO_HISTOGRAMS)
        self._histograms_from = self.common.clock.monotonic() + _HISTOGRAMS_SECONDS
        self.common.problems.found("histograms", f"the receiver refuses native histograms ({error})", _NO_HISTOGRAMS)
        self.accounts.wait_for_histograms(False)

    async def _settle(self, work: _Work, part: _Part, delivery: Delivery) -> None:
        # What may be stored counts as stored: going back would count twice what was.
        settled = {Delivery.UNKNOWN: Delivery.STORED, Delivery.NOT_WANTED: Delivery.NOT_STORED}.get(delivery, delivery)
        await self.accounts.settled(work.request.number, work.request.tick, part.body, settled)

    def _tell_end(self, work: _Work) -> None:
        for _, error in work.ended.get(Delivery.UNKNOWN, ())[:1]:
            self.common.report("request_outcome_unknown", error=str(error))
        missing = work.ended.get(Delivery.NOT_STORED, ())
        refused = [(part, error) for part, error in missing if isinstance(error, Refused)]
        dropped = [(part, error) for part, error in missing if not isinstance(error, Refused)]
        for ended in (refused, dropped):
            if ended:
                self._tell_missing(work, ended)

    def _tell_missing(self, work: _Work, ended: Sequence[tuple[_Part, Failure]]) -> None:
        part, error = ended[0]
        series = sum(len(part.series) for part, _ in ended)
        example = str(part.series[0]) if part.series else None
        if isinstance(error, Refused):
            verb = "refused"
            self.common.report(
                "request_refused", status=error.status, words=error.words, series=series or None, example=example
            )
        else:
            verb = "dropped"
            seconds = self.common.clock.monotonic() - work.began
            self.common.report(
                "request_dropped",
                attempts=work.attempts,
                seconds=seconds,
                error=str(error),
                series=series or None,
                example=example,
            )
        what = f"{series} series of a request were {verb}, such as {example}" if example else f"a request was {verb}"
        self.common.problems.found("delivery", f"{what} ({error})")


def _cause(error: Exception) -> Transient:
    cause = error.__cause__
    assert isinstance(cause, Transient)  # noqa: S101
    return cause


def _joined(parts: Sequence[_Part]) -> list[_Part]:
    """Join parts, but none of which an answer was lost: of those, what is said of the whole says nothing."""
    certain = [part for part in reversed(parts) if not part.lost]
    found = [part for part in parts if part.lost]
    if certain:
        joined = _Part.of([one for part in certain for one in part.series], lost=False)
        joined.failed, joined.mixed = any(part.failed for part in certain), any(part.mixed for part in certain)
        joined.doubtful = frozenset().union(*(part.doubtful for part in certain))
        found.append(joined)
    return found


def _is_away(error: Failure) -> bool:
    """Return whether the failure is one of the receiver as a whole: it was not reached, or refuses everybody."""
    return isinstance(error, Misconfigured) or (isinstance(error, Transient) and not error.answered and not error.lost)
