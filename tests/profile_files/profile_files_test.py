"""Profiles without code: WEFT_...PROFILE, WEFT_PROFILE_SIGNAL, and the flags of test_main and bench_main.

  profile_files_test.py PROGRAM TESTS [BENCH]
"""

import glob
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAMS = sys.argv[1:4]
GO = os.environ.get("WEFT_GO") or shutil.which("go", path=os.environ.get("PATH", "") +
                                               ":/usr/lib/go/bin:/usr/lib/go-1.19/bin:/usr/local/go/bin")
# A profile that the build does not have is refused by name, which is tested as well.
ENVIRONMENT = {"WEFT_MEMPROFILE": "heap", "WEFT_BLOCKPROFILE": "block", "WEFT_MUTEXPROFILE": "mutex",
               "WEFT_WAITPROFILE": "wait", "WEFT_TASKPROFILE": "goroutine"}


class ProfileFilesTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="weft-profile-files-")
        self.addCleanup(shutil.rmtree, self.directory)

    def path(self, name):
        return os.path.join(self.directory, name)

    def run_program(self, arguments, program=0, **environment):
        return subprocess.run([PROGRAMS[program], *arguments], capture_output=True, text=True, timeout=120,
                              check=False, cwd=self.directory, env={**os.environ, **environment})

    def pprof(self, *arguments):
        done = subprocess.run([GO, "tool", "pprof", *arguments], capture_output=True, text=True, timeout=120,
                              check=False, env={**os.environ, "PPROF_TMPDIR": self.directory,
                                                "HOME": self.directory})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def assert_shows(self, file, function, kind):
        text = self.pprof("-top", "-symbolize=none", file)
        self.assertIn(f"Type: {kind}", text)
        self.assertIn(function, text)

    def ends(self, how, status):
        """The program ends in this way, and has written what its environment asked for."""
        files = {"WEFT_CPUPROFILE": self.path("cpu.pb.gz"), "WEFT_TASKPROFILE": self.path("tasks.pb.gz")}
        done = self.run_program([how], **files)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assert_shows(files["WEFT_CPUPROFILE"], "burns_processor_time", "cpu")
        self.assert_shows(files["WEFT_TASKPROFILE"], "waits_for_ever", "goroutine")
        return done

    def test_written_after_run_returned(self):
        self.ends("", 3)

    def test_written_by_exit_in_a_task(self):
        self.ends("exit in a task", 5)

    def test_written_at_sigquit(self):
        self.assertIn("SIGQUIT: quit", self.ends("quit", 2).stderr)

    def test_written_after_an_exception_that_nobody_catches(self):
        self.assertIn("nobody catches this", self.ends("exception", 2).stderr)

    def test_written_after_a_deadlock(self):
        self.assertIn("all tasks are asleep - deadlock!", self.ends("deadlock", 2).stderr)

    def test_every_variable(self):
        for variable, profile in ENVIRONMENT.items():
            with self.subTest(variable):
                file = self.path(profile + ".pb.gz")
                done = self.run_program([], **{variable: file})
                if "no such profile" in done.stderr:
                    self.assertEqual(done.returncode, 2)
                    self.assertIn(f"{variable}={file}: this program has no such profile", done.stderr)
                    continue
                self.assertEqual(done.returncode, 3, done.stderr)
                self.pprof("-raw", file)

    def test_process_id_in_the_name(self):
        with subprocess.Popen([PROGRAMS[0]], cwd=self.directory,
                              env={**os.environ, "WEFT_TASKPROFILE": "tasks-%p-100%%.pb.gz"}) as program:
            self.assertEqual(program.wait(timeout=120), 3)
            self.pprof("-raw", self.path(f"tasks-{program.pid}-100%.pb.gz"))

    def test_a_forked_child_leaves_the_files_to_its_parent(self):
        file = self.path("tasks.pb.gz")
        done = self.run_program(["fork"], WEFT_TASKPROFILE=file)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_shows(file, "waits_for_ever", "goroutine")

    def test_a_file_that_cannot_be_written_ends_the_start(self):
        for variable in ("WEFT_CPUPROFILE", "WEFT_TASKPROFILE"):
            bad = self.path("no-such-directory/file")
            done = self.run_program([], **{variable: bad})
            self.assertEqual(done.returncode, 2)
            self.assertIn(f"{variable}={bad}: cannot write {bad}: No such file or directory", done.stderr)

    def wait_for(self, pattern):
        for _ in range(1000):
            found = [f for f in glob.glob(self.path(pattern)) if os.path.getsize(f) > 0]
            if found:
                return found
            time.sleep(0.02)
        self.fail(f"{pattern} did not appear; there are {os.listdir(self.directory)}")

    # ThreadSanitizer keeps a signal back until the thread that got it calls an intercepted function.
    @unittest.skipIf(os.environ.get("WEFT_TOOLS_SANITIZER") == "thread", "ThreadSanitizer delays signals")
    def test_signals(self):
        program = subprocess.Popen([PROGRAMS[0], "signals"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, env={**os.environ, "WEFT_PROFILE_SIGNAL": "cpu:USR1,all:SIGUSR2",
                                                   "WEFT_PROFILE_DIR": self.directory})
        try:
            self.assertEqual(program.stdout.readline(), "ready\n")
            program.send_signal(signal.SIGUSR1)
            self.assertIn("a CPU profile has begun", program.stderr.readline())
            time.sleep(0.3)
            program.send_signal(signal.SIGUSR1)
            self.assert_shows(self.wait_for(f"cpu.{program.pid}.*.pb.gz")[0], "burns_processor_time", "cpu")
            program.send_signal(signal.SIGUSR2)
            self.assert_shows(self.wait_for(f"goroutine.{program.pid}.*.pb.gz")[0], "waits_for_ever", "goroutine")
            self.wait_for(f"threadcreate.{program.pid}.*.pb.gz")
            self.assertIsNone(program.poll())
        finally:
            program.kill()
            program.communicate()

    def test_signals_that_make_no_sense(self):
        for value in ("QUIT", "USR1,USR1", "USR1,USR2", "all:USR1,cpu:USR1", "cpu:", "11", "nonsense", "cpu:KILL"):
            done = self.run_program([], WEFT_PROFILE_SIGNAL=value)
            self.assertEqual(done.returncode, 2, value)
            self.assertIn(f"WEFT_PROFILE_SIGNAL={value}: it must be", done.stderr)
        done = self.run_program([], WEFT_PROFILE_SIGNAL="USR1", WEFT_PROFILE_DIR="/no/such/directory")
        self.assertEqual(done.returncode, 2)
        self.assertIn("WEFT_PROFILE_DIR=/no/such/directory: No such file or directory", done.stderr)

    def flags(self, program, extra, function):
        out = self.path("out")
        os.mkdir(out)
        absolute = self.path("elsewhere.pb.gz")
        done = self.run_program([*extra, "--cpuprofile=cpu.pb.gz", f"-outputdir={out}"], program=program)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assert_shows(os.path.join(out, "cpu.pb.gz"), function, "cpu")
        for flag, rate in (("memprofile", "memprofilerate"), ("blockprofile", "blockprofilerate"),
                           ("mutexprofile", "mutexprofilefraction")):
            done = self.run_program([*extra, f"--{flag}={absolute}", f"--{rate}=1", "--outputdir=ignored"],
                                    program=program)
            if "no profile named" in done.stderr:
                self.assertEqual(done.returncode, 2)
                continue
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.pprof("-raw", absolute)
        for bad, message in (("--cpuprofile", "a value is missing; write --cpuprofile=VALUE"),
                             ("--cpuprofile=", "a value is missing"),
                             ("--memprofilerate=x", "--memprofilerate=x: it must be a whole number"),
                             ("--memprofilerate=-1", "it must be a whole number of at least 0"),
                             ("--nonsense=1", "unknown argument --nonsense=1"),
                             ("--cpuprofile=/no/such/file", "cannot write /no/such/file")):
            done = self.run_program([*extra, bad], program=program)
            self.assertEqual(done.returncode, 2, bad)
            self.assertIn(message, done.stderr)

    def test_flags_of_test_main(self):
        self.flags(1, ["--gtest_filter=Program.Burns"], "burns_processor_time")
        done = self.run_program(["--gtest_also_run_disabled_tests", "--cpuprofile=cpu"], program=1)
        self.assertEqual(done.returncode, 1, "a failed test stays a failure")
        self.assertTrue(pathlib.Path(self.path("cpu")).stat().st_size > 0)

    @unittest.skipIf(len(PROGRAMS) < 3, "Google Benchmark is not installed")
    def test_flags_of_bench_main(self):
        self.flags(2, ["--benchmark_min_time=0.2"], "burns_processor_time")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
