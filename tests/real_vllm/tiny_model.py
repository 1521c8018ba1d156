"""Makes the model that vLLM serves here: a small random Llama with its tokenizer, the same each time.

A program of vLLM's own environment (`.venv-vllm`), which has `torch` and `transformers`:
`tiny_model.py FOLDER TEXT LABELS`. TEXT is what the tokenizer is trained on. LABELS 0 makes a model that writes; more,
one that classifies. What it says is nonsense, and many of its tokens have no text, which is what a meter must bear.
"""

import sys
from pathlib import Path

import torch  # type: ignore[import-not-found]
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # type: ignore[import-not-found]
from transformers import (  # type: ignore[import-not-found]
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

VOCABULARY_TOKENS = 1024
CONTEXT_TOKENS = 8192
# vLLM's attention on a CPU needs 32 dimensions a head; with fewer the engine dies at the first request.
HEADS, HEAD_DIMENSIONS = 2, 32
TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}\n{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def tokenizer_of(text: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the text's words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_TOKENS,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.splitlines(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        model_max_length=CONTEXT_TOKENS,
        chat_template=TEMPLATE,
    )


def main(folder: Path, text: Path, labels: int) -> None:
    tokenizer = tokenizer_of(text.read_text())
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY_TOKENS,
        hidden_size=HEADS * HEAD_DIMENSIONS,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=CONTEXT_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        # With the usual 0.02 all outputs are about as likely, and rounding would decide between them.
        initializer_range=0.4,
        **({"num_labels": labels} if labels else {}),
    )
    model = LlamaForSequenceClassification(config) if labels else LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
