// proxy_oracle says which proxy Go's own http.ProxyFromEnvironment takes for each URL on its standard input: a line of
// JSON for each, null for a direct connection. It reads the environment once per process.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
)

type answer struct {
	Error       string       `json:"error,omitempty"`
	Scheme      string       `json:"scheme"`
	Host        string       `json:"host"`
	Credentials *credentials `json:"credentials"`
}

// credentials may be any bytes: JSON has them in base64.
type credentials struct {
	User     []byte `json:"user"`
	Password []byte `json:"password"`
}

func ask(target *url.URL) *answer {
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: target})
	if err != nil {
		return &answer{Error: err.Error()}
	}
	if proxy == nil {
		return nil
	}
	found := &answer{Scheme: proxy.Scheme, Host: proxy.Host}
	if proxy.User != nil {
		password, _ := proxy.User.Password()
		found.Credentials = &credentials{[]byte(proxy.User.Username()), []byte(password)}
	}
	return found
}

func main() {
	lines, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for lines.Scan() {
		target, err := url.Parse(lines.Text())
		if err == nil {
			err = out.Encode(ask(target))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
