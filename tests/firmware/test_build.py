"""From a commit to a stored image: a real compiler, a real image, and whatever can go wrong on the way."""

import asyncio
import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from podium_workers import Reject, Retry
from podium_workers.services import platformio
from podium_workers.services.artifacts import open_store
from podium_workers.services.esp_image import parse_image
from podium_workers.services.platformio import Settings
from podium_workers.services.programs import Limits
from support.eventually import eventually
from support.firmware import Repository, Run

ENVIRONMENT = "c3-devkit"


async def built(run: Run, sample: Repository, commit: str = "", **more: object) -> list[dict]:
    """The builds of the newest commit."""
    commit = commit or sample.git("rev-parse", "HEAD")
    found = await run("platformio_compile", repository=sample.url, commit=commit, **more)
    return list(found["builds"])


async def test_a_commit_becomes_an_image_that_says_its_commit(sample: Repository, run: Run) -> None:
    source = await run("validate_commit", repository=sample.url, commit="main")
    assert source["commit"] == sample.git("rev-parse", "HEAD")
    assert (source["subject"], source["author"]) == ("First light", "A Maker")
    assert source["environments"] == [ENVIRONMENT]
    await run("clean_build_env", repository=sample.url, commit=source["commit"])
    builds = await built(run, sample, source["commit"])
    metrics = (await run("extract_build_metrics", builds=builds))["metrics"]
    assert metrics[0]["flash"]["total"] == 1310720
    assert 300 < metrics[0]["flash"]["used"] < 4000
    assert metrics[0]["ram"]["used"] == 144 * 3
    assert metrics[0]["warningCount"] == 0
    verdict = await run("validate_build", metrics=metrics, commit=source["commit"], chip="ESP32C3")
    assert verdict["passed"], verdict["reason"]
    stored = await run("store_artifact", builds=builds, commit=source["commit"], passed=verdict["passed"])
    (artifact,) = stored["artifacts"]
    data = open_store(run.context.data_dir).get(artifact["sha256"])
    image = parse_image(data)
    assert image.intact
    assert (image.chip, image.build) == ("ESP32C3", source["commit"])
    assert image.app is not None
    assert source["commit"].startswith(image.app.version)
    # Espressif's own tool agrees.
    file = run.context.data_dir / "image.bin"
    file.write_bytes(data)
    said = await asyncio.to_thread(
        subprocess.check_output, [sys.executable, "-m", "esptool", "image-info", str(file)], text=True
    )
    assert "Checksum: " in said
    assert said.count("(valid)") == 2
    assert not (run.context.data_dir / "firmware" / "work" / "run-1").exists(), "the workspace is left behind"


async def test_the_log_tells_how_far_it_is_and_what_it_took(sample: Repository, run: Run) -> None:
    await built(run, sample)
    told = "\n".join(run.lines)
    assert f"[{ENVIRONMENT}] Linking" in told
    assert f"[{ENVIRONMENT}] Flash: [" in told
    assert len(run.lines) < 30


async def test_the_same_commit_is_not_built_twice(
    sample: Repository, run: Run, another_run: Callable[[str], Run]
) -> None:
    first = await built(run, sample)
    again = await built(another_run("run-2"), sample)
    assert [build["cached"] for build in (*first, *again)] == [False, True]
    assert again[0]["files"] == first[0]["files"]
    sample.commit("Another", README="text")
    assert not (await built(another_run("run-3"), sample))[0]["cached"]


async def test_a_build_whose_file_was_lost_is_made_again_and_comes_out_the_same(
    sample: Repository, run: Run, another_run: Callable[[str], Run]
) -> None:
    first = await built(run, sample)
    sha256 = first[0]["files"]["image"]["sha256"]
    blob = run.context.data_dir / "artifacts" / "blobs" / sha256
    blob.write_bytes(blob.read_bytes()[:-1])
    again = await built(another_run("run-2"), sample)
    assert not again[0]["cached"]
    assert again[0]["files"]["image"]["sha256"] == sha256
    assert open_store(run.context.data_dir).has(sha256)


async def test_several_environments_are_built_each_with_its_own_numbers(sample: Repository, run: Run) -> None:
    builds = await built(run, sample, environments=["c3-devkit", "c3-mini"])
    metrics = (await run("extract_build_metrics", builds=builds))["metrics"]
    assert [item["environment"] for item in metrics] == ["c3-devkit", "c3-mini"]
    assert [item["ram"]["used"] for item in metrics] == [432, 180]
    assert [item["flash"]["total"] for item in metrics] == [1310720, 917504]


async def test_warnings_are_told_by_file_and_line_and_hold_the_image_back(
    sample: Repository, run: Run
) -> None:
    header = (sample.folder / "src/pattern.h").read_text() + "\nstatic int never_used(void) { return 1; }\n"
    commit = sample.commit("Warns", **{"src/pattern.h": header})
    builds = await built(run, sample)
    metrics = (await run("extract_build_metrics", builds=builds))["metrics"]
    (warning,) = metrics[0]["warnings"]  # though two files include it
    assert metrics[0]["warningCount"] == 1
    assert warning["file"] == "src/pattern.h"
    assert header.splitlines()[warning["line"] - 1].startswith("static int never_used")
    assert warning["flag"] == "-Wunused-function"
    verdict = await run("validate_build", metrics=metrics, commit=commit)
    assert verdict["verdict"] == "fail"
    assert f"1 warning, at most 0: src/pattern.h:{warning['line']}: unused function" in verdict["reason"]
    with pytest.raises(Reject, match="the gates have not passed"):
        await run("store_artifact", builds=builds, commit=commit, passed=verdict["passed"])


BIG_FLASH = 'const char big[950000] __attribute__((used, section(".rodata.build_signature"))) = {1};'
BIG_RAM = (
    "volatile char big[270000];\n"
    '__attribute__((section(".text.start"), used)) void keep(void) { big[7] = 1; }'
)


@pytest.mark.parametrize(
    ("source", "name", "words"),
    [(BIG_FLASH, "flashPercentBelow", "flash 72.5"), (BIG_RAM, "ramPercentBelow", "RAM 82.")],
    ids=["flash", "ram"],
)
async def test_what_takes_too_much_does_not_pass(
    sample: Repository, run: Run, source: str, name: str, words: str
) -> None:
    commit = sample.commit("Big", **{"src/big.c": source + "\n"})
    metrics = (await run("extract_build_metrics", builds=await built(run, sample)))["metrics"]
    verdict = await run("validate_build", metrics=metrics, commit=commit)
    assert [gate["name"] for gate in verdict["gates"] if not gate["passed"]] == [name]
    assert words in verdict["reason"]


async def test_numbers_that_are_missing_do_not_pass(sample: Repository, run: Run) -> None:
    board = (sample.folder / "platform/boards/c3-devkit.json").read_text()
    commit = sample.commit("No sizes", **{"platform/boards/c3-devkit.json": board.replace("1310720", "0")})
    metrics = (await run("extract_build_metrics", builds=await built(run, sample)))["metrics"]
    assert (metrics[0]["flash"], metrics[0]["ram"]) == (None, None)
    verdict = await run("validate_build", metrics=metrics, commit=commit)
    assert [gate["name"] for gate in verdict["gates"] if not gate["passed"]] == [
        "flashPercentBelow", "ramPercentBelow", "fitsSlot"
    ]  # fmt: skip
    assert "no line `Flash:" in verdict["reason"]


async def test_an_image_of_another_commit_or_chip_does_not_pass(sample: Repository, run: Run) -> None:
    metrics = (await run("extract_build_metrics", builds=await built(run, sample)))["metrics"]
    verdict = await run(
        "validate_build", metrics=metrics, commit="0123456789abcdef", chip="ESP32-S3", slotSize="64Ki"
    )
    assert [gate["name"] for gate in verdict["gates"] if not gate["passed"]] == ["chip", "commit", "fitsSlot"]
    assert "the image is for ESP32C3, the devices have ESP32S3" in verdict["reason"]


async def test_a_compile_error_is_the_reason_with_its_line(sample: Repository, run: Run) -> None:
    sample.commit("Breaks", **{"src/broken.c": "int x = ;\n"})
    with pytest.raises(Reject, match=r"c3-devkit: src/broken\.c:1:9: error: expected expression") as caught:
        await built(run, sample)
    log = open_store(run.context.data_dir).get(caught.value.output["log"]).decode()
    assert "src/broken.c:1:9: error" in log
    assert any("error: expected expression" in line for line in run.lines)


async def test_a_linker_error_is_the_reason(sample: Repository, run: Run) -> None:
    sample.commit("Breaks", **{"src/a.c": "int nowhere(void); int main2(void) { return nowhere(); }\n"
                                          "__attribute__((section(\".text.start\"), used)) void k(void)"
                                          " { main2(); }\n"})  # fmt: skip
    with pytest.raises(Reject, match="undefined symbol: nowhere"):
        await built(run, sample)


def script(sample: Repository, text: str) -> str:
    """A commit whose build runs this Python first."""
    old = (sample.folder / "identity.py").read_text()
    return sample.commit("Script", **{"identity.py": f"{text}\n{old}"})


async def test_a_build_that_hangs_is_stopped_with_all_that_it_started(sample: Repository, run: Run) -> None:
    mark = f"{time.time_ns()}"
    script(
        sample,
        "import subprocess, time, os\n"
        f"subprocess.Popen(['sleep', '600.{mark}'], start_new_session=True)\n"
        "print('waiting for a spring that does not come', flush=True)\ntime.sleep(600)",
    )
    began = time.monotonic()
    with pytest.raises(Reject, match=r"stopped after 4 s; the last it said: waiting for a spring"):
        await built(run, sample, timeout="4s")
    assert time.monotonic() - began < 20
    assert not processes_with(mark)


async def test_a_build_that_is_cancelled_leaves_no_process(sample: Repository, run: Run) -> None:
    mark = f"{time.time_ns()}"
    script(sample, f"import subprocess\nsubprocess.run(['sleep', '600.{mark}'])")
    task = asyncio.create_task(built(run, sample))
    await eventually(lambda: seen(mark), bool, within=30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not processes_with(mark)


async def test_a_build_that_takes_too_much_memory_is_stopped(sample: Repository, run: Run) -> None:
    script(sample, "import time\nhog = [b'x' * 2**20 for _ in range(600)]\ntime.sleep(60)")
    with pytest.raises(
        Reject, match=r"took more than 300 MiB of memory and was stopped; raise `memoryLimit`"
    ):
        await built(run, sample, memoryLimit="300Mi")


async def test_a_build_that_fills_the_disk_is_stopped(sample: Repository, run: Run) -> None:
    script(
        sample,
        "import pathlib, time\n"
        "for number in range(200):\n"
        "    pathlib.Path(f'hoard{number}').write_bytes(b'x' * 2**20)\n"
        "time.sleep(60)",
    )
    with pytest.raises(Reject, match="wrote more than 100 MiB and was stopped"):
        await built(run, sample, diskLimit="100Mi")


async def test_a_build_is_told_no_secret_of_the_worker(
    sample: Repository, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDUCTOR_AUTH_SECRET", "very-secret-1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-2")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:very-secret-3@proxy.example")
    script(sample, "import os\nprint('ENV', sorted(os.environ.items()))")
    builds = await built(run, sample)
    log = open_store(run.context.data_dir).get(builds[0]["files"]["log"]["sha256"]).decode()
    assert "PODIUM_COMMIT" in log
    assert "very-secret" not in log


async def test_what_a_script_prints_cannot_make_the_numbers_smaller(sample: Repository, run: Run) -> None:
    script(sample, "print('Flash: [          ]   0.0% (used 1 bytes from 1310720 bytes)')")
    metrics = (await run("extract_build_metrics", builds=await built(run, sample)))["metrics"]
    assert metrics[0]["flash"]["used"] > 300


async def test_two_projects_with_platforms_of_one_name_each_get_their_own(
    sample: Repository, run: Run, another_run: Callable[[str], Run]
) -> None:
    await built(run, sample)
    platform = (sample.folder / "platform/platform.json").read_text()
    sample.commit("Own", **{"platform/platform.json": platform.replace("ESP32-C3, bare", "another one")})
    other = another_run("run-2")
    await built(other, sample)
    assert any("PLATFORM: another one" in line for line in other.lines)


def local_platform(project: Path, name: str, configuration: dict[str, str]) -> Path:
    """A project whose platform lies beside it and does nothing but to say its name."""
    files = {
        **configuration,
        "src/main.c": "int main(void) { return 0; }\n",
        "platform/platform.json": '{"name": "mine", "title": "x", "version": "1.0.0", "packages": {}}',
        "platform/platform.py": "from platformio.public import PlatformBase\n\n\n"
        "class MinePlatform(PlatformBase):\n    pass\n",
        "platform/builder/main.py": f"print('PLATFORM OF {name}')\n",
        "platform/boards/b.json": '{"build": {"mcu": "x"}, "name": "b", "url": "u", "vendor": "v"}',
    }
    for file, text in files.items():
        (project / file).parent.mkdir(parents=True, exist_ok=True)
        (project / file).write_text(text)
    return project


@pytest.mark.parametrize("whose", ["project", "commit"])
@pytest.mark.parametrize(
    "configuration",
    [
        {"platformio.ini": "[env:b]\nplatform = file://platform\nboard = b\n"},
        {
            "platformio.ini": "[platformio]\nextra_configs = boards/*.ini\n",
            "boards/b.ini": "[env:b]\nplatform = symlink://platform\nboard = b\n",
        },
    ],
    ids=["copied", "linked in a file of another folder"],
)
async def test_a_platform_that_lies_in_the_project_is_taken_from_there(
    tmp_path: Path, configuration: dict[str, str], whose: str
) -> None:
    for name in ("A", "B"):
        own = name if whose == "project" else "one"
        given = Settings(tmp_path / "core", tmp_path / own / "own", name * 40, 0, Limits(60))
        lines: list[str] = []
        project = local_platform(tmp_path / own / "source", name, configuration)
        await platformio.build(project, "b", given, lambda line, _, lines=lines: lines.append(line))
        assert f"PLATFORM OF {name}" in lines


async def test_a_build_that_was_given_other_variables_is_another_one(
    sample: Repository, run: Run, another_run: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODIUM_BUILD_ENV", "LAMPS, NOT_SET")
    script(sample, "import os\nprint('LAMPS', os.environ['LAMPS'])")
    found = []
    for number, lamps in enumerate(("7", "7", "8")):
        monkeypatch.setenv("LAMPS", lamps)
        found += await built(another_run(f"run-{number}"), sample)
    assert [build["cached"] for build in found] == [False, True, False]
    log = open_store(run.context.data_dir).get(found[2]["files"]["log"]["sha256"]).decode()
    assert "LAMPS 8" in log


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"environments": ["c3-devkot"]}, r"no \[env:c3-devkot\]; did you mean 'c3-devkit'"),
        ({"path": "src"}, "there is no platformio.ini in src"),
        ({"path": "nowhere"}, "there is no folder 'nowhere' in the repository"),
        ({"path": "../../.."}, "leads out of the repository"),
        ({"timeout": "soon"}, "timeout: 'soon' is not a duration"),
        ({"timeout": "48h"}, "timeout: 48h is not between"),
        ({"memoryLimit": "lots"}, "memoryLimit: 'lots' is no size"),
        ({"workspace": "../x"}, "workspace: '../x' is no name"),
    ],
)
async def test_what_cannot_be_built_says_which_field(
    sample: Repository, run: Run, given: dict, words: str
) -> None:
    with pytest.raises(Reject, match=words):
        await built(run, sample, **given)


async def test_two_deliveries_do_not_build_in_one_folder(
    sample: Repository, run: Run, another_run: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podium_workers.firmware.workspace._WAIT_SECONDS", 0.5)
    script(sample, "import time\ntime.sleep(20)")
    first = asyncio.create_task(built(run, sample))
    lock = run.context.data_dir / "firmware" / "work" / "run-1" / "main" / "lock"
    await eventually(lambda: exists(lock), bool)
    with pytest.raises(Retry, match="another delivery of this task is still at work"):
        await built(another_run("run-1"), sample)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_platform_that_cannot_be_downloaded_is_tried_again(sample: Repository, run: Run) -> None:
    ini = (sample.folder / "platformio.ini").read_text()
    sample.commit(
        "Registry", **{"platformio.ini": ini.replace("symlink://platform", "http://127.0.0.1:9/p.tar.gz")}
    )
    with pytest.raises(Retry, match=r"could not download what the project wants.*PODIUM_PLATFORMIO_CORE"):
        await built(run, sample)


async def test_without_platformio_the_reason_is_how_to_get_it(
    sample: Repository, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    platformio.find_platformio.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(Path(shutil.which("git") or "/usr/bin/git").parent))
    try:
        with pytest.raises(Reject, match=r"install podium's extra 'firmware'"):
            await built(run, sample)
    finally:
        platformio.find_platformio.cache_clear()


async def seen(mark: str) -> list[int]:
    return processes_with(mark)


async def exists(path: Path) -> bool:
    return await asyncio.to_thread(path.exists)


def processes_with(mark: str) -> list[int]:
    """`sleep` with this in its arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if words[:1] == [b"sleep"] and any(mark.encode() in word for word in words):
                found.append(int(entry.name))
    return found
