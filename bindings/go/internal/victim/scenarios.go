//go:build linux && cgo

package main

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"sync"
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
	"nil_map":     writeToNilMap,
	"log_fatal":   func() { log.Fatal(secret) },
	"exit_0":      func() { os.Exit(0) },
	"exit_3":      func() { os.Exit(3) },
	"return":      func() {},

	// Close is called on the way.
	"closed_panic":  func() { closeLibrary(); panic(secret) },
	"closed_exit_3": func() { closeLibrary(); os.Exit(3) },
	"deep_panic":    func() { deeper(1000, closeWhilePanicking) },
	"deep_close": func() {
		defer func() { deeper(1000, closeLibrary) }()
		panic(secret)
	},
	"close_in_a_deferred_call": func() {
		defer func() {
			func() { defer closeLibrary() }()
		}()
		panic(secret)
	},
	"panic_in_a_deferred_call": func() {
		defer closeLibrary()
		defer func() { panic(secret) }()
	},
	"goroutine_panic": func() {
		go closeWhilePanicking()
		select {}
	},
	// It goes on after a panic under a deferred Close.
	"recovered_exit_3":      func() { recovering(closeWhilePanicking); os.Exit(3) },
	"recovered_panic":       func() { recovering(closeWhilePanicking); panic(secret) },
	"recovered_segv":        func() { recovering(closeWhilePanicking); kill(syscall.SIGSEGV) },
	"recovered_return":      func() { recovering(closeWhilePanicking) },
	"recovered_closed_exit": func() { recovering(closeWhilePanicking); closeLibrary(); os.Exit(3) },
	"recovered_before_close": func() {
		defer func() {
			fmt.Println("recovered", recover() != nil)
			closeLibrary()
		}()
		panic(secret)
	},
	// Goexit of a goroutine is none of the process, and main's is.
	"goexit_panic":            func() { goroutine(func() { defer closeLibrary(); runtime.Goexit() }); panic(secret) },
	"goexit_in_panic":         func() { goroutine(goexitInPanic); panic(secret) },
	"goexit_recovered_panic":  func() { goroutine(goexitAfterPanic); panic(secret) },
	"panic_in_goexit":         func() { go panicInGoexit(); select {} },
	"main_goexit_panic":       func() { afterMain(func() { panic(secret) }) },
	"main_goexit_map_write":   func() { afterMain(concurrentMapWrite) },
	"main_goexit_exit_3":      func() { afterMain(func() { os.Exit(3) }) },
	"main_goexit_exit_0":      func() { afterMain(func() { os.Exit(0) }) },
	"main_goexit_closed_exit": func() { afterMain(func() { closeLibrary(); os.Exit(3) }) },

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

func writeToNilMap() {
	var none map[string]int
	none[secret] = 1
}

func closeWhilePanicking() {
	defer closeLibrary()
	nilDeref()
}

// recovering says that there was a panic, and that there is none any more.
func recovering(run func()) {
	defer func() { fmt.Println("recovered", recover() != nil) }()
	run()
}

//go:noinline
func deeper(frames int, then func()) {
	if frames > 0 {
		deeper(frames-1, then)
		return
	}
	then()
}

// goroutine waits for the end of another one.
func goroutine(run func()) {
	var ended sync.WaitGroup
	ended.Add(1)
	go func() {
		defer ended.Done()
		run()
	}()
	ended.Wait()
	fmt.Println("the goroutine has ended")
}

func goexitInPanic() {
	defer closeLibrary()
	defer runtime.Goexit()
	panic(secret)
}

func goexitAfterPanic() {
	defer closeLibrary()
	defer recovering(writeToNilMap)
	runtime.Goexit()
}

func panicInGoexit() {
	defer closeLibrary()
	defer func() { panic(secret) }()
	runtime.Goexit()
}

// afterMain ends main's goroutine, and then lets another one go on.
func afterMain(run func()) {
	hasEnded := make(chan bool)
	go func() {
		<-hasEnded
		run()
	}()
	defer close(hasEnded)
	defer closeLibrary()
	runtime.Goexit()
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
