//go:build linux && cgo

// Victim is a Go program that ends in a chosen way, with the library or without it:
//
//	victim with|without SCENARIO
//
// It prints "ready", waits for a line, and then ends. The library's settings come from the environment. The build tag
// victim_late has it open the library with dlopen(3) when it is running already, instead of being linked to it.
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

func main() {
	run, ok := scenarios[os.Args[2]]
	if !ok {
		fail("there is no scenario %s", os.Args[2])
	}
	before, runs := preparations[os.Args[2]]
	if runs {
		before()
	}
	var library installation
	if os.Args[1] == "with" {
		var err error
		if library, err = install(os.Args[2]); err != nil {
			fail("%v", err)
		}
	}
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		fail("%v", err)
	}
	run()
	if library != nil {
		library.close()
	}
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "victim: "+format+"\n", arguments...)
	os.Exit(99)
}
