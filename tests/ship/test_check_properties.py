"""Random conversations in random formats: an untouched export is equal, a changed one differs."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.ship.checks.compare_runtime import compare_runtime
from harness.ship.checks.trained_texts import rows_of, tools_of, trained_texts
from harness.ship.checks.transformers_runtime import TransformersRuntime
from tests.formats.conversation_shapes import conversations
from tests.formats.test_render import EXAMPLES
from tests.ship.artefacts import FORMATS, kinds, tokenizer_of, write_folder

pytestmark = pytest.mark.local
NAMES = st.sampled_from(sorted(FORMATS))
#: A text in the template between quotation marks: what it writes, or the name of a role.
LITERAL = re.compile(r"'((?:[^'\\\n]|\\.)+)'")
DATED = ("strftime_now", "date_string")


@cache
def exported_tokenizer(format_id):
    with TemporaryDirectory() as place:
        return TransformersRuntime(write_folder(Path(place), format_id), None).tokenizer


def runtime_of(format_id, trained):
    runtime = TransformersRuntime(Path("folder"), trained)
    runtime.tokenizer = exported_tokenizer(format_id)
    return runtime


def drawn(data, format_id):
    """What is trained of a random conversation, if the format takes it."""
    chat_format = FORMATS[format_id]
    conversation = data.draw(
        conversations(
            thoughts=chat_format.thinks,
            calls=chat_format.calls,
            system=chat_format.system != "unsupported",
            developer=False,
        )
    )
    row = replace(conversation, id="row", source="row")
    trained = trained_texts(chat_format, tokenizer_of("bytes"), [row])
    own = tuple(prompt for prompt in trained.prompts if prompt.own)
    assume(own)
    return replace(trained, prompts=own)


@given(st.data(), NAMES)
@settings(max_examples=EXAMPLES // 50, suppress_health_check=list(HealthCheck), deadline=None)
def test_an_untouched_export_is_equal(data, format_id):
    trained = drawn(data, format_id)
    texts, ids = compare_runtime(runtime_of(format_id, trained))
    assert texts.state == "equal", texts
    # words at the edge of an earlier answer may be joined to a mark that this tokenizer lacks
    assert kinds([ids]) <= {"edge-merged"}, ids


@given(st.data(), NAMES)
@settings(max_examples=EXAMPLES // 25, suppress_health_check=list(HealthCheck), deadline=None)
def test_any_change_of_a_character_that_is_written_differs(data, format_id):
    """transformers says whether the change shows in any of the prompts."""
    assume(not any(word in FORMATS[format_id].template for word in DATED))
    trained = drawn(data, format_id)
    runtime = runtime_of(format_id, trained)
    ours = runtime.tokenizer.chat_template
    places = [at for found in LITERAL.finditer(ours) for at in range(*found.span(1))]
    at = data.draw(st.sampled_from(places))
    letter = data.draw(st.sampled_from([one for one in "xX <.3" if one != ours[at]]))
    changed = ours[:at] + letter + ours[at + 1 :]
    visible = any(
        written(ours, one, trained) != written(changed, one, trained) for one in trained.prompts
    )
    runtime.tokenizer.chat_template = changed
    try:
        texts, _ = compare_runtime(runtime)
    except HarnessError as error:
        assert visible and "the template" in str(error)
        return
    finally:
        runtime.tokenizer.chat_template = ours
    assert (texts.state == "differs") == visible, (changed[max(0, at - 40) : at + 40], texts)
    if visible:
        assert all(one.message and one.remedy for one in texts.findings)


def written(template, prompt, trained):
    """What transformers itself writes, or that it fails."""
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        texts, _ = render_jinja_template(
            [rows_of(prompt.conversation, trained.chat_format)],
            tools=tools_of(prompt.conversation),
            chat_template=template,
            add_generation_prompt=True,
            bos_token=tokenizer_of("bytes").bos_token,
            eos_token=tokenizer_of("bytes").eos_token,
        )
    except Exception:
        return None
    return texts[0]
