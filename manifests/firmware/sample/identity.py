"""Puts the commit into the firmware: builds by Podium have it in PODIUM_COMMIT."""

import os

Import("env")  # noqa: F821 - SCons puts it there

env.Append(CPPDEFINES=[("BUILD_COMMIT", env.StringifyMacro(os.environ.get("PODIUM_COMMIT", "unknown")))])  # noqa: F821
