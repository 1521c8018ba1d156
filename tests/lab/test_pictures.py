"""The picture of a comparison: what is in it is what was simulated, and a layman finds the words to read it."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from fairqueue_sim.lab import pictures
from fairqueue_sim.lab.curves import MOMENTS, half_window, telling_tenants
from fairqueue_sim.lab.workloads import Workload
from lab.compared import Runs, compare, many, workload_of

# The order of their names is not that of what they ask for.
FLOOD = {"flood": 300, "calm": 60}
PNG_HEAD = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def flood() -> Workload:
    return workload_of(FLOOD)


@pytest.fixture(scope="module")
def runs(flood: Workload) -> Runs:
    return compare(flood)


@pytest.fixture(scope="module")
def figure(flood: Workload, runs: Runs) -> Figure:
    return pictures.figure(flood, runs)


@pytest.fixture(scope="module")
def png(flood: Workload, runs: Runs) -> bytes:
    return pictures.png(flood, runs[:1])


@pytest.fixture(scope="module")
def svg(flood: Workload, runs: Runs) -> bytes:
    return pictures.svg(flood, runs[:1])


def curves(axes: Any) -> list[Any]:
    """The lines over time: not the mark of the last arrival."""
    return [line for line in axes.lines if len(line.get_xdata()) > 2]


def legend(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def words(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_there_is_a_row_for_each_question_and_a_column_for_each_scheduler(figure: Figure) -> None:
    assert len(figure.axes) == 3 * 2
    said = words(figure)
    assert said[0] == "two sorts: 360 requests from 2 tenants"
    assert [title for title, _ in pictures.READING_HELP] == [
        "What each tenant was served so far",
        "How fast each is being served",
        "How long each waits for its first token",
    ]
    for title, reading_help in pictures.READING_HELP:
        assert said.count(title) == said.count(reading_help) == 1
    assert said.count("fcfs") == said.count("vtc") == said.count("first come, first served") == 3
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["cost units", "cost units per second", "seconds"]


def test_the_lines_are_the_figures_of_the_series(figure: Figure, flood: Workload, runs: Runs) -> None:
    half = half_window([run for _, run in runs])
    for column, (_, run) in enumerate(runs):
        for number, tenant in enumerate(telling_tenants(flood)):
            served, rates, waits = (curves(axes)[number] for axes in figure.axes[column::2])
            own, end = run.series.tenants.index(tenant), run.course.ended_at
            for moment in (0, 1, 77, MOMENTS - 1):
                at = float(served.get_xdata()[moment])
                start, stop = max(at - half, 0), min(at + half, end)
                assert served.get_ydata()[moment] == pytest.approx(run.series.service(0, at)[own])
                rate = run.series.service(start, stop)[own] / (stop - start)
                assert rates.get_ydata()[moment] == pytest.approx(rate)
                wait = run.series.mean_ttft(start, stop)[own]
                assert waits.get_ydata()[moment] == pytest.approx(wait, nan_ok=True)


def test_what_fairness_changes_is_seen(figure: Figure) -> None:
    waits_fcfs, waits_vtc = (curves(axes)[1].get_ydata() for axes in figure.axes[4:])
    assert np.nanmax(waits_fcfs) > 5 * np.nanmax(waits_vtc)


def test_a_row_has_one_scale_and_all_that_is_drawn_fits_into_it(figure: Figure) -> None:
    for left, right in zip(figure.axes[::2], figure.axes[1::2], strict=True):
        assert left.get_ylim() == right.get_ylim()
        assert left.get_xlim() == right.get_xlim() == figure.axes[0].get_xlim()
        highest = max(np.nanmax(line.get_ydata()) for axes in (left, right) for line in curves(axes))
        assert left.get_ylim() == (0, pytest.approx(highest * 1.05))
        assert left.get_ylabel()
        assert not right.get_ylabel()


def test_numbers_at_the_axes_are_written_out(figure: Figure) -> None:
    axis = figure.axes[0].yaxis
    written = axis.get_major_formatter().format_ticks([0.0, 0.00005, 0.1, 800.0, 1_200_000.0])
    assert written == ["0", "0.00005", "0.1", "800", "1,200,000"]


def test_the_legend_names_tenants_their_requests_and_the_end_of_arrivals(figure: Figure) -> None:
    assert legend(figure) == ["flood, 300 requests", "calm, 60 requests", "after 2 s no new requests come"]
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)
    marks = [line.get_xdata()[0] for axes in figure.axes for line in axes.lines if len(line.get_xdata()) == 2]
    assert marks == [2.0] * 6
    assert [axes.patches[0].get_x() for axes in figure.axes] == [2.0] * 6


@pytest.mark.long
def test_nothing_overlaps_and_nothing_leaves_the_sheet(figure: Figure) -> None:
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
    boxes += [axes.get_tightbbox() for axes in figure.axes] + [figure.legends[0].get_window_extent()]
    sheet = figure.bbox
    for number, box in enumerate(boxes):
        assert sheet.x0 <= box.x0 <= box.x1 <= sheet.x1
        assert sheet.y0 <= box.y0 <= box.y1 <= sheet.y1
        assert not any(box.overlaps(other) for other in boxes[:number])


def test_looks_differ_in_more_than_colour() -> None:
    workload = workload_of({f"tenant-{number}": 10 + number for number in range(6)})
    lines = curves(pictures.figure(workload, compare(workload, ["vtc"])).axes[0])
    assert len(lines) == len({line.get_color() for line in lines}) == 6
    # A solid line is told from another by its width.
    assert len({(str(line._dash_pattern), line.get_linewidth()) for line in lines}) == 6


def test_with_weights_the_legend_tells_them_and_the_axis_is_per_weight() -> None:
    workload = workload_of(FLOOD, weights={"calm": 3})
    figure = pictures.figure(workload, compare(workload))
    assert legend(figure)[:2] == ["flood, weight 1, 300 requests", "calm, weight 3, 60 requests"]
    labels = [axes.get_ylabel() for axes in figure.axes[::2]]
    assert labels == ["cost units / weight", "cost units / weight per second", "seconds"]
    assert "divided by the tenant's weight" in words(figure)[-1]


def test_a_long_drain_is_cut_and_its_end_is_told() -> None:
    workload = workload_of(FLOOD, seconds=1.5)
    runs = compare(workload)
    end = max(run.course.ended_at for _, run in runs)
    assert 1.5 * 1.5 < end < 4 * 1.5, "no such case"
    figure = pictures.figure(workload, runs)
    assert figure.axes[0].get_xlim() == (0, pytest.approx(1.5 * 1.5))
    assert curves(figure.axes[0])[0].get_xdata()[-1] == pytest.approx(1.5 * 1.5)
    assert f"The last reply came at {end:.3g} s." in words(figure)[-1]


@pytest.mark.long
def test_a_burst_is_drawn_to_its_last_reply() -> None:
    workload = workload_of(FLOOD, seconds=0.01)
    runs = compare(workload)
    end = max(run.course.ended_at for _, run in runs)
    figure = pictures.figure(workload, runs)
    assert figure.axes[0].get_xlim() == (0, pytest.approx(end))
    assert "last reply" not in words(figure)[-1]


def test_up_to_thirty_others_are_thin_lines_and_the_legend_counts_them() -> None:
    workload = many(27)
    figure = pictures.figure(workload, compare(workload, ["vtc"]))
    assert [len(curves(axes)) for axes in figure.axes] == [27] * 3
    assert legend(figure)[0] == "user-1, 10 requests"
    assert legend(figure)[6] == "the other 21 tenants"


@pytest.mark.long
def test_a_thousand_tenants_are_a_band_and_six_lines() -> None:
    workload = many(1000)
    [(_, run)] = runs = compare(workload, ["vtc"])
    figure = pictures.figure(workload, runs)
    for axes in figure.axes:
        assert len(curves(axes)) == 6
        assert len(axes.collections) == 1
    assert legend(figure)[6] == "the other 994 tenants, from least to most"
    # At the end all others have been served the same, but for the first, which is named.
    top = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx(run.series.service(0, figure.axes[0].get_xlim()[1])[1])


def test_one_tenant_alone() -> None:
    workload = workload_of({"alone": 5})
    figure = pictures.figure(workload, compare(workload, ["fcfs"]))
    assert [len(curves(axes)) for axes in figure.axes] == [1] * 3
    assert legend(figure)[0] == "alone, 5 requests"
    assert words(figure)[0] == "two sorts: 5 requests from 1 tenant"


def test_a_tenant_that_is_served_nothing_has_a_flat_line_and_no_waits() -> None:
    workload = workload_of({"small": 20})
    huge = type(workload.arrivals[0])(0.5, "huge", prompt_tokens=9000, output_tokens=20)
    workload = Workload("refusing", sorted([*workload.arrivals, huge], key=lambda it: it.seconds), 2.0)
    figure = pictures.figure(workload, compare(workload, ["vtc"]))
    served, rates, waits = (curves(axes)[0].get_ydata() for axes in figure.axes)
    assert legend(figure)[0] == "huge, 1 request"
    assert not served.any()
    assert not rates.any()
    assert np.isnan(waits).all()


def test_letters_that_the_font_lacks_are_drawn_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    workload = workload_of({"租户": 3})
    assert pictures.png(workload, compare(workload, ["fcfs"])).startswith(PNG_HEAD)
    assert len(recwarn) == 0


def test_a_run_in_which_all_is_refused_says_so_beside_one_that_served() -> None:
    workload = workload_of({"one": 5, "two": 5})
    [served], [refused] = compare(workload, ["fcfs"]), compare(workload, ["vtc"], kv_tokens=16)
    assert not refused[1].course.ended_at
    figure = pictures.figure(workload, [served, refused])
    assert words(figure).count("fcfs") == words(figure).count("vtc, 10 refused") == 3
    for left, right in zip(figure.axes[::2], figure.axes[1::2], strict=True):
        assert len(curves(left)) == 2
        assert curves(right) == []
        assert [text.get_text() for text in right.texts] == ["nothing was served"]
    assert pictures.png(workload, [refused]).startswith(PNG_HEAD)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param("_hidden", "_hidden", id="underscore", marks=pytest.mark.long),
        pytest.param("$a_b$ $\\frac$", "$a_b$ $\\frac$", id="no formula"),
        pytest.param("租户 \N{PILE OF POO}", "租户 \N{PILE OF POO}", id="letters the font lacks"),
        pytest.param("a\nb\x00\u202ec", "a\ufffdb\ufffd\ufffdc", id="control characters"),
        pytest.param("x" * 300, "x" * 23 + "…", id="long", marks=pytest.mark.long),
        pytest.param("<script>&", "<script>&", id="markup"),
    ],
)
def test_any_name_is_drawn_as_it_is_or_made_safe(name: str, shown: str) -> None:
    workload = workload_of({name: 3, "other": 2}, name=name)
    runs = [(name, run) for _, run in compare(workload, ["fcfs"])]
    figure = pictures.figure(workload, runs)
    assert legend(figure)[0] == f"{shown}, 3 requests"
    assert words(figure)[1:3] == list(pictures.READING_HELP[0])
    assert words(figure)[3] == shown
    drawn = pictures.svg(workload, runs)
    assert ElementTree.fromstring(drawn) is not None
    assert b"<script>" not in drawn


@pytest.mark.parametrize("kind", [pytest.param("png", marks=pytest.mark.long), "svg"])
def test_the_same_input_gives_the_same_bytes_whatever_the_users_settings(
    kind: str, flood: Workload, runs: Runs, request: pytest.FixtureRequest
) -> None:
    first = request.getfixturevalue(kind)
    with matplotlib.rc_context({"lines.linewidth": 9, "svg.hashsalt": None, "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        assert getattr(pictures, kind)(flood, runs[:1]) == first
        assert dict(matplotlib.rcParams) == before


def test_files_tell_nothing_of_when_and_with_what_they_were_made(png: bytes, svg: bytes) -> None:
    assert b"tEXt" not in png
    assert b"<metadata" not in svg
    # Texts stay texts: they can be found and read aloud.
    assert b">calm, 60 requests</text>" in svg


def test_draw_writes_the_png(flood: Workload, runs: Runs, png: bytes, tmp_path: Path) -> None:
    pictures.draw(flood, runs[:1], tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes() == png


def test_a_path_that_cannot_be_written_is_an_oserror_that_names_it(tmp_path: Path) -> None:
    workload = workload_of({"alone": 1})
    path = tmp_path / "missing" / "out.png"
    with pytest.raises(FileNotFoundError) as raised:
        pictures.draw(workload, compare(workload, ["fcfs"]), path)
    assert raised.value.filename == str(path)
