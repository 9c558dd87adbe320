"""transformers: the chat template and the tokenizer files of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.formats.exchange.chat_templates import template_of_folder
from harness.formats.guard import TemplateFaultError, render_guarded
from harness.models import quiet
from harness.ship.checks.compare_runtime import Sent
from harness.ship.checks.trained_texts import TrainedPrompt, TrainedTexts, rows_of, tools_of
from harness.training.share.export import chat_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TransformersRuntime:
    """A folder as ``AutoTokenizer.from_pretrained`` reads it.

    transformers renders the template if it is the one that we export; any other runs in a limited
    process, in the same dialect.
    """

    name = "hf"
    how = "rendered by the chat template of the folder"
    frozen = True
    no_ids = ""

    def __init__(self, folder: Path, trained: TrainedTexts) -> None:
        self.folder = folder
        self.trained = trained

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the folder. Raises HarnessError for one that cannot be read."""
        from transformers import AutoTokenizer

        with quiet():
            try:
                return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
            except Exception as error:  # transformers raises anything for a damaged folder
                reason = str(error).partition("\n")[0]
                raise HarnessError(
                    f"transformers cannot read the tokenizer: {reason}", where=str(self.folder)
                ) from None

    def send(self) -> Iterator[Sent]:
        """What ``apply_chat_template`` writes, and the ids that it makes of that."""
        template = self.tokenizer.chat_template
        if not isinstance(template, str):
            template = template_of_folder(self.folder, None).text
        chat_format = self.trained.chat_format
        exported = chat_format.kept is None and chat_template(chat_format, self.trained.tokenizer)
        ours = chat_format.trusted and template == exported and not self.trained.dated
        for prompt in self.trained.prompts:
            try:
                text = self._text(template, prompt, ours=ours)
            except TemplateFaultError as fault:
                yield Sent.refusal(fault)
                continue
            ids = self.tokenizer(text, add_special_tokens=False).input_ids
            yield Sent(text, tuple(ids), adds_bos=False)

    def _text(self, template: str, prompt: TrainedPrompt, *, ours: bool) -> str:
        conversation, chat_format = prompt.conversation, self.trained.chat_format
        rows, variables = rows_of(conversation, chat_format), variables_of(prompt, self.trained)
        if ours:
            text: str = self.tokenizer.apply_chat_template(
                rows,
                tools=tools_of(conversation),
                tokenize=False,
                add_generation_prompt=True,
                **variables,
            )
            return text
        tokens = {key: str(token) for key, token in self.tokenizer.special_tokens_map.items()}
        if tools := tools_of(conversation):
            variables["tools"] = tools
        return render_guarded(
            template,
            rows,
            str(self.folder),
            add_generation_prompt=True,
            tokens={**tokens, **variables},
        )


def variables_of(prompt: TrainedPrompt, trained: TrainedTexts) -> dict[str, Any]:
    """What a template reads besides messages, tools and tokens."""
    variables: dict[str, Any] = dict(trained.chat_format.variables)
    if trained.chat_format.names != "none":
        name = prompt.conversation.assistant_name()
        variables |= {"assistant_name": name} if name else {}
    return variables
