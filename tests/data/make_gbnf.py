"""Which tokens llama.cpp's grammar sampler allows, on random walks: writes gbnf.json beside itself.

Run from the repository root: python tests/data/make_gbnf.py
Origin: llama-cpp-python 0.3.36 and the vocabulary of the built-in model, data/stories-7m-f16.gguf.
Left out: masks of more than MOST_TOKENS tokens, where a walk ends.
"""

import ctypes
import json
import random
from pathlib import Path

import llama_cpp

N_WALKS, N_STEPS, MOST_TOKENS, END = 3, 8, 60, 1
GRAMMARS = (
    'root ::= "yes" | "no"',
    'root ::= [ab]+ "a" " "?',
    'root ::= ("ha" " "?)+ "."',
    'root ::= ("ab" "x") | ([a] [b] "y")',
    'root ::= item{2,3} "!"\nitem ::= "a" | "bc" item?',
    'root  ::= object # a comment\nvalue ::= object | "1"\n'
    'object ::= "{" ( "\\"k\\":" value ("," "\\"k\\":" value)* )? "}"',
    'root ::= "\\u00e9" [\\u00e0-\\u00ff]* "\\x41" "\\U0001F600"',
    'root ::= ( | "a") "b"\n',
    'root ::= a-b\na-b ::= "x" |\n  "y"',
    "root ::= [-a] [a-]+ [\\]\\[] [a\\-z]",
    'root ::= "a"{2} "b"{2,} "c"{0} "d"{ 1 , 2 }',
    'root ::= ("a"?)* ""',
    'root ::= "it\'s /slash/ \\\\ [x] \\t\\n"',
    'root ::= x\nx ::= "a"\nx ::= "b"',
    'root ::= "a" | | "b"',
    'root ::= ("a" | "b"\n "c") "d"\n\nfoo ::= "c"',
    'root ::= [x-z0-2_]{1,5} ("," [0-9])?',
    'root::= "x" root | "y"++ "z"? "w"',
)
REFUSED = (
    'root = "a"',
    'root ::= "a"{,2}',
    "root ::= foo",
    'root ::= _x\n_x ::= "a"',
    'root ::= "a"\n | "b"',
    'root ::= "\\q"',
    "root ::= 'a'",
    'foo ::= "a"',
    'root ::= ("a"',
    'root ::= "a" )',
    'root ::= "a',
    "root ::= [a",
    "root ::= *",
)


def allowed(vocab, sampler) -> list[int]:
    """Ids of the tokens that the grammar lets pass."""
    n = llama_cpp.llama_vocab_n_tokens(vocab)
    data = (llama_cpp.llama_token_data * n)(*[(i, 0.0, 0.0) for i in range(n)])
    array = llama_cpp.llama_token_data_array(data, n, -1, False)
    llama_cpp.llama_sampler_apply(sampler, ctypes.byref(array))
    return [entry.id for entry in data if entry.logit == 0.0]


def walk(vocab, sampler, rng) -> list[list]:
    """[allowed ids, the one taken] a step."""
    steps = []
    for _ in range(N_STEPS):
        ids = allowed(vocab, sampler)
        texts = [i for i in ids if i != END]
        if len(ids) > MOST_TOKENS:
            break
        taken = rng.choice(texts) if texts else END
        steps.append([ids, taken])
        if taken == END:
            break
        llama_cpp.llama_sampler_accept(sampler, taken)
    return steps


def main() -> None:
    path = Path("data/stories-7m-f16.gguf")
    settings = llama_cpp.llama_model_default_params()
    settings.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), settings)
    vocab, rng, walks = llama_cpp.llama_model_get_vocab(model), random.Random(0), {}
    for grammar in GRAMMARS:
        walks[grammar] = []
        for _ in range(N_WALKS):
            sampler = llama_cpp.llama_sampler_init_grammar(vocab, grammar.encode(), b"root")
            walks[grammar].append(walk(vocab, sampler, rng))
    for grammar in REFUSED:
        assert not llama_cpp.llama_sampler_init_grammar(vocab, grammar.encode(), b"root"), grammar
    out = {"source": f"llama-cpp-python {llama_cpp.__version__}", "walks": walks}
    out["refused"] = list(REFUSED)
    Path(__file__).with_name("gbnf.json").write_text(json.dumps(out))


if __name__ == "__main__":
    main()
