"""The comparison's own arithmetic, formats and words; what it measures is not asserted anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.command import BenchError
from bench.rivals import h2load, page, plan, wire
from bench.rivals.h2load import Aim, Load, NobodyAnsweredError
from bench.rivals.measure import Failure, Measurement
from bench.rivals.paced import Paced, rates
from bench.rivals.pairs import Pairing
from bench.rivals.peers import foreign, polyglot
from bench.rivals.peers.base import ONE, TWO, Peer, Variant
from bench.rivals.results import Results
from bench.rivals.run import arguments, chosen_peers, planned
from bench.rivals.statistics import Key, best, cells
from bench.rivals.targets import FIVE, HELD, MISSED, NO_TARGET, NOT_JUDGED, Pair, verdicts
from bench.rivals.wire import GRPC, REST, STREAM
from bench.rivals.workloads import LARGE, ROOT, WrongAnswerError, identity

PRINTED = """\
finished in 2.00s, 1.50 req/s, 1.1KB/s
requests: 4 total, 8 started, 4 done, 3 succeeded, 1 failed, 0 errored, 0 timeout
status codes: 3 2xx, 0 3xx, 0 4xx, 1 5xx
traffic: 2.01KB (2060) total, 300B (300) headers (space savings 0.00%), 300B (300) data
"""
WITHOUT_PYTRITON = "REST calls/s against Triton with a Python model, without PyTriton"
LOG = "1000000\t200\t4000\n1000000\t200\t1000\n1500000\t503\t9000\n2000000\t200\t2000\n"


def measured(
    peer: str, rate: float, *, p50: float = 4.0, cpu: float = 100.0, number: int = 1, **others: Any
) -> Measurement:
    """Return a measurement of the identity over REST by 32 clients."""
    load = Load(requests=100, errors=0, per_second=rate, p50=p50, p90=p50 * 2, p99=p50 * 3, longest=p50 * 4)
    cell = {"variant": "1 worker", "workers": 1, "workload": "identity", "protocol": REST, "clients": 32}
    fields: dict[str, Any] = {**cell, "messages": 1, "resident": 2**20, "proportional": 2**20, **others}
    return Measurement(peer=peer, round=number, load=load, cpu={"server": cpu}, **fields)


def everybody() -> list[Measurement]:
    """Return a run in which every target holds, each by a little."""
    five = {peer: 1000.0 + at for at, peer in enumerate(FIVE)}
    rates = {**five, "pytriton": 2000, "triton": 9000, "fastapi": 4000, "unbatched": 2000, "polyglot": 6100}
    found = [measured(peer, rate, p50=10) for peer, rate in rates.items() if peer != "polyglot"]
    found.append(measured("polyglot", 6100, p50=4.9))
    found += [measured(peer, 100, p50=1, clients=1) for peer in FIVE]
    found.append(measured("polyglot", 100, p50=1.14, clients=1))
    for protocol, clients, workload in ((GRPC, 32, "identity"), (STREAM, 8, "identity"), (GRPC, 32, LARGE)):
        at: dict[str, Any] = {"protocol": protocol, "clients": clients, "workload": workload}
        found += [measured(peer, 500, cpu=100, **at) for peer in ("server", "grpc-aio", "kserve")]
    return found


def judged(measurements: list[Measurement]) -> dict[str, str]:
    """Return the verdicts' words by the targets' texts."""
    return {verdict.target: verdict.word for verdict in verdicts(cells(measurements), [])}


def results(measurements: list[Measurement], failures: list[Failure]) -> Results:
    """Return a run."""
    words = {"version": "1", "note": "n", "protocols": [REST]}
    peers = [{"name": name, "title": name.upper(), **words} for name in ("mlserver", "kserve")]
    machine = {"cpus": 2, "cpu": "some", "memoryGiB": 4, "kernel": "6", "python": "3.11"}
    return Results(
        "2026-01-02T03:04:05", "abc", True, 1, 1.5, machine, [0.1, 2], peers, {"identity": "identity"},
        measurements, [], [Paced("mlserver", "1 worker", 100, 60, 1, 2, 0)], failures,
    )  # fmt: skip


def test_h2load_counts_only_answered_calls_and_ranks_their_latencies() -> None:
    load = h2load.parse(PRINTED, LOG, answer_bytes=0)
    assert (load.requests, load.errors) == (3, 1)
    # From the first call's begin at 1 s to the last answer at 2.002 s.
    assert load.per_second == pytest.approx(3 / 1.002)
    assert (load.p50, load.p99, load.longest) == (2.0, 4.0, 4.0)


def test_h2load_counts_grpc_answers_without_a_body_as_errors() -> None:
    load = h2load.parse(PRINTED, LOG, answer_bytes=150)  # 300 bytes of data are two answers, not three
    assert (load.requests, load.errors) == (2, 2)


@pytest.mark.parametrize(
    ("printed", "log", "error", "complaint"),
    [
        ("nothing", LOG, BenchError, "no summary"),
        (PRINTED, "", NobodyAnsweredError, "no call was answered"),
        (PRINTED, "1\t-1\t5\n", NobodyAnsweredError, "1 were"),
    ],
)
def test_h2load_without_an_answer_is_no_measurement(
    printed: str, log: str, error: type[BenchError], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        h2load.parse(printed, log, answer_bytes=0)


def test_load_leaves_no_other_address_than_loopback(tmp_path: Path) -> None:
    aim = Aim(wire.OIP_JSON.request(identity(16)), "10.0.0.1:80", 1)
    with pytest.raises(BenchError, match="not on this machine's loopback"):
        h2load.send(aim, 1, 0.1, tmp_path)


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 2), (51, 3), (75, 3), (99, 4), (100, 4)])
def test_percentile_is_the_nearest_rank(percent: int, value: int) -> None:
    assert h2load.percentile([1, 2, 3, 4], percent) == value


@pytest.mark.parametrize("one", [wire.OIP_BINARY, wire.OIP_GRPC, wire.OIP_STREAM, wire.OIP_JSON])
def test_a_request_carries_the_tensor(one: wire.Wire) -> None:
    workload = identity(16)
    request = one.request(workload)
    assert request.protocol == one.protocol
    assert (b"0.1" in request.body) == (one is wire.OIP_JSON)
    assert (workload.inputs["x"].tobytes() in request.body) == (one is not wire.OIP_JSON)


def test_json_numbers_are_the_shortest_that_give_the_same_fp32() -> None:
    tensor = json.loads(wire.OIP_JSON.request(identity(16)).body)["inputs"][0]
    assert tensor["data"][:3] == [0.1, 0.2, 0.3]
    assert np.array_equal(np.array([tensor["data"]], np.float32), identity(16).inputs["x"])


def test_an_answer_is_read_back() -> None:
    workload = identity(16)
    row = workload.answer["y"]
    output = {"name": "y", "datatype": "FP32", "shape": [1, 16], "data": row.ravel().tolist()}
    workload.answered(wire.OIP_JSON.request(workload).read(json.dumps({"outputs": [output]}).encode(), {}))
    own = wire.own_json("input", "output").request(workload)
    workload.answered(own.read(json.dumps({"output": row.tolist()}).encode(), {}))


def test_frames_are_the_messages_of_a_grpc_body() -> None:
    assert wire.frames(wire.frame(b"one") + wire.frame(b"")) == [b"one", b""]
    with pytest.raises(ValueError, match="compressed"):
        wire.frames(b"\x01\x00\x00\x00\x01x")


@pytest.mark.parametrize("outputs", [{}, {"y": np.zeros((1, 16), np.float32)}, {"y": np.zeros((1, 2), np.float32)}])
def test_a_wrong_answer_is_refused(outputs: Mapping[str, Any]) -> None:
    with pytest.raises(WrongAnswerError):
        identity(16).answered(outputs)


def test_the_table_has_what_the_load_generator_took() -> None:
    (one,) = [replace(each, load=replace(each.load, own_cpu=31.4)) for each in [measured("mlserver", 1)]]
    assert "| 100 | 31 | 1 | 0 |" in page.table(results([one], []))
    assert "| 100 | - | 1 | 0 |" in page.table(results([measured("mlserver", 1)], []))


def test_a_cell_is_the_median_of_its_rounds() -> None:
    (cell,) = cells([measured("kserve", rate, number=at) for at, rate in enumerate((10, 40, 20))])
    assert (cell.per_second, cell.spread, cell.requests) == (20, (10, 40), 300)


def test_the_best_configuration_is_by_throughput_and_for_one_client_by_latency() -> None:
    two: dict[str, Any] = {"variant": "2 workers", "workers": 2}
    found = [measured("kserve", 10, p50=1), measured("kserve", 20, p50=2, **two)]
    assert best(cells(found))[Key("kserve", "identity", REST, 32)].workers == 2
    alone = [replace(each, clients=1) for each in found]
    assert best(cells(alone))[Key("kserve", "identity", REST, 1)].workers == 1


def test_all_targets_hold_in_a_run_that_holds_them() -> None:
    assert list(judged(everybody()).values()).count(HELD) == 9


def test_triton_without_pytriton_is_compared_and_not_judged() -> None:
    assert [target for target, word in judged(everybody()).items() if word != HELD] == [WITHOUT_PYTRITON]
    (line,) = [verdict for verdict in verdicts(cells(everybody()), []) if verdict.target == WITHOUT_PYTRITON]
    assert (line.bound, line.word) == ("-", NO_TARGET)
    assert line.found == "0.68: polyglot (1 worker) against triton (1 worker)"


def test_a_server_counts_at_the_better_of_its_configurations_with_one_worker() -> None:
    slower = [replace(each, cpu={"server": 200}) if each.peer == "server" else each for each in everybody()]
    slower = [
        replace(each, load=replace(each.load, per_second=300)) if each.peer == "server" else each for each in slower
    ]
    assert {word for word in judged(slower).values() if word != NO_TARGET} == {HELD, MISSED}
    at: dict[str, Any] = {"variant": "1 worker, batching"}
    batched = [
        measured("server", 500, cpu=100, protocol=protocol, clients=clients, **at)
        for protocol, clients in ((GRPC, 32), (STREAM, 8))
    ]
    large = measured("server", 500, protocol=GRPC, workload=LARGE, **at)
    assert MISSED not in judged([*slower, *batched, large]).values()


@pytest.mark.parametrize(
    ("peer", "change", "missed"),
    [
        ("ray", {"per_second": 1100}, "best of the five"),
        ("pytriton", {"per_second": 2100}, "(PyTriton)"),
        ("fastapi", {"per_second": 4500}, "FastAPI"),
        ("unbatched", {"per_second": 2100}, "unbatched"),
        ("bentoml", {"p99": 20}, "REST p99"),
        ("litserve", {"p50": 0.9}, "REST p50"),
        ("grpc-aio", {"per_second": 700}, "Messages/s"),
        ("kserve", {"per_second": 501}, "64 KiB"),
    ],
)
def test_a_target_is_missed_by_the_one_rival_that_is_better(peer: str, change: dict[str, Any], missed: str) -> None:
    better = [replace(each, load=replace(each.load, **change)) if each.peer == peer else each for each in everybody()]
    (target,) = [target for target in judged(better) if missed in target]
    assert judged(better)[target] == MISSED


def test_cpu_per_call_decides_what_a_core_does() -> None:
    slower = [replace(each, cpu={"server": 112}) if each.peer == "server" else each for each in everybody()]
    assert [target for target, word in judged(slower).items() if word == MISSED] == [
        "gRPC straight to the server, calls per CPU second, against grpc.aio by hand"
    ]


UNBATCHED = "REST calls/s against ourselves unbatched"


def turns(*rates: tuple[float, float]) -> list[Pair]:
    """Return turns of ours and ourselves unbatched."""
    return [Pair(UNBATCHED, measured("polyglot", ours), measured("unbatched", rival)) for ours, rival in rates]


def test_a_target_is_judged_by_the_median_of_its_turns_whatever_the_table_says() -> None:
    found = turns((3000, 1000), (4000, 2000), (16000, 4000))
    (verdict,) = [each for each in verdicts(cells(everybody()), found) if each.target == UNBATCHED]
    assert verdict.found == "3.00 (2.00 to 4.00 in 3 turns): polyglot (1 worker) against unbatched (1 worker)"
    assert verdict.word == HELD
    (alone,) = [each for each in verdicts([], turns((2900, 1000))) if each.target == UNBATCHED]
    assert alone.word == MISSED


class Scripted:
    """A started server that notes who is measured, and answers nobody when it is told so."""

    def __init__(self, peer: Peer, order: list[str], failing: str) -> None:
        self.peer, self._order, self._failing = peer, order, failing

    def aim(self, protocol: str) -> str:
        return protocol

    def warm_up(self, *_: object) -> None:
        pass

    def measure(self, aim: str, clients: int, _seconds: float, number: int) -> Measurement:
        if self.peer.name == self._failing:
            raise NobodyAnsweredError("no call was answered")
        self._order.append(self.peer.name)
        return measured(self.peer.name, 100, number=number, protocol=aim, clients=clients)


@pytest.mark.parametrize("failing", ["", "unbatched"])
def test_the_servers_of_a_target_are_both_up_and_called_in_turn(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    order: list[str] = []
    up: list[str] = []

    @contextmanager
    def started(peer: Peer, *_: object) -> Iterator[Scripted]:
        up.append(peer.name)
        try:
            yield Scripted(peer, order, failing)
        finally:
            up.remove(peer.name)

    monkeypatch.setattr("bench.rivals.pairs.started", started)
    ours = {peer.name: peer for peer in polyglot.rows(Path("gateway"), "1")}
    pairing = Pairing(ours, {"identity": identity(16)}, plan.TIMING, 3)
    found = []
    for each in pairing.measure(cells([measured("polyglot", 2), measured("unbatched", 1)])):
        found.append(each)
        assert sorted(up) == (["polyglot", "unbatched"] if isinstance(each, Pair) else [])
    if failing:
        (failure,) = found
        assert isinstance(failure, Failure)
        assert (failure.peer, failure.protocol) == ("polyglot and unbatched", f"{REST}, in turn")
        assert failure.why == "no call was answered"
    else:
        assert order == ["polyglot", "unbatched", "unbatched", "polyglot", "polyglot", "unbatched"]
        assert [(each.target, each.ours.round) for each in found if isinstance(each, Pair)] == [
            (UNBATCHED, number) for number in (1, 2, 3)
        ]


def test_the_page_says_how_unsteady_the_machine_was() -> None:
    rounds = [measured("kserve", 1, cpu=cpu, number=at) for at, cpu in enumerate((100, 180))]
    run = replace(results([*rounds, measured("mlserver", 1)], []), rounds=2)
    text = "\n".join(page.lines(run, ROOT / "bench/results/some.json", []))
    assert "cost the same server 1.80 times the CPU (median), at most 1.80 times" in text


@pytest.mark.parametrize("peer", [*FIVE, "polyglot", "pytriton", "fastapi", "unbatched"])
def test_nothing_is_judged_against_a_server_that_was_not_measured(peer: str) -> None:
    without = judged([each for each in everybody() if each.peer != peer])
    assert NOT_JUDGED in without.values()
    assert MISSED not in without.values()


def test_the_table_says_what_failed_and_why() -> None:
    failure = Failure("kserve", "2 workers", "identity", "", "server ended")
    slow = [replace(failure, protocol=REST, why=f"{clients} clients: nobody") for clients in (32, 128)]
    text = page.table(results([measured("mlserver", 1234)], [failure, failure, *slow]))
    assert text.count(f"| kserve | 2 workers | identity | {REST} |") == 2
    assert "| MLSERVER | 1 worker | 32 | 1234 |" in text
    assert text.count("| kserve | 2 workers | identity | did not start | server ended |") == 1
    assert "| KSERVE | **failed**, see below |" in text
    assert text.count("not judged") == 10


def test_the_rates_are_half_of_the_weakest_and_half_of_ours() -> None:
    found = [measured("kserve", 1000), measured("ray", 300), measured("polyglot", 9000)]
    assert rates(list(best(cells(found)).values())) == [150, 4500]
    assert rates(list(best(cells(found[:2])).values())) == [150]


def test_a_server_that_falls_behind_a_constant_rate_is_told() -> None:
    text = page.table(results([measured("mlserver", 1)], []))
    assert "| MLSERVER | 1 worker | 100 | 60, falls behind | 1.00 | 2.00 | 0 |" in text


def test_results_are_read_back_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.rivals.results.FOLDER", tmp_path)
    written = results([measured("mlserver", 1)], [Failure("kserve", "1 worker", "identity", REST, "no")])
    written = replace(written, pairs=turns((3, 1)))
    path = written.write()
    assert path.name == "2026-01-02-abc-rivals-quick.json"
    assert Results.read(path) == written


def test_a_quick_run_takes_each_number_of_workers_once_with_batching_where_there_is_some() -> None:
    for peer in foreign.PEERS:
        workers = [variant.workers for variant in plan.quick_variants(peer)]
        assert sorted(workers) == [1, 2], peer.name
    (server,) = chosen_peers(polyglot.rows(Path("gateway"), "1"), ["server"])
    assert [variant.batching for variant in plan.quick_variants(server)] == [False, True]
    litserve = chosen_peers(foreign.PEERS, ["litserve"])
    assert plan.quick_variants(litserve[0]) == [Variant(1, batching=True), Variant(2, batching=True)]


def test_a_quick_run_of_all_servers_is_estimated_to_end_within_ten_minutes() -> None:
    ours = polyglot.rows(Path("gateway"), "1")
    assert 300 < plan.quick().seconds(chosen_peers([*ours, *foreign.PEERS], plan.judged())) < 600


def test_a_quick_run_measures_all_that_the_targets_need() -> None:
    peers = chosen_peers([*polyglot.rows(Path("gateway"), "1"), *foreign.PEERS], plan.judged())
    chosen = plan.quick()
    found = []
    for start in chosen.starts(peers):
        for protocol in set(start.wanted) & set(start.peer.protocols):
            for clients in start.wanted[protocol]:
                cell: dict[str, Any] = {"workload": start.workload, "protocol": protocol, "clients": clients}
                found.append(
                    measured(start.peer.name, 100, variant=start.variant.title, workers=start.variant.workers, **cell)
                )
    assert NOT_JUDGED not in judged(found).values()


def test_starts_interleave_the_servers() -> None:
    two = chosen_peers(foreign.PEERS, ["kserve", "fastapi"])
    starts = [
        (start.round, start.peer.name, start.variant)
        for start in plan.full().starts(two)
        if start.workload == "identity"
    ]
    once = [("kserve", ONE), ("kserve", TWO), ("fastapi", ONE), ("fastapi", TWO)]
    assert starts == [(number, *each) for number in (1, 2) for each in once]


def test_rounds_after_the_first_repeat_what_targets_are_judged_by() -> None:
    kserve = chosen_peers(foreign.PEERS, ["kserve"])
    rounds = {number: [start for start in plan.full().starts(kserve) if start.round == number] for number in (1, 2)}
    assert {start.workload for start in rounds[1]} == {"identity", "digits", "orientation", LARGE}
    assert {start.workload for start in rounds[2]} == {"identity", LARGE}
    assert {clients for start in rounds[1] for clients in start.wanted.get(REST, ())} == {1, 8, 32, 128}
    assert {clients for start in rounds[2] for clients in start.wanted.get(REST, ())} == {1, 32}


def test_a_run_of_some_workloads_leaves_out_the_others() -> None:
    chosen = planned(arguments(["--workloads", "digits"]))
    assert [(start.round, start.workload) for start in chosen.starts(chosen_peers(foreign.PEERS, ["fastapi"]))] == [
        (1, "digits")
    ] * 2


def test_a_server_that_speaks_none_of_a_workloads_protocols_is_not_started_for_it() -> None:
    fastapi = chosen_peers(foreign.PEERS, ["fastapi"])
    assert LARGE not in {start.workload for start in plan.full().starts(fastapi)}


def test_unknown_servers_and_workloads_are_refused() -> None:
    with pytest.raises(BenchError, match=r"no server is called nobody; choose from mlserver"):
        chosen_peers(foreign.PEERS, ["nobody"])
    with pytest.raises(BenchError, match="a quick run has no digits"):
        planned(arguments(["--quick", "--workloads", "digits"]))


def test_every_server_has_its_lock_file() -> None:
    locks = Path(__file__).resolve().parents[2] / "platform/environments"
    assert {peer.name for peer in foreign.PEERS} <= {lock.stem for lock in locks.glob("*.lock")}


def test_help_lists_the_options() -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "bench.rivals.run", "--help"]
    shown = subprocess.run(command, cwd=root, env=dict(os.environ), capture_output=True, text=True, check=True)
    assert all(option in shown.stdout for option in ("--quick", "--peers", "--rounds", "--workloads"))
