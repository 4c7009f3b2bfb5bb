"""Wrong words on the command line: every field of every command."""

import json
import os

import pytest

from collapse_jax.app.cli import main

HUGE = str(10**30)
# command: (words, what the line must name).
WRONG = {
    "": [
        ("", ["''", "simulate"]),
        ("simulat --chains 5", ["'simulat'", "did you mean 'simulate'"]),
        ("5", ["'5'", "quickstart, simulate, lm"]),
        ("families --chains 5", ["families", "'--chains'"]),
        ("families now", ["now"]),
        ("plot", ["RUN"]),
        ("plot a b", ["b"]),
        ("plot nowhere", ["nowhere", "no config.json"]),
        ("plot .", [". is not a run folder", "config.json"]),
    ],
    "simulate": [
        ("--chainz 5", ["'--chainz'", "did you mean '--chains'"]),
        ("--chains", ["--chains", "Missing value"]),
        ("--chains 5 6", ["6"]),
        ("--chains abc", ["--chains", "'abc'", "whole number"]),
        ("--chains 2.5", ["--chains", "'2.5'", "whole number"]),
        ("--chains nan", ["--chains", "'nan'", "whole number"]),
        ("--chains 0", ["chains is 0", "at least 1"]),
        ("--chains 1000000000000000", ["chains is 1000000000000000", "at most 2147483647"]),
        ("--generations -1", ["generations is -1", "at least 0"]),
        (f"--generations {HUGE}", ["generations is 1", "at most 2147483647"]),
        ("--generations 2147483647", ["generations is 2147483647", "memory_limit"]),
        ("--family normal", ["family is 'normal'", "gaussian"]),
        ("--family ../gaussian", ["family is '../gaussian'"]),
        ("--family causal_lm", ["causal_lm", "no example"]),
        ("--options dim=2", ["dim=2", "--dim"]),
        ("--family gmm --options num_components", ["'num_components'", "NAME=VALUE"]),
        ("--family gmm --options num_components=2 dim=1 k=3", ["k=3", "'k'", "covariance"]),
        ("--family gmm --options dim=1", ["num_components"]),
        ("--family gmm --options num_components=0 dim=1", ["num_components is 0", "at least 1"]),
        ("--family gmm --options num_components=two dim=1", ["num_components is 'two'"]),
        ("--family gmm --options num_components=2 dim=1 dim=2", ["dim", "once"]),
        ("--family kde --options dim=1 bandwidth=-1", ["bandwidth is -1"]),
        ("--family kde --options dim=1 bandwidth=1e999", ["bandwidth is inf"]),
        ("--family gmm --options num_components=2 dim=1 tolerance=abc", ["tolerance is 'abc'"]),
        ("--family gmm --options num_components=2 dim=1 floor=abc", ["floor is 'abc'"]),
        ("--family gmm --options num_components=2 dim=7", ["2 dimensions", "--data"]),
        ("--family kde --options dim=1 bandwidth=nan", ["bandwidth is 'nan'"]),
        (
            "--family ngram --options order=9 vocabulary_size=5 block_length=12",
            ["order is 9", "3 (trigram)"],
        ),
        (f"--family gmm --options num_components={'[' * 500} dim=1", ["num_components"]),
        ("--family gmm --dim 3", ["dim is 3 with family gmm"]),
        ("--family categorical --ddof 0", ["ddof is 0 with family categorical"]),
        ("--num-categories 4", ["num_categories is 4 with family gaussian"]),
        ("--workflow best", ["workflow is 'best'", "accumulate"]),
        ("--workflow replace,best", ["workflow is 'best'"]),
        ("--workflow replace --gamma 0.1", ["0.1 with workflow replace", "--workflow mix"]),
        ("--workflow accumulate --alpha 0.5 --beta 0.5", ["with workflow accumulate"]),
        ("--alpha nan", ["alpha is nan", "[0, 1]"]),
        ("--alpha -1 --beta 1 --gamma 1", ["alpha is -1", "[0, 1]"]),
        ("--beta inf", ["beta is inf", "[0, 1]"]),
        ("--gamma nan", ["gamma is nan"]),
        ("--gamma 0,x", ["--gamma", "'0,x'", "number"]),
        ("--alpha 0.5 --gamma 0.4", ["alpha + beta + gamma is 0.9", "must be 1"]),
        ("--sample-size 0", ["sample_size is 0", "at least 1"]),
        ("--sample-size 10,", ["--sample-size", "'10,'"]),
        ("--sample-size 10,0", ["sample_size is 0"]),
        ("--sample-size 10,20,10", ["sample_size", "10 more than once"]),
        ("--sample-size 10000000000", ["sample_size is 10000000000", "at most 2147483647"]),
        ("--dim 0", ["dim is 0", "at least 1"]),
        ("--dim 1000000", ["dim is 1000000", "memory_limit"]),
        ("--ddof 2", ["ddof is 2", "0 (maximum likelihood) or 1"]),
        ("--ddof -1", ["ddof is -1"]),
        ("--ddof 0,1.5", ["--ddof", "'0,1.5'"]),
        ("--family categorical --num-categories 0", ["num_categories is 0"]),
        (
            "--family categorical --num-categories 2147483647",
            ["num_categories is 2147483647", "memory_limit"],
        ),
        ("--metrics speed", ["'speed'", "variance"]),
        ("--metrics mean mean", ["'mean'", "name"]),
        ("--metrics support", ["'support'"]),
        ("--family categorical --metrics condition_number", ["'condition_number'"]),
        ("--record 0", ["record is '0'", "stride"]),
        ("--record lag", ["record is 'lag'", "'log'"]),
        ("--record 1,x", ["record is '1,x'"]),
        ("--record 5,9999", ["record is [5, 9999]", "0 to 3"]),
        ("--keep some", ["--keep", "'some'", "summary"]),
        ("--memory-limit nan", ["memory_limit is nan", "positive"]),
        ("--memory-limit -1", ["memory_limit is -1"]),
        ("--memory-limit much", ["--memory-limit", "'much'", "number"]),
        ("--memory-limit 0.0000001", ["memory_limit is 1e-07 GiB"]),
        ("--sample-size 10,20 --memory-limit 0.000001", ["memory_limit is 1e-06 GiB"]),
        ("--seed -1", ["seed is -1", "at least 0"]),
        ("--seed 4294967296", ["seed is 4294967296", "at most 4294967295"]),
        (f"--seed {HUGE}", ["seed is 1", "at most 4294967295"]),
        ("--chunk 0", ["chunk is 0"]),
        ("--out", ["--out", "Missing value"]),
        ("--config", ["--config", "cannot be read"]),
        ("--config=nowhere.json", ["nowhere.json", "cannot be read"]),
        ("--config .", ["'.'", "cannot be read"]),
    ],
    "quickstart": [
        ("--chains 0", ["chains is 0"]),
        ("--chains many", ["--chains", "'many'"]),
        ("--chains 2147483647", ["memory_limit", "2,147,483,647 chains"]),
        ("--generations -1", ["generations is -1"]),
        ("--generations 1000000000", ["generations is 1000000000", "at most"]),
        ("--seed 4294967296", ["seed is 4294967296"]),
    ],
    "reproduce": [
        ("nothing", ["no entry 'nothing'", "--list"]),
        ("../../secret", ["'../../secret'"]),
        ("--cost free", ["cost is 'free'", "cpu, gpu, weights"]),
        ("--paper Newton", ["'Newton'", "Gerstgrasser"]),
        ("--registry nowhere", ["registry is 'nowhere'", "folder of Python files"]),
        ("--seed -1", ["seed is -1"]),
        ("--seed 4294967296", ["seed is 4294967296"]),
    ],
    "lm": [
        ("--preset fig1d", ["--preset", "'fig1d'", "fig1b"]),
        ("--protocol mine", ["--protocol", "'mine'", "released-code"]),
        ("--corpus nowhere", ["corpus 'nowhere'", "neither a file nor a folder"]),
        ("--corpus .", ["corpus folder", "train"]),
        ("--corpus wikitext-9-v1", ["corpus 'wikitext-9-v1'"]),
        ("--model nowhere", ["'nowhere'", "owner/name"]),
        ("--model ../../etc/passwd", ["'../../etc/passwd'", "owner/name"]),
        ("--model a/b/c", ["'a/b/c'"]),
        ("--model owner/na--me", ["'owner/na--me'"]),
        ("--model 'owner/na me'", ["owner/na me"]),
        ("--model owner/../name", ["owner/../name"]),
        ("--model https://example.org/opt", ["https://example.org/opt"]),
        ("--model 'öwner/näme'", ["wner/n"]),
        ("--model 'owner/name\n'", ["owner/name"]),
        ("--model random:huge", ["'random:huge'", "random:tiny"]),
        ("--model random:mini", ["random:mini", "give one by --tokenizer"]),
        ("--tokenizer .", ["tokenizer folder '.'"]),
        ("--tokenizer 'no such/ tokenizer'", ["tokenizer 'no such/ tokenizer'"]),
        ("--generations three", ["--generations", "'three'"]),
        ("--generations 10000000000", ["generations is 10000000000", "at most"]),
        ("--seeds 0", ["seeds is 0"]),
        ("--seed 4294967296", ["seed is 4294967296"]),
        ("--workflow mix", ["--workflow", "'mix'"]),
        ("--real-fraction 1.5", ["real_fraction is 1.5", "[0, 1]"]),
        ("--real-fraction some", ["--real-fraction", "'some'", "number"]),
        (
            "--real-fraction 0.5 --workflow accumulate",
            ["real_fraction is 0.5 with workflow accumulate"],
        ),
        ("--real-kept all", ["--real-kept", "'all'"]),
        ("--beta nan", ["beta is nan"]),
        ("--beta 0.7 --real-fraction 0.7", ["real_fraction + beta is 1.4"]),
        ("--start zero", ["--start", "'zero'"]),
        ("--generator third", ["--generator", "'third'"]),
        ("--block-length 1", ["block_length is 1"]),
        ("--block-length 9", ["18 positions"]),
        ("--train-blocks 100000", ["train_blocks is 100000"]),
        ("--valid-blocks -1", ["valid_blocks is -1"]),
        ("--test-blocks 1e3", ["--test-blocks", "'1e3'"]),
        ("--epochs 0", ["epochs is 0"]),
        ("--epochs 2.5", ["--epochs", "'2.5'", "whole number"]),
        (f"--epochs {HUGE}", ["epochs is 1", "at most"]),
        ("--batch-size 0", ["batch_size is 0"]),
        (f"--batch-size {HUGE}", ["batch_size is 1", "at most"]),
        ("--learning-rate inf", ["learning_rate is inf"]),
        ("--learning-rate -1", ["learning_rate is -1"]),
        ("--final-learning-rate nan", ["final_learning_rate is nan"]),
        ("--weight-decay -0.1", ["weight_decay is -0.1"]),
        ("--dropout 1", ["dropout is 1.0"]),
        ("--dropout nan", ["dropout is nan"]),
        ("--precision float16", ["--precision", "'float16'"]),
        ("--decoding best", ["--decoding", "'best'"]),
        ("--num-beams 0", ["num_beams is 0"]),
        ("--num-beams 1000000000", ["num_beams is 1000000000", "at most"]),
        ("--num-beams 3000", ["num_beams is 3000", "at most 1000"]),
        ("--decoding greedy --num-beams 3", ["num_beams is 3 with decoding greedy"]),
        ("--temperature 0.5", ["temperature is 0.5 with decoding beam"]),
        ("--decoding sampling --temperature nan", ["temperature is nan"]),
        ("--decoding sampling --temperature inf", ["temperature is inf"]),
        ("--decoding sampling --top-k -1", ["top_k is -1"]),
        ("--decoding sampling --top-p 0", ["top_p is 0.0"]),
        ("--min-p 0.1", ["min_p is 0.1 with decoding beam"]),
        ("--decoding sampling --min-p 1.5", ["min_p is 1.5", "[0, 1]"]),
        ("--decoding greedy --typical-p 0.5", ["typical_p is 0.5 with decoding greedy"]),
        ("--decoding sampling --typical-p 0", ["typical_p is 0.0"]),
        ("--no-repeat-ngram-size -1", ["no_repeat_ngram_size is -1"]),
        ("--num-beam-groups 2", ["num_beam_groups is 2", "divide num_beams, 5"]),
        ("--num-beams 4 --num-beam-groups 2", ["diversity_penalty is 0.0", "above 0"]),
        ("--diversity-penalty 1", ["diversity_penalty is 1.0", "num_beam_groups 1"]),
        ("--decoding sampling --diversity-penalty 1", ["with decoding sampling"]),
        ("--repetition-penalty -1", ["repetition_penalty is -1"]),
        ("--repetition-penalty inf", ["repetition_penalty is inf"]),
        ("--decode-batch 0", ["decode_batch is 0"]),
        ("--examples -1", ["examples is -1"]),
        ("--checkpoints none", ["--checkpoints", "'none'"]),
    ],
    "pretrain": [
        ("--corpus nowhere", ["corpus 'nowhere'"]),
        ("--corpus .", ["corpus folder '.'"]),
        ("--tokenizer train:5", ["tokenizer is 'train:5'", "260"]),
        ("--tokenizer train:many", ["tokenizer is 'train:many'"]),
        ("--tokenizer train:1000000000", ["tokenizer is 'train:1", "at most 1000000"]),
        ("--tokenizer facebook/opt-125m", ["facebook/opt-125m", "folder"]),
        ("--exclude nowhere", ["exclude is 'nowhere'", "neither a file nor a folder"]),
        ("--hidden-size 0", ["hidden_size is 0"]),
        ("--hidden-size 30", ["hidden_size is 30", "multiple"]),
        ("--hidden-size 1000000", ["GiB"]),
        ("--num-hidden-layers 1000000000", ["num_hidden_layers is 1000000000", "at most"]),
        ("--num-attention-heads 0", ["num_attention_heads is 0"]),
        ("--ffn-dim x", ["--ffn-dim", "'x'"]),
        ("--max-position-embeddings 64", ["block_length is 128", "max_position_embeddings, 64"]),
        ("--block-length 1", ["block_length is 1"]),
        ("--batch-size 0", ["batch_size is 0"]),
        ("--steps 0", ["steps is 0"]),
        ("--warmup-steps 2000", ["warmup_steps is 2000", "below steps"]),
        ("--learning-rate nan", ["learning_rate is nan"]),
        ("--final-share 2", ["final_share is 2.0"]),
        ("--weight-decay -1", ["weight_decay is -1.0"]),
        ("--beta1 1", ["beta1 is 1.0"]),
        ("--beta2 nan", ["beta2 is nan"]),
        ("--gradient-clip inf", ["gradient_clip is inf"]),
        ("--held-out 0", ["held_out is 0.0"]),
        ("--held-out-windows -1", ["held_out_windows is -1"]),
        ("--evaluate-every 0", ["evaluate_every is 0"]),
        ("--save-every 0", ["save_every is 0"]),
        ("--seed 4294967296", ["seed is 4294967296"]),
        ("--precision int8", ["--precision", "'int8'"]),
    ],
}
CASES = [(command, words, says) for command, cases in WRONG.items() for words, says in cases]
SMALL = {
    "simulate": "--chains 8 --generations 3",
    "lm": "--block-length 8 --train-blocks 8 --valid-blocks 4 --test-blocks 4 --batch-size 2 "
    "--epochs 1 --seeds 1 --generations 1",
}


def words_of(text):
    import shlex

    return shlex.split(text)


@pytest.mark.parametrize(
    ("command", "words", "says"), CASES, ids=[f"{c} {w}".strip()[:60] for c, w, _ in CASES]
)
def test_wrong_words(refused, good, command, words, says):
    small = words_of(SMALL.get(command, ""))
    given = words_of(words)
    # What is given wins over what makes the run small, for an option said twice counts once.
    base = [
        pair
        for at in range(0, len(small), 2)
        for pair in small[at : at + 2]
        if small[at] not in given
    ]
    if command == "lm":
        base += [f"--corpus={good / 'text.txt'}"] * ("--corpus" not in given) + [
            f"--model={good / 'model'}"
        ] * ("--model" not in given)
    refused([*([command] if command else []), *base, *given], *says)


def test_there_are_more_than_sixty():
    assert len(CASES) >= 60


# Folders for --out.


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished simulation, figures and all."""
    out = tmp_path_factory.mktemp("finished") / "run"
    main(
        ["simulate", "--chains", "8", "--generations", "3", "--sample-size", "5", "--out", str(out)]
    )
    return out


@pytest.mark.parametrize("command", ["simulate", "lm", "pretrain", "quickstart", "reproduce"])
def test_a_folder_for_out_that_is_none(refused, good, here, command):
    more = (
        ["--corpus", good / "text.txt", "--model", good / "model", *words_of(SMALL["lm"])]
        if command == "lm"
        else []
    )
    (here / "file").write_text("mine")
    (here / "thesis").mkdir()
    (here / "thesis" / "main.tex").write_text("mine")
    refused([command, *more, "--out", "file"], "file exists and is not a run folder")
    refused([command, *more, "--out", "file/run"], "file/run cannot be")
    refused([command, *more, "--out", "thesis"], "thesis exists and is not a run folder")
    refused([command, *more, "--out", "a\nb/" + "x" * 300], "a b/")
    refused([command, *more, "--out", "/proc/nothing"], "/proc/nothing")


def test_a_read_only_folder(refused, here):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (here / "locked").mkdir(mode=0o555)
    refused(["simulate", "--out", "locked/run"], "locked/run cannot be written")


def test_the_folder_of_another_run(refused, finished, good, here):
    import shutil

    shutil.copytree(finished, here / "run")
    refused(
        ["simulate", "--chains", "9", "--seed", "1", "--sample-size", "5", "--out", "run"],
        "seed: 0 there, 1 here",
    )
    refused(
        ["simulate", "--chains", "8", "--generations", "3", "--sample-size", "6", "--out", "run"],
        "sample_size: 5 there, 6 here",
    )
    refused(["quickstart", "--out", "run"], "run holds a run of another kind (simulate)")
    refused(["pretrain", "--out", "run"], "run holds a run of another kind (simulate)")
    refused(["reproduce", "--out", "run"], "run holds a run of another kind (simulate)")
    lm = ["lm", "--corpus", good / "text.txt", "--model", good / "model", *words_of(SMALL["lm"])]
    refused([*lm, "--out", "run"], "run holds a run of another kind (simulate)")
    # A quickstart whose parts would lie in folders of other runs.
    shutil.copytree(finished, here / "quick" / "gaussian_replace")
    refused(["quickstart", "--out", "quick"], "quick exists and is not a run folder")


# Settings from a file.


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", ["cannot be read"]),
        (b"\x00\xff\xfe\x01", ["cannot be read"]),
        (b"{", ["cannot be read"]),
        (b"[" * 100_000, ["cannot be read"]),
        (b'{"command": "simulate", "seed": ' + b"1" * 5000 + b"}", ["cannot be read", "digits"]),
        (b"[]", ["'command' must be one of"]),
        (b'{"command": ["simulate"]}', ["'command' must be one of"]),
        (b'{"command": "lm"}', ["is a configuration for 'lm', not for 'simulate'"]),
        (b'{"command": "simulate", "chainz": 5}', ["'chainz'", "did you mean 'chains'"]),
        (b'{"command": "simulate", "chains": "5"}', ["chains is '5'", "of type int"]),
        (b'{"command": "simulate", "chains": 1e400}', ["chains is inf", "of type int"]),
        (b'{"command": "simulate", "chains": null}', ["chains is None"]),
        (b'{"command": "simulate", "gamma": NaN}', ["gamma is nan"]),
        (b'{"command": "simulate", "gamma": [0, "x"]}', ["gamma is 'x'", "of type float"]),
        (b'{"command": "simulate", "gamma": []}', ["gamma", "at least one"]),
        (b'{"command": "simulate", "keep": {}}', ["keep is {}", "summary"]),
        (b'{"command": "simulate", "metrics": [["mean"]]}', ["metrics is ['mean']"]),
        (b'{"command": "simulate", "family": "a\\u0000b"}', ["family is 'a\\x00b'"]),
        (b'{"command": "simulate", "family": "\\ud800"}', ["family is '\\ud800'"]),
    ],
)
def test_settings_from_a_broken_file(refused, here, text, says):
    (here / "settings.json").write_bytes(text)
    refused(["simulate", "--config", "settings.json"], *says)


def test_settings_with_odd_characters_in_paths(refused, here, good):
    for name in ("corpus", "model", "tokenizer"):
        values = {
            "corpus": str(good / "text.txt"),
            "model": str(good / "model"),
            "block_length": 8,
        } | {name: "no\x00where\n"}
        (here / "settings.json").write_text(json.dumps({"command": "lm"} | values))
        refused(["lm", "--config", "settings.json"], "where")
    (here / "settings.json").write_text(
        json.dumps({"command": "reproduce", "registry": "no\x00where"})
    )
    refused(["reproduce", "--config", "settings.json"], "registry is 'no\\x00where'")
