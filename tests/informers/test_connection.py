"""kopf logs in as the Kubernetes client does: by certificate, by token, by password."""

from types import SimpleNamespace
from typing import Any

import pytest

from podium.informers.handlers import connection_of


def configuration(**given: Any) -> SimpleNamespace:
    plain = {"host": "https://127.0.0.1:6443", "verify_ssl": True, "ssl_ca_cert": "/ca.crt", "api_key": {}}
    nothing = dict.fromkeys(("username", "password", "cert_file", "key_file"))
    return SimpleNamespace(**(plain | nothing | given))


@pytest.mark.parametrize("name", ["BearerToken", "authorization"])
def test_a_token_is_used_under_either_name(name: str) -> None:
    """The client keeps it under one or the other; with none kopf would be system:anonymous."""
    connection = connection_of(configuration(api_key={name: "Bearer secret"}))
    assert (connection.scheme, connection.token) == ("Bearer", "secret")


def test_a_token_without_a_scheme_is_a_token() -> None:
    connection = connection_of(configuration(api_key={"BearerToken": "secret"}))
    assert (connection.scheme, connection.token) == (None, "secret")


def test_a_client_certificate() -> None:
    connection = connection_of(configuration(cert_file="/me.crt", key_file="/me.key"))
    assert (connection.certificate_path, connection.private_key_path) == ("/me.crt", "/me.key")
    assert connection.token is None
    assert connection.ca_path == "/ca.crt"
