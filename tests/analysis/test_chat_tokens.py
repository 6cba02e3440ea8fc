"""A rendered conversation as tokens, and its HTML."""

from tests.tokenizer.vocabularies import ladder_spm, pairs_bpe
from workbench import load_tokenizer
from workbench.analysis import chat_tokens
from workbench.plots import chat_tokens_html

LADDER = load_tokenizer(ladder_spm())
PAIRS = load_tokenizer(pairs_bpe("qwen2"))
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }}\n{{ m.content }}{{ eos_token }}{% endfor %}"
)
TALK = [{"role": "user", "content": "ab <b>é"}]


def test_tokens_are_those_of_encode_and_know_what_is_special():
    text = LADDER.render_chat(TALK, template=TEMPLATE)
    made = chat_tokens(LADDER, text)
    assert made.ids == LADDER.encode(text, add_special=False, parse_special=True)
    special = [token.piece for token in made.tokens if token.special]
    assert special == [b"<s>", b"</s>"] and made.n_special == 2
    assert all(text[t.start : t.end] == t.text for t in made.tokens if t.special)
    assert len(made.to_frame()) == len(made.tokens)


def test_bos_is_counted():
    notes = {
        "<s>ab": "the template writes BOS; encode(add_special=True) would add a second one",
        "ab": "the template writes no BOS, but the tokenizer adds one to other texts",
        "<s><s>ab": "2 BOS tokens are in front; expected one at most",
    }
    assert {text: chat_tokens(LADDER, text).bos_note for text in notes} == notes
    assert chat_tokens(PAIRS, "a").bos_note.startswith("no BOS, neither")
    assert chat_tokens(PAIRS, "<s>a").bos_note.endswith("the tokenizer alone would not add")
    assert chat_tokens(LADDER, "").n_bos == 0


def test_parts_of_a_character_are_shown_as_escapes():
    made = chat_tokens(PAIRS, "👍")
    assert [token.text for token in made.tokens] == ["\\xf0", "\\x9f", "\\x91", "\\x8d"]


def test_html_escapes_the_text_and_colours_special_tokens():
    text = LADDER.render_chat(TALK, template=TEMPLATE)
    html = chat_tokens_html(chat_tokens(LADDER, text))
    assert "&lt;s&gt;" in html and "<s>" not in html and "<b>" not in html
    assert html.count(', special"') == 2 and html.count("#e69f00") == 3  # with the legend
    assert "2 special" in html and "↵" in html
