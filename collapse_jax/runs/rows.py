"""metrics.jsonl and metrics.csv: the records of a run, one row at a time."""

import csv
import pathlib
from collections.abc import Iterable, Iterator, Sequence

from collapse_jax.runs import strict_json


def write_rows(records: pathlib.Path, table: pathlib.Path, rows: Iterable[dict]) -> None:
    """Writes rows to a file of JSON lines and to one of comma-separated values.

    Args:
        records: The file of JSON lines.
        table: The other one; a row has nothing where it lacks a column.
        rows: A list, or an iterator over rows that all have the names of the first.
    """
    several = isinstance(rows, list)
    columns = list(dict.fromkeys(name for row in rows for name in row)) if several else None
    with (
        open(records, "w", encoding="utf-8") as lines,
        open(table, "w", encoding="utf-8", newline="") as cells,
    ):
        writer = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(cells, columns or list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)
            lines.write(strict_json.dumps(row) + "\n")
        if writer is None:  # no rows
            cells.write("\n")


def read_rows(records: pathlib.Path, needed: Sequence[str]) -> Iterator[dict]:
    """The rows of a file of JSON lines, each as it is read.

    Args:
        records: The file.
        needed: Names of numbers that every row must have.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: For what is not JSON, or not such a row; the text names the line.
    """
    with open(records, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            row = strict_json.loads(line)
            if not _is_record(row, needed):
                names = ", ".join(needed) or "generation or step"
                raise ValueError(
                    f"line {number} is not a record, an object with the numbers {names}"
                )
            yield row


def _is_record(row, needed):
    if not isinstance(row, dict) or not ("generation" in row or "step" in row):
        return False
    counts = [row[name] for name in ("chain", "generation", "step") if name in row]
    numbers = [row.get(name) for name in needed]
    return all(type(count) is int and count >= 0 for count in counts) and all(
        type(number) in (int, float) for number in numbers
    )
