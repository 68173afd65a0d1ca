"""``RANK_ID=auto``: which rank is free is judged by beats and my own clock, never by the store's."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from tests.fakestore import FakeServer, FakeSpares, FakeStore
from tests.listening import story, until
from tests.records import exchange, record
from unitagent.agent import rank_search as claiming
from unitagent.agent.rank_claim import AskHolder, Claimant, SpareEntry, claim_free_rank
from unitagent.agent.rank_search import (
    Claim,
    RankSearch,
    Spare,
    explain_all_held,
    find_free_rank,
    find_longest_takeover,
    is_settled,
)
from unitagent.core.events import ProbeResult
from unitagent.core.leases import Leases
from unitagent.core.model import Beat, Record, Reply
from unitagent.core.spares import Standby
from unitagent.core.timing import Timing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SIZE, LEASE, TAKEOVER = 3, 0.4, 0.5
QUICK = replace(Timing.from_lease(1, 0.2), lease=LEASE, takeover=TAKEOVER)
SPARE = replace(record(0, "spare", generation=0, size=SIZE), ip="10.0.0.9", netns="here")


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "PAUSE", 0.01)


def holder(rank: int, size: int = SIZE) -> Record:
    return replace(record(rank, f"i{rank}", generation=4, size=size), tenure=10 + rank, netns=f"n{rank}")


async def keep_beating(server: FakeServer, mine: Record) -> None:
    store = FakeStore(server, mine.rank, mine.incarnation)
    while True:
        await store.exchange(exchange(mine, generation=mine.generation))
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def held(server: FakeServer, gang: str = "") -> AsyncIterator[dict[int, asyncio.Task[None]]]:
    """All ranks have a living holder, on a store that is older than a lease."""
    server.state.board.born = server.clock() - 60
    holders = [replace(holder(rank), gang=gang) for rank in range(SIZE)]
    beating = {one.rank: asyncio.create_task(keep_beating(server, one)) for one in holders}
    await until(lambda: len(server.state.board.records) == SIZE)
    try:
        yield beating
    finally:
        for task in beating.values():
            task.cancel()


def claimed(
    server: FakeServer,
    me: Record = SPARE,
    *,
    guard: bool = True,
    ask: AskHolder | None = None,
    spare: Spare = Spare.NONE,
    number: int = SIZE,
) -> asyncio.Task[Claim]:
    store = FakeStore(server, None, me.incarnation)
    line = Standby(number=number, incarnation=me.incarnation, ip=me.ip, port=me.port)
    entry = SpareEntry(FakeSpares(server), line, size=SIZE, lease=LEASE)
    claimant = Claimant(store, me, guard=guard, timing=QUICK, ask=ask, spare=spare, entry=entry)

    async def claim() -> Claim:
        result = await claim_free_rank(claimant, store_timeout=60)
        assert result is not None, "the Unit was drained"
        return result

    return asyncio.create_task(claim())


async def looked(server: FakeServer, times: int, name: str = "spare") -> None:
    """The claimant has looked so often from now on."""
    enough = server.state._counts[name] + times
    await until(lambda: server.state._counts[name] >= enough)


@story
async def test_a_holder_that_is_cut_off_from_the_store_and_answers_keeps_its_rank() -> None:
    server, asked = FakeServer(), [0]

    async def ask(record: Record) -> ProbeResult:
        asked[0] += 1
        return ProbeResult.ALIVE if asked[0] < 3 else ProbeResult.SILENT

    async with held(server) as beating:
        beating[1].cancel()
        found = await claimed(server, ask=ask)
    assert found.me.rank == 1
    assert asked[0] >= 3


@story
async def test_a_holder_whose_record_the_store_loses_is_asked_where_it_was() -> None:
    server, asked = FakeServer(), set[int]()

    async def ask(record: Record) -> ProbeResult:
        asked.add(record.rank)
        return ProbeResult.SILENT

    async with held(server) as beating:
        claim = claimed(server, ask=ask)
        await looked(server, 3)
        beating[1].cancel()
        del server.state.board.records[1]
        assert (await claim).me.rank == 1
    assert asked == {1}


@story
async def test_a_late_holder_is_asked_at_once_and_keeps_its_rank_for_a_takeover_from_then_on() -> None:
    """Until then its peers may hear it, too, and it need not stop."""
    server, asked = FakeServer(), list[float]()
    loop = asyncio.get_running_loop()

    async def ask(record: Record) -> ProbeResult:
        asked.append(loop.time())
        return ProbeResult.ALIVE if len(asked) < 3 else ProbeResult.SILENT

    async with held(server) as beating:
        claim = claimed(server, ask=ask)
        await looked(server, 3)
        beating[1].cancel()
        assert (await claim).me.rank == 1
        assert loop.time() - asked[2] >= TAKEOVER


@story
async def test_a_machine_that_is_gone_answers_nothing_and_the_store_is_looked_at_meanwhile() -> None:
    """A question takes its whole time then; a pause as long as that would break the contact (found by random
    faults: a spare that never took the rank).
    """
    server = FakeServer()

    async def ask(record: Record) -> ProbeResult:
        await asyncio.sleep(2 * QUICK.contact_gap)
        return ProbeResult.SILENT

    async with held(server) as beating:
        claim = claimed(server, ask=ask)
        await looked(server, 3)
        beating[1].cancel()
        begun = asyncio.get_running_loop().time()
        assert (await claim).me.rank == 1
        assert asyncio.get_running_loop().time() - begun < TAKEOVER + 4 * QUICK.contact_gap + 2


@story
async def test_who_comes_back_to_a_rank_that_is_taken_stands_by_and_takes_the_next_lost_one() -> None:
    server = FakeServer()
    async with held(server) as beating:
        back = replace(SPARE, rank=1)
        claim = claimed(server, back, spare=Spare.HOME)
        await until(lambda: bool(server.state.board.spares))
        assert not claim.done()
        beating[2].cancel()
        assert (await claim).me.rank == 2
    assert server.state.board.holders[1] == "i1"


@pytest.mark.parametrize("state", ["empty", "left", "my place"])
def test_who_comes_back_to_its_own_rank_has_it_at_once(state: str) -> None:
    @story
    async def tell() -> None:
        server = FakeServer()
        server.state.board.born = server.clock() - 60
        me = replace(SPARE, rank=1)
        if state != "empty":
            there = replace(holder(1), has_left=state == "left", ip=me.ip, netns=me.netns, port=me.port)
            await FakeStore(server, 1, "i1").exchange(exchange(there, generation=4))
        begun = asyncio.get_running_loop().time()
        found = await claimed(server, me, spare=Spare.HOME)
        assert found.me.rank == 1
        assert asyncio.get_running_loop().time() - begun < LEASE
        assert (found.took is None) is (state == "empty")

    tell()


@story
async def test_of_two_spares_the_one_with_the_lower_number_takes_a_lost_rank() -> None:
    server = FakeServer()
    async with held(server) as beating:
        high = claimed(server, replace(SPARE, incarnation="high"), spare=Spare.BEYOND, number=SIZE + 1)
        await until(lambda: SIZE + 1 in server.state.board.spares)
        low = claimed(server, replace(SPARE, incarnation="low"), spare=Spare.BEYOND, number=SIZE)
        await until(lambda: len(server.state.board.spares) == 2)
        await asyncio.sleep(1.2)  # each reads the list once a second
        beating[1].cancel()
        found = await low
        assert found.me.rank == 1
        assert not high.done()
        high.cancel()


@story
async def test_a_spare_whose_number_is_taken_has_the_next_one() -> None:
    server = FakeServer()
    async with held(server):
        one = claimed(server, replace(SPARE, incarnation="one"), spare=Spare.BEYOND)
        await until(lambda: SIZE in server.state.board.spares)
        other = claimed(server, replace(SPARE, incarnation="other"), spare=Spare.BEYOND)
        await until(lambda: len(server.state.board.spares) == 2)
        numbers = {number: line.incarnation for number, (line, _) in server.state.board.spares.items()}
        assert numbers == {SIZE: "one", SIZE + 1: "other"}
        one.cancel()
        other.cancel()


@story
async def test_a_store_whose_clock_steps_ahead_gives_nobody_a_held_rank() -> None:
    ahead = 0.0
    loop = asyncio.get_running_loop()
    server = FakeServer(clock=lambda: loop.time() + ahead)
    async with held(server) as beating:
        ahead = 3600.0
        beating[2].cancel()  # the only one whose beat stands still from now on
        assert (await claimed(server)).me.rank == 2
        assert server.state.board.holders == {0: "i0", 1: "i1", 2: "spare"}


@pytest.mark.parametrize(("guard", "gang", "generation"), [(True, "g", 5), (False, "g", 4), (True, "", 4)])
def test_who_takes_a_rank_says_that_its_predecessors_generation_is_over(
    guard: bool, gang: str, generation: int
) -> None:
    """Where it had confirmed no gang, nobody can have started with it."""

    @story
    async def tell() -> None:
        server = FakeServer()
        async with held(server, gang) as beating:
            beating[1].cancel()
            found = await claimed(server, guard=guard)
        assert replace(found.me, tenure=0) == replace(SPARE, rank=1)
        assert found.took == replace(holder(1), gang=gang)
        assert server.state.board.records[1] == found.me
        assert server.state.board.generation == generation

    tell()


@story
async def test_a_tenure_that_was_observed_for_a_lease_is_as_high_as_the_stores_clock() -> None:
    server = FakeServer()
    async with held(server) as beating:
        beating[1].cancel()
        begun = server.clock()
        found = await claimed(server)
    assert begun * 1000 < found.me.tenure <= server.clock() * 1000


@story
async def test_a_tenure_that_was_not_observed_is_one_above_its_predecessors() -> None:
    server = FakeServer()
    async with held(server) as beating:
        beating[1].cancel()
        await FakeStore(server, 1, "i1").exchange(exchange(replace(holder(1), has_left=True), generation=4))
        found = await claimed(server)
    assert (found.me.rank, found.me.tenure) == (1, holder(1).tenure + 1)
    assert found.me.outranks(holder(1))


@story
async def test_who_comes_back_to_its_place_has_its_rank_at_once() -> None:
    server = FakeServer()
    async with held(server):
        back = replace(SPARE, ip="10.0.0.1", netns="n1")
        assert (await claimed(server, back)).me.rank == 1


@pytest.mark.parametrize(
    "changes",
    [{"netns": ""}, {"netns": "n0"}, {"netns": "n1", "port": 9471}, {"netns": "n1", "ip": "10.0.0.9"}],
)
def test_an_equal_address_is_no_proof_of_place(changes: dict[str, Any]) -> None:
    """Bridges of two machines have the same addresses; and their agents live."""

    @story
    async def tell() -> None:
        server = FakeServer()
        async with held(server):
            place: dict[str, Any] = {"ip": "10.0.0.1", "port": 9470} | changes
            waits = claimed(server, replace(SPARE, **place))
            await asyncio.sleep(TAKEOVER + 0.2)
            await looked(server, 3)
            assert not waits.done()
            assert server.state.board.holders == {0: "i0", 1: "i1", 2: "i2"}
            waits.cancel()

    tell()


@story
async def test_two_who_name_no_namespace_have_not_stood_in_one_place() -> None:
    server = FakeServer()
    async with held(server) as beating:
        beating[1].cancel()
        nowhere = replace(holder(1), netns="")
        beating[1] = asyncio.create_task(keep_beating(server, nowhere))
        await until(lambda: server.state.board.records[1] == nowhere)
        waits = claimed(server, replace(SPARE, ip=nowhere.ip, netns=""))
        await asyncio.sleep(TAKEOVER + 0.2)
        assert not waits.done()
        waits.cancel()
        beating[1].cancel()


@story
async def test_a_place_of_a_larger_unit_is_no_place_of_this_one() -> None:
    server = FakeServer()
    async with held(server) as beating:
        gone = holder(3, size=4)
        await FakeStore(server, 3, "i3").exchange(exchange(gone))
        beating[0].cancel()
        back = replace(SPARE, ip=gone.ip, netns=gone.netns)
        assert back.had_address_of(replace(gone, rank=0))
        assert (await claimed(server, back)).me.rank == 0


@pytest.mark.parametrize("born", [0.0, 3600.0])
def test_nobody_claims_on_a_young_store_before_a_lease_of_its_own_clock(born: float) -> None:
    """Also where the server's clock was set back, so that the board is born in the future."""

    @story
    async def tell() -> None:
        server = FakeServer()
        loop = asyncio.get_running_loop()
        server.state.board.born = server.clock() + born
        begun = loop.time()
        waits = claimed(server)
        while loop.time() - begun < LEASE * 0.8:
            assert not waits.done()
            await looked(server, 1)
        found = await waits
        assert LEASE <= loop.time() - begun < 4 * LEASE
        assert (found.me.rank, found.took) == (0, None)

    tell()


@story
async def test_a_store_that_is_older_than_a_lease_gives_a_rank_that_was_left_at_once() -> None:
    server = FakeServer()
    waits = claimed(server)
    await until(lambda: server.state.board.born is not None)
    await FakeStore(server, 1, "i1").exchange(exchange(replace(holder(1), has_left=True), generation=4))
    assert not waits.done()
    server.state.board.born = server.clock() - LEASE
    found = await waits
    assert (found.me.rank, found.me.tenure) == (1, holder(1).tenure + 1)


@story
async def test_a_dead_holder_whose_record_is_garbage_is_replaced() -> None:
    """The fake has no garbage: the beat and the name of the holder are there, and no record."""
    server = FakeServer()
    async with held(server) as beating:
        beating[0].cancel()
        await asyncio.sleep(0.05)
        del server.state.board.records[0]
        async with asyncio.timeout(10 * TAKEOVER):
            assert (await claimed(server)).me.rank == 0


@story
async def test_garbage_at_one_rank_does_not_keep_another_from_being_claimed() -> None:
    server = FakeServer()
    async with held(server) as beating:
        for rank in (0, 2):
            beating[rank].cancel()
        await asyncio.sleep(0.05)
        del server.state.board.records[0]
        await FakeStore(server, 2, "i2").exchange(exchange(replace(holder(2), has_left=True)))
        async with asyncio.timeout(10 * TAKEOVER):
            assert (await claimed(server)).me.rank in {0, 2}


@story
async def test_a_new_store_whose_clock_steps_ahead_gives_nobody_a_held_rank() -> None:
    """The holders are alive, and have yet to write to the store that lost its memory."""
    ahead = 0.0
    loop = asyncio.get_running_loop()
    server = FakeServer(clock=lambda: loop.time() + ahead)
    await FakeStore(server, 2, "i2").exchange(exchange(holder(2)))  # the first to write again
    ahead = 3600.0  # as when a machine that has booted hears what time it is
    waits = claimed(server)
    await asyncio.sleep(LEASE / 2)
    done = waits.done()
    waits.cancel()
    assert not done


@story
async def test_a_holder_that_the_store_hides_behind_another_has_time_to_write_again() -> None:
    """As after a failover to a replica that is behind."""
    server = FakeServer()
    async with held(server) as beating:
        waits = claimed(server)
        await looked(server, 3)
        beating[0].cancel()
        board, former = server.state.board, replace(holder(0), incarnation="x", has_left=True)
        board.records[0], board.holders[0] = former, "x"
        board.beats[0] = (Beat("x", 1), server.clock())
        await asyncio.sleep(TAKEOVER / 2)
        assert not waits.done()
        assert (await waits).took == former


class Looks:
    """What one claimant sees, at a made-up clock."""

    def __init__(self, timing: Timing) -> None:
        self.timing, self.leases, self.records = (
            timing,
            Leases(),
            {rank: holder(rank) for rank in range(SIZE)},
        )
        self.takeover = timing.takeover
        self.generation, self.lost_only = 4, False

    def at(self, now: float, *, age: float = 99.0, beats: dict[int, int] | None = None) -> int | None:
        """The rank that is free; ``beats`` are the holders' counts, 1 where nothing else is said."""
        counts = dict.fromkeys(self.records, 1) | (beats or {})
        shown = {rank: Beat(self.records[rank].incarnation, counts[rank]) for rank in self.records}
        gap, known = self.timing.contact_gap, tuple(self.leases.by_incarnation)
        self.leases = self.leases.after_reply(shown, now, gap, keep=known)
        reply = Reply(holder="", generation=self.generation, records=self.records, beats=shown, unit_age=age)
        self.takeover = find_longest_takeover(reply, self.takeover)
        return find_free_rank(
            reply, self.leases, SPARE, self.timing, takeover=self.takeover, lost_only=self.lost_only
        )


@pytest.fixture
def looks() -> Looks:
    return Looks(Timing.from_lease(5, 1))


def test_a_holder_has_a_takeover_of_silence_before_its_rank_is_free(looks: Looks) -> None:
    found = [looks.at(now, beats={0: now, 1: now}) for now in range(9)]
    assert found == [None] * 8 + [2]


def test_of_several_that_are_free_the_lowest_is_taken(looks: Looks) -> None:
    assert [looks.at(now, beats={0: now}) for now in range(9)][-1] == 1


def test_who_has_left_is_gone_at_once(looks: Looks) -> None:
    looks.records[1] = replace(looks.records[1], has_left=True)
    assert looks.at(0) == 1


def test_a_place_of_my_own_comes_before_a_lower_rank(looks: Looks) -> None:
    looks.records[0] = replace(looks.records[0], has_left=True)
    looks.records[2] = replace(looks.records[2], ip=SPARE.ip, port=SPARE.port, netns=SPARE.netns)
    assert looks.at(0) == 2


@pytest.mark.parametrize(("generation", "last"), [(1, None), (2, 0)])
def test_a_numbered_spare_leaves_a_rank_that_never_joined_to_its_own_instance_until_the_unit_has_run(
    looks: Looks, generation: int, last: int | None
) -> None:
    looks.generation, looks.lost_only = generation, True
    del looks.records[0]
    found = [looks.at(now, beats={1: now, 2: now}) for now in range(9)]
    assert found == [None] * 7 + [last] * 2


def test_what_i_did_not_see_is_no_silence(looks: Looks) -> None:
    for now in (*range(7), 60, *range(61, 67)):
        assert looks.at(now) is None
    assert looks.at(67) is None
    assert looks.at(67.5) == 0


def test_a_holder_that_the_store_has_forgotten_has_time_to_write_again(looks: Looks) -> None:
    looks.at(0)
    forgotten = looks.records.pop(0)
    counts = {1: 1, 2: 1}
    for now in range(1, 9):  # the store has it not since 1; a takeover later its rank is free
        counts = dict.fromkeys(counts, now)
        assert looks.at(now, beats=counts) is None
    assert looks.at(8.5, beats={1: 9, 2: 9}) == 0
    looks.records[0] = forgotten
    assert looks.at(9, beats={0: 2, 1: 10, 2: 10}) is None


def test_a_holder_that_the_store_has_forgotten_keeps_its_rank_as_long_as_it_answers() -> None:
    """The store was wiped, and cannot be reached from there (seed 800005151)."""
    search = RankSearch(SPARE, guard=True, timing=Timing.from_lease(5, 1), spare=Spare.ANY, asks=True)
    records, alive, free = {rank: holder(rank) for rank in range(SIZE)}, True, list[float]()
    for now in range(40):
        if now == 10:
            del records[0]
        alive = now < 24
        beats = {rank: Beat(one.incarnation, now) for rank, one in records.items()}
        search.note_reply(Reply(holder="", generation=4, records=records, beats=beats, unit_age=99.0), now)
        for late in search.list_late_holders(now):
            assert late.rank == 0
            search.note_answer(late, now, now, alive=alive)
        if search.find_rank(None, now) == 0:
            free.append(now)
    assert free[0] == 24 + 8  # a takeover after the first question that it did not answer


@pytest.mark.parametrize("spare", [Spare.ANY, Spare.BEYOND, Spare.NONE])
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ""),
        ({"revision": "v1"}, "ranks 0, 2 have UNIT_REVISION=v1, this spare has none"),
        ({"size": 5}, "ranks 0, 2 have UNIT_SIZE=5, this spare has 3"),
        (None, "no valid record of ranks 0, 2 (another UNIT_SECRET?)"),
    ],
)
def test_a_spare_with_which_the_others_cannot_start_leaves_a_lost_rank_to_another(
    spare: Spare, changes: dict[str, Any] | None, told: str
) -> None:
    search = RankSearch(SPARE, guard=True, timing=Timing.from_lease(5, 1), spare=spare, asks=False)
    holders = {rank: holder(rank) for rank in range(SIZE)}
    records = {} if changes is None else {rank: replace(one, **changes) for rank, one in holders.items()}
    found = set[int | None]()
    for now in range(30):
        beats = {rank: Beat(one.incarnation, 1 if rank == 1 else now) for rank, one in holders.items()}
        search.note_reply(Reply(holder="", generation=4, records=records, beats=beats, unit_age=99.0), now)
        found.add(search.find_rank(None, now))
    fits = not told or spare is Spare.NONE
    assert found == ({None, 1} if fits else {None})
    assert fits or search.explain().startswith(told)
    for now in range(30, 60):  # all of them are gone
        search.note_reply(Reply(holder="", generation=4, records=records, beats=beats, unit_age=99.0), now)
    assert search.find_rank(None, now) == 0


def test_a_forgotten_holder_with_a_longer_lease_than_mine_has_its_own_time_to_write_again(
    looks: Looks,
) -> None:
    looks.records[0] = replace(looks.records[0], lease=10.0)
    looks.at(0)
    del looks.records[0]
    free = [looks.at(now / 2, beats={1: now, 2: now}) for now in range(2, 28)]
    assert free.index(0) / 2 + 1 == pytest.approx(1 + 12 + 0.5)  # a takeover after the store was without it


@pytest.mark.parametrize("age", [0.0, 4.9])
def test_on_a_young_store_even_a_rank_that_nobody_holds_is_not_free(looks: Looks, age: float) -> None:
    looks.records.clear()
    assert [looks.at(now, age=age) for now in range(7)] == [None] * 5 + [0, 0]
    assert Looks(looks.timing).at(0) is None


def test_only_my_own_contact_settles_what_the_store_remembers() -> None:
    timing = Timing.from_lease(5, 1)
    contact = Leases().after_reply({}, 0, timing.contact_gap)
    assert not is_settled(Leases(), timing.lease)
    assert not is_settled(contact, timing.lease)
    for now in range(1, 6):
        contact = contact.after_reply({}, now, timing.contact_gap)
    assert is_settled(contact, timing.lease)
    assert not is_settled(contact.after_lost_contact(), timing.lease)


def test_a_unit_of_one_has_no_other_rank_to_wait_for() -> None:
    assert explain_all_held(3) == "all 3 ranks of the Unit are held"
    assert "another UNIT_ID" in explain_all_held(1)
