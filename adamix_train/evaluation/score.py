"""Score generated texts against their references."""

import logging
from collections.abc import Sequence

from adamix_train.errors import MetricError
from adamix_train.evaluation.generate import GeneratedText
from adamix_train.metrics.table import METRICS

logger = logging.getLogger(__name__)


def score(generated: Sequence[GeneratedText], metrics: Sequence[str]) -> dict[str, float]:
    """Return each metric by name; one whose data is not installed is left out, with a warning."""
    found = {}
    for name in metrics:
        try:
            found[name] = METRICS[name]([one.text for one in generated], [one.references for one in generated])
        except MetricError as error:
            logger.warning("%s was not computed: %s", name, error)
    return found
