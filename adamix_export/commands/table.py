"""The commands for existing bundles by name; adamix-export without one of these names exports checkpoints."""

from adamix_export.commands.command import Command
from adamix_export.commands.convert import CONVERT
from adamix_export.commands.inspect import INSPECT
from adamix_export.commands.verify import VERIFY

COMMANDS: dict[str, Command] = {"inspect": INSPECT, "verify": VERIFY, "convert": CONVERT}
"""A checkpoint folder with one of these names is written ./NAME on the command line."""
