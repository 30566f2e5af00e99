package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// listenQuietly opens the port and says so on stdout.
func (c config) listenQuietly() net.Listener {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", c.port))
	if err != nil {
		fail("%v", err)
	}
	fmt.Printf("ready port=%d\n", listener.Addr().(*net.TCPAddr).Port)
	return listener
}

// listen opens the port and arranges that SIGTERM prints the CPU time used.
func (c config) listen() net.Listener {
	listener := c.listenQuietly()
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		var used syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &used)
		c.print("user_us=%d system_us=%d", used.Utime.Sec*1e6+used.Utime.Usec,
			used.Stime.Sec*1e6+used.Stime.Usec)
		os.Exit(0)
	}()
	return listener
}

func runEchoServer(c config) {
	listener := c.listen()
	for {
		conn, err := listener.Accept()
		if err != nil {
			fail("%v", err)
		}
		go func() {
			defer conn.Close()
			var buf [4096]byte
			for {
				n, err := conn.Read(buf[:])
				if err != nil {
					return
				}
				if _, err := conn.Write(buf[:n]); err != nil {
					return
				}
			}
		}()
	}
}

// startHogs: as many goroutines as there are processors run an endless loop, and as many read from a
// pipe that never fills.
func (c config) startHogs() {
	var fds [2]int
	if err := syscall.Pipe(fds[:]); err != nil {
		fail("%v", err)
	}
	for i := 0; i < c.workers; i++ {
		go func() {
			for {
			}
		}()
		go func() {
			var b [1]byte
			if n, _ := syscall.Read(fds[0], b[:]); n != 0 {
				fail("the pipe never fills")
			}
		}()
	}
}

func runHTTPServer(c config) {
	var hogs sync.Once
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, "Hello, world!")
		if c.hogs {
			hogs.Do(c.startHogs)
		}
	})
	fail("%v", http.Serve(c.listen(), mux))
}
