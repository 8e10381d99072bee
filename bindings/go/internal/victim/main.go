//go:build linux && cgo

// Victim is a Go program that ends in a chosen way:
//
//	victim without|with|deferred|open SCENARIO
//
// It has the library or not, and main closes it when the scenario has returned, by a deferred call, or never. It prints
// "ready", waits for a line, and then ends. The library's settings come from the environment. The build tag victim_late
// has it open the library with dlopen(3) when it is running already, instead of being linked to it.
package main

import (
	"bufio"
	"fmt"
	"os"
)

// installation is what a victim does with the library.
type installation interface {
	close()
}

// closeLibrary is for scenarios, too. Without the library it does nothing.
var closeLibrary = func() {}

func main() {
	run, ok := scenarios[os.Args[2]]
	if !ok {
		fail("there is no scenario %s", os.Args[2])
	}
	before, runs := preparations[os.Args[2]]
	if runs {
		before()
	}
	if os.Args[1] != "without" {
		library, err := install(os.Args[2])
		if err != nil {
			fail("%v", err)
		}
		closeLibrary = library.close
	}
	if os.Args[1] == "deferred" {
		defer closeLibrary()
	}
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		fail("%v", err)
	}
	run()
	if os.Args[1] == "with" {
		closeLibrary()
	}
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "victim: "+format+"\n", arguments...)
	os.Exit(99)
}
