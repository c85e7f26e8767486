"""What bf16 on the wire does to accuracy and to what is sent: python benchmarks/wire.py FOLDER

Two workers, the data and the job of `make demo`, two seeds, rows and gradients in fp32 and in bf16. Writes
docs/results/wire.json, which docs/performance.md shows. FOLDER keeps the runs; those that are there are not
repeated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SEEDS = (1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    if not (folder / "raw").exists():
        _call("synthesize", str(folder / "raw"), "--seed", "7")
    rows = [row for seed in SEEDS for row in (_trained(folder, seed, wire) for wire in ("fp32", "bf16"))]
    content = {
        "provenance": "benchmarks/wire.py, the job of `make demo`, two workers",
        "columns": [
            "seed, on the wire",
            "loss of the last epoch",
            "validation Recall@20",
            "test Recall@20",
            "MB a step, both workers",
        ],
        "rows": rows,
    }
    (ROOT / "docs/results/wire.json").write_text(json.dumps(content, indent=1) + "\n")


def _trained(folder: Path, seed: int, wire: str) -> list[str]:
    output = folder / f"{wire}-{seed}"
    sets = (f"data.path={folder / 'raw'}", f"output={output}", f"seed={seed}", f"training.wire={wire}")
    _call("run", str(ROOT / "jobs/demo.yaml"), *(word for text in sets for word in ("--set", text)))
    training = _facts(output / "training")
    last = training["history"][-1]
    test = _facts(output / "evaluation")["test"]["recall@20"]
    return [
        f"{seed}, {wire}",
        f"{last['loss/total']:.5f}",
        f"{training['best']:.4f}",
        f"{test:.4f}",
        f"{last['exchange/bytes'] / 1e6:.1f}",
    ]


def _facts(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "manifest.json").read_text())["facts"]
    return facts


def _call(*arguments: str) -> None:
    script = "import sys; from mmssl_dist.app import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, cwd=ROOT)  # noqa: S603


if __name__ == "__main__":
    main()
