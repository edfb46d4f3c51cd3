"""What is read from the environment, and what is said of what is wrong."""

from pathlib import Path

import pytest

from podium.ports import Credentials
from podium.settings import Settings, SettingsError

URL = {"PODIUM_CONDUCTOR_URL": "https://conductor.example/api/"}


def test_without_a_login_nothing_is_sent() -> None:
    access = Settings.from_environment(URL).access()
    assert (access.url, access.ca) == ("https://conductor.example/api", "")
    assert access.credentials == Credentials()


def test_the_login_comes_from_variables_and_files(tmp_path: Path) -> None:
    headers, ca = tmp_path / "headers", tmp_path / "ca.crt"
    headers.write_text("# for the gate\n\nX-Gate: open: sesame \nAuthorization:Bearer x\n", encoding="utf-8")
    ca.write_text("-----BEGIN CERTIFICATE-----", encoding="utf-8")
    settings = Settings.from_environment(
        URL
        | {
            "PODIUM_CONDUCTOR_AUTH_KEY": "me",
            "PODIUM_CONDUCTOR_AUTH_SECRET": "s3cret",
            "PODIUM_CONDUCTOR_HEADERS_FILE": str(headers),
            "PODIUM_CONDUCTOR_CA_FILE": str(ca),
            "PODIUM_CONDUCTOR_REQUESTS_PER_SECOND": "7",
            "PODIUM_DEFAULT_CONNECTION_NAMESPACES": "studio, lights",
        }
    )
    access = settings.access()
    assert access.credentials == Credentials(
        {"X-Gate": "open: sesame", "Authorization": "Bearer x"}, "me", "s3cret"
    )
    assert access.ca == "-----BEGIN CERTIFICATE-----"
    assert access.requests_per_second == 7
    assert settings.default_connection_namespaces == ("studio", "lights")
    assert "s3cret" not in repr(settings) + repr(access)


def test_a_key_without_its_secret_is_refused() -> None:
    with pytest.raises(SettingsError, match="set both PODIUM_CONDUCTOR_AUTH_KEY and"):
        Settings.from_environment(URL | {"PODIUM_CONDUCTOR_AUTH_KEY": "me"})


def test_a_file_that_is_no_good_is_named(tmp_path: Path) -> None:
    missing = Settings.from_environment(URL | {"PODIUM_CONDUCTOR_CA_FILE": str(tmp_path / "none")})
    with pytest.raises(SettingsError, match=r"PODIUM_CONDUCTOR_CA_FILE: .*none cannot be read"):
        missing.access()
    (tmp_path / "headers").write_text("s3cret\n", encoding="utf-8")
    wrong = Settings.from_environment(URL | {"PODIUM_CONDUCTOR_HEADERS_FILE": str(tmp_path / "headers")})
    with pytest.raises(SettingsError, match="has a line that is not `Name: value`") as error:
        wrong.access()
    assert "s3cret" not in str(error.value)
