"""Links: closed forms of bytes and energy, emulated time, files with sources."""

import threading
import time
from pathlib import Path

import pytest

from cofit.core import ConfigError, UnknownNameError
from cofit.targets.links import EmulatedLink, Link, link_device, link_devices, read_link_device


def test_the_time_of_bytes_is_the_closed_form() -> None:
    assert Link(40).transfer_s(12_288) == 8 * 12_288 / 40e6
    assert Link(40, 0.002).transfer_s(0) == 0.002
    assert Link(10, 0.5).busy_s(1) == 8e-7


@pytest.mark.parametrize(
    ("bandwidth", "latency"), [(0, 0), (-1, 0), (float("inf"), 0), (float("nan"), 0), (1, -1)]
)
def test_impossible_links_are_refused(bandwidth: float, latency: float) -> None:
    with pytest.raises(ConfigError, match="positive bandwidth"):
        Link(bandwidth, latency)


def test_an_emulated_link_carries_one_message_at_a_time_while_others_compute() -> None:
    link = EmulatedLink(Link(8, 0.01))  # 1 byte per microsecond
    assert link.carry(20_000) == pytest.approx(0.02)
    start, cpu = time.monotonic(), time.process_time()
    threads = [threading.Thread(target=link.carry, args=(30_000,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.monotonic() - start
    assert taken >= 3 * 0.03 + 0.01  # one after another, then the latency of the last
    assert time.process_time() - cpu < taken / 2  # slept, not burnt
    link.link = Link(8000)
    start = time.monotonic()
    link.carry(30_000)
    assert time.monotonic() - start < 0.03


def test_energy_is_the_closed_form_of_the_published_constants() -> None:
    device = link_device("jetson-tx2")
    assert (device.idle_w, device.radio_w) == (1.450, 3.004)
    assert device.energy_j(0, 2, 3) == pytest.approx(2 * 1.450 + 3 * 3.004)
    assert device.energy_j(1, 0, 0) == device.compute_w
    assert "energy_mn.py" in device.facts["published"]
    assert "power.idle" in device.facts["published"] and "power.compute" in device.facts["recalled"]


def test_files_of_devices_are_checked(tmp_path: Path) -> None:
    assert link_devices() == ("jetson-tx2",)
    with pytest.raises(UnknownNameError, match="jetson-tx2"):
        link_device("tx3")
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\nabout = "x"\n[source.me]\ntext = "x"\nkind = "chosen"\n[power]\n'
    )
    with pytest.raises(ConfigError, match="compute is missing"):
        read_link_device(path)
