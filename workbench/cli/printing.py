"""Tables on the terminal.

Source: our own; rich draws them. Leaves out which numbers stand in them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.markup import escape
from rich.table import Table

from .app import out

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["cell_text", "print_rows", "print_table"]


def print_table(title: str, frame: "DataFrame") -> None:
    """Print a DataFrame as a table; what is missing stays empty."""
    rows = [
        [None if gone else value for value, gone in zip(row, missing, strict=True)]
        for row, missing in zip(frame.itertuples(index=False), frame.isna().to_numpy(), strict=True)
    ]
    print_rows(title, [str(column) for column in frame.columns], rows)


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table: numbers to the right, the first column never broken, None empty."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        values = [row[i] for row in rows if row[i] is not None]
        number = bool(values) and all(isinstance(v, int | float | np.number) for v in values)
        table.add_column(
            column, justify="right" if number else "left", overflow="fold", no_wrap=i == 0
        )
    for row in rows:
        table.add_row(*("" if value is None else escape(cell_text(value)) for value in row))
    out.print(table)


def cell_text(value: object) -> str:
    """A table cell: thousands separated, four digits of a fraction."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
