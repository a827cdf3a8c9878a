import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from rarefy.evidence import Claim, Measurement, Measurements, Report, environment, judge
from rarefy.evidence.environment import peak_memory_mb, reset_peak_memory
from rarefy.evidence.figures import draw
from rarefy.evidence.page import index_page, report_page
from rarefy.evidence.table import claims_table

CLAIMS = (
    Claim(id="c1", text="A is <i>lower</i>", metric="loss", arm="a", versus="b", paper="1 & 2"),
    Claim(id="c2", text="B is lower", metric="loss", arm="b", versus="a", kind="ratio"),
    Claim(id="c3", text="Small", metric="loss", arm="a", margin=1.05, deterministic=True),
    Claim(id="c4", text="Not there", metric="time", arm="a"),
)
MEASUREMENTS = Measurements(
    Measurement(arm, seed, "loss", value + seed / 10)
    for seed in range(3)
    for arm, value in (("a", 1.0), ("b", 2.0))
)


def plot(measurements):
    drawn = Figure()
    axes = drawn.subplots()
    axes.plot(measurements.values("a", "loss"), marker="o", label="a")
    axes.legend()
    return drawn


@pytest.fixture
def report():
    return Report(
        number=33,
        slug="dsnot",
        title="A title with <angles>",
        scale="smoke",
        device="cpu",
        seeds=(0, 1, 2),
        options={"model": None, "sparsity": 0.7, "loud": False, "names": ["a b", "c"]},
        judgements=tuple(judge(claim, MEASUREMENTS) for claim in CLAIMS),
        measurements=MEASUREMENTS,
        seconds=1.25,
        peak_rss_mb=100.0,
        environment=environment(),
        figures={"figure.svg": draw(plot, MEASUREMENTS, name="dsnot")},
        summary="What it finds.",
    )


def test_wall_clock_times_stand_apart_and_are_read_back(report, tmp_path):
    timed = replace(
        report, measurements=Measurements([Measurement("a", 0, "clock_mask_seconds", 0.5)])
    )
    timed.write(tmp_path)
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["measurements"] == []
    assert found["timings"] == [
        {"arm": "a", "seed": 0, "metric": "clock_mask_seconds", "value": 0.5}
    ]
    assert Report.read(tmp_path).measurements.values("a", "clock_mask_seconds") == [0.5]


def test_report_json_has_the_agreed_keys(report, tmp_path):
    report.write(tmp_path)
    found = json.loads((tmp_path / "report.json").read_text())
    assert list(found) == [
        "rarefy", "paper", "scale", "device", "seeds", "options", "claims", "measurements",
        "timings", "seconds", "peak_rss_mb", "environment", "figures",
    ]  # fmt: skip
    assert found["paper"] == {"number": 33, "slug": "dsnot", "title": "A title with <angles>"}
    assert list(found["claims"][0]) == [
        "id", "text", "metric", "better", "arm", "versus", "margin", "paper", "ours", "baseline",
        "effect", "verdict",
    ]  # fmt: skip
    assert list(found["claims"][0]["ours"]) == ["mean", "low", "high", "n"]
    assert list(found["claims"][0]["effect"]) == ["mean", "low", "high", "kind"]
    assert found["measurements"][0] == {"arm": "a", "seed": 0, "metric": "loss", "value": 1.0}
    assert [c["verdict"] for c in found["claims"]] == [
        "reproduced", "contradicted", "inconclusive", "inconclusive",
    ]  # fmt: skip
    assert found["figures"] == ["figure.svg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "figure.svg", "report.html", "report.json",
    ]  # fmt: skip


def test_a_report_comes_back_from_its_folder(report, tmp_path):
    report.write(tmp_path)
    again = Report.read(tmp_path)
    assert again.to_json() == report.to_json()
    assert again.verdicts == report.verdicts


def test_what_is_no_report_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        Report.read(tmp_path)
    for text in ('{"paper": 3}', "[]", "{"):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(ValueError, match="not a report"):
            Report.read(tmp_path)


def test_the_command_of_a_report_measures_the_same_again(report):
    assert report.command == (
        "rarefy run dsnot --scale smoke --seeds 3 --device cpu "
        "--sparsity 0.7 --no-loud --names 'a b' --names c"
    )


class Balanced(HTMLParser):
    """Checks that every element is closed, in order."""

    VOID = {"meta", "br", "img", "link"}

    def __init__(self):
        super().__init__()
        self.open, self.links, self.ids = [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.links += [attributes[k] for k in ("href", "src", "xlink:href") if k in attributes]
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(page):
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    return parser


def test_the_page_is_whole_self_contained_and_escaped(report):
    page = report_page(report)
    assert all(link.startswith("#") for link in parsed(page).links)
    assert "<script" not in page
    assert "A is &lt;i&gt;lower&lt;/i&gt;" in page
    assert "A title with &lt;angles&gt;" in page
    assert "time of a is missing at seed 0" in page
    for verdict in ("reproduced", "contradicted", "inconclusive"):
        assert f'class="verdict {verdict}"' in page


def test_several_figures_share_a_page_without_sharing_identifiers(report):
    other = draw(plot, MEASUREMENTS, name="other")
    page = index_page("Tour", "Few things matter.", {"weights": [report]})
    assert parsed(page).links[0] == "dsnot/report.html"
    groups = [set(re.findall(r'<g id="([^"]+)"', svg)) for svg in (page, other)]
    assert groups[0]
    assert not groups[0] & groups[1]


def test_a_figure_is_the_same_bytes_every_time():
    one, two = (draw(plot, MEASUREMENTS, name="dsnot") for _ in range(2))
    assert one == two
    assert ElementTree.fromstring(one).tag == "{http://www.w3.org/2000/svg}svg"
    assert "dc:date" not in one


def test_the_console_table_fits_80_columns(report):
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(claims_table(report.judgements))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    starts = {line.index(v) for line in lines for v in ("verdict", "reproduced") if v in line}
    assert len(starts) == 1


def test_the_environment_names_versions_and_no_person_or_host():
    import platform

    found = environment()
    assert {"rarefy", "python", "torch", "numpy", "cpu", "cores", "threads"} <= set(found)
    assert platform.node() not in map(str, found.values())


def test_peak_memory_sees_an_allocation():
    reset_peak_memory()
    before = peak_memory_mb()
    block = bytearray(b"x" * (64 << 20))
    assert peak_memory_mb() >= before + 60
    del block
