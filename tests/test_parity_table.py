from __future__ import annotations

import sys

from scripts import parity_table


def test_a_row_for_each_variant_with_the_errors_of_three_runs(tmp_path, monkeypatch):
    for tower, name in ((parity_table.qwen, "small"), (parity_table.dinov3, "S")):
        monkeypatch.setattr(tower, "VARIANTS", {name: tower.VARIANTS[name]})
    monkeypatch.setattr(sys, "argv", ["parity_table.py", "--out", str(tmp_path / "docs" / "parity.md")])
    parity_table.main()
    rows = [line.split(" | ") for line in (tmp_path / "docs" / "parity.md").read_text().splitlines() if line.startswith(("| small", "| S"))]
    assert [row[0] for row in rows] == ["| small", "| S"]
    for row in rows:
        numbers = [float(number.strip(" |")) for number in row[1:]]
        assert len(numbers) == 6 and all(1e-9 < n < 0.2 for n in numbers) and numbers[0] < 1e-4 < numbers[3]
