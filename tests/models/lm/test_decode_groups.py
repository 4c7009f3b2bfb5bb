"""Diverse beam search, held against plain loops over Python lists: Vijayakumar et al. 2016 with the
scores, endings and order of transformers 4 (`group_beam_search`), which 5 no longer has.
"""

import jax
import numpy as np
import pytest

from collapse_jax.models.lm.decode import BeamSearch, generate
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params

WORDS = OPTConfig(
    vocab_size=8,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    ffn_dim=16,
    max_position_embeddings=32,
    init_std=0.9,
    eos_token_id=7,
)
END, PAD, NEW = WORDS.eos_token_id, WORDS.pad_token_id, 9

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture(scope="module")
def words():
    """A model of 8 words."""
    return OPT(WORDS), init_params(WORDS, jax.random.key(5))


@pytest.fixture(scope="module")
def log_probs_after(words):
    """log_probs_after(sequences [n, length]) [n, 8] in float64, by the whole model and no cache."""
    model, params = words
    apply = jax.jit(lambda tokens: model.apply({"params": params}, tokens))

    def log_probs(sequences):
        length = len(sequences[0])
        padded = np.zeros((16, 4 + NEW), np.int32)
        padded[: len(sequences), :length] = sequences
        logits = np.asarray(apply(padded), np.float64)[: len(sequences), length - 1]
        logits = logits - logits.max(-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    return log_probs


def banned(sequence, size):
    """Words that would complete an n-gram of the sequence a second time."""
    grams = [tuple(sequence[i : i + size]) for i in range(len(sequence) - size + 1)]
    newest = tuple(sequence[len(sequence) - size + 1 :])
    return [gram[-1] for gram in grams if gram[:-1] == newest]


def scores_of(log_probs, beam, decoder, may_end):
    """Scores [8] of the next word: repetitions penalised after what the other groups cost."""
    scores = log_probs.copy()
    for word in set(beam):
        scores[word] *= decoder.repetition_penalty
    if decoder.no_repeat_ngram_size:
        scores[banned(beam, decoder.no_repeat_ngram_size)] = -np.inf
    if not may_end:
        scores[END] = -np.inf
    return scores


class Hypotheses:
    """The finished sequences of one group: at most `most`, the best ones."""

    def __init__(self, decoder, most):
        self.decoder, self.most, self.found, self.done = decoder, most, [], False

    def add(self, total, new):
        score = total / len(new) ** self.decoder.length_penalty
        if len(self.found) < self.most or score > min(self.found)[0]:
            self.found.append((score, new))
            if len(self.found) > self.most:
                self.found.remove(min(self.found))

    def look(self, best, length):
        """Whether no candidate of this step can lead to anything better."""
        if len(self.found) < self.most:
            return
        decoder = self.decoder
        if decoder.early_stopping == "never" and decoder.length_penalty > 0:
            length = NEW
        possible = best / length**decoder.length_penalty
        self.done |= decoder.early_stopping is True or min(self.found)[0] >= possible


def group_beam_search(log_probs_after, prompt, decoder):
    """All finished sequences of one prompt, best first, padded."""
    groups, size = decoder.num_beam_groups, decoder.num_beams // decoder.num_beam_groups
    finished = [Hypotheses(decoder, size) for _ in range(groups)]
    prompt = list(map(int, prompt))
    beams = [[(0.0, prompt)] for _ in range(groups)]
    for t in range(NEW):
        chosen, least = [], decoder.min_new_tokens
        may_end = least is not None and t >= least
        for group, hypotheses in enumerate(finished):
            if hypotheses.done:  # what is done is padded, and the padding counts
                chosen += [PAD] * size
                continue
            costs = decoder.diversity_penalty * np.bincount(chosen, minlength=8)
            laws = log_probs_after([beam for _, beam in beams[group]])
            found = []
            for (total, beam), law in zip(beams[group], laws, strict=True):
                scores = scores_of(law - costs, beam, decoder, may_end)
                found += [(total + scores[word], [*beam, word]) for word in range(8)]
            found.sort(key=lambda one: -one[0])
            beams[group] = []
            for rank, (total, beam) in enumerate(found[: 2 * size]):
                if beam[-1] == END and may_end:
                    if rank < size:
                        hypotheses.add(total, beam[len(prompt) :])
                elif len(beams[group]) < size:
                    beams[group].append((total, beam))
            chosen += [beam[-1] for _, beam in beams[group]]
            hypotheses.look(found[0][0], t + 1)
    for group, hypotheses in enumerate(finished):
        if not hypotheses.done:
            for total, beam in beams[group]:
                hypotheses.add(total, beam[len(prompt) :])
    found = sorted(
        (one for hypotheses in finished for one in hypotheses.found), key=lambda one: -one[0]
    )
    return [new + [PAD] * (NEW - len(new)) for _, new in found]


@pytest.mark.parametrize(
    "decoder",
    [
        BeamSearch(4, num_beam_groups=4, diversity_penalty=0.5),
        BeamSearch(6, 1.3, num_beam_groups=2, diversity_penalty=1.0, no_repeat_ngram_size=3),
        BeamSearch(4, 1.0, 0, 2.0, num_beam_groups=2, diversity_penalty=0.7),
        BeamSearch(6, 1.0, 2, -1.0, True, num_beam_groups=3, diversity_penalty=0.7),
        BeamSearch(4, 1.2, 0, 1.5, "never", num_beam_groups=2, diversity_penalty=0.2),
    ],
)
def test_groups_are_those_of_plain_loops(words, log_probs_after, decoder):
    prompts = np.random.default_rng(1).integers(3, 8, (6, 4))
    made = generate(*words, prompts, decoder, NEW, num_return_sequences=decoder.num_beams)
    wanted = [group_beam_search(log_probs_after, prompt, decoder) for prompt in prompts]
    np.testing.assert_array_equal(made, wanted)
    if decoder.min_new_tokens is not None:
        assert (made[:, :, -1] == PAD).any()
    assert (np.asarray(wanted)[:, 0] != np.asarray(wanted)[:, 1]).any()


def test_groups_search_apart(words):
    """With a penalty that nothing outweighs, no two groups choose a word at the same step; the best
    of all groups is what is returned alone, and what is padded goes on as it does alone.
    """
    prompts = [[3, 4, 5, 6, 3], [4, 6], [5, 4, 5]]
    decoder = BeamSearch(4, num_beam_groups=4, diversity_penalty=1e3)
    made = generate(*words, prompts, decoder, NEW, num_return_sequences=4)
    assert made.shape == (3, 4, NEW)
    assert all(len(set(step)) == 4 for row in made for step in row.T)
    alone = [generate(*words, [prompt], decoder, NEW)[0] for prompt in prompts[2:]]
    np.testing.assert_array_equal(made[2:, 0], alone)
