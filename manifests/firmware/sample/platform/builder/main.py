"""Compiles for the ESP32-C3 with the system's riscv64-unknown-elf-gcc; the image is made by esptool."""

from pathlib import Path

from SCons.Script import Builder, Default, DefaultEnvironment

env = DefaultEnvironment()
platform = Path(env.PioPlatform().get_dir())
prefix = "riscv64-unknown-elf-"
if env.WhereIs(prefix + "gcc") is None:
    print(
        f"Error: {prefix}gcc is not installed (Debian: apt-get install gcc-riscv64-unknown-elf "
        "picolibc-riscv64-unknown-elf)"
    )
    env.Exit(1)
machine = ["-march=rv32imc", "-mabi=ilp32", "--specs=picolibc.specs"]

env.Replace(
    AR=prefix + "ar",
    AS=prefix + "as",
    CC=prefix + "gcc",
    CXX=prefix + "g++",
    LINK=prefix + "gcc",
    RANLIB=prefix + "ranlib",
    SIZETOOL=prefix + "size",
    PROGNAME="firmware",
    PROGSUFFIX=".elf",
    SIZECHECKCMD="$SIZETOOL -A -d $SOURCES",
    # As Espressif's platform counts: what lies in flash, and what is taken of the RAM before anything runs.
    SIZEPROGREGEXP=r"^(?:\.flash\.appdesc|\.flash\.rodata|\.flash\.text|\.dram0\.data)\s+([0-9]+).*",
    SIZEDATAREGEXP=r"^(?:\.dram0\.data|\.dram0\.bss)\s+([0-9]+).*",
)
env.Append(
    ASFLAGS=machine[:2],
    CCFLAGS=[*machine, "-Os", "-Wall", "-Wextra", "-ffunction-sections", "-fdata-sections", "-fno-common"],
    # Paths in the image would make it differ from machine to machine.
    CFLAGS=["-std=gnu11", "-ffile-prefix-map=$PROJECT_DIR=."],
    LINKFLAGS=[
        *machine,
        "-nostartfiles",
        "-Wl,--gc-sections",
        "-Wl,--build-id=none",
        "-T",
        str(platform / "esp32c3.ld"),
    ],
    LIBS=["c", "gcc"],
)
env.Append(
    BUILDERS={
        "ElfToBin": Builder(
            action=env.VerboseAction(
                '"$PYTHONEXE" -m esptool --chip esp32c3 elf2image --flash-mode dio --flash-freq 80m'
                " --flash-size 4MB --elf-sha256-offset 0xb0 -o $TARGET $SOURCES",
                "Building $TARGET",
            ),
            suffix=".bin",
        )
    }
)

start = env.Object("$BUILD_DIR/start.o", str(platform / "start.S"))
env.Append(PIOBUILDFILES=start)
program = env.BuildProgram()
image = env.ElfToBin("$BUILD_DIR/${PROGNAME}", program)
env.AddPlatformTarget("buildprog", image, image, "Build")
Default(["buildprog", "checkprogsize"])
