"""Chat templates: the rules of Hugging Face's rendering, clear errors, and hostile templates."""

import json
import time
import tracemalloc
from datetime import datetime

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tests.tokenizer.hostile_templates import FORBIDDEN, NESTED, SPACE, TIME
from tests.tokenizer.vocabularies import ladder_spm
from workbench.errors import GGUFError, ParameterError, UnsupportedError, WorkbenchError
from workbench.tokenizer import chat_limits, load_tokenizer

CHATML = """{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n<tools>' }}
    {%- for tool in tools %}
        {{- "\\n" + (tool | tojson) }}
    {%- endfor %}
    {{- '\\n</tools><|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last=messages|length - 1, query=-1) %}
{%- for message in messages[::-1] %}
    {%- set index = messages|length - 1 - loop.index0 %}
    {%- if ns.query < 0 and message.role == 'user' and message.content is string %}
        {%- set ns.query = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}{% set text = message.content %}{% else %}{% set text = '' %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + text }}
    {%- for call in message.tool_calls or [] %}
        {%- if call.function %}{% set call = call.function %}{% endif %}
        {{- '\\n<tool_call>\\n{"name": "' ~ call.name ~ '", "arguments": ' }}
        {{- call.arguments if call.arguments is string else call.arguments | tojson }}
        {{- '}\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
HEADERS = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = "" %}
{%- endif %}
{{- "<head>system</head>\\n\\nToday: " + date_string + "\\n" + system + "<eot>" }}
{%- for m in messages %}
{{- '<head>' + m['role'] + '</head>\\n\\n' }}
    {%- if m.content is mapping or m.content is iterable and m.content is not string %}
        {%- for part in m.content if part.type == 'text' %}{{ part['text'] | trim }}{% endfor %}
    {%- else %}{{ m['content'] | trim }}{% endif %}
{{- '<eot>' }}
{% endfor %}
{% if add_generation_prompt %}<head>assistant</head>

{% endif %}"""
TURNS = """{{ bos_token }}{% if messages[0].role == 'system' %}
{{ raise_exception('no system role') }}
{% endif %}
{% for message in messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('roles must take turns: ' ~ loop.index) }}
    {% endif %}
    {% set role = 'model' if message.role == 'assistant' else message.role %}
    {% if message.role == 'skip' %}{% continue %}{% endif %}
{{ '<start>' + role + '\\n' + message['content'] | trim + '<end>\\n' }}
    {% generation %}{% set inner = 1 %}{{ message.get('note', '') }}{% endgeneration %}
{% endfor %}
{% if add_generation_prompt %}{{'<start>model\\n'}}{% endif %}"""
MACROS = """{%- macro kind(schema, depth=0) -%}
    {%- if schema.type == 'array' -%}{{ kind(schema['items'], depth + 1) }}[]
    {%- elif schema.type == 'object' -%}
        {%- for name, value in schema.properties | items -%}
            {{ name | upper }}:{{ kind(value, depth + 1) }}{{ ', ' if not loop.last }}
        {%- endfor -%}
    {%- else -%}{{ schema.get('type', 'any') }}@{{ depth }}{%- endif -%}
{%- endmacro %}
{% for tool in tools or [] %}{% set f = tool.function %}
{{ f.name }}({{ kind(f.parameters) }}) {{ f | tojson(indent=2) | indent(4) }}
{{ '%s has %d keys' % (f.name, f | length) }} {{ '{:>6}|{!r}'.format(f.name, 1) }}
{{ f.keys() | sort | join('/') }} {{ f.parameters.required | default(['-']) | first }}
{% endfor %}
{% for m in messages | rejectattr('role', 'equalto', 'system') | selectattr('content') %}
{{ loop.index }}/{{ loop.length }} {{ m.role.upper()[:1] }} {{ m.content | replace('a', '<') | e }}
{% endfor %}
{{ messages | map(attribute='role') | unique | list }} {{ [3, 1] + [2] }} {{ 7 // 2 * 1.5 }}"""
TEMPLATES = {"chatml": CHATML, "headers": HEADERS, "turns": TURNS, "macros": MACROS}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "wetter",
            "description": "It's <b>&\"é",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "array", "items": {"type": "integer"}},
                },
                "required": ["city"],
            },
        },
    }
]
CALL = {
    "type": "function",
    "function": {"name": "wetter", "arguments": {"city": "Ülm", "days": []}},
}
TALKS = {
    "plain": [{"role": "user", "content": " Hi\n"}],
    "turns": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b ", "note": "n"},
        {"role": "user", "content": "漢\r\n"},
    ],
    "system": [{"role": "system", "content": " S "}, {"role": "user", "content": "u"}],
    "tools": [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": '{"t": 3}'},
    ],
    "parts": [{"role": "user", "content": [{"type": "text", "text": " x "}, {"type": "image"}]}],
}
TODAY = datetime(2024, 7, 26)
TOK = load_tokenizer(ladder_spm())
HI = TALKS["plain"]
SHORT_SECONDS, SLOWEST, LARGEST = 0.05, 2.0, 200 << 20


class Refused(Exception):
    pass


class PassedOn(Extension):
    tags = frozenset(("generation",))

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body).set_lineno(line)


def as_hugging_face_does(template, messages, tools=None, **variables):
    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)  # fmt: skip

    def refuse(message):
        raise Refused(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[PassedOn, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = tojson
    names = {"raise_exception": refuse, "strftime_now": TODAY.strftime, "documents": None}
    names |= {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    environment.globals |= names
    return environment.from_string(template).render(messages=messages, tools=tools, **variables)


@pytest.mark.parametrize("tools", [None, TOOLS], ids=["no tools", "tools"])
@pytest.mark.parametrize("prompt", [True, False], ids=["prompt", "no prompt"])
@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_render_as_hugging_face_renders_them(template, talk, prompt, tools):
    variables = {"add_generation_prompt": prompt, "enable_thinking": False}
    try:
        expected = as_hugging_face_does(TEMPLATES[template], TALKS[talk], tools, **variables)
    except (Refused, jinja2.UndefinedError, TypeError):
        with pytest.raises(ParameterError):
            TOK.render_chat(TALKS[talk], template=TEMPLATES[template], tools=tools, **variables)
    else:
        found = TOK.render_chat(
            TALKS[talk], template=TEMPLATES[template], tools=tools, now=TODAY, **variables
        )
        assert found == expected


def test_most_of_those_pairs_render():
    refused = 0
    for template in TEMPLATES.values():
        for talk in TALKS.values():
            try:
                TOK.render_chat(talk, template=template)
            except ParameterError:
                refused += 1
    assert refused < 8


def test_a_chat_by_eye():
    text = TOK.render_chat(TALKS["turns"][:2], template=CHATML)
    assert text == (
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb <|im_end|>\n"
        "<|im_start|>assistant\n"
    )


EXPRESSIONS = st.recursive(
    st.sampled_from(["messages[0].content", "'a'", "1", "2.5", "none", "[1, 'b']", "missing",
                     "{'k': 'v', 'n': 2}", "messages", "true"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+ ~ * - == != in and or % < is".split()), inner).map(
            lambda parts: f"({' '.join(parts)})" if parts[1] != "is" else f"({parts[0]} is string)"
        ),
        st.tuples(
            inner,
            st.sampled_from("upper trim length list string tojson first last join sort unique|list "
                            "e int default('d') replace('a','b') title center(9) reverse|list "
                            "capitalize safe items|list sum map('string')|list".split()),
        ).map(lambda parts: f"({parts[0]} | {parts[1]})"),
        inner.map(lambda value: f"({value} | string)[0:2]"),
        inner.map(lambda value: f"('%s|%s' % ({value}, 1))"),
        inner.map(lambda value: f"'<{{}}>'.format({value})"),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]} if {pair[1]} else [{pair[0]}])"),
    ),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(EXPRESSIONS)
def test_guarded_expressions_mean_what_they_mean_in_jinja2(expression):
    template = "{% for i in [1, 2] %}{{ " + expression + " }}{% endfor %}"
    try:
        expected = as_hugging_face_does(template, HI)
    except Exception:
        with pytest.raises(WorkbenchError):
            TOK.render_chat(HI, template=template)
    else:
        if " at 0x" not in expected:
            assert TOK.render_chat(HI, template=template) == expected


@pytest.mark.parametrize("template", TIME + SPACE)
def test_hostile_templates_are_stopped(template, monkeypatch):
    monkeypatch.setattr(chat_limits, "MAX_SECONDS", SHORT_SECONDS)
    start = time.thread_time()
    with pytest.raises(WorkbenchError, match="template"):
        TOK.render_chat(HI, template=template)
    assert time.thread_time() - start < SLOWEST


def test_hostile_templates_are_stopped_before_memory_is_gone(monkeypatch):
    monkeypatch.setattr(chat_limits, "MAX_SECONDS", SHORT_SECONDS)
    tracemalloc.start()
    try:
        for template in SPACE[:40:4] + SPACE[50:70:3]:
            with pytest.raises(WorkbenchError):
                TOK.render_chat(HI, template=template)
        assert tracemalloc.get_traced_memory()[1] < LARGEST
    finally:
        tracemalloc.stop()


def test_a_template_that_loops_for_ever_is_stopped_within_two_seconds():
    start = time.thread_time()
    with pytest.raises(UnsupportedError, match=r"line 2: the template needs .* (seconds|steps)"):
        TOK.render_chat(HI, template="\n" + TIME[0])
    assert time.thread_time() - start < SLOWEST


@pytest.mark.parametrize("template", NESTED, ids=lambda text: text[:20])
def test_deep_templates_are_refused_or_render(template):
    try:
        TOK.render_chat(HI, template=template)
    except (UnsupportedError, ParameterError) as error:
        assert "template" in str(error)


@pytest.mark.parametrize("template", FORBIDDEN)
def test_the_sandbox_lets_nothing_out(template):
    with pytest.raises(ParameterError, match=r"line 1: the template (does what|fails|misses)"):
        TOK.render_chat(HI, template=template)


def test_messages_are_copied_and_stay_as_they_are():
    messages = [{"role": "user", "content": "x"}]
    TOK.render_chat(messages, template="{% set messages = [] %}{{ messages }}")
    assert messages == [{"role": "user", "content": "x"}]


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("a\n{% if %}", r"template, line 2: not a valid jinja2 template: "),
        ("{{ 'a' | urlize }}", r"line 1: not a valid jinja2 template: No filter named 'urlize'"),
        ("\n\n{{ nothing.there }}", r"line 3: the template misses something: 'nothing' is undefin"),
        ("\n{{ raise_exception('only ' ~ 2) }}", r"line 2: the template refuses .*: only 2"),
        ("{{ 1 / 0 }}", "line 1: the template fails on these messages: division by zero"),
        ("{% include 'x' %}", "line 1: the template fails"),
        ("{{ strftime_now('%9999Y') }}", "strftime_now: expected a short format without widths"),
        ("{{ '\\ud800' }}", "not valid Unicode"),
        ("\ud800", "not valid Unicode"),
        ("x" * 70000, "more than 65,536 characters"),
        (7, "expected template .a text. or name, got int"),
    ],
)
def test_errors_are_one_sentence_with_the_line(template, error):
    with pytest.raises((ParameterError, UnsupportedError), match=error) as raised:
        TOK.render_chat(HI, template=template)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ("Hi", "messages: expected a list of mappings"),
        ({"role": "user", "content": "Hi"}, "messages: expected a list of mappings"),
        (7, "messages: expected a list of mappings"),
        (["Hi"], r"messages\[0\]: expected a mapping with role and content, got str"),
        ([{"content": "Hi"}], r"messages\[0\]: expected a role as str, got none"),
        ([{"role": 1, "content": "Hi"}], "expected a role as str, got int"),
        ([{"role": "user"}], r"messages\[0\]: expected content, got none"),
        ([{"role": "user", "content": None}], "expected content, got none"),
        ([{"role": "user", "content": 7}], "content: expected str or a list of parts"),
        ([{"role": "user", "content": [7]}], "content: expected str or a list of parts .* got int"),
        ([{"role": "user", "content": "\ud800"}], r"lone surrogate U\+D800"),
        ([{"role": "user", "content": "a", 3: 4}], "expected str as key, got int"),
        ([{"role": "user", "content": "a", "x": {1, 2}}], "got set"),
    ],
)
def test_messages_are_checked(messages, error):
    with pytest.raises(ParameterError, match=error):
        TOK.render_chat(messages, template="x")


def test_a_message_that_holds_itself_is_refused():
    message = {"role": "user", "content": "a"}
    message["me"] = message
    with pytest.raises(ParameterError, match="at most 64 levels"):
        TOK.render_chat([message], template="x")


def test_tools_and_dates_are_checked():
    with pytest.raises(ParameterError, match=r"tools\[0\]: expected a mapping .* got function"):
        TOK.render_chat(HI, template="x", tools=[test_messages_are_checked])
    with pytest.raises(ParameterError, match="tools: expected a list of mappings, got dict"):
        TOK.render_chat(HI, template="x", tools=TOOLS[0])
    with pytest.raises(ParameterError, match="now: expected a datetime, got str"):
        TOK.render_chat(HI, template="x", now="2024")
    with pytest.raises(ParameterError, match=r"variables.* got function"):
        TOK.render_chat(HI, template="x", f=test_messages_are_checked)


def with_templates(**templates):
    keys = {
        f"tokenizer.chat_template{'.' + name if name != 'default' else ''}": text
        for name, text in templates.items()
    }
    return load_tokenizer(ladder_spm() | keys)


def test_a_file_without_a_template_says_what_to_do():
    with pytest.raises(ParameterError, match=r"no chat template 'default'; .* with template="):
        TOK.render_chat(HI)


def test_named_templates_are_found():
    tok = with_templates(default="D", rag="R", tool_use="T")
    assert tok.render_chat(HI) == "D"
    assert tok.render_chat(HI, name="rag") == "R"
    assert tok.render_chat(HI, tools=TOOLS) == "T"
    assert tok.render_chat(HI, tools=TOOLS, name="default") == "D"
    with pytest.raises(ParameterError, match="no chat template 'x'; it has 'default', 'rag'"):
        tok.render_chat(HI, name="x")
    with pytest.raises(ParameterError, match=r"template .* or name, got both"):
        tok.render_chat(HI, name="rag", template="x")


def test_the_list_form_is_taken():
    entries = [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]
    tok = load_tokenizer(ladder_spm() | {"tokenizer.chat_template": entries})
    assert (tok.render_chat(HI), tok.render_chat(HI, tools=[])) == ("D", "T")
    with pytest.raises(GGUFError, match="expected entries with name and template"):
        load_tokenizer(ladder_spm() | {"tokenizer.chat_template": ["x"]})


def test_a_bad_template_of_the_file_is_the_files_fault():
    with pytest.raises(GGUFError, match=r"tokenizer\.chat_template\.x, line 1: not a valid jinja2"):
        with_templates(x="{% if %}").render_chat(HI, name="x")
    with pytest.raises(GGUFError, match=r"expected a text .* got int"):
        with_templates(default=3)


def test_special_tokens_are_defined_only_where_the_file_has_them():
    template = "{{ bos_token }}|{{ eos_token }}|{{ pad_token is defined }}|{{ documents }}"
    assert TOK.render_chat(HI, template=template) == "<s>|</s>|False|None"
    assert TOK.render_chat(HI, template=template, bos_token="B", documents=[1]).endswith("|[1]")


def test_the_date_is_todays_or_the_one_given():
    template = "{{ strftime_now('%Y-%m-%d') }}"
    assert TOK.render_chat(HI, template=template, now=TODAY) == "2024-07-26"
    assert TOK.render_chat(HI, template=template)[:2] == "20"


def test_variables_with_the_name_of_an_argument_come_in_a_mapping():
    text = "{{ name }} {{ now }} {{ mood }}"
    given = {"name": "Ada", "now": "noon", "mood": "bad"}
    assert TOK.render_chat([], template=text, variables=given, mood="good") == "Ada noon good"
    with pytest.raises(ParameterError, match=r"variables: expected a mapping .*, got int"):
        TOK.render_chat([], template=text, variables=3)
