"""The models and rows that the parts of benchmarks/gpu.py share.

Weights are random, in the shape of SmolLM2-135M and of Mistral-7B, and are made on the device. The
tokenizer is trained on the repository's own rows, and its vocabulary is filled up to SmolLM2's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from benchmarks.gpu_measure import Bench, clean

if TYPE_CHECKING:
    from harness.models import LoadedModel

VOCABULARY = 49152
#: Tokens that the text of the rows is worth; the rest of the vocabulary is never written.
LEARNT = 6000
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SMALL = {
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "initializer_range": 0.06,
    "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
}
TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}


def prepare(bench: Bench) -> None:
    """Write the tokenizer, both configurations, the small model and the rows of every step."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = train_tokenizer(bench.rehearse)
    for name in ("small", "7b"):
        folder = bench.folder / name
        tokenizer.save_pretrained(folder)
        configuration(name, tokenizer, bench.rehearse).save_pretrained(folder)
    torch.manual_seed(0)
    with torch.device(bench.device):
        small = AutoModelForCausalLM.from_config(
            configuration("small", tokenizer, bench.rehearse), dtype=torch.bfloat16
        )
    small.save_pretrained(bench.folder / "small")
    from safetensors.torch import save_file

    # --dry-run asks for a file of weights and reads no tensor of it
    save_file({"none": torch.zeros(1)}, bench.folder / "7b" / "model.safetensors")
    rows = draw_rows(bench, tokenizer)
    (bench.folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    tokens = [sum(len(ids) for ids, _ in batch) for batch in rows]
    bench.say(work="rows", steps=len(rows), tokens_a_step=tokens, vocabulary=len(tokenizer))


def train_tokenizer(rehearse: bool) -> Any:
    """A byte-level BPE of the rows' text, with entries that no text gives up to the real size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from harness.training.config import TrainConfig
    from harness.training.preparation import prepare as prepare_run

    conversations = prepare_run(TrainConfig()).conversations
    texts = [message.content for each in conversations for message in each.messages]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=LEARNT, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    table = json.loads(tokenizer.to_str())
    vocabulary = table["model"]["vocab"]
    for number in range(len(vocabulary), len(vocabulary) + 64 if rehearse else VOCABULARY):
        vocabulary[f"filler{number}"] = number
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(table)),
        bos_token=SPECIAL[0],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[2],
        chat_template=CHATML,
    )


def configuration(name: str, tokenizer: Any, rehearse: bool) -> Any:
    from transformers import LlamaConfig, MistralConfig

    ids = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "max_position_embeddings": 8192,
    }
    if name == "small":
        return LlamaConfig(**(SMALL | (TINY if rehearse else {})), **ids)
    tiny = TINY if rehearse else {}
    return MistralConfig(sliding_window=None, tie_word_embeddings=False, **tiny, **ids)


def run_config(bench: Bench, model: str, **sections: Any) -> Any:
    """The settings of our side's training run: the defaults, a few steps."""
    from harness.resources import data_dir
    from harness.training.config import (
        DataConfig,
        OptimisationConfig,
        QuantisationConfig,
        TrainConfig,
    )

    few = (str(data_dir("trainset") / "everyday.jsonl"),) if bench.rehearse else ()
    paged = model == "7b" and bench.cuda
    return TrainConfig(
        model=str(bench.folder / model),
        output_dir=str(bench.folder / f"run-{model}"),
        dtype="bfloat16",
        data=DataConfig(train=few),
        quantisation=QuantisationConfig(load_in_4bit=model == "7b"),
        optimisation=OptimisationConfig(
            learning_rate=1e-5,
            max_steps=bench.all_steps,
            per_device_train_batch_size=bench.conversations,
            optim="paged_adamw_8bit" if paged else "adamw_torch",
        ),
        **sections,
    )


def draw_rows(bench: Bench, tokenizer: Any) -> list[list[list[list[int]]]]:
    """For each step, the ids and labels of its rows, in the order that our trainer draws them."""
    from harness.training.data.examples import make_plan
    from harness.training.preparation import prepare as prepare_run

    config = run_config(bench, "small")
    cache = prepare_run(config).encode(tokenizer, None)[0]
    plan = make_plan(config, cache)
    steps = [[cache(pair).encoded for pair in plan.step(at)] for at in range(bench.all_steps)]
    return [
        [
            [list(e.ids), [i if on else -100 for i, on in zip(e.ids, e.trained, strict=True)]]
            for e in examples
        ]
        for examples in steps
    ]


def read_rows(bench: Bench) -> list[list[list[list[int]]]]:
    rows: list[list[list[list[int]]]] = json.loads((bench.folder / "rows.json").read_text())
    return rows


def open_model(bench: Bench, model: str, storage: str = "bfloat16") -> LoadedModel:
    """The small model from its folder, as ``harness`` loads it; the 7B one made on the device."""
    import torch

    from harness.models import load
    from harness.models.loaded import LoadedModel
    from harness.models.quantisation import Quantisation, settle
    from harness.models.source import ModelSource

    if model == "small":
        dtype: Any = storage
        return load(str(bench.folder / model), dtype=dtype, device=bench.device)
    made = random_7b(bench)
    tokenizer = load_tokenizer(bench, model)
    source = ModelSource("7b", str(bench.folder / model), None, "sha256:random")
    if storage == "bfloat16":
        return LoadedModel(source, made, tokenizer, storage, bench.device)
    import bitsandbytes  # noqa: F401  # where it is missing, the error names it
    from transformers import BitsAndBytesConfig

    asked = Quantisation(load_in_4bit=True)
    settings = BitsAndBytesConfig(**asked.as_dict(), bnb_4bit_compute_dtype=torch.bfloat16)
    stored = type(made).from_pretrained(
        None,
        config=made.config,
        state_dict=made.state_dict(),
        dtype=torch.bfloat16,
        quantization_config=settings,
        device_map={"": bench.device},
    )
    settle(stored)
    del made
    clean(bench)
    stored.eval().requires_grad_(False)
    return LoadedModel(source, stored, tokenizer, "bfloat16", bench.device, quantisation=asked)


def random_7b(bench: Bench) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    config = configuration("7b", load_tokenizer(bench, "7b"), bench.rehearse)
    torch.manual_seed(0)
    with torch.device(bench.device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return model.eval().requires_grad_(False)


def load_tokenizer(bench: Bench, model: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(bench.folder / model)
