"""What the benchmarks' pictures have in common."""

from __future__ import annotations

import textwrap

# Okabe and Ito's colours, which colour-blind readers tell apart; markers repeat the distinction for print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LETTERS_PER_INCH = 16  # of the caption


def save(figure, caption, path):
    """The figure with its caption below it, wrapped to its width."""
    columns = int(figure.get_figwidth() * _LETTERS_PER_INCH)
    caption = "\n".join(textwrap.fill(line, columns) for line in caption.splitlines())
    figure.supxlabel(caption, x=0.01, ha="left", fontsize=8, color="#333333")
    figure.savefig(path, dpi=150)
