"""Print what a reader would type: the README's `sh` blocks that call nmsim, its `python` blocks as one script."""

import pathlib
import re
import sys

text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
blocks = re.findall(r"^```(sh|python)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
commands = [block for kind, block in blocks if kind == "sh" and block.lstrip().startswith("nmsim ")]
scripts = [block for kind, block in blocks if kind == "python"]
if not commands or not scripts:
    sys.exit("the README shows no nmsim commands or no python example")
for block in commands:
    print(block)
print(f"python - <<'END'\n{''.join(scripts)}END")
