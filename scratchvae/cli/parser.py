"""The command line's grammar. Imports nothing heavy, so that `--help` answers at once."""

from __future__ import annotations

import argparse
from pathlib import Path

from scratchvae import __version__
from scratchvae.cli.one_line_parser import OneLineParser
from scratchvae.cli.values import file as _file
from scratchvae.cli.values import index as _index
from scratchvae.cli.values import names as _names
from scratchvae.cli.values import number as _number
from scratchvae.cli.values import positive as _positive
from scratchvae.cli.values import seeds as _seeds
from scratchvae.cli.values import sizes as _sizes
from scratchvae.cli.values import values as _values
from scratchvae.cli.values import whole as _whole

__all__ = ["make_parser"]

_ESTIMATORS = "pathwise, score-function, score-function-running-mean, score-function-leave-one-out"
# Those that are made without options of their own.
_FURTHER = (
    "sticking-the-landing, score-function-optimal-leave-one-out, score-function-learned-baseline, "
    "measure-valued, measure-valued-uncoupled, antithetic-pathwise, antithetic-score-function, "
    "antithetic-score-function-leave-one-out, antithetic-measure-valued, taylor-pathwise, taylor-score-function, "
    "taylor-score-function-leave-one-out"
)
_OTHER_BOUND = (
    "importance-weighted-pathwise, importance-weighted-doubly-reparameterized, importance-weighted-vimco"
)
# What a measurement may be split by; the default, as a model trains, is none of them.
_QUESTIONS = ("layer", "latent-dim", "samples", "batch-size", "sigma", "term", "minibatch", "work")
_SMALL = "for images of up to 64 pixels"
_START = """\
where to start:
  scratchvae variance                       train on the embedded digits, measure every estimator, draw a picture
  scratchvae variance --by latent-dim       the same by latent dimension; by layer, sigma, work, ...
  scratchvae check                          check a model's gradients, tensor by tensor
  scratchvae train --out runs/first         train and keep the model
  scratchvae resume runs/first              go on, if it was interrupted
  scratchvae evaluate runs/first            how well it explains images that it has not seen
  scratchvae sweep --betas 0.5,1,2          compare hyperparameters, several trainings at a time
  scratchvae VERB --help                    all options of a verb
"""


# Options of the model are None where they are not given, so that one without effect can be refused. The
# defaults that their helps tell are the models' own.
def _model_options() -> OneLineParser:
    parent = OneLineParser(add_help=False)
    group = parent.add_argument_group("model")
    group.add_argument(
        "--hidden",
        type=_sizes,
        metavar="N,N,…",
        help=f"hidden layers' sizes, or none (default: 64 {_SMALL}, else 400)",
    )
    group.add_argument(
        "--latent-dim",
        type=_whole(1),
        metavar="N",
        help=f"latent dimensions (default: 8 {_SMALL}, else 20)",
    )
    group.add_argument(
        "--activation",
        metavar="NAME",
        help="identity, relu, leaky_relu, tanh, sigmoid or softplus (default: relu)",
    )
    group.add_argument(
        "--likelihood", metavar="NAME", help="bernoulli or gaussian, per pixel (default: bernoulli)"
    )
    group.add_argument(
        "--likelihood-variance", type=_positive, metavar="V", help="of a Gaussian likelihood (default: 1)"
    )
    group.add_argument("--beta", type=_number, metavar="BETA", help="weight of a VAE's KL term (default: 1)")
    group.add_argument("--kl", metavar="NAME", help="analytic or sampled, for a VAE (default: analytic)")
    group.add_argument(
        "--binarize",
        metavar="HOW",
        choices=("dynamic", "threshold", "none"),
        help="grey pixels: dynamic, threshold or none (default: dynamic for bernoulli, none for gaussian)",
    )
    return parent


def _common_options(data: str = "", out: bool = False, seed: bool = True) -> OneLineParser:
    """The options that verbs share; `data` tells the default of --data, for those that have it."""
    parent = OneLineParser(add_help=False)
    group = parent.add_argument_group("input and output")
    if data:
        group.add_argument(
            "--data",
            metavar="NAME|FILE",
            help=f"digits, mnist, fashion-mnist, binarized-mnist, or a .npy or .npz file (default: {data})",
        )
    if out:
        group.add_argument(
            "--out", type=Path, metavar="DIR", help="where to write (default: a folder below runs/)"
        )
    group.add_argument("--json", type=_file, metavar="FILE", help="also write the result as JSON")
    if seed:
        group.add_argument(
            "--seed", type=_whole(0), default=0, metavar="N", help="of all randomness (default: 0)"
        )
    return parent


def make_parser() -> argparse.ArgumentParser:
    """The parser of all verbs; parsing leaves the verb's name in `verb`."""
    parser = OneLineParser(
        prog="scratchvae",
        description="Variational autoencoders from NumPy alone: train, check gradients, measure their variance.",
        epilog=_START,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"scratchvae {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=OneLineParser)
    model = _model_options()
    _add_variance(verbs, model)
    _add_check(verbs, model)
    _add_train(verbs, model)
    _add_resume(verbs)
    _add_evaluate(verbs)
    _add_sample(verbs)
    _add_sweep(verbs)
    _add_figures(verbs)
    _add_data(verbs)
    return parser


def _add_variance(verbs: argparse._SubParsersAction[OneLineParser], model: OneLineParser) -> None:
    text = (
        "Measure how loud each gradient estimator is, over the sampling noise alone, as a VAE trains or for a "
        "trained run."
    )
    verb = verbs.add_parser(
        "variance", help=text, description=text, parents=[_common_options(data="digits", out=True), model]
    )
    verb.add_argument(
        "--by",
        choices=_QUESTIONS,
        metavar="WHAT",
        help=(
            f"ask another question of the trained model: {', '.join(_QUESTIONS)}; term is reconstruction against KL, "
            "minibatch is minibatch noise against sampling noise, work is variance for its price (default: as it "
            "trains)"
        ),
    )
    verb.add_argument(
        "--full",
        action="store_true",
        help="ask all questions and write a report; what an interrupted one has finished is kept",
    )
    verb.add_argument(
        "--estimators",
        type=_names,
        metavar="A,B,…",
        help=(
            f"which of {_ESTIMATORS} (default: these; with --by those of the question), {_FURTHER}; or, "
            f"of the importance-weighted bound: {_OTHER_BOUND}"
        ),
    )
    verb.add_argument(
        "--samples", type=_whole(1), default=2000, metavar="N", help="draws of the noise (default: 2000)"
    )
    verb.add_argument(
        "--epochs",
        type=_whole(0),
        metavar="N",
        help=f"of the training (default: 100 {_SMALL}, else 10)",
    )
    verb.add_argument("--batch-size", type=_whole(1), metavar="N", help=f"default: 64 {_SMALL}, else 128")
    verb.add_argument("--run", type=Path, metavar="DIR", help="measure this trained run instead of training")


def _add_check(verbs: argparse._SubParsersAction[OneLineParser], model: OneLineParser) -> None:
    text = (
        "Check the hand-written gradients of a model, tensor by tensor, against complex steps and 5-point "
        "differences."
    )
    verb = verbs.add_parser("check", help=text, description=text, parents=[_common_options(), model])
    verb.add_argument("--model", default="vae", choices=("vae", "autoencoder"), help="default: vae")
    verb.add_argument("--input-dim", type=_whole(1), default=64, metavar="N", help="pixels (default: 64)")
    verb.add_argument("--batch-size", type=_whole(1), default=4, metavar="N", help="default: 4")
    verb.add_argument(
        "--samples", type=_whole(1), metavar="N", help="samples of z per example of a VAE (default: 1)"
    )
    verb.add_argument(
        "--entries",
        type=_whole(1),
        metavar="N",
        help="check N random entries of each tensor (default: every one)",
    )
    verb.add_argument(
        "--directions",
        type=_whole(1),
        metavar="N",
        help="check N random directions of each tensor instead (default: 8 where there are over 20,000 entries)",
    )
    verb.add_argument("--tensor", metavar="NAME", help="check this tensor alone, such as decoder.0.weight")
    verb.add_argument(
        "--index",
        type=_index,
        metavar="I,J",
        help="check this entry of --tensor alone, with both oracles' values",
    )
    verb.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="draw the error of every entry into DIR (default: draw nothing)",
    )


def _add_train(verbs: argparse._SubParsersAction[OneLineParser], model: OneLineParser) -> None:
    text = "Train a VAE or a plain autoencoder and keep the run: parameters, configuration, history, curves."
    verb = verbs.add_parser(
        "train", help=text, description=text, parents=[_common_options(data="digits", out=True), model]
    )
    verb.add_argument("--model", default="vae", choices=("vae", "autoencoder"), help="default: vae")
    verb.add_argument("--epochs", type=_whole(0), metavar="N", help=f"default: 100 {_SMALL}, else 10")
    verb.add_argument("--batch-size", type=_whole(1), metavar="N", help=f"default: 64 {_SMALL}, else 128")
    verb.add_argument("--learning-rate", type=_positive, default=1e-3, metavar="RATE", help="default: 0.001")
    verb.add_argument("--optimizer", default="adam", metavar="NAME", help="adam or sgd (default: adam)")
    verb.add_argument(
        "--estimator",
        metavar="NAME",
        help=(
            f"of a VAE's encoder gradient: {_ESTIMATORS} (default: pathwise), {_FURTHER}; or, for "
            f"the importance-weighted bound of --samples samples: {_OTHER_BOUND}"
        ),
    )
    verb.add_argument(
        "--samples",
        type=_whole(1),
        metavar="N",
        help="samples of z per example of a VAE (default: the estimator's fewest)",
    )
    verb.add_argument(
        "--kl-warmup",
        type=_number,
        metavar="EPOCHS",
        help="grow the weight of a VAE's KL term over so many epochs (default: 0)",
    )
    verb.add_argument(
        "--checkpoint-steps", type=_whole(1), metavar="N", help="save the state after every N steps"
    )
    verb.add_argument(
        "--checkpoint-minutes",
        type=_positive,
        metavar="M",
        help="save the state every M minutes (default: 5, unless --checkpoint-steps is given)",
    )
    verb.add_argument("--overwrite", action="store_true", help="replace a run that is already in --out")


def _add_resume(verbs: argparse._SubParsersAction[OneLineParser]) -> None:
    text = "Go on with a run that was killed or interrupted, as if nothing had happened; or train one for longer."
    verb = verbs.add_parser(
        "resume", help=text, description=text, parents=[_common_options(data="the run's own", seed=False)]
    )
    verb.add_argument("run", type=Path, metavar="RUN", help="the folder that `train --out` was given")
    verb.add_argument(
        "--epochs", type=_whole(0), metavar="N", help="in all (default: as many as the run was begun with)"
    )


def _add_evaluate(verbs: argparse._SubParsersAction[OneLineParser]) -> None:
    text = "Evaluate a run: the bound and its terms on the test set, and log p(x) by importance sampling."
    verb = verbs.add_parser(
        "evaluate", help=text, description=text, parents=[_common_options(data="the run's own")]
    )
    verb.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    verb.add_argument("--part", default="test", choices=("test", "train"), help="of the data (default: test)")
    verb.add_argument(
        "--samples", type=_whole(1), default=1, metavar="N", help="samples of z per example (default: 1)"
    )
    verb.add_argument(
        "--likelihood-samples",
        type=_whole(0),
        default=0,
        metavar="N",
        help="also estimate log p(x), with N samples per example (default: 0, leave it out)",
    )
    verb.add_argument(
        "--likelihood-examples",
        type=_whole(1),
        default=1000,
        metavar="N",
        help="log p(x) on the first N examples (default: 1000)",
    )


def _add_sample(verbs: argparse._SubParsersAction[OneLineParser]) -> None:
    text = "Draw images from a trained VAE's prior."
    verb = verbs.add_parser("sample", help=text, description=text, parents=[_common_options(out=True)])
    verb.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    verb.add_argument("--count", type=_whole(1), default=64, metavar="N", help="images (default: 64)")


def _add_sweep(verbs: argparse._SubParsersAction[OneLineParser]) -> None:
    text = (
        "Choose hyperparameters: train a VAE for every combination, or for random ones, several at a time, and compare "
        "them on held-out training images. The same command again goes on where one ended."
    )
    common = _common_options(data="digits", out=True)
    verb = verbs.add_parser("sweep", help=text, description=text, parents=[common])
    space = verb.add_argument_group(
        "space: values with commas between, or for numbers with --random a range LOW:HIGH"
    )
    space.add_argument(
        "--betas",
        type=_values(_number),
        default=(0.25, 0.5, 1.0, 2.0, 4.0),
        metavar="B,…",
        help="weights of the KL term (default: 0.25,0.5,1,2,4)",
    )
    space.add_argument(
        "--latent-dims", type=_values(_whole(1)), metavar="N,…", help=f"default: 8 {_SMALL}, else 20"
    )
    space.add_argument(
        "--widths",
        type=_values(_whole(1)),
        metavar="N,…",
        help=f"sizes of the hidden layer (default: 64 {_SMALL}, else 400)",
    )
    space.add_argument("--learning-rates", type=_values(_positive), metavar="RATE,…", help="default: 0.001")
    space.add_argument(
        "--estimators", type=_names, metavar="A,…", help=f"of {_ESTIMATORS} (default: pathwise)"
    )
    space.add_argument(
        "--seeds",
        type=_seeds,
        metavar="N,…",
        help="train every setting with each of these seeds (default: 0)",
    )
    verb.add_argument(
        "--random", type=_whole(1), metavar="N", help="draw N settings (default: all combinations)"
    )
    verb.add_argument("--epochs", type=_whole(1), metavar="N", help=f"default: 100 {_SMALL}, else 10")
    verb.add_argument("--batch-size", type=_whole(1), metavar="N", help=f"default: 64 {_SMALL}, else 128")
    verb.add_argument(
        "--workers",
        type=_whole(1),
        metavar="N",
        help="trials at a time, each a process with one thread unless SCRATCHVAE_NUM_THREADS says otherwise (default: "
        "one per processor)",
    )
    verb.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="run the trials on the Dask cluster with this scheduler, such as tcp://host:8786, whose workers see --out",
    )
    verb.add_argument(
        "--retries",
        type=_whole(0),
        default=2,
        metavar="N",
        help="begin a trial that was killed or failed again so many times (default: 2)",
    )


def _add_figures(verbs: argparse._SubParsersAction[OneLineParser]) -> None:
    text = "Draw what articles claim about VAEs, each claim with a number and a note on what is seen."
    verb = verbs.add_parser(
        "figures", help=text, description=text, parents=[_common_options(data="digits", out=True)]
    )
    verb.add_argument("names", nargs="*", metavar="NAME", help="which figures (default: all)")
    verb.add_argument(
        "--list", action="store_true", help="list the figures and their claims, and draw nothing"
    )
    verb.add_argument(
        "--epochs", type=_whole(1), metavar="N", help=f"of each training (default: 200 {_SMALL}, else 10)"
    )


def _add_data(verbs: argparse._SubParsersAction[OneLineParser]) -> None:
    text = "List the data sets and whether they are here, or fetch one."
    verb = verbs.add_parser("data", help=text, description=text, parents=[_common_options()])
    verb.add_argument("--fetch", metavar="NAME", help="download a data set into the data folder and check it")
