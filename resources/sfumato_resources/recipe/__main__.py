"""The one command that makes the embedded model: ``python -m sfumato_resources.recipe``."""

from __future__ import annotations

import argparse
from pathlib import Path

from sfumato_resources.recipe.pack import unpack
from sfumato_resources.recipe.presets import PRESETS
from sfumato_resources.recipe.stages import STAGES, Run, forget, mark_done, run_stages


def main(arguments: list[str] | None = None) -> int:
    """Run the recipe as the command line says."""
    options = _parser().parse_args(arguments)
    run = Run(PRESETS[options.preset], options.workdir, options.processes, options.unet_from)
    if options.base:
        unpack(options.base, run.workdir)
        for name in ("tokenizer", "vae", "text", "unet"):
            mark_done(run, name)
    names = list(STAGES)
    if options.only:
        names = options.only
    elif options.first:
        names = names[names.index(options.first) :]
    if options.only or options.first:
        for name in names if options.anew or options.first else []:
            forget(run, name)
    run_stages(run, names)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sfumato_resources.recipe", description=__doc__)
    parser.add_argument("--workdir", type=Path, default=Path("embedded-model"), help="where everything is kept; run again to go on")
    parser.add_argument("--preset", choices=PRESETS, default="cpu128", help="sizes and lengths of the trainings")
    parser.add_argument("--processes", type=int, default=2, help="one-thread processes that train together (a GPU takes one)")
    parser.add_argument("--from", dest="first", choices=STAGES, help="do this stage and all that follow anew")
    parser.add_argument("--only", nargs="+", choices=STAGES, help="do only these stages, where they are not done")
    parser.add_argument("--anew", action="store_true", help="with --only: throw away what these stages have already")
    parser.add_argument("--base", type=Path, help="a packed model whose tokenizer, VAE, text encoder and UNet are taken as they are")
    parser.add_argument("--unet-from", type=Path, help="a UNet folder from which the UNet's training goes on")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
