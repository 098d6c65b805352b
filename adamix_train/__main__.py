"""The command adamix-train, for `python -m adamix_train` and `torchrun -m adamix_train`."""

from adamix_train.cli import main

if __name__ == "__main__":
    main()
