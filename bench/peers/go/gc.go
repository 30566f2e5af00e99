package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The rows of `scripts/bench gc`. n is what each row's comment says.
func init() {
	type entry = struct {
		n   int
		run func(config)
	}
	for name, row := range map[string]entry{
		"gc_trees":    {16, runGCTrees},
		"gc_gcbench":  {18, runGCBench},
		"gc_alloc16":  {20_000_000, runGCAlloc16},
		"gc_alloc64":  {20_000_000, runGCAlloc64},
		"gc_noscan64": {20_000_000, runGCNoScan64},
		"gc_make16":   {8_000_000, runGCMake16},
		"gc_two":      {40_000_000, runGCTwo},
		"gc_lru":      {1_000_000, runGCLRU},
		"gc_parked":   {100_000, runGCParked},
		"gc_live":     {1_000, runGCLive},
		"gc_shrink":   {1_000, runGCShrink},
		"gc_reclaim":  {1_000_000, runGCReclaim},
		"gc_inuse":    {100, runGCInuse},
	} {
		rows[name] = row
	}
}

// cpuNs is the CPU time that the process has used, user and system.
func cpuNs() int64 {
	var used syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return used.Utime.Nano() + used.Stime.Nano()
}

func peakBytes() int64 {
	var used syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return used.Maxrss * 1024
}

type meter struct {
	cpu   int64
	start time.Time
}

func startMeter() meter { return meter{cpuNs(), time.Now()} }

// perOp prints CPU and wall time since start, in all and for each of n operations.
func (m meter) perOp(c config, n int) {
	cpu, wall := cpuNs()-m.cpu, time.Since(m.start)
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	c.print("cpu_ns_per_op=%.3f cpu_ms=%.3f ms_total=%.3f collections=%d peak_mb=%.1f gc_cpu=%.4f",
		float64(cpu)/float64(n), float64(cpu)/1e6, float64(wall.Nanoseconds())/1e6, s.NumGC,
		float64(peakBytes())/(1<<20), s.GCCPUFraction)
}

type node struct{ left, right *node }

func makeTree(depth int) *node {
	if depth == 0 {
		return &node{}
	}
	return &node{makeTree(depth - 1), makeTree(depth - 1)}
}

func (t *node) count() int {
	if t.left == nil {
		return 1
	}
	return 1 + t.left.count() + t.right.count()
}

// Binary trees of the benchmarks game, to depth n.
func runGCTrees(c config) {
	m := startMeter()
	nodes := makeTree(c.n + 1).count()
	longLived := makeTree(c.n)
	for depth := 4; depth <= c.n; depth += 2 {
		for i := 1 << (c.n - depth + 4); i > 0; i-- {
			nodes += makeTree(depth).count()
		}
	}
	if longLived.count() != 1<<(c.n+1)-1 {
		fail("gc_trees: the long-lived tree has %d nodes", longLived.count())
	}
	m.perOp(c, nodes+1<<(c.n+1)-1)
}

type payloadNode struct {
	left, right *payloadNode
	i, j        int
}

func populate(depth int, at *payloadNode) {
	if depth <= 0 {
		return
	}
	at.left, at.right = &payloadNode{}, &payloadNode{}
	populate(depth-1, at.left)
	populate(depth-1, at.right)
}

func bottomUp(depth int) *payloadNode {
	if depth <= 0 {
		return &payloadNode{}
	}
	return &payloadNode{left: bottomUp(depth - 1), right: bottomUp(depth - 1)}
}

// GCBench (Ellis, Kovac, Boehm): trees built from the top, which stores into old nodes, and from the
// bottom, beside a long-lived tree of depth n - 2 and an array of doubles. n is the stretch depth.
func runGCBench(c config) {
	m := startMeter()
	size := func(depth int) int { return 1<<(depth+1) - 1 }
	total := size(c.n)
	bottomUp(c.n)
	longLived := &payloadNode{}
	populate(c.n-2, longLived)
	array := make([]float64, 500_000)
	for i := range array[:len(array)/2] {
		array[i] = 1 / float64(i+1)
	}
	total += size(c.n - 2)
	for depth := 4; depth <= c.n-2; depth += 2 {
		rounds := 2 * size(c.n) / size(depth)
		for i := 0; i < rounds; i++ {
			t := &payloadNode{}
			populate(depth, t)
		}
		for i := 0; i < rounds; i++ {
			bottomUp(depth)
		}
		total += 2 * rounds * size(depth)
	}
	if longLived.left == nil || array[1000] != 1/float64(1001) {
		fail("gc_gcbench: the long-lived data changed")
	}
	m.perOp(c, total)
}

type small struct{ next, other *small } // 16 bytes
type large struct {                     // 64 bytes
	next *large
	data [7]uint64
}
type plain struct{ data [8]uint64 } // 64 bytes, no pointers

// What the loops allocate is reachable for 256 allocations.
var (
	ringSmall [256]*small
	ringLarge [256]*large
	ringPlain [256]*plain
)

func runGCAlloc16(c config) {
	m := startMeter()
	for i := 0; i < c.n; i++ {
		ringSmall[i&255] = &small{}
	}
	m.perOp(c, c.n)
}

func runGCAlloc64(c config) {
	m := startMeter()
	for i := 0; i < c.n; i++ {
		ringLarge[i&255] = &large{}
	}
	m.perOp(c, c.n)
}

func runGCNoScan64(c config) {
	m := startMeter()
	for i := 0; i < c.n; i++ {
		ringPlain[i&255] = &plain{}
	}
	m.perOp(c, c.n)
}

// The fast path alone: 16 bytes, collector off, memory touched before by a first round.
func runGCMake16(c config) {
	debug.SetGCPercent(-1)
	for i := 0; i < c.n; i++ {
		ringSmall[i&255] = &small{}
	}
	ringSmall = [256]*small{}
	runtime.GC()
	m := startMeter()
	for i := 0; i < c.n; i++ {
		ringSmall[i&255] = &small{}
	}
	m.perOp(c, c.n)
}

// n allocations of 64 bytes, shared evenly by as many goroutines as workers.
func runGCTwo(c config) {
	var wg sync.WaitGroup
	m := startMeter()
	for w := 0; w < c.workers; w++ {
		wg.Add(1)
		go func() {
			var ring [256]*large
			for i := 0; i < c.n/c.workers; i++ {
				ring[i&255] = &large{}
			}
			runtime.KeepAlive(&ring)
			wg.Done()
		}()
	}
	wg.Wait()
	m.perOp(c, c.n)
}

func quantile(sorted []int64, q float64) float64 {
	i := int(q * float64(len(sorted)))
	if i >= len(sorted) {
		i = len(sorted) - 1
	}
	return float64(sorted[i])
}

// Scherer's latency experiment: a map keeps the last 200 000 of n messages of 1 KiB; how long does a
// push take?
func runGCLRU(c config) {
	const window = 200_000
	messages := make(map[int][]byte, window)
	times := make([]int64, c.n)
	m := startMeter()
	for i := 0; i < c.n; i++ {
		start := time.Now()
		message := make([]byte, 1024)
		for k := range message {
			message[k] = byte(i)
		}
		if i >= window {
			delete(messages, i-window)
		}
		messages[i] = message
		times[i] = int64(time.Since(start))
	}
	cpu := cpuNs() - m.cpu
	sort.Slice(times, func(a, b int) bool { return times[a] < times[b] })
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	c.print("p99_us=%.2f p999_us=%.2f p9999_us=%.2f max_us=%.2f cpu_ms=%.1f collections=%d gc_cpu=%.4f peak_mb=%.1f",
		quantile(times, 0.99)/1e3, quantile(times, 0.999)/1e3, quantile(times, 0.9999)/1e3,
		float64(times[c.n-1])/1e3, float64(cpu)/1e6, s.NumGC, s.GCCPUFraction, float64(peakBytes())/(1<<20))
}

// park starts n goroutines that wait with about 4 KB of stack in use; call the result to end them.
func park(n int) func() {
	gate := make(chan struct{})
	var ready, done sync.WaitGroup
	ready.Add(n)
	done.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			var frame [3 << 10]byte
			waitDeep(gate, &ready, frame[:])
			done.Done()
		}()
	}
	ready.Wait()
	return func() {
		close(gate)
		done.Wait()
	}
}

//go:noinline
func waitDeep(gate chan struct{}, ready *sync.WaitGroup, frame []byte) {
	frame[0] = 1
	ready.Done()
	<-gate
	frame[1] = 1
}

// pauses collects `rounds` times for times and stops, and as often again while another goroutine looks
// at the clock all the time, for the longest time that it lost.
func pauses(c config, rounds int) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m := startMeter()
	for i := 0; i < rounds; i++ {
		runtime.GC()
	}
	cpu, wall := cpuNs()-m.cpu, time.Since(m.start)
	runtime.ReadMemStats(&after)
	// A cycle has two stops, whose sum PauseNs holds.
	stops := make([]int64, 0, 256)
	for i := before.NumGC; i < after.NumGC && len(stops) < 256; i++ {
		stops = append(stops, int64(after.PauseNs[i%256]))
	}
	sort.Slice(stops, func(a, b int) bool { return stops[a] < stops[b] })

	var stop atomic.Bool
	longest := make(chan stall)
	go func() {
		longest <- stallOfCaller(func() bool { return !stop.Load() }, func() {})
	}()
	for i := 0; i < rounds; i++ {
		runtime.GC()
	}
	stop.Store(true)
	lost := <-longest
	c.print("stw_p50_us=%.2f stw_p99_us=%.2f stall_max_us=%.2f stall_own_us=%.2f cycle_ms=%.3f cycle_cpu_ms=%.3f",
		quantile(stops, 0.5)/1e3, quantile(stops, 0.99)/1e3,
		float64(lost.wall.Nanoseconds())/1e3, float64(lost.own.Nanoseconds())/1e3,
		float64(wall.Nanoseconds())/1e6/float64(rounds), float64(cpu)/1e6/float64(rounds))
}

// Collections with n parked goroutines.
func runGCParked(c config) {
	end := park(c.n)
	pauses(c, 30)
	end()
}

type record struct {
	next, other *record
	data        [6]uint64
}

// live makes a list of records of 64 bytes, n MiB in all.
func live(mib int) *record {
	var first *record
	for i := 0; i < mib<<20/64; i++ {
		first = &record{next: first}
		first.other = first.next
	}
	return first
}

// Collections with n MiB alive and 100 000 parked goroutines.
func runGCLive(c config) {
	data := live(c.n)
	end := park(100_000)
	pauses(c, 10)
	end()
	runtime.KeepAlive(data)
}

// n MiB live, then a tenth of that: resident bytes over the heap goal once a minute has passed.
func runGCShrink(c config) {
	kept := live(c.n / 10)
	data := live(c.n - c.n/10)
	runtime.GC()
	runtime.KeepAlive(data)
	data = nil
	runtime.GC()
	time.Sleep(60 * time.Second)
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	c.print("rss_over_goal=%.3f rss_mb=%.1f", float64(residentBytes())/float64(s.NextGC), float64(residentBytes())/(1<<20))
	runtime.KeepAlive(kept)
}

// A graph of n nodes is dropped while 1 000 goroutines are parked: what is left after two collections,
// in per cent of it.
func runGCReclaim(c config) {
	end := park(1_000)
	heap := func() int64 {
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	runtime.GC()
	before := heap()
	graph := make([]*record, c.n)
	for i := range graph {
		graph[i] = &record{}
	}
	for i, r := range graph {
		r.next, r.other = graph[(i*7919+1)%c.n], graph[(i+1)%c.n]
	}
	full := heap()
	runtime.KeepAlive(graph)
	graph = nil
	runtime.GC()
	runtime.GC()
	c.print("left_percent=%.4f", 100*float64(heap()-before)/float64(full-before))
	end()
}

type block64 struct {
	next *block64
	data [7]uint64
}
type block512 struct {
	next *block512
	data [63]uint64
}
type block4096 struct {
	next *block4096
	data [511]uint64
}
type block16384 struct {
	next *block16384
	data [2047]uint64
}

// blockSet has four equal parts.
type blockSet struct {
	small  *block64
	medium *block512
	large  *block4096
	huge   *block16384
}

func (s *blockSet) make(total int) {
	for i := 0; i < total/4/64; i++ {
		s.small = &block64{next: s.small}
	}
	for i := 0; i < total/4/512; i++ {
		s.medium = &block512{next: s.medium}
	}
	for i := 0; i < total/4/4096; i++ {
		s.large = &block4096{next: s.large}
	}
	for i := 0; i < total/4/16384; i++ {
		s.huge = &block16384{next: s.huge}
	}
}

// profiledBytesInUse collects, and again: what a collection finds is published by the next.
func profiledBytesInUse() float64 {
	runtime.GC()
	runtime.GC()
	records := make([]runtime.MemProfileRecord, 10_000)
	n, ok := runtime.MemProfile(records, false)
	if !ok {
		fail("%d records of the heap profile are too many", n)
	}
	sum := 0.0
	for _, r := range records[:n] {
		if r.InUseObjects() > 0 {
			average := float64(r.InUseBytes()) / float64(r.InUseObjects())
			sum += float64(r.InUseBytes()) / (1 - math.Exp(-average/float64(runtime.MemProfileRate)))
		}
	}
	return sum
}

// runGCInuse makes a set of n MiB sixteen times: how far from the truth the profile's bytes in use are,
// on average and at worst.
func runGCInuse(c config) {
	const rounds = 16
	truth := float64(int64(c.n) << 20)
	sum, worst := 0.0, 0.0
	for i := 0; i < rounds; i++ {
		set := new(blockSet)
		set.make(c.n << 20)
		shown := profiledBytesInUse()
		runtime.KeepAlive(set)
		sum += shown
		worst = math.Max(worst, math.Abs(shown/truth-1))
	}
	c.print("error_percent=%.3f worst_percent=%.3f", math.Abs(sum/rounds/truth-1)*100, worst*100)
}
