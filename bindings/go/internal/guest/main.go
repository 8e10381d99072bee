//go:build linux && cgo

// Guest is Go code in a C program: built with -buildmode=c-shared.
package main

import "C"

var nowhere *int

//go:noinline
func nilDeref() { *nowhere = 1 }

//export guest_recovers
func guest_recovers(count C.int) (recovered C.int) {
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
	return recovered
}

//export guest_panics
func guest_panics() { nilDeref() }

func main() {}
