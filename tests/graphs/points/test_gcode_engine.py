"""GCoDE: device and edge as two processes; acceptance checks 2 and 8."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import pytest
import torch
from gcode_cases import BY_MODE, clouds, network, served, zoo

from cofit.core import CommunicationError, ConfigError, FileError
from cofit.graphs.points.coinference import (
    CoInference,
    Dispatcher,
    EdgeServer,
    Entry,
    Estimate,
    Slowdown,
    Zoo,
    edge_process,
    load_zoo,
    run_local,
)
from cofit.graphs.points.coinference.messages import Kind, Message, pack, pack_body, text_tensor
from cofit.targets.links import EmulatedLink, Link

MODES = [case.split(",")[0] for case in BY_MODE]


@pytest.fixture
def designs() -> Zoo:
    return zoo()


@pytest.fixture
def server(designs: Zoo) -> Iterator[EdgeServer]:
    with served(EdgeServer(designs, timeout_s=5)) as running:
        yield running


def test_02_two_processes_give_the_bits_of_one_and_survive_the_loss_of_the_edge(
    designs: Zoo, tmp_path: Path
) -> None:
    """Also check 8: the edge process is killed while frames are under way."""
    designs.save(tmp_path)
    inputs = [clouds(2, 24, seed) for seed in range(4)]
    expected = [[run_local(net, points) for points in inputs] for net in designs.networks]
    with edge_process(tmp_path) as edge:
        with CoInference(designs, edge.address, timeout_s=20) as device:
            pending = [
                (design, i, device.submit(points, design))
                for design in range(len(MODES))
                for i, points in enumerate(inputs)
            ]
            for design, i, future in pending:
                found = future.result()
                assert torch.equal(found.logits, expected[design][i])
                assert found.by_edge == (MODES[design] != "D")
                assert (found.bytes_up > 0, found.bytes_down > 0) == (found.by_edge,) * 2
                # the edge did compute, as another process would have to
                assert (found.edge_s > 0) == found.by_edge and found.device_s > 0
            assert device.lost is None
            wanted = MODES.index("DED")
            futures = [device.submit(points, wanted) for points in inputs]
            edge.process.kill()
            futures += [device.submit(points, wanted) for points in inputs]
            for i, future in enumerate(futures):
                assert torch.equal(future.result().logits, expected[wanted][i % 4])
            assert not device.infer(inputs[0], wanted).by_edge
            assert "edge server 127.0.0.1" in str(device.lost) and "\n" not in str(device.lost)
    with pytest.raises(CommunicationError, match="cannot be reached"):
        CoInference(designs, edge.address, timeout_s=1)


def test_02_a_fake_edge_that_only_waits_is_noticed(designs: Zoo) -> None:
    """An edge that answers in time, but with scores of its own, gives other bits."""
    fake = Zoo.of([network(text, 99) for text in BY_MODE.values()])
    with served(EdgeServer(Zoo(fake.networks, designs.digest))) as running:
        with CoInference(designs, running.address) as device:
            design, points = MODES.index("DE"), clouds()
            found = device.infer(points, design)
            assert found.by_edge
            assert not torch.equal(found.logits, run_local(designs.networks[design], points))


class Timed:
    """A network whose segments take a given time without using a core."""

    genes = network(BY_MODE["DED"]).genes
    widths = (3,)

    def __init__(self, first_s: float, edge_s: float, last_s: float) -> None:
        self._net = network(BY_MODE["DED"])
        self.edge_s = edge_s
        self._sleep = {0: first_s, 3: edge_s, 6: last_s}

    def begin(self, points: torch.Tensor) -> object:
        return self._net.begin(points)

    def step(self, position: int, state: object) -> object:
        time.sleep(self._sleep.get(position, 0.0))
        return self._net.step(position, state)  # type: ignore[arg-type]

    def finish(self, state: object) -> torch.Tensor:
        return self._net.finish(state)  # type: ignore[arg-type]


@dataclass
class Flow:
    """Frames one behind the other: seconds between results, and what a frame took where."""

    interval_s: float
    device_s: float
    edge_s: float
    nbytes: int
    link: Link | None

    @property
    def longest_s(self) -> float:
        link_s = 0.0 if self.link is None else self.link.busy_s(self.nbytes)
        return max(self.device_s, self.edge_s, link_s)

    @property
    def overlaps(self) -> bool:
        return 0.85 <= self.longest_s / self.interval_s <= 1.15


def flow(net: Timed, link: Link | None = None, frames: int = 28) -> Flow:
    zoo = Zoo((net,), "x")  # type: ignore[arg-type]
    with served(EdgeServer(zoo)) as running:
        emulated = None if link is None else EmulatedLink(link)
        with CoInference(zoo, running.address, emulated) as device:
            points = clouds()
            ends: list[float] = []
            futures = []
            for _ in range(frames):
                future = device.submit(points)
                future.add_done_callback(lambda _: ends.append(time.perf_counter()))
                futures.append(future)
            found = [future.result() for future in futures]
    assert all(each.by_edge for each in found)
    steady = slice(8, frames - 8)  # the last ones have no others behind them
    interval_s = (ends[steady][-1] - ends[steady][0]) / (frames - 17)
    return Flow(
        interval_s,
        fmean(each.device_s for each in found[steady]),
        fmean(each.edge_s for each in found[steady]),
        found[0].bytes_up + found[0].bytes_down,
        link,
    )


STAGES = {
    "edge": (Timed(0.01, 0.08, 0.01), None),
    "device": (Timed(0.04, 0.02, 0.04), None),
    "link": (Timed(0.002, 0.002, 0.002), Link(0.4)),
}


@pytest.mark.parametrize("longest", STAGES)
def test_08_throughput_is_that_of_the_longest_stage(longest: str) -> None:
    net, link = STAGES[longest]
    for _ in range(5):  # a busy machine may disturb a run
        found = flow(net, link)
        if found.overlaps:
            break
    assert found.overlaps
    if link is None:
        assert max(found.device_s, found.edge_s) < 0.9 * (found.device_s + found.edge_s)
        assert found.longest_s == (found.edge_s if longest == "edge" else found.device_s)
    else:
        assert found.longest_s > max(found.device_s, found.edge_s)


def test_08_frames_under_way_are_bounded(designs: Zoo) -> None:
    net = Timed(0, 0.15, 0)
    with served(EdgeServer(Zoo((net,), "x"), depth=2)) as running:  # type: ignore[list-item]
        with CoInference(Zoo((net,), "x"), running.address, depth=5) as device:  # type: ignore[list-item]
            start = time.perf_counter()
            first = device.submit(clouds())
            futures = [device.submit(clouds()) for _ in range(4)]
            assert time.perf_counter() - start < net.edge_s and not first.done()
            futures += [device.submit(clouds()) for _ in range(4)]  # each waits for a place
            assert first.done() and futures[2].done() and not futures[-1].done()
            assert all(f.result().by_edge for f in futures)
    assert 1 <= running.most_waiting <= 2
    with pytest.raises(ConfigError, match="closed"):
        device.submit(clouds())


@pytest.fixture
def silent() -> Iterator[SimpleNamespace]:
    """A peer that greets and then never answers, until told to do something else."""
    listener = socket.create_server(("127.0.0.1", 0))
    peer = SimpleNamespace(address=listener.getsockname(), then=lambda connection: None)
    stop = threading.Event()

    def greet() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            hello = Message(Kind.HELLO, tensors={"text": text_tensor("x")})
            connection.sendall(pack(hello, pack_body(hello.tensors)))
            connection.recv(1 << 20)
            peer.then(connection)
            stop.wait(10)

    thread = threading.Thread(target=greet)
    thread.start()
    yield peer
    stop.set()
    thread.join()
    listener.close()


WRONG = {
    "silence": (lambda connection: None, "did not answer within 0.3 s"),
    "closing": (lambda connection: connection.shutdown(socket.SHUT_RDWR), "closed"),
    "garbage": (lambda connection: connection.sendall(b"HTTP/1.1 200 OK" * 9), "HTTP"),
    "another frame": (
        lambda connection: connection.sendall(pack(Message(Kind.RESULT, frame=77), pack_body({}))),
        "frame 77",
    ),
    "nothing in it": (
        lambda connection: connection.sendall(pack(Message(Kind.RESULT), pack_body({}))),
        "did not send 'x'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("fallback", [True, False])
def test_08_a_peer_that_misbehaves_is_lost_with_one_clear_error(
    silent: SimpleNamespace, case: str, fallback: bool
) -> None:
    silent.then, text = WRONG[case]
    net = network(BY_MODE["DED"])
    points = clouds()
    with CoInference(Zoo((net,), "x"), silent.address, timeout_s=0.3, fallback=fallback) as device:
        if fallback:
            found = device.infer(points)
            assert torch.equal(found.logits, run_local(net, points)) and not found.by_edge
        else:
            for _ in range(2):
                with pytest.raises(CommunicationError, match=text):
                    device.infer(points)
        assert text in str(device.lost)


def test_an_answer_without_scores_is_a_loss(silent: SimpleNamespace) -> None:
    silent.then = WRONG["nothing in it"][0]
    net = network(BY_MODE["E"])
    with CoInference(Zoo((net,), "x"), silent.address) as device:
        assert torch.equal(device.infer(clouds()).logits, run_local(net, clouds()))
        assert "logits" in str(device.lost)


def test_without_an_edge_everything_runs_on_the_device(designs: Zoo) -> None:
    with CoInference(designs, None) as device:
        for design, net in enumerate(designs.networks):
            found = device.infer(clouds(), design)
            assert torch.equal(found.logits, run_local(net, clouds())) and not found.by_edge
        with pytest.raises(ConfigError, match="0 to"):
            device.infer(clouds(), len(designs.networks))
        with pytest.raises(Exception, match="at least k points"):
            device.infer(clouds(1, 2), 0)


def test_the_edge_outlives_devices_that_misbehave(designs: Zoo, server: EdgeServer) -> None:
    with socket.create_connection(server.address) as rude:
        rude.sendall(b"\x80\x04" + b"pickle" * 20)
        rude.settimeout(5)
        assert b"cfCI" in rude.recv(1 << 16)  # an error message, then the end
        assert rude.recv(1 << 16) == b""
    with pytest.raises(CommunicationError, match="other networks"):
        CoInference(Zoo(designs.networks, "another"), server.address)
    with socket.create_connection(server.address) as early:
        early.sendall(pack(Message(Kind.FRAME), pack_body({})))
        early.settimeout(5)
        assert b"cfCI" in early.recv(1 << 16)
    gone = socket.create_connection(server.address)
    gone.sendall(b"cf")
    gone.close()
    with CoInference(designs, server.address) as device:
        assert device.infer(clouds(), 1).by_edge


def test_what_the_edge_cannot_compute_comes_back_as_its_words(designs: Zoo) -> None:
    narrow = Zoo.of([network(BY_MODE["E"])])
    wide = SimpleNamespace(genes=narrow.networks[0].genes, begin=designs.networks[1].begin,
                           step=designs.networks[2].step, finish=None)  # fmt: skip
    with served(EdgeServer(Zoo((wide,), "x"))) as running:  # type: ignore[list-item]
        with CoInference(Zoo(narrow.networks, "x"), running.address, fallback=False) as device:
            with pytest.raises(CommunicationError, match="refused frame 0"):
                device.infer(clouds())


def test_an_edge_takes_another_zoo_while_earlier_devices_keep_theirs(designs: Zoo) -> None:
    other = Zoo.of([network(BY_MODE["E"], 5)])
    with served(EdgeServer(designs, reload=lambda: other)) as running:
        with CoInference(designs, running.address) as first:
            with CoInference(other, running.address) as second:
                expected = run_local(other.networks[0], clouds())
                assert torch.equal(second.infer(clouds()).logits, expected)
                expected = run_local(designs.networks[2], clouds())
                assert torch.equal(first.infer(clouds(), 2).logits, expected)


def test_a_slowed_device_takes_the_declared_multiple_of_its_cpu_time(designs: Zoo) -> None:
    def burn() -> float:
        start = time.thread_time()
        while time.thread_time() - start < 0.02:
            pass
        return time.thread_time() - start

    spent, seconds = Slowdown(5).run(burn)
    assert 5 * spent <= seconds
    assert Slowdown(5).run(lambda: time.sleep(0.05))[1] < 0.2  # waiting is not multiplied
    with pytest.raises(ConfigError, match="slow-down"):
        Slowdown(0.5)


def test_a_zoo_is_kept_whole_or_refused(designs: Zoo, tmp_path: Path) -> None:
    designs.save(tmp_path)
    again = load_zoo(tmp_path)
    assert again.digest == designs.digest
    assert Zoo.of(designs.networks[:2]).digest != designs.digest
    text = (tmp_path / "zoo.json").read_text()
    (tmp_path / "zoo.json").write_text(text.replace("combine:16", "combine:32"))
    with pytest.raises(FileError, match="no zoo"):
        load_zoo(tmp_path)
    (tmp_path / "zoo.json").write_text("{}")
    with pytest.raises(FileError, match="no zoo"):
        load_zoo(tmp_path)
    with pytest.raises(CommunicationError, match=r"did not start: .*no zoo"):
        with edge_process(tmp_path):
            pass


def test_09_the_dispatcher_follows_the_emulated_link(designs: Zoo, server: EdgeServer) -> None:
    """A real engine on a link that breaks down and comes back; its device-only entry tries it."""
    names = [MODES.index("D"), MODES.index("E")]
    nets = Zoo(tuple(designs.networks[i] for i in names), "x")
    with served(EdgeServer(nets)) as running:
        link = EmulatedLink(Link(100))
        points = clouds(4, 100)
        with CoInference(nets, running.address, link) as device:
            seen = [device.infer(points, 1) for _ in range(3)][-1]
            nbytes = seen.bytes_up + seen.bytes_down
            entries = (
                Entry("device", 0.7, Estimate(0.03)),
                Entry("edge", 0.9, Estimate(0.002, 0.004, nbytes, overhead_s=0.002)),
            )
            bound_s = 0.03 + Link(2).busy_s(nbytes) / 2
            dispatcher = Dispatcher(entries, bound_s, Link(100))
            for bandwidth, frames in ((100, 6), (0.5, 8), (100, 24)):
                link.link = Link(bandwidth)
                for _ in range(frames):
                    dispatcher.infer(device, points)
    assert [entry for _, entry in dispatcher.switches] == [0, 1]
    down, up = (frame for frame, _ in dispatcher.switches)
    assert 8 <= down <= 10 and up > 14
