"""A Llama of a million random weights, with a tokenizer of single bytes: what a real engine needs to start.

    tiny_model.py FOLDER

It talks nonsense, but always the same nonsense. A folder that stands is left alone; an interrupted one is
never taken for a whole one, since it gets its name last.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch  # type: ignore[import-not-found]  # these live in an environment of their own
from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # type: ignore[import-not-found]
from transformers import (  # type: ignore[import-not-found]
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
CONTEXT = 2048  # tokens


def tokenizer() -> PreTrainedTokenizerFast:
    words = [*SPECIAL.values(), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE(vocab={word: at for at, word in enumerate(words)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=CONTEXT, **SPECIAL)


def llama(words: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(words),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    return LlamaForCausalLM(shape).to(torch.bfloat16)


def main() -> None:
    folder = Path(sys.argv[1])
    if folder.exists():
        return
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    words = tokenizer()
    words.save_pretrained(unfinished)
    llama(words).save_pretrained(unfinished)
    unfinished.rename(folder)


main()
