"""The subcommands of adamix-export, one file each."""
