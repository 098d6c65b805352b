"""Do the defaults learn? Small data sets are trained without a flag, and with the settings of a grid."""
