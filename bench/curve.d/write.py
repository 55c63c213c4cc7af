# SPDX-License-Identifier: MIT
"""Writes results as JSON and CSV, and reads them back."""
import csv
import io
import json
from dataclasses import fields

from points import COUNTERS, BadResults, Name, Point, parse_benchmark_json

FORMAT = "faultlane-curve 1"
NAME_FIELDS = tuple(f.name for f in fields(Name))
CSV_COLUMNS = (*NAME_FIELDS, "repetition", *COUNTERS)


def to_json(conditions: dict, points: "list[Point]", failures: "list[Point]",
            fits: "list[dict]") -> str:
    return json.dumps({
        "format": FORMAT,
        "conditions": conditions,
        "points": [p.row() for p in points],
        "failures": [{**p.row(), "error": p.error} for p in failures],
        "fits": fits,
    }, indent=1, ensure_ascii=False) + "\n"


def to_csv(points: "list[Point]") -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, restval="", extrasaction="ignore",
                            lineterminator="\n")
    writer.writeheader()
    for point in points:
        writer.writerow(point.row())
    return out.getvalue()


def conditions_of(context: dict) -> dict:
    """Google Benchmark's description of the machine, as far as available."""
    return {"machine": {"processors": context.get("num_cpus", 0), "model": "", "kernel": ""},
            "date": str(context.get("date", ""))[:10]}


def from_file(path: str) -> "tuple[dict, list[Point], list[Point]]":
    """Reads conditions, points and failures from bench/curve's or Google Benchmark's file."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        data = json.loads(text)
    except (OSError, ValueError) as error:
        raise BadResults(f"{path}: {error}") from None
    if isinstance(data, dict) and "benchmarks" in data:
        context, points = parse_benchmark_json(text)
        return (conditions_of(context), [p for p in points if not p.error],
                [p for p in points if p.error])
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BadResults(f"{path}: neither curve.json of bench/curve ('{FORMAT}') nor what "
                         "Google Benchmark writes by --benchmark_out")
    return (data.get("conditions", {}), [point_of(row) for row in data["points"]],
            [point_of(row) for row in data.get("failures", [])])


def point_of(row: dict) -> Point:
    name = Name(*(row[key] for key in NAME_FIELDS))
    counters = {key: value for key, value in row.items()
                if key not in NAME_FIELDS and key not in ("repetition", "error")}
    return Point(name, row["repetition"], counters, row.get("error", ""))
