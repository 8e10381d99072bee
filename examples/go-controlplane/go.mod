module example.com/go-controlplane

go 1.24

require github.com/ondat/telemetry/bindings/go v0.0.0

// In a checkout of the repository. Elsewhere: go get github.com/ondat/telemetry/bindings/go
replace github.com/ondat/telemetry/bindings/go => ../../bindings/go
