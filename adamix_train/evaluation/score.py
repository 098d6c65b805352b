"""Score generated texts against their references."""

import logging
from collections.abc import Sequence

from adamix_train.errors import MetricError
from adamix_train.evaluation.generate import Written
from adamix_train.metrics.table import METRICS

logger = logging.getLogger(__name__)


def judge(written: Sequence[Written], metrics: Sequence[str]) -> dict[str, float]:
    """Return the metrics of what was written; one whose data is not installed is left out, and said so."""
    found = {}
    for name in metrics:
        try:
            found[name] = METRICS[name]([one.text for one in written], [one.references for one in written])
        except MetricError as error:
            logger.warning("%s was not computed: %s", name, error)
    return found
