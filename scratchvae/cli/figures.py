"""The verb `figures`: each claim measured, drawn and written down, one after the other."""

from __future__ import annotations

import argparse

from scratchvae.cli import tables
from scratchvae.cli.files import prepare_out, say_written, write_json, writing
from scratchvae.figures import FIGURES, figure_function
from scratchvae.figures.finding import finding_files, write_finding, write_index
from scratchvae.figures.setting import make_setting
from scratchvae.training.data import load_dataset

__all__ = ["figures"]


def figures(options: argparse.Namespace) -> bool:
    """Make the named figures, or all; each is written as soon as it is done."""
    if options.list:
        width = max(map(len, FIGURES))
        for name, claim in FIGURES.items():
            tables.say(f"{name:{width}}  {claim}")
        return True
    chosen = {name: figure_function(name) for name in options.names or FIGURES}
    dataset = load_dataset("digits" if options.data is None else options.data)
    setting = make_setting(dataset, options.seed, options.epochs)
    out = prepare_out(options.out, f"figures-{dataset.name}")
    records = {}
    for name, make in chosen.items():
        found = make(setting)
        picture, numbers, note = finding_files(name, out)
        with writing(note):
            records[name] = write_finding(name, setting, found, out)
        say_written(picture, numbers, note)
        tables.say(f"{name}\n\n{found.table()}\n\n{found.seen}\n")
    say_written(write_index(out))
    write_json(options.json, records)
    return True
