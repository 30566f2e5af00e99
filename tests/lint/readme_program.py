"""Writes the first ```cpp block of README.md to a file, so that the program a reader meets first is
one that the suite compiles and runs. Usage: readme_program.py README.md OUTPUT.cc"""

import pathlib
import re
import sys

readme, output = map(pathlib.Path, sys.argv[1:3])
text = readme.read_text()
block = re.search(r"^```cpp\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
if not block:
    sys.exit(f"{readme}: no ```cpp block")
line = text.count("\n", 0, block.start(1)) + 1
output.write_text(f'#line {line} "{readme}"\n{block.group(1)}')
