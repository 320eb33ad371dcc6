"""What one run measures, and how long that takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.rivals.measure import Timing
from bench.rivals.peers.base import Peer, Variant
from bench.rivals.targets import CLIENTS, STREAM_CLIENTS, TARGETS
from bench.rivals.wire import BINARY, GRPC, REST, STREAM
from bench.rivals.workloads import LARGE, WORKLOADS

ALL_CLIENTS = (1, 8, 32, 128)
TIMING = Timing(0.4, 1.5)
#: What a start takes on average, and each measurement beside its own time.
START_SECONDS, REST_SECONDS = 5.0, 0.6


#: The numbers of clients of each protocol, by workload.
Wanted = Mapping[str, Mapping[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Start:
    """One start of a server, and the numbers of clients that call it, by protocol."""

    round: int
    workload: str
    peer: Peer
    variant: Variant
    wanted: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Plan:
    """A run: its workloads with the clients of each protocol, and its rounds, in which every server has its turn."""

    quick: bool
    rounds: int
    timing: Timing
    workloads: Wanted
    #: What every round after the first measures: what targets are judged by, which one slow minute must not decide.
    again: Wanted
    #: How often the two servers of each target are called in turn.
    turns: int
    #: How long each server is called at a constant rate; 0: not at all.
    paced_seconds: float = 0

    def starts(self, peers: Sequence[Peer]) -> Iterator[Start]:
        """Give what is started, one after the other: A B A B, so that a slow minute meets them all."""
        for number in range(1, self.rounds + 1):
            for workload, wanted in (self.workloads if number == 1 else self.again).items():
                for peer in peers:
                    for variant in peer.variants:
                        speaks = set(peer.protocols) & set(wanted)
                        if speaks and (not self.quick or variant in quick_variants(peer)):
                            yield Start(number, workload, peer, variant, wanted)

    def only(self, names: Sequence[str]) -> Plan:
        """Return the same with these workloads alone."""
        kept, again = ({name: each[name] for name in names if name in each} for each in (self.workloads, self.again))
        return replace(self, workloads=kept, again=again)

    def seconds(self, peers: Sequence[Peer]) -> float:
        """Return about how long the run takes."""
        each = self.timing.warm_up + self.timing.seconds + REST_SECONDS
        total = 0.0
        for start in self.starts(peers):
            cells = sum(len(start.wanted.get(protocol, ())) for protocol in start.peer.protocols)
            total += START_SECONDS + each * cells
        there = {peer.name for peer in peers}
        sides = 2 * sum(target.servers <= there for target in TARGETS)
        in_turn = self.turns * (self.timing.seconds + REST_SECONDS)
        total += sides * (START_SECONDS + self.timing.warm_up + in_turn)
        paced = sum(START_SECONDS + 2 * self.paced_seconds for peer in peers if REST in peer.protocols)
        return total + (paced if self.paced_seconds else 0)


def quick_variants(peer: Peer) -> list[Variant]:
    """Return two variants at the most: one for each number of workers, with batching where there are both."""
    if len(peer.variants) <= 2:
        return list(peer.variants)
    chosen = {variant.workers: variant for variant in peer.variants}
    return list(chosen.values())


def judged() -> list[str]:
    """Return the names of the servers that the targets need."""
    return sorted(set().union(*(target.servers for target in TARGETS)))


def targeted() -> Wanted:
    """Return what the targets ask for."""
    wanted: dict[str, dict[str, tuple[int, ...]]] = {}
    for target in TARGETS:
        protocols = wanted.setdefault(target.workload, {})
        protocols[target.protocol] = tuple(sorted({*protocols.get(target.protocol, ()), target.clients}))
    return wanted


def quick() -> Plan:
    """Return a run of some minutes that judges every target: one round of what they ask for, and two turns."""
    return Plan(True, 1, TIMING, targeted(), targeted(), turns=2)


def full() -> Plan:
    """Return the run whose table is published: everything once, what the targets ask for once more, and eight turns."""
    clients = dict.fromkeys((REST, BINARY, GRPC), ALL_CLIENTS)
    workloads: dict[str, Mapping[str, tuple[int, ...]]] = dict.fromkeys(WORKLOADS, clients)
    workloads["identity"] = clients | {STREAM: (STREAM_CLIENTS,)}
    workloads[LARGE] = {GRPC: (CLIENTS,)}
    return Plan(False, 2, TIMING, workloads, targeted(), turns=8, paced_seconds=5)
