"""A bounded memory for work done piece by piece: most of a text is words that were there before."""

from collections.abc import Callable, Iterable
from itertools import chain

__all__ = ["PieceCache"]

MAX_PIECES = 1 << 16
MAX_CHARACTERS = 48  # longer pieces are seldom seen twice


class PieceCache(dict[str, list]):
    """piece -> what `work` makes of it, filled on first use and emptied when full."""

    def __init__(self, work: Callable[[str], list]):
        super().__init__()
        self._work = work

    def __missing__(self, piece: str) -> list:
        made = self._work(piece)
        if len(piece) <= MAX_CHARACTERS:
            if len(self) >= MAX_PIECES:
                self.clear()
            self[piece] = made
        return made

    def collect(self, pieces: Iterable[str]) -> list:
        """What `work` makes of every piece, in one list."""
        return list(chain.from_iterable(map(self.__getitem__, pieces)))
