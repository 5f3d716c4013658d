"""A script, not a test: RecBole's evaluator over random scores beside reading them once.

It is for an interpreter that has RecBole and need not have rectest.

`python recbole_ranks.py ROWS COLUMNS` writes the CPU seconds of both, the fastest of some rounds, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from recbole.evaluator import Collector, Evaluator

BLOCK_ROWS = 512
ROUNDS = 4
SETTINGS = {
    "metrics": ["Recall", "NDCG", "MRR"],
    "topk": [10],
    "metric_decimal_place": 4,
    "device": "cpu",
    "eval_args": {"mode": "full"},
}


# RecBole 1.2.1 asks for names that NumPy has dropped.
for name, alias in {"float": float, "float_": np.float64, "bool": bool, "int": int}.items():
    vars(np).setdefault(name, alias)


def main(num_rows: int, num_columns: int) -> None:
    torch.set_num_threads(1)
    torch.autograd.set_detect_anomaly(False)
    scores = torch.randn(num_rows, num_columns, generator=torch.Generator().manual_seed(0))
    target = torch.randint(1, num_columns, (num_rows,), generator=torch.Generator().manual_seed(1))

    def evaluate() -> None:
        collector, evaluator = Collector(SETTINGS), Evaluator(SETTINGS)
        for part, own in zip(scores.split(BLOCK_ROWS), target.split(BLOCK_ROWS), strict=True):
            collector.eval_batch_collect(part, None, torch.arange(len(own)), own)
        evaluator.evaluate(collector.get_data_struct())

    words = scores.view(-1)[: scores.numel() // 2 * 2].view(torch.int64)
    contenders: dict[str, Callable[[], object]] = {"read": words.sum, "recbole": evaluate}
    seconds = dict.fromkeys(contenders, float("inf"))
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            start = time.process_time()
            run()
            seconds[name] = min(seconds[name], time.process_time() - start)
    sys.stdout.write(json.dumps(seconds))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
