"""Compiles for the ESP32-C3 with zig, whose compiler is clang; the image is made by esptool.

Both come from PyPI, for every machine that Python runs on: `pip install ziglang esptool`.
"""

import importlib.util
from pathlib import Path

from SCons.Script import Builder, Default, DefaultEnvironment

env = DefaultEnvironment()
platform = Path(env.PioPlatform().get_dir())
missing = [name for name in ("ziglang", "esptool") if importlib.util.find_spec(name) is None]
if missing:
    print(f"Error: {' and '.join(missing)} not installed beside PlatformIO: pip install {' '.join(missing)}")
    env.Exit(1)
# Without debugging information: the paths in it would make images differ from machine to machine.
machine = ["-target", "riscv32-freestanding-none", "-mcpu=generic_rv32+m+c", "-g0"]
zig = "$PYTHONEXE -P -m ziglang"

env.Replace(
    AR=f"{zig} ar",
    AS=f"{zig} cc",
    CC=f"{zig} cc",
    CXX=f"{zig} c++",
    LINK=f"{zig} cc",
    RANLIB=f"{zig} ranlib",
    # zig has no `size`.
    SIZETOOL="$PYTHONEXE",
    SIZECHECKCMD=["$SIZETOOL", str(platform / "builder" / "size.py"), "$SOURCES"],
    PROGNAME="firmware",
    PROGSUFFIX=".elf",
    # As Espressif's platform counts: what lies in flash, and what is taken of the RAM before anything runs.
    SIZEPROGREGEXP=r"^(?:\.flash\.appdesc|\.flash\.rodata|\.flash\.text|\.dram0\.data)\s+([0-9]+).*",
    SIZEDATAREGEXP=r"^(?:\.dram0\.data|\.dram0\.bss)\s+([0-9]+).*",
)
env.Append(
    ASPPFLAGS=machine,
    ASFLAGS=machine,
    CCFLAGS=[
        *machine,
        "-Os",
        "-Wall",
        "-Wextra",
        "-ffreestanding",
        "-fno-builtin",
        "-ffunction-sections",
        "-fdata-sections",
        "-fno-asynchronous-unwind-tables",
        "-fno-sanitize=all",
        "-ffile-prefix-map=$PROJECT_DIR=.",
    ],
    CFLAGS=["-std=gnu11"],
    LINKFLAGS=[
        *machine,
        "-nostdlib",
        "-Wl,--gc-sections",
        "-Wl,--build-id=none",
        f"-Wl,-T,{platform / 'esp32c3.ld'}",
    ],
)
env.Append(
    BUILDERS={
        "ElfToBin": Builder(
            action=env.VerboseAction(
                '"$PYTHONEXE" -P -m esptool --chip esp32c3 elf2image --flash-mode dio --flash-freq 80m'
                " --flash-size 4MB --elf-sha256-offset 0xb0 -o $TARGET $SOURCES",
                "Building $TARGET",
            ),
            suffix=".bin",
        )
    }
)

runtime = [
    env.Object("$BUILD_DIR/start.o", str(platform / "start.S")),
    env.Object("$BUILD_DIR/memory.o", str(platform / "memory.c")),
]
env.Append(PIOBUILDFILES=runtime)
program = env.BuildProgram()
image = env.ElfToBin("$BUILD_DIR/${PROGNAME}", program)
env.AddPlatformTarget("buildprog", image, image, "Build")
Default(["buildprog", "checkprogsize"])
