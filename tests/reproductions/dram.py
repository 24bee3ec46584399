"""DRAM's rules, one command at a time, and controllers that try every command in every cycle."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cofit.targets.memory import MemorySystem

READ, ACTIVATE, PRECHARGE, REFRESH, PRECHARGE_ALL = range(5)
LONG_AGO = -(10**12)


@dataclass
class Bank:
    row: int = -1
    activated: int = LONG_AGO
    read: int = LONG_AGO
    precharged: int = LONG_AGO


@dataclass
class Rank:
    banks: list[Bank]
    activates: list[tuple[int, int]] = field(default_factory=list)  # cycle, group
    reads: list[tuple[int, int]] = field(default_factory=list)
    refreshed: int = LONG_AGO


class Rules:
    """History of one command bus; says what a command would break."""

    def __init__(self, memory: MemorySystem, ranks: int) -> None:
        self.t, self.g = memory.timing, memory.geometry
        self.ranks = [Rank([Bank() for _ in range(self.g.banks)]) for _ in range(ranks)]
        self.last = LONG_AGO
        self.bus: tuple[int, int] = (LONG_AGO, -1)  # end of the last burst, its rank

    def broken(self, cycle: int, command: int, rank: int, bank: int, row: int) -> str | None:
        t, r = self.t, self.ranks[rank]
        if cycle <= self.last:
            return "one command per cycle"
        if command == PRECHARGE_ALL:
            early = any(
                b.row >= 0 and (cycle < b.activated + t.ras or cycle < b.read + t.rtp)
                for b in r.banks
            )
            return "tRAS or tRTP of all banks" if early else None
        if command == REFRESH:
            for b in r.banks:
                if b.row >= 0:
                    return "refresh of an open bank"
                if cycle < b.precharged + t.rp or cycle < b.activated + t.ras + t.rp:
                    return "tRP before refresh"
            return "tRFC" if cycle < r.refreshed + t.rfc else None
        b, group = r.banks[bank], bank // self.g.banks_per_group
        if command == PRECHARGE:
            if b.row < 0:
                return "precharge of a closed bank"
            if cycle < b.activated + t.ras:
                return "tRAS"
            return "tRTP" if cycle < b.read + t.rtp else None
        if command == ACTIVATE:
            if b.row >= 0:
                return "activate of an open bank"
            checks = {
                "tRC": b.activated + t.ras + t.rp,
                "tRP": b.precharged + t.rp,
                "tRFC": r.refreshed + t.rfc,
                "tRRD_S": r.activates[-1][0] + t.rrd_s if r.activates else LONG_AGO,
                "tFAW": r.activates[-4][0] + t.faw if len(r.activates) > 3 else LONG_AGO,
                "tRRD_L": _last(r.activates, group) + t.rrd_l,
            }
        else:
            if b.row != row:
                return "read of another row"
            ready = self.bus[0] + (t.rtrs if self.bus[1] not in (-1, rank) else 0)
            checks = {
                "tRCD": b.activated + t.rcd,
                "tCCD_S": r.reads[-1][0] + t.ccd_s if r.reads else LONG_AGO,
                "tCCD_L": _last(r.reads, group) + t.ccd_l,
                "data bus": ready - t.cl,
            }
        return next((name for name, least in checks.items() if cycle < least), None)

    def apply(self, cycle: int, command: int, rank: int, bank: int, row: int) -> None:
        t, r = self.t, self.ranks[rank]
        self.last = cycle
        group = bank // self.g.banks_per_group
        if command == PRECHARGE_ALL:
            for b in r.banks:
                if b.row >= 0:
                    b.row, b.precharged = -1, cycle
        elif command == REFRESH:
            r.refreshed = cycle
        elif command == PRECHARGE:
            r.banks[bank].row, r.banks[bank].precharged = -1, cycle
        elif command == ACTIVATE:
            r.banks[bank].row, r.banks[bank].activated = row, cycle
            r.activates = [*r.activates[-15:], (cycle, group)]
        else:
            r.banks[bank].read = cycle
            r.reads = [*r.reads[-15:], (cycle, group)]
            self.bus = (cycle + t.cl + t.burst, rank)


def _last(events: list[tuple[int, int]], group: int) -> int:
    return next((cycle for cycle, g in reversed(events) if g == group), LONG_AGO)


def violations(log: np.ndarray, memory: MemorySystem, one_bus: bool) -> list[str]:
    """Every rule that a log breaks; without `one_bus` every rank has its own controller."""
    ranks = memory.geometry.ranks
    buses = [Rules(memory, ranks)] if one_bus else [Rules(memory, 1) for _ in range(ranks)]
    found = []
    for cycle, command, rank, bank, row in log.tolist():
        rules, mine = (buses[0], rank) if one_bus else (buses[rank], 0)
        if broken := rules.broken(cycle, command, mine, bank, row):
            found.append(f"{broken} at {cycle}")
        rules.apply(cycle, command, mine, bank, row)
    return found


@dataclass
class Request:
    number: int
    arrival: int
    rank: int
    bank: int
    row: int
    left: int
    hit: bool


class Controller:
    """In every cycle the first command that breaks nothing, in the order of the policy."""

    def __init__(self, memory: MemorySystem, ranks: int, name: int = 0) -> None:
        self.rules, self.memory, self.name = Rules(memory, ranks), memory, name
        self.due = [memory.timing.refi * (r + 1) // ranks for r in range(ranks)]
        self.coming: list[Request] = []
        self.waiting: list[Request] = []
        self.front = 0
        self.log: list[tuple[int, int, int, int, int]] = []
        self.done: dict[int, int] = {}

    def feed(self, requests: Iterable[Request]) -> None:
        self.coming += requests

    @property
    def idle(self) -> bool:
        return not self.coming and not self.waiting

    def step(self, cycle: int) -> None:
        self._admit(cycle)
        self._command(cycle)

    def commands(self) -> list[tuple[int, int, int, int, int]]:
        """All up to the last read: refreshes of a rank that has no work left are nobody's."""
        last = max(i for i, entry in enumerate(self.log) if entry[1] == READ)
        return self.log[: last + 1]

    def _admit(self, cycle: int) -> None:
        while self.coming:
            request = self.coming[0]
            enter = max(self.front, request.arrival)
            if request.hit:
                self.front = self.done[request.number] = enter + request.left
            elif enter <= cycle and len(self.waiting) < self.memory.timing.queue:
                self.waiting.append(request)
                self.front = cycle + 1
            else:
                return
            self.coming.pop(0)

    def _command(self, cycle: int) -> None:
        t = self.memory.timing
        for rank, due in enumerate(self.due):
            if cycle >= due:
                opened = any(b.row >= 0 for b in self.rules.ranks[rank].banks)
                command = PRECHARGE_ALL if opened else REFRESH
                if self.rules.broken(cycle, command, rank, -1, -1) is None:
                    self._issue(cycle, command, rank, -1, -1)
                    self.due[rank] += t.refi if command == REFRESH else 0
                    return
        free = [r for r in self.waiting if cycle < self.due[r.rank]]
        for command in (READ, ACTIVATE, PRECHARGE):
            for request in free:
                where = (request.rank, request.bank, request.row)
                opened_row = self.rules.ranks[request.rank].banks[request.bank].row
                if command == PRECHARGE and any(
                    (w.rank, w.bank, w.row) == (*where[:2], opened_row) for w in self.waiting
                ):
                    continue
                if self.rules.broken(cycle, command, *where) is None:
                    self._issue(cycle, command, *where)
                    if command == READ:
                        self._answered(request, cycle + t.cl + t.burst)
                    return

    def _answered(self, request: Request, end: int) -> None:
        request.left -= 1
        if request.left == 0:
            self.waiting.remove(request)
            self.done[request.number] = end

    def _issue(self, cycle: int, command: int, rank: int, bank: int, row: int) -> None:
        self.rules.apply(cycle, command, rank, bank, row)
        self.log.append((cycle, command, self.name + rank, bank, row))


def host_log(requests: list[Request], memory: MemorySystem) -> tuple[int, np.ndarray]:
    """Cycles and commands of one controller for all ranks."""
    controller = Controller(memory, memory.geometry.ranks)
    controller.feed(requests)
    cycle = 0
    while not controller.idle:
        controller.step(cycle)
        cycle += 1
    return max(controller.done.values()), np.array(controller.commands())


def near_log(
    packets: list[list[Request]], memory: MemorySystem, bursts: int, bags: list[int]
) -> Any:
    """Cycles and commands of a controller per rank; requests name their rank."""
    near, t, g = memory.near, memory.timing, memory.geometry
    ranks = [Controller(memory, 1, name) for name in range(g.ranks)]
    link = cycle = sent = finished = 0

    def send() -> None:
        nonlocal link, sent
        for place, request in enumerate(packets[sent]):
            unit = ranks[request.rank]
            arrival = link + place // near.instructions_per_cycle
            unit.feed([Request(request.number, arrival, 0, request.bank, request.row,
                               request.left, request.hit)])  # fmt: skip
        link += -(-len(packets[sent]) // near.instructions_per_cycle)
        sent += 1

    for _ in range(min(near.packets_in_flight, len(packets))):
        send()
    while finished < len(packets):
        for unit in ranks:
            unit.step(cycle)
        cycle += 1
        done = {k: v for unit in ranks for k, v in unit.done.items()}
        while finished < len(packets) and all(r.number in done for r in packets[finished]):
            end = max((done[r.number] for r in packets[finished]), default=0)
            link = max(link, end + near.pipeline)
            link += bags[finished] * g.dimms * bursts * t.burst
            finished += 1
            if sent < len(packets):
                send()
    return link, np.array([entry for unit in ranks for entry in unit.commands()])
