"""The argument parser of the commands: exact flags, and short errors that name the flag that was meant."""

import argparse
import difflib
from typing import Any, NoReturn

FOREIGN = {
    "--alpha": "--lora-alpha",
    "--data": "--train-file",
    "--fp16": "--precision fp16",
    "--bf16": "--precision bf16",
    "--lora-r": "--r",
    "--lr": "--learning-rate",
    "--max-seq-length": "--max-length",
    "--model": "--base",
    "--model-name-or-path": "--base",
    "--num-epochs": "--epochs",
    "--num-train-epochs": "--epochs",
    "--output": "--out",
    "--output-dir": "--out",
    "--per-device-train-batch-size": "--batch-size",
    "--train": "--train-file",
}
"""Flag of other programs → ours."""


class CommandParser(argparse.ArgumentParser):
    """Parser without abbreviations that takes flags between positional arguments; its errors are one line, status 2."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "allow_abbrev": False})

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Return the arguments; end the program with an error that names an unknown flag and the nearest known one."""
        found, unknown = self.parse_known_intermixed_args(*args, **kwargs)
        if unknown:
            flag = next((one for one in unknown if one.startswith("-")), unknown[0]).partition("=")[0]
            meant = self.nearest(flag)
            self.error(f"unknown argument {flag}" + (f": did you mean {meant}?" if meant else ""))
        return found

    def nearest(self, flag: str) -> str | None:
        """Return the known flag that is most like `flag`, or what other programs' flag is called here."""
        flag = flag.replace("_", "-")
        known = [option for action in self._actions for option in action.option_strings]
        begun = [option for option in known if option.startswith(flag)] if len(flag) > 3 else []
        near = [*([flag] if flag in known else []), *begun, *difflib.get_close_matches(flag, known, 1)]
        foreign = FOREIGN.get(flag, "")
        return foreign if foreign.partition(" ")[0] in known else next(iter(near), None)

    def error(self, message: str) -> NoReturn:
        """End the program with one line instead of the list of all flags."""
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help lists all flags)\n")
