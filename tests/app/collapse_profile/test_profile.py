"""`cj.profile` and `collapse-jax profile`: what they read, say, write and refuse."""

import json
import pathlib
import re
import tarfile

import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.app.cli import main
from collapse_jax.app.collapse_profile.definitions import CANDIDATES, KEYS, RECORD, SCALES
from collapse_jax.app.collapse_profile.roles import role_of
from collapse_jax.app.config.lm import LMConfig
from collapse_jax.drivers.recorded import Recorded, Statistics
from collapse_jax.drivers.summary import as_dataset, summarise
from collapse_jax.drivers.trace import Trace
from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder

OLD = pathlib.Path(__file__).parents[2] / "old_folders"
# A public run of Pythia on its own text, generations 0 and 10 (field notes), and between them.
PERPLEXITY, ENTROPY = np.linspace(26.90, 27.87, 11), np.geomspace(3.178, 0.437, 11)


def seeds(curve, count=4, noise=0.003):
    rng = np.random.default_rng(0)
    return curve * (1 + noise * rng.normal(size=(count, len(curve))))


def verdicts_of(profile):
    return {verdict.definition: verdict.verdict for verdict in profile.verdicts}


def test_a_flat_perplexity_and_a_falling_entropy_are_told_apart():
    run = {"test_perplexity": seeds(PERPLEXITY), "train_entropy_own": seeds(ENTROPY)}
    profile = cj.profile(run)
    assert profile.kind == "language model" and profile.chains == 4
    found = verdicts_of(profile)
    assert found["catastrophic"] == "not met" and found["diversity"] == "met"
    assert found["tails"] == found["modes"] == found["scaling"] == "cannot tell"
    diversity = profile.verdict("diversity")
    assert diversity.metric == "train_entropy_own"
    assert diversity.number == pytest.approx(0.437 / 3.178, rel=0.02)
    # Half of the entropy is lost where .1375^(g / 10) is .5.
    assert diversity.mean.first == int(np.ceil(10 * np.log(0.5) / np.log(0.437 / 3.178)))
    assert any("diversity collapses while the test loss is nearly flat" in one
               for one in profile.disagreements)  # fmt: skip


def test_one_seed_says_so_and_has_no_interval():
    run = {"test_perplexity": PERPLEXITY[None], "train_entropy_own": ENTROPY[None]}
    profile = cj.profile(run)
    assert "one seed: numbers without intervals, and verdicts on this seed alone" in str(profile)
    for verdict in profile.verdicts:
        assert verdict.level == 0
    assert profile.verdict("increase").number == pytest.approx(27.87 / 26.90)
    assert profile.verdict("divergence").verdict == "cannot tell"


def test_two_seeds_are_too_few_for_the_typical_chain():
    profile = cj.profile({"variance": seeds(ENTROPY, 2)})
    found = profile.verdict("diversity")
    assert found.median.verdict == "cannot tell" and found.mean.verdict == "met"


def test_a_trace_a_data_set_and_a_summary_agree():
    values = seeds(ENTROPY, 200, noise=0.1)
    trace = Trace({"variance": values}, np.arange(11))
    parts = summarise(values, 200)
    alone = as_dataset(np.arange(11), {"variance": parts})
    kept = [cj.profile(run) for run in (trace, trace.to_xarray(), dict(trace))]
    assert len({profile.to_json().split('"kind"')[1] for profile in kept}) == 1
    of_summary = cj.profile(alone, chains=200).verdict("diversity")
    of_chains = kept[0].verdict("diversity")
    assert of_summary.verdict == of_chains.verdict == "met"
    assert of_summary.number == pytest.approx(of_chains.number, rel=1e-9)
    assert of_summary.mean.number == pytest.approx(of_chains.mean.number, rel=1e-9)
    assert of_summary.level == 0.95 and cj.profile(alone).verdict("diversity").level == 0


def test_an_old_language_model_run_is_read_and_not_written_to(tmp_path, capsys):
    with tarfile.open(OLD / "lm.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "whole").rglob("*")}
    main(["profile", str(tmp_path / "whole"), "--out", str(tmp_path / "out"), "--diversity", ".7"])
    said = capsys.readouterr().out
    assert "Collapse profile of" in said and "< 0.7" in said
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "whole").rglob("*")} == before
    written = json.loads((tmp_path / "out" / "profile.json").read_text())
    rows = RunFolder(tmp_path / "whole").rows()
    number = {one["definition"]: one["number"] for one in written["verdicts"]}["increase"]
    assert number == pytest.approx(rows[-1]["test_perplexity"] / rows[0]["test_perplexity"])
    assert (tmp_path / "out" / "figures" / "profile.png").stat().st_size > 10_000
    assert (tmp_path / "out" / "profile.txt").read_text().splitlines()[0] in said
    main(["profile", str(tmp_path / "whole"), "--json"])
    assert json.loads(capsys.readouterr().out)["kind"] == "language model"


def grid_of(exponents, sizes=(10, 30, 100, 300), chains=400):
    """A grid whose mean loss is size^-exponent at each generation."""
    rng = np.random.default_rng(1)
    loss = np.array(sizes, float)[:, None] ** -np.asarray(exponents)  # [size, generation]
    values = loss[:, None] * rng.gamma(4, 1 / 4, (len(sizes), chains, len(exponents)))
    parts = summarise(values.reshape(-1, len(exponents)), chains)
    return as_dataset(np.arange(len(exponents)), {"squared_wasserstein2": parts},
                      {"sample_size": list(sizes)})  # fmt: skip


@pytest.mark.parametrize(
    ("exponents", "verdict"),
    [([1.0, 1.0, 1.0, 1.0], "not met"), ([1.0, 0.95, 0.8, 0.5], "met")],
)
def test_a_grid_tells_the_scaling_law(exponents, verdict):
    found = cj.profile(grid_of(exponents), chains=400).verdict("scaling")
    assert found.verdict == verdict
    assert found.low <= exponents[-1] - exponents[0] <= found.high
    if verdict == "met":
        assert found.first == 2  # .2 is beyond .1, .05 is not


def test_runs_of_several_sizes_tell_it_too():
    runs = [
        {"squared_wasserstein2": seeds(np.full(4, 1.0 / size), 50, 0.1)} for size in (10, 30, 100)
    ]
    found = cj.profile(runs, sample_sizes=(10, 30, 100))
    assert found.verdict("scaling").verdict == "not met"
    assert re.match("exponent (1|0.99)", found.verdict("scaling").note)
    one = cj.profile(runs[0]).verdict("scaling")
    assert one.verdict == "cannot tell" and "3 or more sample sizes" in one.note


def test_a_users_own_metric_stands_for_a_role():
    run = {"fid": seeds(np.linspace(10, 40, 11)), "wit": seeds(np.linspace(1, 0.9, 11))}
    plain = cj.profile(run)
    assert all(verdict.verdict == "cannot tell" for verdict in plain.verdicts)
    profile = cj.profile(run, metrics={"loss": "fid", "diversity": ("wit", "amount")},
                         thresholds={"catastrophic": 3})  # fmt: skip
    assert profile.verdict("catastrophic").verdict == "met"
    assert profile.verdict("catastrophic").number == pytest.approx(4, rel=0.01)
    assert profile.verdict("diversity").verdict == "not met"


def test_another_reading_than_the_tables_is_noted():
    """A perplexity of the model's own text may stand for diversity, if its user says so."""
    run = {"test_perplexity": seeds(ENTROPY), "my_perplexity": seeds(PERPLEXITY)}
    asked = {"diversity": ("test_perplexity", "amount"), "loss": "my_perplexity"}
    profile = cj.profile(run, metrics=asked)
    diversity, loss = profile.verdict("diversity"), profile.verdict("catastrophic")
    assert diversity.verdict == "met" and "is read as amount, as given; by default it is" in str(
        diversity.note
    )
    assert (loss.unit, loss.threshold, loss.note) == ("x perplexity", 2.0, "")
    same = cj.profile({"test_perplexity": run["my_perplexity"]}).verdict("catastrophic")
    assert loss.number == same.number


def test_many_models_are_judged_by_their_pool_or_by_their_mean():
    falling, flat = seeds(ENTROPY), seeds(np.ones(11))
    pooled = {"within_variance": falling, "pooled_variance": flat, "between_variance": falling}
    score = {"within_held_out_log_prob": -np.log(seeds(PERPLEXITY))}
    found = cj.profile({**pooled, **score, "variance": np.zeros((4, 11, 3))})
    diversity = found.verdict("diversity")
    assert (diversity.metric, diversity.verdict) == ("pooled_variance", "not met")
    assert "pooled_variance is of the pool of all models" in str(found)
    # The perplexity is exp of minus a mean score.
    loss = found.verdict("increase")
    assert loss.metric == "within_held_out_log_prob" and "is a mean over models" in str(found)
    assert loss.number == pytest.approx(27.87 / 26.90, rel=0.01)
    asked = {"loss": "within_held_out_log_prob", "diversity": "within_variance"}
    of_one = cj.profile({**pooled, **score}, metrics=asked)
    assert of_one.verdict("diversity").verdict == "met"
    assert of_one.verdict("increase").number == loss.number


def test_what_is_missing_is_named_with_what_to_record():
    profile = cj.profile({"nothing_known": seeds(ENTROPY)})
    for verdict in profile.verdicts:
        assert verdict.verdict == "cannot tell"
    said = str(profile)
    for role in CANDIDATES:
        assert RECORD[role]["chains"].split(" ")[0] in said


def test_a_truth_takes_the_place_of_generation_0():
    run = {"mean": seeds(np.zeros(11)) + 0.1, "variance": seeds(np.linspace(2, 1, 11))}
    profile = cj.profile(run, family="gaussian", truth={"mean": 0.0, "variance": 4.0})
    found = profile.verdict("diversity")
    assert found.unit == "x truth" and found.number == pytest.approx(0.25, rel=0.01)
    assert profile.verdict("tails").metric == "tail_mass"
    # The mass of N(.1, 1) beyond 2.5758 deviations of N(0, 4).
    from scipy import stats

    limit = 2 * stats.norm.ppf(0.995)
    exact = [stats.norm.sf(limit - 0.1, scale=np.sqrt(v)) + stats.norm.cdf(
        -limit - 0.1, scale=np.sqrt(v)) for v in (1.0, 2.0)]  # fmt: skip
    assert profile.verdict("tails").mean.number == pytest.approx(exact[0] / exact[1], rel=0.1)


def test_a_loss_that_comes_back_was_met_in_between():
    curve = np.array([10.0, 12, 30, 28, 15, 11, 10, 10, 10, 10])
    found = cj.profile({"test_perplexity": seeds(curve, 30)}).verdict("catastrophic")
    assert (found.verdict, found.first, found.until, found.generation) == ("met", 2, 3, 2)


def test_the_figure_has_a_row_for_each_definition():
    profile = cj.profile({"variance": seeds(np.geomspace(1, 0.01, 80), 30)})
    axis = profile.figure().axes[0]
    labels = [tick.get_text() for tick in axis.get_yticklabels()]
    assert labels == [verdict.title for verdict in profile.verdicts] and len(labels) == 8
    assert axis.get_xscale() == "log"
    assert cj.profile({"variance": seeds(ENTROPY, 1)}).figure().axes[0].get_xscale() == "linear"


def test_every_candidate_has_a_scale_and_every_kind_a_hint():
    for candidates in CANDIDATES.values():
        for candidate in candidates:
            assert candidate.scale in SCALES
    assert all(set(hints) == {"chains", "vae", "language model"} for hints in RECORD.values())
    assert len(KEYS) == 8


RUN = {"variance": seeds(ENTROPY)}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"thresholds": {"variance": 0.1}}, "thresholds' definition is 'variance'; it must be one"),
        ({"thresholds": {"diversity": -1}}, r"thresholds\['diversity'\] is -1; it must be"),
        ({"thresholds": {"diversity": float("nan")}}, r"thresholds\['diversity'\] is nan"),
        (
            {"thresholds": {"tails": 0.1}},
            "thresholds has tails, which cannot be judged for the dict",
        ),
        ({"thresholds": {"scaling": 0.1}}, "thresholds has scaling, which cannot be judged"),
        ({"thresholds": 3}, "thresholds is 3; it must be a dict"),
        ({"metrics": {"lose": "variance"}}, "metrics' role is 'lose'; it must be one of loss"),
        ({"metrics": {"loss": "varianc"}}, "does not record; it has variance .did you mean"),
        ({"metrics": {"loss": ("variance", "feet")}}, "'feet'; it must be one of nats"),
        ({"metrics": {"loss": 3}}, r"metrics\['loss'\] is 3; it must be the name"),
        ({"metrics": "variance"}, "metrics is 'variance'; it must be a dict"),
        ({"truth": {"variance": "one"}}, r"truth\['variance'\] is 'one'"),
        (
            {"family": "gaussian"},
            "family is 'gaussian', which has no effect without truth; give truth=",
        ),
        (
            {"family": "gaussian", "truth": {"mean": 0.0, "variance": 1.0}},
            "the dict has no mean and variance of each chain",
        ),
        ({"truth": {"varianc": 1.0}}, "truth has varianc, by which .*did you mean 'variance'"),
        ({"family": "gauss"}, "family is 'gauss'; it must be one of gaussian"),
        ({"at": {"gamma": 0.1}}, "the dict is not a grid"),
        ({"sample_sizes": (1, 2)}, "but run is a single run"),
        ({"chains": 7}, "chains is 7, but the dict has the records of 4"),
    ],
)
def test_bad_arguments_are_one_line(arguments, says):
    with pytest.raises(InputError, match=says) as error:
        cj.profile(RUN, **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("counts", "blocks", "verdict"),
    [
        ([1, 0, 0, 0], 32, "cannot tell"),  # -1/32, and one block is beyond .01
        ([1, 1, 1, 2], 32, "cannot tell"),  # one block more
        ([1, 4, 8, 16], 32, "met"),
        ([10, 0, 0, 0], 320, "not met"),  # 1/320 is below .01
        ([1, 0, 0, 0], 0, "not met"),  # of all blocks there are, which is not said
    ],
)
def test_a_share_of_few_blocks_has_a_resolution(tmp_path, counts, blocks, verdict):
    folder = RunFolder.open(tmp_path / "lm", LMConfig(generations=3, seeds=1, train_blocks=blocks))
    share = np.array(counts) / (blocks or 32)
    folder.write_rows(
        [
            {"chain": 0, "generation": at, "test_perplexity": 9.0, "share_above_real_99": value}
            for at, value in enumerate(share)
        ]
    )
    found = cj.profile(folder).verdict("hallucination")
    assert found.verdict == verdict, found
    assert ("a share of 32 blocks, so it changes in steps of 0.0312" in found.note) == (
        verdict == "cannot tell"
    )


def test_a_gaussian_without_chains_says_why_it_has_no_loss():
    """The mean of a chain's KL divergence does not follow from means over chains."""
    parts = Statistics(**summarise(np.ones((6, 4)), 6))
    statistics = {"mean": parts, "variance": parts}
    settings = {"family": "gaussian", "dim": 1}
    record = Recorded("a grid", "chains", np.arange(4), {}, statistics, (0.5,), 6, settings)
    for role in ("loss", "tails", "hallucination"):
        assert "keeps only statistics over chains; " in role_of(role, record, {}, {})
    assert "no recorded metric" in role_of("modes", record, {}, {})
    own = record._replace(settings={**record.settings, "data": "points.npy"})
    assert "no recorded metric" in role_of("loss", own, {}, {})


def test_a_grid_of_other_axes_asks_for_a_place():
    values = np.ones((6, 3, 4)) + np.arange(3)[:, None] / 10
    parts = summarise(values.reshape(-1, 4), 3)
    grid = as_dataset(np.arange(4), {"variance": parts}, {"gamma": [0.1, 0.2], "dim": [1, 2, 3]})
    with pytest.raises(InputError, match=r"give --at gamma=0.1 dim=1 \(gamma is one of 0.1, 0.2"):
        cj.profile(grid)
    with pytest.raises(InputError, match=r"--at gamma=0.3 is not .*; gamma is one of 0.1, 0.2"):
        cj.profile(grid, at={"gamma": 0.3, "dim": 1})
    assert "gamma 0.2, dim 3" in cj.profile(grid, at={"gamma": 0.2, "dim": 3.0}).run


def test_a_grid_that_kept_its_chains_is_read_by_its_axes():
    import xarray

    values = np.stack([seeds(np.full(4, 1.0 / size), 50, 0.1) for size in (10, 30, 100)])
    grid = xarray.Dataset(
        {"squared_wasserstein2": (("sample_size", "chain", "generation"), values)},
        coords={"sample_size": [10, 30, 100], "generation": [0, 2, 4, 6]},
    )
    profile = cj.profile(grid)
    assert profile.verdict("scaling").verdict == "not met" and profile.chains == 50
    assert profile.generations.tolist() == [0, 2, 4, 6] and "sample_size 100" in profile.run
    alone = cj.profile({"squared_wasserstein2": values[1]})
    found = cj.profile(grid, at={"sample_size": 30}).verdict("increase")
    assert found.number == alone.verdict("increase").number


def test_many_chains_are_read_in_parts(monkeypatch):
    run = {"variance": seeds(ENTROPY, 50, 0.2), "test_loss": seeds(PERPLEXITY, 50)}
    whole = cj.profile(run).to_json()
    monkeypatch.setattr("collapse_jax.app.collapse_profile.series._AT_ONCE", 100)
    assert cj.profile(run).to_json() == whole


def test_a_run_that_begins_late_says_so():
    late = Trace({"variance": seeds(ENTROPY)[:, 5:]}, np.arange(5, 11))
    note = cj.profile(late).verdict("diversity").note
    assert "recorded from generation 5 on, and is compared with that generation" in note


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["no/such"], "run is 'no/such', which is not a folder"),
        ([], "no run is given"),
        (["{run}", "--metrics", "loss"], "--metrics has 'loss'; it must be ROLE=METRIC"),
        (["{run}", "--truth", "variance=x"], "--truth has variance=x"),
        (["{run}", "--metrics", "loss=a", "loss=b"], "--metrics gives loss more than once"),
        (["{run}", "--out", "{run}"], "which contains metrics.jsonl; give a new folder"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, capsys, words, says):
    folder = RunFolder(tmp_path)
    folder.write_rows([{"chain": 0, "generation": at, "variance": 1.0} for at in range(3)])
    with pytest.raises(SystemExit):
        main(["profile", *(word.format(run=tmp_path) for word in words)])
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"thresholds": {"diversity": 2}}, r"thresholds\['diversity'\] is 2; it must be .*1"),
        ({"thresholds": {"catastrophic": 0.5}}, r"thresholds\['catastrophic'\] is 0.5; it must"),
        ({"truth": {"variance": 0.0}}, r"truth\['variance'\] is 0.0, .*it must be above 0"),
        ({"thresholds": {"increase": 3}}, "increase is 3, above catastrophic, .* 2 by default"),
        ({"thresholds": {"catastrophic": 1.005}}, "increase is 1.01, above catastrophic, .* 1.005"),
        (
            {"metrics": {"diversity": "test_perplexity"}},
            r"is 'test_perplexity', which is a metric of loss; .*\('test_perplexity', SCALE\) with "
            "'amount' or 'log amount'",
        ),
        ({"metrics": {"tails": "own_log_prob"}}, "'own_log_prob', which is a metric of loss"),
        ({"metrics": {"loss": ("variance", "amount")}}, "'amount'; it must be one of nats, bits"),
        (
            {"metrics": {"loss": "gain"}},
            r"metrics\['loss'\] is 'gain', whose smallest value is -27",
        ),
    ],
)
def test_numbers_that_say_nothing_are_refused(arguments, says):
    run = {"variance": seeds(ENTROPY), "test_perplexity": seeds(PERPLEXITY)}
    with pytest.raises(InputError, match=says):
        cj.profile(run | {"gain": -seeds(PERPLEXITY, noise=0)}, **arguments)


def test_chains_that_break_down_are_named():
    broken = seeds(PERPLEXITY, 30)
    broken[:4, 6:] = np.nan
    whole, part = cj.profile({"test_perplexity": seeds(PERPLEXITY, 30)}), broken[4:]
    found = cj.profile({"test_perplexity": broken}).verdict("increase")
    assert "up to 4 of 30 chains are nan from generation 6 on" in found.note
    assert found.number == pytest.approx(
        cj.profile({"test_perplexity": part}).verdict("increase").number
    )
    assert "nan" not in whole.verdict("increase").note


def test_a_vae_is_judged_alike(tmp_path, capsys):
    """The records of experiments/shumailov2024_vae.py, a folder of `cj.run` without settings."""
    rng, folder = np.random.default_rng(2), RunFolder(tmp_path / "vae")
    folder.path.mkdir()
    falls = np.linspace(1, 0.2, 5)
    of = {
        "latent_deviation_to_first": 0.63 * falls,
        "real_test_elbo": -24.5 - 2 * np.arange(5),
        "recall": 0.8 * falls,
        "tail_share": 0.1 * falls,
        "precision": 0.9 * falls,
    }
    arrays = {name: curve + 1e-3 * rng.normal(size=(8, 5)) for name, curve in of.items()}
    folder.write_results(Trace(arrays, np.arange(5)).to_xarray())
    profile = cj.profile(folder)
    assert profile.kind == "vae"
    metrics = {one.definition: one.metric for one in profile.verdicts}
    assert metrics == {
        **dict.fromkeys(("catastrophic", "increase", "divergence"), "real_test_elbo"),
        **{"diversity": "latent_deviation_to_first", "scaling": "", "modes": "recall"},
        **{"tails": "tail_share", "hallucination": "precision"},
    }
    told = {**dict.fromkeys(KEYS, "met"), "divergence": "cannot tell", "scaling": "cannot tell"}
    assert verdicts_of(profile) == told
    # exp of 8 nats an image.
    assert profile.verdict("catastrophic").number == pytest.approx(np.exp(8), rel=0.01)
    main(["profile", str(folder.path)])
    assert "a bound, of whole images" in " ".join(capsys.readouterr().out.split())
    del arrays["recall"], arrays["tail_share"], arrays["real_test_elbo"]
    bare = cj.profile(arrays)
    assert "record recall of images" in bare.verdict("modes").note and bare.kind == "vae"
    assert "tail_share of images" in bare.verdict("tails").note
    assert "real_test_elbo" in bare.verdict("increase").note


def test_a_model_that_is_all_outside_at_first_cannot_get_worse():
    """As that of a network before it has learned anything, whose precision is 0."""
    found = cj.profile({"precision": np.zeros((30, 11))}).verdict("hallucination")
    assert found.verdict == "cannot tell"
    assert "can lose at most 0 of the mass" in found.note


def test_nothing_to_be_held_against_is_no_verdict():
    found = cj.profile({"support": np.zeros((30, 11))}).verdict("modes")
    assert found.verdict == "cannot tell" and np.isnan(found.number)
    assert "first generation has no finite number above 0" in found.note


def test_a_generation_without_records_does_not_change_the_verdict():
    values = seeds(ENTROPY, 30)
    whole = cj.profile({"variance": values}).verdict("diversity")
    values[:, 8] = np.nan
    found = cj.profile({"variance": values}).verdict("diversity")
    assert (found.verdict, found.first, found.number) == ("met", whole.first, whole.number)
    assert whole.first < 8


def test_arrays_are_not_said_to_be_missing():
    note = cj.profile({"variance": np.ones((3, 4, 5))}).verdict("diversity").note
    assert note.startswith("variance is recorded as an array")
