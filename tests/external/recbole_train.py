"""RecBole's own quick start: SASRec on the MovieLens-100K that its wheel brings, on the CPU, made small.

It runs in RecBole's environment and knows nothing of rectest. RecBole reads ``--epochs=1`` and the like from the
command line itself.
"""

import os

from recbole.quick_start import run_recbole

# torch 2.6 loads weights only unless told otherwise, and RecBole's checkpoints hold its whole configuration
os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")

run_recbole(
    model="SASRec",
    dataset="ml-100k",
    config_dict={
        "use_gpu": False,
        "seed": 2020,
        "reproducibility": True,
        "show_progress": False,
        "loss_type": "BPR",  # with negatives, one a positive
        "epochs": 2,
        "user_inter_num_interval": "[20,30]",
        "MAX_ITEM_LIST_LENGTH": 20,
        "hidden_size": 32,
        "inner_size": 64,
        "train_batch_size": 512,
    },
)
