"""Sections of an ELF file, as `size -A -d` prints them. pyelftools is a part of PlatformIO."""

import sys

from elftools.elf.elffile import ELFFile

with open(sys.argv[1], "rb") as file:  # noqa: PTH123 - elftools wants an open file
    for section in ELFFile(file).iter_sections():
        print(f"{section.name} {section['sh_size']} {section['sh_addr']}")
