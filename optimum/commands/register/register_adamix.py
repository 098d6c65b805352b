"""`optimum-cli export adamix`: the command adamix-export, where users of optimum look for exporters.

optimum finds this file by its place, in the namespace package `optimum.commands.register`.
"""

from argparse import ArgumentParser

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand


class AdaMixExportCommand(BaseOptimumCLICommand):
    """Export mixtures of adapters, adapters of other libraries and whole models; it imports torch only when it runs."""

    COMMAND = CommandInfo(
        name="adamix", help="Collapse mixtures of adapters, or take other adapters, and export them to checked ONNX."
    )

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Add what the command's help says, and its flags."""
        from adamix_export.commands.export import EXPORT

        EXPORT.configure(parser)

    def run(self) -> None:
        """Export, print the report, and end with the status of adamix-export."""
        from adamix_export.cli import run_command
        from adamix_export.commands.export import EXPORT

        run_command("optimum-cli export adamix", EXPORT, self.args)


REGISTER_COMMANDS = [(AdaMixExportCommand, ExportCommand)]
