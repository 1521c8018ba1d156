"""Makes a tiny model with random weights and its tokenizer: enough for a server to talk nonsense, the same each time.

Run by the interpreter that has vLLM: `python tiny_model.py FOLDER`. The tokenizer is trained on this interpreter's own
documentation strings.
"""

import sys

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = [text for value in (str, list, dict, int, sys, torch.Tensor, torch.nn.Module) if (text := value.__doc__)]


def main(folder: str) -> None:
    """Writes the model to the folder."""
    trained = ByteLevelBPETokenizer()
    special = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    trained.train_from_iterator(TEXTS * 20, vocab_size=1024, min_frequency=2, special_tokens=special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    # vLLM's attention on CPUs needs heads of 32 or more.
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).to(torch.float32).save_pretrained(folder)


if __name__ == "__main__":
    main(sys.argv[1])
