"""A language model with random weights: the folder of a backbone where there is no network.

For trying things out, tests and benchmarks: it has the architecture, the sizes and the file format
of the real thing, and knows nothing. How much a real one knows that helps is worth comparing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from forecaster.timellm.config import PointConfig
from forecaster.timellm.loading import TOKENIZER, require_transformers
from forecaster.timellm.prompt import prompt_text, statistics

_END = "<|endoftext|>"


def write_random_backbone(
    folder: Path,
    *,
    kind: Literal["gpt2", "llama"] = "gpt2",
    width: int = 128,
    layers: int = 3,
    heads: int = 4,
    vocabulary: int = 1000,
    positions: int = 1024,
    seed: int = 0,
) -> Path:
    """Writes config, weights and tokenizer, the same ones every time, and returns the folder.

    The tokenizer is a byte-level BPE trained on prompts, with at most 1000 tokens, so that a prompt
    has about as many tokens as with a published one; further vocabulary rows stay unused.
    """
    transformers = require_transformers()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "gpt2":
            network = transformers.GPT2Model(
                transformers.GPT2Config(
                    vocab_size=vocabulary, n_embd=width, n_layer=layers, n_head=heads,
                    n_positions=positions, bos_token_id=0, eos_token_id=0,
                )
            )  # fmt: skip
        else:
            network = transformers.LlamaModel(
                transformers.LlamaConfig(
                    vocab_size=vocabulary, hidden_size=width, intermediate_size=2 * width,
                    num_hidden_layers=layers, num_attention_heads=heads,
                    max_position_embeddings=positions, bos_token_id=0, eos_token_id=0,
                )
            )  # fmt: skip
        network.save_pretrained(folder)
        _tokenizer(min(vocabulary, 1000)).save(str(folder / TOKENIZER))
    about = f'{{"eos_token": "{_END}", "tokenizer_class": "PreTrainedTokenizerFast"}}\n'
    (folder / "tokenizer_config.json").write_text(about)
    return folder


def _tokenizer(tokens: int):  # type: ignore[no-untyped-def]  # of the package tokenizers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    config = PointConfig(lookback=96, horizon=24)
    texts = prompt_text(config, statistics(torch.randn(500, 96)))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=tokens,
        special_tokens=[_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
