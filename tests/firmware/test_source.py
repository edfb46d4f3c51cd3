"""Checking out: each kind of address and revision, logins, and the words for what does not work."""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from podium_workers import Reject, Retry
from podium_workers.services.git import Credentials, check_repository, checkout, explain
from podium_workers.services.programs import Ended
from support.firmware import Repository, Run
from support.git_server import GitServer

FAILED = Ended(128, None, 0.1, 0, 0)


@pytest.fixture
def history(repository: Repository) -> list[str]:
    """Three commits, the first and the second one tagged, and a branch of its own for a fourth."""
    commits = [repository.commit(f"Number {number}", file=str(number)) for number in range(3)]
    repository.git("tag", "--annotate", "--message", "x", "v1", commits[1])
    repository.git("tag", "1", commits[0])
    repository.git("checkout", "--quiet", "-b", "feature/lights")
    commits.append(repository.commit("Number 3", file="3"))
    repository.git("checkout", "--quiet", "main")
    return commits


@pytest.mark.parametrize(
    ("revision", "number"),
    [("{1}", 1), ("{0:.9}", 0), ("main", 2), ("v1", 1), ("1", 0), ("feature/lights", 3), ("{3}", 3)],
)
async def test_a_revision_is_checked_out_exactly(
    repository: Repository, history: list[str], tmp_path: Path, revision: str, number: int
) -> None:
    wanted = revision.format(*history)
    found = await checkout(repository.url, wanted, tmp_path / "out")
    assert (found.id, found.subject) == (history[number], f"Number {number}")
    assert (tmp_path / "out" / "file").read_text() == str(number)


async def test_a_checkout_has_only_what_the_commit_has(
    repository: Repository, history: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    await checkout(repository.url, history[0], out)
    (out / ".gitignore").write_text("ignored\n")
    (out / "ignored").mkdir()
    (out / "ignored" / "x").write_text("x")
    (out / "file").write_text("changed")
    await checkout(repository.url, history[0], out)
    assert sorted(path.name for path in out.iterdir()) == [".git", "file"]
    assert (out / "file").read_text() == "0"
    await checkout(repository.url, history[2], out)
    assert (out / "file").read_text() == "2"


async def test_what_a_build_left_in_the_repository_does_not_run_when_git_has_the_password(
    repository: Repository, history: list[str], tmp_path: Path
) -> None:
    out, stolen = tmp_path / "out", tmp_path / "stolen"
    async with GitServer(repository.folder.parent, ("robot", "s3cret")) as server:
        given = (f"{server.url}/repository/.git", history[1], out, Credentials("robot", "s3cret"))
        await checkout(*given)
        program = out / ".git" / "program"
        program.write_text(f'#!/bin/sh\ncat "$HOME"/* > {stolen}\nexit 1\n')
        program.chmod(0o755)
        with (out / ".git" / "config").open("a") as config:
            config.write(f"[core]\n\tfsmonitor = {program}\n\tsshCommand = {program}\n")
        found = await checkout(*given)
    assert found.id == history[1]
    assert not stolen.exists()


@pytest.mark.parametrize("damage", ["lock", "object"])
async def test_a_checkout_that_was_killed_half_way_does_not_fail_the_next_one(
    repository: Repository, history: list[str], tmp_path: Path, damage: str
) -> None:
    out = tmp_path / "out"
    await checkout(repository.url, history[1], out)
    (out / "file").unlink()
    if damage == "lock":
        (out / ".git" / "index.lock").touch()
    else:
        blob = repository.git("rev-parse", f"{history[1]}:file")
        half = out / ".git" / "objects" / blob[:2] / blob[2:]
        half.chmod(0o600)
        half.write_bytes(half.read_bytes()[:5])
    found = await checkout(repository.url, history[1], out)
    assert found.id == history[1]
    assert (out / "file").read_text() == "1"


async def test_a_checkout_does_not_follow_a_link_in_the_place_of_its_folder(
    repository: Repository, history: list[str], tmp_path: Path
) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    out.symlink_to(elsewhere)
    await checkout(repository.url, history[1], out)
    assert (out / "file").read_text() == "1"
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]


@pytest.mark.parametrize(
    ("revision", "words"),
    [
        ("0123456789" * 4, "there is no commit 0123456789.* on any branch or tag of .*: was it pushed"),
        ("abcdef0", "there is no commit abcdef0 on any branch"),
        ("mian", "neither a branch nor a tag named 'mian': push it"),
        ("HEAD~1", "neither a commit nor the name of a branch or tag"),
        ("--upload-pack=touch /tmp/x", "neither a commit nor the name of a branch or tag"),
    ],
)
async def test_a_revision_that_is_not_there_says_so(
    repository: Repository, history: list[str], tmp_path: Path, revision: str, words: str
) -> None:
    with pytest.raises(Reject, match=words):
        await checkout(repository.url, revision, tmp_path / "out")


async def test_over_http_a_single_commit_is_fetched_alone(
    repository: Repository, history: list[str], tmp_path: Path
) -> None:
    async with GitServer(repository.folder.parent) as server:
        found = await checkout(f"{server.url}/repository/.git", history[0], tmp_path / "out")
    assert found.id == history[0]
    assert (tmp_path / "out" / ".git" / "shallow").exists()


async def test_a_password_reaches_the_server_and_nothing_else(
    repository: Repository, history: list[str], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "s3cret/with:signs@%41"
    spied = tmp_path / "spied"
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    real = shutil.which("git")
    (bin_dir / "git").write_text(f'#!/bin/sh\n(echo "$@"; env) >> {spied}\nexec {real} "$@"\n')
    (bin_dir / "git").chmod(0o755)
    async with GitServer(repository.folder.parent, ("robot", secret)) as server:
        monkeypatch.setenv("PATH", f"{bin_dir}:{os.environ['PATH']}")
        url = f"{server.url}/repository/.git"
        found = await checkout(url, history[1], tmp_path / "out", Credentials("robot", secret))
        assert found.id == history[1]
        with pytest.raises(Reject) as caught:
            await checkout(url, history[1], tmp_path / "out2", Credentials("robot", "wr0ng-s3cret"))
    assert "wr0ng-s3cret" not in str(caught.value)
    assert "fetch" in spied.read_text()
    assert "s3cret" not in spied.read_text()
    left = await asyncio.to_thread(
        subprocess.run, ["grep", "-r", "s3cret", str(tmp_path / "out"), str(tmp_path / "out2")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert left.stdout == ""


async def test_a_password_does_not_follow_a_redirection_to_another_host(
    repository: Repository, history: list[str], tmp_path: Path
) -> None:
    async with (
        GitServer(repository.folder.parent) as theirs,
        GitServer(repository.folder.parent, redirect=theirs) as ours,
    ):
        theirs.login = ("robot", "secret")
        with pytest.raises(Reject, match="wants a login"):
            await checkout(
                f"{ours.url}/repository/.git", history[0], tmp_path / "out", Credentials("robot", "secret")
            )
        assert theirs.seen
        assert not [told for _, told in theirs.seen if told]


@pytest.mark.parametrize(
    ("credentials", "words"),
    [
        (None, r"wants a login \(none was given\): pass a Secret with `username` and `password`"),
        (Credentials("robot", "wrong"), r"wants a login \(the one given is refused\)"),
    ],
)
async def test_a_repository_that_wants_a_password_says_so(
    repository: Repository,
    history: list[str],
    tmp_path: Path,
    credentials: Credentials | None,
    words: str,
) -> None:
    async with GitServer(repository.folder.parent, ("robot", "right")) as server:
        with pytest.raises(Reject, match=words):
            await checkout(f"{server.url}/repository/.git", history[0], tmp_path / "out", credentials)


async def test_a_repository_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(Reject, match="there is no such repository"):
        await checkout(str(tmp_path / "nothing"), "main", tmp_path / "out")
    async with GitServer(tmp_path) as server:
        with pytest.raises(Reject, match="there is no such repository"):
            await checkout(f"{server.url}/nothing.git", "main", tmp_path / "out")


async def test_a_server_that_is_away_is_asked_again(tmp_path: Path) -> None:
    async with GitServer(tmp_path) as server:
        url = server.url
    with pytest.raises(Retry, match="Failed to connect"):
        await checkout(f"{url}/x.git", "main", tmp_path / "out")


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("git@host: Permission denied (publickey).", Reject, "wants an ssh key"),
        ("Host key verification failed.", Reject, "`known_hosts`"),
        ("No ED25519 host key is known for host and you have", Reject, "known_hosts"),
        ("fatal: detected dubious ownership in repository at '/x'", Reject, "belongs to another user"),
        ("fatal: unable to access 'x': The requested URL returned error: 403", Reject, "wants a login"),
        ("fatal: unable to access 'x': The requested URL returned error: 502", Retry, "502"),
        ("fatal: unable to access 'x': SSL certificate problem: unable to get", Reject, "SSL_CERT_FILE"),
        ("fatal: unable to access 'x': Could not resolve host: git.example", Retry, "resolve host"),
        ("fatal: repository 'https://x/' not found", Reject, "no such repository"),
        ("fatal: write error: No space left on device", Retry, "disk is full"),
        ("fatal: early EOF", Retry, "early EOF"),
        ("", Retry, "git ended with 128"),
    ],
)  # fmt: skip
def test_gits_words_become_a_remedy(said: str, kind: type[Exception], words: str) -> None:
    found = explain("https://git.example/x", FAILED, said.splitlines())
    assert type(found) is kind
    assert words in str(found)


@pytest.mark.parametrize(
    ("repository", "words"),
    [
        ("https://robot:secret@git.example/x", "put them into a Secret"),
        ("https://token@git.example/x", "put them into a Secret"),
        ("ssh://git:secret@git.example/x", "put them into a Secret"),
        ("ext::sh -c touch% /tmp/x", "not the address"),
        ("--upload-pack=x", "not the address"),
        ("folder/x", "not an address that git knows"),
        ("ftp://git.example/x", "not an address that git knows"),
        ("", "not the address"),
    ],
)
def test_an_address_that_is_none_or_holds_a_password_is_refused(repository: str, words: str) -> None:
    with pytest.raises(Reject, match=words) as caught:
        check_repository(repository)
    assert "secret@" not in str(caught.value)


@pytest.mark.parametrize(
    "repository",
    ["https://git.example/x.git", "ssh://git@host:22/x", "git@host:x/y.git", "/srv/x", "file:///srv/x"],
)
def test_every_kind_of_address_that_git_knows_is_taken(repository: str) -> None:
    check_repository(repository)


async def test_a_key_is_written_for_ssh_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(
        "#!/bin/sh\n"
        f'echo "$@" > {tmp_path}/said\n'
        f'for word in "$@"; do case "$word" in */key) cat "$word" > {tmp_path}/key; stat -c %a "$word" > '
        f"{tmp_path}/mode;; esac; done\n"
        "echo 'git@host: Permission denied (publickey).' >&2; exit 255\n"
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    credentials = Credentials(ssh_private_key="-----BEGIN KEY-----\nxyz", known_hosts="host ssh-ed25519 AAAA")
    with pytest.raises(Reject, match=r"wants an ssh key \(the one given is refused\)"):
        await checkout("git@host:x.git", "main", tmp_path / "out", credentials)
    said = (tmp_path / "said").read_text()
    assert "StrictHostKeyChecking=yes" in said
    assert "UserKnownHostsFile=" in said
    assert "xyz" not in said
    assert (tmp_path / "key").read_text() == "-----BEGIN KEY-----\nxyz\n"
    assert (tmp_path / "mode").read_text() == "600\n"


async def test_a_commit_is_validated_with_its_project(repository: Repository, run: Run) -> None:
    commit = repository.commit("No project", README="x")
    with pytest.raises(Reject, match=r"there is no platformio\.ini in source: name the project's folder"):
        await run("validate_commit", repository=repository.url, commit=commit)


async def test_a_project_with_a_long_configuration_is_read(repository: Repository, run: Run) -> None:
    libraries = "".join(f"\n  example/library-number-{number} @ ^1.{number}.0" for number in range(30))
    names = [f"board-{number}" for number in range(50)]
    sections = "".join(f"[env:{name}]\nboard = {name}\n" for name in names)
    ini = f"[env]\nplatform = espressif32\nlib_deps ={libraries}\n{sections}"
    commit = repository.commit("Many boards", **{"platformio.ini": ini})
    found = await run("validate_commit", repository=repository.url, commit=commit)
    assert found["environments"] == names


async def test_clean_drops_what_a_build_left(sample: Repository, run: Run) -> None:
    given = {"repository": sample.url, "commit": sample.git("rev-parse", "HEAD")}
    await run("clean_build_env", **given)
    source = run.context.data_dir / "firmware" / "work" / "run-1" / "main" / "source"
    (source / ".pio" / "build").mkdir(parents=True)
    (source / ".pio" / "build" / "old.o").write_text("x")
    (source / "src" / "left.c").write_text("int broken")
    cleaned = await run("clean_build_env", **given)
    assert cleaned["removed"] == 4
    assert not (source / ".pio").exists()
    assert not (source / "src" / "left.c").exists()


async def test_workspaces_of_runs_that_ended_without_cleaning_up_go_after_a_day(
    sample: Repository, run: Run
) -> None:
    work = run.context.data_dir / "firmware" / "work"
    for name, hours in (("old", 25), ("young", 2)):
        (work / name / "main").mkdir(parents=True)
        at = work.stat().st_mtime - hours * 3600
        os.utime(work / name / "main", (at, at))
    await run("validate_commit", repository=sample.url, commit="main")
    assert sorted(path.name for path in work.iterdir()) == ["run-1", "young"]
