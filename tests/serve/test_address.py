import pytest

from serve.address import address


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80"), ("::", "[::]:80"), ("example.org", "example.org:80")],
)
def test_an_address_of_ipv6_has_brackets(host: str, expected: str) -> None:
    assert address(host, 80) == expected
