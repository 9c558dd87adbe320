"""Ollama's Modelfiles and Go templates: the evaluator, and formats imported from them."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.main import main
from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats import load_format, load_formats
from harness.formats.exchange.detecting import rank_formats
from harness.formats.exchange.importing import import_format
from harness.formats.exchange.programs.go_template import GoTemplate, Struct
from harness.formats.exchange.programs.ollama_reading import ollama_renderer, read_modelfile
from harness.formats.exchange.sources import read_source
from harness.formats.render import render

S, Q, A, R = (
    Message("system", "S"),
    Message("user", "Q"),
    Message("assistant", "A"),
    Message("user", "R"),
)
ROWS = [Struct(Role="user", Content="Q"), Struct(Role="assistant", Content="")]
DATA = {"System": "S", "Messages": ROWS, "Tools": None, "N": 3, "Map": {"b": "2", "a": "1"}}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("a {{ .System }} b", "a S b"),
        ("a \n {{- .System -}} \n b", "aSb"),
        ("{{- /* a comment */ -}} x {{/* another }} */}}y", "x y"),
        ('{{ "a\\n\\"b\\"" }}{{ `raw\\n` }}', 'a\n"b"raw\\n'),
        ("{{ if .System }}y{{ else }}n{{ end }}{{ if .Tools }}y{{ else }}n{{ end }}", "yn"),
        ("{{ if eq .N 1 }}a{{ else if eq .N 3 }}b{{ else }}c{{ end }}", "b"),
        ("{{ if and .System .Tools }}y{{ end }}{{ or .Tools .System }}", "S"),
        ("{{ range .Messages }}<{{ .Role }}:{{ .Content }}>{{ end }}", "<user:Q><assistant:>"),
        ("{{ range $i, $m := .Messages }}{{ $i }}{{ $m.Role }} {{ end }}", "0user 1assistant "),
        ("{{ range $i, $_ := .Messages }}{{ len (slice $.Messages $i) }}{{ end }}", "21"),
        ("{{ range .Tools }}x{{ else }}none{{ end }}", "none"),
        ("{{ range $k, $v := .Map }}{{ $k }}={{ $v }};{{ end }}", "a=1;b=2;"),
        (
            '{{ range .Messages }}{{ if eq .Role "user" }}{{ continue }}{{ end }}{{ .Role }}{{ end }}',
            "assistant",
        ),
        ("{{ range .Messages }}{{ .Role }}{{ break }}{{ end }}", "user"),
        (
            '{{ $s := "" }}{{ range .Messages }}{{ $s = printf "%s+%s" $s .Role }}{{ end }}{{ $s }}',
            "+user+assistant",
        ),
        ("{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ end }}{{ $x }}", "1"),
        (
            "{{ $x := 1 }}{{ range .Messages }}{{ $x }}{{ if true }}{{ $x := 2 }}{{ continue }}"
            "{{ end }}{{ end }}",
            "11",
        ),
        ("{{ with .System }}{{ . }}{{ else }}-{{ end }}", "S"),
        ("{{ (index .Messages 0).Role }}", "user"),
        ('{{ .N | printf "%d%%" }}', "3%"),
        ('{{ not (gt .N 2) }} {{ ne .System "x" }}', "false true"),
        ("{{ json .Map }}", '{"b":"2","a":"1"}'),
        ("{{ .Missing }}", "<no value>"),
        ("{{ if (and (eq .N 3) (not .Tools)) }}y{{ end }}", "y"),
        ("{{ if\n.Tools }}a{{ else if(eq .N 3) }}b{{ end }}{{ range\t.Tools }}{{ end }}", "b"),
    ],
)
def test_go_templates(template, text):
    assert GoTemplate(template).write(DATA) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ if .System }}", "has no end"),
        ("a\n{{ .System", "line 2 of the Go template: an action does not end"),
        ("{{ end }}", "is not read here"),
        ('{{ template "x" . }}', "is not read here"),
        ("{{ .System ~ }}", "cannot read"),
        ("{{ | .System }}", "cannot read"),
    ],
)
def test_a_mistake_has_its_line(template, message):
    with pytest.raises(HarnessError, match=message):
        GoTemplate(template)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ range .Messages }}{{ .Nothing }}{{ end }}", "there is no field Nothing"),
        ("{{ shout .System }}", "the function shout is not known"),
        ("{{ $x }}", "undefined variable"),
        ("{{ index .Messages 7 }}", "index"),
        ("{{ slice .Messages 5 }}", "slice"),
        ("{{ range .System }}{{ end }}", "range cannot go over"),
        ("{{ break }}", "break outside a range"),
    ],
)
def test_what_go_refuses_is_refused(template, message):
    with pytest.raises(HarnessError, match=message):
        GoTemplate(template).write(DATA)


def test_a_template_that_does_harm_ends():
    loops = "{{ range .Messages }}" * 20 + "{{ range $.Messages }}x{{ end }}" + "{{ end }}" * 20
    loops = loops.replace("range .Messages", "range $.Messages")
    with pytest.raises(HarnessError, match="too many steps"):
        GoTemplate(loops).write(DATA)
    grows = '{{ $x := "xxxxxxxxxx" }}' + '{{ $x = printf "%s%s" $x $x }}' * 40 + "{{ $x }}"
    with pytest.raises(HarnessError, match="too long"):
        GoTemplate(grows).write(DATA)
    with pytest.raises(HarnessError, match="nested too deeply"):
        ollama_renderer("{{ " + "(" * 5000 + ".System" + ")" * 5000 + " }}")


def test_a_long_conversation_is_no_harm():
    words = "x" * 1000
    data = {"Messages": [Struct(Role="user", Content=words)] * 190}
    template = GoTemplate(
        '{{ range .Messages }}{{ if eq .Role "user" }}{{ .Content }}{{ end }}{{ end }}'
    )
    assert template.write(data) == words * 190
    with pytest.raises(HarnessError, match="writes too much"):
        template.write({"Messages": data["Messages"] * 2})


@given(st.text(alphabet='{}-$.:=|()"`/* abeimnrfdglsR\n', max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        written = GoTemplate(text).write(DATA)
    except HarnessError as error:
        assert str(error.message).strip()
    else:
        assert GoTemplate(text).write(DATA) == written
        assert "{{" in text or written == text


CHATML = """{{- range $i, $m := .Messages }}{{- $last := eq (len (slice $.Messages $i)) 1 }}
{{- if eq .Role "user" }}<|im_start|>user
{{ .Content }}<|im_end|>
{{ else if eq .Role "system" }}<|im_start|>system
{{ .Content }}<|im_end|>
{{ else }}<|im_start|>assistant
{{ .Content }}{{ if not $last }}<|im_end|>
{{ end }}{{ end }}
{{- if and $last (ne .Role "assistant") }}<|im_start|>assistant
{{ end }}{{ end }}"""
OLD = """{{ if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{ if .Prompt }}<|im_start|>user
{{ .Prompt }}<|im_end|>
{{ end }}<|im_start|>assistant
{{ .Response }}<|im_end|>
"""


@pytest.mark.parametrize("template", [CHATML, OLD], ids=["messages", "prompt and response"])
@pytest.mark.parametrize("name", ["Modelfile", "chat.gotmpl", "note.txt"])
def test_a_go_template_is_imported_with_its_stop(tmp_path, template, name):
    """The stop is not in the prompt behind the last answer, and is found between turns."""
    text = f'FROM ./m.gguf\nTEMPLATE """{template}"""\n' if name == "Modelfile" else template
    (tmp_path / name).write_text(text)
    source = read_source(tmp_path / name)
    imported = import_format(source, "mine")
    assert imported.format.stops == ("<|im_end|>",) and imported.format.system == "own"
    whole = render(Conversation("c", (S, Q, A)), imported.format)
    assert whole.text == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n"
        "<|im_start|>assistant\nA<|im_end|>\n"
    )
    trained = [whole.text[span.start : span.end] for span in whole.spans if span.trained]
    assert "".join(trained) == "A<|im_end|>"
    [(_, same, of)] = rank_formats(source, [load_formats()["chatml"]])
    assert same == of


def test_the_older_form_writes_one_exchange_at_a_time():
    write = ollama_renderer("{{ .System }}|{{ .Prompt }}|{{ .Response }}#")
    assert write((S, Q, A, R), True) == "S|Q|A#|R|"
    assert write((Q, S, R), True) == "|Q|#S|R|"
    assert ollama_renderer("[{{ .Prompt }}] ")((Q, A, R), True) == "[Q] A[R] "


def test_messages_of_one_role_are_joined():
    write = ollama_renderer("{{ range .Messages }}<{{ .Content }}>{{ end }}{{ .System }}")
    assert write((S, S, Q, R), True) == "<S\n\nS><Q\n\nR>S\n\nS"


def test_a_modelfile(tmp_path, capsys):
    text = (
        "# a note\nfrom ./model.gguf\n"
        'TEMPLATE """{{ if .System }}<s>{{ .System }}\n{{ end }}User: {{ .Prompt }}\n'
        'Bot: {{ .Response }}<end>\n"""\n'
        'SYSTEM Be kind.\nPARAMETER stop "<end>"\nPARAMETER stop "\nUser:"\n'
        "PARAMETER temperature 0.7\nMESSAGE user Hi\nADAPTER ./lora.gguf\n"
    )
    path = tmp_path / "Modelfile"
    path.write_text(text)
    read = read_modelfile(text)
    assert read.system == "Be kind." and read.stops == ("<end>", "\nUser:")
    assert main(["formats", "import", str(path), "--id", "mine", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for lost in (
        "PARAMETER: settings",
        "MESSAGE: turns",
        "ADAPTER ./lora.gguf",
        "Ollama joins messages",
    ):
        assert f"not kept: {lost}" in out
    chat_format = load_format(tmp_path / "mine.jinja")
    assert chat_format.stops == ("<end>", "\nUser:")
    asked = render(Conversation("c", (Q,)), chat_format, add_generation_prompt=True, bos_token="^")
    assert asked.text == "^Be kind.\nUser: Q\nBot:"


def test_tools_and_thoughts_of_a_template_are_not_kept(tmp_path):
    (tmp_path / "t.gotmpl").write_text("{{ if .Tools }}{{ .Tools }}{{ end }}" + CHATML)
    (tmp_path / "h.gotmpl").write_text("{{ if .Think }}/think{{ end }}" + CHATML)
    lost = [" ".join(read_source(tmp_path / name).lost) for name in ("t.gotmpl", "h.gotmpl")]
    assert "tools and their calls" in lost[0] and "thoughts" not in lost[0]
    assert "thinking off" in lost[1] and "tools" not in lost[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM llama3\nSYSTEM Be kind.\n", "the Modelfile has no TEMPLATE"),
        ('FROM x\nTEMPLATE """{{ range .Messages }}{{ end }}"""', "a message is left out"),
        ('FROM x\nTEMPLATE """{{ range .Messages }}"""', "has no end"),
        (
            "{{ range .Messages }}[{{ .Role }}]{{ .Content }}{{ end }}[bot]",
            "an answer is asked for by '\\[bot\\]'",
        ),
        ("just some words", "no template, preset or Modelfile that is read here"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, text, message):
    (tmp_path / "file").write_text(text)
    with pytest.raises(HarnessError, match=message):
        import_format(read_source(tmp_path / "file"), "x")


def test_jinja_is_known_by_its_text(tmp_path):
    jinja = "{% for m in messages %}[{{ m.role }}]{{ m.content }}[/]{% endfor %}"
    (tmp_path / "template.txt").write_text(
        jinja + "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    assert read_source(tmp_path / "template.txt").kind == "chat template"


class _Show(BaseHTTPRequestHandler):
    """Ollama's /api/show of one model."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = self.path == "/api/show" and asked == {"model": "mine"}
        template = "{{ .System }}USER: {{ .Prompt }} ASSISTANT: {{ .Response }}"
        modelfile = f'FROM x\nTEMPLATE """{template}"""\nPARAMETER stop USER:\n'
        body = json.dumps({"modelfile": modelfile} if known else {"error": "not found"}).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_a_model_of_a_running_ollama_is_read_by_its_name(tmp_path, monkeypatch, capsys):
    with HTTPServer(("127.0.0.1", 0), _Show) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{server.server_port}")
        words = ["--id", "mine", "--out", str(tmp_path)]
        assert main(["formats", "import", "ollama/mine", *words]) == 0
        assert "USER:" in (tmp_path / "mine.jinja").read_text()
        assert main(["formats", "detect", "ollama/mine"]) in (0, 1)
        assert capsys.readouterr().out.count("ollama/mine") >= 1
        assert main(["formats", "detect", "ollama/other"]) == 2
        assert "Ollama has no model 'other' — ollama pull other" in capsys.readouterr().err
        server.shutdown()
    assert main(["formats", "detect", "ollama/mine"]) == 2
    assert "no Ollama runs there" in capsys.readouterr().err
