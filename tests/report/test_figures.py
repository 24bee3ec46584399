"""Figures: what they mark, where, and that they are well-formed."""

import xml.etree.ElementTree as ET

import pytest
import summaries
from hypothesis import given
from hypothesis import strategies as st

from cofit.fit.summary import Memory, MemoryBlock
from cofit.report.figures import (
    Point,
    bullet,
    front,
    layer_bars,
    live_bytes,
    memory_map,
    undominated,
)
from cofit.report.svg import CHARACTER_PX, Box, Labels, distinct, element, shorten, text_box

WIDTHS = (328, 920)


def parse(svg: str) -> ET.Element:
    assert "nan" not in svg.lower().replace("nanos", "") and "inf" not in svg.lower()
    return ET.fromstring(svg)


def of_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [e for e in root.iter() if name in e.get("class", "").split()]


def texts(root: ET.Element) -> list[str]:
    return ["".join(e.itertext()) for e in root.iter("text")]


def number(mark: ET.Element, name: str) -> float:
    return float(mark.attrib[name])


def inside(root: ET.Element) -> None:
    """Every mark and text starts inside the drawing."""
    width, height = (float(v) for v in root.attrib["viewBox"].split()[2:])
    for mark in root.iter():
        for name, most in (("x", width), ("cx", width), ("y", height), ("cy", height)):
            if name in mark.attrib:
                assert -0.01 <= number(mark, name) <= most + 0.01, ET.tostring(mark)
        if mark.tag == "rect":
            assert number(mark, "width") >= 0 and number(mark, "height") >= 0
            assert number(mark, "x") + number(mark, "width") <= width + 0.02


def test_bullet_lengths_are_proportional() -> None:
    root = parse(bullet(dense=4.0, fitted=1.0, limit=2.0))
    dense, fitted = of_class(root, "dense")[0], of_class(root, "fitted")[0]
    limit = of_class(root, "limit")[0]
    assert number(dense, "width") == pytest.approx(4 * number(fitted, "width"), rel=1e-3)
    assert number(limit, "x1") == pytest.approx(2 * number(fitted, "width"), rel=1e-3)
    assert number(dense, "width") < 100


def test_bullet_over_its_limit_has_another_colour() -> None:
    root = parse(bullet(dense=4.0, fitted=3.0, limit=2.0))
    assert of_class(root, "over") and not of_class(root, "fitted")


@pytest.mark.parametrize("values", [(0.0, 0.0, 0.0), (-0.01, -0.002, 0.0), (0.0, 0.5, 0.1)])
def test_bullet_of_odd_values(values: tuple[float, float, float]) -> None:
    inside(parse(bullet(*values)))


@pytest.mark.parametrize("width", WIDTHS)
def test_layer_bars_mark_every_layer_to_scale(width: int) -> None:
    rows = summaries.summary().plan
    root = parse(layer_bars(rows, width))
    inside(root)
    dense, fitted, rings = (of_class(root, c) for c in ("dense", "fitted", "predicted"))
    assert len(dense) == len(fitted) == len(rings) == len(rows)
    left = number(dense[0], "x")
    per_second = number(dense[0], "width") / rows[0].latency_dense_s
    for row, bar, slim, ring in zip(rows, dense, fitted, rings, strict=True):
        assert number(bar, "width") == pytest.approx(row.latency_dense_s * per_second, abs=0.1)
        assert number(slim, "width") == pytest.approx(row.latency_measured_s * per_second, abs=0.1)
        seen = number(ring, "cx") - left
        assert seen == pytest.approx(row.latency_predicted_s * per_second, abs=0.1)
    tops = [number(bar, "y") for bar in dense]
    assert tops == sorted(set(tops))
    words = texts(root)
    assert {row.op for row in rows} <= set(words)
    assert "0.880 ms" in words and "−9.1 %" in words


@pytest.mark.parametrize("width", WIDTHS)
def test_layer_bars_without_time_or_layers(width: int) -> None:
    assert len(of_class(parse(layer_bars(summaries.hostile().plan, width)), "predicted")) == 4
    inside(parse(layer_bars(summaries.hostile().plan, width)))
    inside(parse(layer_bars((), width)))


def test_long_layer_names_stay_distinct() -> None:
    rows = summaries.large().plan
    for width in WIDTHS:
        assert len({w for w in texts(parse(layer_bars(rows, width))) if "block" in w}) == len(rows)


POINTS = [
    Point("dense", 10.0, 0.95, "dense"),
    Point("round0", 4.0, 0.90),
    Point("round1", 5.0, 0.94, "chosen"),
    Point("round2", 6.0, 0.92),
]


@pytest.mark.parametrize("width", WIDTHS)
def test_front_places_points_limits_and_labels(width: int) -> None:
    root = parse(front(POINTS, 5.5, 0.93, width))
    inside(root)
    marks = {m[0].text.split(":")[0]: m for m in of_class(root, "point")}
    assert set(marks) == {"dense", "round0", "round1", "round2"}
    by_time = sorted(POINTS, key=lambda p: p.latency_s)
    xs = [number(marks[p.label], "cx") for p in by_time]
    assert xs == sorted(xs)
    by_accuracy = sorted(POINTS, key=lambda p: p.accuracy)
    ys = [number(marks[p.label], "cy") for p in by_accuracy]
    assert ys == sorted(ys, reverse=True)
    upright, level = of_class(root, "limit")
    assert number(marks["round1"], "cx") < number(upright, "x1") < number(marks["round2"], "cx")
    assert number(marks["round1"], "cy") < number(level, "y1") < number(marks["round2"], "cy")
    words = texts(root)
    assert {"dense", "round0", "round1", "round2", "limit 5.5 s", "floor 93.00 %"} <= set(words)
    assert marks["round1"].get("class") == "point chosen"
    # three networks are on the front: one move, and two pairs of steps
    assert of_class(root, "front")[0].attrib["d"].count("H") == 2


def test_front_without_limits_or_spread() -> None:
    root = parse(front([Point("only", 0.0, 0.0)], None, None, 328))
    inside(root)
    assert not of_class(root, "limit") and not of_class(root, "within")
    inside(parse(front([Point("a", 1.0, 1.0), Point("b", 1.0, 1.0)], None, 1.0, 920)))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8))
def test_undominated_by_brute_force(pairs: list[tuple[int, int]]) -> None:
    points = [Point(str(i), t, a) for i, (t, a) in enumerate(pairs)]
    best = {
        (t, a)
        for t, a in pairs
        if not any((u <= t and b >= a) and (u, b) != (t, a) for u, b in pairs)
    }
    assert [(p.latency_s, p.accuracy) for p in undominated(points)] == sorted(best)


@pytest.mark.parametrize("width", WIDTHS)
def test_memory_map_is_the_arena_to_scale(width: int) -> None:
    memory = summaries.summary().memory
    root = parse(memory_map(memory, width))
    inside(root)
    buffers, scratch = of_class(root, "buffer"), of_class(root, "scratch")
    assert len(buffers) + len(scratch) == len(memory.blocks)
    assert len(scratch) == sum(b.name.startswith("(") for b in memory.blocks)
    boxes = [
        Box(
            number(r, "x"), number(r, "y"),
            number(r, "x") + number(r, "width"), number(r, "y") + number(r, "height"),
        )
        for r in (*buffers, *scratch)
    ]  # fmt: skip
    for i, box in enumerate(boxes):
        assert not any(box.meets(other) for other in boxes[:i])
    peak = number(of_class(root, "limit")[0], "y1")
    assert min(box.top for box in boxes) == pytest.approx(peak, abs=1.0)
    assert "arena 34.82 KB" in texts(root)
    if width > 600:
        assert "stem" in texts(root) and "16.38 KB" in texts(root)


def test_memory_map_names_steps_only_where_there_is_room() -> None:
    few, many = summaries.summary().memory, summaries.large().memory
    wide = texts(parse(memory_map(few, 920)))
    assert all(wide.count(step) >= 1 for step in few.steps)
    numbered = texts(parse(memory_map(many, 920)))
    assert "step" in numbered and "0" in numbered
    inside(parse(memory_map(many, 328)))
    inside(parse(memory_map(Memory(arena_bytes=0, steps=(), blocks=()), 328)))


def test_live_bytes_count_what_overlaps() -> None:
    blocks = (
        MemoryBlock(name="a", offset_bytes=0, nbytes=10, first=0, last=1),
        MemoryBlock(name="b", offset_bytes=10, nbytes=5, first=1, last=2),
    )
    memory = Memory(arena_bytes=15, steps=("x", "y", "z"), blocks=blocks)
    assert live_bytes(memory) == [10, 15, 5]


@given(st.text(), st.text())
def test_any_text_is_well_formed(words: str, name: str) -> None:
    root = ET.fromstring(element("text", words, aria_label=name))
    assert set(root.attrib) == {"aria-label"} and not list(root)


def test_labels_never_overlap() -> None:
    labels = Labels(Box(0, 0, 200, 100))
    found = [labels.beside(100, 50, "a label", "") for _ in range(30)]
    assert any(found) and not all(found)
    for i, box in enumerate(labels.taken):
        assert not any(box.meets(other) for other in labels.taken[:i])
        assert box.within(labels.frame)


def test_names_are_shortened_to_the_room() -> None:
    assert shorten("layer1", 100) == "layer1"
    cut = shorten("a" * 20 + "b" * 20, 70)
    assert cut.startswith("a") and cut.endswith("b") and "…" in cut
    assert len(cut) * CHARACTER_PX <= 70
    assert distinct(["x.a", "x.b"], 100) == ["x.a", "x.b"]
    assert distinct(["net.stage1.conv", "net.stage2.conv"], 60) == ["stage1", "stage2"]
    assert distinct(["same.same"] * 2, 20)[0] != ""
    assert text_box(50, 50, "ab", "end").right == 50
