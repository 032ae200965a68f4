"""The results of benchmarks/gpu.py: a line of records.jsonl each, on the disk as soon as it is known."""

import json
import os
from pathlib import Path
from typing import Any


def append_record(folder: Path, record: dict[str, Any]) -> None:
    """Appends a result and waits until it is on the disk."""
    with (folder / "records.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_records(folder: Path, stage: str | None = None, name: str | None = None) -> list[dict[str, Any]]:
    """The latest record of each stage and name, or of the given ones; without a line that was cut off."""
    path = folder / "records.jsonl"
    records = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if stage in (None, record["stage"]) and name in (None, record["name"]):
            records[record["stage"], record["name"]] = record
    return [*records.values()]
