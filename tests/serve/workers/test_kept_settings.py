import os
from argparse import Namespace
from pathlib import Path

import pytest

from serve.api_keys import Allowance, ApiKey, ApiKeys
from serve.served_settings import ServedSettings, served
from serve.tls import Tls, TlsFiles, read_tls
from serve.workers.kept_settings import DIGEST, KeptSettings


def test_a_process_that_is_forked_later_reads_what_another_one_has_written(tmp_path: Path) -> None:
    kept = KeptSettings()
    assert kept.read() is None
    for number in (70, 3):  # the second one is shorter
        if not (child := os.fork()):
            kept.write(ServedSettings(settings=Namespace(adapter=[Path("a" * number)])))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        found = kept.read()
        assert found is not None and found.settings.adapter == [Path("a" * number)]


def test_what_a_worker_has_written_in_part_is_none() -> None:
    kept = KeptSettings()
    kept.write(ServedSettings(settings=Namespace(port=1)))
    os.pwrite(kept.descriptor, b"x", DIGEST + 5)
    assert kept.read() is None


def test_keys_and_certificates_are_kept_though_their_files_have_changed(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from tests.fixtures.certificates import Authority

    pair = Authority(tmp_path).issue("served")
    tls = Tls(read_tls(TlsFiles(cert=pair.cert, key=pair.key)))
    key = ApiKey(name="some", sha256="0" * 64, admin=True, requests=Allowance(3))
    kept = KeptSettings()
    kept.write(served(Namespace(api_keys=tmp_path / "keys.toml"), ApiKeys({"some": key}), tls))
    pair.cert.write_bytes(b"broken")
    pair.key.unlink()
    found = kept.read()
    assert found is not None and found.tls is not None
    assert Tls(found.tls).content == tls.content
    (again,) = (found.api_keys() or {}).values()
    assert again.entry() == key.entry() == {"sha256": "0" * 64, "admin": True, "requests_per_minute": 3}
