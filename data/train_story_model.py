"""Train the built-in story-teller from a folder of text and write it as GGUF.

    python data/train_story_model.py CORPUS WORK                 all stages, one after the other
    python data/train_story_model.py CORPUS WORK --stage teach   one stage; its files stay in WORK

Stages (their order is the recipe, `README.md` beside this file tells why):
  prepare   CORPUS/*.txt(.xz) -> tokenizer.json and token ids, NumPy, in WORK
  teach     a few larger models, strongly regularised: children's books first, then the stories
  imagine   new stories sampled from the teachers
  distil    the small model learns the teachers' mean distribution on all three kinds of text
  export    student.npz -> GGUF through workbench.write_gguf

Needs `pip install torch tokenizers`, and a CUDA GPU for teach, imagine and distil. Left out on
purpose: several GPUs, resuming, logging services.
"""

import argparse
import json
import lzma
import math
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"
BOS_ID, EOS_ID = 0, 1
N_VOCAB = 4096
# The pre-tokenizer that llama.cpp calls "llama-bpe" (Llama 3's published regular expression).
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# UTF-8 read as Windows-1252; the closing quote lost its last byte, which that code page lacks.
MOJIBAKE = {
    "â€œ": "“", "â€™": "’", "â€˜": "‘", "â€“": "–", "â€”": "—", "â€¦": "…", "â€Š": " ", "â€": "”",
}  # fmt: skip
STRAIGHT = str.maketrans("“”‘’", "\"\"''")


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama-architecture model."""

    n_layer: int = 8
    n_embd: int = 256
    n_ff: int = 768
    n_head: int = 8
    n_head_kv: int = 4
    n_vocab: int = N_VOCAB
    n_ctx: int = 1024
    rope_base: float = 10000.0
    norm_eps: float = 1e-5


@dataclass(frozen=True)
class Plan:
    """How one model is trained; shares are of the windows in a batch."""

    seconds: float  # wall clock: the schedule runs on it
    lr: float
    weight_decay: float
    dropout: float
    stories: tuple[float, float]  # share of story windows until `ramp_from`, and at the end
    imagined: tuple[float, float] = (0.0, 0.0)  # the same of imagined stories; books fill the rest
    ramp_from: float = 0.5  # part of the schedule
    n_batch: int = 64
    n_window: int = 512


STUDENT = Shape()
TEACHER = Shape(n_layer=8, n_embd=512, n_ff=1536, n_head=8, n_head_kv=8)
TEACH = Plan(110, 1.5e-3, 0.2, 0.22, stories=(0.05, 0.45))
DISTIL = Plan(330, 3e-3, 0.05, 0.0, stories=(0.05, 0.15), imagined=(0.4, 0.8))
N_TEACHERS = 3
N_IMAGINED = 32768  # rows of 512 tokens


# --- prepare: text -> token ids -----------------------------------------------------------------


def read_text(folder: Path, name: str) -> str:
    """Return CORPUS/name.txt or .txt.xz with its mojibake repaired."""
    path = folder / f"{name}.txt"
    raw = path.read_bytes() if path.exists() else lzma.open(f"{path}.xz").read()
    text = raw.decode("utf-8")
    for wrong, right in MOJIBAKE.items():
        text = text.replace(wrong, right)
    return text


def split_books(text: str, seed: int = 0) -> list[str]:
    """Cut at the blank lines between books; most get straight quotes, as the stories have."""
    rng = random.Random(seed)
    books = [b.strip() for b in re.split(r"\n{3,}", text)]
    return [b.translate(STRAIGHT) if rng.random() < 0.85 else b for b in books if b]


def train_tokenizer(texts: list[str]):
    """Byte-level BPE of N_VOCAB tokens, the two special tokens first."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=N_VOCAB, special_tokens=[BOS, EOS], initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def prepare(corpus: Path, work: Path) -> None:
    """Write tokenizer.json and the token ids of books, stories and validation text."""
    books = split_books(read_text(corpus, "gutenberg_children"))
    stories = [s.strip() for s in read_text(corpus, "tinystories_train").split("<|endoftext|>")]
    stories = [s for s in stories if s]
    val = read_text(corpus, "tinystories_val")
    tokenizer = train_tokenizer(stories * 4 + [b[:60_000] for b in books])
    tokenizer.save(str(work / "tokenizer.json"))

    def encode(texts: list[str]) -> list[np.ndarray]:
        batch = tokenizer.encode_batch(texts, add_special_tokens=False)
        return [np.array(e.ids, np.uint16) for e in batch]

    np.save(work / "books.npy", flat([[BOS_ID, *ids, EOS_ID] for ids in encode(books)]))
    alone, joined = encode(stories), encode([s + "\n\n" for s in stories])
    np.savez(work / "stories.npz", alone=flat(alone), joined=flat(joined),
             n_alone=[len(s) for s in alone], n_joined=[len(s) for s in joined])  # fmt: skip
    np.savez(work / "val.npz", ids=encode([val])[0], n_chars=len(val))


def flat(parts: list) -> np.ndarray:
    """Join lists of token ids into one uint16 array."""
    return np.concatenate([np.asarray(part, np.uint16) for part in parts])


def shuffled_stream(work: Path, n_epochs: int, seed: int) -> np.ndarray:
    """Stories in `n_epochs` random orders, as one stream of ids.

    Two in three end with EOS and BOS; the others are joined by an empty line, as in a plain text
    file of stories, so that the model expects both.
    """
    rng = np.random.default_rng(seed)
    data = np.load(work / "stories.npz")
    alone = np.split(data["alone"], np.cumsum(data["n_alone"])[:-1])
    joined = np.split(data["joined"], np.cumsum(data["n_joined"])[:-1])
    border = np.array([EOS_ID, BOS_ID], np.uint16)
    parts = []
    for _ in range(n_epochs):
        for i in rng.permutation(len(alone)):
            parts += [alone[i], border] if rng.random() < 2 / 3 else [joined[i]]
    return np.concatenate(parts)


# --- the model ----------------------------------------------------------------------------------


def build_model(shape: Shape, dropout: float):
    """A Llama in PyTorch whose parameter names are the GGUF tensor names (dots as underscores)."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    head_dim = shape.n_embd // shape.n_head

    def rope_table(n: int, device) -> tuple[torch.Tensor, torch.Tensor]:
        pair = torch.arange(0, head_dim, 2, device=device) / head_dim
        angle = torch.arange(n, device=device)[:, None] * shape.rope_base**-pair
        return angle.cos(), angle.sin()

    def rotate(x, cos, sin):  # (B, H, T, D), neighbouring pairs as GGUF's llama has them
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            e, f, kv = shape.n_embd, shape.n_ff, shape.n_head_kv * head_dim
            self.attn_norm, self.ffn_norm = (
                nn.RMSNorm(e, shape.norm_eps),
                nn.RMSNorm(e, shape.norm_eps),
            )
            self.attn_q, self.attn_output = nn.Linear(e, e, bias=False), nn.Linear(e, e, bias=False)
            self.attn_k, self.attn_v = nn.Linear(e, kv, bias=False), nn.Linear(e, kv, bias=False)
            self.ffn_gate, self.ffn_up = nn.Linear(e, f, bias=False), nn.Linear(e, f, bias=False)
            self.ffn_down = nn.Linear(f, e, bias=False)

        def forward(self, x, cos, sin, past=None):
            y = self.attn_norm(x)
            heads = lambda t, n: t.unflatten(-1, (n, head_dim)).transpose(1, 2)  # noqa: E731
            q = rotate(heads(self.attn_q(y), shape.n_head), cos, sin)
            k = rotate(heads(self.attn_k(y), shape.n_head_kv), cos, sin)
            v = heads(self.attn_v(y), shape.n_head_kv)
            if past is not None:
                k, v = past.append(self, k, v)
            gqa = shape.n_head != shape.n_head_kv
            y = F.scaled_dot_product_attention(q, k, v, is_causal=past is None, enable_gqa=gqa)
            x = x + F.dropout(
                self.attn_output(y.transpose(1, 2).flatten(-2)), dropout, self.training
            )
            y = self.ffn_norm(x)
            y = self.ffn_down(F.silu(self.ffn_gate(y)) * self.ffn_up(y))
            return x + F.dropout(y, dropout, self.training)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.token_embd = nn.Embedding(shape.n_vocab, shape.n_embd)
            self.blk = nn.ModuleList(Layer() for _ in range(shape.n_layer))
            self.output_norm = nn.RMSNorm(shape.n_embd, shape.norm_eps)
            for name, p in self.named_parameters():
                if p.ndim == 2:
                    out = name.endswith(("attn_output.weight", "ffn_down.weight"))
                    nn.init.normal_(p, std=0.02 / (math.sqrt(2 * shape.n_layer) if out else 1))

        def forward(self, ids, past=None):
            start = past.n if past is not None else 0
            cos, sin = (t[start:] for t in rope_table(start + ids.shape[1], ids.device))
            x = F.dropout(self.token_embd(ids), dropout, self.training)
            for layer in self.blk:
                x = layer(x, cos, sin, past)
            return F.linear(self.output_norm(x), self.token_embd.weight)

    return Model().cuda()


class Past:
    """Keys and values of the tokens sampled so far."""

    def __init__(self, n_ctx: int):
        self.n, self.n_ctx, self.kv = 0, n_ctx, {}

    def append(self, layer, k, v):
        """Store one position of a layer and return all of them."""
        if layer not in self.kv:
            full = (*k.shape[:2], self.n_ctx, k.shape[3])
            self.kv[layer] = k.new_empty(full), v.new_empty(full)
        keys, values = self.kv[layer]
        keys[:, :, self.n], values[:, :, self.n] = k[:, :, 0], v[:, :, 0]
        return keys[:, :, : self.n + 1], values[:, :, : self.n + 1]


# --- training -----------------------------------------------------------------------------------


def load_streams(work: Path, seed: int, imagined: bool) -> dict:
    """Token streams on the GPU, by name."""
    import torch

    streams = {"books": np.load(work / "books.npy"), "stories": shuffled_stream(work, 12, seed)}
    if imagined:
        streams["imagined"] = np.load(work / "imagined.npy")
    return {k: torch.from_numpy(v.astype(np.int32)).cuda() for k, v in streams.items()}


def draw(streams: dict, shares: dict, plan: Plan):
    """A batch of random windows, (n_batch, n_window + 1) ids."""
    import torch

    rows, left = [], plan.n_batch
    for name, share in shares.items():
        n = min(left, round(share * plan.n_batch)) if name != "books" else left
        left -= n
        start = torch.randint(len(streams[name]) - plan.n_window - 1, (n, 1), device="cuda")
        rows.append(streams[name][start + torch.arange(plan.n_window + 1, device="cuda")])
    return torch.cat(rows).long()


def shares_at(plan: Plan, t: float) -> dict:
    """Shares of stories, imagined stories and books (the rest) at time t of 0..1."""
    ramp = max(0.0, (t - plan.ramp_from) / (1 - plan.ramp_from))
    mix = lambda ends: ends[0] + (ends[1] - ends[0]) * ramp  # noqa: E731
    shares = {"stories": mix(plan.stories), "imagined": mix(plan.imagined)}
    return {**{name: share for name, share in shares.items() if share}, "books": 0.0}


def nats_per_char(model, work: Path, n_ctx: int = 512) -> float:
    """Validation loss: windows of n_ctx overlapping by half, every token scored once."""
    import torch
    import torch.nn.functional as F

    val = np.load(work / "val.npz")
    ids = torch.from_numpy(np.concatenate([[BOS_ID], val["ids"]]).astype(np.int64)).cuda()
    half = n_ctx // 2
    n = (len(ids) - 1) // half - 1
    start = torch.arange(n, device="cuda")[:, None] * half
    windows = ids[start + torch.arange(n_ctx + 1, device="cuda")]
    total, count = 0.0, 0
    was_training = model.training
    model.eval()
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        for i, rows in enumerate(windows.split(64)):
            loss = F.cross_entropy(
                model(rows[:, :-1]).float().flatten(0, 1), rows[:, 1:].flatten(), reduction="none"
            ).view(len(rows), n_ctx)
            total += loss[:, half:].sum().item() + (loss[0, :half].sum().item() if i == 0 else 0)
            count += len(rows) * half + (half if i == 0 else 0)
    model.train(was_training)
    tokens_per_char = len(val["ids"]) / float(val["n_chars"])
    return total / count * tokens_per_char


def fit(model, plan: Plan, work: Path, seed: int, teachers=(), label: str = "") -> float:
    """Train `model` in place on the clock; return its best validation loss (weights restored)."""
    import torch
    import torch.nn.functional as F

    torch.manual_seed(seed)
    streams = load_streams(work, seed, plan.imagined[1] > 0)
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": plan.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    opt = torch.optim.AdamW(groups, plan.lr, (0.9, 0.95), fused=True)
    compiled = torch.compile(model)
    best, best_state, step, tokens = math.inf, None, 0, 0
    start, next_eval = None, 0.3
    while True:
        t = 0.0 if start is None else (time.perf_counter() - start) / plan.seconds
        if t >= 1:
            break
        warm = min(1.0, (step + 1) / 300)
        for g in opt.param_groups:
            g["lr"] = plan.lr * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * t)))
        ids = draw(streams, shares_at(plan, t), plan)
        with torch.autocast("cuda", torch.bfloat16):
            logits = compiled(ids[:, :-1])
            if teachers:
                with torch.no_grad():
                    target = mean_distribution(teachers, ids[:, :-1])
                loss = -(target * F.log_softmax(logits.float(), -1)).sum(-1).mean()
            else:
                loss = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        step, tokens = step + 1, tokens + ids.shape[0] * plan.n_window
        if start is None and step == 10:
            torch.cuda.synchronize()
            start, tokens = time.perf_counter(), 0  # compilation is not training
        if step % 20 == 0:
            torch.cuda.synchronize()
        if t >= next_eval:
            next_eval += 0.1 if t < 0.8 else 0.04
            loss_val = nats_per_char(model, work)
            rate = tokens / (time.perf_counter() - start) / 1e6
            print(
                f"{label} t {t:.2f} step {step} train {loss.item():.3f} "
                f"val {loss_val:.4f} nats/char {rate:.2f} Mtok/s",
                flush=True,
            )
            if loss_val < best:
                best = loss_val
                best_state = {k: v.detach().clone() for k, v in model.state_dict().items()}
    final = nats_per_char(model, work)
    print(
        f"{label} final {final:.4f} best {min(best, final):.4f} tokens {tokens / 1e6:.0f}M",
        flush=True,
    )
    if best < final:
        model.load_state_dict(best_state)
    return min(best, final)


def mean_distribution(teachers, ids):
    """Mean of the teachers' next-token probabilities, (B, T, V)."""
    return sum(teacher(ids).float().softmax(-1) for teacher in teachers) / len(teachers)


# --- stages -------------------------------------------------------------------------------------


def teach(work: Path) -> None:
    """Train the teachers, each with its own seed."""
    import torch

    for seed in range(N_TEACHERS):
        torch.manual_seed(seed)
        model = build_model(TEACHER, TEACH.dropout)
        fit(model, TEACH, work, seed, label=f"teacher {seed}")
        torch.save(model.state_dict(), work / f"teacher-{seed}.pt")


def load_teachers(work: Path) -> list:
    """The trained teachers, frozen, in bfloat16."""
    import torch

    teachers = []
    for path in sorted(work.glob("teacher-*.pt")):
        model = build_model(TEACHER, 0.0)
        model.load_state_dict(torch.load(path))
        teachers.append(model.eval().bfloat16().requires_grad_(False))
    return teachers


def imagine(work: Path) -> None:
    """Sample new stories from BOS at temperature 1; the teachers take turns."""
    import torch

    teachers, parts, n_batch, n_tokens = load_teachers(work), [], 4096, 512
    torch.manual_seed(1234)
    for turn in range(math.ceil(N_IMAGINED / n_batch)):
        teacher, past = teachers[turn % len(teachers)], Past(n_tokens)
        ids = torch.full((n_batch, 1), BOS_ID, device="cuda")
        out = [ids]
        with torch.no_grad():
            for past.n in range(n_tokens - 1):
                logits = teacher(out[-1], past)[:, -1].float()
                out.append(torch.multinomial(logits.softmax(-1), 1))
        parts += [cut_story(row) for row in torch.cat(out, 1).cpu().numpy().astype(np.uint16)]
        print(f"imagined {sum(map(len, parts)) / 1e6:.1f}M tokens", flush=True)
    np.save(work / "imagined.npy", np.concatenate(parts))


def cut_story(row: np.ndarray) -> np.ndarray:
    """Keep a row up to and with its last EOS, so that only whole stories follow each other."""
    ends = np.flatnonzero(row == EOS_ID)
    return row[: ends[-1] + 1] if len(ends) else row


def distil(work: Path) -> None:
    """Train the student on the teachers' mean distribution and save its weights as float16."""
    import torch

    teachers = load_teachers(work)
    torch.manual_seed(7)
    model = build_model(STUDENT, DISTIL.dropout)
    best = fit(model, DISTIL, work, 7, [torch.compile(t) for t in teachers], label="student")
    state = {k: v.float().cpu().numpy().astype(np.float16) for k, v in model.state_dict().items()}
    np.savez(work / "student.npz", **state)
    (work / "student.json").write_text(json.dumps({"val_nats_per_char": best}))


def export(work: Path, out: Path) -> None:
    """Write student.npz and tokenizer.json as a GGUF file that llama.cpp reads."""
    import workbench as wb

    shape, weights = STUDENT, np.load(work / "student.npz")
    vocab = json.loads((work / "tokenizer.json").read_text())["model"]
    tokens = sorted(vocab["vocab"], key=vocab["vocab"].get)
    merges = [m if isinstance(m, str) else " ".join(m) for m in vocab["merges"]]
    head_dim = shape.n_embd // shape.n_head
    metadata = {
        "general.architecture": "llama",
        "general.name": "Stories 7M",
        "general.author": "GGUF Research Workbench",
        "general.license": "mit",
        "general.description": "A story-teller for the GGUF Research Workbench, trained on "
        "public-domain children's books and TinyStories.",
        "general.file_type": 1,  # mostly F16
        "llama.block_count": shape.n_layer,
        "llama.context_length": shape.n_ctx,
        "llama.embedding_length": shape.n_embd,
        "llama.feed_forward_length": shape.n_ff,
        "llama.attention.head_count": shape.n_head,
        "llama.attention.head_count_kv": shape.n_head_kv,
        "llama.attention.layer_norm_rms_epsilon": shape.norm_eps,
        "llama.rope.dimension_count": head_dim,
        "llama.rope.freq_base": shape.rope_base,
        "llama.vocab_size": shape.n_vocab,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([3, 3] + [1] * (len(tokens) - 2), np.int32),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": BOS_ID,
        "tokenizer.ggml.eos_token_id": EOS_ID,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
    }
    tensors = {
        name: w if w.ndim == 2 else w.astype(np.float32)  # llama.cpp wants norms in F32
        for name, w in weights.items()
    }
    wb.write_gguf(out, metadata, tensors)


def main() -> None:
    """Run the stages named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus", type=Path, help="folder with the .txt or .txt.xz files")
    parser.add_argument("work", type=Path, help="folder for what the stages make")
    parser.add_argument("--stage", choices=["prepare", "teach", "imagine", "distil", "export"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "stories-7m-f16.gguf")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    stages = {
        "prepare": lambda: prepare(args.corpus, args.work),
        "teach": lambda: teach(args.work),
        "imagine": lambda: imagine(args.work),
        "distil": lambda: distil(args.work),
        "export": lambda: export(args.work, args.out),
    }
    for name, run in stages.items():
        if args.stage in (None, name):
            run()


if __name__ == "__main__":
    main()
