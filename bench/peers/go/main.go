// Command gobench runs the rows of weft's benchmark on the Go runtime. Each subcommand does the
// same number of the same operations as its namesake in bench/weft_*.cc and prints one line of
// name=value figures. bench/README.md says what each row does.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
)

type config struct {
	row     string
	workers int
	n       int
	port    int
	stack   string
	hogs    bool
	debug   int
	profile string
	sliceMs int
}

// print writes the figures of one row: what was run, then format.
func (c config) print(format string, a ...any) {
	fmt.Printf("row=%s workers=%d n=%d ", c.row, c.workers, c.n)
	fmt.Printf(format+"\n", a...)
}

var rows = map[string]struct {
	n   int
	run func(config)
}{
	"switch":            {5_000_000, runSwitch},
	"pingpong":          {1_000_000, runPingPong},
	"spawn":             {1_000_000, runSpawn},
	"spawn_all":         {1_000_000, runSpawnAll},
	"skynet":            {1_000_000, runSkynet},
	"chan_buffered":     {4_000_000, runChanBuffered},
	"select4":           {1_000_000, runSelect4},
	"mutex_uncontended": {20_000_000, runMutexUncontended},
	"rwmutex_read":      {20_000_000, runRWMutexRead},
	"mutex8":            {4_000_000, runMutex8},
	"idle":              {100_000, runIdle},
	"sleepers":          {100_000, runSleepers},
	"sleep_all":         {1_000_000, runSleepAll},
	"echo_server":       {0, runEchoServer},
	"http_server":       {0, runHTTPServer},
	"freeze_server":     {0, runHTTPServer},
	"goroutine":         {100_000, runGoroutineProfile},
	"http_profiled":     {0, runHTTPProfiled},
	"idle_cpu":          {3_000, runIdleCPU},
	"wake":              {10_000, runWake},
}

func fail(format string, a ...any) {
	fmt.Fprintf(os.Stderr, "gobench: "+format+"\n", a...)
	os.Exit(2)
}

func main() {
	if len(os.Args) < 2 {
		fail("usage: gobench ROW [--workers=N] [--n=N] [--port=P]")
	}
	c := config{row: os.Args[1]}
	row, ok := rows[c.row]
	if !ok {
		fail("unknown row %q", c.row)
	}
	flags := flag.NewFlagSet(c.row, flag.ExitOnError)
	flags.IntVar(&c.workers, "workers", 1, "GOMAXPROCS, 1 to 1024")
	flags.IntVar(&c.n, "n", row.n, "number of operations or goroutines")
	flags.IntVar(&c.port, "port", 0, "port of a server on 127.0.0.1, 0 picks one")
	flags.StringVar(&c.stack, "stack", "default", "accepted and ignored: Go has one kind of stack")
	flags.BoolVar(&c.hogs, "hogs", false, "freeze_server: hold all processors after the first answer")
	flags.IntVar(&c.debug, "debug", 0, "goroutine: the form of the profile")
	flags.StringVar(&c.profile, "profile", "none", "http_profiled: what to switch on and off")
	flags.IntVar(&c.sliceMs, "slice-ms", 25, "http_profiled: how long it stays on or off")
	flags.Parse(os.Args[2:])
	if flags.NArg() != 0 {
		fail("unexpected argument %q", flags.Arg(0))
	}
	if c.workers < 1 || c.workers > 1024 {
		fail("--workers=%d is not from 1 to 1024", c.workers)
	}
	if c.n < 0 || (row.n > 0 && c.n < 8) {
		fail("--n=%d is too small, at least 8", c.n)
	}
	runtime.GOMAXPROCS(c.workers)
	row.run(c)
}
