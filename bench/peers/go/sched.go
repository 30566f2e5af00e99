package main

import (
	"runtime"
	"sync"
	"time"
)

// nsPerOp prints the mean of n operations since start.
func (c config) nsPerOp(start time.Time, n int) {
	elapsed := time.Since(start)
	c.print("ns_per_op=%.2f ms_total=%.3f", float64(elapsed.Nanoseconds())/float64(n),
		float64(elapsed.Nanoseconds())/1e6)
}

// Two goroutines that do nothing but yield, n times in all.
func runSwitch(c config) {
	var wg sync.WaitGroup
	wg.Add(2)
	start := time.Now()
	for i := 0; i < 2; i++ {
		go func() {
			for k := 0; k < c.n/2; k++ {
				runtime.Gosched()
			}
			wg.Done()
		}()
	}
	wg.Wait()
	c.nsPerOp(start, c.n/2*2)
}

// n round trips over two unbuffered channels.
func runPingPong(c config) {
	ping, pong := make(chan int), make(chan int)
	go func() {
		for v := range ping {
			pong <- v
		}
	}()
	start := time.Now()
	for i := 0; i < c.n; i++ {
		ping <- i
		if <-pong != i {
			fail("pingpong: a value was lost")
		}
	}
	c.nsPerOp(start, c.n)
	close(ping)
}

// Starts a goroutine and waits for its end, n times one after the other.
func runSpawn(c config) {
	var wg sync.WaitGroup
	start := time.Now()
	for i := 0; i < c.n; i++ {
		wg.Add(1)
		go func() { wg.Done() }()
		wg.Wait()
	}
	c.nsPerOp(start, c.n)
}

// Starts n goroutines before waiting for any.
func runSpawnAll(c config) {
	var wg sync.WaitGroup
	wg.Add(c.n)
	start := time.Now()
	for i := 0; i < c.n; i++ {
		go func() { wg.Done() }()
	}
	wg.Wait()
	c.nsPerOp(start, c.n)
}

func skynet(out chan<- int64, first, size int64) {
	if size == 1 {
		out <- first
		return
	}
	in := make(chan int64)
	for i := int64(0); i < 10; i++ {
		go skynet(in, first+i*(size/10), size/10)
	}
	var sum int64
	for i := 0; i < 10; i++ {
		sum += <-in
	}
	out <- sum
}

// A tree of goroutines, ten children each, whose n leaves send up their number (n a power of ten).
func runSkynet(c config) {
	for size := c.n; size > 1; size /= 10 {
		if size%10 != 0 {
			fail("skynet: --n=%d is not a power of ten", c.n)
		}
	}
	out := make(chan int64)
	start := time.Now()
	go skynet(out, 0, int64(c.n))
	sum := <-out
	if want := int64(c.n) * int64(c.n-1) / 2; sum != want {
		fail("skynet: sum %d, want %d", sum, want)
	}
	c.nsPerOp(start, c.n)
}

// Four producers and four consumers on one channel of 128; n values in all.
func runChanBuffered(c config) {
	const sides = 4
	ch := make(chan int, 128)
	each := c.n / sides
	var producers, consumers sync.WaitGroup
	producers.Add(sides)
	consumers.Add(sides)
	counts := make([]int, sides*16)
	start := time.Now()
	for i := 0; i < sides; i++ {
		go func() {
			for k := 0; k < each; k++ {
				ch <- k
			}
			producers.Done()
		}()
		mine := &counts[i*16]
		go func() {
			received := 0
			for range ch {
				received++
			}
			*mine = received
			consumers.Done()
		}()
	}
	producers.Wait()
	close(ch)
	consumers.Wait()
	total := 0
	for _, v := range counts {
		total += v
	}
	if total != each*sides {
		fail("chan_buffered: received %d of %d", total, each*sides)
	}
	c.nsPerOp(start, total)
}

// One receiver selects over four unbuffered channels, each with its own sender; n values in all.
func runSelect4(c config) {
	var ch [4]chan int
	each := c.n / 4
	for i := range ch {
		ch[i] = make(chan int)
	}
	start := time.Now()
	for i := range ch {
		out := ch[i]
		go func() {
			for k := 0; k < each; k++ {
				out <- 1
			}
		}()
	}
	total := 0
	for k := 0; k < each*4; k++ {
		select {
		case v := <-ch[0]:
			total += v
		case v := <-ch[1]:
			total += v
		case v := <-ch[2]:
			total += v
		case v := <-ch[3]:
			total += v
		}
	}
	if total != each*4 {
		fail("select4: received %d of %d", total, each*4)
	}
	c.nsPerOp(start, total)
}

// One goroutine locks and unlocks a mutex n times.
func runMutexUncontended(c config) {
	var mu sync.Mutex
	counter := 0
	start := time.Now()
	for i := 0; i < c.n; i++ {
		mu.Lock()
		counter++
		mu.Unlock()
	}
	c.nsPerOp(start, counter)
}

// One goroutine locks an RWMutex for reading and unlocks it n times.
func runRWMutexRead(c config) {
	var mu sync.RWMutex
	counter := 0
	start := time.Now()
	for i := 0; i < c.n; i++ {
		mu.RLock()
		counter++
		mu.RUnlock()
	}
	c.nsPerOp(start, counter)
}

// Eight goroutines increment one counter under one mutex; n increments in all.
func runMutex8(c config) {
	const tasks = 8
	each := c.n / tasks
	var mu sync.Mutex
	var wg sync.WaitGroup
	wg.Add(tasks)
	counter := 0
	start := time.Now()
	for t := 0; t < tasks; t++ {
		go func() {
			for i := 0; i < each; i++ {
				mu.Lock()
				counter++
				mu.Unlock()
			}
			wg.Done()
		}()
	}
	wg.Wait()
	if counter != each*tasks {
		fail("mutex8: counter %d, want %d", counter, each*tasks)
	}
	c.nsPerOp(start, counter)
}
