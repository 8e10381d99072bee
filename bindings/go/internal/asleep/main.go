// Asleep is a program without cgo whose goroutines all wait. With cgo the runtime does not notice that (golang/go#29322).
package main

func main() { select {} }
