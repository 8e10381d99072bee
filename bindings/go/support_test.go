//go:build linux && cgo

package telemetry_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	telemetry "github.com/ondat/telemetry/bindings/go"
	"github.com/ondat/telemetry/bindings/go/internal/sink"
)

const (
	zone = "latest.example.com"
	// X25519, RFC 7748, 6.1: Alice's.
	reportKeys = `{"keys":[{"id":"300c9c9603b92a4b","kem":"X25519",` +
		`"public":"hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=","not_before":0,"not_after":253402300799}]}`
)

// minimal is a config of what is required.
func minimal() telemetry.Config {
	return telemetry.Config{Component: "controlplane", Version: "2.8.1", ClusterID: "cluster-1", NodeID: "node-1"}
}

// open makes a client that ends with the test.
func open(t testing.TB, config telemetry.Config) *telemetry.Client {
	t.Helper()
	client, err := telemetry.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// stateDir is a private folder.
func stateDir(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// fails checks code and detail of an error.
func fails(t *testing.T, err error, code telemetry.Code, op, detail string) {
	t.Helper()
	var failed *telemetry.Error
	if !errors.Is(err, code) || !errors.As(err, &failed) {
		t.Fatalf("got %v, want %v", err, code)
	}
	if failed.Op != op || failed.Code != code || !strings.Contains(failed.Detail, detail) {
		t.Fatalf("got %#v, want %s, %v, %q", failed, op, code, detail)
	}
}

func works(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// signed is a name server that recommends 2.9.0 and the key of its answers.
func signed(t testing.TB) (nameserver, key string) {
	public, private, err := ed25519.GenerateKey(nil)
	works(t, err)
	id := sha256.Sum256(public)
	return sink.ServeDNS(t, func() string {
		now := time.Now().Unix()
		text := fmt.Sprintf("o1 v=* l=2.9.0 r=2.8.2 m=2.7.0 a=ODT-2026-014 t=%d e=%d k=%s", now, now+86400,
			hex.EncodeToString(id[:4]))
		signature := ed25519.Sign(private, []byte("ondat-telemetry version answer v1\x00"+zone+"\x00"+text))
		return text + " g=" + base64.RawURLEncoding.EncodeToString(signature)
	}), base64.StdEncoding.EncodeToString(public)
}

// lines collects a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level}))
}

// receive waits for a value.
func receive[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(sink.Deadline * time.Second):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}
