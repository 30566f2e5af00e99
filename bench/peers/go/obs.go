package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

type countingWriter struct{ bytes int64 }

func (w *countingWriter) Write(p []byte) (int, error) {
	w.bytes += int64(len(p))
	return len(p), nil
}

//go:noinline
func parkDeep(depth, kind int, gate, never chan bool) {
	if depth > 0 {
		parkDeep(depth-1, kind, gate, never)
	} else if kind%2 == 0 {
		<-gate
	} else {
		select {
		case <-gate:
		case <-never:
		}
	}
}

// coreWait tells how long the calling thread has waited for a core: what another process takes is
// not a stall that the profile has made.
type coreWait struct {
	tid    int
	waited int64
}

func readCoreWait() int64 {
	text, err := os.ReadFile("/proc/thread-self/schedstat")
	if err != nil {
		return 0
	}
	var ran, waited int64
	fmt.Sscanf(string(text), "%d %d", &ran, &waited)
	return waited
}

func newCoreWait() coreWait { return coreWait{syscall.Gettid(), readCoreWait()} }

// since is 0 if the goroutine is on another thread by now.
func (w coreWait) since() time.Duration {
	if now := readCoreWait(); syscall.Gettid() == w.tid && now > w.waited {
		return time.Duration(now - w.waited)
	}
	return 0
}

// stall is the longest time between two looks at the clock, and the longest less what the thread waited
// for a core meanwhile.
type stall struct{ wall, own time.Duration }

// stallOfCaller looks at the clock until running is false, and calls between before each look.
func stallOfCaller(running func() bool, between func()) stall {
	const lookCloser, freshFor = 50 * time.Microsecond, time.Millisecond
	var longest stall
	wait := newCoreWait()
	last := time.Now()
	restarted := last
	for running() {
		between()
		now := time.Now()
		gap := now.Sub(last)
		last = now
		if gap > longest.wall {
			longest.wall = gap
		}
		if gap > lookCloser {
			if own := gap - wait.since(); own > longest.own {
				longest.own = own
			}
		}
		if gap > lookCloser || now.Sub(restarted) > freshFor {
			wait = newCoreWait()
			last = time.Now()
			restarted = last
		}
	}
	return longest
}

// longestStall is the longest time between two looks at the clock while f runs, less what the thread
// waited for a core.
func longestStall(f func()) time.Duration {
	var stage atomic.Int32
	ended := make(chan stall)
	go func() {
		stage.Store(1)
		ended <- stallOfCaller(func() bool { return stage.Load() == 1 }, runtime.Gosched)
	}()
	for stage.Load() == 0 {
		runtime.Gosched()
	}
	f()
	stage.Store(2)
	return (<-ended).own
}

// runGoroutineProfile: n parked goroutines; how long the goroutine profile takes, and the longest
// stall of a goroutine that looks at the clock.
func runGoroutineProfile(c config) {
	gate, never := make(chan bool), make(chan bool)
	var arrived atomic.Int64
	for i := 0; i < c.n; i++ {
		go func(i int) {
			arrived.Add(1)
			parkDeep(6, i, gate, never)
		}(i)
	}
	for arrived.Load() != int64(c.n) {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond)
	runtime.GC()
	var sink countingWriter
	var wall, took time.Duration
	stall := longestStall(func() {
		wait := newCoreWait()
		start := time.Now()
		pprof.Lookup("goroutine").WriteTo(&sink, c.debug)
		wall = time.Since(start)
		took = wall - wait.since()
	})
	quiet := longestStall(func() { time.Sleep(wall) })
	ms := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
	c.print("ms=%.3f wall_ms=%.3f stall_ms=%.3f quiet_stall_ms=%.3f bytes=%d",
		ms(took), ms(wall), ms(stall), ms(quiet), sink.bytes)
}

type profileSwitch struct{ start, stop func() }

func startCPU() {
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		fail("%v", err)
	}
}

// The heap profile cannot be switched while a Go program runs: it is on in both halves of a pair.
var profileSwitches = map[string]profileSwitch{
	"none":   {func() {}, func() {}},
	"cpu":    {startCPU, pprof.StopCPUProfile},
	"block1": {func() { runtime.SetBlockProfileRate(1) }, func() { runtime.SetBlockProfileRate(0) }},
	"mutex": {func() { runtime.SetMutexProfileFraction(100) },
		func() { runtime.SetMutexProfileFraction(0) }},
	"all": {func() {
		startCPU()
		runtime.SetBlockProfileRate(10_000)
		runtime.SetMutexProfileFraction(100)
	}, func() {
		runtime.SetMutexProfileFraction(0)
		runtime.SetBlockProfileRate(0)
		pprof.StopCPUProfile()
	}},
}

// pairedWindows are windows with a profile off and on in turn, in groups of four: off on on off, so that
// what gets slower or faster steadily cancels out within each.
type pairedWindows struct {
	inGroup                        int
	cpu, done, totalCPU, totalDone [2]float64 // by whether it was on
	percents                       []string
}

func (w *pairedWindows) nextIsOn() bool { return w.inGroup == 1 || w.inGroup == 2 }

func (w *pairedWindows) add(cpu, done float64) {
	on := 0
	if w.nextIsOn() {
		on = 1
	}
	w.cpu[on] += cpu
	w.done[on] += done
	if w.inGroup++; w.inGroup < 4 {
		return
	}
	percent := (w.cpu[1]/w.done[1]/(w.cpu[0]/w.done[0]) - 1) * 100
	w.percents = append(w.percents, fmt.Sprintf("%.4f", percent))
	for i := range w.cpu {
		w.totalCPU[i] += w.cpu[i]
		w.totalDone[i] += w.done[i]
	}
	w.restartGroup()
}

func (w *pairedWindows) restartGroup() {
	w.inGroup = 0
	w.cpu, w.done = [2]float64{}, [2]float64{}
}

func (w *pairedWindows) print(c config) {
	c.print("groups=%d off_ns=%.2f on_ns=%.2f overhead_percent=%s", len(w.percents),
		w.totalCPU[0]/w.totalDone[0], w.totalCPU[1]/w.totalDone[1], strings.Join(w.percents, ","))
}

func processCPU() float64 {
	var used syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return float64(used.Utime.Sec+used.Stime.Sec)*1e9 + float64(used.Utime.Usec+used.Stime.Usec)*1e3
}

// runHTTPProfiled: a server that switches a profile on and off in turn until SIGTERM.
func runHTTPProfiled(c config) {
	profile, ok := profileSwitches[c.profile]
	if !ok {
		fmt.Fprintf(os.Stderr, "gobench: Go has no profile %s that can be switched\n", c.profile)
		os.Exit(4)
	}
	var requests atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, "Hello, world!")
	})
	term := make(chan os.Signal, 1)
	listener := c.listenQuietly()
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		var windows pairedWindows
		for ended := false; !ended; {
			on := windows.nextIsOn()
			if on {
				profile.start()
			}
			// A profile's own thread begins and ends in that time.
			time.Sleep(5 * time.Millisecond)
			cpuStart, requestsStart := processCPU(), requests.Load()
			select {
			case <-term:
				ended = true
			case <-time.After(time.Duration(c.sliceMs) * time.Millisecond):
			}
			cpu := processCPU() - cpuStart
			done := requests.Load() - requestsStart
			if on {
				profile.stop()
			}
			if ended {
				break
			}
			if done < 100 {
				windows.restartGroup()
			} else {
				windows.add(cpu, float64(done))
			}
		}
		windows.print(c)
		os.Exit(0)
	}()
	fail("%v", http.Serve(listener, mux))
}
