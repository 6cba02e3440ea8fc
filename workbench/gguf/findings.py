"""What validation says: a finding, the report that gathers them, and the list that collects them.

    rule       severity  byte  place   sentence            source
    key-empty  error     24    key ''  the key has no …   gguf.cpp, gguf_init_from_reader

Source: our own. Left out: the rules themselves: `rules.py` names them, `walk.py` and
`rules_*.py` apply them.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .rules import RULES

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Finding", "Findings", "ValidationReport"]

LISTED = 100  # findings of one rule that are kept, the rest is counted: hostile files make millions
SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing a rule has to say about one place of the file."""

    rule: str
    severity: str  # "error", "warning" or "note"
    offset: int  # absolute byte in the file
    place: str  # "header", "key 'general.alignment'", "tensor 'output.weight'"
    message: str
    source: str

    @property
    def text(self) -> str:
        """Place and message in one line."""
        return f"{self.place}: {self.message}"


@dataclass(frozen=True)
class ValidationReport:
    """All findings about a file under one profile, in the order of the file; a sequence of them."""

    path: str
    profile: str  # "spec" or "llama.cpp"
    findings: tuple[Finding, ...]
    complete: bool  # False if damage ended the walk before the last tensor info
    data_bytes: int = 0  # tensor data looked at
    seconds: float = 0.0  # that this took

    def __len__(self) -> int:
        return len(self.findings)

    def __getitem__(self, index: int) -> Finding:
        return self.findings[index]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    @property
    def accepted(self) -> bool:
        """Whether nothing found is an error under this profile."""
        return not any(finding.severity == "error" for finding in self.findings)

    def count(self, severity: str) -> int:
        """Number of findings of a severity: "error", "warning" or "note"."""
        return sum(finding.severity == severity for finding in self.findings)

    def to_frame(self) -> "DataFrame":
        """A row a finding: rule, severity, offset, place, message, source."""
        from pandas import DataFrame  # here, so that `import workbench` stays light

        columns = ["rule", "severity", "offset", "place", "message", "source"]
        return DataFrame([vars(finding) for finding in self.findings], columns=columns)

    def __repr__(self) -> str:
        verdict = "accepted" if self.accepted else "rejected"
        counts = ", ".join(f"{self.count(severity)} {severity}s" for severity in SEVERITIES)
        lines = [f"{self.path}: {verdict} under the profile {self.profile}; {counts}"]
        lines += [
            f"  {finding.severity:7} byte {finding.offset}, {finding.place}: {finding.message} "
            f"[{finding.rule}; {finding.source}]"
            for finding in self.findings
        ]
        return "\n".join(lines)


class Findings:
    """Collects what the rules say, at the severities of a profile, so many a rule and no more."""

    def __init__(self, profile: str):
        self.profile = profile
        self.items: list[Finding] = []
        self.seen: Counter[str] = Counter()

    def add(self, rule: str, offset: int, place: str, message: str) -> None:
        """Keep a finding, unless the rule is silent in this profile or has said enough."""
        severity = RULES[rule].severity(self.profile)
        if severity is None:
            return
        self.seen[rule] += 1
        if self.seen[rule] <= LISTED:
            self.items.append(Finding(rule, severity, offset, place, message, RULES[rule].source))

    def all(self) -> tuple[Finding, ...]:
        """The findings by byte offset, and a note for each rule that had more than are listed."""
        more = [
            Finding(rule, "note", 0, "file", f"{n - LISTED} more findings of this rule", "")
            for rule, n in self.seen.items()
            if n > LISTED
        ]
        return (*sorted(self.items, key=lambda finding: finding.offset), *more)
