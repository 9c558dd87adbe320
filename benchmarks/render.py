"""Conversations a second through render(), spans included, against transformers'
apply_chat_template on the same templates.

One core, no tokenising on either side (tokenize=False), caches of both warm, rounds alternating;
the texts are compared first.
Run: python benchmarks/render.py [--conversations 10000] [--rounds 7]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")

from harness.conversation import Conversation
from harness.data.conversations import load_conversations
from harness.formats import load_formats
from harness.formats.adapt import adapt_to_format
from harness.formats.render import render
from harness.records import Format
from harness.resources import data_dir

#: Templates whose text depends on the clock: transformers' runs, ours is frozen.
DATED = {"harmony"}


def peer_tokenizer():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1})),
        bos_token="<s>",
        eos_token="</s>",
    )


Work = list[tuple[Conversation, Format]]


def ours(work: Work) -> list[str]:
    return [
        render(conversation, format, bos_token="<s>", eos_token="</s>").text
        for conversation, format in work
    ]


def peer(work: Work) -> Callable[[], list[str]]:
    """transformers on the same work. The messages are made into dictionaries beforehand."""
    tokenizer = peer_tokenizer()
    plain = [
        [
            {"role": m.role, "content": m.content, **({"name": m.name} if m.name else {})}
            for m in conversation.messages
        ]
        for conversation, _ in work
    ]
    return lambda: [
        tokenizer.apply_chat_template(
            messages,
            chat_template=format.template,
            tokenize=False,
            assistant_name=conversation.assistant_name() or "Assistant",
            user_name=next(
                (m.name for m in conversation.messages if m.role == "user" and m.name), "User"
            ),
        )
        for messages, (conversation, format) in zip(plain, work, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    formats = list(load_formats().values())
    rows = load_conversations([str(data_dir("trainset"))])
    work = [
        (adapt_to_format(rows[i % len(rows)], formats[i % len(formats)]), formats[i % len(formats)])
        for i in range(options.conversations)
    ]
    sides = {"ours": partial(ours, work), "transformers": peer(work)}
    pairs = zip(*(run() for run in sides.values()), strict=True)
    equal = [
        a == b for (a, b), (_, format) in zip(pairs, work, strict=True) if format.id not in DATED
    ]
    print(
        f"{len(work)} conversations, {len(formats)} formats; texts equal: {sum(equal)} of {len(equal)}"
    )
    ratios, rates = [], {name: [] for name in sides}
    for _ in range(options.rounds):
        seconds = {}
        for name, run in sides.items():
            began = time.process_time()
            run()
            seconds[name] = time.process_time() - began
            rates[name].append(len(work) / seconds[name])
        ratios.append(seconds["transformers"] / seconds["ours"])
    for name, found in rates.items():
        print(
            f"{name:12} {statistics.median(found):9.0f} conversations/s (median of {options.rounds})"
        )
    print(
        f"ratio        {statistics.median(ratios):9.2f} (from {min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
