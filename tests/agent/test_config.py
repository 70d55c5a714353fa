"""The agent's configuration: what is read, and one sentence with the cure for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from agent_rig import write_toml
from conftest import plain_config

from vps.agent.config import Config, ConfigRefused, load
from vps.xen.messages import SigningKey


@pytest.fixture
def plain(tmp_path: Path, signing_key: SigningKey) -> Config:
    return plain_config(tmp_path, "redis://127.0.0.1:6390/0", signing_key)


def test_what_is_written_is_read(plain: Config) -> None:
    assert load(write_toml(plain)) == plain


def test_the_secret_is_not_shown(plain: Config) -> None:
    assert plain.secret not in repr(plain)


def test_the_example_names_every_key() -> None:
    import tomllib

    text = (Path(__file__).parents[2] / "packaging" / "agent.toml.example").read_text()
    known = set(Config.__dataclass_fields__) - {"path"}
    mentioned = {line.lstrip("# ").partition(" = ")[0] for line in text.splitlines() if " = " in line}
    assert mentioned == known
    required = {"dom0", "name", "secret", "web", "redis", "trusted_keys"}
    assert required <= set(tomllib.loads(text))


def test_a_simulated_dom0_has_its_own_boots(plain: Config) -> None:
    path = write_toml(plain)
    text = path.read_text().replace('xl = ["xl"]', 'xl = ["sim", "--state", "/somewhere/xen"]')
    path.write_text("".join(line for line in text.splitlines(True) if not line.startswith("boot_id")))
    assert load(path).boot_id == Path("/somewhere/xen/boot_id")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        pytest.param("dom0", None, "dom0 is missing", id="missing"),
        pytest.param("dom0", '"x"', "dom0 is not a UUID", id="no uuid"),
        pytest.param("secret", '""', "secret must be a text", id="empty secret"),
        pytest.param("secret", "5", "secret must be a text", id="number as secret"),
        pytest.param("name", '"a\\nb"', "name must be a text of one line", id="two lines"),
        pytest.param("web", '"ftp://x"', "web must be an address", id="web scheme"),
        pytest.param("web", '"https://"', "web must be an address", id="web without host"),
        pytest.param("web", '"https://x:y"', "web must be an address", id="web port"),
        pytest.param("web", '"https://u:p@x"', "must not hold a user", id="web user"),
        pytest.param("redis", '"http://x"', "redis must be an address", id="redis scheme"),
        pytest.param("redis", '"redis://x/3"', "must name database 0", id="redis database"),
        pytest.param("trusted_keys", "[]", "holds no key", id="no key"),
        pytest.param("trusted_keys", '["AAAA"]', "no public key", id="short key"),
        pytest.param("trusted_keys", '"AAAA"', "must be a list", id="key no list"),
        pytest.param("state_dir", '"state"', "must be a path that begins with /", id="relative"),
        pytest.param("xl", "[]", "xl is empty", id="xl empty"),
        pytest.param("xl", '[""]', "xl must be a list of texts", id="xl empty word"),
        pytest.param("simulated", '"no"', "simulated must be true or false", id="simulated"),
        pytest.param("lanes", "0", "lanes must be a number from 1", id="lanes"),
        pytest.param("lanes", "true", "lanes must be a number", id="lanes true"),
        pytest.param(
            "redis_ca", '"/etc/passwd"', "does not begin with rediss://", id="authority without TLS"
        ),
        pytest.param("web_ca", '"ca.crt"', "does not begin with https://", id="web's authority without TLS"),
        pytest.param("log", '"xml"', "log must be plain or json", id="log"),
        pytest.param("sercet", '"x"', "the key sercet is not known", id="unknown key"),
    ],
)
def test_mistakes(plain: Config, key: str, value: str | None, words: str) -> None:
    path = write_toml(plain)
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{key} ")]
    path.write_text("\n".join([*lines, *([f"{key} = {value}"] if value is not None else [])]))
    with pytest.raises(ConfigRefused, match=words) as refused:
        load(path)
    assert str(path) in str(refused.value)


def test_files_that_cannot_be_used(plain: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigRefused, match="is not there"):
        load(tmp_path / "none.toml")
    with pytest.raises(ConfigRefused, match="cannot be read"):
        load(tmp_path)
    path = write_toml(plain)
    path.chmod(0o644)
    with pytest.raises(ConfigRefused, match=f"chmod 600 {path}"):
        load(path)
    path.chmod(0o600)
    for content in (b"= 1", b"\xff\xfe", b"a = "):
        path.write_bytes(content)
        with pytest.raises(ConfigRefused, match="is not TOML"):
            load(path)


def test_authorities_of_certificates_are_files(plain: Config, tmp_path: Path) -> None:
    path = write_toml(plain)
    text = path.read_text().replace("redis://", "rediss://").replace("http://", "https://")
    authority = tmp_path / "ca.crt"
    path.write_text(f'{text}\nredis_ca = "{authority}"\nweb_ca = "{authority}"\n')
    with pytest.raises(ConfigRefused, match="which is no file"):
        load(path)
    authority.write_text("a certificate")
    assert (load(path).redis_ca, load(path).web_ca) == (authority, authority)
