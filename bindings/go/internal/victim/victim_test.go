//go:build linux && cgo

package main_test

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/ondat/telemetry/bindings/go/internal/sink"
)

// links are the ways in which a program gets the library, and the build tags for them.
var links = map[string]string{
	"shared": "",
	"static": "ondat_telemetry_static",
	"late":   "victim_late",
}

// programs are the victims by link, "race" the one with the race detector.
var programs = map[string]string{}

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "ondat-telemetry-victim")
	if err != nil {
		panic(err)
	}
	build := func(link string, arguments ...string) {
		programs[link] = filepath.Join(folder, link)
		command := exec.Command("go", append([]string{"build", "-o", programs[link]}, arguments...)...)
		if output, err := command.CombinedOutput(); err != nil {
			panic(fmt.Sprintf("%v: %v\n%s", command, err, output))
		}
	}
	for link, tag := range links {
		build(link, "-tags", tag, ".")
	}
	build("race", "-race", ".")
	build("guest", "-buildmode=c-shared", "../guest")
	programs["host"] = filepath.Join(folder, "host")
	command := exec.Command("sh", "-c", `exec ${CC:-cc} -std=c99 -Wall -Wextra -Werror ../guest/testdata/host.c -o "$0" `+
		"$(pkg-config --cflags --libs ondat_telemetry) -ldl", programs["host"])
	if output, err := command.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v: %v\n%s", command, err, output))
	}
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

// library is the shared library of the prefix that pkg-config knows.
func library(t *testing.T) string {
	t.Helper()
	folder, err := exec.Command("pkg-config", "--variable=libdir", "ondat_telemetry").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(folder)), "libondat_telemetry.so.0")
}

// around is what a victim is surrounded by, with the library and without it.
type around struct {
	environment []string
	core        bool
	launcher    []string
	state       string // a state directory for several victims, in which something may stay
	closing     string // how main closes the library: "" when the scenario has returned, "deferred", "open"
	// while is done to the victim after it was told to go on.
	while func(t *testing.T, victim *exec.Cmd, monitor int)
	// after looks at the folder where the victim worked.
	after func(t *testing.T, folder string)
}

// outcome is how a victim ended and what it printed.
type outcome struct {
	status  syscall.WaitStatus
	printed string
}

// run lets a victim end and returns when its monitor is gone, too.
func run(t *testing.T, link, scenario string, around around, server *sink.HTTP) outcome {
	t.Helper()
	mode, folder := "without", t.TempDir()
	limit := "0"
	if around.core {
		limit = "unlimited"
	}
	command := exec.Command("sh", "-c", `ulimit -S -c "$0" && exec "$@"`, limit)
	command.Args = append(append(command.Args, around.launcher...), programs[link])
	command.Dir = folder
	command.Env = append([]string{"PATH=" + os.Getenv("PATH"), "VICTIM_LIBRARY=" + library(t), "GUEST=" + programs["guest"],
		"LD_LIBRARY_PATH=" + filepath.Dir(library(t))}, around.environment...)
	state := filepath.Join(folder, "state")
	if server != nil {
		mode = cmp.Or(around.closing, "with")
		if around.state != "" {
			state = around.state
		}
		must(t, os.MkdirAll(state, 0o700))
		command.Env = append(command.Env, "ONDAT_TELEMETRY_SENTRY_DSN="+server.DSN(), "ONDAT_TELEMETRY_STATE_DIR="+state)
		if link == "static" {
			// Not beside the program.
			command.Env = append(command.Env, "ONDAT_TELEMETRY_MONITOR_PATH="+filepath.Join(filepath.Dir(library(t)),
				"../libexec/ondat-telemetry-monitor"))
		}
	}
	command.Args = append(append(command.Args, mode), strings.Fields(scenario)...)
	said, err := os.Create(filepath.Join(folder, "stderr"))
	must(t, err)
	defer said.Close()
	command.Stderr = said
	input, err := command.StdinPipe()
	must(t, err)
	output, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	hang := time.AfterFunc(sink.Deadline*time.Second, func() { command.Process.Kill() })
	defer hang.Stop()

	reader := bufio.NewReader(output)
	if line, _ := reader.ReadString('\n'); line != "ready\n" {
		command.Process.Kill()
		command.Wait()
		text, _ := os.ReadFile(said.Name())
		t.Fatalf("%s is not ready: %q\n%s", scenario, line, text)
	}
	monitor := monitorOf(t, launched(t, command.Process.Pid, programs[link]))
	if (monitor >= 0) != (server != nil) {
		t.Fatalf("%s the library: monitor %d", mode, monitor)
	}
	_, err = input.Write([]byte("\n"))
	must(t, err)
	if around.while != nil {
		around.while(t, command, monitor)
	}
	printed, err := io.ReadAll(reader)
	must(t, err)
	// An ending that is no success is what this is about.
	_ = command.Wait()
	if monitor >= 0 {
		awaitEnd(t, monitor)
		must(t, syscall.Close(monitor))
		if left := filesBelow(t, state); len(left) > 0 && around.state == "" {
			t.Fatalf("%v was left in the state directory", left)
		}
	}
	if around.after != nil {
		around.after(t, folder)
	}
	return outcome{command.ProcessState.Sys().(syscall.WaitStatus), string(printed)}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// launched is the process below this one, or this one, that has become the program.
func launched(t *testing.T, pid int, program string) int {
	t.Helper()
	for below := []int{pid}; len(below) > 0; below = below[1:] {
		path := fmt.Sprintf("/proc/%d/", below[0])
		if is, err := os.Readlink(path + "exe"); err == nil && is == program {
			return below[0]
		}
		children, err := os.ReadFile(fmt.Sprint(path, "task/", below[0], "/children"))
		must(t, err)
		for _, text := range strings.Fields(string(children)) {
			child, err := strconv.Atoi(text)
			must(t, err)
			below = append(below, child)
		}
	}
	t.Fatalf("%s does not run below %d", program, pid)
	panic("unreachable")
}

// monitorOf is a pidfd of the monitor of a process, -1 where there is none: it holds a pidfd of it as descriptor 4.
func monitorOf(t *testing.T, host int) int {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	must(t, err)
	for _, name := range names {
		comm, _ := os.ReadFile(name)
		if !strings.HasPrefix(string(comm), "ondat-telemetry") {
			continue
		}
		held, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "fdinfo/4"))
		if strings.Contains(string(held), fmt.Sprintf("\nPid:\t%d\n", host)) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			must(t, err)
			const pidfdOpen = 434
			monitor, _, errno := syscall.Syscall(pidfdOpen, uintptr(pid), 0, 0)
			if errno != 0 {
				t.Fatal(errno)
			}
			return int(monitor)
		}
	}
	return -1
}

// signalTo sends a signal to the process of a pidfd.
func signalTo(t *testing.T, pidfd int, which syscall.Signal) {
	t.Helper()
	const pidfdSendSignal = 424
	if _, _, errno := syscall.Syscall6(pidfdSendSignal, uintptr(pidfd), uintptr(which), 0, 0, 0, 0); errno != 0 {
		t.Fatal(errno)
	}
}

// awaitEnd waits for the end of the process of a pidfd.
func awaitEnd(t *testing.T, pidfd int) {
	t.Helper()
	const pollIn = 1
	waited := struct {
		fd              int32
		events, revents int16
	}{int32(pidfd), pollIn, 0}
	deadline := time.Now().Add(sink.Deadline * time.Second)
	for {
		left := syscall.NsecToTimespec(max(time.Until(deadline), 0).Nanoseconds())
		ready, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&waited)), 1,
			uintptr(unsafe.Pointer(&left)), 0, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 || ready != 1 {
			t.Fatalf("the monitor does not end: %v", errno)
		}
		return
	}
}

// filesBelow are the files of a state directory but for what the library remembers.
func filesBelow(t *testing.T, folder string) []string {
	t.Helper()
	memory := []string{"cores.json", "cores.lock", "crash.json", "crash-memory.lock", "notice.json", "switches.reserve"}
	var files []string
	must(t, filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		// The administrator's copies of what was delivered.
		if err == nil && entry.IsDir() && entry.Name() == "sent" {
			return filepath.SkipDir
		}
		if err == nil && !entry.IsDir() && !slices.Contains(memory, entry.Name()) {
			files = append(files, path)
		}
		return err
	}))
	return files
}

// both runs a scenario without and with the library: it must end alike and print alike.
func both(t *testing.T, link, scenario string, around around) (outcome, []sink.Event) {
	t.Helper()
	server := sink.ServeHTTP(t, 200)
	without := run(t, link, scenario, around, nil)
	with := run(t, link, scenario, around, server)
	if with != without {
		t.Fatalf("without the library %#x %q, with it %#x %q", without.status, without.printed, with.status, with.printed)
	}
	return with, server.Events(t)
}

const (
	goPanic = "victim exited with code 2 (Go panic)"
	goFatal = "victim exited with code 2 (Go fatal error)"
	exit2   = "victim exited with code 2"
	exit3   = "victim exited with code 3"
	segv    = "victim killed by SIGSEGV"
)

var deaths = []struct {
	scenario string
	status   syscall.WaitStatus
	what     string // of the report; "" for none
	around   around
}{
	// Go dies.
	{"panic", 2 << 8, goPanic, around{}},
	{"panic_error", 2 << 8, goPanic, around{}},
	{"panic_again", 2 << 8, goPanic, around{}},
	{"panic_feigned", 2 << 8, goPanic, around{}},
	{"nil_deref", 2 << 8, goPanic, around{}},
	{"map_write", 2 << 8, goFatal, around{}},
	{"go_overflow", 2 << 8, goFatal, around{}},
	{"crowd", 2 << 8, goPanic, around{}},
	{"panic", 6, "victim killed by SIGABRT (Go panic)", around{environment: []string{"GOTRACEBACK=crash"}}},
	{"map_write", 6, "victim killed by SIGABRT (Go fatal error)", around{environment: []string{"GOTRACEBACK=crash"}}},
	{"panic", 2 << 8, goPanic, around{environment: []string{"GOTRACEBACK=none"}}},
	{"map_write", 2 << 8, exit2, around{environment: []string{"GOTRACEBACK=none"}}},
	{"own_output", 2 << 8, exit2, around{}},
	// C dies below it.
	{"c_segv", 2 << 8, exit2, around{}},
	{"c_abort", 2 << 8, exit2, around{}},
	{"c_overflow", 2 << 8, exit2, around{}},
	{"thread_segv", 11, segv, around{}},
	{"thread_abort", 6, "victim killed by SIGABRT (sent by a process)", around{}},
	{"thread_overflow", 11, segv, around{}},
	// It is told to.
	{"sigsegv", 2 << 8, exit2, around{}},
	{"sigabrt", 2 << 8, exit2, around{}},
	{"sigquit", 2 << 8, "", around{}},
	{"notify_stop", 2 << 8, exit2, around{}},
	{"wait", 9, "victim killed by SIGKILL", around{while: killed(syscall.SIGKILL)}},
	{"wait", 15, "", around{while: killed(syscall.SIGTERM)}},
	// It exits.
	{"exit_3", 3 << 8, exit3, around{}},
	{"exit_0", 0, "", around{}},
	{"return", 0, "", around{}},
	// It lives.
	{"recovered", 0, "", around{}},
	{"profiling", 0, "", around{}},
	{"preemption", 0, "", around{}},
	{"notify", 0, "", around{}},
	{"ignore", 0, "", around{}},
	// Main defers Close.
	{"panic", 2 << 8, goPanic, deferred},
	{"panic_error", 2 << 8, goPanic, deferred},
	{"panic_again", 2 << 8, goPanic, deferred},
	{"nil_deref", 2 << 8, goPanic, deferred},
	{"nil_map", 2 << 8, goPanic, deferred},
	{"deep_panic", 2 << 8, goPanic, deferred},
	{"goroutine_panic", 2 << 8, goPanic, deferred},
	{"panic", 6, "victim killed by SIGABRT (Go panic)",
		around{closing: "deferred", environment: []string{"GOTRACEBACK=crash"}}},
	{"map_write", 2 << 8, goFatal, deferred},
	{"log_fatal", 1 << 8, "victim exited with code 1", deferred},
	{"exit_3", 3 << 8, exit3, deferred},
	{"exit_0", 0, "", deferred},
	{"return", 0, "", deferred},
	{"recovered", 0, "", deferred},
	// Something else defers it, or calls it deferred.
	{"deep_panic", 2 << 8, goPanic, open},
	{"deep_close", 2 << 8, goPanic, open},
	{"close_in_a_deferred_call", 2 << 8, goPanic, open},
	{"panic_in_a_deferred_call", 2 << 8, goPanic, open},
	{"goroutine_panic", 2 << 8, goPanic, open},
	{"recovered_exit_3", 3 << 8, exit3, open},
	{"recovered_panic", 2 << 8, goPanic, open},
	{"recovered_segv", 2 << 8, exit2, open},
	{"recovered_return", 0, "", open},
	{"recovered_return", 0, "", deferred},
	{"recovered_before_close", 0, "", open},
	{"panic_in_goexit", 2 << 8, goPanic, open},
	{"main_goexit_panic", 2 << 8, goPanic, open},
	{"main_goexit_map_write", 2 << 8, goFatal, open},
	{"main_goexit_exit_3", 3 << 8, exit3, open},
	{"main_goexit_exit_0", 0, "", open},
	// A Close of another kind is the end of the watch, whatever comes.
	{"closed_panic", 2 << 8, "", open},
	{"closed_exit_3", 3 << 8, "", open},
	{"recovered_closed_exit", 3 << 8, "", open},
	{"goexit_panic", 2 << 8, "", open},
	{"goexit_in_panic", 2 << 8, "", open},
	{"goexit_recovered_panic", 2 << 8, "", open},
	{"main_goexit_closed_exit", 3 << 8, "", open},
}

var deferred, open = around{closing: "deferred"}, around{closing: "open"}

func killed(by syscall.Signal) func(*testing.T, *exec.Cmd, int) {
	return func(t *testing.T, victim *exec.Cmd, _ int) { must(t, victim.Process.Signal(by)) }
}

func TestDeaths(t *testing.T) {
	for link := range links {
		for _, death := range deaths {
			name := strings.Join(slices.Concat([]string{link, death.scenario, cmp.Or(death.around.closing, "closed")},
				death.around.environment), "/")
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				check(t, link, death.scenario, death.status, death.what, death.around)
			})
		}
	}
}

func TestDeathsUnderTheRaceDetector(t *testing.T) {
	for _, death := range deaths {
		switch death.scenario {
		case "panic", "nil_deref", "c_segv", "thread_segv", "recovered", "exit_3":
			t.Run(death.scenario+death.around.closing+strings.Join(death.around.environment, ""), func(t *testing.T) {
				t.Parallel()
				check(t, "race", death.scenario, death.status, death.what, death.around)
			})
		}
	}
}

// A C program with Go code in it, whose runtime comes before our handler or after it.
func TestDeathsOfACHostOfGo(t *testing.T) {
	for _, death := range []struct {
		scenario string
		status   syscall.WaitStatus
		what     string
	}{
		{"recovers", 0, ""},
		{"panics", 6, "victim killed by SIGABRT (sent by a process)"},
		{"segv", 11, "victim killed by SIGSEGV (address not mapped)"},
		{"abort", 6, "victim killed by SIGABRT (sent by a process)"},
	} {
		for _, order := range []string{"before ", "after "} {
			t.Run(order+death.scenario, func(t *testing.T) {
				t.Parallel()
				check(t, "host", order+death.scenario, death.status, death.what, around{})
			})
		}
	}
}

func check(t *testing.T, link, scenario string, status syscall.WaitStatus, what string, around around) {
	t.Helper()
	ended, events := both(t, link, scenario, around)
	if ended.status != status {
		t.Fatalf("the scenario did not happen: %#x %q", ended.status, ended.printed)
	}
	if what == "" {
		if len(events) > 0 {
			t.Fatalf("%+v", events)
		}
		return
	}
	checkEvent(t, events, what, "false")
}

// checkEvent has one event say this, and nothing that a Go runtime says.
func checkEvent(t *testing.T, events []sink.Event, what, coreDump string) {
	t.Helper()
	if len(events) != 1 {
		t.Fatalf("%d events: %+v", len(events), events)
	}
	event := events[0]
	if event.What() != what || event.Tags["core_dump"] != coreDump {
		t.Fatalf("got %q with a core dump %q, want %q, %q", event.What(), event.Tags["core_dump"], what, coreDump)
	}
	for _, text := range []string{"secret", "volume", "goroutine", "main.", ".go", "runtime", "0x", "segmentation", "panic: "} {
		if strings.Contains(event.Envelope, text) {
			t.Fatalf("%q is in %s", text, event.Envelope)
		}
	}
	var fields map[string]any
	must(t, json.Unmarshal([]byte(strings.Split(event.Envelope, "\n")[2]), &fields))
	want := []string{"event_id", "exception", "fingerprint", "level", "platform", "release", "tags", "timestamp"}
	if got := slices.Sorted(maps.Keys(fields)); !slices.Equal(got, want) {
		t.Fatalf("an event of %v", got)
	}
}

// A monitor that is stopped holds up no crash, however much there is to say, and reports it later.
func TestAStoppedMonitorHoldsNothingUp(t *testing.T) {
	t.Parallel()
	server := sink.ServeHTTP(t, 200)
	without := run(t, "shared", "crowd", around{}, nil)
	with := run(t, "shared", "crowd_later", around{while: func(t *testing.T, victim *exec.Cmd, monitor int) {
		signalTo(t, monitor, syscall.SIGSTOP)
		must(t, victim.Process.Signal(syscall.SIGUSR1))
		awaitZombie(t, victim.Process.Pid)
		signalTo(t, monitor, syscall.SIGCONT)
	}}, server)
	if with.status != without.status {
		t.Fatalf("%#x, not %#x", with.status, without.status)
	}
	checkEvent(t, server.Events(t), goPanic, "false")
}

// awaitZombie waits for the end of a child and leaves it to be waited for.
func awaitZombie(t *testing.T, pid int) {
	t.Helper()
	const byPid = 1
	var info [128]byte
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, byPid, uintptr(pid), uintptr(unsafe.Pointer(&info)),
			syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		if errno == 0 {
			return
		}
		if errno != syscall.EINTR {
			t.Fatal(errno)
		}
	}
}

// startAgain lets what an earlier run has left behind be reported. What is under way when a client closes is cut off, and
// sent by the next one.
func startAgain(t *testing.T, state string, server *sink.HTTP) {
	t.Helper()
	for starts := 0; starts < 5 && len(server.Bodies()) == 0; starts++ {
		run(t, "shared", "return", around{state: state}, server)
	}
}

// Without a monitor the process ends as it would, and nothing tells the next start of a crash: what the runtime wrote was read
// by nobody.
func TestAKilledMonitorHoldsNothingUp(t *testing.T) {
	t.Parallel()
	server := sink.ServeHTTP(t, 200)
	state := filepath.Join(t.TempDir(), "state")
	without := run(t, "shared", "crowd", around{}, nil)
	with := run(t, "shared", "crowd_later", around{state: state, while: func(t *testing.T, victim *exec.Cmd, monitor int) {
		signalTo(t, monitor, syscall.SIGKILL)
		awaitEnd(t, monitor)
		must(t, victim.Process.Signal(syscall.SIGUSR1))
	}}, server)
	if with.status != without.status || len(server.Events(t)) != 0 {
		t.Fatalf("%#x, not %#x", with.status, without.status)
	}
	for range 2 {
		run(t, "shared", "return", around{state: state}, server)
	}
	if events := server.Events(t); len(events) > 0 {
		t.Fatalf("%+v", events)
	}
}

// The kernel kills the monitor with PID 1. What it has heard of the runtime by then is in the run marker.
func TestAPanicOfPID1(t *testing.T) {
	t.Parallel()
	server := sink.ServeHTTP(t, 200)
	state := filepath.Join(t.TempDir(), "state")
	first := around{launcher: []string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc"}}
	without := run(t, "shared", "crowd", first, nil)
	first.state = state
	with := run(t, "shared", "crowd", first, server)
	if with != without || with.status != 2<<8 {
		t.Fatalf("%#x, without the library %#x", with.status, without.status)
	}
	startAgain(t, state, server)
	checkEvent(t, server.Events(t), "victim: previous run ended without a clean stop (Go panic)", "unknown")
}

// In a PID namespace the library's process is the first or the child of a small one, which reaps at once and ends with it.
var containers = map[string][]string{
	"PID 1":     nil,
	"tini":      {"tini", "--"},
	"dumb-init": {"dumb-init", "--"},
}

func inContainers(t *testing.T, test func(t *testing.T, first around)) {
	for name, init := range containers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace := []string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc"}
			test(t, around{launcher: append(namespace, init...)})
		})
	}
}

// unsent are the files of a state directory that may become a report: not what a process says of its switches.
func unsent(t *testing.T, state string) []string {
	t.Helper()
	return slices.DeleteFunc(filesBelow(t, state), func(path string) bool {
		return filepath.Dir(path) == filepath.Join(state, "processes")
	})
}

// A clean end is no crash, without Close too: neither at once nor at the next start.
func TestCleanEndsInContainers(t *testing.T) {
	inContainers(t, func(t *testing.T, first around) {
		for _, end := range []struct{ scenario, closing string }{
			{"exit_0", "open"},
			{"return", "open"},
			{"return", "deferred"},
			{"recovered_return", "open"},
		} {
			t.Run(end.scenario+" "+end.closing, func(t *testing.T) {
				t.Parallel()
				server := sink.ServeHTTP(t, 200)
				first := first
				first.closing = end.closing
				without := run(t, "shared", end.scenario, first, nil)
				first.state = filepath.Join(t.TempDir(), "state")
				with := run(t, "shared", end.scenario, first, server)
				if with != without || with.status != 0 {
					t.Fatalf("%#x %q, without the library %#x %q", with.status, with.printed, without.status, without.printed)
				}
				// One start takes it for a crash or does not; what it stores the others deliver.
				for range 3 {
					run(t, "shared", "return", around{state: first.state}, server)
				}
				if events, left := server.Events(t), unsent(t, first.state); len(events) > 0 || len(left) > 0 {
					t.Fatalf("%d events, %v is left: %+v", len(events), left, events)
				}
			})
		}
	})
}

// Under a deferred Close: at once or at the next start, and once. The monitor is killed with the namespace, now and then before
// it has read what the runtime writes, of which nothing tells then.
func TestPanicsInContainers(t *testing.T) {
	inContainers(t, func(t *testing.T, first around) {
		for _, scenario := range []string{"panic", "nil_map", "goroutine_panic"} {
			t.Run(scenario, func(t *testing.T) {
				t.Parallel()
				server := sink.ServeHTTP(t, 200)
				first := first
				first.closing = "deferred"
				without := run(t, "shared", scenario, first, nil)
				first.state = filepath.Join(t.TempDir(), "state")
				with := run(t, "shared", scenario, first, server)
				if with != without || with.status != 2<<8 {
					t.Fatalf("%#x, without the library %#x", with.status, without.status)
				}
				startAgain(t, first.state, server)
				run(t, "shared", "return", around{state: first.state}, server)
				events := server.Events(t)
				if len(events) == 0 {
					t.Log("the namespace was gone before the monitor had read the runtime's output")
					return
				}
				// A monitor that is killed before it could note that the server has the event leaves it to the next start.
				// Servers take what has one id for one event.
				events = slices.CompactFunc(events, func(a, b sink.Event) bool { return a.ID == b.ID })
				if len(events) != 1 || !strings.HasSuffix(events[0].What(), "(Go panic)") {
					t.Fatalf("%d events: %+v", len(events), events)
				}
				checkEvent(t, events, events[0].What(), events[0].Tags["core_dump"])
				if left := unsent(t, first.state); len(left) > 0 {
					t.Fatalf("%v is left", left)
				}
			})
		}
	})
}

// What the kernel says of the core is in the report.
func TestACore(t *testing.T) {
	t.Parallel()
	ended, events := both(t, "shared", "core", around{environment: []string{"GOTRACEBACK=crash"}, core: true})
	if ended.status.Signal() != syscall.SIGABRT {
		t.Fatalf("%#x", ended.status)
	}
	// Where core_pattern is a program there may be none.
	checkEvent(t, events, "victim killed by SIGABRT (Go panic)", strconv.FormatBool(ended.status.CoreDump()))
}

// With or without the library the host's own crash output gets the text.
func TestAHostsOwnCrashOutputIsLeftAlone(t *testing.T) {
	t.Parallel()
	checks := 0
	both(t, "shared", "own_output", around{after: func(t *testing.T, folder string) {
		text, err := os.ReadFile(filepath.Join(folder, "own_output"))
		must(t, err)
		if !strings.HasPrefix(string(text), "panic: secret") {
			t.Fatalf("%q", text)
		}
		checks++
	}})
	if checks != 2 {
		t.Fatal(checks)
	}
}
