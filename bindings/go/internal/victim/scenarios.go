//go:build linux && cgo

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// What a panic says must not get into any report.
const secret = "secret of /var/lib/volume-7"

// preparations are what some scenarios do before the library is installed.
var preparations = map[string]func(){
	"own_output":  ownOutput,
	"crowd_later": func() { signal.Notify(goOn, syscall.SIGUSR1) },
}

var goOn = make(chan os.Signal, 1)

var scenarios = map[string]func(){
	"panic":         func() { panic(secret) },
	"panic_error":   func() { panic(errors.New(secret)) },
	"panic_feigned": func() { panic(secret + "\nfatal error: " + secret) },
	"panic_again": func() {
		defer func() { panic(fmt.Sprint(recover(), " again")) }()
		panic(secret)
	},
	"nil_deref":   func() { nilDeref() },
	"map_write":   concurrentMapWrite,
	"go_overflow": func() { debug.SetMaxStack(1 << 20); overflow(0) },
	"crowd":       crowd,
	"crowd_later": func() { <-goOn; crowd() },
	"core":        func() { panic(secret) },
	"own_output":  func() { panic(secret) },
	"exit_0":      func() { os.Exit(0) },
	"exit_3":      func() { os.Exit(3) },
	"return":      func() {},

	"recovered":  func() { recoverNilDerefs(10_000) },
	"profiling":  profile,
	"preemption": preempt,
	"notify":     notify,
	"ignore":     ignore,
	"notify_stop": func() {
		notify()
		signal.Reset()
		kill(syscall.SIGABRT)
	},
	"wait": func() { time.Sleep(time.Hour) },
	"sigquit": func() {
		kill(syscall.SIGQUIT)
	},
	"sigsegv": func() { kill(syscall.SIGSEGV) },
	"sigabrt": func() { kill(syscall.SIGABRT) },
}

// kill has this process get a signal as from outside, and waits for what comes of it.
func kill(which syscall.Signal) {
	if err := syscall.Kill(os.Getpid(), which); err != nil {
		fail("%v", err)
	}
	time.Sleep(time.Hour)
}

var nowhere *int

//go:noinline
func nilDeref() { *nowhere = 1 }

func recoverNilDerefs(count int) {
	recovered := 0
	for range count {
		func() {
			defer func() {
				if recover() != nil {
					recovered++
				}
			}()
			nilDeref()
		}()
	}
	fmt.Println("recovered", recovered)
}

func concurrentMapWrite() {
	shared := map[int]int{}
	for range 4 {
		go func() {
			for at := 0; ; at++ {
				shared[at%8] = at
			}
		}()
	}
	select {}
}

func overflow(depth int) int {
	var frame [128]byte
	frame[depth%128] = 1
	return overflow(depth+1) + int(frame[0])
}

// crowd dies with more to tell than a pipe holds.
func crowd() {
	debug.SetTraceback("all")
	for range 5000 {
		go func() { select {} }()
	}
	runtime.Gosched()
	panic(secret)
}

// ownOutput gives the runtime a crash output before the library could.
func ownOutput() {
	file, err := os.Create("own_output")
	if err == nil {
		err = debug.SetCrashOutput(file, debug.CrashOptions{})
	}
	if err != nil {
		fail("%v", err)
	}
}

// profile has SIGPROF come under load and its samples arrive.
func profile() {
	var profile bytes.Buffer
	if err := pprof.StartCPUProfile(&profile); err != nil {
		fail("%v", err)
	}
	sum := 0
	for start := time.Now(); time.Since(start) < 300*time.Millisecond; {
		for at := range 1_000_000 {
			sum += at
		}
	}
	pprof.StopCPUProfile()
	fmt.Println("profiled", profile.Len() > 200, sum > 0)
}

// preempt has the runtime interrupt a loop without calls, by SIGURG, on the only processor.
func preempt() {
	runtime.GOMAXPROCS(1)
	var stop atomic.Bool
	ended := make(chan bool)
	go func() {
		for at := 0; !stop.Load(); at++ {
		}
		ended <- true
	}()
	for range 10 {
		runtime.Gosched()
		runtime.GC()
	}
	stop.Store(true)
	fmt.Println("preempted", <-ended)
}

// notify takes signals that would be crashes.
func notify() {
	signals := make(chan os.Signal, 8)
	all := []os.Signal{syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGABRT, syscall.SIGTRAP, syscall.SIGSYS,
		syscall.SIGXCPU, syscall.SIGXFSZ, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1}
	signal.Notify(signals, all...)
	var got []string
	for range 3 {
		for _, each := range all {
			if err := syscall.Kill(os.Getpid(), each.(syscall.Signal)); err != nil {
				fail("%v", err)
			}
			got = append(got, (<-signals).String())
		}
	}
	signal.Stop(signals)
	fmt.Println(len(got), strings.Join(got, ","))
}

// ignore lets them pass.
func ignore() {
	signal.Ignore(syscall.SIGABRT, syscall.SIGTRAP, syscall.SIGXCPU)
	for _, each := range []syscall.Signal{syscall.SIGABRT, syscall.SIGTRAP, syscall.SIGXCPU} {
		if err := syscall.Kill(os.Getpid(), each); err != nil {
			fail("%v", err)
		}
	}
	fmt.Println("ignored")
}
