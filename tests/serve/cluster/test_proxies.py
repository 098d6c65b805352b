import re

import pytest

pytest.importorskip("ray", reason="the extra ray is not installed")

from serve.cluster.proxies import start_proxies
from serve.errors import ConfigurationError

pytestmark = pytest.mark.slow


def test_proxies_that_run_already_say_where_they_listen(ray_cluster: int) -> None:
    assert start_proxies(None, None) == ("127.0.0.1", ray_cluster)
    assert start_proxies("127.0.0.1", ray_cluster) == ("127.0.0.1", ray_cluster)
    elsewhere = ray_cluster - 1
    told = f"listens on 127.0.0.1:{ray_cluster} already, not on 127.0.0.1:{elsewhere}: leave --host and --port out"
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        start_proxies(None, elsewhere)
