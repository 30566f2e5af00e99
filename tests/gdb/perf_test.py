"""perf's call chains of a task end where the task begins, by frame pointers and by unwind information.

Set by CMake: WEFT_CROWD (crowd.cc) and WEFT_PERF.
"""

import os
import re
import subprocess
import sys
import tempfile
import unittest

CROWD = os.environ["WEFT_CROWD"]
PERF = os.environ.get("WEFT_PERF", "")
ENTRY = "weft_context_entry"


def perf(*arguments):
    return subprocess.run([PERF, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, timeout=240, check=False)


class PerfTest(unittest.TestCase):
    def check(self, method):
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "perf.data")
            # The one event that needs no hardware counter, for user code only: allowed at paranoid level 2.
            recorded = perf("record", "-o", file, "-e", "task-clock:u", "-F", "249", "--call-graph", method, "--",
                            CROWD, "burn", "3")
            if re.search(r"not permitted|No permission|Permission denied|Access to performance|not supported|"
                         r"Function not implemented", recorded.stdout):
                self.skipTest(f"perf is not permitted here: {recorded.stdout.strip().splitlines()[0]}")
            self.assertEqual(recorded.returncode, 0, recorded.stdout)
            script = perf("script", "-i", file, "-F", "ip,sym")
        chains = [re.findall(r"^\s*[0-9a-f]+ (.*)$", block, re.MULTILINE) for block in script.stdout.split("\n\n")]
        of_tasks = [chain for chain in chains if any("weft_task_main" in name for name in chain)]
        self.assertGreater(len(of_tasks), 10, script.stdout[-2000:])
        for chain in of_tasks:
            self.assertIn(ENTRY, chain[-1], chain)
        deep = [chain for chain in of_tasks if sum("burn_deep" in name for name in chain) == 21]
        self.assertGreater(len(deep), 0, "no sample has the whole recursion")

    def test_frame_pointers(self):
        self.check("fp")

    def test_unwind_information(self):
        self.check("dwarf")


if __name__ == "__main__":
    if not PERF or PERF.endswith("NOTFOUND"):
        print("skipped: perf is not installed")
        sys.exit(77)
    unittest.main()
