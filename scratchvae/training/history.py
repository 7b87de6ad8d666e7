"""What happened in training, epoch by epoch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Epoch", "History"]


@dataclass(frozen=True)
class Epoch:
    """Means over one epoch's examples, in nats per example; the loss carries beta, the KL does not."""

    epoch: int
    step: int  # updates made by the end of this epoch
    beta: float  # weight of the KL term at the end of the epoch
    loss: float
    reconstruction: float
    kl: float
    validation_loss: float | None
    validation_reconstruction: float | None
    validation_kl: float | None
    seconds: float  # since training began


@dataclass
class History:
    """The record of a training run.

    Attributes
    ----------
    epochs : list of Epoch
    """

    epochs: list[Epoch] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.epochs)

    def column(self, name: str) -> list[Any]:
        """One field of every epoch, such as `loss`."""
        return [getattr(epoch, name) for epoch in self.epochs]

    def to_records(self) -> list[dict[str, Any]]:
        """One plain dict per epoch, for JSON."""
        return [asdict(epoch) for epoch in self.epochs]

    @classmethod
    def from_records(cls, records: list[dict[str, Any]]) -> History:
        """The inverse of `to_records`; a ValueError if a record has other fields."""
        try:
            return cls([Epoch(**record) for record in records])
        except TypeError as error:
            raise ValueError(f"not a history: {error}") from None

    def plot(self, axes: Any = None) -> Any:
        """Draw loss, reconstruction and KL against the epoch.

        Parameters
        ----------
        axes : sequence of two matplotlib Axes, optional
            The first gets the loss and its reconstruction part, the second the KL; new ones if not given.

        Returns
        -------
        the two Axes
        """
        if axes is None:
            from matplotlib import pyplot as plt

            _, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
        epochs = self.column("epoch")
        validated = bool(self.epochs) and self.epochs[0].validation_loss is not None
        # Colours are Okabe and Ito's, told apart by colour-blind readers; line styles repeat the distinction.
        curves = [(0, "loss", "#0072B2", 1), (0, "reconstruction", "#D55E00", -1), (1, "kl", "#009E73", 1)]
        for panel, name, colour, sign in curves:
            label = "−log p(x|z)" if name == "reconstruction" else name.replace("kl", "KL to the prior")
            values = [sign * value for value in self.column(name)]
            axes[panel].plot(epochs, values, color=colour, label=f"{label}, training")
            if validated:
                values = [sign * value for value in self.column(f"validation_{name}")]
                axes[panel].plot(epochs, values, "--", color=colour, label=f"{label}, validation")
        for panel in axes:
            panel.set_xlabel("epoch")
            panel.set_ylabel("nats per example")
            panel.legend()
        return axes
