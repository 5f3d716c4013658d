"""Where the curves of a run may also go: TensorBoard, when it is installed and asked for.

The run record is the truth; a sink is a view of it, written after training, so it can neither slow a run down nor
change its bits.
"""

from __future__ import annotations

from pathlib import Path

from rectest.errors import RectestError
from rectest.record import RunRecord

__all__ = ["TensorBoardSink", "open_sink"]


class TensorBoardSink:
    """Writes losses, scalars (similarity weights among them) and metrics of a record as TensorBoard events."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, record: RunRecord) -> Path:
        """Write one record into its own sub-folder, named after the spec, and return that folder."""
        from torch.utils.tensorboard import SummaryWriter

        target = self.folder / f"{record.spec.system.rpartition(':')[2]}-seed{record.spec.seed}-{record.spec.key}"
        writer = SummaryWriter(str(target))
        try:
            for key, values in sorted(record.arrays.items()):
                if key.startswith(("loss/", "counter/")):
                    for step, value in enumerate(values.tolist(), start=1):
                        writer.add_scalar(key, value, step)
                elif key.startswith("metric/valid/"):
                    for step, value in zip(record["eval/steps"].tolist(), values.tolist(), strict=True):
                        writer.add_scalar(key.removeprefix("metric/"), value, step)
        finally:
            writer.close()
        return target


def open_sink(folder: Path) -> TensorBoardSink:
    """A sink that writes below `folder`.

    Raises:
        RectestError: TensorBoard is not installed.
    """
    try:
        import tensorboard  # noqa: F401
    except ImportError as e:
        msg = "RECTEST_TENSORBOARD is set, but TensorBoard is not installed: pip install 'rectest[tensorboard]'"
        raise RectestError(msg) from e
    return TensorBoardSink(folder)
