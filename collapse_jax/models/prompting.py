"""How new blocks are generated: the prompt, the number of new tokens, and what a block contains."""

from typing import TYPE_CHECKING, NamedTuple

from collapse_jax.errors import InputError, one_of, whole

if TYPE_CHECKING:  # settings are checked by this before anything heavy is imported
    import numpy as np

    from collapse_jax.models.lm.transformer import Transformer

PROMPTS, TRAINED_ON = ("real", "start"), ("continuation", "both")


class Lengths(NamedTuple):
    """Lengths in tokens.

    prompt: Length of a prompt.
    new: Number of new tokens.
    kept: Tokens of the prompt that a new block begins with: all, or 0.
    """

    prompt: int
    new: int
    kept: int


class Prompting(NamedTuple):
    """How new blocks are generated from old ones; by default whole blocks are prompts.

    prompt_length: Number of tokens at the start of a block that form the prompt; None is the whole
        block.
    continuation_length: Number of new tokens; None is as many as a block needs.
    prompts: "real", or "start": only the beginning-of-text token of the model.
    train_on: Content of a new block: the "continuation", or "both" the prompt and the continuation.
    """

    prompt_length: int | None = None
    continuation_length: int | None = None
    prompts: str = "real"
    train_on: str = "continuation"

    def lengths(self, block_length: int) -> Lengths:
        """Returns the lengths for blocks of `block_length` tokens.

        Raises:
            InputError: If one is out of range or would be ignored, or if new blocks would have
                another length.
        """
        one_of("prompts", self.prompts, PROMPTS)
        both = one_of("train_on", self.train_on, TRAINED_ON) == "both"
        prompt = self._prompt(block_length)
        kept = prompt if both else 0
        if kept == block_length:
            raise InputError(
                f"train_on is both with prompt_length {prompt} and block_length {block_length}, "
                "which leaves no token to generate; give a smaller prompt_length, such as "
                f"{block_length // 2}"
            )
        new = self.continuation_length
        new = block_length - kept if new is None else whole("continuation_length", new, 1)
        if kept + new != block_length:
            sum_words = f"prompt_length {kept} + " if both else ""
            total = f" = {kept + new}" if both else ""
            raise InputError(
                f"train_on {self.train_on} trains on {sum_words}continuation_length {new}{total} "
                f"tokens, and block_length is {block_length}; give continuation_length "
                f"{block_length - kept}, or block_length {kept + new}"
            )
        return Lengths(prompt, new, kept)

    def _prompt(self, block_length):
        """Tokens of a prompt."""
        given = self.prompt_length
        if self.prompts == "start":
            if given is not None:
                raise InputError(
                    f"prompt_length is {given} with prompts start, whose prompt is the one "
                    "beginning-of-text token; leave prompt_length out, or give prompts real"
                )
            return 1
        prompt = block_length if given is None else whole("prompt_length", given, 1)
        if prompt > block_length:
            raise InputError(
                f"prompt_length is {prompt}, more than a block has; give at most block_length, "
                f"{block_length}, or a larger block_length"
            )
        return prompt

    def check_for(self, model: "Transformer", block_length: int) -> Lengths:
        """Returns `lengths`; checks that the model has enough positions.

        Raises:
            InputError: If it does not.
        """
        lengths, most = self.lengths(block_length), model.config.max_position_embeddings
        prompt, new, _ = lengths
        if prompt + new > most:
            smaller = "block_length"
            if self.prompts == "real" and self.prompt_length is not None:
                smaller = "prompt_length or block_length"
            raise InputError(
                f"continuing a prompt of {prompt} by {new} tokens needs {prompt + new} positions; "
                f"max_position_embeddings is {most}; give a smaller {smaller}"
            )
        return lengths

    def prompts_of(self, model: "Transformer", blocks: "np.ndarray") -> "np.ndarray":
        """The prompts, int32 [N, prompt], of N blocks [N, block_length]."""
        import numpy as np

        if self.prompts == "start":
            return np.full((len(blocks), 1), model.switches.bos_token_id, np.int32)
        return np.asarray(blocks)[:, : self.lengths(np.shape(blocks)[1]).prompt]

    def new_blocks(self, prompts: "np.ndarray", continuations: "np.ndarray") -> "np.ndarray":
        """Returns new blocks [N, block_length] from prompts and continuations."""
        import numpy as np

        if self.train_on == "continuation":
            return continuations
        return np.concatenate([prompts, continuations], axis=1)
