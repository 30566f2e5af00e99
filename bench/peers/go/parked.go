package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// residentBytes is VmRSS + VmPTE of this process.
func residentBytes() int64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		fail("%v", err)
	}
	defer f.Close()
	var total int64
	for s := bufio.NewScanner(f); s.Scan(); {
		var kib int64
		if _, err := fmt.Sscanf(s.Text(), "VmRSS: %d kB", &kib); err == nil {
			total += kib * 1024
		} else if _, err := fmt.Sscanf(s.Text(), "VmPTE: %d kB", &kib); err == nil {
			total += kib * 1024
		}
	}
	return total
}

// n goroutines parked in a channel receive: resident bytes and page tables each.
func runIdle(c config) {
	gate := make(chan struct{})
	var arrived atomic.Int64
	var wg sync.WaitGroup
	wg.Add(c.n)
	runtime.GC()
	before := residentBytes()
	for i := 0; i < c.n; i++ {
		go func() {
			arrived.Add(1)
			<-gate
			wg.Done()
		}()
	}
	for arrived.Load() != int64(c.n) {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond)
	after := residentBytes()
	c.print("bytes_per_task=%.0f", float64(after-before)/float64(c.n))
	close(gate)
	wg.Wait()
}

// n goroutines sleep once for 100 to 999 ms, spread evenly; how late do they wake?
func runSleepers(c config) {
	late := make([]time.Duration, c.n)
	var wg sync.WaitGroup
	wg.Add(c.n)
	for i := 0; i < c.n; i++ {
		go func(i int) {
			d := time.Duration(100+i*7919%900) * time.Millisecond
			start := time.Now()
			time.Sleep(d)
			late[i] = time.Since(start) - d
			wg.Done()
		}(i)
	}
	wg.Wait()
	sort.Slice(late, func(a, b int) bool { return late[a] < late[b] })
	ms := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
	c.print("late_p50_ms=%.3f late_p99_ms=%.3f late_max_ms=%.3f",
		ms(late[c.n/2]), ms(late[c.n*99/100]), ms(late[c.n-1]))
}

// n goroutines sleep one second; time from the first start to the last end.
func runSleepAll(c config) {
	var wg sync.WaitGroup
	wg.Add(c.n)
	start := time.Now()
	for i := 0; i < c.n; i++ {
		go func() {
			time.Sleep(time.Second)
			wg.Done()
		}()
	}
	wg.Wait()
	c.nsPerOp(start, c.n)
}

// runIdleCPU waits n milliseconds with an idle listener and prints the CPU time of the process.
func runIdleCPU(c config) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail("%v", err)
	}
	go listener.Accept()
	time.Sleep(200 * time.Millisecond)
	cpu := func() int64 {
		var used syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &used)
		return (used.Utime.Sec+used.Stime.Sec)*1_000_000 + used.Utime.Usec + used.Stime.Usec
	}
	before := cpu()
	time.Sleep(time.Duration(c.n) * time.Millisecond)
	c.print("cpu_percent=%.4f", float64(cpu()-before)/float64(c.n)/10)
}

// runWake: work arrives while every processor sleeps; the time from the send to the first
// instruction of the goroutine that it wakes on another thread, n times.
func runWake(c config) {
	runtime.LockOSThread() // the sender keeps its thread, so the receiver must be woken on another
	ping, pong := make(chan time.Time, 1), make(chan int64, 1)
	go func() {
		for sent := range ping {
			pong <- int64(time.Since(sent))
		}
	}()
	times := make([]int64, c.n)
	for i := range times {
		pause := syscall.Timespec{Nsec: 200_000}
		syscall.Nanosleep(&pause, nil)
		ping <- time.Now()
		times[i] = <-pong
	}
	close(ping)
	sort.Slice(times, func(a, b int) bool { return times[a] < times[b] })
	c.print("wake_p50_us=%.2f wake_p99_us=%.2f", float64(times[c.n/2])/1e3, float64(times[c.n*99/100])/1e3)
}
