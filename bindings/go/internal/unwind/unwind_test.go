package unwind_test

import (
	"runtime"
	"testing"

	"github.com/ondat/telemetry/bindings/go/internal/unwind"
)

var nowhere *int

//go:noinline
func deeper(frames int, then func()) {
	if frames > 0 {
		deeper(frames-1, then)
		return
	}
	then()
}

// Each calls look once, where its name says. The main goroutine's Goexit cannot be had in a test: the victims have it.
var places = []struct {
	name    string
	isFatal bool
	run     func(look func())
}{
	{"a call", false, func(look func()) { look() }},
	{"a deferred call", false, func(look func()) { defer look() }},
	{"a panic", true, func(look func()) {
		defer look()
		panic("here")
	}},
	{"a panic of panic(nil)", true, func(look func()) {
		defer look()
		panic(nil)
	}},
	{"a fault", true, func(look func()) {
		defer look()
		*nowhere = 1
	}},
	{"a nil map", true, func(look func()) {
		defer look()
		var none map[string]int
		none["here"] = 1
	}},
	{"an index", true, func(look func()) {
		defer look()
		var none []int
		none[len(none)] = 1
	}},
	{"a panic under deferred calls in a loop", true, func(look func()) {
		for range 1 {
			defer look()
		}
		panic("here")
	}},
	{"a panic in a loop over a function", true, func(look func()) {
		for range func(yield func() bool) { yield() } {
			defer look()
			panic("here")
		}
	}},
	{"a panic far below", true, func(look func()) {
		defer look()
		deeper(1000, func() { panic("here") })
	}},
	{"a panic far above", true, func(look func()) {
		defer func() { deeper(1000, look) }()
		panic("here")
	}},
	{"the end of a function that a panic calls", true, func(look func()) {
		defer func() {
			func() { defer look() }()
		}()
		panic("here")
	}},
	{"a panic in a deferred call", true, func(look func()) {
		defer look()
		defer func() { panic("here") }()
	}},
	{"a panic after a recovered one", true, func(look func()) {
		defer look()
		defer func() { panic(recover()) }()
		panic("here")
	}},
	{"where a panic was recovered", true, func(look func()) {
		defer func() {
			_ = recover()
			look()
		}()
		panic("here")
	}},
	{"after where a panic was recovered", false, func(look func()) {
		defer look()
		defer func() { _ = recover() }()
		panic("here")
	}},
	{"Goexit", false, func(look func()) {
		defer look()
		runtime.Goexit()
	}},
	{"Goexit far above", false, func(look func()) {
		defer func() { deeper(1000, look) }()
		runtime.Goexit()
	}},
	{"Goexit in a panic", false, func(look func()) {
		defer look()
		defer runtime.Goexit()
		panic("here")
	}},
	{"a panic in Goexit", true, func(look func()) {
		defer look()
		defer func() { panic("here") }()
		runtime.Goexit()
	}},
	{"Goexit after a recovered panic", false, func(look func()) {
		defer look()
		defer func() {
			defer func() { _ = recover() }()
			panic("here")
		}()
		runtime.Goexit()
	}},
}

func TestIsFatal(t *testing.T) {
	for _, place := range places {
		t.Run(place.name, func(t *testing.T) {
			var looks []bool
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { _ = recover() }()
				place.run(func() { looks = append(looks, unwind.IsFatal()) })
			}()
			<-done
			if len(looks) != 1 || looks[0] != place.isFatal {
				t.Fatal(looks)
			}
		})
	}
}
