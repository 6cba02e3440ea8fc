"""The sentences of the sampling panel: its settings, its numbers, and what its buttons are for.

Leaves out: the stages' sentences, which `sampling/report.py` writes.
"""

from html import escape

from ..analysis.generated_text import GeneratedText
from ..analysis.next_token import NextToken
from ..plots.generated_text import MARKS
from ..plots.stage_strip import TEXT
from ..sampling import PARAMETERS, SamplingParams

# name, and where its slider ends unless it is set beyond
SLIDERS = {
    "temperature": 2.0, "top_k": 200, "top_p": 1.0, "min_p": 1.0, "typ_p": 1.0,
    "penalty_repeat": 2.0, "penalty_last_n": 256,
}  # fmt: skip
SMALL = f"font-size:12px;line-height:1.4;color:{TEXT}"
WRITING = (
    f'<div style="{SMALL}">Being written with the settings at its start; a control moved now '
    "counts from the next text on.</div>"
)


def settings_line(params: SamplingParams) -> str:
    """The settings of the sliders, and whatever else is not at its default, in one line."""
    shown = (*SLIDERS, "seed")
    others = [
        name
        for name, parameter in PARAMETERS.items()
        if name not in shown and getattr(params, name) != parameter.default
    ]
    return ", ".join(f"{name} {getattr(params, name):g}" for name in (*shown, *others))


def distribution_lines(result: NextToken) -> list[str]:
    """How many tokens are left, and the three most probable ones."""
    best = (
        f"{piece} {before:.3f} -> {after:.3f}"
        for piece, before, after in zip(
            result.pieces[:3], result.probs_before, result.probs_after, strict=False
        )
    )
    return [
        f"{result.n_kept} of {result.n_vocab} tokens left, entropy "
        f"{result.entropy_before:.2f} -> {result.entropy_after:.2f} nats",
        f"best: {', '.join(best)}",
    ]


def note_html(place: int, text: GeneratedText | None) -> str:
    """How the text above ended, and what the buttons below are."""
    end = ""
    if text is not None and text.n_tokens:
        mark = MARKS[text.stop] if text.stop else "stopped"
        end = f"{text.n_tokens} tokens, {mark}. Click one to see what else could stand there. "
    buttons = f"Go on at place {place} with:" if place else "Begin with:"
    return f'<div style="{SMALL}">{end}{buttons}</div>'


def start_html(text: GeneratedText, first: int) -> str:
    """What stands before the buttons of a text whose tokens from number `first` on have some."""
    before = escape(text.prompt + "".join(text.texts[:first]))
    style = f"white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.4;color:{TEXT}"
    return f'<div style="{style}">{before}</div>'
