"""The stages: list, fetch, decode, aggregate, push, delete. Each takes from one channel and puts into the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar

from cdn77_exporter.core.arrivals import MOST_LEAD, NO_LEAD, Arrivals
from cdn77_exporter.core.bundle import Bundle, Failure, Share
from cdn77_exporter.core.changes import Request
from cdn77_exporter.core.errors import FileGone, Misconfigured, Refused, Transient, Unreadable
from cdn77_exporter.core.files import MAX_AGE_MS, LogFile, RawLog, hour_prefixes
from cdn77_exporter.core.tally import Example, TickTally, counts_of
from cdn77_exporter.core.timeline import Timeline
from cdn77_exporter.core.watermark import Watermark
from cdn77_exporter.flow.channel import Channel, Closed
from cdn77_exporter.flow.claims import MAX_ATTEMPTS, Claims, oldest_first
from cdn77_exporter.flow.ordering import Places
from cdn77_exporter.flow.ports import (
    Clock,
    Decodes,
    Deletes,
    Fetches,
    Ledger,
    Lists,
    Problems,
    Receives,
    Report,
)
from cdn77_exporter.flow.quarantine import Quarantine
from cdn77_exporter.flow.retry import Backoff, pause

T = TypeVar("T")
_FETCH_ATTEMPTS = 3
# One poll in so many comes early at most; where it does so again and again, files have no steady pace.
_BETWEEN_LEADS, _BETWEEN_LEADS_MOST = 5, 40
_COMMIT_SECONDS = 5.0  # files wait at most this long for a commit when no tick is complete,
_COMMIT_BYTES = 8 * 1024 * 1024  # or until so much of them waits: a commit holds what all of them count
_MISCONFIGURED_SECONDS = 30.0
_DELETE_AT_ONCE = 1000
_TOLD_AT_ONCE = 20  # of their log lines
_BODIES_IN_MEMORY = 1024 * 1024
_AT_ONCE = 16  # of what was decoded together
_UNWRITABLE = "free some space or make the state file writable; nothing is lost meanwhile"


@dataclass(frozen=True, slots=True)
class Countable:
    """Decoded files on their way to the counters: what each has by itself (and took to fetch), and what all count."""

    files: list[tuple[LogFile, Share, float]]
    ticks: dict[int, TickTally]


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that were committed together, and the last tick that they and those before them complete."""

    requests: list[Request]
    tick: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that the receiver has every tick up to `through_tick` (Unix seconds); only this lets a file be deleted."""

    through_tick: int


@dataclass(slots=True)
class Context:
    """What the stages share: the clock, the voices, the stop signal and the claims."""

    clock: Clock
    report: Report
    problems: Problems
    stop: asyncio.Event
    claims: Claims
    watermark: Watermark
    places: Places
    arrivals: Arrivals = field(default_factory=Arrivals)
    polled: bool = False  # whether a poll has succeeded since the start
    last_poll_ms: int = 0
    last_push_ms: int = 0
    late_events: int = 0
    listed: int = 0  # objects in the hour folders at the last poll
    examples: dict[str, tuple[str, Example]] = field(default_factory=dict)  # reason -> the last such line, and its file
    extra: dict[str, float] = field(default_factory=dict)

    def let_go(self, file: LogFile) -> None:
        """A listed file is not counted now; a later poll may take it."""
        self.claims.release(file.identity)
        self.watermark.withdrawn(file.shard)


# list


@dataclass(slots=True)
class Lister:
    """Looks for new files every `interval` seconds until it is told to stop.

    Now and then a poll comes early, so that from then on polls find files soon after they appeared.
    """

    bucket: Lists
    ledger: Ledger
    context: Context
    prefix: str
    interval: float
    lookback_hours: float
    keep_files: bool = False
    quarantine: Quarantine | None = None
    _on_time: int = field(default=_BETWEEN_LEADS, init=False)  # polls since the last that came early
    _between: int = field(default=_BETWEEN_LEADS, init=False)  # polls before the next may

    async def run(self, outbox: Channel[LogFile]) -> None:
        """Poll, and put what is new into the outbox, oldest first."""
        context = self.context
        async with outbox:
            while not context.stop.is_set():
                began, poll_ms = context.clock.monotonic(), context.clock.bucket_ms()
                for file in await self._poll():
                    if context.stop.is_set():
                        context.let_go(file)
                    else:
                        await outbox.put(file)
                # By then the files that this poll found are counted, and tell when they came.
                await self._pause_until(began + self.interval * (1 - MOST_LEAD))
                if context.clock.monotonic() < began + self.interval:
                    await self._pause_until(began + self.interval - self._lead(poll_ms))

    async def _pause_until(self, moment: float) -> None:
        clock = self.context.clock
        await pause(clock, self.context.stop, max(0.0, moment - clock.monotonic()))

    def _lead(self, poll_ms: int) -> float:
        """Seconds by which the next poll is to come early."""
        self._on_time += 1
        if self._on_time < self._between or self.context.stop.is_set():
            return 0.0
        lead = self.context.arrivals.lead(poll_ms, self.interval)
        if lead is NO_LEAD:
            self._between = max(_BETWEEN_LEADS, self._between - 1)
        else:
            self._on_time, self._between = 0, min(2 * self._between, _BETWEEN_LEADS_MOST)
            self.context.report("poll_brought_forward", seconds=lead.seconds, gain_seconds=round(lead.gain, 3))
        return lead.seconds

    async def _poll(self) -> list[LogFile]:
        context = self.context
        began = context.clock.monotonic()
        try:
            files, listed = await self._find_new()
        except (Transient, Misconfigured) as error:
            remedy = getattr(error, "remedy", "nothing is lost; the next poll tries again")
            context.report("poll_failed", error=str(error), remedy=remedy)
            context.problems.found("bucket", f"{error}; {remedy}")
            return []
        context.problems.solved("bucket")
        context.polled = True
        context.listed = listed
        context.last_poll_ms = context.clock.now_ms()
        context.claims.claim(files)
        context.watermark.listed([file.shard for file in files], context.last_poll_ms)
        context.report("poll_finished", listed=listed, new=len(files), seconds=context.clock.monotonic() - began)
        if self.quarantine is not None:
            await self.quarantine.sweep()
        return oldest_first(files)

    async def _find_new(self) -> tuple[list[LogFile], int]:
        new: dict[tuple[str, str], LogFile] = {}  # a listing that goes on while files come may name one twice
        listed = 0
        for prefix in hour_prefixes(self.prefix, self.context.clock.now_ms(), self.lookback_hours):
            async for page in self.bucket.list_files(prefix):
                listed += len(page)
                files = self.context.claims.unclaimed(page)
                for key in await self.ledger.uploaded_again(files):
                    await self.ledger.release(key)
                    self.context.report("file_released", key=key)
                known = await self.ledger.known(files, again=not self.keep_files)
                # A file may have been committed while the ledger was asked, so its claim is looked at again.
                unclaimed = self.context.claims.unclaimed(files)
                new.update((file.identity, file) for file in unclaimed if file.identity not in known)
        return list(new.values()), listed


# fetch


@dataclass(slots=True)
class Fetcher:
    """Downloads a file, with a few attempts; what it cannot get is left to a later poll.

    `active`: downloads that are under way.
    """

    bucket: Fetches
    ledger: Ledger
    context: Context
    active: int = 0

    async def __call__(self, file: LogFile) -> RawLog | None:
        """The file's checked bytes, or None."""
        self.active += 1
        try:
            return await self._fetch(file)
        finally:
            self.active -= 1

    async def _fetch(self, file: LogFile) -> RawLog | None:
        context = self.context
        began = context.clock.monotonic()
        backoff = Backoff(first=0.2, most=5.0)
        for attempt in range(1, _FETCH_ATTEMPTS + 1):
            try:
                body = await self.bucket.fetch(file)
            except Transient as error:
                if attempt == _FETCH_ATTEMPTS or context.stop.is_set():
                    await leave(file, error, self.ledger, context)
                    break
                await context.clock.sleep(backoff.next(error.retry_after))
            except (FileGone, Unreadable, Misconfigured) as error:
                await leave(file, error, self.ledger, context)
                break
            else:
                return RawLog(file, body, context.clock.monotonic() - began)
        return None


@dataclass(slots=True)
class NotHere:
    """Stands for the fetcher where those who decode fetch for themselves."""

    active: int = 0

    async def __call__(self, file: LogFile) -> RawLog:
        """The file without its bytes."""
        return RawLog(file, b"")


async def leave(
    file: LogFile, error: FileGone | Unreadable | Misconfigured | Transient, ledger: Ledger, context: Context
) -> None:
    """Say why a file is not counted now, and let a later poll have it."""
    if isinstance(error, Unreadable):
        await refuse(file, error, ledger, context)
        return
    if isinstance(error, FileGone):
        context.report("file_gone", key=file.key)
    elif isinstance(error, Misconfigured):
        context.report("file_fetch_failed", key=file.key, error=f"{error}; {error.remedy}")
        context.problems.found("bucket", f"{error}; {error.remedy}")
    else:
        context.report("file_fetch_failed", key=file.key, error=str(error))
    context.let_go(file)


async def refuse(file: LogFile, error: Unreadable, ledger: Ledger, context: Context) -> None:
    """An unreadable file is tried again at later polls, then set aside; it is never deleted."""
    attempt = context.claims.failed(file)
    context.report("file_unreadable", key=file.key, reason=error.reason, attempt=attempt)
    if attempt >= MAX_ATTEMPTS:
        try:
            await ledger.set_aside(file, error.reason)
        except Transient:
            pass  # it will be tried once more, and set aside then
        else:
            context.claims.forget(file.identity)
            context.report("file_set_aside", key=file.key, reason=error.reason)
    context.let_go(file)


# decode


@dataclass(slots=True)
class FileDecoder:
    """Has files decoded beside the event loop, those that are ready together.

    `active`: files that are being decoded.
    """

    decoder: Decodes
    ledger: Ledger
    context: Context
    active: int = 0

    async def __call__(self, logs: Sequence[RawLog]) -> Countable | None:
        """What the files count, or None when none of them can be read."""
        now_ms = self.context.clock.now_ms()
        latest_ms = [min(log.file.modified_ms, now_ms) for log in logs]
        self.active += len(logs)
        try:
            bundle = await self._decode(logs, latest_ms, now_ms - MAX_AGE_MS)
        finally:
            self.active -= len(logs)
        files = []
        for log, share in zip(logs, bundle.shares, strict=True):
            if isinstance(share, Failure):
                await leave(log.file, share.error(), self.ledger, self.context)
                self.context.places.free()
            else:
                self.context.claims.forget(log.file.identity)
                files.append((log.file, share, log.fetch_seconds))
                self.context.examples.update({example.reason: (log.file.key, example) for example in share.examples})
        return Countable(files, bundle.ticks) if files else None

    async def _decode(self, logs: Sequence[RawLog], latest_ms: Sequence[int], oldest_ms: int) -> Bundle:
        """Until it is done; when a stop comes while nothing decodes, the files are left to the next process."""
        context = self.context
        backoff = Backoff(first=0.5, most=15.0)
        while True:
            try:
                bundle = await self.decoder.decode(logs, latest_ms, oldest_ms)
            except Transient as error:
                context.report("decoders_unavailable", error=str(error), files=len(logs))
                context.problems.found("decoders", f"{error}; files wait until it can be reached")
                if context.stop.is_set():
                    return Bundle([Failure.of(error) for _ in logs])
                await pause(context.clock, context.stop, backoff.next(error.retry_after))
            else:
                context.problems.solved("decoders")
                return bundle


# aggregate


@dataclass(slots=True)
class Aggregator:
    """Counts files, settles complete ticks, and commits both with the requests that tell of them.

    `thread`: where the timeline does its work, so that the event loop stays free. `keeps_state`: whether another
    process will go on from what is committed.
    """

    timeline: Timeline
    ledger: Ledger
    context: Context
    thread: Executor
    keeps_state: bool
    _committed_at: float = 0.0
    _uncommitted: list[LogFile] = field(default_factory=list)
    _last_tick: int = 0

    async def run(self, inbox: Channel[Countable], outbox: Channel[Batch]) -> None:
        """Until the inbox has ended and everything is committed."""
        self._last_tick = self.timeline.emitted
        async with outbox:
            while True:
                try:
                    found = await inbox.take(_AT_ONCE, seconds=1.0)
                except Closed:
                    break
                found.reverse()
                while found:  # each is let go when it is counted
                    await self._absorb(found.pop())
                await self._advance(outbox, commit=False)
            await self._advance(outbox, commit=True)
            if not self.keeps_state:
                await self._flush(outbox)

    @property
    def uncommitted(self) -> int:
        """Files that are counted and wait for the next commit."""
        return len(self._uncommitted)

    async def _work(self, call: Callable[..., T], *values: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.thread, lambda: call(*values))

    async def between_steps(self, call: Callable[[], None]) -> None:
        """Do something with the timeline when nothing else does."""
        await self._work(call)

    async def _absorb(self, decoded: Countable) -> None:
        context = self.context
        shares = [(file, share) for file, share, _ in decoded.files]
        results = await self._work(self.timeline.absorb_together, shares, counts_of(decoded.ticks))
        for (file, share, fetch_seconds), absorbed in zip(decoded.files, results, strict=True):
            context.watermark.delivered(file.shard, share.newest_ms, context.clock.now_ms())
            context.arrivals.counted(file.shard, file.modified_ms, share.newest_ms)
            skipped = context.watermark.numbered(file.shard, file.writer, file.sequence) if file.sequence >= 0 else 0
            self._uncommitted.append(file)
            context.places.free()
            context.late_events += absorbed.late
            context.report(
                "file_counted",
                key=file.key,
                shard=file.shard,
                size=file.size,
                lines=share.lines,
                events=share.events,
                rejects=share.rejects,
                late=absorbed.late,
                late_seconds=absorbed.late_seconds or None,
                skipped=max(0, skipped),
                fetch_seconds=fetch_seconds,
                decode_seconds=share.seconds,
            )

    async def _advance(self, outbox: Channel[Batch], *, commit: bool) -> None:
        more = True
        while more:
            watermark_ms = self.context.watermark.advance()
            requests, more = await self._work(self.timeline.advance, watermark_ms, self.context.clock.now_ms())
            due = self._uncommitted and (commit or self._waited_enough())
            if self.timeline.emitted > self._last_tick or due or (commit and not more):
                await self._commit(requests, outbox)

    def _waited_enough(self) -> bool:
        waited = self.context.clock.monotonic() - self._committed_at
        return waited >= _COMMIT_SECONDS or sum(file.size for file in self._uncommitted) >= _COMMIT_BYTES

    async def _flush(self, outbox: Channel[Batch]) -> None:
        """Without a state, a stop writes what is held; what may not be written stays uncounted in the bucket."""
        flushed = await self._work(self.timeline.flush, self.context.clock.now_ms())
        if flushed is not None:
            requests, covered = flushed
            await self._commit(requests, outbox, covered)

    async def _commit(self, requests: list[Request], outbox: Channel[Batch], covered: int = 0) -> None:
        changes = await self._work(
            self.timeline.take_changes, requests, self.context.watermark.value_ms, self.context.watermark.take_changes()
        )
        backoff = Backoff(first=0.5, most=15.0)
        began = self.context.clock.monotonic()
        while True:
            try:
                await self.ledger.commit(changes)
                break
            except (Transient, Misconfigured) as error:
                remedy = getattr(error, "remedy", _UNWRITABLE)
                self.context.report("state_commit_failed", error=str(error), remedy=remedy)
                self.context.problems.found("state", f"{error}; {remedy}")
                await self.context.clock.sleep(backoff.next(None))
        self.context.problems.solved("state")
        self._committed_at = self.context.clock.monotonic()
        self.context.extra["commit_seconds"] = self._committed_at - began
        for file in self._uncommitted:
            self.context.claims.release(file.identity)
        self._uncommitted = []
        tick = max(self.timeline.emitted, covered)
        if requests or tick != self._last_tick:
            self._last_tick = tick
            await outbox.put(Batch(_without_large_bodies(requests), tick))


def _without_large_bodies(requests: list[Request]) -> list[Request]:
    """Bodies that wait for the receiver take no memory beyond a bound: the state gives them back one by one."""
    if sum(len(request.body) for request in requests) <= _BODIES_IN_MEMORY:
        return requests
    return [Request(request.number, request.tick, request.samples, b"") for request in requests]


# push


class _LeftForLaterError(Exception):
    """The stop came while the receiver did not answer."""


@dataclass(slots=True)
class Pusher:
    """Sends committed requests in their order, each until it is done or given up.

    `leaves`: a stop does not wait for a receiver that does not answer; the state keeps what is owed.
    """

    receiver: Receives
    ledger: Ledger
    context: Context
    give_up_seconds: float
    leaves: bool = False
    _owed: bool = False  # something was refused that no later tick has made good yet

    async def run(self, inbox: Channel[Batch], outbox: Channel[Receipt]) -> None:
        """First what an earlier process left, then batch after batch."""
        async with outbox:
            try:
                await self._push_all(inbox, outbox)
            except _LeftForLaterError:
                async for _ in inbox:  # committed too, and after what is left
                    pass
                self.context.report("outbox_left", requests=len(await self.ledger.outbox()))

    async def _push_all(self, inbox: Channel[Batch], outbox: Channel[Receipt]) -> None:
        await outbox.put(Receipt(await self.ledger.acknowledged()))  # files that it covers may still be in the bucket
        left = await self.ledger.outbox()
        if left:
            tick = max(tick for _, tick, _ in left)
            requests = [Request(number, at, samples, b"") for number, at, samples in left]
            await self._push(Batch(requests, tick), outbox, resent=True)
        async for batch in inbox:
            await self._push(batch, outbox, resent=False)

    async def _push(self, batch: Batch, outbox: Channel[Receipt], *, resent: bool) -> None:
        context = self.context
        began = context.clock.monotonic()
        size = samples = 0
        accepted = True
        for request in batch.requests:
            body = request.body or await self.ledger.body(request.number)
            accepted = await self._deliver(body, resent=resent) and accepted
            size += len(body)
            samples += request.samples
        numbers = [request.number for request in batch.requests]
        if accepted and (batch.requests or not self._owed):
            self._owed = False
            await self._mark(numbers, batch.tick)
            await outbox.put(Receipt(batch.tick))
        else:
            self._owed = True
            await self._mark(numbers, None)
        if not batch.requests:
            return
        context.last_push_ms = context.clock.now_ms()
        context.report(
            "batch_pushed" if accepted else "batch_incomplete",
            first_tick=min(request.tick for request in batch.requests),
            last_tick=batch.tick,
            requests=len(numbers),
            samples=samples,
            size=size,
            seconds=context.clock.monotonic() - began,
            lag_seconds=context.last_push_ms / 1000 - batch.tick,
        )

    async def _mark(self, numbers: list[int], acknowledged: int | None) -> None:
        backoff = Backoff(first=0.5, most=15.0)
        while True:
            try:
                await self.ledger.mark_done(numbers, acknowledged)
                return self.context.problems.solved("state")
            except Transient as error:
                remedy = _UNWRITABLE
                self.context.report("state_commit_failed", error=str(error), remedy=remedy)
                self.context.problems.found("state", f"{error}; {remedy}")
                await self.context.clock.sleep(backoff.next(None))

    async def _deliver(self, body: bytes, *, resent: bool) -> bool:
        """Whether the receiver has the request. A 400 for one that may have been stored before means that it was."""
        context = self.context
        backoff = Backoff()
        began = context.clock.monotonic()
        attempt = 0
        while True:
            attempt += 1
            try:
                await self.receiver.write(body)
            except Refused as error:
                if resent and error.status == 400:
                    context.problems.solved("receiver")
                    return True
                context.report("request_refused", status=error.status, words=error.words)
                context.problems.found("receiver", f"a request was refused ({error}); see its words")
                return False
            except Misconfigured as error:
                context.report("receiver_misconfigured", error=str(error), remedy=error.remedy)
                context.problems.found("receiver", f"{error}; {error.remedy}")
                wait = _MISCONFIGURED_SECONDS
            except Transient as error:
                resent = True
                spent = context.clock.monotonic() - began
                context.problems.found("receiver", f"{error}; nothing is lost, it is tried again")
                if spent >= self.give_up_seconds:
                    context.report("request_dropped", attempts=attempt, seconds=spent, error=str(error))
                    return False
                wait = backoff.next(error.retry_after)
                context.report("push_retried", attempt=attempt, error=str(error), wait_seconds=wait)
            else:
                context.problems.solved("receiver")
                return True
            if self.leaves and context.stop.is_set():
                raise _LeftForLaterError
            await self._pause(wait)

    async def _pause(self, seconds: float) -> None:
        """Wait; a stop that leaves the rest for later ends the wait."""
        if not self.leaves:
            return await self.context.clock.sleep(seconds)
        await pause(self.context.clock, self.context.stop, seconds)
        return None


# delete


@dataclass(slots=True)
class Deleter:
    """Deletes the files of which every tick is acknowledged; with `keep_files` it only notes that they are done."""

    bucket: Deletes
    ledger: Ledger
    context: Context
    keep_files: bool
    _skip: int = 0  # files at the front that could not be deleted and must not hold up those behind them

    async def run(self, inbox: Channel[Receipt]) -> None:
        """For every receipt, all that it lets go."""
        async for receipt in inbox:
            while await self._delete_some(receipt.through_tick):
                pass

    async def _delete_some(self, through: int) -> bool:
        """Delete a part; whether there may be more."""
        counted = await self.ledger.deletable(through, _DELETE_AT_ONCE, self._skip)
        if not counted:
            self._skip = 0
            return False
        files = [LogFile(file.key, file.etag, file.size, file.modified_ms) for file in counted]
        failures: dict[tuple[str, str], str] = {}
        try:
            if not self.keep_files:
                failures = await self.bucket.delete(files)
            changed = [identity for identity, reason in failures.items() if reason == "changed"]
            for identity in changed:
                self.context.report("file_changed", key=identity[0])
                del failures[identity]  # the new content is another file; this one is no more
            done = [file.identity for file in files if file.identity not in failures]
            await self.ledger.mark_deleted(done)
        except (Transient, Misconfigured) as error:
            remedy = getattr(error, "remedy", "it is tried again after the next tick")
            self.context.report("delete_failed", count=len(files), error=f"{error}; {remedy}")
            if isinstance(error, Misconfigured):
                self.context.problems.found("deletion", f"{error}; {remedy}")
            return False
        if failures:
            reason = next(iter(failures.values()))
            self.context.report("delete_failed", count=len(failures), error=reason)
            self.context.problems.found("deletion", f"{reason}: does the key have the right to delete?")
        elif not self._skip:
            self.context.problems.solved("deletion")
        if not self.keep_files:
            await self._tell([key for key, etag in done if (key, etag) not in changed])
        full = len(files) == _DELETE_AT_ONCE
        self._skip = self._skip + len(failures) if full else 0
        return full and not failures

    async def _tell(self, keys: Sequence[str]) -> None:
        """Say what was deleted; other tasks run in between."""
        for number, key in enumerate(keys, start=1):
            self.context.report("file_deleted", key=key)
            if number % _TOLD_AT_ONCE == 0:
                await asyncio.sleep(0)
        if keys:
            self.context.report("files_deleted", count=len(keys))
