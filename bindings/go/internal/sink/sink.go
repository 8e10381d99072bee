// Package sink is the receiving side of tests: HTTP and DNS servers on loopback.
package sink

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Deadline in seconds turns a hang into a failure: it is far above what anything takes.
const Deadline = 60

// HTTP answers every request with one status and keeps the bodies.
type HTTP struct {
	URL string

	mu     sync.Mutex
	bodies [][]byte
	has    chan struct{} // closed and made anew when a body comes
}

// ServeHTTP starts one that ends with the test.
func ServeHTTP(t testing.TB, status int) *HTTP {
	sink := &HTTP{has: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		sink.mu.Lock()
		sink.bodies = append(sink.bodies, body)
		close(sink.has)
		sink.has = make(chan struct{})
		sink.mu.Unlock()
		w.Header().Set("Ondat-Telemetry", "1")
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	sink.URL = server.URL
	return sink
}

// DSN is its address as a Sentry server.
func (s *HTTP) DSN() string { return strings.Replace(s.URL, "http://", "http://key@", 1) + "/1" }

// Bodies are those received so far.
func (s *HTTP) Bodies() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([][]byte(nil), s.bodies...)
}

// Wait waits until there are so many bodies.
func (s *HTTP) Wait(t testing.TB, count int) {
	t.Helper()
	for deadline := time.After(Deadline * time.Second); ; {
		s.mu.Lock()
		got, has := len(s.bodies), s.has
		s.mu.Unlock()
		if got >= count {
			return
		}
		select {
		case <-has:
		case <-deadline:
			t.Fatalf("%d bodies came, not %d", got, count)
		}
	}
}

// Event is what tests look at in a crash report.
type Event struct {
	ID        string `json:"event_id"`
	Exception struct {
		Values []struct{ Type, Value string }
	}
	Fingerprint []string
	Tags        map[string]string

	Envelope string `json:"-"`
}

// What is "victim exited with code 2 (Go panic)".
func (e Event) What() string { return e.Exception.Values[0].Value }

// Events are the bodies received so far, each an envelope of one event.
func (s *HTTP) Events(t testing.TB) []Event {
	t.Helper()
	var events []Event
	for _, body := range s.Bodies() {
		lines := bytes.Split(bytes.TrimSpace(body), []byte("\n"))
		var event Event
		if len(lines) != 3 || json.Unmarshal(lines[2], &event) != nil || len(event.Exception.Values) != 1 {
			t.Fatalf("no envelope of one event: %s", body)
		}
		event.Envelope = string(body)
		events = append(events, event)
	}
	return events
}

// ServeDNS answers every question with one TXT record and says where. Without an answer it says nothing at all.
func ServeDNS(t testing.TB, answer func() string) string {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	go func() {
		packet := make([]byte, 4096)
		for {
			length, from, err := socket.ReadFrom(packet)
			if err != nil {
				return
			}
			if answer != nil {
				// The test is over when this cannot be sent.
				_, _ = socket.WriteTo(txt(packet[:length], answer()), from)
			}
		}
	}()
	return socket.LocalAddr().String()
}

// txt is the answer to a question: RFC 1035, 4.1.
func txt(query []byte, text string) []byte {
	end := 12
	for query[end] != 0 {
		end += 1 + int(query[end])
	}
	end += 1 + 4
	answer := append([]byte(nil), query[:end]...)
	binary.BigEndian.PutUint16(answer[2:], 0x8580) // an authoritative answer without error
	copy(answer[4:], []byte{0, 1, 0, 1, 0, 0, 0, 0})
	var data []byte
	for len(text) > 0 {
		part := text[:min(len(text), 255)]
		data = append(append(data, byte(len(part))), part...)
		text = text[len(part):]
	}
	answer = append(answer, 0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60)
	answer = binary.BigEndian.AppendUint16(answer, uint16(len(data)))
	return append(answer, data...)
}

// Silence is the address of a port where nobody answers.
func Silence(t testing.TB) string { return ServeDNS(t, nil) }

// Refusal is a DSN where nobody listens.
func Refusal(t testing.TB) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return fmt.Sprintf("http://key@%s/1", listener.Addr())
}
