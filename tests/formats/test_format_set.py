"""The folder is the registry, and a mistake in a file is reported with its place."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import HarnessError
from harness.formats import FormatSet, load_format, load_formats
from harness.formats.exchange.exporting import TARGETS, export_format
from harness.formats.properties import check_format

GOOD = (
    '{#---\nfamily = "toy"\nstops = ["END"]\n---#}\n'
    "{% for m in messages %}{{ m.content }}{% endfor %}"
)


#: Their owners change earlier turns: a think block, an address, the place of the system prompt.
PREFIX_UNSTABLE = {
    "codellama-70b",
    "deepseek-r1",
    "gemma4",
    "glm4.7",
    "minimax-m2",
    "mistral-v3",
    "mistral-v3-tekken",
    "nemotron-nano2",
    "nemotron3",
    "qwen3",
    "qwen3-thinking",
    "qwen3.5",
    "qwen3.6",
    "qwq",
    "roleplay-markdown",
    "yandexgpt",
}


def test_at_least_sixty_formats():
    formats = load_formats()
    assert len(formats) >= 60
    assert len({chat_format.family for chat_format in formats.values()}) >= 15


@pytest.mark.parametrize("format_id", list(load_formats()))
def test_every_shipped_format_has_all_its_properties(format_id):
    chat_format = load_formats()[format_id]
    assert load_format(Path(chat_format.path)) == chat_format, "its front matter is valid"
    report = check_format(chat_format)
    assert report.findings == ()
    wanted = {"lossless", "prompt_is_prefix", "no_trailing_space", "stop_trained"}
    assert {name for name in wanted if report.properties[name]} == wanted
    assert report.properties["prefix_stable"] == (format_id not in PREFIX_UNSTABLE)
    assert report.properties["system"] == (chat_format.system != "unsupported")
    assert report.properties["thoughts"] == chat_format.thinks
    assert report.properties["calls"] == report.properties["results"] == chat_format.calls
    assert report.properties["answers_read_back"]
    assert chat_format.origin and (chat_format.stops or format_id == "raw")


def test_pydantic_is_not_imported_to_read_the_shipped_formats():
    code = (
        "import sys; from harness.formats import load_formats; load_formats(); "
        "sys.exit('pydantic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_id_offers_the_nearest():
    with pytest.raises(HarnessError, match="did you mean llama3"):
        load_formats()["lama3"]


def test_an_unknown_id_like_no_other_offers_none_of_them():
    """Half of its letters are not enough: nope is no misspelt openorca."""
    with pytest.raises(HarnessError, match="unknown format 'nope'") as caught:
        load_formats()["nope"]
    assert caught.value.hint == "see: harness formats list"


def test_a_glob_that_matches_nothing_is_an_error():
    assert [f.id for f in load_formats().select(["llama[2-4]*"])] == [
        "llama2-chat",
        "llama3",
        "llama3.1",
        "llama3.2",
        "llama4",
    ]
    with pytest.raises(HarnessError, match="no format matches"):
        load_formats().select(["zzz*"])


def test_sets_are_named_selections(tmp_path):
    formats = load_formats()
    common = formats.select(formats.default)
    assert 14 <= len(common) < 30 and len({f.family for f in common}) >= 10
    assert formats.select(["all"]) == list(formats.values())
    assert formats.select(["smollm2", "common"])[0].id == "smollm2"
    (tmp_path / "mine.jinja").write_text(GOOD)
    mine = load_formats(tmp_path)
    assert [f.id for f in mine.select(mine.default)] == [*(f.id for f in common), "mine"]
    with pytest.raises(HarnessError, match="did you mean common"):
        formats.select(["comon"])


def test_a_format_of_a_sets_name_goes_first(tmp_path):
    (tmp_path / "all.jinja").write_text(GOOD)
    assert [f.id for f in load_formats(tmp_path).select(["all"])] == ["all"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no front matter", "this template cannot be imported"),
        ("{#---\nfamily = \n---#}\nx", "not TOML"),
        ('{#---\nfamily = "a"\nstop = ["x"]\n---#}\nx', "unknown key 'stop'.*stops"),
        (
            '{#---\nfamily = "a"\nthoughts_off = {t = false}\n---#}\nx',
            "thoughts_off: t needs a switch",
        ),
        (
            '{#---\nfamily = "a"\nthoughts_off = {t = 0}\n[switches]\nt = [0]\n---#}\nx',
            r"value 0 and another one .* add to \[switches\]",
        ),
        ("{#---\nstops = []\n---#}\nx", "family: missing.*add: family"),
        ('{#---\nfamily = "a"\nstops = "x"\n---#}\nx', "stops: expected a valid list"),
        ('{#---\nfamily = "a"\nstops = [""]\n---#}\nx', r"stops\[0\]"),
        ('{#---\nfamily = "a"\n[roles]\nuser = 3\n---#}\nx', "roles.user: expected a valid string"),
        (
            '{#---\nfamily = "a"\nsystem = "maybe"\n---#}\nx',
            "system: expected 'own', .*, not 'maybe'",
        ),
        (
            '{#---\nfamily = "a"\n---#}\nline\n{% if %}',
            r"bad\.jinja:5: the template does not compile",
        ),
    ],
)
def test_a_mistake_in_a_file_is_reported_with_its_place(tmp_path, text, message):
    (tmp_path / "bad.jinja").write_text(text)
    with pytest.raises(HarnessError, match=message):
        load_format(tmp_path / "bad.jinja")


def test_a_users_folder_adds_and_replaces(tmp_path):
    (tmp_path / "mine.jinja").write_text(GOOD)
    (tmp_path / "chatml.jinja").write_text(GOOD)
    (tmp_path / "README.md").write_text("My formats")
    formats = load_formats(tmp_path)
    assert formats["mine"].family == formats["chatml"].family == "toy"
    assert "llama3" in formats


def test_the_page_on_adding_a_format_is_right(tmp_path, monkeypatch, capsys):
    """Its one file is checked, rendered, evaluated by default and exported without another edit."""
    page = (Path(__file__).parents[2] / "docs" / "add-a-format.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    Path("DIR").mkdir()
    Path("DIR/bracket.jinja").write_text(re.search(r"^```jinja\n(.*?)^```", page, re.M | re.S)[1])
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    Path("chat.json").write_text(json.dumps({"messages": messages}))
    check, rendering = re.findall(r"^harness (.*--formats-dir DIR)$", page, re.M)
    assert main([*shlex.split(check), "--strict"]) == 0
    capsys.readouterr()
    assert main(shlex.split(rendering)) == 0
    assert capsys.readouterr().out == "Be brief.\n\n[user] Hi\n[assistant]"
    formats = load_formats(Path("DIR"))
    assert formats.select(formats.default)[-1].id == "bracket"
    assert all(export_format(formats["bracket"], target).text for target in TARGETS)


def test_the_digest_changes_with_behaviour_only(tmp_path):
    file = tmp_path / "mine.jinja"
    digests = []
    for text in (
        GOOD,
        GOOD.replace('"toy"', '"toy"\nnotes = "n"'),
        GOOD.replace("END", "FIN"),
        GOOD + " ",
    ):
        file.write_text(text)
        digests.append(load_format(file).digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_check_finds_what_is_wrong(tmp_path):
    (tmp_path / "bad.jinja").write_text(
        '{#---\nfamily = "toy"\n---#}\n{{ bos_token }}{{ bos_token }}{% for m in messages %}'
        "{{ m.role }}: {% generation %}{{ m.content }}{% endgeneration %}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    findings = " ".join(check_format(load_format(tmp_path / "bad.jinja")).findings)
    assert (
        "ends in a space" in findings
        and "two BOS" in findings
        and "never learns to end" in findings
    )


def test_a_set_prints_its_size_and_its_first_names():
    known = load_formats()
    assert repr(known).startswith(f"FormatSet({len(known)} formats: ") and "…" in repr(known)
    two = FormatSet([known["chatml"], known["alpaca-newline"]])
    assert repr(two) == "FormatSet(2 formats: alpaca-newline, chatml)"


def spoilt(tmp_path, old, new):
    """qwen3 with one text of its file replaced."""
    source = Path(load_formats()["qwen3"].path).read_text(encoding="utf-8")
    assert old in source
    file = tmp_path / "spoilt.jinja"
    file.write_text(source.replace(old, new), encoding="utf-8")
    return load_format(file)


def test_a_format_that_loses_thoughts_or_calls_or_cannot_read_them_back_is_found(tmp_path):
    """Each defect has its finding; the untouched file (above) has none."""
    for old, new, finding in (
        ("message.get('reasoning_content')", "message.get('thought')", "A thought is not written"),
        ("message.get('tool_calls')", "message.get('calls')", "it drops the call of look"),
        ("call.function.arguments | tojson", "{} | tojson", "it drops the call of look"),
        ("message['content'] + '\\n</tool_response>'", "'</tool_response>'", "A call is refused"),
        ('close = "\\n</tool_call>"', 'close = "</call>"', "cannot be parsed again"),
        ('close = "\\n</think>"', 'close = "</thought>"', "cannot be parsed again"),
    ):
        report = check_format(spoilt(tmp_path, old, new))
        assert any(finding in sentence for sentence in report.findings), (old, report.findings)


def test_a_switch_is_part_of_the_id_and_reaches_the_template():
    known = load_formats()
    (off,) = known.select(["qwen3:enable_thinking=false"])
    assert off.id == "qwen3:enable_thinking=false" and off.variables == {"enable_thinking": False}
    assert known["qwen3"].thinks and not off.thinks and off.digest != known["qwen3"].digest
    assert known[off.id] == off and off.id in known
    dated = known["llama3.1:date_string=1 Jan 2026:tools_in_user_message=false"]
    assert dated.variables == {"date_string": "1 Jan 2026", "tools_in_user_message": False}
    for wrong, said in (
        ("qwen3:enable_thinkin=false", r"no switch .*did you mean enable_thinking"),
        ("qwen3:enable_thinking=maybe", "cannot be 'maybe' — one of true, false"),
        ("qwen3:enable_thinking", "no switch"),
        ("chatml:enable_thinking=false", "its switches: none"),
    ):
        with pytest.raises(HarnessError, match=said):
            known.select([wrong])


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ('style = "quoted"\nopen = "call:"', "calls of the style quoted need quote"),
        ('style = "json"\nopens = "<"', "opens"),
        ('style = "yaml"', "style"),
        ('open = "<"', "style"),
    ],
)
def test_a_mistake_in_the_marks_of_calls_names_the_file(tmp_path, calls, said):
    file = tmp_path / "toy.jinja"
    file.write_text(GOOD.replace("\n---#}", f"\n[calls]\n{calls}\n---#}}"), encoding="utf-8")
    with pytest.raises(HarnessError, match=said) as caught:
        load_format(file)
    assert str(file) in caught.value.where
