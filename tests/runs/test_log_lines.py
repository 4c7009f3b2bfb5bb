"""Progress where no terminal shows a bar: few lines, with numbers that a clock of ours decides."""

import io

import pytest
from rich.console import Console

from collapse_jax.app.commands import resumable
from collapse_jax.app.commands.progress import LanguageModelProgress, StageProgress
from collapse_jax.app.console import PlainConsole
from collapse_jax.runs import log_lines
from collapse_jax.runs.log_lines import LogLines, shows_bars, time_words


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(log_lines.time, "perf_counter", clock)
    return clock


def lines_of(stages, clock, total=1000):
    """What is said of (seconds to wait, stage, done)s."""
    said: list[str] = []
    lines = LogLines(said.append, clock)
    for seconds, stage, done in stages:
        clock.now += seconds
        lines.at(stage, done, total, "tokens")
    return said


def test_a_quick_stage_says_nothing():
    assert lines_of([(1, "fit", done) for done in range(0, 1001, 20)], Clock()) == []


def test_a_line_says_the_share_the_rate_and_the_time_left():
    """100 tokens at 30 s begin the count; 300 in 60 s are 5 a second, and 600 take 120 s."""
    said = lines_of([(30, "fit", 100), (60, "fit", 400)], Clock())
    assert said == ["fit, 40% of 1,000 tokens, 5 tokens/s, 0:02:00 left of it"]


def test_at_most_a_line_a_minute_and_at_least_one_in_ten():
    fast = lines_of([(1, "fit", 5 * second) for second in range(200)], Clock())
    assert len(fast) == 3  # in 200 s
    slow = lines_of([(60, "fit", minute) for minute in range(100)], Clock())
    assert len(slow) == 10  # in 100 min, in which a tenth is done


def test_a_tenth_is_worth_a_line():
    """20 tokens a minute of 1,000: a tenth every five minutes, and no other line."""
    said = lines_of([(60, "fit", 20 * minute) for minute in range(26)], Clock())
    assert [line.split()[1] for line in said] == ["10%", "20%", "30%", "40%", "50%"]


def test_each_stage_counts_anew():
    said = lines_of(
        [(60, "fit", 500), (61, "fit", 1000), (30, "score", 0), (60, "score", 600)], Clock()
    )
    assert [line.split(",")[0] for line in said][-1] == "score" and said[-1].endswith(
        "60% of 1,000 tokens, 10 tokens/s, 0:00:40 left of it"
    )


def test_a_stage_without_a_known_end():
    clock = Clock()
    assert lines_of([(0, "read", 0), (599, "read", 50), (2, "read", 6010)], clock, None) == [
        "read, 6,010 tokens, 10 tokens/s"
    ]


@pytest.mark.parametrize(("seconds", "words"), [(3723.4, "1:02:03"), (90061, "1 day, 1:01:01")])
def test_time_in_words(seconds, words):
    assert time_words(seconds) == words


def test_bars_are_for_terminals():
    assert shows_bars(Console(file=io.StringIO(), force_terminal=True))
    assert not shows_bars(Console(file=io.StringIO()))


def test_the_loop_says_seed_generation_stage_and_epoch(clock):
    file = io.StringIO()
    row = {"test_perplexity_mean": 3.0, "train_perplexity_first_median": 2.0, "seconds": 100}
    with LanguageModelProgress(PlainConsole(file=file, soft_wrap=True), 2, 1, epochs=5) as bars:
        bars.watcher.end(0, 0, row)  # of an earlier call
        bars.watcher.begin(0, 1)
        bars.stage("fit", 100, 1000)
        clock.now += 70
        bars.stage("fit", 450, 1000)
        bars.watcher.end(0, 1, row)
    lines = file.getvalue().splitlines()
    assert lines[0].endswith("under generation 0 2.00 (100 s)")
    assert lines[1] == (
        "seed 0 generation 1: fit, epoch 3 of 5, 45% of 1,000 tokens, 5 tokens/s, "
        "0:01:50 left of it"
    )
    assert lines[2].endswith("(100 s; 2 of 4 generations, about 0:03:20 left)")
    assert len(lines) == 3


def test_a_terminal_gets_bars_and_no_lines(clock):
    file = io.StringIO()
    console = PlainConsole(file=file, force_terminal=True, width=120)
    with StageProgress(console) as bar:
        for done in (0, 500, 900):
            clock.now += 100
            bar.stage("train", done, 1000)
    assert "left of it" not in file.getvalue() and "\x1b" in file.getvalue()


def test_a_simulation_says_how_far_it_is(clock):
    """A part of 100 generations takes 90 s."""
    file = io.StringIO()

    def parts():
        for at in range(100, 501, 100):
            clock.now += 90
            yield at, None

    console = PlainConsole(file=file, soft_wrap=True)
    resumable.save_as_finished(
        parts(), lambda at, parts: None, console, what="generations", total=500
    )
    assert file.getvalue().splitlines()[1:3] == [
        "40% of 500 generations, 1.1 generations/s, 0:04:30 left of it",
        "60% of 500 generations, 1.1 generations/s, 0:03:00 left of it",
    ]
